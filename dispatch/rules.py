"""`rules`: what BESS and genset controllers do today."""

from dataclasses import dataclass, field

from dispatch.vocabulary import Context, ControlMemory, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesParams:
    """Thresholds of the rule-based controller. Grid-tied: self-consumption above a backup reserve.

    Islanded ladder: SoC `soc_floor` < `soc_start` < `soc_stop` < the battery's own maximum.
    """

    soc_floor: float = 0.35  # grid-tied: no discharge below (backup reserve)
    soc_recharge: float = 0.45  # once below the floor: no discharge before this is reached again
    soc_start: float = 0.30  # islanded: start a genset at or below
    soc_stop: float = 0.70  # islanded: stop gensets at or above, when the load allows
    load_start_ratio: float = 0.85  # islanded: start the next source above this share of what is on line
    load_stop_ratio: float = 0.60  # islanded: stop one when the rest would stay below this share
    genset_load_ratio: float = 0.85  # islanded: on-line gensets are loaded to this share, the rest charges
    genset_prime: bool = False  # islanded: always keep a genset on load, the battery is the reserve
    confirm_s: float = 10.0  # thresholds must hold so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Grid prime while there is a grid, else BESS prime (or genset prime)."""

    params: RulesParams = field(default_factory=RulesParams)

    @property
    def name(self) -> str:
        """For records and tables."""
        return "rules"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        """Wishes for this cycle, before the protections common to all controllers."""
        raise NotImplementedError
