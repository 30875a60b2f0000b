"""Field types of the forms: numbers with units, times, windows. Each says what it allows when it refuses."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, ValidationInfo, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ems.errors import BadValue
from ems.units import parse_quantity

_FACTOR_TEXT = "a number, or a text with a unit"


def refuse(allowed: str, note: str = "") -> PydanticCustomError:
    """The one kind of error the forms raise; `allowed` and `note` reach the user as they are."""
    return PydanticCustomError("ems", "{allowed}", {"allowed": allowed, "note": note})


@dataclass(frozen=True, slots=True)
class Quantity:
    """Annotation of a float field: the unit it is kept in, and its range in that unit."""

    unit: str  # "CUR" stands for the site's currency, as in "CUR/kWh"
    ge: float = -math.inf  # unit: that of the field; ratio
    gt: float = -math.inf  # unit: that of the field; ratio
    le: float = math.inf  # unit: that of the field; ratio
    lt: float = math.inf  # unit: that of the field; ratio

    def allowed(self, currency: str = "CUR") -> str:
        """The range in words."""
        own = self.unit.replace("CUR", currency)
        unit = f" {own}" if own else ""
        parts = [
            *([f"more than {self.gt:g}{unit}"] if math.isfinite(self.gt) else []),
            *([f"{self.ge:g}{unit} or more"] if math.isfinite(self.ge) else []),
            *([f"less than {self.lt:g}{unit}"] if math.isfinite(self.lt) else []),
            *([f"{self.le:g}{unit} or less"] if math.isfinite(self.le) else []),
        ]
        return ", ".join(parts) if parts else f"a number{f' in {own}' if own else ''}"

    def convert(self, value: Any, currency: str) -> float:
        """Number or text to a finite float in `unit`.

        Raises
        ------
        PydanticCustomError : not a number, not finite, wrong dimension, outside the range.
        """
        unit, allowed = self.unit.replace("CUR", currency), self.allowed(currency)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise refuse(f"{allowed}: {_FACTOR_TEXT}")
        try:
            number = parse_quantity(value, unit) if isinstance(value, str) else float(value)
        except (BadValue, OverflowError) as error:
            raise refuse(allowed, _clock_hint(value) or str(error)) from None
        if not math.isfinite(number):
            raise refuse(allowed, "NaN and infinity are not numbers here")
        if not (self.ge <= number <= self.le and self.gt < number < self.lt):
            raise refuse(allowed, "" if number == value else f"that is {number:g} {unit}".rstrip())
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: Any, info: ValidationInfo) -> float:
            context = info.context if isinstance(info.context, dict) else {}
            return self.convert(value, str(context.get("currency", "CUR")))

        return core_schema.with_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        number: dict[str, Any] = {"type": "number"}
        for ours, theirs in (
            ("ge", "minimum"),
            ("gt", "exclusiveMinimum"),
            ("le", "maximum"),
            ("lt", "exclusiveMaximum"),
        ):
            if math.isfinite(bound := getattr(self, ours)):
                number[theirs] = bound
        text = {"type": "string", "pattern": r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*[^\d\s].*$"}
        unit = self.unit.replace("CUR", "site's currency") if self.unit else "ratio"
        return {"anyOf": [number, text], "description": f"[{unit}] {self.allowed()}"}


def _clock_hint(value: Any) -> str:
    clock = isinstance(value, str) and re.fullmatch(r"\s*\d+:\d+(:\d+)?\s*", value)
    return "a time of day is no quantity; write 30 min, or 0.5 h" if clock else ""


def _local_hour(value: Any) -> float:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", value) if isinstance(value, str) else None
    if match is None:
        raise refuse("a local time of day such as 18:30")
    hour = int(match[1]) + int(match[2]) / 60.0
    if int(match[2]) > 59 or hour > 24.0:
        raise refuse("a local time of day from 00:00 to 24:00")
    return hour


def _aware(value: Any) -> datetime:
    allowed = "a date and time with its offset, such as 2026-03-18T18:00-04:00"
    if not isinstance(value, str):
        raise refuse(allowed)
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise refuse(allowed) from None
    if when.tzinfo is None:
        raise refuse(allowed, "which time zone is meant?")
    return when.astimezone(UTC)


def _date(value: Any) -> date:
    try:
        if isinstance(value, str) and len(value) == 10:
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise refuse("a date such as 2026-12-25")


def _safe_value(value: Any, info: ValidationInfo) -> str | float | None:
    """Kept as text here: its unit is that of the setpoint, which only the checks know."""
    if value == "hold":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise refuse("hold, or a value in the setpoint's unit")
    return value


_CLOCK = {"type": "string", "pattern": r"^\d{1,2}:\d{2}$"}
_STAMP = {"type": "string", "format": "date-time"}
_NUMBER_OR_TEXT = {"anyOf": [{"type": "number"}, {"type": "string"}]}


def _loose(value: Any) -> str | float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise refuse("a number, or a text with a unit")
    return value


LocalHour = Annotated[float, BeforeValidator(_local_hour), WithJsonSchema(_CLOCK)]
LocalDate = Annotated[date, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
Stamp = Annotated[datetime, BeforeValidator(_aware), WithJsonSchema(_STAMP)]
SafeValue = Annotated[str | float | None, BeforeValidator(_safe_value), WithJsonSchema(_NUMBER_OR_TEXT)]
# in the unit of a point that only its name decides
PointQuantity = Annotated[str | float, BeforeValidator(_loose), WithJsonSchema(_NUMBER_OR_TEXT)]

Kw = Annotated[float, Quantity("kW", ge=0)]
KwPositive = Annotated[float, Quantity("kW", gt=0)]
Kwh = Annotated[float, Quantity("kWh", gt=0)]
Kva = Annotated[float, Quantity("kVA", gt=0)]
Seconds = Annotated[float, Quantity("s", ge=0)]
SecondsPositive = Annotated[float, Quantity("s", gt=0)]
Ratio = Annotated[float, Quantity("", ge=0, le=1)]
Soc = Annotated[float, Quantity("", ge=0, le=1)]
Eta = Annotated[float, Quantity("", gt=0, le=1)]
Money = Annotated[float, Quantity("CUR", ge=0)]
MoneyPerKwh = Annotated[float, Quantity("CUR/kWh", ge=0)]
