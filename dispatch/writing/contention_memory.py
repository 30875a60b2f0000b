"""What the edge remembers of other masters at its setpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A value somebody else wrote, and when this edge last wrote against it."""

    value: float  # unit of the setpoint; ratio
    rewritten_s: float  # edge monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentionMemory:
    """Values this edge wrote, oldest first, and the setpoints that others hold."""

    sent: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)  # (at [s], value)
    contests: Mapping[str, Contest] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)  # read back: an older value of ours
