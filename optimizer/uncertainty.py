"""How a plan reckons with forecasts being wrong (docs/uncertainty.md)."""

from dataclasses import dataclass
from enum import StrEnum

from ems.errors import BadValue

QUANTILES = (0.5, 0.99)
CVAR_WEIGHT_MAX = 0.95  # at 1 nothing outside the tail would have a price, the published path included


class UncertaintyKind(StrEnum):
    """What stands for the unknown."""

    NONE = "none"  # one expected path; reserve stands for the rest
    TWO_STAGE = "two_stage"  # commitment for all scenarios, battery and dispatch for each
    ROBUST = "robust"  # one adverse path: high load and little sun


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """How uncertainty is planned for.

    Parameters
    ----------
    kind : what stands for it.
    scenarios : how many the forecaster is to make; a planner takes as many as its forecast has.
    cvar_weight_ratio : share of the tail's cost in the objective, 0 (expected cost alone) to 0.95.
    cvar_level_ratio : the tail is what lies above this quantile of cost, in (0, 1).
    quantile_ratio : of load, and of missing sun, on the adverse path, 0.5 to 0.99.
    first_s : steps that begin before this are common to all scenarios [s]: until the next plan. The first
        step always is.
    commit_s : commitment is common for so long [s], at most while it is whole; None: until gensets that are
        asked for after the common steps can be on load.
    outages : scenarios of an outage that nobody announced, spread over the time with whole commitment; only
        for a site that says `reserve.outages_per_month`.

    Raises
    ------
    BadValue : a value outside what is allowed; names key, value and range.
    """

    kind: UncertaintyKind = UncertaintyKind.NONE
    scenarios: int = 5
    cvar_weight_ratio: float = 0.0
    cvar_level_ratio: float = 0.8
    quantile_ratio: float = 0.9
    first_s: float = 0.0
    commit_s: float | None = None
    outages: int = 0

    def __post_init__(self) -> None:
        low, high = QUANTILES
        for key, value, fine, allowed in (
            ("scenarios", self.scenarios, 1 <= self.scenarios <= 100, "1 to 100"),
            (
                "cvar_weight_ratio",
                self.cvar_weight_ratio,
                0.0 <= self.cvar_weight_ratio <= CVAR_WEIGHT_MAX,
                f"0 to {CVAR_WEIGHT_MAX:g}",
            ),
            (
                "cvar_level_ratio",
                self.cvar_level_ratio,
                0.0 < self.cvar_level_ratio < 1.0,
                "above 0, below 1",
            ),
            (
                "quantile_ratio",
                self.quantile_ratio,
                low <= self.quantile_ratio <= high,
                f"{low:g} to {high:g}",
            ),
            ("outages", self.outages, 0 <= self.outages <= 24, "0 to 24"),
            ("first_s", self.first_s, 0.0 <= self.first_s < float("inf"), "0 or more"),
            ("commit_s", self.commit_s, self.commit_s is None or self.commit_s >= 0.0, "0 or more, or none"),
        ):
            if not fine:
                raise BadValue(f"uncertainty.{key}: found {value}; allowed: {allowed}")
