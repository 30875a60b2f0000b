"""Objects of DNP3 responses: every byte of a fragment belongs to one that is known, or nothing is believed.

Source: IEEE 1815-2012, annex A (objects), 4.2.2.7 (object headers).
"""

import struct
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from ems.dnp3 import ANALOG_INPUT, ANALOG_STATUS, BINARY_INPUT, BINARY_STATUS, COUNTER, DOUBLE_BIT

RANGE_8, RANGE_16, COUNT_8, COUNT_16, INDEX_8, INDEX_16 = 0x00, 0x01, 0x07, 0x08, 0x17, 0x28
TIME_OF_OCCURRENCE, TEXT, TEXT_EVENT, ATTRIBUTE = 51, 110, 111, 0
VISIBLE_STRING = 1  # type code of an attribute


class MalformedObjects(Exception):
    """Bytes that are no objects we know; says where."""


class Stamp(Enum):
    """The time that comes with an event."""

    NONE = 0
    RELATIVE = 2  # to the common time of occurrence before it
    ABSOLUTE = 6


class Layout(NamedTuple):
    """How the objects of one group and variation are laid out, of those that points are read from."""

    static: int  # group of the point
    has_flags: bool
    code: str  # of struct; "": the state is in the flags
    stamp: Stamp = Stamp.NONE
    packed_bits: int = 0

    @property
    def size(self) -> int:
        """Bytes of one object that is not packed."""
        return self.has_flags + struct.calcsize(f"<{self.code}") + self.stamp.value


class Told(NamedTuple):
    """What was told of one point."""

    group: int  # static: that of events is told as the one of their point
    place: int  # its index
    raw: bool | int | float
    flags: int | None  # None: the variation has none, all is well
    at_ms: int | None  # since 1970 UTC; None: no time was told
    is_event: bool


def _layouts() -> dict[tuple[int, int], Layout]:
    none, relative, absolute = Stamp
    out = {
        (1, 1): Layout(BINARY_INPUT, False, "", packed_bits=1), (1, 2): Layout(BINARY_INPUT, True, ""),
        (3, 1): Layout(DOUBLE_BIT, False, "", packed_bits=2), (3, 2): Layout(DOUBLE_BIT, True, ""),
        (10, 1): Layout(BINARY_STATUS, False, "", packed_bits=1), (10, 2): Layout(BINARY_STATUS, True, ""),
        (11, 1): Layout(BINARY_STATUS, True, ""), (11, 2): Layout(BINARY_STATUS, True, "", absolute),
        (20, 1): Layout(COUNTER, True, "I"), (20, 2): Layout(COUNTER, True, "H"),
        (20, 5): Layout(COUNTER, False, "I"), (20, 6): Layout(COUNTER, False, "H"),
        (22, 1): Layout(COUNTER, True, "I"), (22, 2): Layout(COUNTER, True, "H"),
        (22, 5): Layout(COUNTER, True, "I", absolute), (22, 6): Layout(COUNTER, True, "H", absolute),
    }  # fmt: skip
    for group, static in ((2, BINARY_INPUT), (4, DOUBLE_BIT)):
        for variation, stamp in ((1, none), (2, absolute), (3, relative)):
            out[group, variation] = Layout(static, True, "", stamp)
    for variation, (flags, code) in enumerate(zip((1, 1, 0, 0, 1, 1), "ihihfd", strict=True), 1):
        out[30, variation] = Layout(ANALOG_INPUT, bool(flags), code)
    for variation, code in enumerate("ihfd", 1):
        out[40, variation] = Layout(ANALOG_STATUS, True, code)
    for variation, (code, stamp) in enumerate(
        zip("ihihfdfd", (none, none, absolute, absolute, none, none, absolute, absolute), strict=True), 1
    ):
        out[32, variation] = Layout(ANALOG_INPUT, True, code, stamp)
        out[42, variation] = Layout(ANALOG_STATUS, True, code, stamp)
    return out


