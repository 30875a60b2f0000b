"""What forces gensets on and off: feeders that wait are no reason right after a stop for want of load."""

from dataclasses import fields
from typing import Any

import pytest

from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import observe
from dispatch.protections.bus import Bus
from dispatch.protections.emergency import SURPLUS_REST_S, _still_needed, _without_waiting
from dispatch.protections.inrush import NO_INRUSH
from dispatch.state import ObserverMemory, ProtectionMemory
from dispatch.vocabulary import Target
from ems.commands import Cause
from ems.frozen import replace
from ems.site import GridMode
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY
from tests import builders
from tests.unit.dispatch.plans import plan_of
from tests.unit.dispatch.test_condition import snapshot


def bus_of(**changes: Any) -> Bus:
    known: dict[str, Any] = {"told": True, "unheard": (), "inrush": NO_INRUSH}
    return Bus(**({f.name: 0.0 for f in fields(Bus)} | known | changes))


@pytest.mark.parametrize(
    ("stopped", "now_s", "waits"),
    [
        (None, 10.0, 90.0),
        ((GridMode.ISLANDED, 10.0), 10.0, 0.0),
        ((GridMode.ISLANDED, 10.0), 9.0 + SURPLUS_REST_S, 0.0),
        ((GridMode.ISLANDED, 10.0), 10.0 + SURPLUS_REST_S, 90.0),
        ((GridMode.GRID_TIED, 10.0), 11.0, 90.0),  # other sources carry the bus since
    ],
)
def test_waiting_feeders_fetch_no_set_that_has_just_gone_for_want_of_load(
    stopped: tuple[GridMode, float] | None, now_s: float, waits: float
):
    bus = bus_of(mode=GridMode.ISLANDED, waiting_kw=90.0, load_kw=40.0)
    left = _without_waiting(bus, ProtectionMemory(surplus_stop=stopped), now_s)
    assert (left.waiting_kw, left.load_kw) == (waits, 40.0)


_, OBSERVED = observe(layout_of(builders.site()), ObserverMemory(), snapshot(builders.T0, 0.0), {}, 1.0)


def two_sets(load_kw: float, up_kw: float, mode: GridMode = GridMode.ISLANDED) -> tuple[Layout, Bus]:
    """Two gensets of 200 kW on load beside a forming battery with energy enough."""
    site = builders.site()
    sets = tuple(replace(g, p_rated_kw=200.0, step_load_kw_max=100.0) for g in site.gensets)
    bus = bus_of(
        mode=mode, forming_bess=("bess1",), following_bess=(), running=("gen1", "gen2"),
        load_kw=load_kw, up_kw=up_kw, stored_kwh=500.0, genset_rated_kw=400.0, lost_pv_kw={},
    )  # fmt: skip
    return layout_of(replace(site, gensets=sets)), bus


@pytest.mark.parametrize(
    ("load_kw", "up_kw", "kept"),
    [
        (360.0, 150.0, {"gen1", "gen2"}),  # neither may go
        (180.0, 150.0, {"gen1"}),  # either may go, but not both
        (100.0, 150.0, set()),
    ],
)
def test_as_many_sets_are_kept_as_the_load_needs(load_kw: float, up_kw: float, kept: set[str]):
    layout, bus = two_sets(load_kw, up_kw)
    stop = {g: Target(value=0.0, cause=Cause.PLAN, reason="planned") for g in bus.running}
    assert set(_still_needed(layout, OBSERVED, bus, stop, ())) == kept


def test_a_set_that_is_kept_already_stays_in_the_reckoning():
    layout, bus = two_sets(180.0, 150.0)
    stop = {g: Target(value=0.0, cause=Cause.PLAN, reason="planned") for g in bus.running}
    assert _still_needed(layout, OBSERVED, bus, stop, ("gen2",)) == ()


def test_a_plan_that_foresaw_too_little_load_stops_no_set_the_load_needs():
    site = builders.site()
    points, bess = site.authority.setpoints, site.bess[0]
    narrow = {"bess1.p_set_kw": (-150.0, 150.0), "gen1.p_set_kw": (None, 200.0)}
    own = {
        p: replace(points[p], low=points[p].low if low is None else low, high=high)
        for p, (low, high) in narrow.items()
    }
    small = replace(
        bess,
        pcs=replace(bess.pcs, s_kva=200.0),
        battery=replace(bess.battery, p_charge_kw_max=150.0, p_discharge_kw_max=150.0),
    )
    gen1 = replace(site.gensets[0], p_rated_kw=200.0, step_load_kw_max=120.0)
    site = replace(
        site,
        gensets=tuple(replace(g, min_up_s=60.0, p_min_kw=40.0) for g in (gen1, site.gensets[1])),
        bess=(small,),
        authority=replace(site.authority, setpoints={**points, **own}),
    )
    options = RigOptions(
        start=MONDAY, islanded_by="bess1", gensets_on_kw={"gen1": 150.0, "gen2": 150.0}, soc=0.6,
        horizon_s=300.0, judge=True,
    )  # fmt: skip
    load_kw = {"critical": 110.0, "essential": 150.0, "deferrable": 100.0}
    rig = Rig(site, load_kw=load_kw, mains=[(0.0, 7200.0)], controller="plan", options=options)
    plan = plan_of(site, bess_kw=[100.0] * 8, load_kw=100.0, modes=[GridMode.ISLANDED] * 8, start=MONDAY)
    rig.at(100.0, lambda r: r.publish(plan))
    rig.run(140.0, judge=False)
    assert rig.log[-1].decisions.plan_id == plan.plan_id
    assert {g: rig.log[-1].held[f"{g}.run_request"] for g in ("gen1", "gen2")} == {"gen1": 1.0, "gen2": 1.0}
    assert rig.unserved_kwh() == 0.0
    assert not rig.violations
