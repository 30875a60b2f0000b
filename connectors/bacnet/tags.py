"""Tagged values of BACnet, byte by byte. No I/O. Source: ANSI/ASHRAE 135-2020, clause 20.2."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

APPLICATION, CONTEXT, OPENING, CLOSING = range(4)  # classes
NULL, BOOLEAN, UNSIGNED, SIGNED, REAL, DOUBLE, OCTETS, TEXT, BITS, ENUMERATED = range(10)
OBJECT = 12
DEPTH_MAX = 8
LONG = 5  # a length that is told in the bytes behind
NAMES = {
    NULL: "nothing (null)", BOOLEAN: "a boolean", UNSIGNED: "an unsigned", SIGNED: "a signed", REAL: "a real",
    DOUBLE: "a double", OCTETS: "bytes", TEXT: "a text", BITS: "a bit string", ENUMERATED: "an enumerated",
    10: "a date", 11: "a time", OBJECT: "an object",
}  # fmt: skip
ENCODINGS = {0: "utf-8", 3: "utf-32-be", 4: "utf-16-be", 5: "latin-1"}


class MalformedTags(Exception):
    """Bytes that are no tagged values, or not those that were to come."""


class Tag(NamedTuple):
    """One tag with its content; `data` is empty where it opens or closes."""

    form: int  # APPLICATION | CONTEXT | OPENING | CLOSING
    number: int
    data: bytes


class Reader:
    """Tags of a message, in order; raises MalformedTags."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def is_over(self) -> bool:
        """Nothing is left."""
        return self._at >= len(self._data)

    def _take(self, count: int) -> bytes:
        data = self._data[self._at : self._at + count]
        if len(data) != count:
            raise MalformedTags("a value that is cut short")
        self._at += count
        return data

    def next(self) -> Tag:
        """The next tag."""
        (first,) = self._take(1)
        number, in_context, length = first >> 4, bool(first & 8), first & 7
        if number == 15:
            (number,) = self._take(1)
        if length > LONG:
            if not in_context:
                raise MalformedTags(f"a tag {first:#04x}")
            return Tag(OPENING if length == 6 else CLOSING, number, b"")
        if not in_context and number == BOOLEAN:  # its value stands where others have their length
            if length > 1:
                raise MalformedTags(f"a boolean {length}")
            return Tag(APPLICATION, number, bytes([length]))
        if length == LONG:
            (length,) = self._take(1)
            if length >= 254:
                length = int.from_bytes(self._take(2 if length == 254 else 4), "big")
        return Tag(CONTEXT if in_context else APPLICATION, number, self._take(length))

    def peek(self) -> Tag:
        """The next tag, which stays where it is."""
        at = self._at
        tag = self.next()
        self._at = at
        return tag

    def context(self, number: int) -> bytes:
        """Content of the tag of this number, which must come next."""
        tag = self.next()
        if (tag.form, tag.number) != (CONTEXT, number):
            raise MalformedTags(f"no tag [{number}] where one was to come")
        return tag.data

    def open(self, number: int) -> None:
        """A list of this number begins here."""
        self._bound(OPENING, number)

    def close(self, number: int) -> None:
        """And ends here."""
        self._bound(CLOSING, number)

    def _bound(self, form: int, number: int) -> None:
        tag = self.next()
        if (tag.form, tag.number) != (form, number):
            raise MalformedTags(
                f"no {'end' if form == CLOSING else 'begin'} of [{number}] where it was to come"
            )

    def is_next(self, form: int, number: int) -> bool:
        """Whether such a tag comes next."""
        return not self.is_over and self.peek()[:2] == (form, number)

    def inside(self, number: int) -> tuple[Tag, ...]:
        """Tags from the begin of [number], which must come next, to its end."""
        self.open(number)
        tags: list[Tag] = []
        within: list[int] = [number]
        while within:
            tag = self.next()
            if tag.form == OPENING:
                within.append(tag.number)
                if len(within) > DEPTH_MAX:
                    raise MalformedTags("lists in lists without end")
            elif tag.form == CLOSING and within.pop() != tag.number:
                raise MalformedTags("lists that end in another order than they begin")
            tags.append(tag)
        return tuple(tags[:-1])


