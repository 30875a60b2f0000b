"""Where the points of a map are in what the device holds: asked once when it is connected, by type.

An attribute is read inside the smallest part of its data object that has its own quality, so that value,
quality and time come from one moment, and several attributes of one object cost one read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from open61850 import data as iec
from open61850.mms.pdu import ObjectName
from open61850.mms.types import ArrayType, MmsType, PrimitiveType, StructureType, describe

from connectors.iec61850.mms import Mms, ServiceFault, refusal
from connectors.iec61850.values import AccessFault
from connectors.point_map import PointCodec
from ems.iec61850_reference import Reference, parse_reference

TOLD_WITH_QUALITY = ("ST", "MX")  # whose data objects have it (IEC 61850-7-3, common data classes)
OPER = ("ctlVal", "operTm", "origin", "ctlNum", "T", "Test", "Check")
MODELS = {
    0: "status only", 1: "direct, normal security", 2: "select before operate, normal security",
    3: "direct, enhanced security", 4: "select before operate, enhanced security",
}  # fmt: skip
SIZES = {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64}
DEPTH_OF_OBJECT = 3  # names of a data object: node, functional constraint, itself
OVERHEAD_BYTES, TEXT_BYTES = 12, 259  # of a value on the wire, at most

Way = tuple[tuple[int, int], ...]  # (member, of how many) in each structure on the way down


class Unlike(Exception):
    """The device does not hold a point as the map says; says how."""


@dataclass(frozen=True, slots=True)
class Control:
    """How a control object is operated."""

    name: ObjectName  # LN$CO$DO
    model: int
    members: tuple[str, ...]  # of Oper, in order
    parts: tuple[MmsType, ...]
    value: str  # "": ctlVal is the value itself, else the one member of it that is: f or i


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a value is: the way down in what is read, or told, under a name."""

    held: ObjectName
    way: Way


@dataclass(frozen=True, slots=True)
class Place:
    """What is read for a point, and where its value, quality and time are."""

    read: ObjectName
    attribute: ObjectName  # the value itself
    value: Spot
    quality: Spot | None
    time: Spot | None
    size: int  # bytes of what is read, at most
    write: ObjectName | None = None
    unsigned: bool = False
    control: Control | None = None
    is_double: bool = False  # a status of two bits (off, on) of a control that is one of on and off


def object_name(reference: Reference, path: Sequence[str], fc: str | None = None) -> ObjectName:
    """The MMS name of a part of a data object (IEC 61850-8-1, 7.3)."""
    return ObjectName("$".join((reference.node, fc or reference.fc, *path)), reference.device)


