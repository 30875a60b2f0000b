"""Genset commitment: u (on load) binary, v (start) and w (stop) continuous and whole once u is.

    u_t - u_{t-1} = v_t - w_t
    sum of v_i over starts i with tau_t - tau_i < UT   <=  u_t
    sum of w_i over stops  i with tau_t - tau_i < DT   <=  1 - u_t

tau is the start of a step, so the windows hold on a grid of unequal steps. Carry-over ages and starts in
progress are bounds of u. Identical units with equal histories are ordered to break symmetry, where that
loses nothing: those without a memory. Of two with a minimum time the one that has run longest may have to
stop first, and of two with ramps one may come down while the other goes up.

A fleet (fleets.py) is the same with counts up to n for 0 or 1; units that must still run or rest from before
count beside those that the plan starts or stops.

Sources: Garver 1962 (three-variable form); Rajan and Takriti, Minimum up/down polytopes of the unit
commitment problem with start-up costs, IBM RC23628, 2005 (windows); Morales-Espana, Latorre and Ramos,
IEEE Trans. Power Systems 28(4), 2013, 10.1109/TPWRS.2013.2251373.
"""

from itertools import pairwise

import numpy as np

from ems.assets import GensetParams
from ems.timegrid import BoolArray, FloatArray
from optimizer.algebra import Model
from optimizer.fleets import firsts, identical, machines, sizes, starts_of
from optimizer.formulations.hot_starts import cold_extra
from optimizer.formulations.ramps import edged, ramping
from optimizer.formulations.windows import EPS_H, window
from optimizer.numbers import Numbers
from optimizer.problem import GensetStart, PlanningProblem
from optimizer.segments import fuel_segments
from optimizer.structure import Structure

FIRST_STEP_SHARE = 0.25  # of the first step a unit may miss and still count as on load in it


def add(m: Model, s: Structure) -> None:
    """on, start, stop by fleet; a fleet is one genset, or several identical ones (fleets.py)."""
    units, size = machines(s), sizes(s)
    if not units:
        return
    N, T = len(units), s.steps
    on, start, stop = m.var("on", N, T), m.var("start", N, T), m.var("stop", N, T)
    on_before = m.par("on_before", N)
    for t in range(T):
        m.forming[t].extend(on[n, t] for n in range(N) if units[n].id in s.site.forming.islanded)
    m.rows(
        "commitment",
        (N, T),
        lambda n, t: on[n, t] - (on[n, t - 1] if t else on_before[n]) == start[n, t] - stop[n, t],
    )
    up = [[window(s, t, u.min_up_s) for t in range(T)] for u in units]
    down = [[window(s, t, u.min_down_s) for t in range(T)] for u in units]
    if s.formulation.fleets:  # those that must still run or rest from before count beside those of the plan
        bound, resting = m.par("bound_before", N, T), m.par("resting_before", N, T)
        m.rows("min_up", (N, T), lambda n, t: sum(start[n, i] for i in up[n][t]) <= on[n, t] - bound[n, t])
        m.rows(
            "min_down",
            (N, T),
            lambda n, t: sum(stop[n, i] for i in down[n][t]) <= size[n] - resting[n, t] - on[n, t],
        )
    else:
        m.rows("min_up", (N, T), lambda n, t: sum(start[n, i] for i in up[n][t]) <= on[n, t])
        m.rows("min_down", (N, T), lambda n, t: sum(stop[n, i] for i in down[n][t]) <= 1 - on[n, t])
        _add_order(m, s)


