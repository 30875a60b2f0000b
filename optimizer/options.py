"""What the planner may be told: horizon, effort, and how tariffs and stored energy are valued."""

from dataclasses import dataclass, field
from enum import StrEnum

from optimizer.formulation import Formulation
from optimizer.uncertainty import Uncertainty


class DemandWeight(StrEnum):
    """How much of the demand charge a window of a few days is made to feel (docs/optimizer.md)."""

    FULL = "full"  # the whole rate above the month's peak so far
    REMAINING = "remaining"  # the rate times the window's share of the rest of the month
    ELAPSED = "elapsed"  # the rate times the share of the month elapsed at the end of the window
    TARGET = "target"  # the whole rate above the month's target (outlook.py); without one like REMAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerOptions:
    """How a plan is made.

    With `time_limit_s` (live) a solve ends at the wall-clock deadline; with `time_limit_s=None` and
    `node_limit` (simulation) it ends after a number of nodes and the same input gives the same plan.
    """

    gap_ratio: float = 0.01
    time_limit_s: float | None = None
    node_limit: int | None = 400
    blocks: tuple[tuple[float, int], ...] = ((900.0, 24), (1800.0, 12), (3600.0, 36))
    integral_h: float = 24.0  # commitment is whole for so long, at least in the first step
    integral_outages: bool = True  # and through the end of the last outage that is known
    valid_h: float = 6.0  # a published plan is dropped by the edge after this, or at `integral_until`
    threads: int = 1
    demand_weight: DemandWeight = DemandWeight.REMAINING
    demand_target_kw: float | None = None  # peak the month is expected to reach anyway: free up to here
    terminal_per_kwh: tuple[float, float, float] | None = (
        None  # values of the stored thirds; None: from prices
    )
    formulation: Formulation = field(default_factory=Formulation)
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
