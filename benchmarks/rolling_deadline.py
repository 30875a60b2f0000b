"""A thousand plans against a deadline: what is published each time, and how good it is.

    python -m benchmarks.rolling_deadline --data FOLDER [--steps 1000] [--deadline 2.0] [--checked 40]
                                          [--worst 60] [--long 10] [--keep FOLDER]

The demo plant with a third, unlike genset lives on measured load and PV (UCSD) and real load-shedding
(Eskom) on a virtual clock, with forecasts from its own history and the production edge. Every quarter of an
hour, and whenever the grid changes, it is planned 48 h ahead with the given wall-clock deadline for all of
it. Counted: plans by label and rescue, wall time, stated gap. For `--checked` of them, evenly spread, and for
the `--worst` by stated gap, the same problem is solved again for up to `--long` seconds to a gap of 0.1 %,
and the published plan's cost is held against that bound. No other plan is further from its optimum than it
states, as long as no long solve finds a stated bound wrong, which is looked for. So the gaps over all plans,
of long solves where there is one and stated elsewhere, are upper limits. With `--keep` the run is saved every
hour of plant time and goes on from there.
"""

import argparse
import importlib.metadata
import pickle
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path

import numpy as np

from ems.condition import PlantCondition
from ems.forecast import Forecast
from ems.plan import Plan
from ems.site import Site
from ems.site_schema import load_site
from ems.timegrid import FloatArray
from optimizer import Planner, PlannerOptions
from optimizer.outlook import MonthOutlook
from sim.checkpoint import restore_run, save_run
from sim.datasets import ucsd_eskom_scenario
from sim.harness import ControllerName, Run, SimulateOptions, StoppedError

ROOT = Path(__file__).resolve().parents[1]
START = date(2022, 12, 5)  # a month of heavy load-shedding
REPLAN_S = 900.0
SAVED_EVERY_S = 3600.0  # of plant time
SHOWN_EVERY_S = 15.0  # of wall time
REFUTED = 1e-6  # of the cost: a bound that far above a plan is none

Call = tuple[PlantCondition, Forecast, Plan | None, MonthOutlook | None, Plan]
NOT_SOLVED = ("shifted", "rules")  # rescues that have no search of their own
UNKNOWN = float("inf")  # gap of a plan that states none


@dataclass(frozen=True, slots=True)
class Judged:
    """What a long solve says of a published plan."""

    gap_ratio: float  # of its cost against the bound of the long solve
    refuted: float  # its own bound above the cost that the long solve found, by this share; 0 where it holds


@dataclass(frozen=True, slots=True)
class Made:
    """What is remembered of each plan."""

    at: datetime
    label: str
    rescue: str  # kind: none, repaired, shifted, rules
    why: str
    wall_s: float
    gap_ratio: float


@dataclass(slots=True)
class Watched:
    """What the planner was asked and what it gave, with the wall time of each call."""

    every: int
    worst: int
    plans: list[Made] = field(default_factory=list)
    spread: dict[int, Call] = field(default_factory=dict)  # by number of the plan
    furthest: dict[int, Call] = field(default_factory=dict)  # the worst by stated gap so far
    judged: dict[int, Judged] = field(default_factory=dict)

    def hook(self) -> Callable[[], None]:
        """Put a stop-watch around every planner of this process; gives back what takes it off again."""
        plain = Planner.plan

        def timed(
            planner: Planner,
            condition: PlantCondition,
            forecast: Forecast,
            last: Plan | None,
            seq: int,
            outlook: MonthOutlook | None = None,
        ) -> Plan:
            begun = time.perf_counter()
            plan = plain(planner, condition, forecast, last, seq, outlook)
            wall_s = time.perf_counter() - begun
            how = plan.solve.rescue
            kind = how.replace(":", " ").split()[0]
            self._keep(len(self.plans), (condition, forecast, last, outlook, plan))
            self.plans.append(Made(condition.at, str(plan.label), kind, how, wall_s, _stated(plan)))
            return plan

        def off() -> None:
            Planner.plan = plain  # type: ignore[method-assign]

        Planner.plan = timed  # type: ignore[method-assign, assignment]
        return off

    def _keep(self, number: int, call: Call) -> None:
        if number % self.every == 0:
            self.spread[number] = call
        self.furthest[number] = call
        if len(self.furthest) > self.worst:
            del self.furthest[min(self.furthest, key=lambda k: _stated(self.furthest[k][-1]))]

    def upper(self) -> FloatArray:
        """Gap of every plan, or more: of a long solve where there is one, else as stated."""
        stated = dict(enumerate(m.gap_ratio for m in self.plans))
        return np.array(list((stated | {k: j.gap_ratio for k, j in self.judged.items()}).values()))


