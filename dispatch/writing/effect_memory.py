"""What the edge remembers of units that take setpoints and may not follow them."""

import math
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


@dataclass(frozen=True, kw_only=True)
class ReactiveFollowing:
    """How a converter's reactive power has followed its setpoint, window by window [s, kvar]."""

    began_s: float | None = None  # of the window, edge monotonic; None: none is open
    count: int = 0  # readings in it
    mean_kvar: float = 0.0  # that it gave in it
    low_kvar: float = math.inf  # least that it was asked for in it
    high_kvar: float = -math.inf
    earlier_kvar: tuple[float, float] | None = None  # (least, most) asked for in the window before
    row: int = 0  # windows in a row: positive, it did not follow; negative, it did
    marked: bool = False
    gave_kvar: float = 0.0  # in the last window in which it did not follow
    asked_kvar: float = 0.0  # the nearest it was asked for then


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactiveMemory:
    """By setpoint."""

    following: Mapping[str, ReactiveFollowing] = field(default_factory=dict)
