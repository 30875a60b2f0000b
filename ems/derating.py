"""What a genset gives at its place: rating less what height and heat take away, as its maker states it.

And what it gives now, where its controller tells a limit (`p_kw_max`) below that.

Source: ISO 3046-1 and ISO 8528-1 leave the figures to the maker where an engine is turbocharged; data sheets
give them as per cent for each 1000 m above one height and each 10 K above one temperature.
"""

import math
from dataclasses import dataclass, replace

from ems.assets import GensetParams

CLOSE_KW = 1e-6
LEAST_RATIO = 0.01  # of the rating: a set that may give less is reckoned with as if it gave this


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDerating:
    """Figures of the data sheet, and the temperature the site is planned for."""

    above_m: float
    per_1000m_ratio: float
    above_degc: float
    per_10k_ratio: float
    ambient_degc: float  # highest at which the rating is to be had


def derated_ratio(d: EngineDerating, altitude_m: float) -> float:
    """Share of the rating that is left at an altitude [m above sea level]; 0 where nothing is."""
    height = max(0.0, altitude_m - d.above_m) / 1000.0 * d.per_1000m_ratio
    heat = max(0.0, d.ambient_degc - d.above_degc) / 10.0 * d.per_10k_ratio
    return max(0.0, 1.0 - height - heat)


def cut_curve(
    kw: tuple[float, ...], y: tuple[float, ...], top_kw: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A curve of straight pieces up to `top_kw`, which lies on it [kW]."""
    kept = [(a, b) for a, b in zip(kw, y, strict=True) if a < top_kw - 1e-9]
    if len(kept) == len(kw):
        return kw, y
    (x0, y0), x1, y1 = kept[-1], kw[len(kept)], y[len(kept)]
    end = y0 + (y1 - y0) / (x1 - x0) * (top_kw - x0)
    return (*[a for a, _ in kept], top_kw), (*[b for _, b in kept], end)


def limited_set(params: GensetParams, most_kw: float) -> GensetParams:
    """The set as one of the rating that its controller allows now [kW], its data as it is where that is more.

    Its least load falls with it, where even that is not allowed.
    """
    rated_kw = max(most_kw, LEAST_RATIO * params.p_rated_kw)
    if not (math.isfinite(most_kw) and rated_kw < params.p_rated_kw):
        return params
    fuel_kw, fuel_l_h = _fuel_up_to(params, rated_kw)
    less = rated_kw / params.p_rated_kw  # what its maker states of the rating stays what it is in kW
    rating, low = params.rating, params.low_load
    if rating is not None and rating.mean_ratio_max is not None:
        rating = replace(rating, mean_ratio_max=rating.mean_ratio_max / less)
    if low is not None:
        low = replace(low, below_ratio=min(1.0, low.below_ratio / less))
    up_kw, down_kw = params.start_up_kw, params.shut_down_kw
    return replace(
        params,
        p_rated_kw=rated_kw,
        p_min_kw=min(params.p_min_kw, rated_kw),
        step_load_kw_max=min(params.step_load_kw_max, rated_kw),
        start_up_kw=None if up_kw is None else min(up_kw, rated_kw),
        shut_down_kw=None if down_kw is None else min(down_kw, rated_kw),
        fuel_kw=fuel_kw,
        fuel_l_h=fuel_l_h,
        rating=rating,
        low_load=low,
    )


def _fuel_up_to(params: GensetParams, top_kw: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Its fuel curve up to an output [kW]; below the first point the first stretch goes on, never below 0."""
    kw, l_h = params.fuel_kw, params.fuel_l_h
    if kw[0] < top_kw - CLOSE_KW:
        return cut_curve(kw, l_h, top_kw)
    slope = (l_h[1] - l_h[0]) / (kw[1] - kw[0])
    points = (0.5 * top_kw, top_kw)
    return points, tuple(max(0.0, l_h[0] - slope * (kw[0] - x)) for x in points)
