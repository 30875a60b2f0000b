"""Forms of the contract at the point of interconnection."""

from typing import Annotated

from pydantic import Field

from ems.site_schema.forms_base import EVERY_DAY, Currency, Day, Form, MonthName, Text
from ems.site_schema.quantity import (
    Kva,
    Kw,
    Kwh,
    KwPositive,
    LocalDate,
    LocalHour,
    Money,
    MoneyPerKwh,
    Quantity,
    Ratio,
    SecondsPositive,
)


class TouWindowForm(Form):
    """A priced window of local time."""

    name: Text
    start: LocalHour = Field(alias="from")
    end: LocalHour = Field(alias="to")
    days: list[Day] = Field(default=EVERY_DAY, min_length=1)
    months: list[Annotated[int, Field(ge=1, le=12)]] = Field(default=list(range(1, 13)), min_length=1)
    import_per_kwh: MoneyPerKwh


class DemandWindowForm(Form):
    """Local time in which a demand charge counts."""

    start: LocalHour = Field(alias="from")
    end: LocalHour = Field(alias="to")
    days: list[Day] = Field(default=EVERY_DAY, min_length=1)
    months: list[Annotated[int, Field(ge=1, le=12)]] = Field(default=list(range(1, 13)), min_length=1)


class DemandChargeForm(Form):
    """A demand charge beside the main one; all its figures in kW or all in kVA."""

    name: Text
    per_kw: Annotated[float, Quantity("CUR/kW", ge=0)] | None = None
    per_kva: Annotated[float, Quantity("CUR/kVA", ge=0)] | None = None
    windows: list[DemandWindowForm] = Field(default=[], description="none: at all times")
    ratchet_ratio: Ratio = 0.0
    ratchet_months: Annotated[int, Field(ge=1, le=24)] = 11
    past_peaks_kw: dict[MonthName, Kw] | None = None
    past_peaks_kva: dict[MonthName, Annotated[float, Quantity("kVA", ge=0)]] | None = None
    contracted_kw: KwPositive | None = None
    contracted_kva: Kva | None = None
    contracted_ratio: Ratio = 0.0
    excess_per_kw: Annotated[float, Quantity("CUR/kW", ge=0)] | None = None
    excess_per_kva: Annotated[float, Quantity("CUR/kVA", ge=0)] | None = None


class EnergyBlockForm(Form):
    """A block of a month's import."""

    up_to_kwh: Kwh | None = None
    add_per_kwh: MoneyPerKwh


class PowerFactorForm(Form):
    """A charge on reactive energy beyond what a power factor allows."""

    min_ratio: Annotated[float, Quantity("", gt=0, le=1)]
    per_kvarh: Annotated[float, Quantity("CUR/kvarh", ge=0)]


class TariffForm(Form):
    """The contract at the point of interconnection."""

    timezone: Text
    currency: Currency
    default_import_per_kwh: MoneyPerKwh
    windows: list[TouWindowForm] = []
    export_per_kwh: MoneyPerKwh
    demand_charge_per_kw: Annotated[float, Quantity("CUR/kW", ge=0)]
    billing_interval_s: SecondsPositive
    fixed_per_month: Money
    holidays: list[LocalDate] = []
    demand_charges: list[DemandChargeForm] = []
    energy_blocks: list[EnergyBlockForm] = []
    power_factor: PowerFactorForm | None = None
    minimum_per_month: Money = 0.0
