"""PV whose limit cannot be relied on: its device is silent, takes no writes, or does not obey them.

Such a plant may fall back to all the sun gives at any moment. It is reckoned with its whole rating from then
on, and what it gives now, where its own meter is silent too, is what the other meters leave over. One that is
merely silent does what the site file says of its silence: it is reckoned with the most that it was told since
it last confirmed, or with the value that it goes to, whichever is more.
"""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.observing.sun import dark
from dispatch.state import Written
from dispatch.vocabulary import Alarm
from ems.condition import UnitState
from ems.frozen import replace
from ems.points import TRIP_REQUEST
from ems.silence import silent_value
from ems.site import GridMode
from ems.telemetry import Snapshot, UtcState

SILENT_S = 3.0  # readings older than that are none
SILENT_CYCLES = 2.5  # ... unless cycles or polls are longer
UNSURE_S = 3.0  # writes without a known outcome for so long
GIVES_RATIO = 0.02  # of its rating: less is noise, and a plant behind an open breaker gives no more
DEAF = frozenset((UnitState.FROZEN, UnitState.NOT_EFFECTIVE))  # it does not do as it was told
LOST = frozenset((UnitState.OFFLINE, *DEAF))


def unsure_since(
    layout: Layout, before: Mapping[str, float], written: Mapping[str, Written], now_s: float
) -> dict[str, float]:
    """Since when it has not been known what became of the writes to each plant's limit [s]."""
    out = {}
    for p in layout.pv:
        last = written.get(layout.setpoint_of.get((p, "p_limit_kw"), ""))
        if last is not None and not last.known:
            out[p] = before.get(p, now_s)
    return out


def told_most_kw(
    layout: Layout, before: Mapping[str, float], written: Mapping[str, Written]
) -> dict[str, float]:
    """Highest limit each plant may stand at: what it confirmed, or was told since without an answer [kW].

    Plants that have confirmed none are not named.

    Parameters
    ----------
    before : the same at the last tick.
    """
    out = {}
    for p in layout.pv:
        last = written.get(layout.setpoint_of.get((p, "p_limit_kw"), ""))
        if last is not None and (last.known or p in before):
            out[p] = last.value if last.known else max(before[p], last.value)
    return out


def with_lost(
    layout: Layout,
    unsure_s: Mapping[str, float],
    told_kw: Mapping[str, float],
    written: Mapping[str, Written],
    snapshot: Snapshot,
    observed: Observed,
    dt_s: float,
) -> Observed:
    """The observation with the plants whose limit is lost, and with what they give now as far as is known.

    Parameters
    ----------
    unsure_s : since when writes have been without a known outcome, by plant [s, edge monotonic].
    told_kw : highest limit each plant may stand at.
    written : what was written until now: a plant whose breaker was opened gives nothing.
    """
    silent = {p for p in layout.pv if _silent(layout, snapshot, p, dt_s)}
    now_s, states = snapshot.monotonic_s, observed.condition.pv_states
    lost = {
        p
        for p in layout.pv
        if p in silent
        or not LOST.isdisjoint(states.get(p, ()))
        or now_s - unsure_s.get(p, now_s) >= max(UNSURE_S, SILENT_CYCLES * dt_s)
    }
    if not lost:
        return observed
    site = layout.site
    night = snapshot.utc is UtcState.VALID and dark(snapshot.at, site.latitude_deg, site.longitude_deg)
    deaf = {p for p in lost if not DEAF.isdisjoint(states.get(p, ()))}
    by_itself = {p: told_kw.get(p) if p in silent - deaf else None for p in lost}
    observed = _estimated(layout, observed, [p for p in layout.pv if p in silent])
    off = {p for p in lost if night or opened(layout, p, written, observed.condition.pv_kw[p])}
    most_kw = {p: 0.0 if p in off else _most_kw(layout, p, by_itself[p]) for p in layout.pv if p in lost}
    return replace(observed, pv_uncapped_kw=most_kw)


def opened(layout: Layout, pv: str, written: Mapping[str, Written], p_kw: float) -> bool:
    """Whether a plant's breaker was told to open, its device said so, and the plant gives nothing [kW]."""
    last = written.get(layout.setpoint_of.get((pv, TRIP_REQUEST), ""))
    told = last is not None and last.known and last.value >= 0.5
    return told and p_kw <= GIVES_RATIO * layout.pv[pv].p_ac_kw


def _most_kw(layout: Layout, pv: str, told_kw: float | None) -> float:
    """The most a plant may give: its rating, or what its silence leaves it where its limit was `told_kw`."""
    rated_kw = layout.pv[pv].p_ac_kw
    authority = layout.setpoints.get(layout.setpoint_of.get((pv, "p_limit_kw"), ""))
    if told_kw is None or authority is None:
        return rated_kw
    value_kw = silent_value(authority)
    return min(rated_kw, told_kw if value_kw is None else max(told_kw, value_kw))


def _silent(layout: Layout, snapshot: Snapshot, pv: str, dt_s: float) -> bool:
    """Whether none of what was read of it is fresh. What has never been read is not waited for."""
    readings = [snapshot.readings[p] for p in layout.reads[pv] if p in snapshot.readings]
    limit_s = max(SILENT_S, SILENT_CYCLES * max(dt_s, layout.poll_s.get(pv, 0.0)))
    fresh = (r.is_good and snapshot.monotonic_s - r.arrived_s <= limit_s for r in readings)
    return bool(readings) and not any(fresh)


def _estimated(layout: Layout, observed: Observed, silent: list[str]) -> Observed:
    """What silent plants give is what feeders draw and nobody else gives; else as last read."""
    c, power = observed.condition, observed.power
    bus_alive = c.grid_mode in (GridMode.GRID_TIED, GridMode.ISLANDED)
    needed = {layout.p[a] for a in (*layout.feeders, *layout.gensets, *layout.bess, *layout.pv)}
    needed |= {layout.p[layout.site.grid.id]} if c.grid_mode is GridMode.GRID_TIED else set()
    needed -= {layout.p[p] for p in silent}
    if not silent or not bus_alive or not needed.isdisjoint(observed.substituted):
        return observed
    aux_kw = sum(b.battery.aux_kw for b in layout.bess.values())
    drawn_kw = sum(c.feeder_kw.values()) + aux_kw
    others_kw = sum(kw for p, kw in c.pv_kw.items() if p not in silent)
    left_kw = drawn_kw - power.grid_kw - power.genset_kw - power.bess_kw - others_kw
    rated_kw = sum(layout.pv[p].p_ac_kw for p in silent)
    share = min(1.0, max(0.0, left_kw / rated_kw)) if rated_kw > 0.0 else 0.0
    pv_kw = {p: share * layout.pv[p].p_ac_kw if p in silent else kw for p, kw in c.pv_kw.items()}
    given_kw = sum(pv_kw.values())
    load_kw = power.grid_kw + power.genset_kw + power.bess_kw + given_kw
    return replace(
        observed,
        condition=replace(c, pv_kw=pv_kw),
        power=replace(power, pv_kw=given_kw, load_kw=load_kw, measured=False),
    )


def pv_alarms(observed: Observed) -> tuple[Alarm, ...]:
    """Plants that are reckoned with their whole rating."""
    return tuple(
        Alarm(
            code="pv.limit.lost",
            asset=p,
            text=f"the limit of {p} cannot be relied on: it is reckoned with {kw:.0f} kW, others make room",
        )
        for p, kw in observed.pv_uncapped_kw.items()
    )
