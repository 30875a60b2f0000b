"""The power converter of a battery: its P-Q circle or polygon, following or forming, trips and restart."""

import math
from dataclasses import dataclass

import numpy as np

from ems.assets import PcsParams, PvParams
from ems.points import BessState
from ems.timegrid import FloatArray


@dataclass(frozen=True, slots=True)
class BessUnit:
    """State of one battery system."""

    mode: BessState
    stored_kwh: float
    restart_left_s: float = 0.0  # while off or tripped: time until it may follow or form again
    overload_s: float = 0.0  # while forming: how long it has carried more than its rating

    @property
    def on(self) -> bool:
        """Whether the converter is switching (and has its no-load loss)."""
        return self.mode is BessState.FOLLOWING or self.mode is BessState.FORMING


def p_limit_kw(params: PcsParams, q_kvar: float) -> float:
    """Largest active power beside `q_kvar` on the apparent-power circle [kW]; 0 when Q alone fills it."""
    rest = params.s_kva * params.s_kva - q_kvar * q_kvar
    return math.sqrt(rest) if rest > 0.0 else 0.0


def p_range_kw(params: PcsParams, q_kvar: float) -> tuple[float, float]:
    """Least and most active power beside `q_kvar`: on the maker's polygon, else on the circle [kW].

    Beyond the polygon's reactive power it is that of its nearest kvar.
    """
    if params.capability is not None:
        return params.capability.p_range_kw(q_kvar)
    limit_kw = p_limit_kw(params, q_kvar)
    return -limit_kw, limit_kw


def p_span_kw(params: PcsParams) -> tuple[float, float]:
    """Least and most active power beside any reactive power [kW]."""
    if params.capability is None:
        return -params.s_kva, params.s_kva
    corners_kw = [p for p, _ in params.capability.corners]
    return min(corners_kw), max(corners_kw)


def q_range_kvar(params: PcsParams | PvParams, p_kw: float) -> tuple[float, float]:
    """Least and most reactive power beside active power, which comes first; none without rating [kvar]."""
    if params.capability is not None:
        return params.capability.q_range_kvar(p_kw)
    s_kva = params.s_kva
    room = 0.0 if s_kva is None else math.sqrt(max(0.0, s_kva * s_kva - p_kw * p_kw))
    return -room, room


def holds(params: PcsParams, p_kw: float, q_kvar: float, slack_kva: float) -> bool:
    """Whether a point is inside the circle or polygon, or beyond it by no more than `slack_kva`."""
    if params.capability is None:
        return math.hypot(p_kw, q_kvar) <= params.s_kva + slack_kva
    return params.capability.over_kva(p_kw, q_kvar) <= slack_kva


def over_kva(params: PcsParams, p_kw: float, q_kvar: float, ratio: float = 1.0) -> float:
    """How far a point lies beyond `ratio` times the circle or polygon; negative inside [kVA]."""
    if params.capability is None:
        return math.hypot(p_kw, q_kvar) - ratio * params.s_kva
    own = params.capability if ratio == 1.0 else params.capability.scaled(ratio)
    return own.over_kva(p_kw, q_kvar)


def kvar_max(params: PcsParams | PvParams) -> tuple[float, float]:
    """Most reactive power that a converter gives and takes, both positive [kvar]."""
    if params.capability is not None:
        at = [q for _, q in params.capability.corners]
        return max(0.0, *at), max(0.0, *(-q for q in at))
    rated = 0.0 if params.s_kva is None else params.s_kva
    return rated, rated


def room_kw_array(params: PcsParams, q_kvar: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(T,) most active power given and taken beside reactive power, circle or polygon, both positive [kW]."""
    if params.capability is None:
        circle = np.sqrt(np.maximum(0.0, params.s_kva**2 - q_kvar**2))
        return circle, circle
    span = np.array([params.capability.p_range_kw(float(q)) for q in q_kvar]).reshape(-1, 2)
    return np.maximum(0.0, span[:, 1]), np.maximum(0.0, -span[:, 0])


def tripped(params: PcsParams, unit: BessUnit, *, fault: bool) -> BessUnit:
    """The converter after it lost its bus (OFF) or tripped by overload or fault (TRIPPED)."""
    mode = BessState.TRIPPED if fault else BessState.OFF
    return BessUnit(mode, unit.stored_kwh, params.restart_s)
