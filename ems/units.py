"""Quantities as people write them ("750 kW", "1.2 MWh", "30 min", "45 %"), converted at the door.

Inside the project every number is in the unit its name ends with; nothing else ever converts.
"""

import difflib
import math
import re

from ems.errors import BadValue

# unit -> (dimension, size in the first unit of that dimension)
_UNITS: dict[str, tuple[str, float]] = {
    "": ("ratio", 1.0),
    "pu": ("ratio", 1.0),
    "%": ("ratio", 0.01),
    "kW": ("active power", 1.0),
    "W": ("active power", 1e-3),
    "MW": ("active power", 1e3),
    "kvar": ("reactive power", 1.0),
    "var": ("reactive power", 1e-3),
    "Mvar": ("reactive power", 1e3),
    "kVA": ("apparent power", 1.0),
    "VA": ("apparent power", 1e-3),
    "MVA": ("apparent power", 1e3),
    "kWp": ("peak power", 1.0),
    "Wp": ("peak power", 1e-3),
    "MWp": ("peak power", 1e3),
    "kWh": ("energy", 1.0),
    "Wh": ("energy", 1e-3),
    "MWh": ("energy", 1e3),
    "kVAh": ("apparent energy", 1.0),
    "kvarh": ("reactive energy", 1.0),
    "Mvarh": ("reactive energy", 1e3),
    "V": ("voltage", 1.0),
    "kV": ("voltage", 1e3),
    "A": ("current", 1.0),
    "kA": ("current", 1e3),
    "Hz": ("frequency", 1.0),
    "mHz": ("frequency", 1e-3),
    "rpm": ("speed", 1.0),
    "kPa": ("pressure", 1.0),
    "Pa": ("pressure", 1e-3),
    "bar": ("pressure", 100.0),
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "min": ("time", 60.0),
    "h": ("time", 3600.0),
    "d": ("time", 86400.0),
    "degC": ("temperature", 1.0),
    "K": ("temperature", 1.0),  # only for differences, as in %/K
    "L": ("volume", 1.0),
    "l": ("volume", 1.0),
    "m3": ("volume", 1e3),
    "m": ("length", 1.0),
    "m2": ("area", 1.0),
    "km": ("length", 1e3),
    "deg": ("angle", 1.0),
    "ohm": ("impedance", 1.0),
    "mohm": ("impedance", 1e-3),
    "kg": ("mass", 1.0),
    "g": ("mass", 1e-3),
    "GB": ("data", 1.0),
    "TB": ("data", 1e3),
}

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([^\d\s].*?)?\s*")
_MONEY = re.compile(r"[A-Z]{3}")


def known_units() -> tuple[str, ...]:
    """Every unit that can be written, without the empty one."""
    return tuple(unit for unit in _UNITS if unit)


def _part(unit: str) -> tuple[str, float]:
    if unit == "1":
        return _UNITS[""]
    if unit in _UNITS:  # before money: MVA is written like a currency
        return _UNITS[unit]
    if _MONEY.fullmatch(unit):
        return f"money in {unit}", 1.0
    close = [u for u in _UNITS if u.lower() == unit.lower()] or difflib.get_close_matches(unit, _UNITS, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise BadValue(f"unknown unit {unit!r}{hint}")


def _dimension(unit: str) -> tuple[str, float]:
    numerator, slash, denominator = unit.partition("/")
    name, factor = _part(numerator.strip())
    if not slash:
        return name, factor
    below, below_factor = _part(denominator.strip())
    return f"{name} per {below}", factor / below_factor


def tidy(value: float) -> float:
    """95 % is 0.95, not 0.9500000000000001: binary dust of a conversion is wiped off."""
    return float(f"{value:.15g}")


def conversion_factor(found: str, wanted: str) -> float:
    """Factor that turns a number in `found` into a number in `wanted`.

    Raises
    ------
    BadValue : a unit is unknown, or the two measure different things (kVA is not kW).
    """
    found_dimension, found_factor = _dimension(found)
    wanted_dimension, wanted_factor = _dimension(wanted)
    if found_dimension != wanted_dimension:
        raise BadValue(f"{found!r} is a unit of {found_dimension}, not of {wanted_dimension}")
    return found_factor / wanted_factor


def parse_quantity(text: str, unit: str) -> float:
    """Read a number with or without a unit and return it in `unit`.

    Parameters
    ----------
    text : e.g. "750 kW", "1.2MWh", "-0.37 %/K", "0.16 USD/kWh"; a bare number is in `unit` already.
    unit : the unit wanted, e.g. "kW"; "" for a plain ratio.

    Raises
    ------
    BadValue : not a number, not finite, an unknown unit or one of another dimension.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise BadValue(f"{text!r} is not a number with a unit")
    value = float(match[1])
    if match[2] is not None and match[2] != unit:
        value = tidy(value * conversion_factor(match[2], unit))
    if not math.isfinite(value):
        raise BadValue(f"{text!r} is not finite")
    return value
