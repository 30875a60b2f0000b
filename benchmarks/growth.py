"""Sections of model_layers.py on how plans grow: the target, steps and gensets, scenarios."""

import time
from dataclasses import replace

import numpy as np

from benchmarks import problem_p
from benchmarks.measure import OVERHEAD, Phases, cycle, spread, timed
from benchmarks.problem_p import fleet, posed
from benchmarks.scale import DAYS, VARIABLE, Blocks, Scale, draws, options
from ems.condition import PlantCondition
from ems.forecast import Forecast
from ems.plan import Plan
from ems.site import Site
from optimizer import Planner
from optimizer.uncertainty import Uncertainty, UncertaintyKind


def target(scale: Scale) -> None:
    """Four gensets with N-1 on the variable step: the tail of the plans' times."""
    print("\ntarget: 48 h variable step, four gensets, N-1, demand charge, to 0.5 %; whole plans, cold [s]")
    asked: list[tuple[str, Site]] = [
        ("unlike, loss of a genset", problem_p.site(fleet(4, unlike=True), n_minus_1=("genset",))),
        ("alike, loss of a genset", problem_p.site(fleet(4), n_minus_1=("genset",))),
        (
            "unlike, of a genset or battery",
            problem_p.site(fleet(4, unlike=True), n_minus_1=("genset", "bess")),
        ),
    ]
    count = min(len(DAYS), 4 * scale.windows)
    for name, site in asked:
        given = options(VARIABLE, 0.005, scale.limit_s)
        planner = Planner(site, given)
        planner.prepare(problem_p.BEGIN)
        cpu, gaps, rescued = [], [], 0
        for d in draws(scale, VARIABLE, 4, count):
            plan, cpu_s = planned(planner, *posed(site, d))
            cpu.append(cpu_s)
            rescued += plan.solve.rescue != "none"
            gaps.append(np.inf if plan.solve.gap_ratio is None else plan.solve.gap_ratio)
        print(
            f"  {name:32} p50 {np.median(cpu):.2f}, p95 {np.quantile(cpu, 0.95):.2f}, max {max(cpu):.2f}; "
            f"gap p95 {np.quantile(gaps, 0.95):.2%}; {count} windows, {rescued} rescues"
        )


def planned(planner: Planner, condition: PlantCondition, forecast: Forecast) -> tuple[Plan, float]:
    """A plan made cold, and its CPU time [s]."""
    begun = time.process_time()
    plan = planner.plan(condition, forecast, None, 1)
    return plan, time.process_time() - begun


def growth(scale: Scale) -> None:
    """With steps, and with gensets alike and unlike."""
    print("\ngrowth with steps: three identical gensets, 1 % gap, whole for 24 h")
    grids = [
        ("24 h x 15 min", ((900.0, 96),)),
        ("48 h x 15 min", ((900.0, 192),)),
        ("48 h variable", VARIABLE),
    ]
    if scale.long:
        grids += [
            ("96 h x 15 min", ((900.0, 384),)),
            ("24 h x 5 min", ((300.0, 288),)),
            ("48 h x 5 min", ((300.0, 576),)),
        ]
    for name, blocks in grids:
        _grown(name, problem_p.site(fleet(3)), scale, blocks, 3)
    print(f"growth with gensets: {scale.steps} x 15 min, 3 MW together above three, 1 % gap")
    for unlike in (False, True):
        for count in (1, 2, 3, 4, 6, 8) if scale.long else (1, 3, 6):
            name = f"{count} {'unlike' if unlike else 'alike'}"
            _grown(name, problem_p.site(fleet(count, unlike)), scale, ((900.0, scale.steps),), count)


def _grown(name: str, site: Site, scale: Scale, blocks: Blocks, gensets: int) -> None:
    given = options(blocks, 0.01, scale.limit_s)
    planner, phases, size, first = Planner(site, given), Phases(), (0, 0, 0), []
    windows = draws(scale, blocks, gensets)
    first.append(timed(lambda: planner.solver(windows[0].grid, planner.formulation()))[0])
    for d in [windows[0], *windows]:
        size = cycle(planner, given, (site, *posed(site, d)), phases)
    phases.drop_first()
    print(
        f"  {name:>14} {f'{size[0]} x {size[1]}':>13}, {size[2]:4d} whole; laid out {1e3 * first[0]:.0f} ms; "
        f"overhead {phases.ms(*OVERHEAD):5.2f} ms; solve {spread(phases.seconds['solve'])} s"
    )


def scenarios(scale: Scale) -> None:
    """Two-stage plans: commitment common, the rest by scenario."""
    print(
        "\ngrowth with scenarios: two-stage, 48 h variable step, three identical gensets, 1 % gap; cold [s]"
    )
    site = problem_p.site(fleet(3))
    for count in (1, 3, 5, 10) if scale.long else (1, 3):
        given = replace(
            options(VARIABLE, 0.01, scale.limit_s),
            uncertainty=Uncertainty(kind=UncertaintyKind.TWO_STAGE, scenarios=count),
        )
        planner, cpu, gaps, alone = Planner(site, given), [], [], 0
        planner.prepare(problem_p.BEGIN)
        for d in draws(scale, VARIABLE):
            condition, forecast = posed(site, d)
            forecast = problem_p.with_scenarios(forecast, count)
            plan, cpu_s = planned(planner, condition, forecast)
            cpu.append(cpu_s)
            alone += count > 1 and plan.scenarios is None
            gaps.append(np.inf if plan.solve.gap_ratio is None else plan.solve.gap_ratio)
        print(f"  {count:2d} scenarios: {spread(cpu)} s, gap at most {max(gaps):.1%}, "
              f"{alone} of {len(cpu)} for the expected path alone")  # fmt: skip
