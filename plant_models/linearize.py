"""Straight segments of the physics, for the MILP: the same parameters, the same curves.

A chord lies on the pessimistic side of a convex loss or fuel curve, and its error is largest in the middle.
All are convex but the loss of a battery whose points of efficiency are not.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

from ems.assets import BatteryParams, GensetParams
from ems.errors import BadValue
from ems.loss_curve import LossCurve
from plant_models import battery, genset

FIT_RATIO_MAX = 0.015  # a fuel curve that is further from convex than this is refused
STRAIGHT = 1e-9  # slopes that fall by no more than this count as equal


class _Convex:
    """y = y0 + sum(slopes_i * x_i) with 0 <= x_i <= widths_i, filled in order because slopes never fall.

    Of a loss that is `bent` they may: it has no `lines`, and who fills its pieces has to keep their order.
    """

    __slots__ = ()
    widths_kw: tuple[float, ...]

    @property
    def x0(self) -> float:
        raise NotImplementedError

    @property
    def y0(self) -> float:
        raise NotImplementedError

    @property
    def slopes(self) -> tuple[float, ...]:
        raise NotImplementedError

    def y(self, x_kw: float) -> float:
        """Value of the segments at power x [unit of y]."""
        rest, total = x_kw - self.x0, self.y0
        for width, slope in zip(self.widths_kw, self.slopes, strict=True):
            total += slope * min(max(rest, 0.0), width)
            rest -= width
        return total

    def lines(self) -> tuple[tuple[float, float], ...]:
        """(slope, intercept) of each segment's line: y >= slope * x + intercept for all is the curve."""
        out, x, y = [], self.x0, self.y0
        for width, slope in zip(self.widths_kw, self.slopes, strict=True):
            out.append((slope, y - slope * x))
            x, y = x + width, y + slope * width
        return tuple(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSegments(_Convex):
    """Conversion loss y [kW] over AC power x [kW], both positive, in one direction of a battery."""

    widths_kw: tuple[float, ...]
    loss_per_kw: tuple[float, ...]
    fit_error_ratio: float  # largest deviation from the curve, over the largest power

    @property
    def x0(self) -> float:
        """Power where the first segment starts [kW]."""
        return 0.0

    @property
    def y0(self) -> float:
        """Loss there [kW]."""
        return 0.0

    @property
    def slopes(self) -> tuple[float, ...]:
        """Loss per power of each segment [kW/kW]."""
        return self.loss_per_kw

    @property
    def bent(self) -> tuple[bool, ...]:
        """Whether the loss grows slower after each edge between segments than before it: not convex there."""
        return tuple(b < a - STRAIGHT for a, b in pairwise(self.loss_per_kw))


@dataclass(frozen=True, slots=True, kw_only=True)
class FuelSegments(_Convex):
    """Fuel y [L/h] over power x [kW] of a genset, from minimum load to rating."""

    p_min_kw: float
    fuel_min_l_h: float  # at p_min_kw
    widths_kw: tuple[float, ...]
    slopes_l_kwh: tuple[float, ...]
    fit_error_ratio: float  # largest deviation from the curve, over the fuel at rating

    @property
    def x0(self) -> float:
        """Power where the first segment starts [kW]."""
        return self.p_min_kw

    @property
    def y0(self) -> float:
        """Fuel there [L/h]."""
        return self.fuel_min_l_h

    @property
    def slopes(self) -> tuple[float, ...]:
        """Fuel per energy of each segment [L/kWh]."""
        return self.slopes_l_kwh


def battery_segments(
    params: BatteryParams, n: int = 4, fit_ratio: float = 0.0
) -> tuple[LossSegments, LossSegments]:
    """Conversion loss over AC power, (charge, discharge), each as `n` chords of equal width.

    A direction with a loss curve has the stretches of that instead, whatever `n` is: exactly, but for
    stretches that are not convex by so little that their chord is within `fit_ratio` of them.

    Parameters
    ----------
    params : BatteryParams
        Nameplate.
    n : int
        Chords per direction, 1 or more.
    fit_ratio : float
        How far a chord may lie below a loss curve, over the largest power.

    Returns
    -------
    (LossSegments, LossSegments)
        y is the loss [kW] at AC power x [kW] (both positive): charging p stores p - y(p), discharging p draws
        p + y(p). No-load loss and self-discharge are apart. The chords' largest error is c (w / 2)^2 / p_nom,
        with w the width of a chord.

    Raises
    ------
    ValueError
        `n` below 1.
    """
    if n < 1:
        raise ValueError(f"at least one segment, not {n}")
    ways = (
        (params.charge_curve, -1.0, params.p_charge_kw_max),
        (params.discharge_curve, 1.0, params.p_discharge_kw_max),
    )
    charge, discharge = (
        _chords(params, sign, top, n) if curve is None else _stretches(params, curve, sign, top, fit_ratio)
        for curve, sign, top in ways
    )
    return charge, discharge


def _stretches(
    params: BatteryParams, curve: LossCurve, sign: float, p_max_kw: float, fit_ratio: float
) -> LossSegments:
    """Stretches of a loss curve up to a power; those that a chord fits are pooled."""
    xs = [x for x in curve.p_kw if x < p_max_kw * (1.0 - STRAIGHT)] + [p_max_kw]
    ys = [battery.loss_kw(params, sign * x) for x in xs]
    widths, slopes, worst, k = list[float](), list[float](), 0.0, 0
    for width, slope in zip(*_pooled(xs, ys), strict=True):
        first = k
        while xs[k] < xs[first] + width * (1.0 - STRAIGHT):
            k += 1
        gap = max(ys[i] - ys[first] - slope * (xs[i] - xs[first]) for i in range(first, k + 1))
        if gap <= fit_ratio * p_max_kw:
            widths.append(width)
            slopes.append(slope)
            worst = max(worst, gap)
            continue
        for i in range(first, k):
            widths.append(xs[i + 1] - xs[i])
            slopes.append((ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]))
    return LossSegments(widths_kw=tuple(widths), loss_per_kw=tuple(slopes), fit_error_ratio=worst / p_max_kw)


