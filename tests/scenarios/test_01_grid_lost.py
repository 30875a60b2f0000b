"""1: the grid is lost while the plant exports, imports, or neither, with a battery that forms."""

from dataclasses import replace

import pytest

from ems.points import BessState
from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from tests.scenarios.plants import ramped

pytestmark = pytest.mark.scenario(1)
AT_S = 60.0
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
CASES = {  # PV, state of charge, export cap, power at the POI before
    "exporting": (560.0, 0.93, 300.0, (-300.0, -100.0)),
    "importing": (0.0, 0.38, 0.0, (150.0, 400.0)),
    "at zero": (0.0, 0.6, 0.0, (-2.0, 12.0)),
}


# what one witness of three tells from then on; None: nothing
WITNESSES = {
    "contact lost": ("grid1.breaker_closed", None),
    "contact says closed": ("grid1.breaker_closed", 1.0),
    "voltage lost": ("grid1.v_pu", None),
    "voltage says good": ("grid1.v_pu", 1.0),
    "converter lost": ("bess1.state", None),
    "converter says it follows": ("bess1.state", float(BessState.FOLLOWING.code)),
}


def grid_lost(small: Site, case: str) -> Rig:
    """The small plant whose battery takes 100 kW/s and whose PV 60 kW/s, upwards."""
    pv_kw, soc, export_kw, _ = CASES[case]
    site = ramped(replace(small, grid=replace(small.grid, p_export_kw_max=export_kw)))
    return Rig(site, pv_kw=pv_kw, load_kw=LOAD, mains=[(AT_S, 400.0)], options=RigOptions(soc=soc))


@pytest.fixture(scope="module", params=tuple(CASES))
def run(request: pytest.FixtureRequest, small: Site) -> Rig:
    low_kw, high_kw = CASES[request.param][3]
    rig = grid_lost(small, request.param).run(180.0)
    assert low_kw < rig.first(AT_S - 1.0, lambda r: True).flows.grid_p_kw < high_kw
    return rig


def room_kw(row: Row) -> float:
    """What PV may give in the island, by the truth: the load served, and what the battery can be charged."""
    return sum(row.flows.feeder_p_kw.values()) + row.flows.bess_p_charge_kw_max["bess1"]


def test_grid_lost_island_is_seen_within_one_second(run: Rig):
    assert run.after(AT_S, lambda r: r.decisions.mode is GridMode.ISLANDED) <= 1.0
    assert run.after(AT_S, lambda r: r.decisions.transition == "settling") <= 1.0


def test_grid_lost_setpoints_are_those_of_the_island_within_two_seconds(run: Rig):
    """PV is the one that is commanded: the battery forms. Its limit is another one than beside the grid."""
    before = run.first(AT_S - 1.0, lambda r: True).held.get("pv1.p_limit_kw")

    def renewed(row: Row) -> bool:
        wrote = row.wrote("pv1.p_limit_kw")
        return row.decisions.mode is GridMode.ISLANDED and wrote is not None and wrote != before

    assert run.after(AT_S, renewed) <= 2.0


def test_grid_lost_pv_fits_into_load_and_charge_headroom_within_two_seconds(run: Rig):
    """By what it gives, and by what it may give: inverters that tripped come back at their limit."""
    assert max(r.flows.pv_p_kw["pv1"] - room_kw(r) for r in run.rows(AT_S + 2.0)) <= 1.0
    assert max(r.held["pv1.p_limit_kw"] - room_kw(r) for r in run.rows(AT_S + 2.0)) <= 1.0


@pytest.mark.parametrize("witness", WITNESSES)
@pytest.mark.parametrize("case", CASES)
def test_grid_lost_two_witnesses_of_three_are_enough(small: Site, case: str, witness: str):
    """One is lost, or lies, in the second of the loss: the other two decide, in the same time."""
    point, value = WITNESSES[witness]
    rig = grid_lost(small, case).at(AT_S, lambda r: r.tell(point, value)).run(AT_S + 20.0)
    assert rig.after(AT_S, lambda r: r.decisions.mode is GridMode.ISLANDED) <= 1.0
    assert rig.held(lambda r: r.decisions.mode is GridMode.ISLANDED, AT_S + 1.0)
    assert max(r.held["pv1.p_limit_kw"] - room_kw(r) for r in rig.rows(AT_S + 2.0)) <= 1.0
    assert rig.unserved_kwh(AT_S + 3.0) == pytest.approx(0.0, abs=1e-9)


