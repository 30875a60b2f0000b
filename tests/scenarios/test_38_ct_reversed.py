"""Scenario 38: a current transformer the wrong way round, a wrong meter: the powers do not add up."""

import pytest

from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row

pytestmark = pytest.mark.scenario(38)

LOAD = {"critical": 80.0, "essential": 120.0, "deferrable": 60.0}
FROM_S, UNTIL_S = 120.0, 300.0
ALARM_S = 15.0


def suspect(row: Row) -> bool:
    return row.alarmed("power.balance.suspect")


@pytest.mark.parametrize(
    ("kind", "target", "value"),
    [
        ("ct_reversed", "grid1", None),
        ("value_offset", "grid1.p_kw", 60.0),
        ("value_scaled", "pv1.p_kw", 2.0),
        ("value_stuck", "essential.p_kw", 10.0),
    ],
)
def test_ct_reversed_is_suspect_and_bounded(demo: Site, kind: str, target: str, value: float | None):
    """More than 5 % off for 10 s: alarm within 15 s, and nothing is regulated by what may be the lie."""
    fault = Fault(kind=kind, target=target, from_s=FROM_S, until_s=UNTIL_S, value=value)
    rig = Rig(demo, load_kw=LOAD, pv_kw=150.0, faults=[fault]).run(UNTIL_S)
    assert not any(suspect(r) for r in rig.rows(0.0, FROM_S))
    told_s = rig.after(FROM_S, suspect)
    assert 10.0 <= told_s <= ALARM_S
    assert rig.held(suspect, FROM_S + ALARM_S)
    for row in rig.rows(FROM_S + ALARM_S + 20.0, UNTIL_S):
        assert row.flows.bess_p_kw["bess1"] == pytest.approx(0.0, abs=1.0)
        assert row.flows.grid_p_kw > 0.0  # no export, by the truth


def test_balance_that_closes_again_is_believed_after_a_minute(demo: Site):
    fault = Fault(kind="ct_reversed", target="grid1", from_s=FROM_S, until_s=UNTIL_S)
    rig = Rig(demo, load_kw=LOAD, pv_kw=150.0, faults=[fault]).run(UNTIL_S + 120.0)
    assert rig.held(suspect, UNTIL_S - 1.0, UNTIL_S + 60.0)
    assert not suspect(rig.last)
    assert rig.raised("power.balance.suspect") == 1


@pytest.mark.parametrize(
    "kind", ["cloud", "load_step", "motor_start", "bess_trips", "pv_trips", "mains_lost"]
)
def test_disturbances_are_no_contradiction(demo: Site, kind: str):
    targets = {"load_step": "essential", "motor_start": "essential", "bess_trips": "bess1"}
    target = targets.get(kind, "" if kind == "mains_lost" else "pv1")
    fault = Fault(kind=kind, target=target, from_s=FROM_S, until_s=UNTIL_S)
    rig = Rig(demo, load_kw=LOAD, pv_kw=500.0, faults=[fault]).run(UNTIL_S + 60.0)
    assert not any(suspect(r) for r in rig.log)


def test_plant_with_load_nobody_meters_is_never_suspect(demo: Site):
    """The balance never closed: the check has not armed itself."""
    fault = Fault(kind="value_scaled", target="essential.p_kw", value=0.5)
    rig = Rig(demo, load_kw=LOAD, faults=[fault], options=RigOptions(horizon_s=600.0)).run(200.0)
    assert not any(suspect(r) for r in rig.log)
