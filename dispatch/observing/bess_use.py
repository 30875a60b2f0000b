"""What each battery has been through: its open cycle, energy discharged in a day and a year, mean SoC.

Counted only where a limit of the site asks for it. Time counts at the power measured at its end; a wall clock
that is set forward adds nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from dispatch.layout import Layout
from dispatch.state import ObserverMemory
from ems.assets import BessParams
from ems.condition import BessUse
from ems.frozen import replace
from ems.local_time import local_time
from ems.telemetry import Snapshot
from plant_models.rainflow import turned

FULL_SOC = 0.01  # so near to the top of its window a battery counts as full
TURN_SOC = 0.005  # a smaller change of direction of a measured SoC is noise


def followed(layout: Layout, memory: ObserverMemory, snapshot: Snapshot) -> ObserverMemory:
    """Memory with the batteries' open cycles and use up to now; without good readings as they were."""
    out, readings = dict(memory.turns_soc), dict[str, tuple[float, float]]()
    for b, unit in layout.bess.items():
        soc = snapshot.value(f"{b}.soc")
        if unit.battery.cycle_life is not None and soc is not None:
            out[b] = turned(out.get(b, ()), soc, TURN_SOC)
        p_kw = snapshot.value(layout.p[b])
        if p_kw is not None and soc is not None:
            readings[b] = (p_kw, soc)
    use = dict(memory.bess_use)
    if memory.last_at is not None:
        use = of_today(use, memory.last_at, snapshot.at, layout.zone)
    passed_s = memory.passed_s(snapshot)
    use = uses_after(layout.bess, use, readings, snapshot.at, passed_s)
    return replace(memory, turns_soc=out, bess_use=use)


def counted(params: BessParams) -> bool:
    """Whether any limit of a battery looks back."""
    warranty = params.battery.warranty
    return (warranty is not None and warranty.counted) or params.battery.full_charge is not None


def uses_after(
    units: Mapping[str, BessParams],
    before: Mapping[str, BessUse],
    readings: Mapping[str, tuple[float, float]],
    at: datetime,
    elapsed_s: float,
) -> dict[str, BessUse]:
    """Use of every battery after `elapsed_s` up to `at` [s].

    Parameters
    ----------
    readings : (power, discharge positive [kW], state of charge) of each battery with good readings.
    """
    out = dict(before)
    for b, params in units.items():
        if counted(params):
            use = before.get(b, BessUse())
            out[b] = _after(params, use, *readings[b], elapsed_s / 3600.0) if b in readings else use
    return out


def _after(params: BessParams, use: BessUse, p_kw: float, soc: float, hours: float) -> BessUse:
    kwh = max(0.0, p_kw) * hours
    if (full := params.battery.full_charge) is not None:
        full_h = use.full_h + hours if soc >= params.battery.soc_max - FULL_SOC else 0.0
        done = full_h * 3600.0 >= full.hold_s - 1e-6
        age_h = 0.0 if done or use.full_age_h is None else use.full_age_h + hours
        use = replace(use, full_h=full_h, full_age_h=age_h)
    return replace(
        use,
        day_kwh=use.day_kwh + kwh,
        year_kwh=use.year_kwh + kwh,
        year_h=use.year_h + hours,
        year_soc_h=use.year_soc_h + soc * hours,
    )


def of_today(uses: Mapping[str, BessUse], last: datetime, at: datetime, zone: ZoneInfo) -> dict[str, BessUse]:
    """Uses without what belongs to a local day or year that is over."""
    then, now = local_time(last, zone), local_time(at, zone)
    out = dict(uses)
    for b, use in uses.items():
        if then.year != now.year:
            out[b] = replace(use, day_kwh=0.0, year_kwh=0.0, year_h=0.0, year_soc_h=0.0)
        elif then.date() != now.date():
            out[b] = replace(use, day_kwh=0.0)
    return out
