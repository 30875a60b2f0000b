"""What is said of a battery beside its nameplate: energy held back, its warranty, tables of its power."""

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SocLimit:
    """One row of a table of power over state of charge: what of its power a battery takes and gives at it."""

    soc: float
    charge_ratio: float
    discharge_ratio: float


def dented(at: Sequence[float], values: Sequence[float]) -> tuple[int, float] | None:
    """The first point that lies below the line between its neighbours, and that line there; None: concave.

    A table that is not concave would need binaries: the model holds power below every stretch of it.
    """
    for k in range(1, len(at) - 1):
        share = (at[k] - at[k - 1]) / (at[k + 1] - at[k - 1])
        least = values[k - 1] + share * (values[k + 1] - values[k - 1])
        if values[k] < least - 1e-9:
            return k, least
    return None
