"""Measurement noise that depends on seed and time alone: whoever reads, and how often, changes nothing."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from ems.site import Site

ROWS = 4099  # a prime, so that no control period falls in step with the table
V_NOISE_PU = 0.0015
SOC_NOISE = 0.0005


class NoiseTable:
    """Adds seeded noise to the points that are measured.

    Parameters
    ----------
    site : ratings of the assets give the size of the noise.
    seed : the run's seed.
    ratio : standard deviation of a power, of the asset's rating.
    """

    def __init__(self, site: Site, seed: int, ratio: float) -> None:
        rating = {b.id: b.battery.p_nominal_kw for b in site.bess}
        rating |= {g.id: g.p_rated_kw for g in site.gensets}
        rating |= {p.id: p.p_ac_kw for p in site.pv}
        rating |= {f.id: f.p_peak_kw for f in site.feeders}
        rating[site.grid.id] = max(site.grid.p_import_kw_max, 1.0)
        self._sigma: dict[str, float] = {}
        for asset, kw in rating.items():
            self._sigma |= {f"{asset}.p_kw": ratio * kw, f"{asset}.q_kvar": ratio * kw}
        self._sigma |= {f"{p.id}.p_available_kw": ratio * p.p_ac_kw for p in site.pv}
        self._sigma |= {f"{b.id}.soc": SOC_NOISE for b in site.bess}
        self._sigma |= {f"{site.grid.id}.v_pu": V_NOISE_PU, "bus.v_pu": V_NOISE_PU}
        self._table = _table(seed, len(self._sigma))

    def measured(self, truth: Mapping[str, float], t_s: float) -> dict[str, float]:
        """Readings at `t_s`. What is exactly zero (an open breaker, a set at rest) reads zero."""
        row = self._table[round(t_s * 10.0) % ROWS]
        out = dict(truth)
        for (point, sigma), noise in zip(self._sigma.items(), row, strict=True):
            value = out.get(point)
            if value is not None and value != 0.0:
                out[point] = self._bounded(point, value, value + sigma * noise)
        return out

    @staticmethod
    def _bounded(point: str, truth: float, value: float) -> float:
        if point.endswith(".soc"):
            return min(1.0, max(0.0, value))
        if point.endswith("_kw") and truth > 0.0:
            return max(0.0, value)
        return value


@lru_cache(maxsize=2)
def _table(seed: int, columns: int) -> list[list[float]]:
    """Of a run and all its twins."""
    rows: list[list[float]] = np.random.default_rng([seed, 7]).standard_normal((ROWS, columns)).tolist()
    return rows


def chance(seed: int, *which: int) -> float:
    """A number in [0, 1) that depends on the seed and on what it is for, and on nothing else."""
    return float(np.random.default_rng([seed, 8, *which]).random())
