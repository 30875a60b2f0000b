"""Fragments in the segments of the transport function, and back. Pure. Source: IEEE 1815-2012, clause 8."""

from collections.abc import Iterator

from connectors.dnp3.frame import USER_BYTES_MAX

FIN, FIR, NUMBER = 0x80, 0x40, 0x3F
ROOM = USER_BYTES_MAX - 1
FRAGMENT_BYTES_MAX = 8192  # four times what a master must be able to take


class MalformedSegment(Exception):
    """Segments that are no fragment."""


class Segmenter:
    """Cuts fragments; segments are numbered on and on."""

    def __init__(self) -> None:
        self._number = 0

    def cut(self, fragment: bytes) -> Iterator[bytes]:
        """The segments of a fragment."""
        for at in range(0, len(fragment), ROOM):
            first, last = FIR if at == 0 else 0, FIN if at + ROOM >= len(fragment) else 0
            yield bytes([first | last | self._number]) + fragment[at : at + ROOM]
            self._number = (self._number + 1) & NUMBER


class Assembler:
    """Puts segments together; one that is missing, doubled or out of order is an error."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0
        self._next = 0

    def add(self, segment: bytes) -> bytes | None:
        """The whole fragment with its last segment, else None. Raises MalformedSegment."""
        if len(segment) < 2:
            raise MalformedSegment("a segment without data")
        head = segment[0]
        if bool(head & FIR) is not (not self._parts):
            raise MalformedSegment(
                "a segment out of order: " + ("no first one" if not self._parts else "a first one")
            )
        if self._parts and head & NUMBER != self._next:
            raise MalformedSegment(f"segment {head & NUMBER} where {self._next} is next")
        self._parts.append(segment[1:])
        self._length += len(segment) - 1
        if self._length > FRAGMENT_BYTES_MAX:
            raise MalformedSegment(f"a fragment of more than {FRAGMENT_BYTES_MAX} bytes")
        self._next = (head & NUMBER) + 1 & NUMBER
        if not head & FIN:
            return None
        whole, self._parts, self._length = b"".join(self._parts), [], 0
        return whole
