"""Where a value is in a meter that speaks DLMS/COSEM, in which unit it is told, and who is spoken to.

A place is written as the OBIS code, `1-0:1.7.0*255`; `*255` may be left out. It is attribute 2 of a register
(class 3) unless brackets say otherwise: `0-0:96.1.0*255 [class 1]`, `1-0:1.4.0*255 [class 5, attribute 3]`. A
status may make a value bad: `1-0:1.6.0*255 [class 4, bad 0x03]`. Sources: IEC 62056-6-1 (OBIS), IEC 62056-6-2
(classes, attributes, units), IEC 62056-4-7 (port and wrapper).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ems.errors import BadValue
from ems.units import conversion_factor

PORT = 4059
ADDRESS_MAX = 0xFFFF
DATA, REGISTER, EXTENDED, DEMAND, PROFILE, CLOCK = 1, 3, 4, 5, 7, 8
ATTRIBUTES = {DATA: (2,), REGISTER: (2,), EXTENDED: (2,), DEMAND: (2, 3)}  # values of numbers, by class
SCALER_UNIT = {REGISTER: 3, EXTENDED: 3, DEMAND: 4}  # attribute, by class
STATUS = {EXTENDED: 4, DEMAND: 5}
CAPTURE_TIME = {EXTENDED: 5, DEMAND: 6}
TYPES = ("number", "integer")  # scaled by the meter's own scaler; a count as it is
# Enumeration of units (IEC 62056-6-2, table 4): code -> (as it is written, ours, how many of ours it is).
UNITS: dict[int, tuple[str, str, float]] = {
    4: ("d", "d", 1.0), 5: ("h", "h", 1.0), 6: ("min", "min", 1.0), 7: ("s", "s", 1.0),
    8: ("deg", "deg", 1.0), 9: ("degC", "degC", 1.0), 13: ("m3", "m3", 1.0), 19: ("L", "L", 1.0),
    20: ("kg", "kg", 1.0), 23: ("Pa", "Pa", 1.0), 24: ("bar", "bar", 1.0), 27: ("W", "W", 1.0),
    28: ("VA", "VA", 1.0), 29: ("var", "var", 1.0), 30: ("Wh", "Wh", 1.0), 31: ("VAh", "kVAh", 1e-3),
    32: ("varh", "kvarh", 1e-3), 33: ("A", "A", 1.0), 35: ("V", "V", 1.0), 38: ("ohm", "ohm", 1.0),
    44: ("Hz", "Hz", 1.0), 56: ("%", "%", 1.0), 255: ("no unit", "", 1.0),
}  # fmt: skip
_FORM = re.compile(
    r"(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\*(\d{1,3}))?(?:\s*\[([^\[\]]*)\])?"
)
_PART = re.compile(r"(class|attribute) (\d{1,3})|bad (0x[0-9a-fA-F]{1,8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dlms:
    """Who is spoken to, as whom, and how it is known. Files are as the site file says; no secrets."""

    client: int = 16  # wrapper port of ours: 16 is the public client
    server: int = 1  # logical device; 1 is the management logical device
    authentication: str = "none"  # | low | gmac
    password_env: str | None = None
    password_file: str | None = None
    system_title: str = ""  # ours, 16 hexadecimal digits; of gmac
    encryption_key_file: str | None = None
    authentication_key_file: str | None = None
    counter_file: str | None = None  # the next invocation counter
    clock: str = "0-0:1.0.0*255"  # whose skew is told; empty: it is not asked
    time_zone: str | None = None  # of times that come without their deviation

    def located(self, folder: Path) -> "Dlms":
        """The same with whole paths: files are relative to the folder of the site file."""
        names = ("password_file", "encryption_key_file", "authentication_key_file", "counter_file")
        files = {n: f for n in names if (f := getattr(self, n)) is not None}
        whole: dict[str, Any] = {n: str((folder / f).absolute()) for n, f in files.items()}
        return replace(self, **whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class DlmsRow:
    """What a map says of a point beside its place."""

    unit: str | None = None  # of the meter, as the map says it; None: whatever converts to the point's own


@dataclass(frozen=True, slots=True)
class Place:
    """One attribute of one object."""

    class_id: int
    obis: bytes  # (6,) A to F
    attribute: int = 2
    bad: int = 0  # bits of its status that make the value bad

    def __str__(self) -> str:
        return f"{obis_text(self.obis)} (class {self.class_id}, attribute {self.attribute})"

    @property
    def has_scaler(self) -> bool:
        """Whether its object tells a scaler and a unit."""
        return self.class_id in SCALER_UNIT


def obis_text(obis: bytes) -> str:
    """`1-0:1.7.0*255` of six bytes."""
    a, b, c, d, e, f = obis
    return f"{a}-{b}:{c}.{d}.{e}*{f}"


def parse_obis(text: str) -> bytes:
    """Six bytes of an OBIS code without brackets. Raises BadValue."""
    place = parse_place(text)
    if "[" in text:
        raise BadValue("an OBIS code alone, without brackets")
    return place.obis


def parse_place(text: str, *, class_id: int = REGISTER) -> Place:
    """The parts of a place.

    Parameters
    ----------
    class_id : where no bracket says one.

    Raises
    ------
    BadValue : it is not written as one is; says what is wrong.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise BadValue("not A-B:C.D.E*F")
    groups = [int(g) if g is not None else 255 for g in found.groups()[:6]]
    if max(groups) > 255:
        raise BadValue(f"{max(groups)} in an OBIS code; allowed: 0 to 255")
    told: dict[str, int] = {}
    for part in (found[7] or "").split(",") if found[7] is not None else ():
        one = _PART.fullmatch(part.strip())
        if one is None:
            raise BadValue(f"{part.strip()!r} in brackets; allowed: class 4, attribute 3, bad 0x03")
        key, value = ("bad", int(one[3], 16)) if one[3] else (one[1], int(one[2]))
        if key in told:
            raise BadValue(f"{key} twice in brackets")
        told[key] = value
    place = Place(told.get("class", class_id), bytes(groups), told.get("attribute", 2), told.get("bad", 0))
    if place.attribute not in ATTRIBUTES.get(place.class_id, ()):
        known = ", ".join(f"class {c} attribute {' or '.join(map(str, a))}" for c, a in ATTRIBUTES.items())
        raise BadValue(f"class {place.class_id} attribute {place.attribute}; read as numbers: {known}")
    if place.bad and place.class_id not in STATUS:
        raise BadValue(f"bad {place.bad:#x}; only classes 4 and 5 have a status")
    return place