def natural(data: bytes) -> int:
    """An unsigned or enumerated. Raises MalformedTags."""
    if not 1 <= len(data) <= 8:
        raise MalformedTags(f"an unsigned of {len(data)} bytes")
    return int.from_bytes(data, "big")


def object_of(data: bytes) -> tuple[int, int]:
    """Type and instance of an object. Raises MalformedTags."""
    if len(data) != 4:
        raise MalformedTags(f"an object of {len(data)} bytes")
    number = int.from_bytes(data, "big")
    return number >> 22, number & 0x3FFFFF


def number_of(tag: Tag) -> bool | int | float | None:
    """The number that an application tag holds; None: it holds none. Raises MalformedTags."""
    if tag.form != APPLICATION:
        return None
    match tag.number:
        case n if n == BOOLEAN:
            return bool(tag.data[0])
        case n if n in (UNSIGNED, ENUMERATED):
            return natural(tag.data)
        case n if n == SIGNED:
            if not 1 <= len(tag.data) <= 8:
                raise MalformedTags(f"a signed of {len(tag.data)} bytes")
            return int.from_bytes(tag.data, "big", signed=True)
        case n if n in (REAL, DOUBLE):
            width = 4 if n == REAL else 8
            if len(tag.data) != width:
                raise MalformedTags(f"{NAMES[n]} of {len(tag.data)} bytes")
            return float(struct.unpack(">f" if n == REAL else ">d", tag.data)[0])
    return None


def bits_of(tag: Tag) -> tuple[bool, ...] | None:
    """A bit string; None: it is none. Raises MalformedTags."""
    if (tag.form, tag.number) != (APPLICATION, BITS):
        return None
    if not tag.data or tag.data[0] > 7 or (len(tag.data) == 1 and tag.data[0]):
        raise MalformedTags("a bit string without its count of bits")
    count = 8 * (len(tag.data) - 1) - tag.data[0]
    return tuple(bool(tag.data[1 + i // 8] >> (7 - i % 8) & 1) for i in range(count))


def text_of(tag: Tag) -> str | None:
    """A text; None: it is none, or in letters that are not known."""
    if (tag.form, tag.number) != (APPLICATION, TEXT) or not tag.data:
        return None
    encoding = ENCODINGS.get(tag.data[0])
    try:
        return None if encoding is None else tag.data[1:].decode(encoding)
    except UnicodeDecodeError:
        return None


def kind_of(tag: Tag) -> str:
    """What a tag holds, in words."""
    return NAMES.get(tag.number, f"tag {tag.number}") if tag.form == APPLICATION else "a structure"


def tagged(form: int, number: int, data: bytes) -> bytes:
    """A tag with its content of up to 65535 bytes; numbers up to 14."""
    head = number << 4 | (8 if form == CONTEXT else 0)
    if len(data) < LONG:
        return bytes([head | len(data)]) + data
    if len(data) < 254:
        return bytes([head | LONG, len(data)]) + data
    return bytes([head | LONG, 254]) + len(data).to_bytes(2, "big") + data


def within(number: int, data: bytes) -> bytes:
    """A list with what is in it."""
    return bytes([number << 4 | 0x0E]) + data + bytes([number << 4 | 0x0F])


def least(number: int) -> bytes:
    """An unsigned in as few bytes as it needs."""
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def object_bytes(object_type: int, instance: int) -> bytes:
    """An object identifier."""
    return (object_type << 22 | instance).to_bytes(4, "big")


def value_bytes(number: int, value: bool | int | float | None) -> bytes:
    """An application value of the type of this tag number. Raises OverflowError where it does not fit."""
    if number == NULL or value is None:
        return b"\x00"
    if number == BOOLEAN:
        return bytes([0x10 | bool(value)])
    if number in (UNSIGNED, ENUMERATED):
        data = least(int(value))
    elif number == SIGNED:
        whole = int(value)
        data = whole.to_bytes(((whole if whole >= 0 else ~whole).bit_length() + 8) // 8, "big", signed=True)
    else:
        data = struct.pack(">f" if number == REAL else ">d", value)
    return tagged(APPLICATION, number, data)


def values(tags: tuple[Tag, ...]) -> Iterator[Tag]:
    """Elements of a list of plain values; a structure counts as one, by its opening tag."""
    depth = 0
    for tag in tags:
        if tag.form == CLOSING:
            depth -= 1
            continue
        if depth == 0:
            yield tag
        depth += tag.form == OPENING
