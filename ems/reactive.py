"""Reactive power by parameters: what the edge sets at a converter, slowly; the fast loop is its own."""

import math
from dataclasses import dataclass

PACE_S_MIN = 60.0  # the edge regulates no voltage: nothing of this moves faster


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveAtPower:
    """A corner of the curve of reactive over active power."""

    p_kw: float
    q_kvar: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveControl:
    """Where a converter's reactive setpoint comes from while it is beside the grid."""

    every_s: float = PACE_S_MIN  # it is chosen anew no sooner
    follow_plan: bool = True  # where a plan that is followed has one
    by_power: tuple[ReactiveAtPower, ...] = ()  # ascending; straight between corners, held beyond

    def q_kvar(self, p_kw: float) -> float:
        """Reactive power for a mean active power [kvar]."""
        if not self.by_power:
            return 0.0
        below = self.by_power[0]
        for above in self.by_power:
            if p_kw <= above.p_kw:
                if above.p_kw <= below.p_kw:
                    return above.q_kvar
                part = max(0.0, (p_kw - below.p_kw) / (above.p_kw - below.p_kw))
                return below.q_kvar + part * (above.q_kvar - below.q_kvar)
            below = above
        return below.q_kvar


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
