"""What a device says it is, held against what its point map was written for. Pure.

A map fits one firmware of one model. After an update, or when a device was exchanged, the same register may
mean something else: nothing is written then until somebody has looked.
"""

import re
import struct
from collections.abc import Iterable, Mapping, Sequence

from connectors.raw_types import MODBUS_TYPES
from ems.site import IdentityField

Told = Mapping[str, str | None]  # by name of the field; None: the device does not tell it


def registers_of(field: IdentityField) -> int:
    """How many Modbus registers hold it."""
    return field.length if field.data_type == "string" else MODBUS_TYPES[field.data_type].registers


def from_registers(field: IdentityField, registers: Sequence[int]) -> str | None:
    """Registers as read -> text; None where they hold none."""
    words = list(registers)
    if field.data_type != "string" and field.word_order == "little":
        words.reverse()
    form = "<" if field.byte_order == "little" else ">"
    payload = struct.pack(f"{form}{len(words)}H", *words)
    if field.data_type != "string":
        return str(int.from_bytes(payload, "big"))
    text = payload.split(b"\0", 1)[0].decode("ascii", "replace").strip()
    return text if text and text.isprintable() and "�" not in text else None


def to_registers(field: IdentityField, text: str) -> list[int]:
    """Text -> the registers of a device that tells it. For the servers of a simulator."""
    count = registers_of(field)
    if field.data_type == "string":
        payload = text.encode("ascii")[: 2 * count].ljust(2 * count, b"\0")
    else:
        payload = int(text).to_bytes(2 * count, "big")
    form = "<" if field.byte_order == "little" else ">"
    words = list(struct.unpack(f"{form}{count}H", payload))
    if field.data_type != "string" and field.word_order == "little":
        words.reverse()
    return words


def version(text: str) -> tuple[int, ...]:
    """`V1.10.3-b2` -> (1, 10, 3, 2); empty where there is no number in it."""
    return tuple(int(n) for n in re.findall(r"\d+", text))


def unlike_map(fields: Iterable[IdentityField], told: Told) -> list[str]:
    """Why this is no device the map was written for: its values mean nothing then. Empty: it is one."""
    out = []
    for f in fields:
        text = told.get(f.name)
        if text is None:
            out.append(f"{f.name} is not told")
        elif f.name != "serial" and f.expected is not None and text != f.expected:
            out.append(f"{f.name} is {text!r}, the map is for {f.expected!r}")
        elif f.starts is not None and not text.startswith(f.starts):
            out.append(f"{f.name} is {text!r}, the map is for {f.starts!r} and what begins with it")
        elif f.one_of and text not in f.one_of:
            out.append(f"{f.name} is {text!r}, the map is for {', '.join(map(repr, f.one_of))}")
        elif (f.low is not None or f.high is not None) and not _between(f, text):
            out.append(f"{f.name} is {text!r}, the map is for {_span(f)}")
    return out


def unlike_before(
    fields: Iterable[IdentityField], told: Told, commissioned: Mapping[str, str] | None
) -> list[str]:
    """Why this is not the device that the site file names or that was commissioned, alike or not."""
    out = []
    for f in fields:
        text, before = told.get(f.name), None if commissioned is None else commissioned.get(f.name)
        if text is None:
            continue  # told as `unlike_map`
        if f.name == "serial" and f.expected is not None and text != f.expected:
            out.append(f"serial is {text!r}, the site file says {f.expected!r}")
        elif before is not None and text != before:
            out.append(f"{f.name} is {text!r}, {before!r} was commissioned")
    return out


def _between(field: IdentityField, text: str) -> bool:
    now = version(text)
    if not now:
        return False
    low = () if field.low is None else version(field.low)
    high = () if field.high is None else version(field.high)
    now = now + (0,) * max(len(low), len(high))
    return now[: len(low)] >= low and now[: len(high)] <= high  # up to 2.9 is with 2.9.4


def _span(field: IdentityField) -> str:
    low, high = field.low, field.high
    if low is None:
        return f"{high} and older"
    return f"{low} and newer" if high is None else f"{low} to {high}"
