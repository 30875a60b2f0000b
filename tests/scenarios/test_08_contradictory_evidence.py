"""8: the POI's contact says closed, its voltage says zero, the converter says nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions

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


def grows(from_kw: float, until_kw: float) -> Callable[[float], float]:
    """From one load to another within 100 s, from 40 s on."""
    return lambda t_s: from_kw + (until_kw - from_kw) * min(1.0, max(0.0, (t_s - 40.0) / 100.0))


def genset_island(small: Site) -> Rig:
    """A set of 400 kW and a battery that only follows carry 480 kW; the second set does not start."""
    site = replace(
        small,
        bess=tuple(replace(b, pcs=replace(b.pcs, can_form=False)) for b in small.bess),
        forming=replace(small.forming, islanded=("gen1", "gen2")),
    )
    return Rig(
        site,
        load_kw={"critical": 80.0, "essential": grows(120.0, 250.0), "deferrable": grows(60.0, 150.0)},
        faults=[Fault(kind="genset_start_fails", target="gen2", from_s=0.0, until_s=900.0)],
        options=RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 260.0}),
    )


def poi_silent(rig: Rig) -> None:
    for name in ("p_kw", "q_kvar", "v_pu", "breaker_closed"):
        rig.tell(f"grid1.{name}", None)


def poi_contradicts(rig: Rig) -> None:
    rig.tell("grid1.breaker_closed", 1.0)
    rig.tell("grid1.v_pu", 0.0)


@pytest.mark.parametrize(
    ("evidence", "mode"), [(poi_silent, GridMode.ISLANDED), (poi_contradicts, GridMode.UNKNOWN)]
)
def test_witnesses_lost_in_an_island_of_gensets_leave_it_alive(
    small: Site, evidence: Callable[[Rig], None], mode: GridMode
):
    """Nobody knows more about the grid than before; the set must not be left alone with 480 kW."""
    rig = genset_island(small).at(200.0, evidence).run(320.0)
    assert rig.first(199.0, lambda r: True).flows.bess_p_kw["bess1"] > 100.0  # there was something to lose
    assert rig.held(lambda r: r.decisions.mode is mode, 203.0)
    assert rig.held(lambda r: r.flows.genset_p_kw["gen1"] <= 400.0, 200.0)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert rig.raised("grid.meter.lost" if mode is GridMode.ISLANDED else "grid.mode.unknown") == 1
