"""What is asked of a battery beside its physics: energy held back, and what its warranty allows."""

from dataclasses import dataclass

from ems.tariff import LocalWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class SocReserve:
    """A state of charge that is held back for outages while the grid is there; soft."""

    soc: float
    local: LocalWindow | None = None  # None: always
    price_per_kwh: float | None = None  # money per kWh below it and hour; None: the ladder's rung


@dataclass(frozen=True, slots=True, kw_only=True)
class RestingSoc:
    """Resting at a high state of charge ages a battery: a price on what is stored above a level."""

    above_soc: float
    price_per_kwh: float  # money per kWh above it and hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Warranty:
    """What the maker's warranty allows; None: no limit. Energy is discharged at the AC terminals."""

    day_kwh_max: float | None = None  # discharged in a local day
    year_kwh_max: float | None = None  # discharged in a local calendar year
    pace_per_kwh: float = 0.0  # money per kWh beyond an even share of what is left of the year
    charge_per_h_max: float | None = None  # C-rates: power over capacity
    discharge_per_h_max: float | None = None
    mean_soc_max: float | None = None  # over a local calendar year

    @property
    def counted(self) -> bool:
        """Whether any of it looks back."""
        return not (self.day_kwh_max is None and self.year_kwh_max is None and self.mean_soc_max is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FullCharge:
    """A full charge at intervals, held for a time, to calibrate the battery's own estimate; soft."""

    interval_s: float  # from the end of one to the end of the next
    hold_s: float
    late_cost_per_h: float  # money per hour after it fell due


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureLimit:
    """One row of a derating table: what of its power a battery takes and gives at a temperature."""

    temp_degc: float
    charge_ratio: float
    discharge_ratio: float
