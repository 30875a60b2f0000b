"""What a replay may be off, and what it found."""

from collections.abc import Mapping
from dataclasses import dataclass

from ems.plan import Plan
from ems.timegrid import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a replay may be from its plan."""

    balance_kw: float = 0.5
    limit_kw: float = 0.5
    soc: float = 0.015  # replayed SoC against the plan's at any step; tapers are judged with this margin
    fuel_ratio: float = 0.02
    cost_ratio: float = 1e-3
    time_s: float = 1.0
    voltage_pu: float = 0.001  # AC power flow against the voltage the plan states, and against its band


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a replay found. `worst` by check, in the unit of its tolerance."""

    faults: tuple[str, ...]
    worst: Mapping[str, float]

    @property
    def ok(self) -> bool:
        """Whether the plan may be published."""
        return not self.faults


class Findings:
    """Faults of one plan, and the worst of each check."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.faults, self.worst = plan, list[str](), dict[str, float]()

    def within(self, check: str, what: str, excess: FloatArray, tolerance: float) -> None:
        """`excess` (T,) is how much beyond each step is; more than `tolerance` is a fault."""
        if not len(excess):
            return
        t = int(excess.argmax())
        worst = float(excess[t])
        self.worst[check] = max(self.worst.get(check, 0.0), worst)
        if worst > tolerance:
            when = self.plan.grid.starts()[t]
            self.faults.append(
                f"{check}: {what} by {worst:.4g} at {when:%d %H:%M} UTC, allowed {tolerance:g}"
            )
