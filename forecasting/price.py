"""Prices of a tariff on a time grid, remembered step by step so that re-planning costs nothing."""

import numpy as np

from ems.tariff import Tariff
from ems.timegrid import FloatArray, TimeGrid
from forecasting.slots import epoch_s

_REMEMBER = 100_000


class TariffPrices:
    """The same numbers as `Tariff.import_prices`, with a memory."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._known: dict[tuple[float, float], float] = {}

    def import_per_kwh(self, grid: TimeGrid) -> FloatArray:
        """(T,) mean import price of each step [money per kWh]."""
        start_s = epoch_s(grid.start)
        offsets = grid.offset_s.tolist()
        steps = [(start_s + offset_s, step_s) for offset_s, step_s in zip(offsets, grid.step_s, strict=False)]
        if any(step not in self._known for step in steps):
            if len(self._known) > _REMEMBER:
                self._known.clear()
            self._known.update(zip(steps, self._tariff.import_prices(grid).tolist(), strict=True))
        return np.array([self._known[step] for step in steps])

    def export_per_kwh(self, grid: TimeGrid) -> FloatArray:
        """(T,) export price of each step [money per kWh]."""
        return self._tariff.export_prices(grid)
