"""19: writes and read-backs are right, and the power does not follow."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from ems.condition import UnitState
from ems.control import ControlMode, Role
from ems.control_site import ControlParams
from ems.requests import SwitchMode
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row

pytestmark = pytest.mark.scenario(19)
AT_S = 60.0
LOAD = {"critical": 120.0, "essential": 220.0, "deferrable": 120.0}
BESS = "bess1.p_set_kw"


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
    assert rig.after(over[0].t_s, lambda r: r.alarmed("setpoint.not_effective")) <= 20.0


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


def test_unit_that_is_off_is_not_blamed(small: Site):
    """In off its setpoint is sent once, and the device does on silence what it likes."""
    ann = ControlParams(users={"ann": frozenset({Role.OPERATOR})})
    rig = stuck(replace(small, control=ann), until_s=600.0)
    rig.at(AT_S + 1.0, lambda r: r.ask("ann", SwitchMode(device=None, mode=ControlMode.OFF)))
    rig.run(AT_S + 60.0)
    assert off_kw(rig.last) > 0.05 * 500.0
    assert not marked(rig.last)
