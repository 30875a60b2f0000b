"""Data of COSEM attributes as they come (A-XDR, IEC 62056-6-2): every byte belongs, or none counts.

Pure. The reader of dlms-cosem takes what is left where a value is cut short; this one refuses it.
"""

import struct
from typing import NamedTuple

NULL, ARRAY, STRUCTURE, BOOLEAN, BITS = 0, 1, 2, 3, 4
OCTETS, VISIBLE, UTF8, ENUM, DATE_TIME = 9, 10, 12, 22, 25
NUMBERS = {5: ">i", 6: ">I", 15: ">b", 16: ">h", 17: ">B", 18: ">H", 20: ">q", 21: ">Q", 23: ">f", 24: ">d"}
INTEGERS = frozenset(tag for tag, code in NUMBERS.items() if code not in (">f", ">d"))
_FIXED = {13: 1, DATE_TIME: 12, 26: 5, 27: 4}  # kept as the bytes they are
NAMES = {
    NULL: "null-data", ARRAY: "an array", STRUCTURE: "a structure", BOOLEAN: "a boolean",
    BITS: "a bit-string", 5: "double-long", 6: "double-long-unsigned", OCTETS: "an octet-string",
    VISIBLE: "a visible-string",
    UTF8: "a utf8-string", 13: "bcd", 15: "integer", 16: "long", 17: "unsigned", 18: "long-unsigned",
    19: "a compact-array", 20: "long64", 21: "long64-unsigned", ENUM: "an enumeration", 23: "float32",
    24: "float64", DATE_TIME: "a date-time", 26: "a date", 27: "a time",
}  # fmt: skip
DEPTH_MAX = 12


class Malformed(Exception):
    """Bytes that are not what they have to be."""


class Datum(NamedTuple):
    """A value and the type it came as."""

    tag: int
    value: "bool | int | float | bytes | str | tuple[Datum, ...] | None"

    @property
    def name(self) -> str:
        """Of its type."""
        return NAMES.get(self.tag, f"type {self.tag}")


class Cursor:
    """Bytes that are read from the front; more than there are is refused."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        """How many there are still."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next bytes. Raises Malformed."""
        if count > self.left:
            raise Malformed(f"{count} bytes are to come, and there are {self.left}")
        part = self._data[self._at : self._at + count]
        self._at += count
        return part

    def byte(self) -> int:
        """The next byte. Raises Malformed."""
        return self.take(1)[0]

    def length(self) -> int:
        """A length of A-XDR, and of BER. Raises Malformed."""
        first = self.byte()
        if first < 0x80:
            return first
        if not 0x81 <= first <= 0x84:
            raise Malformed(f"a length that begins with {first:#04x}")
        return int.from_bytes(self.take(first & 0x7F), "big")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def end(self) -> None:
        """Raises Malformed where something is left."""
        if self.left:
            raise Malformed(f"{self.left} bytes too many")


def datum_of(data: bytes) -> Datum:
    """One value, and nothing behind it. Raises Malformed."""
    cursor = Cursor(data)
    found = read_datum(cursor)
    cursor.end()
    return found


def read_datum(cursor: Cursor, depth: int = 0) -> Datum:
    """The next value. Raises Malformed."""
    tag = cursor.byte()
    if tag in (NULL, 255):
        return Datum(NULL, None)
    if tag in NUMBERS:
        layout = NUMBERS[tag]
        return Datum(tag, struct.unpack(layout, cursor.take(struct.calcsize(layout)))[0])
    if tag in (ARRAY, STRUCTURE):
        count = cursor.length()
        if depth >= DEPTH_MAX or count > cursor.left:
            raise Malformed(f"{count} elements at depth {depth}, and {cursor.left} bytes")
        return Datum(tag, tuple(read_datum(cursor, depth + 1) for _ in range(count)))
    if tag == BOOLEAN:
        return Datum(tag, cursor.byte() != 0)
    if tag == ENUM:
        return Datum(tag, cursor.byte())
    if tag == BITS:
        return Datum(tag, _bits(cursor))
    if tag in (OCTETS, VISIBLE, UTF8):
        return _text(tag, cursor.take(cursor.length()))
    if tag in _FIXED:
        return Datum(tag, cursor.take(_FIXED[tag]))
    raise Malformed(f"{NAMES.get(tag, f'type {tag}')}, which is not read")


def _bits(cursor: Cursor) -> str:
    """Bits as 0 and 1, the first one first."""
    count = cursor.length()
    data = cursor.take((count + 7) // 8)
    return "".join(f"{byte:08b}" for byte in data)[:count]


def _text(tag: int, data: bytes) -> Datum:
    if tag == OCTETS:
        return Datum(tag, data)
    try:
        return Datum(tag, data.decode("ascii" if tag == VISIBLE else "utf-8"))
    except UnicodeDecodeError:
        raise Malformed(f"{NAMES[tag]} of other bytes") from None


def number_of(datum: Datum) -> float | int | None:
    """A number that was told; None where it is none. It may be infinite or NaN, where a float was."""
    if datum.tag in NUMBERS and isinstance(datum.value, int | float):
        return datum.value
    return None


def count_of(datum: Datum) -> int | None:
    """A whole number, an enumeration or a boolean; None where it is none."""
    if datum.tag in INTEGERS or datum.tag in (ENUM, BOOLEAN):
        assert isinstance(datum.value, int), "the reader has made it one"
        return int(datum.value)
    return None


def text_of(datum: Datum) -> str | None:
    """What a person reads: text as it is, other octets in hexadecimal digits; None where nothing stands."""
    value = datum.value
    if isinstance(value, bytes):
        text = value.rstrip(b"\x00").decode("latin-1")
        return text if text.isascii() and text.isprintable() and text else value.hex().upper()
    if value is None or isinstance(value, tuple):
        return None
    return f"{value:d}" if isinstance(value, bool) else f"{value}"


def status_of(datum: Datum) -> int | None:
    """Bits of a status, bit 0 the first one told of a bit-string; None where it is none."""
    if datum.tag == NULL:
        return 0
    if datum.tag == BITS and isinstance(datum.value, str):
        return int(datum.value[::-1] or "0", 2)
    if datum.tag == OCTETS and isinstance(datum.value, bytes):
        return int.from_bytes(datum.value, "big")
    return count_of(datum)
