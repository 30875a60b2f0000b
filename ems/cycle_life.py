"""How many cycles a battery lives by their depth, and what one of them uses up."""

from dataclasses import dataclass
from itertools import pairwise

STRAIGHT = 1e-9  # slopes that fall by no more than this share count as equal


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleLife:
    """Cycles to the end of life at some depths of the capacity, and what new cells cost.

    A full cycle of depth d uses up Phi(d) of the life: 0 at depth 0, 1 / cycles at each depth given, straight
    between them, and onwards as over the last stretch. Phi has to be convex: see `bent`.
    """

    depth_ratio: tuple[float, ...]  # ascending, above 0
    cycles_count: tuple[float, ...]  # full cycles of that depth to the end of life
    replacement_cost: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth_ratio", tuple(self.depth_ratio))
        object.__setattr__(self, "cycles_count", tuple(self.cycles_count))

    @property
    def edges_ratio(self) -> tuple[float, ...]:
        """Edges of the depth segments, from 0 to at least 1."""
        inner = (0.0, *self.depth_ratio)
        return inner if inner[-1] >= 1.0 else (*inner[:-1], 1.0)

    @property
    def life_per_depth_ratio(self) -> tuple[float, ...]:
        """Share of life used up per unit of depth, segment by segment."""
        ends = ((0.0, 0.0), *((d, 1.0 / n) for d, n in zip(self.depth_ratio, self.cycles_count, strict=True)))
        return tuple((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(ends))

    def life_ratio(self, depth_ratio: float) -> float:
        """Share of life that a full cycle of a depth uses up: Phi."""
        out, begin = 0.0, 0.0
        for end, slope in zip(self.edges_ratio[1:], self.life_per_depth_ratio, strict=True):
            if depth_ratio <= end:
                return out + slope * (depth_ratio - begin)
            out, begin = out + slope * (end - begin), end
        return out + self.life_per_depth_ratio[-1] * (depth_ratio - begin)

    def bent(self) -> tuple[int, float] | None:
        """The first point at which Phi is not convex, and how many cycles it may have at most; None: convex.

        Where a deeper cycle wore less per kWh than a shallow one, no order of filling would be the cheapest
        and the segments of the model would need binaries.
        """
        slopes, edge = self.life_per_depth_ratio, (0.0, *self.depth_ratio)
        for k in range(1, len(slopes)):
            if slopes[k] < slopes[k - 1] * (1.0 - STRAIGHT):
                least = 1.0 / self.cycles_count[k - 1] + slopes[k - 1] * (edge[k + 1] - edge[k])
                return k, 1.0 / least
        return None
