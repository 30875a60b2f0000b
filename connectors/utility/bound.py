"""What holds of one word of a server now, and why."""

from dataclasses import dataclass

KW_MAX = 1e7  # 10 GW: more is no bound of a plant


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What holds of one mode now, and why."""

    kw: float
    why: str  # for a person
    until_s: int | None = None  # server's time; None: nobody knows
