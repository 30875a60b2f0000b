"""N-1 as it is now: for each loss that may come, whether what stays on line covers it.

Sources are counted once, and only for what they can give in the first instant: a battery by its live limit
and by the energy that must last until a genset has come, a running genset up to its rating and by no more
than the step it survives, and one that is not heard by nothing. The source that is lost covers nothing. Who
forms the island alone cannot be lost at all unless another source on line can form.

A loss that the site's reserve policy names is required: what is missing for it counts as reserve that is
short. So is what a genset that is not heard gives away by itself, unless the site file says that it holds it.
All others are shown.
"""

from collections.abc import Iterator, Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balance import charge_room_kw, usable_kwh
from dispatch.protections.silent_sets import silent_span_kw
from dispatch.vocabulary import Contingency
from ems.points import BessState
from ems.site import GridMode

SMALL_KW = 1.0  # a smaller loss is none
ROOM_S = 10.0  # room to charge must last so long; the edge has curtailed PV by then


def contingencies(
    layout: Layout, observed: Observed, import_room_kw: float, hold_s: float
) -> tuple[Contingency, ...]:
    """Every loss that could come now, as covered or short.

    Parameters
    ----------
    import_room_kw : what the grid may still give under its cap; 0 in an island [kW].
    hold_s : how long stored energy must carry until help has come [s].
    """
    if observed.condition.grid_mode not in (GridMode.GRID_TIED, GridMode.ISLANDED):
        return ()
    rooms = _rooms(layout, observed, hold_s)
    tied = observed.condition.grid_mode is GridMode.GRID_TIED
    return tuple(
        _judged(name, kind, lost_kw, rooms, import_room_kw, required, alone)
        for name, kind, lost_kw, required, alone in _losses(layout, observed, tied)
    ) + _load_trip(layout, observed)


def _rooms(layout: Layout, observed: Observed, hold_s: float) -> dict[str, float]:
    """What each source on line can give beyond what it gives now [kW]."""
    c, out = observed.condition, {}
    for b, params in layout.bess.items():
        if c.bess[b].available:
            by_energy_kw = usable_kwh(params.battery, c.bess[b], params.battery.soc_min) * 3600.0 / hold_s
            most_kw = min(c.bess[b].p_discharge_kw_max, by_energy_kw)
            out[b] = max(0.0, most_kw - c.bess[b].p_kw)
    for g, p in layout.gensets.items():
        if c.gensets[g].carries:
            out[g] = max(0.0, min(p.p_rated_kw - c.gensets[g].p_kw, p.step_load_kw_max))
    return out


def _losses(layout: Layout, observed: Observed, tied: bool) -> Iterator[tuple[str, str, float, bool, bool]]:
    """(what is lost, kind, kW missing then, whether policy asks for it, whether nobody else forms)."""
    c, policy = observed.condition, layout.site.reserve
    asked = policy.n_minus_1_tied if tied else policy.n_minus_1
    heard = [g for g, x in c.gensets.items() if x.carries]
    formers = [b for b, p in layout.bess.items() if p.pcs.can_form and c.bess[b].available]
    forming = {b for b, s in observed.bess_state.items() if s is BessState.FORMING}
    for g, set_ in c.gensets.items():
        if not set_.on_load:
            continue
        alone = not tied and not formers and not any(h != g for h in heard)
        lost_kw = max(0.0, set_.p_kw)
        yield g, "genset", lost_kw, "genset" in asked, alone
        if not set_.heard:  # what it gives away by itself is as good as lost
            away_kw = lost_kw - silent_span_kw(layout, g, lost_kw)[0]
            if away_kw > SMALL_KW:
                yield f"the load of {g}, which is not heard,", "silence", away_kw, True, False
    for b, x in c.bess.items():
        if x.available or b in forming:
            alone = not tied and b in forming and not heard and formers in ([], [b])
            yield b, "bess", max(0.0, x.p_kw), "bess" in asked, alone
    pv_kw = max(0.0, sum(c.pv_kw.values()))
    drop = policy.pv_drop_ratio if policy.pv_drop_ratio > 0.0 else policy.pv_ratio
    yield "a cloud", "pv_drop", drop * pv_kw, policy.pv_drop_ratio > 0.0, False
    for p, kw in c.pv_kw.items():
        yield p, "pv", max(0.0, kw), "pv" in asked, False
    if not tied and policy.motor_start_kw > 0.0:
        yield "a motor start", "motor_start", policy.motor_start_kw, True, False


def _judged(
    name: str,
    kind: str,
    lost_kw: float,
    rooms: Mapping[str, float],
    import_room_kw: float,
    required: bool,
    alone: bool,
) -> Contingency:
    by = tuple(s for s, kw in rooms.items() if s != name and kw > 0.0)
    held_kw = 0.0 if alone else sum(rooms[s] for s in by) + import_room_kw
    missing_kw = 0.0 if lost_kw <= SMALL_KW and not alone else max(0.0, lost_kw - held_kw)
    return Contingency(
        name=name, kind=kind, lost_kw=lost_kw, held_kw=held_kw, short_kw=missing_kw, required=required, by=by
    )


def _load_trip(layout: Layout, observed: Observed) -> tuple[Contingency, ...]:
    """Islanded: the largest load that may trip, against what batteries can take and gensets can give up."""
    c, policy = observed.condition, layout.site.reserve
    if c.grid_mode is not GridMode.ISLANDED:
        return ()
    feeder_kw = {f: kw for f, kw in c.feeder_kw.items() if c.feeder_closed[f]}
    largest_kw = max(feeder_kw.values(), default=0.0)
    lost_kw = max(policy.load_trip_kw, largest_kw)
    rooms = {}
    for b, params in layout.bess.items():
        if c.bess[b].available:
            charge_kw = charge_room_kw(params.battery, c.bess[b], params.battery.soc_max, ROOM_S)
            rooms[b] = max(0.0, charge_kw + c.bess[b].p_kw)
    rooms |= {g: max(0.0, x.p_kw) for g, x in c.gensets.items() if x.carries}  # down to no load, at once
    held_kw = sum(rooms.values())
    short_kw = max(0.0, lost_kw - held_kw) if lost_kw > SMALL_KW else 0.0
    trip = Contingency(
        name="the largest load",
        kind="load_trip",
        lost_kw=lost_kw,
        held_kw=held_kw,
        short_kw=short_kw,
        required=policy.load_trip_kw > 0.0,
        by=tuple(s for s, kw in rooms.items() if kw > 0.0),
    )
    return (trip,)
