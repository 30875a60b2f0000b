"""Which sets of sources may feed the bus together, and how strong a bus inverters need."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSets:
    """Permitted sets of sources by grid mode, asset ids of batteries, gensets and PV; empty: not limited.

    A set says which gensets are on load, exactly, and which batteries and PV plants may feed beside them. It
    is where fault level, earthing and protection settings of a plant are written down.
    """

    islanded: tuple[tuple[str, ...], ...] = ()
    grid_tied: tuple[tuple[str, ...], ...] = ()
    unpermitted_cost_per_h: float | None = None  # money; None: dearer than every load with a breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthPolicy:
    """Short-circuit ratio that grid-following inverters need: fault level over their power."""

    scr_ratio_min: float
    genset_ratio: float = 6.0  # fault level of a genset on load over its rating, 1 / x''d
    forming_ratio: float = 1.0  # fault level of a forming PCS over its rating
    s_grid_kva: float | None = None  # fault level of the grid; None: by its source impedance
