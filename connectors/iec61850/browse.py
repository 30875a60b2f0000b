"""What an IEC 61850 device holds, as references and types of a point map; asked for, nothing is written."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from open61850 import data as iec
from open61850.mms.pdu import ObjectName
from open61850.mms.types import MmsType, PrimitiveType, StructureType

from connectors.iec61850.mms import Mms, ServiceFault
from connectors.iec61850.places import MODELS, SIZES
from connectors.iec61850.transport import Transport
from connectors.link import LinkError
from ems.iec61850_reference import BUFFERED, CONTROL, UNBUFFERED, is_name

SCALED = ("MX", "SP")
READ, DESCRIPTION = ("ST", "MX", "SP"), "DC"
REPORTS = {UNBUFFERED: "report control block", BUFFERED: "report control block with a buffer"}
TEXTS = ("visible-string", "mms-string")
OBJECT_PARTS = 3  # of a name: node, functional constraint, data object
DEPTH_MAX = 8


@dataclass(frozen=True, slots=True)
class Held:
    """One line: an attribute, a control or a report control block."""

    reference: str
    type_name: str  # of a point map; "string" of an identity; "" of a block
    about: str = ""


async def browse(host: str, port: int, timeout_s: float) -> AsyncIterator[Held]:
    """Everything that a point, an identity or `reports` may name, in the order of the device.

    Raises
    ------
    LinkError : it cannot be reached, or does not answer as a device should.
    """
    mms = Mms(await _opened(host, port, timeout_s), timeout_s, lambda report: None)
    try:
        await mms.associate()
        for device in await mms.domains():
            for name in await mms.variables(device):
                parts = name.split("$")
                if len(parts) == OBJECT_PARTS and all(map(is_name, (device, *parts))):
                    async for held in _of_object(mms, device, *parts):
                        yield held
    except ServiceFault as error:
        raise LinkError(f"it does not tell what it holds: {error}") from None
    finally:
        mms.abort()


async def _opened(host: str, port: int, timeout_s: float) -> Transport:
    try:
        async with asyncio.timeout(timeout_s):
            return await Transport.open(host, port)
    except TimeoutError:
        raise LinkError(f"nobody answers in {timeout_s:g} s") from None
    except OSError as error:
        raise LinkError(str(error)) from None


async def _of_object(mms: Mms, device: str, node: str, fc: str, name: str) -> AsyncIterator[Held]:
    if fc in REPORTS:
        yield Held(f"{device}/{node}.{name} [{fc}]", "", REPORTS[fc])
        return
    if fc not in (*READ, DESCRIPTION, CONTROL):
        return
    try:
        held = await mms.type_of(ObjectName(f"{node}${fc}${name}", device))
        if fc == CONTROL:
            oper = held.component("Oper") if isinstance(held, StructureType) else None
            value = oper.component("ctlVal") if isinstance(oper, StructureType) else None
            if isinstance(value, StructureType) and len(value.components) == 1:
                value = value.components[0][1]
            if value is not None and (known := type_name(value)):
                yield Held(
                    f"{device}/{node}.{name} [{CONTROL}]", known, await _model(mms, device, node, name)
                )
            return
    except ServiceFault:
        return  # it is listed, and not told
    powers = await _multipliers(mms, device, node, name) if fc in SCALED else {}
    for path, leaf in leaves(held):
        known = type_name(leaf)
        if fc == DESCRIPTION:
            known = "string" if isinstance(leaf, PrimitiveType) and leaf.kind in TEXTS else ""
        if known:
            power = max(((p, x) for p, x in powers.items() if path[: len(p)] == p), default=((), 0))[1]
            about = f"times 10^{power}" if power else ""
            yield Held(f"{device}/{node}.{'.'.join((name, *path))} [{fc}]", known, about)


async def _multipliers(mms: Mms, device: str, node: str, name: str) -> dict[tuple[str, ...], int]:
    """Powers of ten that values are told in, by the part of the object they hold for (IEC 61850-7-3)."""
    try:
        held = await mms.type_of(ObjectName(f"{node}$CF${name}", device))
        ways = [path for path, _ in leaves(held) if path[-2:] == ("units", "multiplier")]
        names = [ObjectName("$".join((node, "CF", name, *path)), device) for path in ways]
        told = await mms.read(names) if names else []
    except ServiceFault:
        return {}
    return {p[:-2]: t.value for p, t in zip(ways, told, strict=True) if isinstance(t, iec.IntData)}


async def _model(mms: Mms, device: str, node: str, name: str) -> str:
    """How a control is operated, in words."""
    (told,) = await mms.read([ObjectName(f"{node}$CF${name}$ctlModel", device)])
    return MODELS.get(told.value, "?") if isinstance(told, iec.IntData | iec.UIntData) else "?"


def leaves(held: MmsType, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], MmsType]]:
    """Attributes of a data object, each with its way."""
    if isinstance(held, StructureType) and len(path) < DEPTH_MAX:
        for name, inner in held.components:
            yield from leaves(inner, (*path, name))
    elif path:
        yield path, held


def type_name(held: MmsType) -> str:
    """The type of a point map that holds it; "": none does. An enumeration cannot be told from an integer."""
    if not isinstance(held, PrimitiveType):
        return ""
    known = {("boolean", None): "BOOLEAN", ("float", 32): "FLOAT32", ("float", 64): "FLOAT64"}
    known |= {("bit-string", 2): "Dbpos", ("bit-string", -2): "Dbpos"}
    known |= {("integer", bits): name for name, bits in SIZES.items()}
    known |= {("unsigned", bits): f"{name}U" for name, bits in SIZES.items() if bits < SIZES["INT64"]}
    return known.get((held.kind, held.size), "")
