"""A forecaster that has seen the future: the truth of the scenario. The upper mark of a study, never live."""

from datetime import datetime, timedelta

import numpy as np

from ems.forecast import Forecast
from ems.outage import OutageNotice
from ems.series import UniformSeries
from ems.timegrid import FloatArray, TimeGrid
from sim.scenario import Scenario

DAY_S = 86400.0


class PerfectForecaster:
    """`ems.ports.Forecaster` on the truth. Beyond its end the last day is repeated, and `repairs` says so."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._outages = tuple(
            OutageNotice(id=e.id, issued_at=scenario.start, start=e.start, end=e.end, source="truth")
            for e in scenario.mains
        )

    def forecast(self, grid: TimeGrid, issued_at: datetime) -> Forecast:
        """What will be, on `grid`."""
        s, repairs, end = self._scenario, [], grid.end
        ends = [x.end for x in (*s.load_kw.values(), *s.pv_kw.values())]
        if min(ends) < end:
            repairs.append(f"the truth ends at {min(ends)}; its last day is repeated")
        tariff, sell = s.site.tariff, s.export_per_kwh
        prices = tariff.import_prices(grid)
        if s.import_per_kwh is not None:
            prices = _mean(s.import_per_kwh, grid)
        return Forecast(
            grid=grid,
            issued_at=issued_at,
            data_cutoff=issued_at,
            source="truth",
            load_kw={f: _mean(x, grid) for f, x in s.load_kw.items()},
            pv_kw={p: _mean(x, grid) for p, x in s.pv_kw.items()},
            import_per_kwh=prices,
            export_per_kwh=tariff.export_prices(grid) if sell is None else _mean(sell, grid),
            outages=tuple(n for n in self._outages if n.end > grid.start and n.start < end),
            repairs=tuple(repairs),
        )


def _mean(series: UniformSeries, grid: TimeGrid) -> FloatArray:
    """Mean over each step, from a copy of the series that reaches far enough and starts near the grid."""
    first = max(0, int((grid.start - series.start).total_seconds() // series.step_s))
    count = int((grid.end - series.start).total_seconds() // series.step_s) + 2
    values = series.values[first : min(count, len(series.values))]
    missing = count - max(first, len(series.values))
    if missing > 0:
        day = series.values[-max(1, round(DAY_S / series.step_s)) :]
        phase = max(first - len(series.values), 0)
        tail = day[(phase + np.arange(missing)) % len(day)]
        values = np.concatenate([values, tail])
    start = series.start + timedelta(seconds=first * series.step_s)
    return UniformSeries(start=start, step_s=series.step_s, values=values).mean_on(grid)
