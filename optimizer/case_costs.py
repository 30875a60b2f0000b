"""Running costs of a unit in a case, and how a case refuses what it is given."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ems.errors import BadValue
from ems.timegrid import FloatArray


def refused(what: str, key: str, found: object, allowed: str) -> BadValue:
    """An error that names the key, what was found and what is allowed."""
    return BadValue(f"{what}: {key}: found {found!r}; allowed: {allowed}")


def check(what: str, rows: Iterable[tuple[str, float, float, float]]) -> None:
    """Refuse the first (key, value, low, high) that is not a number within its bounds, both included."""
    for key, value, low, high in rows:
        if not low <= value <= high:  # NaN compares false
            raise refused(what, key, value, f"{low:g} to {high:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPoints:
    """Cost rate over output, straight between the points.

    `kw` ascends and reaches from the unit's minimum to its maximum; `per_h` [money/h] must be convex: slopes
    that fall by more than rounding are refused where the case is solved.
    """

    kw: Sequence[float]
    per_h: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "kw", tuple(float(x) for x in self.kw))  # lists compare, but do not hash
        object.__setattr__(self, "per_h", tuple(float(x) for x in self.per_h))
        if len(self.kw) != len(self.per_h) or len(self.kw) < 2:
            raise refused("cost points", "kw, per_h", (self.kw, self.per_h), "as many of each, at least two")
        if not all(math.isfinite(x) for x in (*self.kw, *self.per_h)):
            raise refused("cost points", "kw, per_h", (self.kw, self.per_h), "finite numbers")
        if min(self.per_h) < 0.0:
            raise refused("cost points", "per_h", self.per_h, "0 or more")
        if any(b <= a for a, b in zip(self.kw, self.kw[1:], strict=False)):
            raise refused("cost points", "kw", self.kw, "ascending outputs")

    def points(self, low_kw: float, high_kw: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The points as given ([kW], [money/h])."""
        if self.kw[0] > low_kw + 1e-9 or self.kw[-1] < high_kw - 1e-9:
            raise refused("cost points", "kw", self.kw, f"points from {low_kw:g} to {high_kw:g} kW")
        return tuple(self.kw), tuple(self.per_h)

    def true_per_h(self, p_kw: FloatArray) -> FloatArray:
        """(T,) cost rate at (T,) outputs [money/h]."""
        return np.interp(p_kw, self.kw, self.per_h)

    def error_per_h(self, low_kw: float, high_kw: float) -> float:
        """How far the model may lie above the true cost rate [money/h]."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadraticCost:
    """Cost rate `a + b p + c p^2` while on [money/h], laid out as `segments` chords of equal width.

    A chord lies above the curve, by c (w / 2)^2 at most with w its width: the model is never cheaper than the
    truth, and dearer by at most that much in every hour on.
    """

    a_per_h: float = 0.0
    b_per_kwh: float = 0.0
    c_per_kw2h: float = 0.0
    segments: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.segments, int | np.integer):
            raise refused("quadratic cost", "segments", self.segments, "a whole number")
        check(
            "quadratic cost",
            (
                ("a_per_h", self.a_per_h, 0.0, 1e12),
                ("b_per_kwh", self.b_per_kwh, 0.0, 1e12),
                ("c_per_kw2h", self.c_per_kw2h, 0.0, 1e12),
                ("segments", self.segments, 1, 1000),
            ),
        )

    def points(self, low_kw: float, high_kw: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Ends of the chords from minimum to maximum output ([kW], [money/h])."""
        at = np.linspace(low_kw, high_kw, (1 if self.c_per_kw2h == 0.0 else self.segments) + 1)
        return tuple(at.tolist()), tuple(self.true_per_h(at).tolist())

    def true_per_h(self, p_kw: FloatArray) -> FloatArray:
        """(T,) cost rate at (T,) outputs [money/h]."""
        return self.a_per_h + self.b_per_kwh * p_kw + self.c_per_kw2h * p_kw**2

    def error_per_h(self, low_kw: float, high_kw: float) -> float:
        """How far the chords may lie above the curve [money/h]."""
        return self.c_per_kw2h * (0.5 * (high_kw - low_kw) / self.segments) ** 2
