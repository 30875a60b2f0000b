"""18: the converter is derated to 40 %, and to nothing with its contactor open."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from dispatch.vocabulary import Source
from ems.points import BessState
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests.scenarios.plants import with_ramps

pytestmark = pytest.mark.scenario(18)
AT_S, BACK_S = 60.0, 90.0
RAMP_KW_S = 10.0
UNDER_THE_CAP = {"critical": 100.0, "essential": 150.0, "deferrable": 50.0}  # what the grid may give
LOAD = {"critical": 120.0, "essential": 220.0, "deferrable": 120.0}


@pytest.mark.parametrize("pv_kw", [0.0, 600.0], ids=["discharging", "charging"])
@pytest.mark.parametrize("left", [0.4, 0.0])
def test_converter_derated_next_write_is_inside_the_new_limit(small: Site, pv_kw: float, left: float):
    load = LOAD if pv_kw == 0.0 else {"critical": 40.0, "essential": 0.0, "deferrable": 0.0}
    fault = Fault(kind="bess_derated", target="bess1", from_s=AT_S, value=left)
    rig = Rig(small, load_kw=load, pv_kw=pv_kw, faults=[fault], options=RigOptions(soc=0.6))
    rig.run(AT_S + 60.0)
    limit_kw = left * 500.0
    rows = list(rig.rows(AT_S + 1.0))
    assert abs(rows[0].held["bess1.p_set_kw"]) <= limit_kw + 1e-6
    assert max(abs(r.held["bess1.p_set_kw"]) for r in rows) <= 1.02 * limit_kw + 1e-6
    assert max(abs(r.flows.bess_p_kw["bess1"]) for r in rows) <= 1.02 * limit_kw + 1e-6
    before = rig.first(AT_S - 1.0, lambda r: True)
    assert abs(before.held["bess1.p_set_kw"]) > 400.0
    assert abs(before.flows.bess_p_kw["bess1"]) > 400.0


@pytest.mark.parametrize("limits", [True, False], ids=["limits at zero too", "limits as before"])
def test_contactor_open_the_state_alone_is_enough_and_it_comes_back_from_zero(small: Site, limits: bool):
    """The converter says that it is off: nothing is asked of it in the next cycle, whatever it tells."""
    site = with_ramps(small, {"bess1.p_set_kw": RAMP_KW_S})
    faults = (
        [Fault(kind="bess_contactor_open", target="bess1", from_s=AT_S, until_s=BACK_S)] if limits else []
    )
    rig = Rig(site, load_kw=UNDER_THE_CAP, faults=faults, options=RigOptions(soc=0.6))
    rig.at(AT_S, lambda r: r.tell("bess1.state", float(BessState.OFF.code)))
    rig.at(BACK_S, lambda r: r.tell_truth("bess1.state")).run(BACK_S + 90.0)
    assert rig.first(AT_S - 1.0, lambda r: True).held["bess1.p_set_kw"] > 250.0
    off = list(rig.rows(AT_S + 1.0, BACK_S))
    assert all(r.held["bess1.p_set_kw"] == 0.0 for r in off)
    assert not any(r.decisions.condition.bess["bess1"].available for r in off)
    assert rig.raised("bess.unavailable") == 1
    back = [abs(r.held["bess1.p_set_kw"]) for r in rig.rows(BACK_S - 1.0)]
    assert max(b - a for a, b in pairwise(back)) <= RAMP_KW_S + 1e-6
    assert back[-1] > 250.0


@pytest.mark.parametrize("name", ["p_charge_kw_max", "p_discharge_kw_max"])
@pytest.mark.parametrize("told_kw", [-0.5, -300.0])
def test_live_limit_below_zero_is_no_power_and_no_reason_to_stop(small: Site, name: str, told_kw: float):
    """The edge's own invariant took it for an order to move: zero broke it, and the plant was held safe."""
    rig = Rig(small, load_kw=LOAD, pv_kw=700.0, options=RigOptions(soc=0.5))
    rig.at(AT_S, lambda r: r.tell(f"bess1.{name}", told_kw)).run(AT_S + 60.0)
    sign = -1.0 if name == "p_charge_kw_max" else 1.0
    assert rig.held(lambda r: sign * r.held["bess1.p_set_kw"] <= 0.0, AT_S + 1.0)
    assert not rig.runtime.state.held_safe


def test_converter_derated_the_next_plan_is_inside_the_new_limit(demo: Site):
    """The production planner, half an hour apart; a live limit is planned with for the next hour."""
    fault = Fault(kind="bess_derated", target="bess1", from_s=120.0, value=0.15)
    rig = Rig(
        demo,
        load_kw={"critical": 180.0, "essential": 330.0, "deferrable": 150.0},
        controller="mpc",
        faults=[fault],
        dt_s=10.0,
        options=RigOptions(soc=0.85, start=datetime(2026, 3, 2, 15, 5, tzinfo=UTC), horizon_s=3600.0),
    ).run(1900.0)
    limit_kw = 0.15 * demo.bess[0].battery.p_discharge_kw_max
    (_, first), (at_s, after) = rig.plans.published
    assert max(abs(kw) for kw in first.bess_p_kw["bess1"][:4]) > limit_kw
    assert max(abs(kw) for kw in after.bess_p_kw["bess1"][:4]) <= limit_kw + 1e-6
    assert at_s <= 120.0 + 1800.0  # one replan
    assert rig.last.decisions.source is Source.PLAN
    assert rig.last.decisions.plan_id == after.plan_id
    rows = list(rig.rows(130.0))
    assert max(abs(r.held["bess1.p_set_kw"]) for r in rows) <= 1.02 * limit_kw
