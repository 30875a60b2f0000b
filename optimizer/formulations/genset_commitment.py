"""Genset commitment: u (on load) binary, v (start) and w (stop) continuous and whole once u is.

    u_t - u_{t-1} = v_t - w_t
    sum of v_i over starts i with tau_t - tau_i < UT   <=  u_t
    sum of w_i over stops  i with tau_t - tau_i < DT   <=  1 - u_t

tau is the start of a step, so the windows hold on a grid of unequal steps. Carry-over ages and starts in
progress are bounds of u. Identical units with equal histories are ordered to break symmetry.

A unit whose start from cold is dearer pays for a cold start, less the difference for each hot one h:

    h_t <= v_t,    h_t <= sum of w_i with DT <= tau_t - tau_i <= cold_after  +  (1 while warm from before)

Sources: Garver 1962 (three-variable form); Rajan and Takriti, Minimum up/down polytopes of the unit
commitment problem with start-up costs, IBM RC23628, 2005 (windows); Morales-Espana, Latorre and Ramos,
IEEE Trans. Power Systems 28(4), 2013, 10.1109/TPWRS.2013.2251373.
"""

from dataclasses import replace

import numpy as np

from ems.assets import GensetParams
from ems.timegrid import BoolArray, FloatArray
from optimizer.algebra import Model
from optimizer.formulations.windows import EPS_H, between, window
from optimizer.numbers import Numbers
from optimizer.problem import GensetStart, PlanningProblem
from optimizer.structure import Structure

FIRST_STEP_SHARE = 0.25  # of the first step a unit may miss and still count as on load in it


def add(m: Model, s: Structure) -> None:
    """on, start, stop by genset."""
    units = s.site.gensets
    if not units:
        return
    G, T = len(units), s.steps
    on, start, stop = m.var("on", G, T), m.var("start", G, T), m.var("stop", G, T)
    on_before = m.par("on_before", G)
    for t in range(T):
        m.forming[t].extend(on[g, t] for g in range(G) if units[g].id in s.site.forming.islanded)
    m.rows(
        "commitment",
        (G, T),
        lambda g, t: on[g, t] - (on[g, t - 1] if t else on_before[g]) == start[g, t] - stop[g, t],
    )
    up = [[window(s, t, u.min_up_s) for t in range(T)] for u in units]
    down = [[window(s, t, u.min_down_s) for t in range(T)] for u in units]
    m.rows("min_up", (G, T), lambda g, t: sum(start[g, i] for i in up[g][t]) <= on[g, t])
    m.rows("min_down", (G, T), lambda g, t: sum(stop[g, i] for i in down[g][t]) <= 1 - on[g, t])
    if s.formulation.symmetry and G > 1:
        differs = m.par("history_differs", G - 1)
        twin = [identical(units[g], units[g + 1]) for g in range(G - 1)]
        m.rows(
            "order",
            (G - 1, T),
            lambda g, t: on[g + 1, t] - on[g, t] <= (differs[g] if twin[g] else 1.0),
        )
    _add_hot_starts(m, s)


def cooling(s: Structure) -> list[int]:
    """Units that are dearer to start from cold."""
    return [g for g, u in enumerate(s.site.gensets) if cold_extra(u) > 0.0]


def cold_extra(unit: GensetParams) -> float:
    """What a cold start costs more than a hot one [money]."""
    return 0.0 if unit.cold_start_cost is None else max(0.0, unit.cold_start_cost - unit.start_cost)


def _add_hot_starts(m: Model, s: Structure) -> None:
    """hot_start (C, T) of the units that cool down."""
    cold = cooling(s)
    if not cold:
        return
    shape = (len(cold), s.steps)
    hot, warm, start, stop = m.var("hot_start", *shape), m.par("warm_before", *shape), m["start"], m["stop"]
    units = [s.site.gensets[g] for g in cold]
    rest = [[between(s, t, u.min_down_s, u.cold_after_s) for t in range(s.steps)] for u in units]
    m.rows("hot_is_a_start", shape, lambda c, t: hot[c, t] <= start[cold[c], t])
    m.rows(
        "hot_after_a_stop",
        shape,
        lambda c, t: hot[c, t] <= sum(stop[cold[c], i] for i in rest[c][t]) + warm[c, t],
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Carry-over as bounds, start and running costs, which steps are whole."""
    units = s.site.gensets
    if not units:
        return
    low, high = commitment_bounds(p, s)
    n.par("on_before", np.array([float(g.on) for g in p.gensets]))
    n.bound("on", low, high)
    n.whole("on", p.integral)
    n.bound("start", 0.0, 1.0)
    n.bound("stop", 0.0, 1.0)
    n.price("start", "start", np.array([[u.start_cost + cold_extra(u)] for u in units]))
    n.price("running", "on", np.array([u.running_cost_per_h for u in units])[:, None] * s.step_h)
    if s.formulation.symmetry and len(units) > 1:
        pairs = zip(p.gensets, p.gensets[1:], strict=False)
        n.par("history_differs", np.array([float(not _interchangeable(a, b)) for a, b in pairs]))
    if "hot_start" in n.shapes:
        cold = cooling(s)
        after_h = np.array([[units[g].cold_after_s / 3600.0] for g in cold])
        age_h = np.array([[np.inf if p.gensets[g].on else p.gensets[g].age_h] for g in cold])
        n.par("warm_before", (age_h + s.start_h <= after_h + EPS_H).astype(np.float64))
        n.bound("hot_start", 0.0, 1.0)
        n.price("start", "hot_start", -np.array([[cold_extra(units[g])] for g in cold]))


def identical(a: GensetParams, b: GensetParams) -> bool:
    """Same machine under another name."""
    return replace(a, id="") == replace(b, id="")


def _interchangeable(a: GensetStart, b: GensetStart) -> bool:
    """Equal histories as far as they bind."""
    return a == b


def commitment_bounds(p: PlanningProblem, s: Structure) -> tuple[FloatArray, FloatArray]:
    """(G, T) bounds of `on` from availability, ages, starts in progress and start delays."""
    low, high = np.zeros((len(p.gensets), s.steps)), np.ones((len(p.gensets), s.steps))
    for g, (unit, start) in enumerate(zip(s.site.gensets, p.gensets, strict=True)):
        if not start.available:
            high[g] = 0.0
        elif start.on:
            low[g, s.start_h < unit.min_up_s / 3600.0 - start.age_h - EPS_H] = 1.0
        else:
            ready = ready_steps(s, start)
            high[g, ~ready] = 0.0
            if start.starting:
                low[g, int(np.argmax(ready))] = float(ready.any())
            else:
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
