"""8: the POI's contact says closed, its voltage says zero, the converter says nothing."""

import pytest

from ems.site import GridMode, Site
from sim.rig import Rig

pytestmark = pytest.mark.scenario(8)
AT_S = 60.0


def contradict(rig: Rig) -> None:
    rig.tell("grid1.breaker_closed", 1.0)
    rig.tell("grid1.v_pu", 0.0)
    rig.tell("bess1.state", None)


@pytest.fixture(scope="module")
def run(small: Site) -> Rig:
    rig = Rig(small, pv_kw=500.0, load_kw={"critical": 60.0, "essential": 80.0, "deferrable": 40.0})
    return rig.at(AT_S, contradict).run(AT_S + 180.0)


def test_contradiction_is_unknown_within_two_seconds(run: Rig):
    assert run.after(AT_S, lambda r: r.decisions.mode is GridMode.UNKNOWN) <= 2.0
    assert run.after(AT_S, lambda r: r.alarmed("grid.mode.unknown")) <= 2.0


def test_contradiction_is_never_taken_for_a_connected_grid(run: Rig):
    assert run.held(lambda r: r.decisions.mode is GridMode.UNKNOWN, AT_S + 2.0)


def test_contradiction_exports_nothing_and_moves_no_breaker(run: Rig):
    assert run.first(AT_S - 5.0, lambda r: True).flows.pv_p_kw["pv1"] > 300.0  # there was something to lose
    assert run.held(lambda r: r.flows.grid_p_kw >= 0.0, AT_S + 2.0)
    after = [c for r in run.rows(AT_S + 2.0) for c in r.commands]
    assert not any(c.point.endswith(".close_request") for c in after)


@pytest.mark.parametrize("v_pu", [0.80, 1.20])
def test_brown_out_and_over_voltage_are_not_used(small: Site, v_pu: float):
    rig = Rig(small, pv_kw=100.0).at(AT_S, lambda r: r.tell("grid1.v_pu", v_pu)).run(AT_S + 20.0)
    assert rig.after(AT_S, lambda r: r.decisions.mode is GridMode.UNKNOWN) <= 2.0


def test_lost_phase_is_not_used_and_is_told(small: Site):
    """Two phases and their mean still look usable."""
    rig = Rig(small, pv_kw=100.0)
    for n in (1, 2, 3):
        rig.tell(f"grid1.v{n}_pu", 1.0)
    rig.at(AT_S, lambda r: r.tell("grid1.v2_pu", 0.1)).run(AT_S + 20.0)
    assert rig.held(lambda r: r.decisions.mode is GridMode.GRID_TIED, 2.0, AT_S)
    assert rig.after(AT_S, lambda r: r.decisions.mode is GridMode.UNKNOWN) <= 2.0
    assert rig.after(AT_S, lambda r: r.alarmed("grid.phase.lost")) <= 2.0
    assert rig.raised("grid.phase.lost") == 1
