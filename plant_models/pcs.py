"""The power converter of a battery: its P-Q circle, following or forming, trips and restart."""

import math
from dataclasses import dataclass

from ems.assets import PcsParams
from ems.points import BessState


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


def tripped(params: PcsParams, unit: BessUnit, *, fault: bool) -> BessUnit:
    """The converter after it lost its bus (OFF) or tripped by overload or fault (TRIPPED)."""
    mode = BessState.TRIPPED if fault else BessState.OFF
    return BessUnit(mode, unit.stored_kwh, params.restart_s)
