"""What a plan costs beside its bare solve, and beside building the Pyomo model anew each time.

    python benchmarks/planner_speed.py [--plans 24] [--site sites/demo/site.yaml]

One rolling day of hourly plans over 48 h (24 x 15 min, 12 x 30 min, 36 x 1 h). CPU seconds of this process.
`overhead` is everything around the solver: checks, numbers, vectors, transfer, extraction, replay.
"""

import argparse
import importlib.metadata
import platform
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.forecast import Forecast
from ems.outage import OutageNotice
from ems.plan import Plan
from ems.site import GridMode, Site
from ems.site_schema import load_site
from ems.timegrid import TimeGrid
from optimizer import Planner, PlannerOptions
from optimizer.build import build
from optimizer.compiled import Compiled
from optimizer.formulation import Formulation, Shedding
from optimizer.intake import planning_problem
from optimizer.reference import PyomoModel
from optimizer.rolling import warm_start
from optimizer.solve import Session
from optimizer.structure import structure_of

START = datetime(2026, 3, 2, 5, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[1]


def condition(site: Site, at: datetime, soc: float, peak_kw: float) -> PlantCondition:
    return PlantCondition(
        at=at,
        grid_mode=GridMode.GRID_TIED,
        forming=site.grid.id,
        bess={
            b.id: BessCondition(
                available=True, soc=soc, p_kw=0.0, p_charge_kw_max=b.battery.p_charge_kw_max,
                p_discharge_kw_max=b.battery.p_discharge_kw_max,
            )
            for b in site.bess
        },
        gensets={
            g.id: GensetCondition(
                available=True, on_load=False, starting=False, ready_in_s=0.0, age_s=1e6, p_kw=0.0,
                fuel_l=g.tank_l, starts_today=0,
            )
            for g in site.gensets
        },
        pv_kw={}, feeder_kw={}, feeder_closed={}, grid_p_kw=0.0, peak_import_kw=peak_kw,
        interval_import_kwh=0.0, interval_elapsed_s=0.0,
    )  # fmt: skip


def forecast(site: Site, grid: TimeGrid, seed: int) -> Forecast:
    rng = np.random.default_rng(seed)
    h = np.array([(s.hour + s.minute / 60.0 - 5.0) % 24.0 for s in grid.starts()])
    shape = 0.45 + 0.35 * np.exp(-(((h - 12.0) / 4.0) ** 2)) + 0.25 * np.exp(-(((h - 19.5) / 2.0) ** 2))
    shape = np.clip(shape + 0.03 * rng.standard_normal(len(h)), 0.1, 1.0)
    sun = np.maximum(0.0, np.sin((h - 6.0) / 12.0 * np.pi)) ** 1.3
    return Forecast(
        grid=grid, issued_at=grid.start, data_cutoff=grid.start, source="benchmark",
        load_kw={f.id: f.p_peak_kw * shape for f in site.feeders},
        pv_kw={p.id: 0.7 * p.p_ac_kw * sun for p in site.pv},
        import_per_kwh=site.tariff.import_prices(grid),
        export_per_kwh=site.tariff.export_prices(grid),
        outages=tuple(
            OutageNotice(
                id=f"o{day}", issued_at=START - timedelta(days=1),
                start=START + timedelta(days=day, hours=18), end=START + timedelta(days=day, hours=21),
            )
            for day in range(4)
        ),
    )  # fmt: skip


@dataclass
class Times:
    plan: list[float]
    wall: list[float]
    bare: list[float]
    rebuilt: list[float]
    pyomo: list[float]
    gap: list[float]


def cpu(begun: float) -> float:
    return time.process_time() - begun


def one_day(site: Site, plans: int, options: PlannerOptions) -> tuple[Times, Compiled, float]:
    planner, last, soc, times = Planner(site, options), None, 0.5, Times([], [], [], [], [], [])
    begun = time.process_time()
    compiled, _ = planner.solver(planner.horizon(START), Formulation(shedding=Shedding.MEAN))
    compile_s = cpu(begun)
    bare = Session(compiled)
    for k in range(plans):
        at = START + timedelta(hours=k)
        grid = planner.horizon(at)
        where, view = (
            condition(site, at, soc, last.peak_import_kw if last else 150.0),
            forecast(site, grid, k),
        )
        problem = planning_problem(site, where, view, options)
        n = compiled.numbers(problem)
        filled, start = compiled.fill(n), warm_start(compiled.structure, problem, n, last)
        effort = replace(planner.effort(problem), time_limit_s=None)
        bare.push(filled)  # the floor: the identical matrix is in the solver already
        begun = time.process_time()
        bare.run(start, effort)
        times.bare.append(cpu(begun))
        begun = time.process_time()
        Compiled(structure_of(site, grid, options.formulation))
        times.rebuilt.append(cpu(begun))
        if k % 6 == 0:
            begun = time.process_time()
            build(structure_of(site, grid, options.formulation), PyomoModel).standard_form()
            times.pyomo.append(cpu(begun))
        begun, wall = time.process_time(), time.perf_counter()
        last = published(planner.plan(where, view, last, k))
        times.plan.append(cpu(begun))
        times.wall.append(time.perf_counter() - wall)
        if last.solve.gap_ratio is not None:
            times.gap.append(last.solve.gap_ratio)
        soc = last.bess_soc_end[site.bess[0].id][3]
    return times, compiled, compile_s


def published(plan: Plan) -> Plan:
    if plan.solve.rescue != "none":
        raise SystemExit(f"a rescue was used: {plan.solve.rescue}")
    return plan


def report(times: Times, compiled: Compiled, compile_s: float) -> None:
    plan, bare, rebuilt = (np.array(x) for x in (times.plan, times.bare, times.rebuilt))
    rows, columns = compiled.form.shape
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("highspy", "pyomo", "numpy"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    print(f"{rows} rows, {columns} columns; compiled once in {compile_s:.2f} s CPU; {len(plan)} plans")
    for name, x in (("bare solve", bare), ("whole plan", plan), ("plan - bare", plan - bare)):
        print(f"  {name:12} median {np.median(x) * 1e3:7.1f} ms   p95 {np.quantile(x, 0.95) * 1e3:7.1f} ms")
    print(
        f"  laid out anew each time: {np.median(rebuilt) * 1e3:.0f} ms, "
        f"by Pyomo {np.median(times.pyomo) * 1e3:.0f} ms"
    )
    print(f"  wall p50 {np.median(times.wall):.3f} s, p95 {np.quantile(times.wall, 0.95):.3f} s")
    gaps = (
        f"p50 {np.median(times.gap):.2%}, p95 {np.quantile(times.gap, 0.95):.2%}" if times.gap else "unknown"
    )
    print(f"  gap {gaps}, stated by {len(times.gap)} of {len(plan)} plans")
    print(f"ratio whole plan / bare solve: {plan.sum() / bare.sum():.3f} (all plans together)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=24)
    parser.add_argument("--site", type=Path, default=ROOT / "sites" / "demo" / "site.yaml")
    given = parser.parse_args()
    report(*one_day(load_site(given.site), given.plans, PlannerOptions(gap_ratio=0.01, node_limit=None)))


if __name__ == "__main__":
    main()