def test_grid_lost_nothing_unserved_but_the_transfer(run: Rig):
    """The transfer of 0.2 s is the plant's own; reserve was held."""
    assert run.held(lambda r: r.decisions.reserve.covered, AT_S - 10.0, AT_S)
    assert run.unserved_kwh(AT_S, AT_S + 3.0) <= sum(LOAD.values()) * run.site.grid.transfer_s / 3600.0 + 1e-6
    assert run.unserved_kwh(AT_S + 3.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("dt_s", "at_s"),
    [
        *((1.0, at_s) for at_s in (60.05, 60.4, 60.81, 60.9, 60.999)),
        *((0.1, at_s) for at_s in (60.05, 60.999)),
        *(pytest.param(0.1, at_s, marks=pytest.mark.soak) for at_s in (60.4, 60.81, 60.9)),
    ],
)
def test_grid_lost_transfer_is_not_taken_for_a_dead_bus(small: Site, at_s: float, dt_s: float):
    """A cycle falls into the transfer: at 100 ms always. The battery carries on, so no feeder may open."""
    rig = Rig(small, pv_kw=300.0, load_kw=LOAD, mains=[(at_s, 400.0)], dt_s=dt_s)
    rig.run(90.0)
    transfer_s = small.grid.transfer_s
    assert rig.after(at_s, lambda r: r.decisions.mode is GridMode.ISLANDED) <= transfer_s + 1.0
    assert rig.after(at_s, lambda r: r.decisions.transition == "settling") <= transfer_s + 1.0
    assert not any(r.decisions.mode is GridMode.BLACK for r in rig.log)
    assert not any(c.point.endswith("close_request") and c.value < 0.5 for r in rig.log for c in r.commands)
    assert rig.unserved_kwh() <= sum(LOAD.values()) * transfer_s / 3600.0 + 1e-6


@pytest.mark.parametrize("dt_s", [1.0, 0.1])
def test_grid_lost_battery_that_does_not_take_over_is_black_a_cycle_later(small: Site, dt_s: float):
    """It says for a moment that it follows, and has tripped; nobody waits longer than its transfer takes."""
    rig = Rig(
        small,
        load_kw=LOAD,
        mains=[(60.0, 400.0)],
        dt_s=dt_s,
        faults=[Fault(kind="bess_trips", target="bess1", from_s=59.95, until_s=300.0)],
    )
    rig.at(59.9, lambda r: r.tell("bess1.state", float(BessState.FOLLOWING.code)))
    rig.run(80.0, judge=False)
    late_s = small.grid.transfer_s + 2.0 * dt_s
    assert rig.after(60.0, lambda r: r.decisions.mode is GridMode.UNKNOWN) <= dt_s + 1e-6
    assert rig.after(60.0, lambda r: r.decisions.mode is GridMode.BLACK) <= late_s + 1e-6


def test_grid_lost_while_exporting_through_registers_and_with_heartbeats(demo: Site):
    """The demonstration plant: what its maps cannot carry (I3) and a heartbeat that stops (I8) are judged."""
    site = replace(demo, grid=replace(demo.grid, p_export_kw_max=300.0))
    load = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
    rig = Rig(site, pv_kw=600.0, load_kw=load, mains=[(AT_S, 400.0)], options=RigOptions(soc=0.93))
    rig.run(AT_S + 60.0)
    before = rig.first(AT_S - 1.0, lambda r: True)
    assert before.flows.grid_p_kw < -20.0
    assert before.held["pv1.p_limit_kw"] > room_kw(before)  # beside the grid it may give more
    assert rig.after(AT_S, lambda r: r.decisions.mode is GridMode.ISLANDED) <= 1.0
    assert max(r.held["pv1.p_limit_kw"] - room_kw(r) for r in rig.rows(AT_S + 2.0)) <= 1.0
    beats = [r.wrote("bess1.heartbeat") for r in rig.rows(AT_S)]
    assert sum(b is not None for b in beats) > 20
    assert rig.unserved_kwh(AT_S + 3.0) == pytest.approx(0.0, abs=1e-9)
