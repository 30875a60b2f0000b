"""Forecasts from a CSV or Parquet file of somebody else: `load.<feeder>`, `pv.<asset>`, `import_per_kwh`."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from ems.errors import DataError
from ems.forecast import Forecast
from ems.outage import OutageNotice, known_outages
from ems.series import UniformSeries
from ems.site import Site
from ems.timegrid import FloatArray, TimeGrid
from forecasting.csv_table import CsvRepairs, CsvTable, read_tables
from forecasting.parquet_table import is_parquet
from forecasting.price import TariffPrices

PRICE = "import_per_kwh"
_DAY_S = 86400.0
_OVER_RATING_RATIO = 1.2  # more than that is another unit, not a sunny day
_OVER_PEAK_RATIO = 2.0  # of a feeder's peak: more is another unit


class CsvForecaster:
    """Forecasts from a file, as they were known: with a column `issued_at`, the newest issue of the time.

    Parameters
    ----------
    site : every feeder and every PV plant must have its column.
    path : see forecasting.csv_table for the form.
    timezone : zone of times that carry none.
    repairs : what may be repaired; each repair made is named in `Forecast.repairs`.
    notices : outage announcements.

    Raises
    ------
    DataError : the file cannot be used; names file, line and column.
    """

    def __init__(
        self,
        site: Site,
        path: Path,
        *,
        timezone: str | None = None,
        repairs: CsvRepairs | None = None,
        notices: Sequence[OutageNotice] = (),
    ) -> None:
        self._site = site
        self._path = path
        self._repairs = CsvRepairs() if repairs is None else repairs
        self._notices = tuple(notices)
        self._prices = TariffPrices(site.tariff)
        self._issues = read_tables(path, timezone=timezone, repairs=self._repairs)
        for _, table in self._issues:
            self._check_columns(table)

    def forecast(self, grid: TimeGrid, issued_at: datetime) -> Forecast:
        """What the file says about `grid`, as far as it had been issued by `issued_at`.

        Raises
        ------
        DataError : nothing had been issued by then, or the file does not cover the grid.
        """
        known = [(i, t) for i, t in self._issues if i is None or i <= issued_at]
        if not known:
            raise DataError(f"{self._path}: nothing had been issued by {issued_at.isoformat()}")
        issue, table = known[-1]
        told = list(table.repairs)
        if issue is None:
            told.append(f"{self._path.name}: times of issue are unknown; taken as known at any time")
        series = {name: self._covering(name, s, grid, told) for name, s in table.series.items()}
        load = {f.id: series[f"load.{f.id}"].mean_on(grid) for f in self._site.feeders}
        pv = {
            p.id: self._capped(p.id, p.p_ac_kw, series[f"pv.{p.id}"].mean_on(grid), told)
            for p in self._site.pv
        }
        price = series[PRICE].mean_on(grid) if PRICE in series else self._prices.import_per_kwh(grid)
        return Forecast(
            grid=grid,
            issued_at=issued_at,
            data_cutoff=issued_at if issue is None else issue,
            source=f"{'parquet' if is_parquet(self._path) else 'csv'}:{self._path.name}",
            load_kw=load,
            pv_kw=pv,
            import_per_kwh=price,
            export_per_kwh=self._prices.export_per_kwh(grid),
            outages=tuple(n for n in known_outages(self._notices, issued_at) if n.end > grid.start),
            repairs=tuple(told),
        )

    def _check_columns(self, table: CsvTable) -> None:
        wanted = {f"load.{f.id}" for f in self._site.feeders} | {f"pv.{p.id}" for p in self._site.pv}
        have = set(table.series)
        if missing := sorted(wanted - have):
            raise DataError(f"{self._head()}: columns missing: {', '.join(missing)}")
        if strange := sorted(have - wanted - {PRICE}):
            raise DataError(
                f"{self._head()}: unknown columns: {', '.join(strange)}; "
                f"allowed: {', '.join([*sorted(wanted), PRICE])}"
            )
        for name in sorted(wanted):
            values = table.series[name].values
            if values.min() < 0.0:
                at = self._when(table.series[name], int(values.argmin()))
                raise DataError(f"{self._path}: {name}: {values.min():g} at {at}; allowed: 0 or more")
        for f in self._site.feeders:
            values = table.series[f"load.{f.id}"].values
            if values.max() > _OVER_PEAK_RATIO * f.p_peak_kw:
                at = self._when(table.series[f"load.{f.id}"], int(values.argmax()))
                raise DataError(
                    f"{self._path}: load.{f.id}: {values.max():g} at {at}; allowed: up to "
                    f"{_OVER_PEAK_RATIO:g} times its peak of {f.p_peak_kw:g} kW (another unit?)"
                )
        top = max((f.voll_per_kwh for f in self._site.feeders), default=math.inf)
        if PRICE in table.series and (highest := float(table.series[PRICE].values.max())) > top:
            raise DataError(
                f"{self._path}: {PRICE}: {highest:g}; allowed: up to the highest value of lost load, {top:g} "
                "(per MWh?)"
            )
        for p in self._site.pv:
            values = table.series[f"pv.{p.id}"].values
            if values.max() > _OVER_RATING_RATIO * p.p_ac_kw:
                at = self._when(table.series[f"pv.{p.id}"], int(values.argmax()))
                raise DataError(
                    f"{self._path}: pv.{p.id}: {values.max():g} at {at}; allowed: up to the rating of "
                    f"{p.p_ac_kw:g} kW (another unit?)"
                )

    def _head(self) -> str:
        return str(self._path) if is_parquet(self._path) else f"{self._path}:1"

    @staticmethod
    def _when(series: UniformSeries, index: int) -> str:
        return (series.start + timedelta(seconds=series.step_s * index)).isoformat()

    def _covering(self, name: str, series: UniformSeries, grid: TimeGrid, told: list[str]) -> UniformSeries:
        """The series, continued by its last day where that is allowed and needed."""
        if series.start <= grid.start and grid.end <= series.end:
            return series
        per_day = round(_DAY_S / series.step_s)
        fits = series.start <= grid.start < series.end and len(series.values) >= per_day
        if not (self._repairs.extend_last_day and fits):
            raise DataError(
                f"{self._path}: {name}: covers {series.start.isoformat()} to {series.end.isoformat()}, "
                f"the plan needs {grid.start.isoformat()} to {grid.end.isoformat()}"
            )
        missing = int(np.ceil((grid.end - series.end).total_seconds() / series.step_s))
        more = np.resize(series.values[-per_day:], missing)
        told.append(f"{self._path.name}: {name}: ends {missing} steps early; continued by its last 24 h")
        return replace(series, values=np.concatenate([series.values, more]))

    def _capped(self, asset: str, rating_kw: float, values: FloatArray, told: list[str]) -> FloatArray:
        if values.max() > rating_kw:
            told.append(f"{self._path.name}: pv.{asset}: capped at the rating of {rating_kw:g} kW")
        out: FloatArray = np.minimum(values, rating_kw)
        return out