class Surveyor:
    """Asks a device for the types of its objects, each once."""

    def __init__(self, mms: Mms) -> None:
        self._mms = mms
        self._types: dict[ObjectName, MmsType | str] = {}

    async def place(self, codec: PointCodec) -> Place:
        """Where a point is. Raises Unlike, and LinkError."""
        reference = parse_reference(codec.point.address)
        if reference.is_control:
            return await self._control(reference, codec)
        place, leaf = await self._inside(reference, reference.path, reference.fc)
        if wrong := unlike(leaf, codec.raw.name):
            raise Unlike(wrong)
        write = object_name(reference, reference.path) if codec.point.writable else None
        return replace(place, write=write, unsigned=_is_unsigned(leaf))

    async def _inside(self, reference: Reference, path: Sequence[str], fc: str) -> tuple[Place, MmsType]:
        """Where an attribute is, and its type."""
        name = object_name(reference, path[:1], fc)
        top = await self._type(name)
        way: list[tuple[int, int]] = []
        node, part, at = top, top, 0  # `part` is what is read: it has the quality, and `at` steps lead to it
        for step, label in enumerate(path[1:], 1):
            if not isinstance(node, StructureType) or (inner := node.component(label)) is None:
                known = ", ".join(n for n, _ in node.components) if isinstance(node, StructureType) else ""
                raise Unlike(f"no {label} in {name}{f': it has {known}' if known else ''}")
            way.append(_member(node, label))
            if _has(inner, "q"):
                part, at = inner, step
            node = inner
        read = object_name(reference, path[: at + 1], fc)
        quality, time = _beside(read, part, "q"), _beside(read, part, "t")
        if quality is None and fc in TOLD_WITH_QUALITY:
            raise Unlike(f"no quality (q) in {name}")
        value = Spot(read, tuple(way[at:]))
        return Place(read, object_name(reference, path, fc), value, quality, time, size_of(part)), node

    def told(self, place: Place, members: Sequence[ObjectName]) -> Place | None:
        """The place of a point among the members of a data set; None where not all of it is told.

        Its time may be missing; it is then that of the poll.
        """
        value = self._among(place.attribute, members)
        quality = None if place.quality is None else self._among(_inner(place.read, "q"), members)
        if value is None or (quality is None) is not (place.quality is None):
            return None
        time = None if place.time is None else self._among(_inner(place.read, "t"), members)
        return replace(place, value=value, quality=quality, time=time)

    def _among(self, name: ObjectName, members: Sequence[ObjectName]) -> Spot | None:
        """Where an attribute is among members that are it, or hold it."""
        labels = name.item.split("$")
        held = self._types.get(ObjectName("$".join(labels[:DEPTH_OF_OBJECT]), name.domain))
        nodes: list[MmsType] = []  # from the data object down to the attribute
        for label in ("", *labels[DEPTH_OF_OBJECT:]):
            held = held.component(label) if label and isinstance(held, StructureType) else held
            if held is None or isinstance(held, str):
                return None
            nodes.append(held)
        for step in range(len(nodes)):
            member = ObjectName("$".join(labels[: DEPTH_OF_OBJECT + step]), name.domain)
            if member in members:
                below = zip(nodes[step:], labels[DEPTH_OF_OBJECT + step :], strict=False)
                return Spot(member, tuple(_member(n, b) for n, b in below if isinstance(n, StructureType)))
        return None

    async def _control(self, reference: Reference, codec: PointCodec) -> Place:
        name = object_name(reference, reference.path)
        oper = await self._type(name)
        oper = oper.component("Oper") if isinstance(oper, StructureType) else None  # type: ignore[assignment]
        if not isinstance(oper, StructureType):
            raise Unlike(f"no Oper in {name}")
        members = tuple(n for n, _ in oper.components)
        if members != tuple(n for n in OPER if n in members) or not {"ctlVal", "ctlNum", "T"} <= set(members):
            raise Unlike(f"Oper of {name} is {', '.join(members)}")
        held, inner = oper.component("ctlVal"), ""
        if isinstance(held, StructureType) and [n for n, _ in held.components] in (["f"], ["i"]):
            inner, held = held.components[0]
        if held is None or (wrong := unlike(held, codec.raw.name)):
            raise Unlike(f"ctlVal: {wrong}")
        model = await self._model(reference)
        control = Control(name, model, members, tuple(t for _, t in oper.components), inner)
        place, leaf = await self._feedback(reference, inner)
        double = codec.raw.name == "BOOLEAN" and not unlike(leaf, "Dbpos")
        if not double and (wrong := unlike(leaf, codec.raw.name)):
            raise Unlike(f"its status: {wrong}")
        return replace(place, control=control, is_double=double, unsigned=_is_unsigned(held))

    async def _feedback(self, reference: Reference, inner: str) -> tuple[Place, MmsType]:
        """Where the status of a control is: stVal, or mxVal of an analogue one."""
        faults: list[str] = []
        analogue = ("mxVal", inner) if inner else ("mxVal",)
        for fc, tail in (("ST", ("stVal",)), ("MX", analogue)):
            try:
                return await self._inside(reference, (*reference.path, *tail), fc)
            except Unlike as error:
                faults.append(str(error))
        raise Unlike(f"no status to read back: {'; '.join(faults)}")

    async def _model(self, reference: Reference) -> int:
        name = object_name(reference, (*reference.path, "ctlModel"), "CF")
        try:
            (told,) = await self._mms.read([name])
        except ServiceFault as error:
            raise Unlike(f"{name}: {error}") from None
        if isinstance(told, AccessFault):
            raise Unlike(f"{name}: {refusal(told.code)}")
        if not isinstance(told, iec.IntData | iec.UIntData) or told.value not in MODELS:
            raise Unlike(f"{name} is no control model")
        if told.value == 0:
            raise Unlike(f"its control model is {MODELS[0]}: it cannot be operated")
        return told.value

    async def _type(self, name: ObjectName) -> MmsType:
        if name not in self._types:
            try:
                self._types[name] = await self._mms.type_of(name)
            except ServiceFault as error:
                self._types[name] = f"{name}: {error}"
        told = self._types[name]
        if isinstance(told, str):
            raise Unlike(told)
        return told


def unlike(held: MmsType, type_name: str) -> str:
    """What is held instead of a type of a point map; "": it is that."""
    wrong = f"{describe(held)} there, {type_name} in the map"
    if not isinstance(held, PrimitiveType):
        return wrong
    if type_name == "ENUMERATED":
        good = held.kind in ("integer", "unsigned")
    elif type_name == "Dbpos":
        good = held.kind == "bit-string" and held.size in (2, -2)
    elif type_name == "BOOLEAN":
        good = held.kind == "boolean"
    elif type_name.startswith("FLOAT"):
        good = held.kind == "float" and held.size in (None, int(type_name.removeprefix("FLOAT")))
    else:
        kind = "unsigned" if type_name.endswith("U") else "integer"
        good = held.kind == kind and held.size in (None, SIZES[type_name.removesuffix("U")])
    return "" if good else wrong


def size_of(held: MmsType) -> int:
    """Bytes of a value on the wire, at most."""
    if isinstance(held, StructureType):
        return OVERHEAD_BYTES + sum(size_of(inner) for _, inner in held.components)
    if isinstance(held, PrimitiveType):
        text = held.kind in ("octet-string", "visible-string", "mms-string", "bit-string")
        return OVERHEAD_BYTES + (abs(TEXT_BYTES if held.size is None else held.size) if text else 0)
    return OVERHEAD_BYTES + (held.count * size_of(held.element) if isinstance(held, ArrayType) else 0)


def _has(held: MmsType, label: str) -> bool:
    return isinstance(held, StructureType) and held.component(label) is not None


def _member(held: StructureType, label: str) -> tuple[int, int]:
    return [n for n, _ in held.components].index(label), len(held.components)


def _beside(name: ObjectName, held: MmsType, label: str) -> Spot | None:
    if not isinstance(held, StructureType) or not _has(held, label):
        return None
    return Spot(name, (_member(held, label),))


def _inner(name: ObjectName, label: str) -> ObjectName:
    return ObjectName(f"{name.item}${label}", name.domain)


def _is_unsigned(held: MmsType) -> bool:
    return isinstance(held, PrimitiveType) and held.kind == "unsigned"
