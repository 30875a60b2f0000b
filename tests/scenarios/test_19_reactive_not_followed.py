"""19: reactive setpoints are written and read back right, and the reactive power does not follow."""

import pytest

from ems.reactive import ReactiveAtPower, ReactiveControl, ReactiveTakes
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests.scenarios.test_07_voltage import LOAD, clouds, weak, with_parameter, with_q

pytestmark = pytest.mark.scenario(19)
BY_POWER = (ReactiveAtPower(p_kw=0.0, q_kvar=0.0), ReactiveAtPower(p_kw=400.0, q_kvar=-150.0))
KVAR = ReactiveControl(by_power=BY_POWER)
FACTOR = ReactiveControl(takes=ReactiveTakes.POWER_FACTOR, by_power=BY_POWER)
CODE = "setpoint.reactive_not_followed"


def rig_of(site: Site, *faults: Fault, sun: object = 300.0) -> Rig:
    return Rig(site, load_kw=LOAD, pv_kw=sun, faults=faults, options=RigOptions(soc=0.949))  # type: ignore[arg-type]


def deaf(from_s: float, until_s: float) -> Fault:
    """The inverters hear no setpoint and go on as before."""
    return Fault(kind="setpoint_ignored", target="pv1", from_s=from_s, until_s=until_s)


def test_reactive_power_that_does_not_follow_is_told_and_nothing_else_happens(small: Site):
    site = with_q(weak(small), KVAR)
    well = rig_of(site).run(500.0)
    rig = rig_of(site, deaf(0.0, 1e6)).run(500.0)
    assert well.raised(CODE) == 0
    assert rig.raised(CODE) == 1
    told_s = rig.first(0.0, lambda r: r.alarmed(CODE)).t_s
    assert 240.0 <= told_s <= 420.0
    assert {a.asset for a in rig.last.decisions.alarms if a.code == CODE} == {"pv1.q_set_kvar"}
    pv = rig.last.decisions.condition.pv_kw["pv1"]
    assert pv == pytest.approx(well.last.decisions.condition.pv_kw["pv1"], abs=15.0), "no power is lost by it"
    point = "pv1.q_set_kvar"
    sent, there = ([x for r in w.rows() for x in r.results if x.command.point == point] for w in (rig, well))
    assert len(sent) <= len(there) + 1, "nothing is written more often for it"


def test_reactive_power_that_follows_again_is_over(small: Site):
    rig = rig_of(with_q(weak(small), KVAR), deaf(0.0, 400.0)).run(800.0)
    assert any(r.alarmed(CODE) for r in rig.rows(0.0, 400.0))
    assert not rig.last.alarmed(CODE)


@pytest.mark.parametrize("sun", [300.0, clouds], ids=["steady", "fast clouds"])
@pytest.mark.parametrize("kind", ["kvar", "power factor"])
def test_converters_that_follow_are_not_told_whatever_the_sun_does(small: Site, kind: str, sun: object):
    site = with_q(weak(small), KVAR) if kind == "kvar" else with_parameter(weak(small), FACTOR, 1.0)
    rig = rig_of(site, sun=sun).run(700.0)
    assert rig.raised(CODE) == 0
    assert rig.runtime.state.reactive_effect.following, "they were judged"


def test_power_factor_that_is_not_taken_is_told(small: Site):
    rig = rig_of(with_parameter(weak(small), FACTOR, 1.0), deaf(0.0, 1e6)).run(500.0)
    assert {a.asset for a in rig.last.decisions.alarms if a.code == CODE} == {"pv1.pf_set"}


def test_away_from_the_mains_and_at_night_nothing_is_told(small: Site):
    site = with_q(weak(small), KVAR)
    assert rig_of(site, deaf(0.0, 1e6), sun=0.0).run(500.0).raised(CODE) == 0
    island = Rig(
        site, load_kw=LOAD, pv_kw=100.0, mains=[(30.0, 600.0)], faults=[deaf(0.0, 1e6)],
        options=RigOptions(soc=0.6),
    )  # fmt: skip
    assert island.run(500.0).raised(CODE) == 0
