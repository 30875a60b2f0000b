"""The part of problem P that public modelling tools can express, posed to them and to this planner.

The common problem: identical gensets with minimum load, no-load and slope fuel, start cost and minimum times,
a battery with efficiencies that ends where it began, PV that may be curtailed, a grid with outages, caps and
a time-of-use price, a demand charge from the peak so far, load at its VOLL. No genset runs in the first half
hour and in the last three quarters: one of the tools imposes minimum times anew at the start of each window,
and wants them to end inside it.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import problem_p
from benchmarks.measure import WHO, timed
from benchmarks.problem_p import Draw
from ems.assets import GensetParams
from ems.plan import Plan
from ems.site import Site
from optimizer import Planner, PlannerOptions
from optimizer.extract import extract
from optimizer.formulation import Formulation, Shedding
from optimizer.intake import planning_problem
from optimizer.options import DemandWeight
from optimizer.problem import PlanningProblem

TOOLS = {
    "linopy": "algebra in arrays, rebuilt; whatever is linear, every row of it written by hand",
    "cvxpy": "algebra, parametrised and kept (DPP); as linopy",
    "pypsa": "components, rebuilt; without rows written by hand no reserve or N-1, no minimum times in hours"
    " on a variable step, no start in progress, billing intervals with history, feeders with dwell",
    "oemof": "components, rebuilt; as pypsa, nor elapsed minimum times",
}
CHILD = Path(__file__).resolve().parent / "tools" / "child.py"
VOLL = 5.0
AWAY_FIRST, AWAY_LAST = 2, 3  # steps at the ends of a window in which no genset runs
FORM = Formulation(reserve=False, tie_break_ratio=0.0, shedding=Shedding.MEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One tool over the windows. Seconds of CPU."""

    name: str
    version: str
    whole_s: tuple[float, ...]
    run_s: tuple[float, ...]
    cost: tuple[float, ...]
    rss_mb: float
    gap: tuple[float, ...] = ()  # proven, where it is known

    @property
    def layer_ms(self) -> list[float]:
        """CPU of each cycle outside HiGHS' run [ms]."""
        return [1e3 * (a - b) for a, b in zip(self.whole_s, self.run_s, strict=True)]


def plain_site(gensets: tuple[GensetParams, ...]) -> Site:
    """Problem P with one value of lost load."""
    site = problem_p.site(gensets)
    return replace(site, feeders=tuple(replace(f, voll_per_kwh=VOLL) for f in site.feeders))


def as_json(site: Site, d: Draw, gap: float, limit_s: float) -> dict[str, Any]:
    """The common problem of a window as plain numbers; the battery's energy is what lies in its window."""
    b, step_h = site.bess[0].battery, d.grid.step_h
    gensets = []
    for g in site.gensets:
        idle, top = g.fuel_l_h
        slope = (top - idle) / (g.fuel_kw[1] - g.fuel_kw[0])
        gensets.append(
            {
                "min_kw": g.p_min_kw, "max_kw": g.p_rated_kw, "per_h": idle * site.diesel_per_l,
                "per_kwh": slope * site.diesel_per_l, "start_cost": g.start_cost,
                "up_steps": round(g.min_up_s / d.grid.step_s[0]),
                "down_steps": round(g.min_down_s / d.grid.step_s[0]),
            }
        )  # fmt: skip
    return {
        "step_h": step_h.tolist(), "load_kw": d.load_kw.tolist(), "pv_kw": d.pv_kw.tolist(),
        "import_per_kwh": d.import_per_kwh.tolist(), "export_per_kwh": problem_p.EXPORT_PER_KWH,
        "mains": d.mains.tolist(), "import_kw": problem_p.IMPORT_KW, "export_kw": problem_p.EXPORT_KW,
        "demand_per_kw": problem_p.DEMAND_PER_KW, "peak_kw": d.peak_kw, "voll": VOLL,
        "power_kw": b.p_charge_kw_max, "energy_kwh": (b.soc_max - b.soc_min) * b.energy_kwh,
        "stored_kwh": (d.soc - b.soc_min) * b.energy_kwh, "eta_charge": b.eta_charge,
        "eta_discharge": b.eta_discharge, "wear_per_kwh": b.wear_per_kwh, "gensets": gensets,
        "there": [float(not x) for x in away(len(step_h))], "gap": gap, "limit_s": limit_s,
    }  # fmt: skip


