"""What the edge remembers of units that take setpoints and may not follow them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Following:
    """How a unit has followed its setpoint. Times are the edge's monotonic clock [s]."""

    held: tuple[tuple[float, float], ...] = ()  # (at [s], setpoint [kW]), the newest last
    off_since_s: float | None = None  # its power does not follow and does not come nearer, without a break
    off_kw: float = 0.0  # how far it was off then
    well_since_s: float | None = None  # it follows, without a break
    retries: int = 0  # since it went off
    retried_s: float = 0.0
    marked: bool = False  # not effective: not counted on
    times: int = 0  # so often marked since the start of the edge


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectMemory:
    """By setpoint."""

    following: Mapping[str, Following] = field(default_factory=dict)
