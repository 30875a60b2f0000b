"""The back-up matrix: the mains fail and no battery can form, so that gensets have to carry the site."""

import math

from ems.assets import GensetParams
from ems.site import GridMode, Site
from sim.commissioning.base import WARM_S, Posed, Trial, in_mode, loads
from sim.faults import Fault
from sim.rig import Rig, Row

ASK_S = 5.0  # the 3 s after which a dead bus is believed, and 2 s
SERVE_SLACK_S = 30.0
BACK_SLACK_S = 60.0
LATE_S = 30.0  # a set that has not come on load so long after its due time is given up


def _start_s(genset: GensetParams) -> float:
    return genset.crank_s + genset.warm_up_s + genset.synchronise_s


def _critical_kw(site: Site) -> float:
    """A load that the smallest set carries [kW]."""
    return 0.6 * min(g.p_rated_kw for g in site.gensets)


def _no_battery(site: Site) -> tuple[Fault, ...]:
    return tuple(Fault(kind="bess_contactor_open", target=b.id) for b in site.bess)


def _asked(site: Site, row: Row) -> bool:
    return any(row.held.get(f"{g.id}.run_request") for g in site.gensets)


def _served(row: Row) -> bool:
    return sum(row.flows.feeder_p_kw.values()) > 0.0 and row.flows.forming is not None


def _start(site: Site) -> Posed | str:
    if not site.gensets:
        return "no genset"
    load_kw, due_s = _critical_kw(site), max(_start_s(g) for g in site.gensets) + ASK_S + SERVE_SLACK_S

    def judge(rig: Rig) -> tuple[str, bool]:
        asked_s = rig.after(WARM_S, lambda r: _asked(site, r))
        dead = rig.after(WARM_S, lambda r: r.flows.forming is None)
        served_s = rig.after(WARM_S + dead, _served) + dead if dead < math.inf else math.inf
        text = f"asked after {asked_s:.0f} s, load served again after {served_s:.0f} s"
        return text, asked_s <= ASK_S and served_s <= due_s

    return Posed(
        start=f"on the grid, load {load_kw:.0f} kW, contactors of all batteries open",
        injection="the mains fail",
        threshold=f"a genset asked for within {ASK_S:.0f} s; load served within {due_s:.0f} s",
        judge=judge,
        until_s=WARM_S + due_s + 60.0,
        load_kw=dict(loads(site, load_kw)),
        mains=[(WARM_S, math.inf)],
        faults=_no_battery(site),
    )


def _next_in_line(site: Site) -> Posed | str:
    if len(site.gensets) < 2:
        return "no second genset"
    load_kw, smallest = _critical_kw(site), min(site.gensets, key=lambda g: g.p_rated_kw).id
    due_s = ASK_S + sum(_start_s(g) for g in site.gensets) + 3.0 * LATE_S * len(site.gensets)

    def judge(rig: Rig) -> tuple[str, bool]:
        first = next(
            (g.id for r in rig.rows(WARM_S) for g in site.gensets if r.held.get(f"{g.id}.run_request")), ""
        )
        dead = rig.after(WARM_S, lambda r: r.flows.forming is None)
        served_s = rig.after(WARM_S + dead, _served) + dead if dead < math.inf else math.inf
        by = next((r.flows.forming for r in rig.rows(WARM_S + dead) if _served(r)), None)
        text = f"{first or 'no set'} asked first, served by {by} after {served_s:.0f} s"
        return text, by not in (None, smallest) and served_s <= due_s

    return Posed(
        start=f"on the grid, load {load_kw:.0f} kW, contactors of all batteries open",
        injection=f"the mains fail and {smallest} does not start",
        threshold=f"load served by another set within {due_s:.0f} s",
        judge=judge,
        until_s=WARM_S + due_s + 60.0,
        load_kw=dict(loads(site, load_kw)),
        mains=[(WARM_S, math.inf)],
        faults=(*_no_battery(site), Fault(kind="genset_start_fails", target=smallest)),
    )


def _mains_back(site: Site) -> Posed | str:
    if not site.gensets:
        return "no genset"
    load_kw, back_s = _critical_kw(site), WARM_S + 300.0
    dwell_s = site.grid.reconnect_dwell_s

    def judge(rig: Rig) -> tuple[str, bool]:
        closed_s = rig.after(back_s, lambda r: r.flows.grid_closed)
        tied_s = rig.after(back_s, in_mode(GridMode.GRID_TIED))
        text = f"closed after {closed_s:.0f} s, known after {tied_s:.0f} s"
        return text, dwell_s - 1.0 <= closed_s <= dwell_s + BACK_SLACK_S and tied_s <= closed_s + 3.0

    return Posed(
        start=f"gensets carry {load_kw:.0f} kW, contactors of all batteries open",
        injection="the mains come back",
        threshold=f"closed {dwell_s:.0f} to {dwell_s + BACK_SLACK_S:.0f} s later and known 3 s after",
        judge=judge,
        until_s=back_s + dwell_s + 180.0,
        load_kw=dict(loads(site, load_kw)),
        mains=[(WARM_S, back_s)],
        faults=_no_battery(site),
    )


T4 = "IEEE 2030.7 transition T4 (black start); IEEE 2030.8 transition tests"
T3 = "IEEE 2030.7 transition T3 (reconnection); IEEE 2030.8 transition tests"
TRIALS = (
    Trial(id="genset-start", matrix="back-up", clause=T4, pose=_start),
    Trial(id="next-in-line", matrix="back-up", clause=T4, pose=_next_in_line),
    Trial(id="mains-return-gensets", matrix="back-up", clause=T3, pose=_mains_back),
)
