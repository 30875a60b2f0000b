"""What the model layer, the formulation and the size of a plan cost, beside named rivals, in one run.

    python -m benchmarks.model_layers [--quick] [--windows N] [--only SECTION ...]

CPU seconds of one thread, medians [lowest..highest] over windows of problem P (problem_p.py) with different
seeds and starts. Ratios are the message: times are of this machine. Sections:

overhead     a planning cycle outside the solver, by phase, and the whole plan beside a bare HiGHS that solves
             the identical matrix
formulation  the planner's form beside single machines in order and the textbook form (bare.py), to equal gaps
tools        public modelling tools on the part of the problem that they can express (rivals.py), each in a
             process of its own, with the costs they find; from an environment made with requirements.txt
target       48 h on the variable step, four gensets, N-1, demand charge, to 0.5 %
growth       with steps, with gensets alike and unlike
scenarios    two-stage plans by number of scenarios
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import bare, problem_p, rivals
from benchmarks.growth import growth, scenarios, target
from benchmarks.measure import (
    EXTRACT,
    FLOOR,
    OUTSIDE,
    OVERHEAD,
    PUBLISH,
    TRANSFER,
    UPDATE,
    Floor,
    Phases,
    cycle,
    spread,
    timed,
)
from benchmarks.problem_p import Draw, fleet, posed
from benchmarks.scale import FULL, QUICK, VARIABLE, Scale, draws, machine, options
from ems.plan import Plan
from ems.site import Site
from optimizer import Planner
from optimizer.compiled import Compiled
from optimizer.formulation import Formulation, Shedding
from optimizer.intake import planning_problem
from optimizer.solve import SUB_MIPS_OFF
from optimizer.structure import structure_of


def overhead(scale: Scale) -> None:
    """Update, transfer, extraction and publication beside the solve; the checks before and after."""
    print("\noverhead: a cycle outside the solver [ms], three identical gensets, 1 % gap")
    heads = "update transfer extract publish sum floor intake replay".split()
    print(
        f"  {'':14} {'rows x columns':>14} {' '.join(f'{x:>8}' for x in heads)}   whole plan / bare solve [s]"
    )
    grids = [
        ("24 h x 15 min", ((900.0, 96),)),
        ("48 h x 15 min", ((900.0, 192),)),
        ("48 h variable", VARIABLE),
    ]
    if scale.long:
        grids.insert(2, ("48 h x 5 min", ((300.0, 576),)))
    for name, blocks in grids if scale.steps == QUICK.steps else [("small", ((900.0, scale.steps),))]:
        given, site = options(blocks, 0.01, scale.limit_s), problem_p.site(fleet(3))
        planner, phases, size = Planner(site, given), Phases(), (0, 0, 0)
        windows, floor = draws(scale, blocks), Floor()
        for d in [windows[0], *windows]:
            size = cycle(planner, given, (site, *posed(site, d)), phases, floor)
        phases.drop_first()  # with it goes what is done once
        plan = partial(_plan, planner, site)
        whole, run = np.array([timed(partial(plan, d)) for d in windows]).T
        parts = (UPDATE, TRANSFER, EXTRACT, PUBLISH, OVERHEAD, FLOOR, OUTSIDE[:1], OUTSIDE[1:])
        shown = (phases.ms(*x) for x in parts)
        print(
            f"  {name:14} {f'{size[0]} x {size[1]}':>14} {' '.join(f'{x:8.2f}' for x in shown)}   "
            f"{np.median(whole):.3f} / {np.median(run):.3f}, ratio of sums {whole.sum() / run.sum():.3f}"
        )
    _bare_check(scale)


def _plan(planner: Planner, site: Site, d: Draw) -> Plan:
    return planner.plan(*posed(site, d), None, 1)


def _bare_check(scale: Scale) -> None:
    """The planner's own HiGHS takes as long as a fresh one on the identical matrix."""
    blocks = ((900.0, scale.steps),)
    given, site = options(blocks, 0.01, scale.limit_s), problem_p.site(fleet(3))
    planner, own, fresh = Planner(site, given), [], []
    for d in draws(scale, blocks):
        p = planning_problem(site, *posed(site, d), given)
        compiled, session = planner.solver(p.grid, planner.formulation(p))
        filled, effort = compiled.fill(compiled.numbers(p)), planner.effort(p)
        session.push(filled)
        own.append(timed(partial(session.run, None, effort))[1])
        gaps = {"mip_abs_gap": effort.gap_abs}
        fresh.append(bare.solve(compiled.form, filled, 0.01, scale.limit_s, dict(SUB_MIPS_OFF) | gaps).cpu_s)
    print(f"  the planner's HiGHS {sum(own):.3f} s, a fresh one on the identical matrices {sum(fresh):.3f} s")


