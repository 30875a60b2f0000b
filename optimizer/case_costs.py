"""Running costs of a unit in a case, and how a case refuses what it is given."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ems.errors import BadValue
from ems.timegrid import FloatArray


def refused(what: str, key: str, found: object, allowed: str) -> BadValue:
    """An error that names the key, what was found and what is allowed."""
    return BadValue(f"{what}: {key}: found {found!r}; allowed: {allowed}")


def check(what: str, rows: Iterable[tuple[str, float, float, float]]) -> None:
    """Refuse every (key, value, low, high) that is not a number within its bounds, both included, at once."""
    found = Refusals()
    found.rows(what, rows)
    found.done()


class Refusals:
    """What is wrong with a thing, all of it, to be told in one message."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def rows(self, what: str, rows: Iterable[tuple[str, float, float, float]]) -> None:
        """Each (key, value, low, high) that is not a number within its bounds."""
        for key, value, low, high in rows:
            if not number(value) or not low <= value <= high:  # NaN compares false
                self.add(what, key, value, f"{low:g} to {high:g}")

    def add(self, what: str, key: str, found: object, allowed: str) -> None:
        """One more."""
        self._found.append(str(refused(what, key, found, allowed)))

    def try_to(self, do: Callable[[], object]) -> None:
        """Whatever `do` refuses."""
        try:
            do()
        except BadValue as bad:
            self._found.append(str(bad))

    def done(self) -> None:
        """Raise BadValue if anything was found, one line each."""
        if self._found:
            raise BadValue("\n".join(dict.fromkeys(self._found)))


def is_a(value: object, *kinds: type) -> bool:
    """Whether a value is what it should be, asked without believing its type."""
    return isinstance(value, kinds)


def number(value: object) -> bool:
    """Whether it is one number, whatever its type."""
    return isinstance(value, int | float | np.integer | np.floating)


def as_array(what: str, key: str, values: object) -> FloatArray:
    """Numbers as an array; BadValue where they are none."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise refused(what, key, values, "one number or one for each step") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPoints:
    """Total cost rate over output, straight between the points.

    `kw` ascends and reaches from the unit's minimum to its maximum; `per_h` [money/h] is the whole cost of an
    hour at that output, what it costs at minimum included. Where it is not convex (a slope falls) the pieces
    fill in order by a binary each, exactly.
    """

    kw: Sequence[float]
    per_h: Sequence[float]

    def __post_init__(self) -> None:
        what, found = "cost points", Refusals()
        for key in ("kw", "per_h"):  # lists compare, but do not hash
            object.__setattr__(self, key, tuple(as_array(what, key, getattr(self, key)).ravel().tolist()))
        if len(self.kw) != len(self.per_h) or len(self.kw) < 2:
            found.add(what, "kw, per_h", (self.kw, self.per_h), "as many of each, at least two")
        if not all(math.isfinite(x) for x in (*self.kw, *self.per_h)):
            found.add(what, "kw, per_h", (self.kw, self.per_h), "finite numbers")
        if min(self.per_h, default=0.0) < 0.0:
            found.add(what, "per_h", self.per_h, "0 or more")
        if any(b <= a for a, b in zip(self.kw, self.kw[1:], strict=False)):
            found.add(what, "kw", self.kw, "ascending outputs")
        found.done()

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
        found = Refusals()
        if not is_a(self.segments, int, np.integer):
            found.add("quadratic cost", "segments", self.segments, "a whole number")
        found.rows(
            "quadratic cost",
            (
                ("a_per_h", self.a_per_h, 0.0, 1e12),
                ("b_per_kwh", self.b_per_kwh, 0.0, 1e12),
                ("c_per_kw2h", self.c_per_kw2h, 0.0, 1e12),
                ("segments", self.segments, 1, 1000),
            ),
        )
        found.done()

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


Cost = CostPoints | QuadraticCost


def pieces(cost: Cost, low_kw: float, high_kw: float) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Cost at the lower output [money/h], widths [kW] and slopes [money/kWh] of the pieces above it."""
    between = [x for x in cost.points(low_kw, high_kw)[0] if low_kw + 1e-9 < x < high_kw - 1e-9]
    at = np.array([low_kw, *between, high_kw])
    per_h, widths = cost.true_per_h(at), np.diff(at)
    return float(per_h[0]), tuple(widths.tolist()), tuple((np.diff(per_h) / widths).tolist())


def bent(cost: Cost, low_kw: float, high_kw: float) -> bool:
    """Whether it is no curve that rises, convex, from above 0: a slope falls, or nothing costs anything."""
    if high_kw <= low_kw:
        return False
    least, _, slopes = pieces(cost, low_kw, high_kw)
    fall = any(b < a - 1e-9 * max(map(abs, slopes)) for a, b in pairwise(slopes))
    return fall or slopes[0] < 0.0 or (least == 0.0 and not any(slopes))
