"""What real-time balancing remembers from one tick to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """Powers as they were read in one cycle, and as they were asked for [kW]."""

    at_s: float
    reference_kw: float
    own_kw: Mapping[str, float]
    asked_kw: Mapping[str, float]  # limits of PV as they are, however little there is to limit
    ceiling_kw: Mapping[str, float]  # what PV could give
    closed: frozenset[str]  # feeders


@dataclass(frozen=True, slots=True)
class Shift:
    """Age of one source's reading against the reference's, as learnt from its moves."""

    cycle_s: float  # the cycle `left_kw2` belongs to
    left_kw2: tuple[float, ...]  # jumps of the load that each candidate leaves, squared and added up
    moved_kw2: float  # the source's own moves, squared and added up
    older_s: float | None = None  # positive: the reference is older; None: not known yet


@dataclass(frozen=True, slots=True, kw_only=True)
class NetDemandMemory:
    """What the estimate needs from the cycles before."""

    reference: str | None = None  # asset
    samples: tuple[Sample, ...] = ()  # newest last
    shifts: Mapping[tuple[str, str], Shift] = field(default_factory=dict)  # by (reference, asset)
    load_kw: float | None = None  # the last estimate

    def older_s(self, asset: str) -> float | None:
        """How much older the reference's reading is than the asset's [s]; None: not known."""
        shift = self.shifts.get((self.reference or "", asset))
        return None if shift is None else shift.older_s
