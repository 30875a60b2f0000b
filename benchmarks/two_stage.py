"""Planning over scenarios: what it costs in CPU, and what it saves under real forecast errors.

    python -m benchmarks.two_stage --data FOLDER size [--grid study|live|coarse] [--scenarios 1,3,5,10]
    python -m benchmarks.two_stage --data FOLDER loop --from 2022-12-05 --days 7 --out FOLDER [--runs a,b]
    python -m benchmarks.two_stage --data FOLDER table --out FOLDER

`size`: one morning of the demo plant on measured load and PV (UCSD) and real load-shedding (Eskom), planned
with so many scenarios: rows, columns, CPU of the solve and of the whole plan, gap. `loop`: days of the same,
lived through on a virtual clock with the production edge; every run has the same days, grid and gap and
differs in how its planner reckons with the forecast being wrong. `table` puts finished runs side by side, day
by day against the deterministic plan.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from cli._study import day_costs
from cli.result_table import compare
from ems.plan import Plan
from ems.site import Site
from ems.site_schema import load_site
from optimizer import Planner, PlannerOptions, Uncertainty
from optimizer.extensive import Extensive
from optimizer.solve import Session
from sim.datasets import ucsd_eskom_scenario
from sim.harness import COARSE_PLANNER, STUDY_PLANNER, ControllerName, Run, SimulateOptions, StoppedError

ROOT = Path(__file__).resolve().parents[1]
GRIDS: Mapping[str, PlannerOptions] = {
    "coarse": COARSE_PLANNER, "study": STUDY_PLANNER, "live": PlannerOptions(),
}  # fmt: skip
DAY_S = 86400.0  # commitment common while it is whole
TIGHT = "mpc_tight"  # the deterministic plan with a quarter of the gap: is it scenarios that help, or effort?
TIGHT_RATIO = 0.25
RUNS: Mapping[str, tuple[str, Uncertainty]] = {
    "mpc": ("mpc", Uncertainty()),
    TIGHT: ("mpc", Uncertainty()),
    "two_stage": ("mpc_two_stage", Uncertainty()),
    "two_stage_10": ("mpc_two_stage", Uncertainty(scenarios=10)),
    "two_stage_cvar": ("mpc_two_stage", Uncertainty(cvar_weight_ratio=0.5)),
    "two_stage_day": ("mpc_two_stage", Uncertainty(commit_s=DAY_S)),
    "two_stage_day_step": ("mpc_two_stage", Uncertainty(commit_s=DAY_S, first_s=1.0)),
    "robust_75": ("mpc_robust", Uncertainty(quantile_ratio=0.75)),
    "robust_90": ("mpc_robust", Uncertainty()),
    "perfect": ("perfect", Uncertainty()),
}


class Watched:
    """Counts CPU of plans and of solves, and keeps the last size of an extensive form."""

    def __init__(self) -> None:
        self.plan_s: list[float] = []
        self.solve_s: list[float] = []
        self.gaps: list[float] = []
        self.shape = (0, 0)

    def hook(self) -> None:
        """Put stop-watches around every planner and session of this process."""
        plan, run = Planner.plan, Session.run

        def planned(planner: Planner, *args: Any, **kwargs: Any) -> Plan:
            begun, before = time.process_time(), sum(self.solve_s)
            made = plan(planner, *args, **kwargs)
            self.plan_s.append(time.process_time() - begun)
            self.solve_s = [*self.solve_s[: len(self.plan_s) - 1], sum(self.solve_s) - before]
            if made.solve.gap_ratio is not None:
                self.gaps.append(made.solve.gap_ratio)
            return made

        def solved(session: Session, *args: Any, **kwargs: Any) -> Any:
            begun = time.process_time()
            outcome = run(session, *args, **kwargs)
            self.solve_s.append(time.process_time() - begun)
            model = session._compiled
            if isinstance(model, Extensive) or self.shape == (0, 0):
                self.shape = model.form.shape
            return outcome

        Planner.plan, Session.run = planned, solved  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("size", "loop", "table"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--grid", choices=tuple(GRIDS), default="coarse")
    parser.add_argument("--scenarios", default="1,3,5,10")
    parser.add_argument("--from", dest="start", type=date.fromisoformat, default=date(2022, 12, 5))
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--runs", default="mpc,mpc_tight,two_stage,two_stage_day,robust_75,robust_90,perfect")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("highspy", "numpy"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}; grid {given.grid}")
    site = load_site(ROOT / "sites" / "demo" / "site.yaml")
    if given.what == "size":
        sizes(site, given)
    elif given.what == "loop":
        loop(site, given)
    else:
        table(given.out)


def sizes(site: Site, given: argparse.Namespace) -> None:
    """The plans of a morning, by number of scenarios; medians of CPU."""
    scenario = ucsd_eskom_scenario(site, given.data, given.start, 2)
    watched = Watched()
    watched.hook()
    for count in (int(x) for x in given.scenarios.split(",")):
        watched.__init__()  # type: ignore[misc]
        name = ControllerName.MPC if count == 1 else ControllerName.MPC_TWO_STAGE
        planner = replace(GRIDS[given.grid], uncertainty=Uncertainty(scenarios=count))
        run = Run(scenario, name, SimulateOptions(planner=planner, trace_s=None))
        with contextlib.suppress(StoppedError):
            run.go(stop=lambda: len(watched.plan_s) >= 8)
        rows, columns = watched.shape
        print(
            f"{count:3d} scenarios: {rows:6d} rows, {columns:6d} columns; CPU of a plan median "
            f"{np.median(watched.plan_s):6.2f} s, longest {max(watched.plan_s):6.2f} s, of which solver "
            f"{np.median(watched.solve_s):6.2f} s; gap median {np.median(watched.gaps):.2%}"
        )


def loop(site: Site, given: argparse.Namespace) -> None:
    """Live through the days with each of the runs and keep what came out."""
    scenario = ucsd_eskom_scenario(site, given.data, given.start, given.days)
    given.out.mkdir(parents=True, exist_ok=True)
    watched = Watched()
    watched.hook()
    for name in given.runs.split(","):
        path = given.out / f"{given.start}_{given.days}_{given.grid}_{name}.json"
        if path.is_file():
            continue
        watched.__init__()  # type: ignore[misc]
        controller, uncertainty = RUNS[name]
        planner = replace(GRIDS[given.grid], uncertainty=uncertainty)
        if name == TIGHT:
            planner = replace(planner, gap_ratio=TIGHT_RATIO * planner.gap_ratio)
        run = Run(scenario, ControllerName(controller), SimulateOptions(planner=planner, trace_s=None))
        result = run.go()
        costs = compare(site, [result])[0].costs
        kept = {
            "period": f"{given.start} +{given.days} d, {given.grid}",
            "run": name,
            "cost": costs.total_with_voll_cost,
            "cash": costs.total_cost,
            "lost": costs.voll_cost,
            "demand": costs.demand_cost,
            "fuel_l": costs.fuel_l,
            "starts": sum(costs.starts.values()),
            "run_h": sum(costs.run_h.values()),
            "unserved": {str(t): kwh for t, kwh in costs.unserved_tier_kwh.items()},
            "peak_kw": costs.peak_import_kw,
            "violations": sum(costs.violations.values()),
            "days": day_costs(site, result),
            "plans": len(watched.plan_s),
            "labels": dict(result.plans.by_label),
            "cpu_mean_s": mean(watched.plan_s),
            "cpu_p95_s": float(np.quantile(watched.plan_s, 0.95)),
            "gap_mean": mean(watched.gaps),
        }
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(
            f"{name}: {costs.total_with_voll_cost:.0f} {site.currency}, {mean(watched.plan_s):.2f} s a plan",
            flush=True,
        )


def table(folder: Path) -> None:
    """Finished runs by period, each against the deterministic one."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]
    for period in dict.fromkeys(r["period"] for r in found):
        _print(period, [r for r in found if r["period"] == period])
    both = {r["run"] for r in found}
    print("\nall periods together")
    for name in (n for n in RUNS if n in both and n != "mpc"):
        pairs = [(_find(found, r["period"], "mpc"), r) for r in found if r["run"] == name]
        known = [(a, b) for a, b in pairs if a is not None]
        if known:
            saved = [x - y for a, b in known for x, y in zip(a["days"], b["days"], strict=True)]
            base = sum(a["cost"] for a, _ in known)
            total = sum(b["cost"] for _, b in known)
            print(
                f"  {name:18s} {_paired(saved)}; in all {base:.0f} -> {total:.0f} ({total / base - 1:+.2%})"
            )


