"""How often this edge has written today to registers that wear out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetMemory:
    """Writes of one local day, by point; points without a budget are not counted."""

    day: date | None = None
    spent: Mapping[str, int] = field(default_factory=dict)
