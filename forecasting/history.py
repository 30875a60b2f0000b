"""The forecaster that needs nothing but the site's own history."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import numpy as np

from ems.errors import DataError, InvariantBroken
from ems.forecast import Forecast
from ems.outage import OutageNotice, known_outages
from ems.series import UniformSeries
from ems.site import Site
from ems.timegrid import FloatArray, TimeGrid
from forecasting.bands import REACH, ErrorMemory, apply_band, assumed_band
from forecasting.load import LoadModel, LoadOptions
from forecasting.prediction import Prediction
from forecasting.price import TariffPrices
from forecasting.pv import PvModel, PvOptions
from forecasting.scenarios import (
    DAYS,
    DAYS_MIN,
    EXPECTED,
    PathMemory,
    Paths,
    chosen_scenarios,
    day_of,
    origins,
    scenarios_from_bands,
    shifted,
)
from forecasting.slots import LocalCalendar, SlotSeries, onto_grid, slot_of, slot_range, slot_start, to_slots
from forecasting.sun import Sun

SeriesSource = UniformSeries | Callable[[datetime], UniformSeries | None]
NoticeSource = Sequence[OutageNotice] | Callable[[datetime], Sequence[OutageNotice]]

_ASSUMED_LOAD_RATIO = 0.2  # of the mean, while no errors are known
_ASSUMED_PV_RATIO = 0.4  # of the envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastOptions:
    """Options of every part of the forecaster; `scenarios`: how many are made, the expected one included."""

    load: LoadOptions = field(default_factory=LoadOptions)
    pv: PvOptions = field(default_factory=PvOptions)
    bands: bool = True
    scenarios: int = 0


@dataclass(slots=True, kw_only=True)
class _Feed:
    """One series: where it comes from, its model, and the memory of its errors."""

    name: str
    model: LoadModel | PvModel
    fixed: SlotSeries | None
    provider: Callable[[datetime], UniformSeries | None] | None
    memory: ErrorMemory = field(default_factory=ErrorMemory)
    paths: PathMemory = field(default_factory=PathMemory)

    def series(self, issued_at: datetime) -> SlotSeries | None:
        if self.provider is None:
            return self.fixed
        got = self.provider(issued_at)
        return None if got is None or not len(got.values) else to_slots(self.name, got)


@dataclass(slots=True, kw_only=True)
class _Result:
    """What one forecast gathers, series by series."""

    mean: dict[str, FloatArray] = field(default_factory=dict)
    quantiles: dict[str, dict[str, FloatArray]] = field(default_factory=lambda: {"p10": {}, "p90": {}})
    known: dict[str, "_Known"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a forecast of one series rests on."""

    feed: _Feed
    series: SlotSeries | None
    cut: int
    prediction: Prediction

    def errors(self, origin: int) -> FloatArray | None:
        """Errors of a forecast issued at slot `origin`; none at all where nothing is measured."""
        if self.series is None:
            return None
        return self.feed.paths.path(self.series, origin, partial(self.feed.model.predict, self.series))


