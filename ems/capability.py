"""P-Q capability of a converter: the convex polygon of its maker's data sheet.

Units kW and kvar, positive = into the bus. Corners run counterclockwise; each side is a half-plane

    a p + b q <= c,        (a, b) its outward normal of length 1, c its distance from the origin [kVA]

so that a linear program holds the polygon exactly.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ems.errors import BadValue

CORNERS_MIN = 3
NEAR_KVA = 1e-6  # what lies outside by no more is on the edge

Corner = tuple[float, float]  # (kW, kvar)


@dataclass(frozen=True, slots=True, kw_only=True)
class PqCapability:
    """Where a converter can work: inside a convex polygon that holds the origin.

    Made by `capability_of`, which checks it.
    """

    corners: tuple[Corner, ...]  # (kW, kvar), counterclockwise, none of them in the middle of a side

    @property
    def half_planes(self) -> tuple[tuple[float, float, float], ...]:
        """(a, b, c) of each side, in the order of the corners it starts from [1, 1, kVA]."""
        return _half_planes(self.corners)

    def p_range_kw(self, q_kvar: float) -> tuple[float, float]:
        """Least and most active power beside a reactive power, held inside the polygon's own [kW]."""
        return _across([(q, p) for p, q in self.corners], q_kvar)

    def q_range_kvar(self, p_kw: float) -> tuple[float, float]:
        """Least and most reactive power beside an active power, held inside the polygon's own [kvar]."""
        return _across(self.corners, p_kw)

    def over_kva(self, p_kw: float, q_kvar: float) -> float:
        """How far a point lies beyond the side it is farthest beyond; negative inside [kVA]."""
        return max(a * p_kw + b * q_kvar - c for a, b, c in self.half_planes)

    def along_kw(self, direction: float, q_per_p: float) -> float:
        """Most active power one way (1: given, -1: taken) with so many kvar per kW of it given [kW]."""
        rays = ((a * direction + b * q_per_p, c) for a, b, c in self.half_planes)
        return min((max(0.0, c) / rise for rise, c in rays if rise > 0.0), default=0.0)

    def scaled(self, ratio: float) -> "PqCapability":
        """The same polygon, so many times as large."""
        return PqCapability(corners=tuple((ratio * p, ratio * q) for p, q in self.corners))


def capability_of(corners: Iterable[Corner]) -> PqCapability:
    """The polygon of corners in order around it, either way; those in the middle of a side are dropped.

    Parameters
    ----------
    corners : (kW, kvar), positive into the bus.

    Raises
    ------
    BadValue : fewer than three corners, not convex, not once around, or without the origin.
    """
    given = [(float(p), float(q)) for p, q in corners]
    if len(given) < CORNERS_MIN:
        raise BadValue(f"{len(given)} corners; three or more are needed")
    if not all(math.isfinite(x) for corner in given for x in corner):
        raise BadValue("a corner that is no number")
    if len(set(given)) < len(given):
        twice = next(c for k, c in enumerate(given) if c in given[:k])
        raise BadValue(f"the corner {twice[0]:g} kW, {twice[1]:g} kvar twice; each once is needed")
    if _area(given) < 0.0:
        given.reverse()
    dent = _dented(given)
    if dent is not None:
        raise BadValue(f"a dent at {dent[0]:g} kW, {dent[1]:g} kvar; convex, in order around, is needed")
    out = PqCapability(corners=tuple(c for k, c in enumerate(given) if _turn(given, k) > 0.0))
    if out.over_kva(0.0, 0.0) > NEAR_KVA:
        raise BadValue("no room for 0 kW, 0 kvar; a polygon around it is needed")
    return out


def _area(corners: Sequence[Corner]) -> float:
    return 0.5 * sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*corners, corners[0]]))


def _turn(corners: Sequence[Corner], k: int) -> float:
    """Angle by which the way around turns left at a corner; 0 where it goes straight on [rad]."""
    (ax, ay), (bx, by), (cx, cy) = corners[k - 1], corners[k], corners[(k + 1) % len(corners)]
    ux, uy, vx, vy = bx - ax, by - ay, cx - bx, cy - by
    angle = math.atan2(ux * vy - uy * vx, ux * vx + uy * vy)
    return 0.0 if abs(angle) < 1e-9 else angle


def _dented(corners: Sequence[Corner]) -> Corner | None:
    """A corner at which the way turns right or back, or goes around once more."""
    turned = 0.0
    for k, corner in enumerate(corners):
        angle = _turn(corners, k)
        turned += angle
        if not 0.0 <= angle < math.pi - 1e-9 or turned > 2.0 * math.pi + 1e-6:
            return corner
    return None


@lru_cache(maxsize=256)
def _half_planes(corners: tuple[Corner, ...]) -> tuple[tuple[float, float, float], ...]:
    out = []
    for (ap, aq), (bp, bq) in pairwise([*corners, corners[0]]):
        length = math.hypot(bp - ap, bq - aq)
        a, b = (bq - aq) / length, -(bp - ap) / length
        out.append((a, b, 0.5 * (a * (ap + bp) + b * (aq + bq))))
    return tuple(out)


def _across(corners: Sequence[Corner], x: float) -> tuple[float, float]:
    """Least and most of the second part where the first is `x`, held inside the polygon."""
    firsts = [c[0] for c in corners]
    x = max(min(firsts), min(max(firsts), x))
    at: list[float] = []
    for a, b in pairwise([*corners, corners[0]]):
        if min(a[0], b[0]) <= x <= max(a[0], b[0]):
            at += [a[1], b[1]] if a[0] == b[0] else [a[1] + (x - a[0]) / (b[0] - a[0]) * (b[1] - a[1])]
    return min(at), max(at)
