"""A diesel genset with its own controller: start sequence, fuel, ramp. The EMS only asks.

The sequence, in the order of `ems.points.GensetState`:

    stopped -> cranking -> warm_up -> synchronising -> running -> cooling_down -> stopped
                   |_ attempts used up -> locked_out (until somebody resets it at the set)

A request while cooling down goes straight back to synchronising (the engine is hot), unless the set tripped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ems.assets import DRIVEN_RATIO, GensetParams
from ems.points import GensetState
from ems.timegrid import FloatArray

OVERLOAD_S = 3600.0  # between rating and overload_ratio: one hour (prime power, ISO 8528-1: 1 h within 12 h)

_STOPPED = GensetState.STOPPED
_CRANKING = GensetState.CRANKING
_WARM_UP = GensetState.WARM_UP
_SYNC = GensetState.SYNCHRONISING
_RUNNING = GensetState.RUNNING
_COOLING = GensetState.COOLING_DOWN
_LOCKED = GensetState.LOCKED_OUT
_EPS = 1e-9


@dataclass(frozen=True, slots=True)
class GensetUnit:
    """State of one genset."""

    phase: GensetState
    tank_l: float
    run_h: float = 0.0
    timer_s: float = 0.0  # time in the present phase
    p_kw: float = 0.0  # at this instant
    attempts: int = 0  # failed attempts of the present start
    loading: bool = False  # closed, on its way up to its load
    unloading: bool = False  # asked to stop, on its way down
    own_start: bool = False  # runs because its own mains-failure logic wants it
    dead_s: float = 0.0  # mains away and bus dead for so long
    overload_s: float = 0.0
    tripped: bool = False  # must cool down before it may start again
    reverse_s: float = 0.0  # driven backwards beyond its relay's setting for so long

    @property
    def turning(self) -> bool:
        """Whether the engine burns fuel."""
        return self.phase is not _STOPPED and self.phase is not _LOCKED


# --- fuel -------------------------------------------------------------------------------------------------


def no_load_l_h(params: GensetParams) -> float:
    """Fuel at no load: the first segment of the curve extended down to 0 kW, never negative [L/h]."""
    p, f = params.fuel_kw, params.fuel_l_h
    if p[0] <= 0.0 or len(p) == 1:
        return f[0]
    return max(0.0, f[0] - (f[1] - f[0]) / (p[1] - p[0]) * p[0])


def fuel_points(params: GensetParams) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The curve's breakpoints, no-load first and nothing below it: ([kW], [L/h])."""
    if params.fuel_kw[0] <= 0.0:
        return params.fuel_kw, params.fuel_l_h
    return (0.0, *params.fuel_kw), (no_load_l_h(params), *params.fuel_l_h)


def fuel_l_h(points: tuple[Sequence[float], Sequence[float]], p_kw: float) -> float:
    """Fuel rate at `p_kw` on `fuel_points(...)`; the last segment goes on above the last point [L/h].

    Notes
    -----
    Piecewise linear between the data sheet's part-load points. Below the first point the extrapolation of a
    linear (Willans) line is optimistic: field records show up to twice as much at 10 % load.
    """
    xs, ys = points
    n = len(xs)
    if n == 1:
        return ys[0]
    i = 1
    while i < n - 1 and p_kw > xs[i]:
        i += 1
    x0, y0 = xs[i - 1], ys[i - 1]
    rate = y0 + (ys[i] - y0) / (xs[i] - x0) * (p_kw - x0)
    return rate if rate > 0.0 else 0.0


def fuel_l_h_array(params: GensetParams, p_kw: FloatArray) -> FloatArray:
    """(T,) fuel rates of a running set at (T,) powers, the vector form of `fuel_l_h` [L/h]."""
    xs, ys = (np.asarray(v) for v in fuel_points(params))
    if len(xs) == 1:
        return np.full_like(p_kw, ys[0])
    i = np.clip(np.searchsorted(xs, p_kw, side="left"), 1, len(xs) - 1)
    slope = (ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1])
    rate: FloatArray = np.maximum(0.0, ys[i - 1] + slope * (p_kw - xs[i - 1]))
    return rate


# --- load -------------------------------------------------------------------------------------------------


def ramp(p_kw: float, target_kw: float, rate_kw_s: float, dt_s: float) -> tuple[float, float]:
    """Move towards a target at a limited rate: (mean, value at the end) [kW]; exact for any dt."""
    gap = target_kw - p_kw
    if gap == 0.0:
        return p_kw, p_kw
    ramp_s = abs(gap) / rate_kw_s
    if ramp_s >= dt_s:
        end = p_kw + math.copysign(rate_kw_s * dt_s, gap)
        return 0.5 * (p_kw + end), end
    return target_kw - 0.5 * gap * ramp_s / dt_s, target_kw


def limits(params: GensetParams, unit: GensetUnit) -> tuple[float, float]:
    """(lowest, highest) power the controller holds by itself when asked [kW]; (0, 0) when not on load."""
    if unit.phase is not _RUNNING:
        return 0.0, 0.0
    return params.p_min_kw, params.p_rated_kw


def driven_kw(params: GensetParams) -> float:
    """What the engine takes when the bus drives it; nothing where its relay is not known [kW]."""
    return 0.0 if params.reverse_power is None else DRIVEN_RATIO * params.p_rated_kw