def _add_order(m: Model, s: Structure) -> None:
    """Of two identical gensets the first runs whenever the second does, unless their histories differ.

    Not with permitted sets of sources, which may name one and not the other.
    """
    units, on = s.site.gensets, m["on"]
    if not s.formulation.symmetry or len(units) < 2 or s.site.sources is not None:
        return
    differs = m.par("history_differs", len(units) - 1)
    free = _without_memory(s)
    twin = [identical(a, b) and free[g] for g, (a, b) in enumerate(pairwise(units))]
    m.rows(
        "order",
        (len(units) - 1, s.steps),
        lambda g, t: on[g + 1, t] - on[g, t] <= (differs[g] if twin[g] else 1.0),
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Carry-over as bounds, start and running costs, which steps are whole."""
    units = machines(s)
    if not units:
        return
    first, size = firsts(s), np.array(sizes(s), dtype=np.float64)[:, None]
    low, high = (np.add.reduceat(x, first, axis=0) for x in commitment_bounds(p, s))
    n.par("on_before", np.add.reduceat([float(g.on) for g in p.gensets], first))
    n.bound("on", low, high)
    n.whole("on", p.integral)
    n.bound("start", 0.0, size)
    n.bound("stop", 0.0, size)
    n.price("start", "start", np.array([[u.start_cost + cold_extra(u)] for u in units]))  # see hot_starts.py
    n.price("running", "on", np.array([u.running_cost_per_h for u in units])[:, None] * s.step_h)
    if any(g.stop_cost for g in p.gensets):
        n.price("stop", "stop", np.array([[g.stop_cost] for g in starts_of(s, p)]))
    if any(g.balance_cost_per_h for g in p.gensets):
        n.price("balancing", "on", np.array([[g.balance_cost_per_h] for g in starts_of(s, p)]) * s.step_h)
    if any(g.quiet_cost for g in p.gensets):
        extra = [g.quiet_cost if g.quiet_cost else (0.0,) * s.steps for g in starts_of(s, p)]
        n.price("quiet", "on", np.array(extra))
    if s.formulation.fleets:
        n.whole("start", p.integral & (size > 1.0))  # one may start as another stops
        bound, free = (np.add.reduceat(x, first, axis=0) for x in carried_bounds(p, s))
        n.par("bound_before", bound)
        n.par("resting_before", size - free)
    if "history_differs" in n.shapes:
        differ = [
            float(not _interchangeable(a, b) or _may_run_dry(p, g))
            for g, (a, b) in enumerate(pairwise(p.gensets))
        ]
        n.par("history_differs", np.array(differ))


def _has_limits_of_its_own(unit: GensetParams) -> bool:
    """Whether hours or starts of each machine are limited, so that one may have to stand in for the other."""
    counted = unit.low_load is not None and unit.low_load.counted
    care = unit.rating is not None or unit.exercise is not None
    return counted or care or unit.starts_per_day_max is not None


def _without_memory(s: Structure) -> list[bool]:
    """Machines whose next step depends on nothing but whether they are on, so that two may change places."""
    held = {*ramping(s), *edged(s)}

    def free(g: int, unit: GensetParams) -> bool:
        longest = max(unit.min_up_s, unit.min_down_s)
        brief = all(len(window(s, t, longest)) == 1 for t in range(s.steps))
        return brief and g not in held and cold_extra(unit) == 0.0 and not _has_limits_of_its_own(unit)

    return [free(g, unit) for g, unit in enumerate(s.site.gensets)]


def _interchangeable(a: GensetStart, b: GensetStart) -> bool:
    """Equal histories as far as they bind."""
    return a == b


def _may_run_dry(p: PlanningProblem, g: int) -> bool:
    """Whether a tank does not last through the window at rating, so that the twin may have to take over."""
    curve = fuel_segments(p.site.gensets[g])
    full_l_h = curve.idle_l_h + float(curve.width_kw @ curve.slope_l_kwh)
    return p.gensets[g].fuel_l < full_l_h * float(p.step_h.sum())


def commitment_bounds(p: PlanningProblem, s: Structure) -> tuple[FloatArray, FloatArray]:
    """(G, T) bounds of `on`: what is carried over, starts in progress, and blocked and wanted steps."""
    low, high = carried_bounds(p, s)
    for g, start in enumerate(p.gensets):
        ready = ready_steps(s, start)
        if start.available and start.starting and not start.on and ready.any():
            # it will run, for its minimum time at least
            since_h = s.start_h - s.start_h[int(np.argmax(ready))]
            low[g, ready & ((since_h < s.site.gensets[g].min_up_s / 3600.0 - EPS_H) | (since_h == 0.0))] = 1.0
        if start.blocked:  # a minimum time that still runs goes before
            high[g, np.array(start.blocked) & (low[g] < 1.0)] = 0.0
        if start.must:
            low[g, np.array(start.must) & (high[g] > 0.0)] = 1.0
    return low, high


def carried_bounds(p: PlanningProblem, s: Structure) -> tuple[FloatArray, FloatArray]:
    """(G, T) bounds of `on` from before the plan: availability, minimum times that run on, start delays."""
    low, high = np.zeros((len(p.gensets), s.steps)), np.ones((len(p.gensets), s.steps))
    for g, (unit, start) in enumerate(zip(s.site.gensets, p.gensets, strict=True)):
        if not start.available:
            high[g] = 0.0
        elif start.on:
            low[g, s.start_h < unit.min_up_s / 3600.0 - start.age_h - EPS_H] = 1.0
        else:
            high[g, ~ready_steps(s, start)] = 0.0
            if not start.starting:
                resting = s.start_h < unit.min_down_s / 3600.0 - start.age_h - EPS_H
                high[g, resting] = 0.0
    return low, high


def ready_steps(s: Structure, start: GensetStart) -> BoolArray:
    """(T,) steps in which a unit that is off can be on load.

    A unit commanded now is on load after its start delay. In the first step it counts as on load if it misses
    at most a quarter of it: the plan must ask for it now, and the others carry the load meanwhile.
    """
    ready = s.start_h >= start.ready_h - EPS_H
    ready[0] = start.ready_h <= FIRST_STEP_SHARE * s.step_h[0]
    return ready
