"""What a case asks beyond a site, checked in its result without the solver and without the model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ems.timegrid import FloatArray
from optimizer.case_asked import terms_of
from optimizer.case_terms import Budget, Kind, Product, Range, Ride
from optimizer.case_units import Unit
from optimizer.cases import Case

Rows = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Series (T,) of a result by id: `flow` what each asset gives, by (kind, id); `held` by (reserve, id)."""

    on: Rows
    flow: Mapping[tuple[Kind, str], FloatArray]
    held: Mapping[tuple[str, str, bool], FloatArray]
    held_short: Rows
    missed: Mapping[str, tuple[float, float]]  # short and over of each energy limit
    step_h: FloatArray


def case_faults(case: Case, found: Result, size_kw: float, ratio: float) -> tuple[str, ...]:
    """What is wrong with a result beyond `ratio` of its size: nothing, or it is a bug."""
    terms, tol = terms_of(case), ratio * max(size_kw, 1e-9)
    units = {x.id: x for x in case.units}
    faults: list[str] = []
    for ride in terms.rides:
        faults += _ride_faults(ride, units[ride.id], case, found, tol)
    for x in terms.ranges:
        faults += _range_faults(x, found, tol)
    for q in terms.products:
        faults += _product_faults(q, case, found, tol)
    for u in case.units:
        faults += _room_faults(u, terms.products, found, tol)
    for b in terms.budgets:
        faults += _budget_faults(b, case, found, ratio)
    return tuple(faults)


def path_kw(ride: Ride, unit: Unit, on: FloatArray, step_h: float) -> FloatArray:
    """(T,) output on the way up and down, from the commitment alone [kW]."""
    T, out = len(on), np.zeros(len(on))
    off_since = None if ride.off_h is None else -round(ride.off_h / step_h)
    if off_since is not None:
        _lay(out, off_since, ride.down_kw)
    before = unit.state_h > 0.0
    for t in range(T):
        now = on[t] > 0.5
        if now and not before and off_since is not None:
            rest_h = (t - off_since) * step_h
            kind = next(k for k, end in enumerate(ride.rest_h) if rest_h <= end + 1e-6)
            _lay(out, t - len(ride.up_kw[kind]), ride.up_kw[kind])
        if before and not now:
            off_since = t
            _lay(out, t, ride.down_kw)
        before = now
    return out


def _lay(out: FloatArray, first: int, path: tuple[float, ...]) -> None:
    for i, kw in enumerate(path):
        if 0 <= first + i < len(out):
            out[first + i] += kw


def _ride_faults(ride: Ride, unit: Unit, case: Case, found: Result, tol: float) -> Iterator[str]:
    on = found.on[ride.id]
    expected = path_kw(ride, unit, on, float(case.step_hours()[0]))
    given = np.where(on > 0.5, 0.0, found.flow[Kind.UNIT, ride.id])
    worst = float(np.abs(given - expected).max(initial=0.0))
    if worst > tol:
        yield f"path: {ride.id} is {worst:.4g} off its way up or down"


def _range_faults(x: Range, found: Result, tol: float) -> Iterator[str]:
    on = found.on[x.id] if x.kind is Kind.UNIT else np.ones(len(found.flow[x.kind, x.id]))
    kw = found.flow[x.kind, x.id]
    over = np.zeros(len(kw))
    if x.low_kw:
        over = np.maximum(over, np.array(x.low_kw) * on - kw)
    if x.high_kw:
        over = np.maximum(over, (kw - np.array(x.high_kw)) * on)
    if over.max(initial=0.0) > tol:
        yield f"range: {x.id} outside its output by step by {over.max():.4g}"


