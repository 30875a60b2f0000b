"""What one step of the plant costs, against a floor: only building the records that a step returns.

python benchmarks/plant_step.py
"""

import platform
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ems.clock import wall_s
from plant_models.plant import PlantFlows, PlantInput, PlantState, initial_state, step
from tests import builders

COUNT = 5000


def cost_us(call: Callable[[], object]) -> float:
    """Best of five runs [us per call]."""
    best = float("inf")
    for _ in range(5):
        start = wall_s()
        for _ in range(COUNT):
            call()
        best = min(best, (wall_s() - start) / COUNT * 1e6)
    return best


def main() -> None:
    site = builders.site()
    demand = {"critical": 80.0, "essential": 150.0, "deferrable": 60.0}
    on = {"gen1": 200.0, "gen2": 80.0}
    idle = PlantInput(mains_present=True, demand_kw=demand, pv_potential_kw={"pv1": 200.0})
    asked = replace(idle, genset_run_request=dict.fromkeys(on, True), genset_p_set_kw=on)
    cases = (
        ("tied, gensets stopped", initial_state(site), idle),
        ("tied, gensets on load", initial_state(site, gensets_on_kw=on), asked),
        ("island, gensets on load", initial_state(site, gensets_on_kw=on, islanded_by="bess1"),
         replace(asked, mains_present=False)),
    )  # fmt: skip
    state, flows = step(site, cases[1][1], asked, 1.0)
    of_state = {f.name: getattr(state, f.name) for f in fields(PlantState)}
    of_flows = {f.name: getattr(flows, f.name) for f in fields(PlantFlows)}
    floor = cost_us(lambda: (PlantState(**of_state), PlantFlows(**of_flows)))
    print(
        f"Python {platform.python_version()}, {platform.machine()}, 1 BESS, 2 gensets, 1 PV, 3 feeders, 1 s"
    )
    print(f"{'floor: build PlantState and PlantFlows':40s} {floor:7.1f} us")
    for name, start, given in cases:
        us = cost_us(lambda start=start, given=given: step(site, start, given, 1.0))  # type: ignore[misc]
        print(
            f"{name:40s} {us:7.1f} us  {us / floor:5.1f} x floor, {us * 0.0864:5.1f} s per day of 1 s steps"
        )


if __name__ == "__main__":
    main()
