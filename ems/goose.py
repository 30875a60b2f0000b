"""GOOSE control blocks that are listened to, and where the members of their data sets are (IEC 61850-8-1).

A message does not say what its values are: that stands in the SCD file. A member is written as it is there,
`IED1LD0/XCBR1.Pos.stVal [ST]`; a whole data object with its parts in order, `IED1LD0/XCBR1.Pos [ST] (stVal,
q, t)`, and parts of parts, `IED1LD0/MMXU1.TotW [MX] (mag(f), q, t)`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ems.errors import BadValue
from ems.iec61850_reference import TEXT_MAX, Reference, is_name, parse_reference

Way = tuple[tuple[int, int], ...]  # (part, of how many) in each structure on the way down
Parts = tuple[tuple[str, "Parts"], ...]
APP_ID_MAX = 0xFFFF
MEMBERS_MAX = 512
WITH_QUALITY = ("ST", "MX")  # whose data objects have it (IEC 61850-7-3, common data classes)
_BLOCK = re.compile(r"[A-Za-z][A-Za-z0-9_]*/[A-Za-z][A-Za-z0-9_]*\$GO\$[A-Za-z][A-Za-z0-9_]*")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_INTERFACE = re.compile(r"[^\s/]{1,15}")
_PARTS_MAX, _DEPTH_MAX = 64, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GooseBlock:
    """One GOOSE control block, as its messages must be."""

    control_block: str  # gocbRef, `IED1LD0/LLN0$GO$gcbTrip`
    app_id: int
    destination: str  # MAC address
    conf_rev: int
    members: tuple[str, ...]  # of its data set, in order
    go_id: str | None = None  # None: any
    data_set: str | None = None  # None: any
    simulation: bool = False  # simulated messages are taken for real
    without_q: bool = False  # the data set holds no quality: its values count by the message alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Goose:
    """Where is listened, and to what."""

    interface: str
    blocks: tuple[GooseBlock, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """An attribute in the values of a message."""

    reference: Reference
    member: int
    way: Way


@dataclass(frozen=True, slots=True)
class Spots:
    """Where value, quality and time of a point are in the values of a message."""

    value: Leaf
    quality: Leaf | None
    time: Leaf | None


def leaves(members: Sequence[str]) -> tuple[Leaf, ...]:
    """Every attribute that the members of a data set tell.

    Raises
    ------
    BadValue : a member is not written as one is.
    """
    return tuple(leaf for i, text in enumerate(members) for leaf in leaves_of(i, text))


def leaves_of(index: int, text: str) -> Iterator[Leaf]:
    """The attributes of one member. Raises BadValue."""
    head, bracket, rest = text.partition("]")
    reference = parse_reference(head + bracket)
    if reference.is_control:
        raise BadValue("a control tells nothing")
    rest = rest.strip()
    if not rest:
        yield Leaf(reference, index, ())
        return
    if not (rest.startswith("(") and rest.endswith(")")):
        raise BadValue(
            f"{rest!r} behind the brackets; allowed: the parts of the data object, as (stVal, q, t)"
        )
    parts, end = _parts(rest, 1, 0)
    if end != len(rest):
        raise BadValue(f"{rest!r}: brackets that do not match")
    for path, way in _down(parts):
        inner = Reference(reference.device, reference.node, (*reference.path, *path), reference.fc)
        if len(str(inner)) > TEXT_MAX:
            raise BadValue(f"a reference of more than {TEXT_MAX} letters")
        yield Leaf(inner, index, way)


def _parts(text: str, at: int, depth: int) -> tuple[Parts, int]:
    """Parts up to the bracket that closes them, and the place behind it."""
    found: list[tuple[str, Parts]] = []
    while True:
        end = at
        while end < len(text) and text[end] not in "(),":
            end += 1
        name = text[at:end].strip()
        if end == len(text) or not is_name(name) or len(found) >= _PARTS_MAX or depth >= _DEPTH_MAX:
            raise BadValue(f"{text!r}: parts are names with commas between them, as (mag(f), q, t)")
        inner: Parts = ()
        if text[end] == "(":
            inner, end = _parts(text, end + 1, depth + 1)
            while end < len(text) and text[end] == " ":
                end += 1
        found.append((name, inner))
        if end < len(text) and text[end] == ",":
            at = end + 1
            continue
        if end < len(text) and text[end] == ")":
            return tuple(found), end + 1
        raise BadValue(f"{text!r}: brackets that do not match")


def _down(parts: Parts) -> Iterator[tuple[tuple[str, ...], Way]]:
    for index, (name, inner) in enumerate(parts):
        step = (index, len(parts))
        if not inner:
            yield (name,), (step,)
        for path, way in _down(inner):
            yield (name, *path), (step, *way)


def spots_of(reference: Reference, told: Sequence[Leaf]) -> Spots | None:
    """Where a point is: itself, and the nearest `q` and `t` of its data object; None: it is not told."""
    own = {leaf.reference: leaf for leaf in reversed(told)}
    if (value := own.get(reference)) is None:
        return None

    def beside(name: str) -> Leaf | None:
        for end in range(len(reference.path) - 1, 0, -1):
            path = (*reference.path[:end], name)
            leaf = own.get(Reference(reference.device, reference.node, path, reference.fc))
            if leaf is not None:
                return leaf
        return None

    return Spots(value, beside("q"), beside("t"))


def block_faults(block: GooseBlock) -> Iterator[tuple[str, str, str]]:
    """What of a control block cannot be listened to: (key, what is allowed, why)."""
    if _BLOCK.fullmatch(block.control_block) is None or len(block.control_block) > TEXT_MAX:
        yield "control_block", "gocbRef as the message has it, such as IED1LD0/LLN0$GO$gcbTrip", ""
    if not 0 <= block.app_id <= APP_ID_MAX:
        yield "app_id", "0 to 0xFFFF", ""
    if _MAC.fullmatch(block.destination) is None or not int(block.destination[:2], 16) & 1:
        yield "destination", "a multicast address such as 01:0c:cd:01:00:01", "GOOSE is sent to many"
    if not 0 <= block.conf_rev <= 0xFFFFFFFF:
        yield "conf_rev", "0 to 4294967295", ""
    if not 1 <= len(block.members) <= MEMBERS_MAX:
        yield "members", f"1 to {MEMBERS_MAX} members", ""
    for index, text in enumerate(block.members):
        try:
            list(leaves_of(index, text))
        except BadValue as error:
            yield f"members.{index}", "such as IED1LD0/XCBR1.Pos.stVal [ST]", str(error)


def is_interface(name: str) -> bool:
    """Whether a network interface may have this name."""
    return _INTERFACE.fullmatch(name) is not None and name not in (".", "..")


def point_fault(goose: Goose, address: str) -> str:
    """Why no control block tells a point; "": one does."""
    try:
        reference = parse_reference(address)
        told = [(b, s) for b in goose.blocks if (s := spots_of(reference, leaves(b.members))) is not None]
    except BadValue as error:
        return str(error)
    if not told:
        return "no control block of this connection has it as a member"
    if len(told) > 1:
        return f"{told[0][0].control_block} and {told[1][0].control_block} both tell it"
    block, spots = told[0]
    if spots.quality is None and reference.fc in WITH_QUALITY and not block.without_q:
        return (
            f"no quality (q) of it among the members of {block.control_block}; "
            "`without_q: true` there, if its messages hold none"
        )
    return ""