def _product_faults(q: Product, case: Case, found: Result, tol: float) -> Iterator[str]:
    rows = {key: kw for key, kw in found.held.items() if key[0] in (q.id, *q.counts)}
    total = sum(rows.values(), np.zeros(case.steps)) + found.held_short[q.id]
    sun = sum((kw for (kind, _), kw in found.flow.items() if kind is Kind.RENEWABLE), np.zeros(case.steps))
    lack = np.array(q.asked_kw) + q.renewable_ratio * sun - total
    if q.largest:
        for u in case.units:
            own = sum((kw for key, kw in rows.items() if key[1] == u.id), np.zeros(case.steps))
            lack = np.maximum(lack, found.flow[Kind.UNIT, u.id] * found.on[u.id] - (total - own))
    if lack.max(initial=0.0) > tol:
        yield f"reserve: {q.id} lacks {lack.max():.4g} that is not told"
    for x in q.shares:
        held = found.held[q.id, x.id, x.offline]
        most = np.array(x.most_kw)
        if x.kind is Kind.UNIT:
            most = most * ((1.0 - found.on[x.id]) if x.offline else found.on[x.id])
        over = float((held - most).max(initial=0.0))
        if over > tol:
            yield f"reserve: {x.id} holds {over:.4g} more of {q.id} than it may"


def _room_faults(u: Unit, products: tuple[Product, ...], found: Result, tol: float) -> Iterator[str]:
    """Reserve of a unit beside its output: rating, minimum, ramp from the output before."""
    on, power = found.on[u.id], found.flow[Kind.UNIT, u.id] * found.on[u.id]
    ways = {q.id: (q.down, q.beside_ramp) for q in products}
    held = {False: np.zeros(len(on)), True: np.zeros(len(on))}
    ramped = {False: np.zeros(len(on)), True: np.zeros(len(on))}
    for (name, asset, offline), kw in found.held.items():
        if asset == u.id and not offline:
            down, ramp = ways[name]
            held[down] = held[down] + kw
            ramped[down] = ramped[down] + kw * ramp
    over = np.maximum(power + held[False] - u.p_max_kw * on, u.p_min_kw * on - power + held[True])
    apart = 0.5 * (found.step_h + np.concatenate([found.step_h[:1], found.step_h[:-1]]))
    both = np.flatnonzero((on[1:] > 0.5) & (on[:-1] > 0.5)) + 1
    for rate, sign in ((u.ramp_up_kw_h, 1.0), (u.ramp_down_kw_h, -1.0)):
        if rate is not None and len(both) and ramped[sign < 0].any():
            moved = sign * (power[both] - power[both - 1]) + ramped[sign < 0][both]
            over[both] = np.maximum(over[both], moved - rate * apart[both])
    if over.max(initial=0.0) > tol:
        yield f"reserve: {u.id} has {over.max():.4g} less room than it holds"


def used(b: Budget, case: Case, found: Result) -> float:
    """Sum of an energy limit, from the result."""
    hours, at = case.step_hours(), np.array(b.steps)
    total = 0.0
    units = {x.id: x for x in case.units}
    for w in b.weights:
        kw = found.flow[w.kind, w.id]
        total += float((w.per_kwh * hours * kw)[at].sum())
        if w.kind is Kind.UNIT:
            on, u = found.on[w.id], units[w.id]
            began = np.diff(on, prepend=float(u.state_h > 0.0)) > 0.5
            total += float((w.per_h * hours * on)[at].sum()) + w.per_start * float(began[at].sum())
            total += w.per_cost * float((hours * on * _model_per_h(u, kw))[at].sum())
    return total


def _model_per_h(u: Unit, kw: FloatArray) -> FloatArray:
    """Cost rate as the model has it, by chords [money/h]."""
    at, per_h = u.cost.points(u.p_min_kw, u.p_max_kw)
    return np.interp(kw, at, per_h)


def _budget_faults(b: Budget, case: Case, found: Result, ratio: float) -> Iterator[str]:
    total, (short, over) = used(b, case, found), found.missed[b.id]
    size = ratio * max(1.0, abs(total), *(abs(x) for x in (b.most, b.least) if x is not None))
    low = b.least is not None and total + short < b.least - size
    if low or (b.most is not None and total - over > b.most + size):
        yield f"energy limit: {b.id} is {total:.6g}, missed by more than is told"
