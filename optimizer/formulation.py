"""One choice per constraint family, defaults first."""

from dataclasses import dataclass
from enum import StrEnum

from optimizer.case_terms import NOTHING, CaseTerms


class Exclusivity(StrEnum):
    """How charging and discharging (importing and exporting) at once is kept out."""

    HULL = "hull"  # the convex hull of "one or the other"; verified after each solve
    BINARY = "binary"  # a binary in the steps where energy has no or negative value


class Shedding(StrEnum):
    """What may be shed of a feeder in a step."""

    WHOLE = "whole"  # all or nothing, with dwell times, by a binary; only in plans that shed at all
    MEAN = "mean"  # a share of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class Formulation:
    """What the model is made of. Every family not named here has one formulation only."""

    exclusivity: Exclusivity = Exclusivity.HULL
    shedding: Shedding = Shedding.WHOLE
    battery_segments: int = 3  # chords of the quadratic loss, each way
    battery_fit_ratio: float = 5e-4  # of its power a loss curve may be off where it is made convex
    soc_tapers: bool = True  # power limits that fall near full and empty
    reserve: bool = True
    tie_break_ratio: float = 1e-4  # of the median price, on charging: free energy is stored the efficient way
    symmetry: bool = True  # identical gensets are counted as fleets where they can be, else ordered
    fleets: tuple[int, ...] = ()  # sizes of the fleets, in the order of the site; (): single machines
    billing_shares: bool = False  # steps longer than a billing interval are shared out over it, too
    terms: CaseTerms = NOTHING  # what only a case may ask for
