"""19: writes and read-backs are right, and the power does not follow."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dispatch.vocabulary import Context, ControlMemory, Source, Target, Targets
from ems.commands import Cause
from ems.condition import UnitState, usable
from ems.control import ControlMode, Role
from ems.control_site import ControlParams
from ems.plan import Plan
from ems.requests import SwitchMode
from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import MONDAY
from tests.scenarios.poi import following_only
from tests.unit.dispatch.plans import plan_of

pytestmark = pytest.mark.scenario(19)
AT_S = 60.0
LOAD = {"critical": 120.0, "essential": 220.0, "deferrable": 120.0}
BESS, LIMIT = "bess1.p_set_kw", "pv1.p_limit_kw"


def off_kw(row: Row) -> float:
    return abs(row.flows.bess_p_kw["bess1"] - row.held[BESS])


def stuck(site: Site, until_s: float, load_after: float = 0.1) -> Rig:
    """The battery goes on as it was while the load falls: it would be asked for much less."""
    load = {f: (lambda t, kw=kw: kw if t < AT_S + 2.0 else load_after * kw) for f, kw in LOAD.items()}
    fault = Fault(kind="setpoint_ignored", target="bess1", from_s=AT_S, until_s=until_s)
    return Rig(site, load_kw=load, faults=[fault], options=RigOptions(soc=0.8))


def marked(row: Row) -> bool:
    return UnitState.NOT_EFFECTIVE in row.decisions.condition.bess["bess1"].states


def test_power_that_does_not_follow_is_told_and_the_unit_left_out(small: Site):
    rig = stuck(small, until_s=600.0).run(AT_S + 60.0)
    began = rig.first(AT_S, lambda r: off_kw(r) > 0.05 * 500.0)
    told_s = rig.after(began.t_s, lambda r: r.alarmed("setpoint.not_effective"))
    left_s = rig.after(began.t_s, marked)
    assert 5.0 < told_s <= left_s <= 20.0
    kept = rig.first(began.t_s, marked)
    battery = kept.decisions.condition.bess["bess1"]
    assert (battery.available, battery.p_discharge_kw_max, battery.p_charge_kw_max) == (False, 0.0, 0.0)
    assert kept.decisions.reserve.held_kw <= rig.first(AT_S, lambda r: True).decisions.reserve.held_kw
    rows = list(rig.rows(began.t_s, began.t_s + left_s))
    again = [b for a, b in pairwise(rows) if b.wrote(BESS) is not None and b.wrote(BESS) == a.held[BESS]]
    assert 1 <= len(again) <= 3
    assert rig.runtime.state.effect.following[BESS].retries == 3
    assert all(r.wrote(BESS) in (None, 0.0) for r in rig.rows(kept.t_s + 1.0))


def test_unit_that_follows_again_is_counted_on_after_a_minute_and_no_sooner(small: Site):
    rig = stuck(small, until_s=120.0).run(260.0)
    well_s = rig.first(120.0, lambda r: off_kw(r) <= 0.05 * 500.0).t_s
    back_s = rig.first(well_s, lambda r: not marked(r)).t_s
    assert 60.0 <= back_s - well_s <= 65.0
    assert rig.last.decisions.condition.bess["bess1"].available
    assert not rig.last.alarmed("setpoint.not_effective")


@pytest.mark.parametrize("f_hz", [None, 0.0])
def test_limit_that_a_pv_plant_does_not_keep_is_told(small: Site, f_hz: float | None):
    """Also beside a frequency of 0 Hz, of a transducer without supply: its droop was an excuse for all."""
    load = {f: (lambda t, kw=kw: kw if t < AT_S + 2.0 else 0.05 * kw) for f, kw in LOAD.items()}
    fault = Fault(kind="pv_limit_lost", target="pv1", from_s=AT_S)
    away = Fault(kind="bess_trips", target="bess1")
    rig = Rig(small, load_kw=load, pv_kw=400.0, faults=[fault, away])
    if f_hz is not None:
        rig.tell("bus.f_hz", f_hz)
    rig.run(AT_S + 60.0, judge=False)
    rated_kw = small.pv[0].p_ac_kw
    over = [r for r in rig.rows(AT_S) if r.flows.pv_p_kw["pv1"] > r.held["pv1.p_limit_kw"] + 0.06 * rated_kw]
    assert over
    began_s = over[0].t_s
    assert rig.after(began_s, lambda r: r.alarmed("setpoint.not_effective")) <= 20.0
    left_s = rig.after(began_s, lambda r: UnitState.NOT_EFFECTIVE in r.decisions.condition.pv_states["pv1"])
    assert left_s <= 20.0
    rows = list(rig.rows(began_s, began_s + left_s))
    again = [b for a, b in pairwise(rows) if b.wrote(LIMIT) is not None and b.wrote(LIMIT) == a.held[LIMIT]]
    assert len(again) <= 3
    assert rig.runtime.state.effect.following[LIMIT].retries == 3
    lost = rig.first(began_s + left_s, lambda r: True)
    assert not usable(lost.decisions.condition.pv_states["pv1"])
    assert lost.alarmed("pv.limit.lost"), (
        "it is reckoned with all it may give, and not counted on to give way"
    )


def test_healthy_plant_with_moving_load_is_never_marked(small: Site):
    load = {f: (lambda t, kw=kw: kw * (0.3 if int(t / 7.0) % 2 else 1.0)) for f, kw in LOAD.items()}
    rig = Rig(small, load_kw=load, pv_kw=lambda t: 400.0 if int(t / 11.0) % 2 else 50.0).run(300.0)
    assert rig.raised("setpoint.not_effective") == 0


def test_battery_that_forms_an_island_is_never_left_out_of_it(small: Site):
    """A mark earned while tied once outlived the mains: feeders were shed, two gensets started."""
    load: dict[str, Any] = {
        "critical": lambda t: 40.0 if t < AT_S else 220.0,
        "essential": 40.0,
        "deferrable": 0.0,
    }
    deaf = Fault(kind="setpoint_ignored", target="bess1", from_s=AT_S - 2.0, until_s=AT_S + 35.0)
    rig = Rig(
        small, load_kw=load, faults=[deaf], mains=[(AT_S + 40.0, 3600.0)], options=RigOptions(soc=0.8)
    ).run(AT_S + 60.0)
    assert marked(rig.first(AT_S + 35.0, lambda r: True))
    island = list(rig.rows(AT_S + 42.0))
    assert all(r.decisions.condition.forming == "bess1" and not marked(r) for r in island)
    assert all(r.decisions.condition.bess["bess1"].p_discharge_kw_max > 0.0 for r in island)
    assert not any(r.decisions.targets.feeder_close["essential"].value < 0.5 for r in island)


GEN = "gen1.p_set_kw"
RUNS = {"critical": 120.0, "essential": 180.0, "deferrable": 60.0}


def planned(site: Site, seq: int, gen1_kw: float, mode: GridMode, load_kw: float) -> Plan:
    """The first set gives so much, in an island the battery the rest."""
    bess_kw = 0.0 if mode is GridMode.GRID_TIED else load_kw - gen1_kw
    return plan_of(
        site, bess_kw=[bess_kw] * 4, load_kw=load_kw, gen1_kw=gen1_kw, modes=[mode] * 4, start=MONDAY, seq=seq
    )


def parallel(
    site: Site, faults: Sequence[Fault] = (), *, after_kw: float = 300.0, island: bool = False, **given: Any
) -> Rig:
    """A plan lets the first set run beside the mains or a battery: 150 kW, then `after_kw`."""
    mode = GridMode.ISLANDED if island else GridMode.GRID_TIED
    options = RigOptions(gensets_on_kw={"gen1": 150.0}, islanded_by="bess1" if island else None)
    load = given.pop("load_kw", RUNS)
    rig = Rig(site, load_kw=load, faults=faults, options=options, controller="plan", **given)
    first, second = (planned(site, n, kw, mode, sum(load.values())) for n, kw in ((1, 150.0), (2, after_kw)))
    rig.at(0.0, lambda r: r.publish(first))
    return rig.at(AT_S + 5.0, lambda r: r.publish(second))


def set_marked(row: Row) -> bool:
    return UnitState.NOT_EFFECTIVE in row.decisions.condition.gensets["gen1"].states


def set_off_kw(row: Row) -> float:
    return abs(row.flows.genset_p_kw["gen1"] - row.held[GEN])


def test_genset_beside_the_mains_whose_power_does_not_follow_is_told(small: Site):
    """It holds the new setpoint, and gives what the old one said."""
    deaf = Fault(kind="setpoint_ignored", target="gen1", from_s=AT_S)
    rig = parallel(small, [deaf]).run(AT_S)
    while not rig.last.alarmed("setpoint.not_effective"):
        rig.run(rig.t_s + 1.0)
    assert rig.runtime.state.effect.following[GEN].retries == 3
    rig.run(AT_S + 120.0)
    held = rig.first(AT_S + 5.0, lambda r: set_off_kw(r) > 0.05 * small.gensets[0].p_rated_kw)
    assert held.held[GEN] == pytest.approx(300.0)
    ramp_s = small.gensets[0].p_rated_kw / small.gensets[0].ramp_kw_s
    told_s = rig.after(held.t_s, lambda r: r.alarmed("setpoint.not_effective"))
    assert ramp_s < told_s <= ramp_s + 20.0
    assert rig.after(held.t_s, set_marked) <= told_s + 1.0
    assert not rig.last.decisions.condition.gensets["gen1"].available
    assert rig.raised("setpoint.not_effective") == 1


def test_genset_that_follows_is_never_marked(small: Site):
    rig = parallel(small).run(AT_S + 180.0)
    assert rig.last.flows.genset_p_kw["gen1"] == pytest.approx(300.0, abs=1.0)
    assert rig.raised("setpoint.not_effective") == 0
    assert rig.runtime.state.effect.following[GEN].off_since_s is None


def test_genset_that_follows_again_is_counted_on_again(small: Site):
    deaf = Fault(kind="setpoint_ignored", target="gen1", from_s=AT_S, until_s=AT_S + 120.0)
    rig = parallel(small, [deaf]).run(AT_S + 240.0)
    assert set_marked(rig.first(AT_S + 119.0, lambda r: True))
    assert rig.last.decisions.condition.gensets["gen1"].available
    assert not rig.last.alarmed("setpoint.not_effective")


def test_genset_that_was_deaf_is_not_left_out_of_its_island(small: Site):
    """Without a battery that forms, it is the one that carries the island: its load is then a result."""
    deaf = Fault(kind="setpoint_ignored", target="gen1", from_s=AT_S)
    site = following_only(small)
    lost_s = AT_S + 90.0
    rig = parallel(site, [deaf], mains=[(lost_s, 3600.0)]).run(lost_s + 60.0)
    assert set_marked(rig.first(lost_s - 1.0, lambda r: True))
    island = list(rig.rows(lost_s + 2.0))
    assert all(r.decisions.condition.forming == "gen1" and not set_marked(r) for r in island)
    assert all(r.decisions.condition.gensets["gen1"].available for r in island)
    assert all(r.held["gen1.run_request"] == 1.0 for r in island)


def test_genset_beside_a_forming_battery_whose_power_does_not_follow_is_told(small: Site):
    deaf = Fault(kind="setpoint_ignored", target="gen1", from_s=AT_S)
    rig = parallel(small, [deaf], island=True).run(AT_S + 90.0)
    assert rig.raised("setpoint.not_effective") == 1
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


def test_unit_that_is_off_is_not_blamed(small: Site):
    """In off its setpoint is sent once, and the device does on silence what it likes."""
    ann = ControlParams(users={"ann": frozenset({Role.OPERATOR})})
    rig = stuck(replace(small, control=ann), until_s=600.0)
    rig.at(AT_S + 1.0, lambda r: r.ask("ann", SwitchMode(device=None, mode=ControlMode.OFF)))
    rig.run(AT_S + 60.0)
    assert off_kw(rig.last) > 0.05 * 500.0
    assert not marked(rig.last)


class Step:
    """Wants 40 kW of charging, and 80 kW from AT_S on."""

    name = "step"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        want = Target(value=-40.0 if context.monotonic_s < AT_S else -80.0, cause=Cause.RULES, reason="step")
        return Targets(source=Source.RULES, bess_p_kw={"bess1": want}), context.memory


def test_setpoint_that_is_acknowledged_and_not_taken_is_told(demo: Site):
    """A battery's read-back stays where it was; what it is sent afterwards it says yes to."""
    rig = Rig(demo, load_kw={"critical": 110.0, "essential": 160.0}, pv_kw=30.0, controller=Step())
    rig.at(AT_S - 5.0, lambda r: r.tell(BESS, -40.0)).at(AT_S + 100.0, lambda r: r.tell_truth(BESS))
    counts = {
        t_s: rig.run(t_s).raised("setpoint.not_taken") for t_s in (AT_S + 25.0, AT_S + 40.0, AT_S + 140.0)
    }
    assert list(counts.values()) == [0, 1, 1]
    assert rig.raised("setpoint.contention") == 0
    assert rig.last.held[BESS] < -60.0
    assert not rig.last.alarmed("setpoint.not_taken")
