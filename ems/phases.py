"""Three phases that carry unlike power: what is declared of them. Our sources are balanced, load is not."""

from dataclasses import dataclass

PHASES = (1, 2, 3)
POWER_OF_PHASE = tuple(f"p_l{n}_kw" for n in PHASES)
CURRENT_OF_PHASE = tuple(f"i_l{n}_a" for n in PHASES)
PHASE_POINTS = frozenset((*POWER_OF_PHASE, *CURRENT_OF_PHASE))
EVEN = (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0)
MARGIN_RATIO = 0.1  # of the rating, kept free while the phases are not read, where nothing else is said


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseParams:
    """How the phases of one meter, genset or converter are held."""

    margin_kw: float  # kept free of the total while the phases are not read
    worst: bool = True  # the POI's caps hold on each phase for a third of them; False: on the sum of all
    i_a_max: float | None = None  # of the POI's fuse, breaker or feeder, each phase; None: not known
    unbalance_ratio_max: float | None = None  # highest less lowest phase, of a third of the genset's rating
