"""The planner's turns in a virtual run: when the edge sees its plan, and what its death costs."""

from dataclasses import replace
from datetime import date

import pytest

from ems.site_schema import load_site
from optimizer.options import PlannerOptions
from sim.harness import Run, SimulateOptions, simulate
from sim.steps import DEMO_STEPS
from sim.synthetic import demo_scenario

QUICK = PlannerOptions(blocks=((900.0, 8), (3600.0, 10)), integral_h=2.0)
DEMO = SimulateOptions(steps=DEMO_STEPS, replan_s=900.0, allowance_s=60.0, planner=QUICK, trace_s=None)


@pytest.fixture(scope="module")
def two_hours(project_root):
    site = load_site(project_root / "sites" / "demo" / "site.yaml")
    day = demo_scenario(site, date(2026, 3, 18), seed=11)
    return replace(day, end=day.at(7200.0))


def accepted_s(scenario, options: SimulateOptions) -> list[float]:
    events = simulate(scenario, "mpc", options=options).events
    return [scenario.offset_s(e.at) for e in events if e.kind == "plan.accepted"]


def test_turn_plan_is_seen_in_the_cycle_after_its_publication(two_hours):
    short = replace(two_hours, end=two_hours.at(1800.0))
    assert accepted_s(short, DEMO) == [61.0, 961.0]


def test_turn_long_cycles_see_a_new_plan_a_second_later(two_hours):
    options = replace(SimulateOptions(planner=QUICK, trace_s=None), replan_s=3600.0, allowance_s=30.0)
    assert accepted_s(two_hours, options) == [31.0, 3631.0]


def test_turn_planner_away_loses_its_plan_and_plans_when_it_is_back(two_hours):
    """Killed at 930 s with a plan on its way, back at 1530 s: renewed at once, then every 15 minutes."""
    options = replace(DEMO, planner_away=((930.0, 1530.0),))
    assert accepted_s(replace(two_hours, end=two_hours.at(3600.0)), options) == [61.0, 1600.0, 2500.0, 3400.0]


def test_turn_planner_away_edge_is_told(two_hours):
    options = replace(DEMO, planner_away=((930.0, 1530.0),))
    short = replace(two_hours, end=two_hours.at(1600.0))
    run = Run(short, "mpc", options)  # type: ignore[arg-type]
    assert run.turns is not None
    seen = [run.turns.alive(t) for t in (0.0, 10.0, 920.0, 930.0, 1520.0, 1530.0, 1540.0)]
    assert seen == [False, True, True, False, False, False, True]
    events = [e for e in run.go().events if e.kind == "edge.source.changed"]
    assert [(short.offset_s(e.at), e.fields["now"]) for e in events] == [
        (0.0, "rules"),
        (61.0, "plan"),
        (930.0, "last_plan"),
        (1540.0, "plan"),
    ]
