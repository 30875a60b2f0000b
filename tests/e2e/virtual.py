"""One controller on a cut of the demo day, in a process of its own: `python -m tests.e2e.virtual mpc`."""

import json
import sys
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from cli.demo import ALLOWANCE_S, DAY, PLANNER_DIES_H, PLANNER_GONE_S, REPLAN_S
from optimizer.options import PlannerOptions
from sim.harness import SimulateOptions, simulate
from sim.result import RunResult, result_json
from sim.scenario import Scenario
from sim.steps import DEMO_STEPS
from tests.e2e.days import around_outage, demo_day

WALL = ("wall_s", "plans")


def virtual(
    controller: str, scenario: Scenario, planner_away: tuple[tuple[float, float], ...] = ()
) -> RunResult:
    """The virtual-clock twin of a socket run: the same cycles, allowance and renewal, and the same kill."""
    options = SimulateOptions(
        steps=DEMO_STEPS,
        replan_s=REPLAN_S,
        allowance_s=ALLOWANCE_S,
        planner_away=planner_away,
        planner=PlannerOptions(),
    )
    return simulate(scenario, controller, options=options)


def killed_s(scenario: Scenario) -> float:
    """When the demo kills its planner [s after start]."""
    midnight = datetime.combine(DAY, time(0), tzinfo=ZoneInfo(scenario.site.timezone))
    return scenario.offset_s(midnight + timedelta(hours=PLANNER_DIES_H))


def virtual_demo() -> RunResult:
    """The virtual-clock twin of the demo's own day, with the death of its planner."""
    day = demo_day()
    dies_s = killed_s(day)
    return virtual("mpc", day, ((dies_s, dies_s + PLANNER_GONE_S),))


def plain(result: RunResult) -> dict[str, object]:
    """Everything that may not depend on the machine: what was counted, decided and traced."""
    out = {k: v for k, v in result_json(result).items() if k not in WALL}
    out["labels of plans"] = dict(result.plans.by_label)
    out["plant"] = {"t_s": result.trace.t_s.tolist(), "sum": result.trace.values.astype(float).sum().item()}
    out["rows"] = [float(x).hex() for x in result.trace.values.astype(float).sum(axis=1)]
    return out


if __name__ == "__main__":
    json.dump(plain(virtual(sys.argv[1], around_outage())), sys.stdout)
