"""The tariff's further demand charges as the model sees them: parts with a rate, cuts of apparent power."""

import math
from dataclasses import dataclass

from ems.tariff import DemandCharge, Tariff

# S = |P + jQ| lies on or above every line P cos(a) + Q sin(a); with lines 12 degrees apart up to 60 it is met
# within 0.55 % wherever Q <= 2.2 P, and never overestimated.
ANGLES_DEG = (0.0, 12.0, 24.0, 36.0, 48.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandPart:
    """A rate on what a charge's peak has above a floor: the charge itself, or excess over its contract."""

    charge: DemandCharge
    rate_per_kw: float
    excess: bool

    def floor_kw(self, month: str) -> float:
        """What is paid in any case: up to here a month's peak costs nothing more [kW]."""
        if self.excess:
            return 0.0 if self.charge.contracted_kw is None else self.charge.contracted_kw
        return self.charge.floor_kw(month)


@dataclass(frozen=True, slots=True)
class Cut:
    """One line under a part's demand: active power by `active_ratio`, reactive by `reactive_ratio`."""

    part: int
    active_ratio: float
    reactive_ratio: float


def demand_parts(tariff: Tariff) -> tuple[DemandPart, ...]:
    """Parts of the charges beside the main one."""
    out = []
    for charge in tariff.demand_charges:
        out.append(DemandPart(charge=charge, rate_per_kw=charge.per_kw, excess=False))
        if charge.contracted_kw is not None and charge.excess_per_kw > 0.0:
            out.append(DemandPart(charge=charge, rate_per_kw=charge.excess_per_kw, excess=True))
    return tuple(out)


def demand_cuts(parts: tuple[DemandPart, ...]) -> tuple[Cut, ...]:
    """Lines under the demand of each part; one for active power."""
    return tuple(
        Cut(i, math.cos(math.radians(a)), math.sin(math.radians(a)))
        for i, part in enumerate(parts)
        for a in (ANGLES_DEG if part.charge.apparent else ANGLES_DEG[:1])
    )
