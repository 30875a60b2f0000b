"""31: the meter at the POI answers for 3 s and is silent for 3 s, 100 times."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from tests.scenarios.plants import with_ramps

pytestmark = pytest.mark.scenario(31)
TIMES = 100
BEGIN_S = 30.0
END_S = BEGIN_S + TIMES * 6.0
POINTS = ("p_kw", "q_kvar", "v_pu", "f_hz", "breaker_closed")


def silence(rig: Rig) -> None:
    for p in POINTS:
        rig.tell(f"grid1.{p}", None)


def answer(rig: Rig) -> None:
    for p in POINTS:
        rig.tell_truth(f"grid1.{p}")


RAMPS = {"bess1.p_set_kw": 5.0, "pv1.p_limit_kw": 6.0}  # kW/s: one per cent of the rating


@pytest.fixture(scope="module")
def ramped(small: Site) -> Site:
    """With a ramp for each setpoint; the plant of the tests has none."""
    return with_ramps(small, RAMPS)


OPTIONS = RigOptions(horizon_s=END_S + 120.0, noise_ratio=0.0)


@pytest.fixture(scope="module")
def run(ramped: Site) -> Rig:
    rig = Rig(ramped, pv_kw=120.0, options=OPTIONS)
    for i in range(TIMES):
        rig.at(BEGIN_S + 6.0 * i, silence).at(BEGIN_S + 6.0 * i + 3.0, answer)
    return rig.run(END_S + 120.0)


def steps(rig: Rig) -> list[str]:
    """Seconds in which a unit gave or took more by more than the ramp of its setpoint: none may."""
    powers: dict[str, Callable[[Row], float]] = {
        "bess1.p_set_kw": lambda r: abs(r.flows.bess_p_kw["bess1"]),
        "pv1.p_limit_kw": lambda r: r.flows.pv_p_kw["pv1"],
    }
    return [
        f"{after.t_s:g} s: {point} {power(before):.1f} to {power(after):.1f} kW"
        for point, power in powers.items()
        for before, after in pairwise(rig.rows(BEGIN_S - 5.0))
        if power(after) - power(before) > RAMPS[point] * rig.dt_s + 1e-3
    ]


def test_flapping_meter_changes_the_mode_at_most_once_in_any_minute(run: Rig):
    modes = [(r.t_s, r.decisions.mode) for r in run.rows(1.0)]
    changes = [t for (_, before), (t, now) in pairwise(modes) if now is not before]
    assert changes[0] >= BEGIN_S  # it did change
    assert all(b - a >= 60.0 for a, b in pairwise(changes))


def test_flapping_meter_is_one_alarm_that_comes_and_goes_once(run: Rig):
    told = [(k, e["code"]) for k in ("raised", "cleared") for e in run.events(f"alarm.{k}")]
    assert told == [("raised", "grid.mode.unknown"), ("cleared", "grid.mode.unknown")]
    (entry,) = run.last.decisions.alarm_book.entries
    assert entry.activations == 1


def test_flapping_meter_no_step_when_it_is_back(run: Rig):
    """Back to what it gave before, second by second no faster than the ramps of its setpoints."""
    back_s = END_S + run.after(END_S, lambda r: r.decisions.mode.value == "grid_tied")
    assert back_s < END_S + 75.0
    assert steps(run) == []
    at_s = (BEGIN_S - 1.0, back_s + 10.0)
    before, after = (run.first(t, lambda r: True).flows.bess_p_kw["bess1"] for t in at_s)
    assert before == pytest.approx(after, abs=1.0)
    assert before > 4.0 * RAMPS["bess1.p_set_kw"], "in one second it would be a step"


@pytest.mark.parametrize("device", ["bess1", "pv1"])
def test_flapping_device_is_counted_in_one_alarm_and_comes_back_without_a_step(ramped: Site, device: str):
    fault = Fault(kind="device_flapping", target=device, from_s=BEGIN_S, until_s=END_S)
    rig = Rig(ramped, pv_kw=120.0, faults=[fault], options=OPTIONS).run(END_S + 60.0)
    raised = [e["key"] for e in rig.events("alarm.raised")]
    assert len(raised) == len(set(raised))
    counts = {e.key: e.activations for e in rig.last.decisions.alarm_book.entries}
    assert counts[f"device.silent.{device}"] == TIMES
    assert rig.held(lambda r: r.decisions.mode.value == "grid_tied", 5.0)
    assert steps(rig) == []
