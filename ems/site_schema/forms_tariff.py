"""Forms of the contract at the point of interconnection."""

from typing import Annotated

from pydantic import Field

from ems.contracts import CreditBasis
from ems.site_schema.forms_base import EVERY_DAY, Currency, Day, Form, Id, MonthName, PathId, Text
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
    Stamp,
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


class ExportWindowForm(Form):
    """Local time in which export earns another price."""

    name: Text
    start: LocalHour = Field(alias="from")
    end: LocalHour = Field(alias="to")
    days: list[Day] = Field(default=EVERY_DAY, min_length=1)
    months: list[Annotated[int, Field(ge=1, le=12)]] = Field(default=list(range(1, 13)), min_length=1)
    export_per_kwh: MoneyPerKwh


class ExportCreditForm(Form):
    """Net metering (import_price) or net billing (export_price)."""

    basis: CreditBasis = Field(strict=False)
    excess_ratio: Ratio = 0.0


class PeakHourForm(Form):
    """A time that is, or may become, a system peak."""

    start: Stamp
    end: Stamp
    probability_ratio: Ratio = 1.0


class CoincidentPeakForm(Form):
    """A charge on the mean import in system peaks."""

    name: Text
    per_kw: Annotated[float, Quantity("CUR/kW", ge=0)]
    hours: list[PeakHourForm] = []
    windows: list[DemandWindowForm] = []
    window_probability_ratio: Ratio = 0.0


class EnergyContractForm(Form):
    """A price for energy taken, and a minimum to be taken or paid."""

    name: Text
    source: Id = Field(description="import, or a PV plant")
    per_kwh: MoneyPerKwh = 0.0
    minimum_kwh: Annotated[float, Quantity("kWh", ge=0)] = 0.0
    shortfall_per_kwh: MoneyPerKwh = 0.0
    year_month: Annotated[int, Field(ge=1, le=12)] | None = None


class DemandResponseForm(Form):
    """An event in which import is to be below a baseline."""

    id: PathId
    start: Stamp
    end: Stamp
    baseline_kw: Kw
    committed_kw: KwPositive
    per_kw: Annotated[float, Quantity("CUR/kW", ge=0)]
    penalty_per_kw: Annotated[float, Quantity("CUR/kW", ge=0)] = 0.0


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
    export_windows: list[ExportWindowForm] = []
    export_credit: ExportCreditForm | None = None
    coincident_peaks: list[CoincidentPeakForm] = []
    energy_contracts: list[EnergyContractForm] = []
    demand_response: list[DemandResponseForm] = []
