"""`rules_tou`: time-of-use windows, peak shaving and a reserve before announced outages, over `rules`."""

from dataclasses import dataclass, field

from dispatch.rules import RulesParams
from dispatch.vocabulary import Context, ControlMemory, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class TouParams:
    """Thresholds of the time-of-use controller; a search may tune every one of them."""

    base: RulesParams = field(default_factory=RulesParams)
    charge_price_ratio: float = 0.75  # charge at or below this share of the mean price
    discharge_price_ratio: float = 1.15  # discharge at or above this share
    charge_soc: float = 0.90  # charge from the grid up to
    charge_power_ratio: float = 0.5  # of the battery's charge limit
    discharge_soc: float = 0.35  # discharge in dear windows down to
    peak_shave_kw: float | None = None  # hold the import below; None: the contract's cap only
    peak_soc: float = 0.25  # peak shaving may use the battery down to
    outage_soc: float = 0.90  # SoC wanted when an announced outage begins
    outage_lead_h: float = 6.0  # start charging for it so long before
    self_consumption: bool = True  # outside dear windows: discharge above `base.soc_floor` to cover load


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesTou:
    """Rules with a tariff, a peak threshold and a look at the announced outages."""

    params: TouParams = field(default_factory=TouParams)

    @property
    def name(self) -> str:
        """For records and tables."""
        return "rules_tou"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        """Wishes for this cycle, before the protections common to all controllers."""
        raise NotImplementedError
