"""Load feeders: a breaker with undervoltage release, closed again on request only."""

import math
from dataclasses import dataclass

from ems.assets import FeederParams


@dataclass(frozen=True, slots=True)
class FeederSwitch:
    """State of one feeder."""

    closed: bool
    dwell_s: float = 0.0  # how long closing has been requested on a live bus


CLOSED = FeederSwitch(True)
OPEN = FeederSwitch(False)


def tan_phi(params: FeederParams) -> float:
    """Reactive power drawn per active power, inductive [kvar/kW]."""
    pf = params.power_factor_ratio
    return math.sqrt(1.0 - pf * pf) / pf


def switch(params: FeederParams, state: FeederSwitch, close_request: bool, bus_alive: bool) -> FeederSwitch:
    """Opening acts at once: on request, or by undervoltage release when the bus is dead.

    A feeder without a breaker is always closed.
    """
    if not params.has_breaker:
        return CLOSED
    if not (close_request and bus_alive):
        return OPEN
    return state


def step(params: FeederParams, state: FeederSwitch, close_request: bool, dt_s: float) -> FeederSwitch:
    """Advance the restoration dwell by `dt_s` [s] on a live bus; the breaker closes when it has passed."""
    if state.closed or not close_request:
        return state
    dwell_s = state.dwell_s + dt_s
    return CLOSED if dwell_s >= params.restore_dwell_s - 1e-9 else FeederSwitch(False, dwell_s)
