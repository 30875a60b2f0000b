"""Exercise runs by rules: in their hours, not in quiet ones, as long and as loaded as asked for."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ems.assets import Exercise, QuietHours, StartsFor
from ems.points import GensetState
from ems.site import Site
from sim.rig import Rig, RigOptions, Row
from tests import builders

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # noon in Nairobi
RUN = Exercise(every_h=0.05, for_h=0.1, load_ratio=0.5, start_h=12.0, end_h=14.0)


def site(exercise: Exercise, quiet: tuple[QuietHours, ...] = ()) -> Site:
    small = builders.site()
    sets = (replace(small.gensets[0], exercise=exercise, quiet=quiet, min_up_s=300.0), small.gensets[1])
    return replace(small, gensets=sets)


def running(row: Row) -> bool:
    return row.flows.genset_state["gen1"] is GensetState.RUNNING


def test_exercise_run_is_made_when_due_and_ends_when_it_was_long_enough():
    """Due an hour after the set was first seen; 6 min at half of its rating, then it is let go."""
    options = RigOptions(start=START, horizon_s=5000.0)
    hourly = replace(RUN, every_h=1.0)
    rig = Rig(site(hourly), load_kw={"critical": 100.0, "essential": 160.0}, dt_s=10.0, options=options)
    rig.run(4600.0)
    asked_s = rig.first(0.0, lambda r: r.wrote("gen1.run_request") == 1.0).t_s
    assert asked_s == pytest.approx(3600.0, abs=20.0)
    loaded_s = sum(10.0 for r in rig.rows() if r.flows.genset_p_kw["gen1"] >= 200.0)
    assert 360.0 <= loaded_s <= 400.0
    assert rig.last.flows.genset_state["gen1"] is not GensetState.RUNNING
    assert rig.last.flows.genset_state["gen2"] is GensetState.STOPPED
    assert not rig.last.alarmed("genset.exercise.due")


@pytest.mark.parametrize(
    ("exercise", "quiet", "load_kw"),
    [
        (replace(RUN, start_h=14.0, end_h=16.0), (), 160.0),
        (RUN, (QuietHours(start_h=11.0, end_h=13.0, cost_per_h=5.0, starts_for=StartsFor.ANYTHING),), 160.0),
        (RUN, (), 0.0),
    ],
    ids=["not in its hours", "quiet hours", "nobody takes the load"],
)
def test_exercise_run_waits_and_stays_told(exercise: Exercise, quiet: tuple[QuietHours, ...], load_kw: float):
    options = RigOptions(start=START, soc=0.949 if load_kw == 0.0 else 0.6)
    rig = Rig(
        site(exercise, quiet),
        load_kw={"critical": 60.0, "essential": load_kw, "deferrable": 0.0},
        dt_s=2.0,
        options=options,
    )
    rig.run(400.0)
    assert not any(r.wrote("gen1.run_request") == 1.0 for r in rig.rows())
    assert rig.last.alarmed("genset.exercise.due")
