"""What the number of a register is worth: the meter's own scaler and unit (scal_unit_type). Pure."""

from typing import NamedTuple

from connectors.dlms.data import ENUM, INTEGERS, STRUCTURE, Datum
from ems.dlms import unit_factor
from ems.errors import BadValue

EXPONENT_MAX = 40  # of ten; more is no scaler


class Scaler(NamedTuple):
    """Exponent of ten and code of the unit; without a unit nothing is converted."""

    exponent: int = 0
    unit: int | None = None
    why: str = ""  # it is none that can be used

    def applied(self, number: float | int, wanted: str) -> tuple[float | None, str]:
        """The number in the unit that is wanted; None, and why there is none."""
        if self.why:
            return None, self.why
        try:
            factor = 1.0 if self.unit is None else unit_factor(self.unit, wanted)
        except BadValue as error:
            return None, str(error)
        scaled = number * 10**self.exponent if self.exponent >= 0 else number / 10**-self.exponent
        return scaled * factor, ""


def scaler_of(told: Datum) -> Scaler:
    """Read a scaler_unit: a structure of an integer and an enumeration."""
    parts = told.value
    if told.tag != STRUCTURE or not isinstance(parts, tuple) or len(parts) != 2:
        return Scaler(why=f"its scaler and unit are told as {told.name}")
    scale, unit = parts
    if scale.tag not in INTEGERS or not isinstance(scale.value, int) or abs(scale.value) > EXPONENT_MAX:
        return Scaler(why=f"its scaler is told as {scale.name} {scale.value}")
    if unit.tag != ENUM or not isinstance(unit.value, int):
        return Scaler(why=f"its unit is told as {unit.name}")
    return Scaler(scale.value, unit.value)
