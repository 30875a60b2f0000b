"""What one decision of the edge costs, against a floor: latching the process image it decides on.

python benchmarks/edge_tick.py
"""

import platform
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dispatch.controllers.plan_follower import PlanFollower
from dispatch.controllers.rules import Rules
from dispatch.controllers.rules_tou import RulesTou
from dispatch.cycle import EdgeSetup, tick
from dispatch.observing.process_image import ProcessImage
from dispatch.state import EdgeState
from dispatch.vocabulary import TickInput
from ems.clock import wall_s
from ems.telemetry import Quality, Reading
from plant_models.plant import PlantInput, initial_state, step
from tests import builders
from tests.unit.dispatch.plans import plan_of

COUNT = 2000
DEMAND = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


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
    plan = plan_of(site, bess_kw=[50.0] * 8)
    cases = (
        ("rules, tied", Rules(), None, True),
        ("rules_tou, tied", RulesTou(), None, True),
        ("plan, tied", PlanFollower(), plan, True),
        ("rules, island", Rules(), None, False),
    )
    floor = 0.0
    for name, controller, followed, tied in cases:
        start = initial_state(site) if tied else initial_state(site, islanded_by="bess1")
        given = PlantInput(mains_present=tied, demand_kw=DEMAND, pv_potential_kw={"pv1": 150.0})
        image = ProcessImage({}, {})
        image.update(
            Reading(point=p, value=v, quality=Quality.GOOD, source_time=builders.T0, arrived_s=0.0)
            for p, v in step(site, start, given, 1.0)[1].readings().items()
        )
        if floor == 0.0:
            floor = cost_us(lambda image=image: image.latch(builders.T0, 1.0))  # type: ignore[misc]
            print(f"Python {platform.python_version()}, {platform.machine()}, one demo-size site")
            print(f"{'floor: latch the image':30s} {floor:7.1f} us")
        setup = EdgeSetup(site=site, controller=controller, shadow=False)
        seen = TickInput(snapshot=image.latch(builders.T0, 1.0), plan=followed, outages=(), dt_s=1.0)
        state, _ = tick(setup, EdgeState(epoch=1), seen)
        us = cost_us(lambda setup=setup, state=state, seen=seen: tick(setup, state, seen))  # type: ignore[misc]
        print(
            f"{name:30s} {us:7.1f} us  {us / floor:5.1f} x floor, {us * 0.0864:5.1f} s per day of 1 s cycles"
        )


if __name__ == "__main__":
    main()
