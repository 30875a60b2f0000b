"""Exercise runs: a genset that has not run for so many days runs for a while under load.

    sum_t e_t + missed >= 1                                        an exercise run begins in step t: e_t = 1
    u_i >= e_t,    x_i >= (load P - P_min) e_t       for all i that the run from t on touches
    price of e_t: the days by which it is late;    of missed: those at the end of the plan, and one more

Rows stand for the first steps of a plan with whole commitment and are freed where no exercise is due in them
(due = 0); e is binary where one is. A run in progress counts for the plan once it has been long enough: until
then each plan asks for a whole one. A late day costs the rung `genset_care` times the rating for an hour.

Source: NFPA 110, 8.4.2 (monthly, 30 min at 30 % of the nameplate or more) is the usual data.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.assets import Exercise
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import firsts, machines
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import GensetStart, PlanningProblem
from optimizer.structure import Structure

EPS_H = 1e-6
SHOWN = 0.01


def exercised(s: Structure) -> list[tuple[int, Exercise]]:
    """Gensets that have to exercise."""
    return [(n, u.exercise) for n, u in enumerate(machines(s)) if u.exercise is not None]


def _touched(s: Structure, t: int, for_h: float) -> list[int]:
    """Steps that a run of `for_h` from the start of step `t` touches; [] if it ends after the plan."""
    begin = float(s.start_h[t])
    if begin + for_h > float(s.start_h[-1] + s.step_h[-1]) + EPS_H:
        return []
    return [i for i in range(t, s.steps) if float(s.start_h[i]) < begin + for_h - EPS_H]


def add(m: Model, s: Structure) -> None:
    """exercise (K, T), exercise_missed (K,)."""
    found, T = exercised(s), s.steps
    if not found:
        return
    K, L = len(found), m.shapes["above_kw"][1]
    begin, missed, due = m.var("exercise", K, T), m.var("exercise_missed", K), m.par("exercise_due", K)
    m.rows("exercise_run", (K,), lambda k: sum(begin[k, t] for t in range(T)) + missed[k] >= due[k])
    spots = [
        (k, i, [t for t in range(i + 1) if i in _touched(s, t, x.for_h)])
        for k, (_, x) in enumerate(found)
        for i in range(T)
    ]

    def runs(k: int, begun: list[int]) -> Expr:
        return sum(begin[k, t] for t in begun) if begun else 0.0

    def on(r: int) -> Expr:
        k, i, begun = spots[r]
        return m["on"][found[k][0], i] >= runs(k, begun)

    def loaded(r: int) -> Expr:
        k, i, begun = spots[r]
        n, x = found[k]
        least = max(0.0, x.load_ratio * machines(s)[n].p_rated_kw - machines(s)[n].p_min_kw)
        return sum(m["above_kw"][n, j, i] for j in range(L)) >= least * runs(k, begun)

    m.rows("exercise_on", (len(spots),), on)
    m.rows("exercise_load", (len(spots),), loaded)


def due_h(start: GensetStart, x: Exercise) -> float:
    """When the next exercise has to be over, counted from now [h]; negative: it is late."""
    return x.every_h - start.idle_h


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Whether one is due in the whole steps, when it may begin, and what it costs to be late."""
    found, first = exercised(s), firsts(s)
    if not found:
        return
    head = int((np.cumsum(~p.integral) == 0).sum())
    end_h = float(s.step_h[:head].sum())
    starts = [p.gensets[first[k]] for k, _ in found]
    due = [due_h(start, x) for start, (_, x) in zip(starts, found, strict=True)]
    binds = np.array([start.available and h < end_h - EPS_H for start, h in zip(starts, due, strict=True)])
    high, late = np.zeros((len(found), s.steps)), np.zeros((len(found), s.steps))
    for k, (_, x) in enumerate(found):
        for t in range(head if binds[k] else 0):
            touched = _touched(s, t, x.for_h)
            high[k, t] = float(bool(touched) and touched[-1] < head)
            late[k, t] = max(0.0, float(s.start_h[t]) + x.for_h - max(0.0, due[k])) / 24.0
    care = np.array([ladder(s.site).genset_care_per_kwh * machines(s)[k].p_rated_kw for k, _ in found])
    n.par("exercise_due", binds.astype(np.float64))
    n.bound("exercise", 0.0, high)
    n.whole("exercise", (high > 0.0) & p.integral)
    n.bound("exercise_missed", 0.0, 1.0)
    n.price("exercise_late", "exercise", late * care[:, None])
    rest = np.array([max(0.0, end_h - max(0.0, h)) / 24.0 + 1.0 for h in due])
    n.price("exercise_late", "exercise_missed", rest * care)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Exercise runs that are planned, and those that are due and are not."""
    for k, (n, x) in enumerate(exercised(s)):
        unit = machines(s)[n].id
        if float(v["exercise_missed"][k]) > SHOWN:
            yield f"{unit}: its exercise run of {60.0 * x.for_h:.0f} min is due and is not planned"
        elif (begun := v["exercise"][k] > 0.5).any():
            yield f"{unit}: exercise run from {p.grid.starts()[int(np.argmax(begun))]:%d %H:%M} UTC"
