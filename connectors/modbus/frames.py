"""Whether a Modbus TCP reply is the answer to its request, byte for byte. Pure.

pymodbus 3.16 accepts replies with too few or too many registers, another function code, another echo or
transaction id 0. A value taken from such a reply would be wrong without anybody noticing.

Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b (2006), section 3; MODBUS Application Protocol
V1.1b3 (2012), sections 6.3, 6.4, 6.6, 6.12 and 7.
"""

READ_HOLDING, READ_INPUT, WRITE_ONE, WRITE_MANY = 3, 4, 6, 16
HEADER = 7  # transaction id (2), protocol id (2), length (2), unit id (1)
DATA_AT = HEADER + 2  # first register of a read reply: after function code and byte count


class MalformedReply(Exception):
    """Bytes that cannot be the answer to the request; the stream can no longer be trusted."""


def is_complete(sent: bytes, received: bytes) -> bool:
    """Tell whether `received` is the whole answer to the request `sent`; False while it is still arriving.

    Raises
    ------
    MalformedReply : as soon as the bytes cannot become the answer any more.
    """
    if len(received) < HEADER + 1:
        if received[:4] != sent[: min(4, len(received))]:
            raise MalformedReply(f"transaction or protocol id of another request: {received.hex()}")
        return False
    if received[:4] != sent[:4]:
        raise MalformedReply(f"transaction id {received[:2].hex()}, protocol id {received[2:4].hex()}")
    if received[6] != sent[6]:
        raise MalformedReply(f"unit id {received[6]} answered, {sent[6]} was asked")
    function = received[7]
    if function not in (sent[7], sent[7] | 0x80):
        raise MalformedReply(f"function code {function} answers {sent[7]}")
    due = _length_due(sent, function)
    length = int.from_bytes(received[4:6], "big")
    if length != due:
        raise MalformedReply(f"{length} bytes announced, the answer has {due}")
    if len(received) > 6 + due:
        raise MalformedReply(f"{len(received) - 6 - due} bytes too many")
    if len(received) < 6 + due:
        return False
    _check_body(sent, received)
    return True


def exception_code(received: bytes) -> int | None:
    """Exception code of a complete reply, or None when it is no exception."""
    return received[8] if received[7] & 0x80 else None


def _length_due(sent: bytes, function: int) -> int:
    """Value the length field must have: unit id, function code and body."""
    if function & 0x80:
        return 3
    if function in (READ_HOLDING, READ_INPUT):
        return 3 + 2 * int.from_bytes(sent[10:12], "big")
    return 6


def _check_body(sent: bytes, received: bytes) -> None:
    function = received[7]
    if function in (READ_HOLDING, READ_INPUT):
        if received[8] != len(received) - DATA_AT:
            raise MalformedReply(f"byte count {received[8]} for {len(received) - DATA_AT} bytes")
    elif not function & 0x80 and received[8:12] != sent[8:12]:
        raise MalformedReply(f"echo {received[8:12].hex()} of {sent[8:12].hex()}")