def reverse_tripped(params: GensetParams, unit: GensetUnit) -> bool:
    """Whether the reverse-power relay opens now."""
    relay = params.reverse_power
    return relay is not None and unit.phase is _RUNNING and unit.reverse_s >= relay.delay_s - _EPS


def base_load_kw(params: GensetParams, unit: GensetUnit, p_set_kw: float) -> float:
    """What a set in parallel aims at: its setpoint within minimum load and rating; 0 to unload [kW]."""
    if unit.unloading:
        return 0.0
    return min(max(p_set_kw, params.p_min_kw), params.p_rated_kw)


# --- sequence ---------------------------------------------------------------------------------------------


def request(params: GensetParams, unit: GensetUnit, wanted: bool, may_open: bool) -> GensetUnit:
    """Act on the wish to run or to stop, at the start of a step.

    `may_open` False: its own mains-failure logic keeps the last source of a dead grid on the bus.
    """
    phase = unit.phase
    if phase is _STOPPED:
        return _to(unit, _CRANKING) if wanted and unit.tank_l > params.tank_unusable_l else unit
    if phase is _LOCKED:
        return unit
    if phase is _COOLING:
        return _to(unit, _SYNC) if wanted and not unit.tripped else unit
    if phase is _RUNNING:
        unload = not wanted and may_open
        return unit if unload == unit.unloading else _running(unit, unit.p_kw, unit.loading, unload)
    if wanted:
        return unit
    return _to(unit, _STOPPED if phase is _CRANKING else _COOLING)


def close(unit: GensetUnit) -> GensetUnit:
    """The breaker closes at no load."""
    return _running(unit, 0.0, True, False)


def opened(unit: GensetUnit, *, tripped: bool) -> GensetUnit:
    """The breaker opens: cool down. After a trip it must come to rest before it may start again."""
    return GensetUnit(_COOLING, unit.tank_l, unit.run_h, own_start=unit.own_start, tripped=tripped)


def locked_out(unit: GensetUnit) -> GensetUnit:
    """Stopped by a fault until somebody resets it."""
    return GensetUnit(_LOCKED, unit.tank_l, unit.run_h)


def at_rest(unit: GensetUnit) -> GensetUnit:
    """Stopped."""
    return GensetUnit(_STOPPED, unit.tank_l, unit.run_h, own_start=unit.own_start, dead_s=unit.dead_s)


def phase_length_s(params: GensetParams, phase: GensetState) -> float:
    """How long a timed phase lasts [s]; infinite for the others."""
    if phase is _CRANKING:
        return params.crank_s
    if phase is _WARM_UP:
        return params.warm_up_s
    if phase is _SYNC:
        return params.synchronise_s
    if phase is _COOLING:
        return params.cool_down_s
    return math.inf


def advance(params: GensetParams, unit: GensetUnit, dt_s: float, fails: bool) -> tuple[GensetUnit, int, int]:
    """Let the sequence run for `dt_s` [s]: (unit, successful starts, failed attempts).

    Synchronising ends by `close`, which the bus decides: it knows whether there is something to close onto.
    """
    started = failed = 0
    phase, timer_s, attempts = unit.phase, unit.timer_s + dt_s, unit.attempts
    if phase is _CRANKING and timer_s >= params.crank_s - _EPS:
        timer_s = 0.0
        if fails:
            failed, attempts = 1, attempts + 1
            if attempts >= params.start_attempts:
                return locked_out(unit), 0, 1
        else:
            started, attempts, phase = 1, 0, _WARM_UP
    if phase is _WARM_UP and timer_s >= params.warm_up_s - _EPS:
        phase, timer_s = _SYNC, 0.0
    if phase is _COOLING and timer_s >= params.cool_down_s - _EPS:
        return at_rest(unit), 0, 0
    return (
        GensetUnit(
            phase, unit.tank_l, unit.run_h, timer_s, unit.p_kw, attempts, unit.loading, unit.unloading,
            unit.own_start, unit.dead_s, unit.overload_s, unit.tripped,
        ),
        started,
        failed,
    )  # fmt: skip


def burnable_l(params: GensetParams, unit: GensetUnit) -> float:
    """Fuel above the unusable bottom of the tank [L]."""
    return max(0.0, unit.tank_l - params.tank_unusable_l)


def burn(params: GensetParams, unit: GensetUnit, litres: float, dt_s: float) -> GensetUnit:
    """Take fuel from the tank and count the hours; an engine without fuel stands still."""
    tank_l = unit.tank_l - litres
    run_h = unit.run_h if unit.phase is _CRANKING else unit.run_h + dt_s / 3600.0
    if tank_l <= params.tank_unusable_l + _EPS:
        return GensetUnit(_STOPPED, max(0.0, tank_l), run_h)
    return GensetUnit(
        unit.phase, tank_l, run_h, unit.timer_s, unit.p_kw, unit.attempts, unit.loading, unit.unloading,
        unit.own_start, unit.dead_s, unit.overload_s, unit.tripped,
    )  # fmt: skip


def _to(unit: GensetUnit, phase: GensetState) -> GensetUnit:
    """The same set at the start of another phase off load."""
    return GensetUnit(phase, unit.tank_l, unit.run_h, own_start=unit.own_start, dead_s=unit.dead_s)


def _running(unit: GensetUnit, p_kw: float, loading: bool, unloading: bool) -> GensetUnit:
    return GensetUnit(
        _RUNNING, unit.tank_l, unit.run_h, 0.0, p_kw, 0, loading, unloading, unit.own_start, 0.0,
        unit.overload_s,
    )  # fmt: skip
