"""Deferrable and interruptible loads: work due by a deadline, done when it is cheapest.

    c_t = c_{t-1} + D_t p_t + lost_t - over_t         c_0- = work already done in the open window
    due_t <= c_t <= opened_t          work due by the end of step t, work of the windows opened
    0 <= p_t <= share_t P             share_t of the step lies in a window

c counts the work of all windows up to t, done or lost: no window's work can be done in another, or before.
`lost` is free to be other than 0 only where a window ends (or the horizon, see below), at its own price. Of a
window that reaches beyond the horizon the share by time is due at the horizon's end.

Where on and off must be told apart (a minimum power, a minimum run, few starts), u is whole in whole steps:

    p_min (u_t - w_{t+1}) <= p_t <= P u_t         the step before a stop may be left early
    u_t - u_{t-1} = v_t - w_t,    w_t <= 1 - u_t
    r_t = sum of v_i with tau_t - tau_i < run_min <= u_t,        p_min r_t <= p_t
    n_t = n_{t-1} + v_t - a_t,    v_t <= n_t <= starts,    a only where a window opens: each counts anew

`over` is power a minimum run takes after its work is done, at the same price as lost work. Nothing runs on a
dead bus, nor behind a feeder that is shed whole.

Source: loads with energy due in a window of power and time, as in Petersen, Hansen, Bendtsen, Edlund and
Stoustrup, A taxonomy for modeling flexibility in demand side management, Proc. ACC 2013,
10.1109/ACC.2013.6579991 ("battery" and "bakery"); minimum run by windows as in genset_commitment.py.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.deferrable import DeferrableParams
from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.formulations.windows import EPS_H, window
from optimizer.numbers import Numbers
from optimizer.problem import DeferrableStart, PlanningProblem
from optimizer.structure import Structure

SHOWN_KWH = 0.05
WHOLE_SHARE = 1.0 - 1e-6  # a step that lies in a window so far is whole in it


def switched(s: Structure) -> list[int]:
    """Devices with an on and off."""
    return [d for d, x in enumerate(s.site.deferrables) if x.switched]


def counted(s: Structure) -> list[int]:
    """Places among the switched devices of those with few starts."""
    return [k for k, d in enumerate(switched(s)) if s.site.deferrables[d].starts_max is not None]


def add(m: Model, s: Structure) -> None:
    """device_kw, device_work_kwh, device_lost_kwh, device_over_kwh (D, T), and what is switched."""
    units, T = s.site.deferrables, s.steps
    if not units:
        return
    shape = (len(units), T)
    power, work = m.var("device_kw", *shape), m.var("device_work_kwh", *shape)
    lost, over = m.var("device_lost_kwh", *shape), m.var("device_over_kwh", *shape)
    before, dead = m.par("device_done_kwh", len(units)), m["dead"]
    for t in range(T):
        m.bus[t].extend(-power[d, t] for d in range(len(units)))
    m.rows(
        "device_work",
        shape,
        lambda d, t: (
            work[d, t] - (work[d, t - 1] if t else before[d])
            == float(s.step_h[t]) * power[d, t] + lost[d, t] - over[d, t]
        ),
    )
    m.rows("device_on_dead_bus", shape, lambda d, t: power[d, t] <= units[d].p_kw * (1 - dead[t]))
    if "feeder_open" in m.shapes:
        behind = [i for i, f in enumerate(s.site.feeders) if f.has_breaker]
        place = {s.site.feeders[i].id: k for k, i in enumerate(behind)}
        shed = [(d, place[x.feeder]) for d, x in enumerate(units) if x.feeder in place]
        m.rows(
            "device_shed",
            (len(shed), T),
            lambda k, t: (
                power[shed[k][0], t] <= units[shed[k][0]].p_kw * (1 - m["feeder_open"][shed[k][1], t])
            ),
        )
    if switched(s):
        _add_switched(m, s)


def _add_switched(m: Model, s: Structure) -> None:
    which, T, power = switched(s), s.steps, m["device_kw"]
    units = [s.site.deferrables[d] for d in which]
    shape = (len(units), T)
    on, start, stop = (m.var(n, *shape) for n in ("device_on", "device_start", "device_stop"))
    before = m.par("device_on_before", len(units))
    m.rows("device_top", shape, lambda k, t: power[which[k], t] <= units[k].p_kw * on[k, t])
    m.rows(
        "device_low",
        (len(units), T - 1),
        lambda k, t: power[which[k], t] >= units[k].p_min_kw * (on[k, t] - stop[k, t + 1]),
    )
    m.rows(
        "device_switching",
        shape,
        lambda k, t: on[k, t] - (on[k, t - 1] if t else before[k]) == start[k, t] - stop[k, t],
    )
    m.rows("device_stopped", shape, lambda k, t: stop[k, t] <= 1 - on[k, t])  # not while it goes on
    least = [[window(s, t, u.min_run_s) for t in range(T)] for u in units]
    m.rows("device_min_run", shape, lambda k, t: sum(start[k, i] for i in least[k][t]) <= on[k, t])
    long = [k for k, u in enumerate(units) if u.min_run_s > 0.0]
    m.rows(
        "device_min_run_power",
        (len(long), T),
        lambda j, t: (
            power[which[long[j]], t]
            >= units[long[j]].p_min_kw * sum(start[long[j], i] for i in least[long[j]][t])
        ),
    )
    few = counted(s)
    if few:
        made, anew = m.var("device_starts", len(few), T), m.var("device_starts_anew", len(few), T)
        so_far = m.par("device_starts_before", len(few))
        m.rows(
            "device_starts_so_far",
            (len(few), T),
            lambda k, t: made[k, t] - (made[k, t - 1] if t else so_far[k]) == start[few[k], t] - anew[k, t],
        )
        m.rows("device_starts_count", (len(few), T), lambda k, t: made[k, t] >= start[few[k], t])


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Windows as bounds, what is done already, price of what is not."""
    units = s.site.deferrables
    if not units:
        return
    starts = p.deferrables
    share = np.array([x.share for x in starts])
    n.par("device_done_kwh", np.array([x.done_kwh for x in starts]))
    held = np.array([u.p_min_kw * _held(s, u, x) for u, x in zip(units, starts, strict=True)])
    n.bound("device_kw", held, share * np.array([[u.p_kw] for u in units]))
    n.bound(
        "device_work_kwh", np.array([x.due_kwh for x in starts]), np.array([x.opened_kwh for x in starts])
    )
    n.bound("device_lost_kwh", 0.0, np.where(np.array([x.ends for x in starts]), np.inf, 0.0))
    forced = np.array([[u.min_run_s > 0.0] for u in units])
    n.bound("device_over_kwh", 0.0, np.where(forced, np.inf, 0.0))
    price = np.array([[u.unfinished_per_kwh] for u in units])
    n.price("unfinished_work", "device_lost_kwh", price)
    n.price("work_over", "device_over_kwh", price)
    which = switched(s)
    if which:
        _switched_numbers(n, p, s, [units[d] for d in which])


