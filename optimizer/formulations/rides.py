"""Start-up and shut-down trajectories: what a unit gives while it is not on yet, and not on any more.

With v_t,k a start of kind k (by the rest before it), w_t a stop, a_k (L_k steps) and z (M steps) the outputs
on the way up and down:

    ride_t = sum_k sum_(i=1..L_k) a_k[L_k - i] v_(t+i),k + sum_(j=0..M-1) z[j] w_(t-j) + what is left
    u_t + sum_k sum_(i=1..L_k) v_(t+i),k + sum_(j=0..M-1) w_(t-j) <= 1               one thing at a time
    sum_k v_t,k = v_t,     v_t,k <= sum of w_i whose rest until t is of kind k (+ a rest from before),
    v_t,k + w_i <= 1 for stops i whose rest until t is of a hotter kind

So the kind of a start is that of the rest before it, as hot_starts.py prices it. No start before its way up
fits in; a start whose first step on lies beyond the last step is not begun.

What is left is of a stop before the first step.

Source: Morales-Espana, Latorre and Ramos, Tight and compact MILP formulation of start-up and shut-down
ramping in unit commitment, IEEE Trans. Power Systems 28(2), 2013, 1288-1296, 10.1109/TPWRS.2012.2222938.
"""

import numpy as np

from optimizer.algebra import Expr, Model
from optimizer.case_terms import Ride
from optimizer.formulations.assets import unit_index
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

EPS_H = 1e-6


def kind_of(ride: Ride, rest_h: float) -> int:
    """Kind of a start after a rest [h]."""
    return next(k for k, end in enumerate(ride.rest_h) if rest_h <= end + EPS_H)


def _left(ride: Ride, s: Structure) -> list[float]:
    """Outputs still to come of a stop before the first step [kW]."""
    if ride.off_h is None:
        return []
    return list(ride.down_kw[round(ride.off_h / float(s.step_h[0])) :])[: s.steps]


def _many(s: Structure) -> list[int]:
    """Rides with more than one kind of start."""
    return [r for r, x in enumerate(s.formulation.terms.rides) if len(x.up_kw) > 1]


def kinds(m: Model, s: Structure, r: int, t: int) -> list[Expr]:
    """Start of a ride's unit at t, by kind."""
    ride = s.formulation.terms.rides[r]
    if len(ride.up_kw) == 1:
        return [m["start"][unit_index(s, ride.id), t]]
    return [m["ride_start"][_many(s).index(r), k, t] for k in range(len(ride.up_kw))]


def add(m: Model, s: Structure) -> None:
    """ride_start (R, K, T) of units with several kinds of start; ride_kw (R, T) on the bus."""
    rides, T = s.formulation.terms.rides, s.steps
    if not rides:
        return
    if many := _many(s):
        m.var("ride_start", len(many), max(len(rides[r].up_kw) for r in many), T)
        for c, r in enumerate(many):
            _add_kinds(m, s, c, r)
    ride_kw = m.var("ride_kw", len(rides), T)
    m.rows("ride", (len(rides), T), lambda r, t: ride_kw[r, t] == _output(m, s, r, t))
    m.rows("ride_or_run", (len(rides), T), lambda r, t: _busy(m, s, r, t) <= 1)
    early = [
        (r, k, t)
        for r, ride in enumerate(rides)
        for k, way in enumerate(ride.up_kw)
        for t in range(min(len(way), T))
    ]
    if early:
        m.rows("ride_fits", (len(early),), lambda i: kinds(m, s, early[i][0], early[i][2])[early[i][1]] <= 0)
    for t in range(T):
        m.bus[t].extend(ride_kw[r, t] for r in range(len(rides)))


def _output(m: Model, s: Structure, r: int, t: int) -> Expr:
    ride, T = s.formulation.terms.rides[r], s.steps
    n, left = unit_index(s, ride.id), _left(ride, s)
    up = [
        way[-i] * kinds(m, s, r, t + i)[k]
        for k, way in enumerate(ride.up_kw)
        for i in range(1, len(way) + 1)
        if t + i < T
    ]
    down = [kw * m["stop"][n, t - j] for j, kw in enumerate(ride.down_kw) if t - j >= 0]
    return sum(up) + sum(down) + (left[t] if t < len(left) else 0.0)


def _busy(m: Model, s: Structure, r: int, t: int) -> Expr:
    ride, T = s.formulation.terms.rides[r], s.steps
    n = unit_index(s, ride.id)
    up = [
        kinds(m, s, r, t + i)[k]
        for k, way in enumerate(ride.up_kw)
        for i in range(1, len(way) + 1)
        if t + i < T
    ]
    down = [m["stop"][n, t - j] for j in range(len(ride.down_kw)) if t - j >= 0]
    return m["on"][n, t] + sum(up) + sum(down) + float(t < len(_left(ride, s)))


def _add_kinds(m: Model, s: Structure, c: int, r: int) -> None:
    """Each start is of the kind of the rest before it."""
    ride, T, start = s.formulation.terms.rides[r], s.steps, m["ride_start"]
    n, K, stop = unit_index(s, ride.id), len(ride.up_kw), m["stop"]
    rest = [[kind_of(ride, float(s.start_h[t] - s.start_h[i])) for i in range(t)] for t in range(T)]
    before = [None if ride.off_h is None else kind_of(ride, ride.off_h + float(x)) for x in s.start_h]
    m.rows(f"ride_kinds_{c}", (T,), lambda t: sum(start[c, k, t] for k in range(K)) == m["start"][n, t])
    m.rows(
        f"ride_rest_{c}",
        (K, T),
        lambda k, t: (
            start[c, k, t] <= sum(stop[n, i] for i in range(t) if rest[t][i] == k) + float(before[t] == k)
        ),
    )
    hotter = [(k, t, i) for t in range(T) for i in range(t) for k in range(rest[t][i] + 1, K)]
    if hotter:
        m.rows(
            f"ride_hotter_{c}",
            (len(hotter),),
            lambda h: start[c, hotter[h][0], hotter[h][1]] + stop[n, hotter[h][2]] <= 1,
        )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Bounds; what energy on the way costs."""
    rides = s.formulation.terms.rides
    if not rides:
        return
    n.bound("ride_kw", 0.0, np.inf)
    n.price("ride", "ride_kw", np.array([[x.per_kwh] for x in rides]) * s.step_h)
    if "ride_start" in n.shapes:
        there = np.array(
            [[[float(k < len(rides[r].up_kw))] for k in range(n.shapes["ride_start"][1])] for r in _many(s)]
        )
        n.bound("ride_start", 0.0, there)
        n.whole("ride_start", p.integral)