def formulation(scale: Scale) -> None:
    """The same problems in several forms, to the same gap."""
    blocks, site = ((900.0, scale.steps),), problem_p.site(fleet(3))
    given, tuned = options(blocks, 0.001, scale.limit_s, integral_h=1e3), dict(SUB_MIPS_OFF)
    forms = {"counted (planner)": (Formulation(shedding=Shedding.MEAN, fleets=(3,)), tuned),
             "single, ordered": (Formulation(shedding=Shedding.MEAN), tuned)}  # fmt: skip
    for gap in (0.01, 0.001):
        found: dict[str, list[bare.Bare]] = {}
        for d in draws(scale, blocks):
            p = planning_problem(site, *posed(site, d), given)
            for name, (form, how) in forms.items():
                c = Compiled(structure_of(site, p.grid, form))
                found.setdefault(name, []).append(
                    bare.solve(c.form, c.fill(c.numbers(p)), gap, scale.limit_s, how)
                )
            t, filled = bare.textbook(p)
            for name, how in (("textbook", {}), ("textbook, planner's options", tuned)):
                found.setdefault(name, []).append(bare.solve(t.form, filled, gap, scale.limit_s, how))
        print(f"\nformulation: {scale.steps} x 15 min, three identical gensets, all whole, to {gap:.1%} [s]")
        ours = np.array([x.cpu_s for x in found["counted (planner)"]])
        for name, runs in found.items():
            cpu = np.array([x.cpu_s for x in runs])
            late = sum(not x.reached for x in runs)
            stop = f"; {late} at the limit, gap {max(x.gap_ratio for x in runs):.1%}" if late else ""
            ratios = (np.median(cpu) / np.median(ours), cpu.sum() / ours.sum(), np.median(cpu / ours))
            said = " ".join(f"{x:5.1f}" for x in ratios)
            print(f"  {name:28} {spread(cpu):22} x {said} (of medians, of sums, by window){stop}")
        best = [min(x.objective for x in row) for row in zip(*found.values(), strict=True)]
        bound = [max(x.bound for x in row) for row in zip(*found.values(), strict=True)]
        wrong = max((b - o) / abs(o) for o, b in zip(best, bound, strict=True))
        print(
            f"  one optimum: no bound of one form above a point of another by more than {max(0.0, wrong):.1e}"
        )


def tools(scale: Scale) -> None:
    """Public modelling tools on the common problem, and what each cannot express."""
    gap, site = 0.001, rivals.plain_site(fleet(3))
    windows = rivals.windows(scale.windows, scale.steps, 3)
    print(f"\ntools: {scale.steps} x 15 min, the common problem (rivals.py), to {gap:.1%}; CPU of a cycle")
    print(f"  {'':18} {'model layer [ms]':>24} {'solve [s]':>19} {'whole [s]':>19} {'memory':>8}  cost")
    mine = _ours_alone(scale, gap)
    print(_tool_row("this planner", mine))
    problems = [rivals.as_json(site, d, gap, scale.limit_s) for d in windows]
    python, absent = rivals.tools_python(), []
    for name in scale.tools:
        got = rivals.tool(name, python, problems, 40.0 * scale.limit_s)
        if isinstance(got, str):
            absent.append(f"{name} ({got[:80]})")
            continue
        off = rivals.agreement(mine.cost, got.cost)
        verdict = "within" if off <= gap / (1.0 - gap) + max(mine.gap) else "NOT WITHIN"
        layer = np.median(got.layer_ms) / np.median(mine.layer_ms)
        whole = np.sum(got.whole_s) / np.sum(mine.whole_s)
        print(
            f"{_tool_row(f'{name} {got.version}', got)}  {off:.1e} apart, {verdict} the gaps; "
            f"layer x {layer:.1f}, whole x {whole:.1f}"
        )
    print(f"  absent: {', '.join(absent) if absent else 'none'}")
    for name in scale.tools:
        print(f"  {name}: {rivals.TOOLS[name]}")


def _tool_row(name: str, m: rivals.Measured) -> str:
    times = f"{spread(m.layer_ms, 1):>24} {spread(m.run_s):>19} {spread(m.whole_s):>19}"
    return f"  {name:18} {times} {m.rss_mb:5.0f} MB"


def _ours_alone(scale: Scale, gap: float) -> rivals.Measured:
    """Measure this planner on the common problem in a fresh process of its own, for its memory."""
    asked = json.dumps({"windows": scale.windows, "steps": scale.steps, "gap": gap, "limit_s": scale.limit_s})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.rivals"], input=asked, capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    return rivals.Measured(**json.loads(done.stdout.splitlines()[-1]))


SECTIONS: dict[str, Callable[[Scale], None]] = {
    "overhead": overhead, "formulation": formulation, "tools": tools, "target": target, "growth": growth,
    "scenarios": scenarios,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two windows, small sizes: some two minutes")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--windows", type=int, help="windows measured")
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    if given.windows:
        scale = replace(scale, windows=given.windows)
    machine()
    for name in given.only:
        SECTIONS[name](scale)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