class HistoryForecaster:
    """Load by day type with a dying deviation, PV by blended smart persistence, prices from the tariff.

    Only intervals that had ended by `issued_at` are used, whatever the series hold; with fixed series
    the same call always gives the same bits.

    Parameters
    ----------
    site : the plant; feeders and PV plants without a series get their typical shape or nameplate.
    load : feeder id -> measured demand [kW], as one series that may reach past `issued_at` (simulation), or
        as a function that is asked at each forecast (live).
    pv : PV id -> measured *available* AC power [kW]; curtailed samples should be NaN.
    notices : outage announcements, or a function of the time of issue that gives them.
    options : see ForecastOptions.

    Raises
    ------
    DataError : a series of an unknown id, without a time zone, or with an unusable step.
    """

    def __init__(
        self,
        site: Site,
        load: Mapping[str, SeriesSource],
        pv: Mapping[str, SeriesSource],
        notices: NoticeSource = (),
        options: ForecastOptions | None = None,
    ) -> None:
        chosen = ForecastOptions() if options is None else options
        _require_known("load", load, [f.id for f in site.feeders])
        _require_known("pv", pv, [p.id for p in site.pv])
        calendar, sun = LocalCalendar(site.timezone), Sun(site.latitude_deg, site.longitude_deg)
        self._bands = chosen.bands
        self._scenarios = chosen.scenarios
        self._notices = notices
        self._prices = TariffPrices(site.tariff)
        self._load = {
            f.id: _feed(f.id, LoadModel(f.id, f.p_peak_kw, calendar, chosen.load), load.get(f.id))
            for f in site.feeders
        }
        self._pv = {p.id: _feed(p.id, PvModel(p.id, p, sun, chosen.pv), pv.get(p.id)) for p in site.pv}
        self._cap_kw = {p.id: p.p_ac_kw for p in site.pv}

    def forecast(self, grid: TimeGrid, issued_at: datetime) -> Forecast:
        """Forecast on `grid` from data before `issued_at` only; arrays are (T,) [kW], finite, not negative.

        Raises
        ------
        DataError : a provider gave a series without a time zone or with an unusable step.
        """
        repairs: list[str] = []
        cuts: list[int] = []
        load, pv = _Result(), _Result()
        for result, feeds in ((load, self._load), (pv, self._pv)):
            for asset_id, feed in feeds.items():
                self._one(feed, asset_id, (grid, issued_at), result, cuts, repairs)
        for values in pv.quantiles.values():
            for asset_id in values:
                values[asset_id] = np.minimum(values[asset_id], self._cap_kw[asset_id])
        notices = self._notices(issued_at) if callable(self._notices) else self._notices
        forecast = Forecast(
            grid=grid,
            issued_at=issued_at,
            data_cutoff=slot_start(max(cuts)) if cuts else issued_at,
            source="history",
            load_kw=load.mean,
            pv_kw=pv.mean,
            import_per_kwh=self._prices.import_per_kwh(grid),
            export_per_kwh=self._prices.export_per_kwh(grid),
            outages=tuple(n for n in known_outages(notices, issued_at) if n.end > grid.start),
            load_kw_quantiles=load.quantiles if self._bands else {},
            pv_kw_quantiles=pv.quantiles if self._bands else {},
            repairs=tuple(repairs),
        )
        return forecast if self._scenarios < 2 else self._with_scenarios(forecast, load, pv)

    def _with_scenarios(self, forecast: Forecast, load: _Result, pv: _Result) -> Forecast:
        """From the errors of past days that every measured series knows, else from the bands."""
        lo, hi = slot_range(forecast.grid)
        known = {**load.known, **pv.known}
        measured = {a: k for a, k in known.items() if k.series is not None and k.prediction.measured}
        samples: list[tuple[str, Paths, Paths]] = [(EXPECTED, forecast.load_kw, forecast.pv_kw)]
        newest = max((k.cut for k in measured.values()), default=0)
        for origin in origins(newest) if measured else []:
            errors = {a: k.errors(origin) for a, k in measured.items()}
            if any(e is None for e in errors.values()):
                continue
            rows = {}
            for asset, k in known.items():
                error = errors.get(asset)
                kw = k.prediction.mean_kw
                if error is not None:
                    lead = np.maximum(np.arange(lo, hi) - k.cut, 0)
                    kw = shifted(error, lead, kw, k.prediction.scale_kw)
                cap_kw = self._cap_kw.get(asset, np.inf)
                rows[asset] = _checked(asset, onto_grid(np.minimum(kw, cap_kw), lo, forecast.grid))
            samples.append((day_of(origin), {a: rows[a] for a in load.mean}, {a: rows[a] for a in pv.mean}))
        for k in measured.values():
            k.feed.paths.forget(min(origins(newest)) - REACH)
        if len(samples) - 1 < DAYS_MIN:
            return scenarios_from_bands(forecast, self._scenarios, self._cap_kw)
        source = f"errors of {len(samples) - 1} of the last {DAYS} days at this time of day"
        chosen = chosen_scenarios(forecast.grid, samples, self._scenarios)
        return replace(forecast, scenarios=chosen, scenario_source=source)

    def _one(
        self,
        feed: _Feed,
        asset_id: str,
        when: tuple[TimeGrid, datetime],
        result: _Result,
        cuts: list[int],
        repairs: list[str],
    ) -> None:
        grid, issued_at = when
        lo, hi = slot_range(grid)
        series = feed.series(issued_at)
        cut = slot_of(issued_at) if series is None else series.cut(issued_at)
        if series is not None and cut > series.first:
            cuts.append(cut)
        prediction = feed.model.predict(series, cut, lo, hi)
        repairs.extend(prediction.repairs)
        result.known[asset_id] = _Known(feed=feed, series=series, cut=cut, prediction=prediction)
        result.mean[asset_id] = _checked(asset_id, onto_grid(prediction.mean_kw, lo, grid))
        if not self._bands:
            return
        band = None if series is None else feed.memory.band(series, cut, partial(feed.model.predict, series))
        if band is None:
            repairs.append(f"{asset_id}: too few past errors; the p10 and p90 band is assumed")
            if isinstance(feed.model, LoadModel):
                width = _ASSUMED_LOAD_RATIO * float(prediction.mean_kw.mean())
            else:
                width = _ASSUMED_PV_RATIO
            band = assumed_band(-width, width)
        lead = np.maximum(np.arange(lo, hi) - cut, 0)
        for name, values in apply_band(band, prediction, lead).items():
            result.quantiles[name][asset_id] = _checked(asset_id, onto_grid(values, lo, grid))


def _require_known(kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    if strange := sorted(set(given) - set(known)):
        raise DataError(f"{kind} series for {', '.join(strange)}; the site has {', '.join(known)}")


def _feed(asset_id: str, model: LoadModel | PvModel, source: SeriesSource | None) -> _Feed:
    if isinstance(source, UniformSeries):
        fixed = to_slots(asset_id, source) if len(source.values) else None
        return _Feed(name=asset_id, model=model, fixed=fixed, provider=None)
    return _Feed(name=asset_id, model=model, fixed=None, provider=source)


def _checked(asset_id: str, values: FloatArray) -> FloatArray:
    if not np.isfinite(values).all() or values.min() < 0.0:
        raise InvariantBroken(f"the forecast of {asset_id} has a value that is negative or not finite")
    return values
