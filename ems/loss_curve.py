"""Loss of a battery over its power, from efficiencies at part load."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

LEVEL = 1e-9  # a loss, or a power stored, that falls by no more than this share counts as equal

Points = Sequence[tuple[float, float]]  # (AC power [kW], one-way efficiency), ascending


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """Conversion loss of one direction over AC power, no-load loss aside.

    From (0, 0), straight from point to point, and on beyond the last as over the last stretch. The loss never
    falls, and never grows as fast as the power.
    """

    p_kw: tuple[float, ...]  # ascending, from 0
    loss_kw: tuple[float, ...]  # from 0

    def eta_best(self, no_load_loss_kw: float, *, charge: bool) -> float:
        """Highest one-way efficiency at the points, no-load loss included."""
        lost = [(p, x + no_load_loss_kw) for p, x in zip(self.p_kw[1:], self.loss_kw[1:], strict=True)]
        return max((p - x) / p if charge else p / (p + x) for p, x in lost)


def whole_loss_kw(p_kw: float, eta: float, *, charge: bool) -> float:
    """All that is lost at a point, no-load loss included [kW]."""
    return p_kw * (1.0 - eta) if charge else p_kw / eta - p_kw


def loss_curve(points: Points, no_load_loss_kw: float, *, charge: bool) -> LossCurve | None:
    """Conversion loss of points whose efficiency holds the no-load loss; None: no points."""
    if not points:
        return None
    losses = [whole_loss_kw(p, eta, charge=charge) - no_load_loss_kw for p, eta in points]
    return LossCurve(p_kw=(0.0, *(p for p, _ in points)), loss_kw=(0.0, *(max(0.0, x) for x in losses)))


def standing_loss_kw(charge: Points, discharge: Points) -> float:
    """Loss at no power that the points say of themselves [kW].

    The first stretch of each direction is extended to no power; of the two the higher, so that neither loss
    grows faster below its first point than above it, at least 0 and at most the loss at either first point.
    A single point is extended to no loss.
    """
    at_zero, most = [0.0], []
    for points, way in ((charge, True), (discharge, False)):
        if not points:
            continue
        losses = [whole_loss_kw(p, eta, charge=way) for p, eta in points]
        most.append(losses[0])
        if len(points) > 1:
            slope = (losses[1] - losses[0]) / (points[1][0] - points[0][0])
            at_zero.append(losses[0] - slope * points[0][0])
    return min([max(at_zero), *most]) if most else 0.0


def point_faults(points: Points, *, charge: bool) -> Iterator[tuple[int, str, float, str]]:
    """What is wrong with points of efficiency: (row, `p_kw` or `eta_ratio`, what was found, what is allowed).

    The first fault only, as what follows is measured by it.
    """
    for k, ((a, eta_a), (b, eta_b)) in enumerate(pairwise([(0.0, 1.0), *points])):
        if not b > a:
            yield k, "p_kw", b, f"more than {a:g} kW, ascending" if k else "more than 0 kW"
            return
        if not 0.0 < eta_b <= 1.0:
            yield k, "eta_ratio", eta_b, "more than 0, up to 1"
            return
        before = whole_loss_kw(a, eta_a, charge=charge)
        if whole_loss_kw(b, eta_b, charge=charge) < before * (1.0 - LEVEL):
            most = 1.0 - before / b if charge else b / (b + before)
            yield k, "eta_ratio", eta_b, f"at most {most:.6g}, so that the loss does not fall with power"
            return
        if charge and not b * eta_b > a * eta_a * (1.0 + LEVEL):
            yield k, "eta_ratio", eta_b, f"more than {a * eta_a / b:.6g}, so that more power stores more"
            return