def away(steps: int) -> tuple[bool, ...]:
    """Steps in which no genset runs."""
    return tuple(t < AWAY_FIRST or t >= steps - AWAY_LAST for t in range(steps))


def options(gap: float, limit_s: float) -> PlannerOptions:
    """The planner's options for the common problem."""
    return PlannerOptions(
        gap_ratio=gap, node_limit=None, time_limit_s=limit_s, integral_h=1e3, demand_weight=DemandWeight.FULL,
        terminal_per_kwh=(0.0, 0.0, 0.0), formulation=FORM,
    )  # fmt: skip


def problem(site: Site, d: Draw, given: PlannerOptions) -> PlanningProblem:
    """The common problem of a window as the planner's own."""
    p = planning_problem(site, *problem_p.posed(site, d), given)
    end = d.soc * site.bess[0].battery.energy_kwh
    low_kwh, high_kwh = np.zeros(p.steps), np.full(p.steps, site.bess[0].battery.energy_kwh)
    low_kwh[-1] = high_kwh[-1] = end
    return replace(
        p,
        gensets=tuple(replace(g, blocked=away(p.steps)) for g in p.gensets),
        bess=(replace(p.bess[0], band_kwh=(low_kwh, high_kwh)),),
    )


def windows(count: int, steps: int, gensets: int) -> list[Draw]:
    """Windows of the year that start on the mains, all gensets off for long."""
    out: list[Draw] = []
    for k in range(45):
        d = problem_p.draw(24 * (8 * k + 1) + 6, ((900.0, steps),), gensets, seed=7 + k % 3, running=0)
        if d.mains[:AWAY_FIRST].all() and d.mains[-AWAY_LAST:].all() and len(out) < count:
            out.append(d)
    return out


def ours(site: Site, draws: Sequence[Draw], gap: float, limit_s: float) -> Measured:
    """Measure this planner, its compiled model kept; the first window once before, as for the tools."""
    given = options(gap, limit_s)
    planner = Planner(site, given)
    found = []
    for d in [draws[0], *draws]:
        plans: list[Plan] = []

        def one(d: Draw = d, plans: list[Plan] = plans) -> None:
            compiled, p, n, outcome = planner.rounds(problem(site, d, given), None, time.perf_counter())
            plans.append(extract(compiled, p, n, outcome, WHO)[0])

        whole_s, run_s = timed(one)
        found.append((whole_s, run_s, plans[0].solve.objective, plans[0].solve.gap_ratio))
    whole, run, cost, gaps = (tuple(x) for x in zip(*found[1:], strict=True))
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return Measured(
        name="this planner", version="", whole_s=whole, run_s=run, cost=cost, rss_mb=rss_mb, gap=gaps
    )


def tool(name: str, python: str, problems: list[dict[str, Any]], timeout_s: float) -> Measured | str:
    """A tool in a process of its own; in words why not, where it is not there or fails."""
    done = subprocess.run(
        [python, str(CHILD), name],
        input=json.dumps(problems),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1]
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    cycles = answer["cycles"]
    worst = max(c["unbalanced_kw"] for c in cycles)
    if worst > 0.01:
        return f"its solution misses the bus balance by {worst:.3g} kW"
    return Measured(
        name=name, version=answer["version"], rss_mb=answer["rss_mb"],
        **{k: tuple(c[k] for c in cycles) for k in ("whole_s", "run_s", "cost")},
    )  # fmt: skip


def tools_python() -> str:
    """The interpreter of the tools' environment where there is one, else this one."""
    own = Path(__file__).resolve().parents[1] / ".venv-tools" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def agreement(a: Sequence[float], b: Sequence[float]) -> float:
    """Largest relative difference of two lists of costs."""
    return float(np.max(np.abs(np.array(a) - np.array(b)) / np.maximum(np.abs(np.array(a)), 1e-9)))


def main() -> None:
    """Measure this planner in this process alone; what is asked for stands on standard input."""
    asked = json.load(sys.stdin)
    draws = windows(asked["windows"], asked["steps"], 3)
    measured = ours(plain_site(problem_p.fleet(3)), draws, asked["gap"], asked["limit_s"])
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