@dataclass(frozen=True, slots=True)
class Term:
    """One column of a load profile, and whether it is taken or taken away."""

    place: Place
    sign: int


def parse_terms(text: str) -> tuple[Term, ...]:
    """Columns of a load profile: a code, or one less another (`1-0:1.29.0*255 - 1-0:2.29.0*255`).

    Raises
    ------
    BadValue : it is not written as one is; says what is wrong.
    """
    parts = text.split(" - ")
    if len(parts) > 2:
        raise BadValue("more than one code less another")
    places = [parse_place(part) for part in parts]
    for place in places:
        if not place.has_scaler or place.bad:
            raise BadValue(f"{place}; allowed: registers (classes 3, 4, 5), without bad bits")
    if len(set(places)) < len(places):
        raise BadValue("a code less itself")
    return tuple(Term(place, 1 - 2 * i) for i, place in enumerate(places))


def unit_name(code: int) -> str:
    """A unit as the meter tells it."""
    return UNITS[code][0] if code in UNITS else f"unit {code}"


def unit_factor(code: int, wanted: str) -> float:
    """How many `wanted` one of the meter's unit is.

    A value per unit (`pu`) is one of volts: the scale of its map divides by the nominal voltage.

    Raises
    ------
    BadValue : they measure different things, or the meter's unit is none that is known; names both.
    """
    name = unit_name(code)
    if code not in UNITS:
        raise BadValue(f"{name} is told, {wanted or 'no unit'} in the map")
    _, ours, factor = UNITS[code]
    if wanted == "pu":
        if ours == "V":
            return 1.0
    else:
        try:
            return factor * conversion_factor(ours, wanted)
        except BadValue:
            pass  # said below, with both
    raise BadValue(f"{name} is told, {wanted or 'no unit'} in the map")


def place_faults(address: str, data_type: str) -> Iterator[tuple[str, str]]:
    """What of a row of a point map cannot be worked with: (key, what is allowed)."""
    try:
        place = parse_place(address)
    except BadValue as error:
        yield "address", f"such as 1-0:1.7.0*255 or 1-0:1.6.0*255 [class 4]: {error}"
        return
    if data_type == "integer" and place.class_id == DEMAND:
        yield "data_type", "number with a demand register"
