"""Whether a Modbus reply is the answer to its request, byte for byte. Pure.

Frames are laid out as on Modbus TCP; those of a serial line are brought into that layout by `rtu.py`, so that
replies are checked in one place. A value taken from the reply to another request would be wrong without
anybody noticing.

Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b (2006), section 3; MODBUS Application Protocol
V1.1b3 (2012), sections 6.1 to 6.6, 6.12 and 7.
"""

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_ONE, WRITE_MANY = 5, 6, 16
READ_OF = {"coil": READ_COILS, "discrete": READ_DISCRETE, "holding": READ_HOLDING, "input": READ_INPUT}
BIT_READS = (READ_COILS, READ_DISCRETE)
REGISTER_READS = (READ_HOLDING, READ_INPUT)
HEADER = 7  # transaction id (2), protocol id (2), length (2), unit id (1)
BYTES_MAX = 250  # of the registers of one read reply
DATA_AT = HEADER + 2  # first register of a read reply: after function code and byte count


class MalformedReply(Exception):
    """Bytes that cannot be the answer to the request; the stream can no longer be trusted."""


def is_complete(sent: bytes, received: bytes) -> bool:
    """Tell whether `received` is the whole answer to the request `sent`; False while it is still arriving.

    Raises
    ------
    MalformedReply : as soon as the bytes cannot become the answer any more.
    """
    if _is_plain_read(sent, received):
        return True
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
    due = length_due(sent, function)
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


def _is_plain_read(sent: bytes, received: bytes) -> bool:
    """The usual case in three comparisons: a read answered whole in one piece, as `is_complete` wants it."""
    size = 2 * int.from_bytes(sent[10:12], "big")
    if sent[7] not in REGISTER_READS or len(received) != DATA_AT + size or size > BYTES_MAX:
        return False
    return received[:DATA_AT] == sent[:4] + bytes((0, 3 + size)) + sent[6:8] + bytes((size,))


def length_due(sent: bytes, function: int) -> int:
    """Length of the answer from its unit id to its end, as the length field must tell it."""
    if function & 0x80:
        return 3
    if function in REGISTER_READS:
        return 3 + 2 * int.from_bytes(sent[10:12], "big")
    if function in BIT_READS:
        return 3 + (int.from_bytes(sent[10:12], "big") + 7) // 8
    return 6


def _check_body(sent: bytes, received: bytes) -> None:
    function = received[7]
    if function in REGISTER_READS or function in BIT_READS:
        if received[8] != len(received) - DATA_AT:
            raise MalformedReply(f"byte count {received[8]} for {len(received) - DATA_AT} bytes")
    elif not function & 0x80 and received[8:12] != sent[8:12]:
        raise MalformedReply(f"echo {received[8:12].hex()} of {sent[8:12].hex()}")
