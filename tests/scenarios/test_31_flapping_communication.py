"""31: the meter at the POI answers for 3 s and is silent for 3 s, 100 times."""

from itertools import pairwise

import pytest

from ems.site import Site
from sim.rig import Rig, RigOptions

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


@pytest.fixture(scope="module")
def run(small: Site) -> Rig:
    rig = Rig(small, pv_kw=120.0, options=RigOptions(horizon_s=END_S + 120.0, noise_ratio=0.0))
    for i in range(TIMES):
        rig.at(BEGIN_S + 6.0 * i, silence).at(BEGIN_S + 6.0 * i + 3.0, answer)
    return rig.run(END_S + 120.0)


def test_flapping_meter_changes_the_mode_at_most_once_in_any_minute(run: Rig):
    modes = [(r.t_s, r.decisions.mode) for r in run.rows(1.0)]
    changes = [t for (_, before), (t, now) in pairwise(modes) if now is not before]
    assert changes[0] >= BEGIN_S  # it did change
    assert all(b - a >= 60.0 for a, b in pairwise(changes))


def test_flapping_meter_raises_one_alarm_of_each_kind_at_most(run: Rig):
    codes = [e["code"] for e in run.events("alarm.raised")]
    assert len(codes) == len(set(codes))


def test_flapping_meter_no_step_when_it_is_back(run: Rig):
    """The battery's power when the mode is known again: within the POI's 2 % of what it was before."""
    back_s = END_S + run.after(END_S, lambda r: r.decisions.mode.value == "grid_tied")
    before, after = (next(iter(run.rows(t))).flows.bess_p_kw["bess1"] for t in (back_s - 2.0, back_s + 2.0))
    assert back_s < END_S + 75.0
    assert abs(after - before) <= 60.0