def least_loss(
    params: BatteryParams, curve: LossCurve, sign: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Widths [kW] and slopes of the highest convex loss that is nowhere above a loss curve."""
    top = params.p_discharge_kw_max if sign > 0.0 else params.p_charge_kw_max
    hull = _stretches(params, curve, sign, top, 1.0)
    return hull.widths_kw, hull.loss_per_kw


def _chords(params: BatteryParams, sign: float, p_max_kw: float, n: int) -> LossSegments:
    width = p_max_kw / n
    at = [battery.loss_kw(params, sign * width * k) for k in range(n + 1)]
    middle = [battery.loss_kw(params, sign * width * (k + 0.5)) for k in range(n)]
    error = max(abs(0.5 * (at[k] + at[k + 1]) - middle[k]) for k in range(n))
    return LossSegments(
        widths_kw=(width,) * n,
        loss_per_kw=tuple((at[k + 1] - at[k]) / width for k in range(n)),
        fit_error_ratio=error / p_max_kw,
    )


def genset_fuel_segments(params: GensetParams) -> FuelSegments:
    """Fuel over power from p_min to rating: the curve's own segments, made convex where they are not.

    Parameters
    ----------
    params : GensetParams
        `fuel_kw`, `fuel_l_h`: the part-load points.

    Returns
    -------
    FuelSegments
        From p_min_kw [kW] and the fuel there [L/h]; slopes that never fall [L/kWh].

    Raises
    ------
    BadValue
        The points are further from convex than `FIT_RATIO_MAX` of full-load fuel, or fuel falls with load.

    Notes
    -----
    Where slopes fall (data sheets are rounded) the neighbouring segments are pooled, weighted by width, until
    none does (pool adjacent violators). A pooled chord lies below the points, so the whole is lifted by half
    the largest gap: the error is halved and lies on both sides.
    """
    curve = genset.fuel_points(params)
    low, high = params.p_min_kw, params.p_rated_kw
    if low > high:
        raise BadValue(f"{params.id}: p_min_kw {low} is above p_rated_kw {high}")
    if low == high:  # on or off
        idle = genset.fuel_l_h(curve, low)
        return FuelSegments(
            p_min_kw=low, fuel_min_l_h=idle, widths_kw=(0.0,), slopes_l_kwh=(0.0,), fit_error_ratio=0.0
        )
    xs = [low, *(x for x in curve[0] if low + 1e-9 < x < high - 1e-9), high]
    ys = [genset.fuel_l_h(curve, x) for x in xs]
    widths, slopes = _pooled(xs, ys)
    chords = FuelSegments(
        p_min_kw=low, fuel_min_l_h=ys[0], widths_kw=widths, slopes_l_kwh=slopes, fit_error_ratio=0.0
    )
    lift = 0.5 * max(y - chords.y(x) for x, y in zip(xs, ys, strict=True))
    error = lift / ys[-1]
    if error > FIT_RATIO_MAX or slopes[0] < 0.0:
        raise BadValue(
            f"{params.id}: fuel points are {error:.1%} from a rising convex curve; "
            f"{FIT_RATIO_MAX:.1%} is allowed"
        )
    return replace(chords, fuel_min_l_h=ys[0] + lift, fit_error_ratio=error)


def _pooled(xs: list[float], ys: list[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Widths and non-falling slopes of the pooled segments."""
    blocks: list[tuple[float, float]] = []  # width, rise
    for k in range(len(xs) - 1):
        width, rise = xs[k + 1] - xs[k], ys[k + 1] - ys[k]
        while blocks and blocks[-1][1] / blocks[-1][0] > rise / width - 1e-12:
            last = blocks.pop()
            width, rise = width + last[0], rise + last[1]
        blocks.append((width, rise))
    return tuple(w for w, _ in blocks), tuple(r / w for w, r in blocks)
