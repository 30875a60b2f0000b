"""A thousand plans against a deadline: what is published each time, and how good it is.

    python -m benchmarks.rolling_deadline --data FOLDER [--steps 1000] [--deadline 2.0] [--checked 20]

The demo plant with a third, unlike genset lives on measured load and PV (UCSD) and real load-shedding (Eskom)
on a virtual clock; every quarter of an hour, and whenever the grid changes, it is planned 48 h ahead with the
given wall-clock deadline for everything. Counted: plans by label (rescues are `shifted` and `rules`), wall
time, stated gap. For `--checked` of them, evenly spread, the same problem is solved again for up to a minute
to a gap of 0.1 %, and the published plan's cost is held against that bound.
"""

import argparse
import importlib.metadata
import platform
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np

from ems.condition import PlantCondition
from ems.forecast import Forecast
from ems.plan import Plan
from ems.site import Site
from ems.site_schema import load_site
from optimizer import Planner, PlannerOptions
from sim.datasets import ucsd_eskom_scenario
from sim.harness import SimulateOptions, simulate
from sim.result import RunResult

ROOT = Path(__file__).resolve().parents[1]
START = date(2022, 12, 5)  # a month of heavy load-shedding
REPLAN_S = 900.0


@dataclass(slots=True)
class Watched:
    """What the planner was asked and what it gave, with the wall time of each call."""

    options: PlannerOptions
    every: int
    walls_s: list[float] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    kept: list[tuple[PlantCondition, Forecast, Plan | None, Plan]] = field(default_factory=list)

    def hook(self) -> None:
        """Put a stop-watch around every planner of this process."""
        plain = Planner.plan

        def timed(
            planner: Planner, condition: PlantCondition, forecast: Forecast, last: Plan | None, seq: int
        ) -> Plan:
            begun = time.perf_counter()
            plan = plain(planner, condition, forecast, last, seq)
            self.walls_s.append(time.perf_counter() - begun)
            if len(self.plans) % self.every == 0:
                self.kept.append((condition, forecast, last, plan))
            self.plans.append(plan)
            return plan

        Planner.plan = timed  # type: ignore[method-assign, assignment]


def three_gensets(site: Site) -> Site:
    """The site with a copy of its first genset at two thirds of the size, without connections."""
    first = site.gensets[0]
    third = replace(
        first,
        id="gen3",
        p_rated_kw=first.p_rated_kw * 2 / 3,
        p_min_kw=first.p_min_kw * 2 / 3,
        s_kva=first.s_kva * 2 / 3,
        fuel_kw=tuple(x * 2 / 3 for x in first.fuel_kw),
        fuel_l_h=tuple(0.7 * x for x in first.fuel_l_h),
    )
    rights = dict(site.authority.setpoints)
    for point, right in site.authority.setpoints.items():
        if point.startswith(f"{first.id}."):
            own = point.replace(first.id, "gen3")
            rights[own] = replace(right, point=own)
    return replace(
        site,
        gensets=(*site.gensets, third),
        forming=replace(site.forming, islanded=(*site.forming.islanded, "gen3")),
        authority=replace(site.authority, setpoints=rights),
        connections=(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--deadline", type=float, default=2.0)
    parser.add_argument("--checked", type=int, default=20)
    given = parser.parse_args()
    site = three_gensets(load_site(ROOT / "sites" / "demo" / "site.yaml"))
    days = max(1, round(given.steps / 96))
    scenario = ucsd_eskom_scenario(site, given.data, START, days)
    options = PlannerOptions(gap_ratio=0.005, time_limit_s=given.deadline, node_limit=None)
    watched = Watched(options, max(1, given.steps // given.checked))
    watched.hook()
    run = SimulateOptions(planner=options, replan_s=REPLAN_S, trace_s=None)
    done = simulate(scenario, "mpc", options=run)
    report(watched, done, given.deadline)
    judge(watched, site)


def report(planner: Watched, done: RunResult, deadline_s: float) -> None:
    """Labels, wall times, gaps."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("highspy", "numpy"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    labels = Counter(str(p.label) for p in planner.plans)
    n = len(planner.plans)
    fresh = labels["optimal"] + labels["incumbent"]
    walls = np.array(planner.walls_s)
    gaps = np.array([p.solve.gap_ratio for p in planner.plans if p.solve.gap_ratio is not None])
    print(f"{n} plans over {len(planner.plans[0].grid)} steps each and more: {dict(labels)}")
    print(f"  fresh: {fresh / n:.2%}; rescues by reason:")
    for why, count in Counter(p.solve.rescue for p in planner.plans if p.solve.rescue != "none").items():
        print(f"    {count} x {why}")
    late = int((walls > deadline_s).sum())
    print(
        f"  whole plan, wall: p50 {np.median(walls):.2f} s, p95 {np.quantile(walls, 0.95):.2f} s, "
        f"max {walls.max():.2f} s; {late} over the deadline of {deadline_s:g} s"
    )
    p50, p95 = np.median(gaps), np.quantile(gaps, 0.95)
    print(f"  gap stated: p50 {p50:.2%}, p95 {p95:.2%}, by {len(gaps)} of {n}")
    violations = {k: v for k, v in done.violation_s.items() if v}
    print(f"  plant: bus dead {done.counters.bus_dead_s:.1f} s, violations [s] {violations}")


def judge(planner: Watched, site: Site) -> None:
    """Published cost against the bound of a long solve of the same problem."""
    long = replace(planner.options, gap_ratio=0.001, time_limit_s=60.0)
    gaps = []
    for condition, forecast, last, plan in list(planner.kept):
        if plan.solve.objective is None:
            continue
        best = Planner(site, long).plan(condition, forecast, last, plan.seq)
        if best.solve.bound is not None:
            gaps.append((plan.solve.objective - best.solve.bound) / max(1e-9, abs(plan.solve.objective)))
    if gaps:
        print(
            f"  against bounds of long solves, {len(gaps)} plans: gap p50 {np.median(gaps):.2%}, "
            f"p95 {np.quantile(gaps, 0.95):.2%}, max {max(gaps):.2%}"
        )


if __name__ == "__main__":
    main()