def _print(period: str, runs: Sequence[dict[str, Any]]) -> None:
    print(f"\n{period}")
    base = _find(runs, period, "mpc")
    order = {name: i for i, name in enumerate(RUNS)}
    for r in sorted(runs, key=lambda r: order[r["run"]]):
        unserved = " / ".join(f"{kwh:.1f}" for kwh in r["unserved"].values())
        print(
            f"  {r['run']:18s} cost {r['cost']:7.0f} (lost {r['lost']:5.0f}, demand {r['demand']:5.0f}), "
            f"{r['fuel_l']:6.0f} L, {r['starts']:4d} starts, {r['run_h']:6.1f} h, unserved {unserved} kWh, "
            f"peak {r['peak_kw']:4.0f} kW, {r['plans']} plans, CPU {r['cpu_mean_s']:.2f} s "
            f"(p95 {r['cpu_p95_s']:.2f}), gap {r['gap_mean']:.2%}"
        )
        if base is not None and r["run"] != "mpc":
            saved = [x - y for x, y in zip(base["days"], r["days"], strict=True)]
            print(f"  {'':18s} saved a day against mpc: {_paired(saved)}")


def _paired(saved: Sequence[float]) -> str:
    """Mean of paired differences with its standard error, and how many days are better."""
    error = stdev(saved) / math.sqrt(len(saved)) if len(saved) > 1 else float("nan")
    better = sum(x > 0.0 for x in saved)
    return (
        f"mean {mean(saved):+7.2f} +- {error:.2f} (standard error), {better} of {len(saved)} days better, "
        f"worst {min(saved):+.1f}, best {max(saved):+.1f}"
    )


def _find(runs: Sequence[dict[str, Any]], period: str, name: str) -> dict[str, Any] | None:
    return next((r for r in runs if r["period"] == period and r["run"] == name), None)


if __name__ == "__main__":
    main()
