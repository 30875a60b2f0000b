"""The ladder of prices for what should not happen, from a site's price of reserve and its highest VOLL.

docs/optimizer.md has it as a table, with the families that read each rung.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ems.site import Site
from ems.timegrid import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Money per kWh that a soft limit is missed by. Preferences are prices, never gates."""

    genset_care_per_kwh: float  # what its maker allows a genset, times its rating where it is hours
    battery_care_per_kwh: float  # what a battery's warranty allows
    reserve_down_per_kwh: float
    reserve_per_kwh: float  # the site's own figure
    tank_per_l: float
    voltage_per_kwh: float  # voltage outside its band, by the power through the source impedance it is worth
    ramp_per_kw: float  # a kW by which the power at the interconnection moves too fast, once
    start_over_per_kw: float  # a start above the maximum of a day, per kW of the unit's rating
    surplus_per_kwh: float  # power the bus cannot absorb
    no_breaker_per_kwh: float  # unserved load behind no breaker: the bus would have to go dead
    soc_window_per_kwh: float  # stored energy outside its window


def ladder(site: Site) -> Ladder:
    """Price ladder of a site: above the highest VOLL come surplus, unsheddable load, SoC window."""
    top = max([f.voll_per_kwh for f in site.feeders], default=10.0)
    return Ladder(
        genset_care_per_kwh=0.25 * site.reserve.shortfall_per_kwh,
        battery_care_per_kwh=0.25 * site.reserve.shortfall_per_kwh,
        reserve_down_per_kwh=0.5 * site.reserve.shortfall_per_kwh,
        reserve_per_kwh=site.reserve.shortfall_per_kwh,
        tank_per_l=top,
        voltage_per_kwh=0.5 * top,
        ramp_per_kw=0.125 * top,
        start_over_per_kw=0.25 * top,
        surplus_per_kwh=2.0 * top,
        no_breaker_per_kwh=4.0 * top,
        soc_window_per_kwh=8.0 * top,
    )


def usual_per_kwh(per_kwh: FloatArray) -> float:
    """Median of what a kWh costs, whatever its sign [money per kWh]."""
    return quantiles(np.abs(per_kwh), (0.5,))[0]


def quantiles(x: FloatArray, at: Sequence[float]) -> list[float]:
    """Quantiles by straight lines between ordered values; `np.quantile` takes ten times as long."""
    ordered = np.sort(x).tolist()
    out, last = [], len(ordered) - 1
    for q in at:
        i = min(int(q * last), last)
        out.append(ordered[i] + (q * last - i) * (ordered[min(i + 1, last)] - ordered[i]))
    return out