LAYOUTS = _layouts()
EVENTS = frozenset((2, 4, 11, 22, 32, 42))
# Objects that a class may hold and nobody here asks for: they are stepped over. Bytes, or bits where packed.
PASSED_BY: dict[tuple[int, int], int] = {
    (13, 1): 1, (13, 2): 7, (20, 3): 5, (20, 4): 3, (20, 7): 4, (20, 8): 2,
    (21, 1): 5, (21, 2): 3, (21, 3): 5, (21, 4): 3, (21, 5): 11, (21, 6): 9, (21, 7): 11, (21, 8): 9,
    (21, 9): 4, (21, 10): 2, (21, 11): 4, (21, 12): 2, (22, 3): 5, (22, 4): 3, (22, 7): 11, (22, 8): 9,
    (23, 1): 5, (23, 2): 3, (23, 3): 5, (23, 4): 3, (23, 5): 11, (23, 6): 9, (23, 7): 11, (23, 8): 9,
    (31, 1): 5, (31, 2): 3, (31, 3): 11, (31, 4): 9, (31, 5): 4, (31, 6): 2, (31, 7): 5, (31, 8): 9,
    (33, 1): 5, (33, 2): 3, (33, 3): 11, (33, 4): 9, (33, 5): 5, (33, 6): 9, (33, 7): 11, (33, 8): 15,
    (34, 1): 2, (34, 2): 4, (34, 3): 4,
    (43, 1): 5, (43, 2): 3, (43, 3): 11, (43, 4): 9, (43, 5): 5, (43, 6): 9, (43, 7): 11, (43, 8): 15,
    (50, 1): 6, (50, 2): 10, (50, 3): 6, (50, 4): 11, (52, 1): 2, (52, 2): 2,
    (101, 1): 2, (101, 2): 4, (101, 3): 8, (102, 1): 1, (121, 1): 7, (122, 1): 7, (122, 2): 13,
}  # fmt: skip


class _Head(NamedTuple):
    """An object header: what follows it, and the indexes where they are a range."""

    group: int
    variation: int
    start: int | None  # of a range; None: each object says its index, or there are none
    amount: int
    prefix: int  # bytes of an index before each object
    end: int  # where its objects begin


def _head(data: bytes, at: int) -> _Head:
    if len(data) < at + 3:
        raise MalformedObjects("an object header that is cut short")
    group, variation, qualifier = data[at : at + 3]
    width = {RANGE_8: 2, RANGE_16: 4, COUNT_8: 1, COUNT_16: 2, INDEX_8: 1, INDEX_16: 2}.get(qualifier)
    if width is None:
        raise MalformedObjects(f"g{group}v{variation} with the qualifier {qualifier:#04x}")
    numbers = data[at + 3 : at + 3 + width]
    if len(numbers) < width:
        raise MalformedObjects("an object header that is cut short")
    end = at + 3 + width
    if qualifier in (RANGE_8, RANGE_16):
        first, last = struct.unpack("<BB" if qualifier == RANGE_8 else "<HH", numbers)
        if last < first:
            raise MalformedObjects(f"g{group}v{variation} from {first} to {last}")
        return _Head(group, variation, first, last - first + 1, 0, end)
    count = int.from_bytes(numbers, "little")
    prefix = {INDEX_8: 1, INDEX_16: 2}.get(qualifier, 0)
    return _Head(group, variation, None, count, prefix, end)


