"""Frames of Modbus RTU: unit id and PDU, then a checksum; where a frame ends only its content tells. Pure.

Source: MODBUS over Serial Line Specification and Implementation Guide V1.02 (2006), sections 2.5.1.1 (silence
between frames), 2.5.1.2 and 6.2.2 (CRC).
"""

from connectors.modbus.frames import HEADER, MalformedReply, is_complete, length_due

CRC_BYTES = 2
HEAD_BYTES = HEADER - 1  # of the layout of Modbus TCP, in front of the unit id
BITS_PER_CHARACTER = 11  # start, eight data bits, parity or a second stop bit, stop
GAP_CHARACTERS = 3.5
GAP_S_FAST = 0.00175  # above FAST_BAUD
FAST_BAUD = 19200


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ 0xA001 if byte & 1 else byte >> 1
    return byte


_CRC_TABLE = tuple(_crc_of(b) for b in range(256))


def crc(body: bytes) -> bytes:
    """Checksum of unit id and PDU as it is sent, low byte first."""
    value = 0xFFFF
    for byte in body:
        value = (value >> 8) ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value.to_bytes(CRC_BYTES, "little")


def gap_s(baud: int) -> float:
    """Silence between two frames [s]."""
    return GAP_S_FAST if baud > FAST_BAUD else GAP_CHARACTERS * BITS_PER_CHARACTER / baud


def tcp_layout(body: bytes) -> bytes:
    """Unit id and PDU laid out as on Modbus TCP, transaction 0."""
    return bytes(4) + len(body).to_bytes(2, "big") + body


def answer(sent: bytes, received: bytes) -> bytes | None:
    """The whole answer to `sent` in the layout of Modbus TCP; None while it is still arriving.

    Parameters
    ----------
    sent : the request in the layout of Modbus TCP.
    received : bytes of the line since it was sent.

    Raises
    ------
    MalformedReply : as soon as the bytes cannot become the answer any more, or when its checksum is wrong.
    """
    if len(received) < 2:
        return None
    due = length_due(sent, received[1])
    if len(received) > due + CRC_BYTES:
        raise MalformedReply(f"{len(received) - due - CRC_BYTES} bytes too many")
    whole = len(received) == due + CRC_BYTES
    if whole and crc(received[:due]) != received[due:]:
        raise MalformedReply(f"checksum {received[due:].hex()}, not {crc(received[:due]).hex()}")
    plain = sent[:4] + due.to_bytes(2, "big") + received[:due]
    complete = is_complete(sent, plain)
    return plain if whole and complete else None
