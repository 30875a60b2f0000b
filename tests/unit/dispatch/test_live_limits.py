"""Live limits of a genset's controller and of a converter: obeyed at once, reckoned with, planned with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.authority.layers import live_bound
from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import Observed, observe
from dispatch.observing.live_limits import with_live_limits
from dispatch.protections.reserve import reserve_now
from dispatch.state import ObserverMemory
from dispatch.supervision.invariants_now import Cycle, InvariantsNow
from ems.assets import GensetParams, LowLoad, Rating
from ems.condition import UnitState
from ems.derating import LEAST_RATIO, limited_set
from ems.errors import InvariantBroken
from ems.points import GensetState
from ems.site import GridMode, PointMap, Site
from ems.site_schema import load_site
from sim.oracles.writes import Limits
from sim.rig import Rig, RigOptions
from tests import builders
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_invariants_now import command

DEMO = Path(__file__).resolve().parents[3] / "sites" / "demo" / "site.yaml"
LOAD = {"critical": 180.0, "essential": 330.0, "deferrable": 150.0}
AT_S = 300.0
MOST_KW, PCS_KW = 200.0, 60.0
OUT = [(30.0, 3600.0)]


def like(one: PointMap, point: str, address: str) -> PointMap:
    return replace(one, point=point, address=address)


@pytest.fixture
def mapped() -> Site:
    """The demo whose genset controller and converter tell a live limit."""
    demo, out = load_site(DEMO), []
    for c in demo.connections:
        power = {p.point: p for p in c.points}
        more = []
        if "gen1.p_kw" in power:
            more.append(like(power["gen1.p_kw"], "gen1.p_kw_max", "900"))
        if "bess1.p_kw" in power:
            more.append(like(power["bess1.p_kw"], "bess1.p_pcs_kw_max", "902"))
        out.append(replace(c, points=(*c.points, *more)))
    assert sum(len(c.points) for c in out) == sum(len(c.points) for c in demo.connections) + 2
    return replace(demo, connections=tuple(out))


def on_gensets(site: Site) -> Rig:
    """An island whose battery is nearly empty: the set carries what it can."""
    return Rig(site, load_kw=LOAD, pv_kw=0.0, mains=OUT, options=RigOptions(soc=0.18))


# --- on the rig, every oracle on --------------------------------------------------------------------------


def test_derated_set_is_asked_for_no_more_from_the_next_cycle_on(mapped: Site):
    rig = on_gensets(mapped).at(AT_S, lambda r: r.tell("gen1.p_kw_max", MOST_KW)).run(AT_S + 120.0)
    assert rig.held(lambda r: r.decisions.condition.gensets["gen1"].on_load, AT_S - 30.0)
    assert max(r.held["gen1.p_set_kw"] for r in rig.rows(AT_S - 30.0, AT_S)) > MOST_KW + 50.0
    after = list(rig.rows(AT_S))
    assert max(r.held["gen1.p_set_kw"] for r in after) <= MOST_KW
    assert all(UnitState.DERATED in r.decisions.condition.gensets["gen1"].states for r in after)
    assert all(r.decisions.condition.gensets["gen1"].available for r in after)
    assert (
        max(r.flows.genset_p_kw["gen1"] for r in after) <= MOST_KW + 5.0
    )  # it forms: by the battery's share


def test_limit_that_is_not_read_any_more_holds_as_it_was_told(mapped: Site):
    rig = on_gensets(mapped).at(AT_S, lambda r: r.tell("gen1.p_kw_max", MOST_KW))
    rig.at(AT_S + 30.0, lambda r: r.tell("gen1.p_kw_max", None)).run(AT_S + 90.0)
    assert rig.held(lambda r: r.held["gen1.p_set_kw"] <= MOST_KW, AT_S)
    rig.at(AT_S + 90.0, lambda r: r.tell_truth("gen1.p_kw_max")).run(AT_S + 180.0)
    assert max(r.held["gen1.p_set_kw"] for r in rig.rows(AT_S + 100.0)) > MOST_KW + 50.0


@pytest.mark.parametrize("pv_kw", [0.0, 700.0], ids=["discharging", "charging"])
def test_converter_s_own_limit_narrows_what_its_battery_allows(mapped: Site, pv_kw: float):
    load = LOAD if pv_kw == 0.0 else {"critical": 40.0, "essential": 0.0, "deferrable": 0.0}
    rig = Rig(mapped, load_kw=load, pv_kw=pv_kw, options=RigOptions(soc=0.6))
    rig.at(AT_S, lambda r: r.tell("bess1.p_pcs_kw_max", PCS_KW)).run(AT_S + 60.0)
    assert max(abs(r.held["bess1.p_set_kw"]) for r in rig.rows(AT_S - 30.0, AT_S)) > PCS_KW + 30.0
    assert rig.held(lambda r: abs(r.held["bess1.p_set_kw"]) <= PCS_KW, AT_S)
    assert UnitState.DERATED in rig.last.decisions.condition.bess["bess1"].states
    assert not rig.runtime.state.held_safe


# --- who watches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "value"),
    [("gen1.p_set_kw", MOST_KW + 1.0), ("bess1.p_set_kw", PCS_KW + 1.0), ("bess1.p_set_kw", -PCS_KW - 1.0)],
)
def test_write_beyond_a_live_limit_is_found_by_the_edge_and_by_the_oracle(
    mapped: Site, point: str, value: float
):
    rig = on_gensets(mapped)
    rig.at(5.0, lambda r: r.tell("gen1.p_kw_max", MOST_KW))
    rig.at(5.0, lambda r: r.tell("bess1.p_pcs_kw_max", PCS_KW)).run(20.0)
    row, state = rig.last, rig.runtime.state
    decided = replace(row.decisions, commands=(command(point, value),))
    cycle = Cycle(snapshot=row.snapshot, before=state, after=state, dt_s=1.0, decisions=decided)
    with pytest.raises(InvariantBroken, match=f"I1: {point}"):
        InvariantsNow(rig.runtime.setup.layout, shadow=False).decided(cycle)
    low, high = Limits(mapped).of(point, row.snapshot.readings, row.snapshot.monotonic_s)
    assert not low <= value <= high
    assert low <= (value - 1.0 if value > 0.0 else value + 1.0) <= high


# --- what is reckoned with --------------------------------------------------------------------------------

RUNNING = float(list(GensetState).index(GensetState.RUNNING))
ISLAND = {"grid1.breaker_closed": 0.0, "grid1.v_pu": 0.0, "gen1.state": RUNNING, "gen1.p_kw": 100.0}


def telling() -> Layout:
    """The small plant, without connections, as one whose limits are mapped."""
    return replace(layout_of(builders.site()), live_limits=("gen1.p_kw_max", "bess1.p_pcs_kw_max"))


def seen(**told: float | None) -> tuple[Layout, Observed]:
    """After a cycle in which nothing was limited, and one with these limits."""
    layout, memory = telling(), ObserverMemory(mode=GridMode.ISLANDED)
    before = snapshot(builders.T0, 0.0, **{**ISLAND, "gen1.p_kw_max": 400.0, "bess1.p_pcs_kw_max": 550.0})
    memory, _ = observe(layout, memory, before, {}, 1.0)
    now = snapshot(builders.T0, 1.0, **{**ISLAND, **{k.replace("__", "."): v for k, v in told.items()}})
    layout = with_live_limits(layout, memory.last_good, now)
    return layout, observe(layout, memory, now, {}, 1.0)[1]


def test_reserve_counts_what_a_derated_set_may_still_give():
    whole, less = seen(gen1__p_kw_max=400.0), seen(gen1__p_kw_max=250.0)
    assert reserve_now(*whole).held_kw - reserve_now(*less).held_kw == pytest.approx(150.0)


def test_limit_below_zero_is_no_order_to_draw_power():
    layout, observed = seen(gen1__p_kw_max=-50.0)
    bound = live_bound(layout, observed.condition, "gen1.p_set_kw")
    assert bound is not None
    assert (bound.low, bound.high, bound.layer) == (0.0, 0.0, "derating")


def test_limit_above_the_rating_widens_nothing():
    layout, observed = seen(gen1__p_kw_max=900.0, bess1__p_pcs_kw_max=2000.0)
    assert layout.gensets["gen1"].p_rated_kw == 400.0
    bound = live_bound(layout, observed.condition, "gen1.p_set_kw")
    assert bound is not None
    assert (bound.high, bound.layer) == (400.0, "rating")
    assert observed.condition.bess["bess1"].p_discharge_kw_max <= 500.0


def test_limit_of_the_bms_that_is_not_read_is_not_replaced_by_the_converter_s():
    _, observed = seen(bess1__p_discharge_kw_max=None, bess1__p_pcs_kw_max=300.0)
    assert observed.condition.bess["bess1"].p_discharge_kw_max == 0.0


@given(most_kw=st.floats(-1e3, 1e3))
def test_limited_set_is_a_set_of_that_rating(most_kw: float):
    """Least load, step and fuel curve lie inside its rating, as those of any other set."""
    whole = builders.genset()
    one = limited_set(whole, most_kw)
    assert one.p_rated_kw == pytest.approx(min(400.0, max(most_kw, 400.0 * LEAST_RATIO)))
    assert 0.0 <= one.p_min_kw <= one.p_rated_kw
    assert one.step_load_kw_max <= one.p_rated_kw
    if most_kw > whole.fuel_kw[0]:
        assert one.fuel_kw[-1] == pytest.approx(one.p_rated_kw)
        assert list(one.fuel_kw) == sorted(one.fuel_kw)
        assert len(one.fuel_kw) == len(one.fuel_l_h)
    assert (one is whole) == (most_kw >= 400.0)


@pytest.mark.parametrize("first_kw", [0.0, 110.0, 200.0])
@given(share=st.floats(-1e-7, 1e-7))
def test_limit_at_a_point_of_the_fuel_curve_is_one_as_well(first_kw: float, share: float):
    """Story: 110.00000000000001 kW of a set whose curve begins at 110 kW ended the planner for good."""
    whole = replace(builders.genset(), fuel_kw=(first_kw, 250.0, 400.0), fuel_l_h=(40.0, 70.0, 110.0))
    one = limited_set(whole, 110.0 * (1.0 + share))
    assert one.fuel_kw[-1] == pytest.approx(110.0, abs=1e-4)
    assert list(one.fuel_kw) == sorted(one.fuel_kw)
    assert min(one.fuel_l_h) >= 0.0
    assert one.fuel_l_h[-1] == pytest.approx(max(0.0, np.interp(110.0, *_through(whole))), abs=0.1)


def _through(set_: GensetParams) -> tuple[list[float], list[float]]:
    """Its fuel curve with the first stretch gone on to no load."""
    (x0, x1, *_), (y0, y1, *_) = set_.fuel_kw, set_.fuel_l_h
    at_0 = y0 - (y1 - y0) / (x1 - x0) * x0
    return [0.0, *set_.fuel_kw], [at_0, *set_.fuel_l_h]


def test_what_its_maker_states_of_the_rating_stays_what_it_is_in_kw():
    low = LowLoad(below_ratio=0.3, budget_h=4.0)
    whole = replace(builders.genset(), rating=Rating(mean_ratio_max=0.7), low_load=low)
    one = limited_set(whole, 200.0)
    assert one.rating is not None
    assert one.low_load is not None
    assert one.rating.mean_ratio_max is not None
    assert one.rating.mean_ratio_max * one.p_rated_kw == pytest.approx(0.7 * 400.0)
    assert one.low_load.below_ratio * one.p_rated_kw == pytest.approx(0.3 * 400.0)


def test_controller_that_tells_nothing_and_falls_silent_takes_its_set_away_for_a_moment_alone():
    """Told as 0 while it goes down, then not read: the set counts with its least load, not with nothing."""
    layout, memory = telling(), ObserverMemory(mode=GridMode.ISLANDED)
    told = snapshot(builders.T0, 0.0, **{**ISLAND, "gen1.p_kw_max": 0.0})
    now = with_live_limits(layout, memory.last_good, told)
    assert now.gensets["gen1"].p_rated_kw == pytest.approx(400.0 * LEAST_RATIO)
    memory, _ = observe(now, memory, told, {}, 1.0)
    silent = snapshot(builders.T0, 1.0, **{**ISLAND, "gen1.p_kw_max": None})
    after = with_live_limits(layout, memory.last_good, silent)
    assert after.gensets["gen1"].p_rated_kw == layout.gensets["gen1"].p_min_kw


def test_live_limit_below_the_site_file_s_least_setpoint_comes_first(mapped: Site):
    """Story: 100 kW told where the site file allows 150 and more; the right write would have held it safe."""
    point = "gen1.p_set_kw"
    a = replace(mapped.authority.setpoints[point], low=150.0)
    site = replace(
        mapped, authority=replace(mapped.authority, setpoints={**mapped.authority.setpoints, point: a})
    )
    rig = on_gensets(site).at(5.0, lambda r: r.tell("gen1.p_kw_max", 100.0)).run(20.0)
    row, state = rig.last, rig.runtime.state
    decided = replace(row.decisions, commands=(command(point, 100.0),))
    cycle = Cycle(snapshot=row.snapshot, before=state, after=state, dt_s=1.0, decisions=decided)
    InvariantsNow(rig.runtime.setup.layout, shadow=False).decided(cycle)
    assert Limits(site).of(point, row.snapshot.readings, row.snapshot.monotonic_s) == (100.0, 100.0)