def told_by(data: bytes) -> Iterator[Told]:
    """Every point that the objects of a fragment tell, in their order.

    Raises
    ------
    MalformedObjects : some of it cannot be read; nothing of it is to be believed then.
    """
    at, common_ms = 0, None
    while at < len(data):
        head = _head(data, at)
        at = head.end
        layout = LAYOUTS.get((head.group, head.variation))
        if head.group == TIME_OF_OCCURRENCE:
            at, common_ms = _common_time(data, head)
        elif layout is None:
            at += _passed(head)
        elif layout.packed_bits:
            at += -(-head.amount * layout.packed_bits // 8)
        else:
            at += head.amount * (head.prefix + layout.size)
        if at > len(data):
            raise MalformedObjects(
                f"g{head.group}v{head.variation}: {head.amount} objects that are cut short"
            )
        if layout is not None:
            yield from _points(data, head, layout, common_ms)


def _points(data: bytes, head: _Head, layout: Layout, common_ms: int | None) -> Iterator[Told]:
    is_event = head.group in EVENTS
    if (head.start is None) is not bool(head.prefix) or is_event is not bool(head.prefix):
        raise MalformedObjects(f"g{head.group}v{head.variation} whose objects have no index")
    at, start = head.end, head.start if head.start is not None else 0
    if layout.packed_bits:
        bits, mask = layout.packed_bits, (1 << layout.packed_bits) - 1
        for i in range(head.amount):
            raw = data[at + i * bits // 8] >> i * bits % 8 & mask
            yield Told(layout.static, start + i, bool(raw) if bits == 1 else raw, None, None, False)
        return
    one = struct.Struct("<" + ("", "B", "H")[head.prefix] + "B" * layout.has_flags + layout.code)
    step = head.prefix + layout.size
    for i in range(head.amount):
        parts = list(one.unpack_from(data, at))
        index = parts.pop(0) if head.prefix else start + i
        flags = parts.pop(0) if layout.has_flags else None
        at_ms = _time(data[at + step - layout.stamp.value : at + step], layout.stamp, common_ms)
        at += step
        if layout.code:
            raw = parts[0]
        else:
            assert flags is not None, "a state is in the flags"
            raw = flags >> 6 if layout.static == DOUBLE_BIT else bool(flags & 0x80)
        yield Told(layout.static, index, raw, flags, at_ms, is_event)


def _time(data: bytes, stamp: Stamp, common_ms: int | None) -> int | None:
    told_ms = int.from_bytes(data, "little")
    match stamp:
        case Stamp.NONE:
            return None
        case Stamp.RELATIVE:
            return None if common_ms is None else common_ms + told_ms
        case Stamp.ABSOLUTE:
            return told_ms


def _common_time(data: bytes, head: _Head) -> tuple[int, int | None]:
    """Where the objects after a common time of occurrence begin, and the time; None: not synchronised."""
    if head.variation not in (1, 2) or head.amount != 1 or head.prefix or head.start is not None:
        raise MalformedObjects(f"g{TIME_OF_OCCURRENCE}v{head.variation}: {head.amount} common times")
    end = head.end + 6
    return end, int.from_bytes(data[head.end : end], "little") if head.variation == 1 else None


def _passed(head: _Head) -> int:
    """Bytes of objects that are stepped over. Raises MalformedObjects."""
    if head.group in (TEXT, TEXT_EVENT) and head.variation:
        return head.amount * (head.prefix + head.variation)
    if head.group == 80 and head.variation == 1:
        return -(-head.amount // 8)
    size = PASSED_BY.get((head.group, head.variation))
    if size is None:
        raise MalformedObjects(f"objects g{head.group}v{head.variation}, whose length is not known")
    return head.amount * (head.prefix + size)


def attribute_of(data: bytes, variation: int) -> str | None:
    """The text of a device attribute (group 0) that was asked for; None: it is no text.

    Raises
    ------
    MalformedObjects : it is another one, or torn.
    """
    head = _head(data, 0)
    if (head.group, head.variation, head.start, head.amount) != (ATTRIBUTE, variation, 0, 1):
        raise MalformedObjects(f"g{head.group}v{head.variation} instead of g{ATTRIBUTE}v{variation}")
    kind, value = data[head.end : head.end + 1], data[head.end + 2 :]
    if len(data) < head.end + 2 or len(value) != data[head.end + 1]:
        raise MalformedObjects(f"g{ATTRIBUTE}v{variation}: a text that is cut short")
    if kind != bytes([VISIBLE_STRING]) or not value.isascii():
        return None
    text = value.decode("ascii").strip(" \0")
    return text if text and text.isprintable() else None


def all_of(group: int, variation: int) -> bytes:
    """The header that asks for every object of a group."""
    return bytes([group, variation, 0x06])


def ranges(group: int, variation: int, indexes: Iterable[int]) -> Iterator[bytes]:
    """Headers that ask for these indexes and no others, neighbours in one."""
    runs: list[list[int]] = []
    for index in sorted(set(indexes)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    for first, last in runs:
        yield struct.pack("<BBBHH", group, variation, RANGE_16, first, last)
