"""What one round leaves to the next: its decisions, dispatched anew as a start, and its bound.

A later round asks for more (binaries in more steps, feeders shed whole), so that the optimum of the one
before bounds it from below. Where its decisions, rounded to what is asked for now, cost no more than the gap
above that bound, they are the answer, and nothing is searched for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ems.timegrid import BoolArray, FloatArray
from optimizer.compiled import Compiled, Filled
from optimizer.fleets import single_machines
from optimizer.formulations.windows import EPS_H
from optimizer.marking import SHED_KW, shedding
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.repair import held, linear
from optimizer.solve import Effort, Outcome, Session
from optimizer.structure import Structure

OPEN_RATIOS = (0.5, 0.0)  # a feeder is opened where more than this share of it is shed; each is tried
BEFORE_H, AFTER_H = 4.0, 2.0  # around a shed, in which its decisions are looked at again
POLISH_RATIO = 0.1  # of the gap, to which that is done
POLISH_SHARE = 0.4  # of what is left of a deadline, for it
WORTH_S = 0.2  # a shorter search is not begun: it finds nothing better, and may end half a second late
FULL_KW = 1e-6  # beyond a piece: more than rounding

Start = dict[str, FloatArray]


def proven(outcome: Outcome, bound: float | None, effort: Effort) -> Outcome:
    """An outcome with the better of its bound and one that is known; optimal where that closes the gap."""
    known = [b for b in (outcome.bound, bound) if b is not None]
    if outcome.objective is None or not known:
        return outcome
    gap = max(0.0, outcome.objective - max(known))
    gap_ratio = gap / max(abs(outcome.objective), 1e-9)
    closed = gap_ratio <= effort.gap_ratio or gap <= effort.gap_abs
    return replace(outcome, bound=max(known), gap_ratio=gap_ratio, optimal=outcome.optimal or closed)


def better(known: Outcome | None, found: Outcome) -> Outcome:
    """Of what was known before a search and what it found, the one that costs less; the latter, if alike."""
    if known is None or known.objective is None:
        return found
    return found if found.objective is not None and found.objective <= known.objective else known


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a round is asked.

    The whole columns of `filled` are those of the compiled model, at its places: it may hold more scenarios
    behind them, whose recourse is linear.
    """

    problem: PlanningProblem
    compiled: Compiled
    numbers: Numbers
    session: Session
    filled: Filled
    effort: Callable[[float], Effort]  # how long to look from now on: a share of what is left


def continued(asked: Asked, before: Compiled, v: dict[str, FloatArray], bound: float | None) -> Outcome:
    """A round from the decisions `v` of the model `before`, which are taken where they are within the gap.

    `bound` is that of the round before, None if it does not bound this one.
    """
    known, start = best_carried(asked, carried(before, v, asked.compiled, asked.problem, asked.numbers))
    if known is not None and start is not None:
        if _worth(asked.effort(POLISH_SHARE)):
            known, start = polished(asked, known, start)
        known = proven(known, bound, asked.effort(1.0))
        if known.optimal or not _worth(asked.effort(1.0)):
            return known
    effort = asked.effort(1.0)
    return better(known, proven(asked.session.solve(asked.filled, effort, start), bound, effort))


def _worth(effort: Effort) -> bool:
    return effort.time_limit_s is None or effort.time_limit_s >= WORTH_S


def best_carried(asked: Asked, starts: Iterator[Start]) -> tuple[Outcome | None, Start | None]:
    """The start that costs least when all but it is dispatched anew, and its dispatch; None if none can be.

    The outcome is proven for its own decisions only: it has neither a bound nor a gap.
    """
    best: tuple[Outcome | None, Start | None] = None, None
    least, effort = np.inf, linear(asked.effort(1.0))
    for start in starts:
        outcome = asked.session.solve(held(asked.compiled, asked.filled, start), effort)
        if outcome.optimal and outcome.objective is not None and outcome.objective < least:
            least = outcome.objective
            best = replace(outcome, optimal=False, bound=None, gap_ratio=None), start
    return best


def polished(asked: Asked, known: Outcome, start: Start) -> tuple[Outcome, Start]:
    """What was carried, or what is better: its decisions around each shed are free again, all others held.

    A whole feeder may be lost for the little that was to be shed of it, at less than the gap of the whole
    plan and in its first step; a plan is made anew before the rest of it is lived, so that this adds up.
    """
    assert known.x is not None
    compiled = asked.compiled
    near = _around_sheds(compiled.structure, asked.problem, compiled.values(known.x)["shed_kw"])
    if not near.any():
        return known, start
    full = asked.effort(POLISH_SHARE)
    small = replace(full, gap_ratio=POLISH_RATIO * full.gap_ratio, gap_abs=POLISH_RATIO * full.gap_abs)
    found = asked.session.solve(_freed(compiled, asked.filled, start, near), small, start)
    if found.x is None or better(known, found) is known:
        return known, start
    v = compiled.values(found.x)
    whole = {name: np.where(np.isnan(x), np.nan, np.round(v[name])) for name, x in start.items()}
    return replace(found, optimal=False, bound=None, gap_ratio=None), whole


