"""Controllers that plan over scenarios or for an adverse path, in a run on the virtual clock."""

from dataclasses import replace
from datetime import date

import pytest

from connectors.json_codec import dumps, loads
from ems.plan import Plan
from ems.site_schema import load_site
from optimizer.options import PlannerOptions
from optimizer.uncertainty import Uncertainty
from sim.harness import ControllerName, Run, SimulateOptions, StoppedError
from sim.synthetic import demo_scenario

QUICK = PlannerOptions(blocks=((900.0, 4), (3600.0, 11)), gap_ratio=0.03, integral_h=6.0)


def first_plans(project_root, name: str, count: int = 2) -> list[Plan]:
    site = load_site(project_root / "sites" / "demo" / "site.yaml")
    planner = replace(QUICK, uncertainty=Uncertainty(scenarios=3))
    run = Run(
        demo_scenario(site, date(2026, 3, 18), seed=5), ControllerName(name), SimulateOptions(planner=planner)
    )
    plans: list[Plan] = []

    def look() -> bool:
        plan = run.plans.current()
        if plan is not None and (not plans or plan.seq != plans[-1].seq):
            plans.append(plan)
        return len(plans) >= count

    with pytest.raises(StoppedError):
        run.go(stop=look)
    return plans


def test_run_over_scenarios_publishes_plans_that_say_what_each_costs(project_root):
    for plan in first_plans(project_root, "mpc_two_stage"):
        assert plan.solve.rescue == "none"
        assert plan.scenarios is not None
        assert plan.scenarios.tail_cost >= plan.scenarios.expected_cost
        assert loads(Plan, dumps(plan)) == plan  # as the plan store keeps it


def test_run_for_an_adverse_path_expects_more_load_than_the_plain_one(project_root):
    plain, robust = (first_plans(project_root, name, 1)[0] for name in ("mpc", "mpc_robust"))
    assert any(note.startswith("robust: planned for the 90% quantile") for note in robust.notes)
    for feeder, load in plain.load_kw.items():
        assert robust.load_kw[feeder][0] == load[0]
        assert sum(robust.load_kw[feeder]) > sum(load)