def _switched_numbers(n: Numbers, p: PlanningProblem, s: Structure, units: list[DeferrableParams]) -> None:
    starts = [p.deferrables[d] for d in switched(s)]
    share = np.array([x.share for x in starts])
    held = np.array([_held(s, u, x) for u, x in zip(units, starts, strict=True)])
    n.par("device_on_before", np.array([float(x.on) for x in starts]))
    n.bound("device_on", held, share)
    n.whole("device_on", p.integral & (share >= WHOLE_SHARE))
    n.bound("device_start", 0.0, 1.0)
    n.bound("device_stop", 0.0, 1.0)
    few = counted(s)
    if few:
        most = np.array([[float(m)] for k in few if (m := units[k].starts_max) is not None])
        so_far = np.array([[float(starts[k].starts)] for k in few])
        opens = np.array([starts[k].opens for k in few])
        n.par("device_starts_before", np.minimum(so_far, most)[:, 0])
        n.bound("device_starts", 0.0, most)
        n.bound("device_starts_anew", 0.0, np.where(opens, np.inf, 0.0))


def _held(s: Structure, unit: DeferrableParams, start: DeferrableStart) -> FloatArray:
    """(T,) 1 where a run must go on from before for its least time, and not past the end of its window."""
    bound = s.start_h < unit.min_run_s / 3600.0 - start.age_h - EPS_H
    bound &= start.on & (start.share >= WHOLE_SHARE)
    out: FloatArray = (np.cumsum(~bound) == 0).astype(np.float64)
    return out


def lost_kwh(p: PlanningProblem, v: Mapping[str, FloatArray]) -> dict[str, float]:
    """Work that is not done in its window, by device [kWh]."""
    if not p.site.deferrables:
        return {}
    return {u.id: float(row.sum()) for u, row in zip(p.site.deferrables, v["device_lost_kwh"], strict=True)}


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Work that is not done by its deadline, and power a minimum run takes for nothing."""
    for d, unit in enumerate(p.site.deferrables):
        ends = [*p.grid.starts()[1:], p.grid.end]
        for t in np.flatnonzero(v["device_lost_kwh"][d] > SHOWN_KWH):
            yield (
                f"{unit.id}: {v['device_lost_kwh'][d, t]:.1f} kWh of its work due by "
                f"{ends[int(t)]:%d %H:%M} UTC are not done"
            )
        if (over := float(v["device_over_kwh"][d].sum())) > SHOWN_KWH:
            yield f"{unit.id}: {over:.1f} kWh beyond its work, for its minimum run"
