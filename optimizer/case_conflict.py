"""Why a case is infeasible: what would have to be given up for a plan, found by giving it up.

Each limit is lifted on its own; those that alone make a plan possible are named. Where none does, limits are
lifted all together and put back one by one as long as a plan remains: what is left lifted is named as a whole
(deletion filter; Chinneck and Dravnieks, ORSA J. Computing 3(2), 1991, 10.1287/ijoc.3.2.157).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ems.clock import wall_s
from optimizer.case_costs import CostPoints
from optimizer.case_problem import case_problem, formulation
from optimizer.case_units import Unit
from optimizer.cases import Case
from optimizer.options import PlannerOptions
from optimizer.rolling import Planner

LIMIT_S = 20.0  # for each question
ALL_S = 60.0  # for all of them
Edit = Callable[[Case], Case]


@dataclass(frozen=True, slots=True)
class _Lift:
    """A limit, and the case without it."""

    words: str
    edit: Edit


def conflict(case: Case) -> tuple[str, ...]:
    """What would have to be given up, one line each."""
    begun, lifts = wall_s(), list(_lifts(case))
    alone, tried = [], 0
    for x in lifts:
        if wall_s() - begun > ALL_S:
            break
        tried += 1
        if _possible(x.edit(case)):
            alone.append(x.words)
    rest = () if tried == len(lifts) else (f"{len(lifts) - tried} limits of {len(lifts)} were not looked at",)
    if alone or rest:
        return (*(f"possible without {x}" for x in alone), *rest)
    every = list(lifts)
    if not _possible(_without(case, every)):
        return ("no plan even with every limit lifted that can be: look at the initial states",)
    for x in lifts:
        fewer = [y for y in every if y is not x]
        if wall_s() - begun < 2.0 * ALL_S and _possible(_without(case, fewer)):
            every = fewer
    return ("possible only without all of: " + "; ".join(x.words for x in every),)


def _without(case: Case, lifts: list[_Lift]) -> Case:
    for x in lifts:
        case = x.edit(case)
    return case


def _possible(case: Case) -> bool:
    """Whether there is a plan at all."""
    problem = case_problem(case)
    options = PlannerOptions(
        gap_ratio=math.inf, time_limit_s=LIMIT_S, node_limit=None, formulation=formulation(case)
    )
    _, _, _, outcome = Planner(problem.site, options).rounds(problem, None, wall_s())
    return outcome.x is not None


def _each(key: str, i: str, changes: Mapping[str, Any]) -> Edit:
    """An edit of one element."""

    def edit(case: Case) -> Case:
        rows = tuple(replace(x, **changes) if x.id == i else x for x in getattr(case, key))
        return _with(case, key, rows)

    return edit


def _with(case: Case, key: str, rows: tuple[Any, ...]) -> Case:
    changes: Any = {key: rows}
    return replace(case, **changes)


def _dropped(key: str, i: str) -> Edit:
    def edit(case: Case) -> Case:
        rows = tuple(x for x in getattr(case, key) if x.id != i)
        if key == "reserves":
            rows = tuple(replace(x, counts=tuple(c for c in x.counts if c != i)) for x in rows)
        return _with(case, key, rows)

    return edit


def _without_minimum(u: Unit) -> Mapping[str, Any]:
    """A unit that may give as little as it likes while it is on; what that costs is of no account."""
    cost = CostPoints(kw=(0.0, u.p_max_kw), per_h=(1.0, 2.0))
    return {"p_min_kw": 0.0, "cost": cost, "output_min_kw": None}


# (elements, what is said of one, what it is set to); asked only where it is set to something else
LIFTS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("units", "unit {}: must_run", {"must_run": False}),
    ("units", "unit {}: available", {"available": True}),
    ("units", "unit {}: min_up_h", {"min_up_h": 0.0}),
    ("units", "unit {}: min_down_h", {"min_down_h": 0.0}),
    ("units", "unit {}: ramp_up_kw_h, start_up_kw", {"ramp_up_kw_h": None, "start_up_kw": None}),
    ("units", "unit {}: ramp_down_kw_h, shut_down_kw", {"ramp_down_kw_h": None, "shut_down_kw": None}),
    ("units", "unit {}: output_min_kw, output_max_kw", {"output_min_kw": None, "output_max_kw": None}),
    ("units", "unit {}: its paths", {"start_up_path_kw": (), "shut_down_path_kw": ()}),
    ("units", "unit {}: starts_max", {"starts_max": None}),
    ("storages", "storage {}: soc_end_min, soc_end_max", {"soc_end_min": 0.0, "soc_end_max": 1.0}),
    ("storages", "storage {}: soc_floor, soc_ceiling", {"soc_floor": 0.0, "soc_ceiling": 1.0}),
    ("renewables", "renewable {}: must_take", {"must_take": False}),
    ("renewables", "renewable {}: min_kw", {"min_kw": 0.0}),
    ("deferrables", "deferrable {}: its work", {"windows": ()}),
)


def _lifts(case: Case) -> Iterator[_Lift]:
    for x in case.loads:
        if case.hard and not x.interruptible:
            yield _Lift(f"all of load {x.id} served", _each("loads", x.id, {"interruptible": True}))
    for key, words, changes in LIFTS:
        for x in getattr(case, key):
            if not all(np.array_equal(getattr(x, k), value) for k, value in changes.items()):
                yield _Lift(words.format(x.id), _each(key, x.id, changes))
    for u in case.units:
        if u.p_min_kw > 0.0:
            yield _Lift(f"unit {u.id}: p_min_kw", _each("units", u.id, _without_minimum(u)))
    for q in case.reserves:
        if case.hard:
            yield _Lift(f"reserve {q.id}", _dropped("reserves", q.id))
    for e in case.energy_limits:
        yield _Lift(f"energy limit {e.id}", _dropped("energy_limits", e.id))
    if case.hard and (case.running_ratio > 0.0 or np.any(case.reserve_kw) or case.n_minus_1):
        none: Any = {"running_ratio": 0.0, "reserve_kw": 0.0, "n_minus_1": False}
        yield _Lift("running_ratio, reserve_kw, n_minus_1", lambda c: replace(c, **none))
    if (grid := case.grid) is not None:
        free = replace(grid, import_kw_max=1e7, export_kw_max=1e7)
        yield _Lift("import_kw_max, export_kw_max of the grid", lambda c: replace(c, grid=free))