def _stated(plan: Plan) -> float:
    """Gap that a plan states; a rescued one repeats what its last search stated."""
    gap, rescue = plan.solve.gap_ratio, plan.solve.rescue
    return UNKNOWN if gap is None or rescue.startswith(NOT_SOLVED) else gap


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
    parser.add_argument("--checked", type=int, default=40)
    parser.add_argument("--worst", type=int, default=60, help="plans with the largest stated gaps")
    parser.add_argument("--long", type=float, default=10.0, help="seconds for each bound")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    site = three_gensets(load_site(ROOT / "sites" / "demo" / "site.yaml"))
    days = 2 + given.steps // 96
    scenario = ucsd_eskom_scenario(site, given.data, START, days)
    options = PlannerOptions(time_limit_s=given.deadline, node_limit=None)
    run = Run(
        scenario,
        ControllerName.MPC,
        SimulateOptions(planner=options, replan_s=REPLAN_S, trace_s=None, checkpoint_s=SAVED_EVERY_S),
    )
    if run.turns is not None:
        run.turns.prepare()  # as the planner process does before its first deadline
    watched = _begin(run, given.keep, max(1, given.steps // max(1, given.checked)), given.worst)
    begun = time.monotonic()
    off = watched.hook()
    _live(run, watched, given.steps, given.keep)
    off()
    _judge(watched, site, replace(options, gap_ratio=0.001, time_limit_s=given.long), given.keep)
    report(watched, site, given.deadline)
    print(f"wall time of this program since it was (re)started: {time.monotonic() - begun:.0f} s")


def _begin(run: Run, keep: Path | None, every: int, worst: int) -> Watched:
    """From the saved run where there is one."""
    if keep is None or not (keep / "watched.pickle").is_file():
        return Watched(every, worst)
    watched: Watched = pickle.loads((keep / "watched.pickle").read_bytes())
    restore_run(run, keep / "run.pickle")
    print(f"goes on after {len(watched.plans)} plans", flush=True)
    return watched


def _save(watched: Watched, keep: Path | None, run: Run | None = None) -> None:
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    if run is not None:
        save_run(run, keep / "run.pickle")
    part = keep / "watched.part"
    part.write_bytes(pickle.dumps(watched))
    part.replace(keep / "watched.pickle")


def _live(run: Run, watched: Watched, steps: int, keep: Path | None) -> None:
    """Until so many plans were made."""
    begun = shown = time.monotonic()
    first = len(watched.plans)

    def progress(_: float) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= SHOWN_EVERY_S:
            shown = now
            kinds = dict(Counter(m.rescue for m in watched.plans))
            each = (now - begun) / max(1, len(watched.plans) - first)
            print(f"  {len(watched.plans)} of {steps} plans, {each:.2f} s each, rescues {kinds}", flush=True)

    try:
        run.go(progress, lambda: len(watched.plans) >= steps, lambda r: _save(watched, keep, r))
    except StoppedError:
        del watched.plans[steps:]


def _judge(watched: Watched, site: Site, long: PlannerOptions, keep: Path | None) -> None:
    """Published cost against the bound of a long solve of the same problem."""
    planner = Planner(site, long)
    calls = {k: c for k, c in sorted((watched.spread | watched.furthest).items()) if k < len(watched.plans)}
    for k, (condition, forecast, last, outlook, plan) in calls.items():
        if k in watched.judged or plan.solve.objective is None or plan.solve.rescue.startswith(NOT_SOLVED):
            continue
        best = planner.plan(condition, forecast, last, plan.seq, outlook).solve
        if best.bound is None or best.objective is None:
            continue
        cost = max(1e-9, abs(plan.solve.objective))
        refuted = 0.0 if plan.solve.bound is None else max(0.0, plan.solve.bound - best.objective) / cost
        watched.judged[k] = Judged((plan.solve.objective - best.bound) / cost, refuted)
        print(
            f"  bound {len(watched.judged)} of {len(calls)}: {condition.at:%d %H:%M}, {best.solve_s:.1f} s, "
            f"published {watched.judged[k].gap_ratio:.2%} above it, stated {_stated(plan):.2%}",
            flush=True,
        )
        _save(watched, keep)


def report(watched: Watched, site: Site, deadline_s: float) -> None:
    """One table: labels, rescues, wall times, gaps."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("highspy", "numpy"))
    made, n = watched.plans, len(watched.plans)
    fresh = sum(m.label in ("optimal", "incumbent") for m in made)
    wall = np.array([m.wall_s for m in made])
    stated = np.array([m.gap_ratio for m in made if m.gap_ratio < UNKNOWN])
    print(
        f"\n{platform.machine()}, Python {platform.python_version()}, {versions}; {len(site.gensets)} gensets"
    )
    print(f"| {n} plans of 48 h, deadline {deadline_s:g} s | |\n|---|---|")
    print(f"| validated plans | {sum(m.label != 'rules' for m in made)} |")
    print(f"| fresh incumbents | {fresh} ({fresh / n:.2%}) |")
    print(f"| by label | {dict(Counter(m.label for m in made))} |")
    print(f"| rescues by kind | {dict(Counter(m.rescue for m in made))} |")
    print(
        f"| whole plan, wall p50 / p95 / max | {np.median(wall):.2f} / {np.quantile(wall, 0.95):.2f} / "
        f"{wall.max():.2f} s, {int((wall > deadline_s).sum())} over the deadline |"
    )
    if len(stated):
        print(f"| gap stated, p50 / p95 | {np.median(stated):.2%} / {np.quantile(stated, 0.95):.2%} |")
    sample = np.array([watched.judged[k].gap_ratio for k in watched.spread if k in watched.judged])
    if len(sample):
        print(
            f"| against bounds of long solves, {len(sample)} plans evenly spread, p50 / p95 / max | "
            f"{np.median(sample):.2%} / {np.quantile(sample, 0.95):.2%} / {sample.max():.2%} |"
        )
    if watched.judged:
        upper = watched.upper()
        wrong = sum(j.refuted > REFUTED for j in watched.judged.values())
        print(
            f"| all {n}: of {len(watched.judged)} long solves, as stated elsewhere, p50 / p95 / max | "
            f"{np.median(upper):.2%} / {np.quantile(upper, 0.95):.2%} / {upper.max():.2%} |"
        )
        print(f"| stated bounds that a long solve found wrong | {wrong} of {len(watched.judged)} |")
    for why, count in Counter(m.why for m in made if m.rescue != "none").most_common(8):
        print(f"  {count} x {why}")


if __name__ == "__main__":
    main()
