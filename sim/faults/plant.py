"""Faults of the plant itself: mains, sources, weather and loads. They are worked into the scenario."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from ems.series import UniformSeries
from ems.timegrid import FloatArray
from sim.faults.base import EPSILON_S, Fault
from sim.scenario import FaultEvent, FaultKind, MainsEvent, Scenario

FINE_STEP_S = 1.0


def window(fault: Fault, scenario: Scenario) -> tuple[datetime, datetime]:
    """Start and end of a fault within a scenario."""
    end_s = min(fault.until_s, scenario.duration_s)
    return scenario.at(fault.from_s), scenario.at(end_s)


def mains(fault: Fault, scenario: Scenario, v_pu: float) -> Scenario:
    """The mains gone (0 pu), or present but not usable."""
    start, end = window(fault, scenario)
    event = MainsEvent(id=f"{fault.kind}-{fault.from_s:g}", start=start, end=end, announced=False, v_pu=v_pu)
    return replace(scenario, mains=(*scenario.mains, event))


def mains_lost(fault: Fault, scenario: Scenario) -> Scenario:
    """No voltage at the POI."""
    return mains(fault, scenario, 0.0)


def brown_out(fault: Fault, scenario: Scenario) -> Scenario:
    """Voltage too low to be used."""
    return mains(fault, scenario, fault.given(0.7))


def over_voltage(fault: Fault, scenario: Scenario) -> Scenario:
    """Voltage too high to be used."""
    base, n = scenario.mains_v_pu, round(scenario.duration_s / FINE_STEP_S)
    values = np.ones(n) if base is None else _fine(base, scenario)
    inside = _inside(fault, n)
    values[inside] = fault.given(1.2)
    return replace(
        scenario, mains_v_pu=UniformSeries(start=scenario.start, step_s=FINE_STEP_S, values=values)
    )


def event(kind: FaultKind, own: float | None = None) -> Callable[[Fault, Scenario], Scenario]:
    """A fault that the world knows by itself; `own` is its size where it has one."""

    def shape(fault: Fault, scenario: Scenario) -> Scenario:
        start, end = window(fault, scenario)
        value = None if own is None else fault.given(own)
        added = FaultEvent(kind=kind, asset=fault.target, start=start, end=end, value=value)
        return replace(scenario, faults=(*scenario.faults, added))

    return shape


def cloud(fault: Fault, scenario: Scenario) -> Scenario:
    """PV falls by a share within twenty seconds, and comes back as fast."""
    share = fault.given(0.8)
    return _times(fault, scenario, "pv_kw", lambda after_s, left_s: 1.0 - share * _edge(after_s, left_s))


def load_step(fault: Fault, scenario: Scenario) -> Scenario:
    """Demand of a feeder times (1 + value), at once."""
    ratio = 1.0 + fault.given(0.3)
    return _times(fault, scenario, "load_kw", lambda after_s, left_s: np.full_like(after_s, ratio))


def motor_start(fault: Fault, scenario: Scenario) -> Scenario:
    """Demand of a feeder times three for five seconds, at the start of each minute."""
    ratio = fault.given(3.0)
    return _times(
        fault, scenario, "load_kw", lambda after_s, left_s: np.where(after_s % 60.0 < 5.0, ratio, 1.0)
    )


RAMP_S = 20.0


def _edge(after_s: FloatArray, left_s: FloatArray) -> FloatArray:
    edge: FloatArray = np.clip(np.minimum(after_s, left_s) / RAMP_S, 0.0, 1.0)
    return edge


def _times(
    fault: Fault,
    scenario: Scenario,
    name: str,
    factor: Callable[[FloatArray, FloatArray], FloatArray],
) -> Scenario:
    """One series, or all of its kind, times a factor of the time since the start and to the end [s]."""
    n = round(scenario.duration_s / FINE_STEP_S)
    t_s: FloatArray = np.arange(n, dtype=np.float64) * FINE_STEP_S
    inside = _inside(fault, n)
    after_s, left_s = t_s[inside] - fault.from_s, min(fault.until_s, scenario.duration_s) - t_s[inside]
    series = dict(getattr(scenario, name))
    for key in [fault.target] if fault.target else list(series):
        values = _fine(series[key], scenario)
        values[inside] *= factor(after_s, left_s)
        series[key] = UniformSeries(start=scenario.start, step_s=FINE_STEP_S, values=values)
    changed: dict[str, dict[str, UniformSeries]] = {name: series}
    return replace(scenario, **changed)  # type: ignore[arg-type]


def _inside(fault: Fault, n: int) -> NDArray[np.bool_]:
    t_s = np.arange(n) * FINE_STEP_S
    return (t_s >= fault.from_s - EPSILON_S) & (t_s < fault.until_s - EPSILON_S)


def _fine(series: UniformSeries, scenario: Scenario) -> FloatArray:
    """Values of a series on seconds from the start of the run to its end."""
    lead_s = (scenario.start - series.start) / timedelta(seconds=1)
    at_s = lead_s + np.arange(round(scenario.duration_s / FINE_STEP_S)) * FINE_STEP_S
    index = np.minimum((at_s / series.step_s).astype(int), len(series.values) - 1)
    return np.asarray(series.values[index], dtype=np.float64).copy()
