"""One controller on a cut of the demo day, in a process of its own: `python -m tests.e2e.virtual mpc`."""

import json
import sys

from cli.demo import ALLOWANCE_S, REPLAN_S
from sim.harness import SimulateOptions, simulate
from sim.result import RunResult, result_json
from sim.scenario import Scenario
from sim.steps import DEMO_STEPS
from tests.e2e.days import around_outage

WALL = ("wall_s", "plans")


def virtual(controller: str, scenario: Scenario) -> RunResult:
    """The virtual-clock twin of a socket run: the same cycles, allowance and renewal."""
    options = SimulateOptions(steps=DEMO_STEPS, replan_s=REPLAN_S, allowance_s=ALLOWANCE_S)
    return simulate(scenario, controller, options=options)


def plain(result: RunResult) -> dict[str, object]:
    """Everything that may not depend on the machine: what was counted, decided and traced."""
    out = {k: v for k, v in result_json(result).items() if k not in WALL}
    out["labels of plans"] = dict(result.plans.by_label)
    out["plant"] = {"t_s": result.trace.t_s.tolist(), "sum": result.trace.values.astype(float).sum().item()}
    out["rows"] = [float(x).hex() for x in result.trace.values.astype(float).sum(axis=1)]
    return out


if __name__ == "__main__":
    json.dump(plain(virtual(sys.argv[1], around_outage())), sys.stdout)
