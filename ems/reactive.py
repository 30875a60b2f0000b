"""Reactive power by parameters: what the edge sets at a converter, slowly; the fast loop is its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

PACE_S_MIN = 60.0  # the edge regulates no voltage: nothing of this moves faster


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveAtPower:
    """A corner of the curve of reactive over active power."""

    p_kw: float
    q_kvar: float


class ReactiveTakes(StrEnum):
    """Which reactive parameter a converter takes; the value is the name of its point."""

    KVAR = "q_set_kvar"
    POWER_FACTOR = "pf_set"
    CURVE = "volt_var_curve"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveAtVoltage:
    """A corner of a curve of reactive power over voltage."""

    v_pu: float
    q_kvar: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VoltVarCurve:
    """A curve that is stored in a converter: it is named by its index and never written."""

    index: int
    corners: tuple[ReactiveAtVoltage, ...]  # ascending in v_pu; straight between, held beyond

    def q_kvar(self, v_pu: float) -> float:
        """What a converter on this curve gives into the bus at a voltage [kvar]."""
        return _straight([(c.v_pu, c.q_kvar) for c in self.corners], v_pu)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveControl:
    """Where a converter's reactive setpoint comes from while it is beside the grid, and what it takes."""

    every_s: float = PACE_S_MIN  # it is chosen anew no sooner
    follow_plan: bool = True  # where a plan that is followed has one
    by_power: tuple[ReactiveAtPower, ...] = ()  # ascending; straight between corners, held beyond
    takes: ReactiveTakes = ReactiveTakes.KVAR
    pf_min: float = 0.9  # of a power factor: no smaller is written
    curves: tuple[VoltVarCurve, ...] = ()  # stored in the converter

    def q_kvar(self, p_kw: float) -> float:
        """Reactive power for a mean active power [kvar]."""
        return _straight([(c.p_kw, c.q_kvar) for c in self.by_power], p_kw) if self.by_power else 0.0


def _straight(corners: Sequence[tuple[float, float]], x: float) -> float:
    """Straight between corners ascending in their first part, held beyond."""
    below = corners[0]
    for above in corners:
        if x <= above[0]:
            if above[0] <= below[0]:
                return above[1]
            part = max(0.0, (x - below[0]) / (above[0] - below[0]))
            return below[1] + part * (above[1] - below[1])
        below = above
    return below[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoltageRule:
    """What active power gives way to a voltage at the POI outside its band, and how slowly."""

    low_pu: float
    high_pu: float
    every_s: float = PACE_S_MIN  # the mean of so long is judged, and one step is made
    step_kw: float
    back_pu: float  # so far inside the band a step is taken back; more than a step moves the voltage


def step_pu(rule_step_kw: float, r_ohm: float, x_ohm: float, v_nominal_v: float) -> float:
    """How far a step of active power moves the voltage at the POI, at most [pu]."""
    return rule_step_kw * 1000.0 * math.hypot(r_ohm, x_ohm) / (v_nominal_v * v_nominal_v)
