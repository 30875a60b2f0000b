"""From a few numbers to a scenario: loads, sun and mains as constants, functions of time or series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.outage import OutageNotice
from ems.series import UniformSeries
from ems.site import Site
from sim.faults import Entry, Fault
from sim.scenario import MainsEvent, Scenario

Power = float | Callable[[float], float] | UniformSeries  # [kW], or kW at seconds after the start


@dataclass(frozen=True, slots=True)
class Excursion:
    """Mains whose voltage or frequency leaves its band in [from_s, until_s); the rest is as without it.

    Parameters
    ----------
    relay : whether the plant's own relay opens the POI breaker on it; a relay set wider or slower does not.
    """

    from_s: float
    until_s: float
    v_pu: float | None = None
    f_hz: float | None = None
    relay: bool = True


Mains = Sequence[
    tuple[float, float] | tuple[float, float, float] | Excursion
]  # from, until [s], voltage [pu]; without one they are gone
MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LOAD_SHARE = 0.3  # of its peak, for a feeder whose load is not given
COARSE_S = 900.0
BEFORE_S = 2 * 86400.0  # history for forecasters, and as much beyond the end for horizons


def rig_scenario(  # noqa: PLR0913  everything a scenario is made of
    site: Site,
    *,
    load_kw: Mapping[str, Power],
    pv_kw: Mapping[str, Power] | Power,
    mains: Mains,
    faults: Sequence[tuple[Fault, Entry]],
    start: datetime,
    horizon_s: float,
    notices: tuple[OutageNotice, ...] = (),
    seed: int = 0,
) -> Scenario:
    """A scenario of `horizon_s` seconds, with every fault in it that belongs there."""
    sun = pv_kw if isinstance(pv_kw, Mapping) else {p.id: pv_kw for p in site.pv}
    loads = {f.id: load_kw.get(f.id, LOAD_SHARE * f.p_peak_kw) for f in site.feeders}
    scenario = Scenario(
        name="rig",
        site=site,
        start=start,
        end=start + timedelta(seconds=horizon_s),
        load_kw={f: _series(v, start, horizon_s) for f, v in loads.items()},
        pv_kw={p.id: _series(sun.get(p.id, 0.0), start, horizon_s) for p in site.pv},
        mains=tuple(_event(m, start, horizon_s) for m in mains),
        notices=notices,
        seed=seed,
        labels={},
    )
    for fault, entry in faults:
        if entry.shape is not None:
            scenario = entry.shape(fault, scenario)
    return scenario


def _series(power: Power, start: datetime, horizon_s: float) -> UniformSeries:
    """Constants are known long before and after the run; functions are sampled each second of it."""
    if isinstance(power, UniformSeries):
        return power
    if callable(power):
        at = power
        values = np.asarray([max(0.0, at(float(t))) for t in range(round(horizon_s))], dtype=np.float64)
        return UniformSeries(start=start, step_s=1.0, values=values)
    n = round((2.0 * BEFORE_S + horizon_s) / COARSE_S) + 1
    return UniformSeries(
        start=start - timedelta(seconds=BEFORE_S), step_s=COARSE_S, values=np.full(n, float(power))
    )


def _event(window: "tuple[float, ...] | Excursion", start: datetime, horizon_s: float) -> MainsEvent:
    if not isinstance(window, Excursion):
        window = Excursion(window[0], window[1], v_pu=window[2] if len(window) > 2 else 0.0)
    return MainsEvent(
        id=f"mains-{window.from_s:g}",
        start=start + timedelta(seconds=window.from_s),
        end=start + timedelta(seconds=min(window.until_s, horizon_s)),
        announced=False,
        v_pu=window.v_pu,
        f_hz=window.f_hz,
        relay=window.relay,
    )


def told_beside(site: Site) -> dict[str, float]:
    """What devices tell that the world knows nothing of: selectors in remote, all phases there."""
    points = [m.point for c in site.connections for m in c.points]
    phases = {f"{site.grid.id}.v{n}_pu" for n in (1, 2, 3)}
    return {p: 1.0 for p in points if p.endswith(".remote") or p in phases}
