"""What a BACnet device holds, as a point map names it: objects, and who it says it is. Nothing written."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from connectors.bacnet import names
from connectors.bacnet.apdu import Asked, Denied, Key, Route
from connectors.bacnet.asking import Asker, Told
from connectors.bacnet.client import greet
from connectors.bacnet.quality import is_absent, judged
from connectors.bacnet.session import Counts, Session
from connectors.bacnet.tags import (
    APPLICATION,
    BITS,
    BOOLEAN,
    DOUBLE,
    ENUMERATED,
    NULL,
    OBJECT,
    REAL,
    SIGNED,
    TEXT,
    UNSIGNED,
    MalformedTags,
    Tag,
    kind_of,
    natural,
    number_of,
    object_of,
    text_of,
    values,
)
from connectors.link import LinkError
from ems.bacnet import (
    BINARY,
    DEVICE,
    OBJECT_TYPES,
    PRESENT_VALUE,
    PRIORITY_ARRAY,
    RELIABILITY,
    STATUS_FLAGS,
    WRITABLE,
)

OBJECT_LIST, OBJECT_NAME, DESCRIPTION, UNITS = 76, 77, 28, 117
OBJECTS_MAX = 20_000
IDENTITY = {
    "vendor-name": ("manufacturer", 121),
    "model-name": ("model", 70),
    "firmware-revision": ("firmware", 44),
    "application-software-version": ("firmware", 12),
    "serial-number": ("serial", 372),
}
TYPES = {BOOLEAN: "bit", UNSIGNED: "unsigned", SIGNED: "signed", REAL: "real", DOUBLE: "double",
         ENUMERATED: "enumerated", TEXT: "string", BITS: "bits", NULL: "null"}  # fmt: skip
COMMANDED = {OBJECT_TYPES[name] for name in WRITABLE}
AT_ONCE = 100  # objects between two batches of lines


class Line(NamedTuple):
    """One place, the type a map gives it, and what is there now."""

    place: str
    type_name: str
    about: str


async def browse(
    host: str, port: int, timeout_s: float, *, device: int, route: Route | None = None, bind: str = ""
) -> list[Line]:
    """Objects of a device in its own order; then what it says it is.

    Raises
    ------
    LinkError : it cannot be reached, or its answer cannot be believed.
    """
    session = Session(timeout_s=timeout_s, route=route, pause_s=0.0, counts=Counts(), invoke=0)
    try:
        async with asyncio.timeout(timeout_s):
            await session.open(host, port, bind)
        asker = await greet(session, (DEVICE, device))
        keys = await _objects(asker, (DEVICE, device))
        lines: list[Line] = []
        for begin in range(0, len(keys), AT_ONCE):
            lines += await _described(asker, [k for k in keys[begin : begin + AT_ONCE] if k[0] != DEVICE])
        for prop, (name, number) in IDENTITY.items():
            told = await asker.one(((DEVICE, device), number, None))
            text = None if isinstance(told, Denied) or len(told) != 1 else text_of(told[0])
            if text is not None:
                lines.append(Line(prop, "string", f"{text}; identity: {name}"))
        return lines
    except TimeoutError:
        raise LinkError(f"cannot connect in {timeout_s:g} s") from None
    except OSError as error:
        raise LinkError(f"cannot connect: {error}") from None
    except MalformedTags as error:
        raise LinkError(str(error)) from None
    finally:
        session.drop("closed")


async def _objects(asker: Asker, device: Key) -> list[Key]:
    """The object list, at once where one answer holds it, else in parts. Raises LinkError, MalformedTags."""
    told = await asker.one((device, OBJECT_LIST, None))
    if not isinstance(told, Denied):
        return [_object(tag) for tag in values(told)]
    count = await asker.one((device, OBJECT_LIST, 0))
    if isinstance(count, Denied) or len(count) != 1:
        raise LinkError(f"the object list: {count if isinstance(count, Denied) else 'no count'}")
    length = natural(count[0].data)
    if length > OBJECTS_MAX:
        raise LinkError(f"an object list of {length} objects")
    wanted: list[Asked] = [(device, OBJECT_LIST, index + 1) for index in range(length)]
    parts = await asker.read(wanted)
    found = [part for one in wanted if not isinstance(part := parts[one], Denied)]
    return [_object(part[0]) for part in found if len(part) == 1]


def _object(tag: Tag) -> Key:
    if (tag.form, tag.number) != (APPLICATION, OBJECT):
        raise MalformedTags(f"{kind_of(tag)} in the object list")
    return object_of(tag.data)


async def _described(asker: Asker, keys: Sequence[Key]) -> list[Line]:
    wanted: list[Asked] = []
    for key in keys:
        properties = [OBJECT_NAME, DESCRIPTION, UNITS, PRESENT_VALUE, STATUS_FLAGS, RELIABILITY]
        if key[0] in COMMANDED:
            properties.append(PRIORITY_ARRAY)
        wanted += [(key, p, None) for p in properties]
    told = await asker.read(wanted)
    return [_line(key, {prop: what for (k, prop, _), what in told.items() if k == key}) for key in keys]


def _line(key: Key, told: dict[int, Told]) -> Line:
    """An object: its type in a map, value, unit, what is wrong with it, name and description."""
    kind, value = _shown(key, told[PRESENT_VALUE])
    parts = [" ".join(text for text in (value, _unit(told[UNITS])) if text), *_state(told)]
    if PRIORITY_ARRAY in told:
        parts += _writers(told[PRIORITY_ARRAY])
    parts += [_string(told[OBJECT_NAME]), _string(told[DESCRIPTION])]
    return Line(names.object_name(key), kind, "; ".join(text for text in parts if text))


def _shown(key: Key, told: Told) -> tuple[str, str]:
    """Type in a map, and value."""
    if isinstance(told, Denied):
        return "", "" if is_absent(told) else str(told)
    if len(told) != 1 or told[0].form != APPLICATION:
        return "", "a structure"
    (tag,) = told
    kind = "bit" if key[0] in BINARY.values() and tag.number == ENUMERATED else TYPES.get(tag.number, "")
    number = number_of(tag)
    if number is None:
        return kind, text_of(tag) or kind_of(tag)
    if isinstance(number, float):
        return kind, f"{number:.{12 if tag.number == DOUBLE else 7}g}"
    return kind, f"{number:d}"


def _unit(told: Told) -> str:
    if isinstance(told, Denied) or len(told) != 1 or told[0][:2] != (APPLICATION, ENUMERATED):
        return ""
    number = natural(told[0].data)
    return names.UNITS.get(number, f"units {number}")


def _string(told: Told) -> str:
    return "" if isinstance(told, Denied) or len(told) != 1 else text_of(told[0]) or ""


def _state(told: dict[int, Told]) -> Iterator[str]:
    said = judged(told[STATUS_FLAGS], told[RELIABILITY], None)
    if not is_absent(told[STATUS_FLAGS]):
        yield said.bad
        yield "overridden" if said.overridden else ""


def _writers(told: Told) -> Iterator[str]:
    """Who commands it now."""
    if isinstance(told, Denied):
        yield "no priority array" if is_absent(told) else ""
        return
    held = [i + 1 for i, tag in enumerate(values(told)) if (tag.form, tag.number) != (APPLICATION, NULL)]
    yield f"commanded at {', '.join(map(str, held))}" if held else "commandable"
