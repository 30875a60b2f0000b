"""What a genset gives at its place: rating less what height and heat take away, as its maker states it.

Source: ISO 3046-1 and ISO 8528-1 leave the figures to the maker where an engine is turbocharged; data sheets
give them as per cent for each 1000 m above one height and each 10 K above one temperature.
"""

from dataclasses import dataclass


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