def _freed(compiled: Compiled, filled: Filled, start: Start, near: BoolArray) -> Filled:
    """The problem with every whole column fixed at its start but those of the steps `near` (T,)."""
    fixed = held(compiled, filled, start)
    free = np.zeros_like(filled.integer)
    for name in start:
        shape = compiled.shapes[name]
        if shape[-1:] == near.shape:
            free[compiled.form.columns[name]] = np.broadcast_to(near, shape).ravel()
    free &= filled.integer
    low, high = np.where(free, filled.low, fixed.low), np.where(free, filled.high, fixed.high)
    return replace(fixed, low=low, high=high, integer=free)


def _around_sheds(s: Structure, p: PlanningProblem, shed_kw: FloatArray) -> BoolArray:
    """(T,) whole steps from some hours before a feeder behind a breaker is shed until some hours after it."""
    out = np.zeros(s.steps, dtype=np.bool_)
    for t in np.flatnonzero(shedding(p, {"shed_kw": shed_kw})):
        away_h = s.start_h - s.start_h[t]
        out |= (away_h >= -BEFORE_H) & (away_h <= AFTER_H)
    return out & p.integral


def carried(
    before: Compiled, v: dict[str, FloatArray], after: Compiled, p: PlanningProblem, n: Numbers
) -> Iterator[Start]:
    """Decisions `v` of the model `before` for the whole columns of `after`, NaN elsewhere: one way a share.

    `p` and `n` are the problem and the numbers of `after`.
    """
    if before.structure.formulation.fleets != after.structure.formulation.fleets:
        v = single_machines(before.structure, p, v)
    known = dict(v)
    if "charging" in after.shapes:
        known |= _directions(n, v)
    for ratio in OPEN_RATIOS if "feeder_open" in after.shapes and p.shed_whole.any() else OPEN_RATIOS[:1]:
        if "feeder_open" in after.shapes:
            known["feeder_open"] = _opened(after.structure, p, v["shed_kw"], ratio)
        yield {
            name: np.where(whole, np.clip(np.round(known[name]), n.low[name], n.high[name]), np.nan)
            for name in after.form.columns
            if (whole := n.integer[name]).any() and name in known and known[name].shape == whole.shape
        }


def _directions(n: Numbers, v: dict[str, FloatArray]) -> Start:
    """Which way each battery and the grid go on balance, and which pieces of a battery's power are full."""
    flow = v["charge_kw"].sum(axis=1) - v["discharge_kw"].sum(axis=1)
    out = {"charging": (flow >= 0.0).astype(np.float64)}
    if "importing" in n.shapes:
        out["importing"] = (v["import_kw"] >= v["export_kw"]).astype(np.float64)
    if "piece_full" in n.shapes:
        ends = [np.cumsum(n.high[name], axis=1)[:, :-1] for name in ("charge_kw", "discharge_kw")]
        ways = zip((flow, -flow), ends, strict=True)
        out["piece_full"] = np.array([kw[:, None, :] > end + FULL_KW for kw, end in ways]).astype(np.float64)
    return out


def _opened(s: Structure, p: PlanningProblem, shed_kw: FloatArray, ratio: float) -> FloatArray:
    """(breakers, T) feeders open where more than a share of them is shed, for as long as each must stay."""
    behind = [i for i, f in enumerate(s.site.feeders) if f.has_breaker]
    shed, load = shed_kw[behind], p.load_kw[behind]
    out: BoolArray = (shed > SHED_KW) & (shed >= ratio * load)
    for row, i in zip(out, behind, strict=True):
        unit = s.site.feeders[i]
        lasting(s.start_h, row, bool(p.feeder_open[i]), unit.shed_min_s / 3600.0, unit.served_min_s / 3600.0)
    return out.astype(np.float64)


def lasting(
    start_h: FloatArray, row: BoolArray, before: bool, shed_min_h: float, served_min_h: float
) -> None:
    """Let a feeder that is to open stay open, and one that closes closed, for its least time.

    What is wanted open is; where a time is too short it is open for longer.
    `row` (T,) is changed in place: open in each step. `before`: open when the first begins.
    """
    is_open, since_h = before, -np.inf  # of the last change
    for t, now_h in enumerate(start_h):
        if row[t] == is_open:
            continue
        if is_open and now_h - since_h < shed_min_h - EPS_H:
            row[t] = True
        elif not is_open and now_h - since_h < served_min_h - EPS_H:
            row[np.searchsorted(start_h, since_h) : t + 1] = True
            is_open, since_h = True, -np.inf  # before it closed it had been open for long enough
        else:
            is_open, since_h = not is_open, float(now_h)
