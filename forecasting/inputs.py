"""Our own forecast with what others know laid over it, step by step and only as far as it reaches.

Of each series the newest issue that was known counts; where that tells nothing the issue before, then the
next input of the site file, then our own forecast or the tariff. The forecast names the versions that count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from ems.announced import announced, counting
from ems.contracts import CreditBasis
from ems.forecast import Forecast, ForecastScenario
from ems.inputs import (
    AIR,
    EXPORT,
    GHI,
    IMPORT,
    SPOT,
    InputKind,
    InputParams,
    InputVersion,
    PriceTerms,
    version_age_s,
)
from ems.outage import OutageNotice
from ems.ports import Forecaster, InputKnowledge
from ems.prices import use_of
from ems.series import UniformSeries
from ems.site import Site
from ems.timegrid import FloatArray, TimeGrid
from forecasting.from_weather import Place, clearness, pv_kw
from forecasting.slots import SLOT_S, onto_grid, slot_range, to_slots

VERSIONS_MAX = 100  # of a series, newest first: what is older fills hardly anything
_TINY = 1e-9
DAY_SLOTS = 96  # of nothing but 0 make a series that tells nothing
SOME_RATIO = 0.05  # of a peak or rating that we expect ourselves from what was measured
OWN_H = 6.0  # so far ahead what is measured of the sky now has a say (benchmarks/weather_blend.py)

Paths = Mapping[str, FloatArray]


@dataclass(slots=True, kw_only=True)
class _Told:
    """What was told for one grid, slot by slot, and by which versions."""

    lo: int
    hi: int
    grid: TimeGrid
    guessed: frozenset[str] = frozenset()  # assets of whose past nothing is known
    uses: dict[int, tuple[InputVersion, set[str]]] = field(default_factory=dict)
    versions: dict[str, list[InputVersion]] = field(default_factory=dict)  # by input, asked for once
    notes: list[str] = field(default_factory=list)

    def nothing(self) -> FloatArray:
        return np.full(self.hi - self.lo, np.nan)

    def lay(self, under: FloatArray, values: FloatArray, version: InputVersion, series: str) -> None:
        """Fill what is still missing."""
        new = ~np.isfinite(under) & np.isfinite(values)
        if new.any():
            under[new] = values[new]
            self.uses.setdefault(version.id, (version, set()))[1].add(series)

    def on_grid(self, values: FloatArray, instead: FloatArray) -> tuple[FloatArray, int]:
        """(T,) means where all of a step is told, else `instead`; and how many steps are told."""
        good = np.isfinite(values)
        share = onto_grid(good.astype(float), self.lo, self.grid)
        mean = onto_grid(np.where(good, values, 0.0), self.lo, self.grid)
        told = share > 1.0 - _TINY
        # Means by differences of sums are off by 1e-13: enough to tip a solver between equal prices.
        out: FloatArray = np.where(told, np.round(mean, 9), instead)
        return out, int(told.sum())


class InputForecaster:
    """A forecaster over another one and the inputs of a site.

    Parameters
    ----------
    base : what is expected where nobody tells anything.
    knowledge : what was known of the inputs at a time.
    """

    def __init__(self, site: Site, base: Forecaster, knowledge: InputKnowledge) -> None:
        self._site, self._base, self._knowledge = site, base, knowledge
        self._place = Place(latitude_deg=site.latitude_deg, longitude_deg=site.longitude_deg)

    def forecast(self, grid: TimeGrid, issued_at: datetime) -> Forecast:
        """As `base`, with what had arrived and been issued by `issued_at` laid over it."""
        base = self._base.forecast(grid, issued_at)
        lo, hi = slot_range(grid)
        guessed = frozenset(r.partition(":")[0] for r in base.repairs if _is_guess(r))
        told = _Told(lo=lo, hi=hi, grid=grid, guessed=guessed)
        prices = self._prices(told, base, issued_at)
        air = self._air(told, base, issued_at)
        load = self._loads(told, base.load_kw, issued_at)
        pv = self._suns(told, base.pv_kw, issued_at)
        notices = [*base.outages, *self._outages(told, issued_at)]
        moved = replace(
            base,
            import_per_kwh=prices[IMPORT],
            export_per_kwh=prices[EXPORT],
            load_kw=load,
            pv_kw=pv,
            temp_degc=air,
            outages=tuple(sorted((n for n in notices if n.end > grid.start), key=lambda n: n.start)),
        )
        moved = self._with_bands(told, moved, base, issued_at)
        uses = tuple(use_of(v, names) for v, names in told.uses.values())
        return replace(moved, inputs=uses, repairs=(*base.repairs, *told.notes))

    def notices(self, at: datetime) -> list[OutageNotice]:
        """Announced outages that count, as known at `at`, those of the last day included."""
        return announced(self._site.inputs, self._knowledge, at)

    def outages_changed(self, since: datetime, now: datetime) -> bool:
        """Whether an outage that is not over was announced, revised or cancelled between two times."""
        ahead = [{(n.id, n.start, n.end) for n in self.notices(at) if n.end > now} for at in (since, now)]
        return ahead[0] != ahead[1]

    def _of(self, kind: InputKind) -> Iterator[InputParams]:
        return (p for p in self._site.inputs if p.kind is kind)

    def _versions(self, params: InputParams, told: _Told, at: datetime) -> list[InputVersion]:
        """Those that may count, newest issue first."""
        if params.id not in told.versions:
            start = told.grid.start - timedelta(hours=1)
            end = told.grid.end + timedelta(hours=1)
            found = list(self._knowledge.known(params.id, at, start, end, VERSIONS_MAX))
            if not found:
                told.notes.append(f"input {params.id}: tells nothing of this time; our own instead")
            told.versions[params.id] = self._fresh(params, found, told, at)
        return told.versions[params.id]

    def _fresh(
        self, params: InputParams, found: list[InputVersion], told: _Told, at: datetime
    ) -> list[InputVersion]:
        limit_s = params.age_s_max
        if not params.aged_out or limit_s is None or not found:
            return found
        seen = self._knowledge.seen_at(params.id, at)
        ages_s = [version_age_s(v, seen if n == 0 else None, at) for n, v in enumerate(found)]
        if min(ages_s) > limit_s:
            issued = f"{found[0].issued_at:%m-%d %H:%M} UTC"
            told.notes.append(f"input {params.id}: too old, issued {issued}: not used")
        return [v for v, age_s in zip(found, ages_s, strict=True) if age_s <= limit_s]

    def _prices(self, told: _Told, base: Forecast, at: datetime) -> dict[str, FloatArray]:
        own = {IMPORT: base.import_per_kwh, EXPORT: base.export_per_kwh}
        values = {name: told.nothing() for name in own}
        for params in self._of(InputKind.PRICE):
            for version in self._versions(params, told, at):
                for name, terms in ((IMPORT, params.import_terms), (EXPORT, params.export_terms)):
                    for series, slots in _priced(version, name, terms, told):
                        told.lay(values[name], slots, version, series)
        credit = self._site.tariff.export_credit
        if credit is not None and credit.basis is CreditBasis.IMPORT_PRICE:
            values[EXPORT] = np.where(np.isfinite(values[EXPORT]), values[EXPORT], values[IMPORT])
        return {name: self._over(told, name, v, own[name]) for name, v in values.items()}

    def _over(self, told: _Told, name: str, values: FloatArray, own: FloatArray) -> FloatArray:
        """On the grid; says how far it reaches, where it ends before."""
        out, count = told.on_grid(values, own)
        if 0 < count < len(told.grid):
            told.notes.append(
                f"inputs tell {name} in {count} of {len(told.grid)} steps; our own in the others"
            )
        return out

    def _air(self, told: _Told, base: Forecast, at: datetime) -> FloatArray | None:
        values = told.nothing()
        for params in self._of(InputKind.WEATHER):
            for version in self._versions(params, told, at):
                if (series := version.series.get(AIR)) is not None:
                    told.lay(values, _slots(AIR, series, told), version, AIR)
        good = np.isfinite(values)
        if not good.any():
            return base.temp_degc
        at_slots = np.arange(len(values), dtype=float)
        if base.temp_degc is None:  # beyond what is told: as at its end
            return onto_grid(np.interp(at_slots, at_slots[good], values[good]), told.lo, told.grid)
        return told.on_grid(values, base.temp_degc)[0]

    def _loads(self, told: _Told, own: Paths, at: datetime) -> dict[str, FloatArray]:
        out = {}
        for feeder, kw in own.items():
            values = self._asset(told, f"load.{feeder}", at, self._expected(told, feeder, kw))
            out[feeder] = self._over(told, f"load.{feeder}", values, kw)
        return out

    def _suns(self, told: _Told, own: Paths, at: datetime) -> dict[str, FloatArray]:
        """PV as told; else by the weather that is told, which our own view of the present sky fades into."""
        own_share = np.clip(
            1.0 - (told.grid.offset_s[:-1] + told.grid.offset_s[1:]) / 7200.0 / OWN_H, 0.0, 1.0
        )
        out = {}
        for plant, kw in own.items():
            values = self._asset(told, f"pv.{plant}", at, self._expected(told, plant, kw))
            weather = self._by_weather(told, plant, at)
            sunny = told.on_grid(weather, np.full(len(kw), np.nan))[0]
            blend = own_share * kw + (1.0 - own_share) * sunny
            by_weather = np.where(np.isfinite(sunny), blend, kw)
            told_kw = told.on_grid(values, by_weather)[0]
            either = np.where(np.isfinite(values), values, weather)
            self._over(told, f"pv.{plant}", either, kw)
            out[plant] = np.minimum(told_kw, self._rating_kw(plant))
        return out

    def _asset(self, told: _Told, name: str, at: datetime, expected_kw: float = 0.0) -> FloatArray:
        """What is told of one series; `expected_kw`: the most that we expect from what was measured."""
        values = told.nothing()
        for params in self._of(InputKind.FORECAST):
            for version in self._versions(params, told, at):
                if (series := version.series.get(name)) is None:
                    continue
                slots = _slots(name, series, told)
                good = np.isfinite(slots)
                if expected_kw and good.sum() >= DAY_SLOTS and not slots[good].any():
                    hours = int(good.sum()) * SLOT_S // 3600
                    told.notes.append(
                        f"input {params.id}: {name} is nothing but 0 in {hours} h, where up to "
                        f"{expected_kw:.0f} kW are expected from what was measured: not used"
                    )
                    continue
                told.lay(values, slots, version, name)
        return values

    def _expected(self, told: _Told, asset: str, own_kw: FloatArray) -> float:
        """The most of our own forecast [kW]; 0 where nothing was measured or it is next to nothing."""
        sizes_kw = {f.id: f.p_peak_kw for f in self._site.feeders} | {p.id: p.p_ac_kw for p in self._site.pv}
        most_kw = float(own_kw.max())
        return most_kw if asset not in told.guessed and most_kw > SOME_RATIO * sizes_kw[asset] else 0.0

    def _by_weather(self, told: _Told, asset: str, at: datetime) -> FloatArray:
        values = told.nothing()
        plant = next(p for p in self._site.pv if p.id == asset)
        for params in self._of(InputKind.WEATHER):
            for version in self._versions(params, told, at):
                if (ghi := version.series.get(GHI)) is None:
                    continue
                air = version.series.get(AIR)
                air_degc = told.nothing() if air is None else _slots(AIR, air, told)
                clear = _slots(GHI, clearness(ghi, self._place), told)
                told.lay(values, pv_kw(plant, self._place, told.lo, clear, air_degc), version, GHI)
        return values

    def _rating_kw(self, asset: str) -> float:
        return next((p.p_ac_kw for p in self._site.pv if p.id == asset), np.inf)

    def _with_bands(self, told: _Told, moved: Forecast, base: Forecast, at: datetime) -> Forecast:
        """Quantiles that are told; else ours, and scenarios, as far from the new mean as from the old one."""
        shift_kw = {f"load.{a}": kw - base.load_kw[a] for a, kw in moved.load_kw.items()}
        shift_kw |= {f"pv.{a}": kw - base.pv_kw[a] for a, kw in moved.pv_kw.items()}

        def bands(group: str, of: Mapping[str, Paths]) -> dict[str, dict[str, FloatArray]]:
            return {
                q: {
                    a: self._band(told, f"{group}.{a}", q, kw, shift_kw[f"{group}.{a}"], at)
                    for a, kw in x.items()
                }
                for q, x in of.items()
            }

        load, pv = bands("load", base.load_kw_quantiles), bands("pv", base.pv_kw_quantiles)
        return replace(
            moved,
            load_kw_quantiles={q: _beside(q, of, moved.load_kw) for q, of in load.items()},
            pv_kw_quantiles={q: _beside(q, of, moved.pv_kw) for q, of in pv.items()},
            scenarios=tuple(self._shifted(n, s, moved, base) for n, s in enumerate(base.scenarios)),
        )

    def _band(
        self, told: _Told, name: str, q: str, kw: FloatArray, shift_kw: FloatArray, at: datetime
    ) -> FloatArray:
        given = self._asset(told, f"{name}.{q}", at)
        out = told.on_grid(given, np.maximum(kw + shift_kw, 0.0))[0]
        cap_kw = self._rating_kw(name.removeprefix("pv.")) if name.startswith("pv.") else np.inf
        return np.minimum(out, cap_kw)

    def _shifted(self, n: int, s: ForecastScenario, moved: Forecast, base: Forecast) -> ForecastScenario:
        if n == 0:
            return replace(s, load_kw=moved.load_kw, pv_kw=moved.pv_kw)
        pv = {a: _moved(kw, moved.pv_kw[a], base.pv_kw[a], self._rating_kw(a)) for a, kw in s.pv_kw.items()}
        load = {a: _moved(kw, moved.load_kw[a], base.load_kw[a], np.inf) for a, kw in s.load_kw.items()}
        return replace(s, load_kw=load, pv_kw=pv)

    def _outages(self, told: _Told, at: datetime) -> list[OutageNotice]:
        out = []
        for params in self._of(InputKind.OUTAGES):
            for notice, version in counting(params, self._knowledge, at):
                if notice.end > told.grid.start:
                    told.uses.setdefault(version.id, (version, set()))[1].add(notice.id)
                    out.append(notice)
        return out


def _is_guess(repair: str) -> bool:
    """Whether a forecast says that it rests on nothing measured."""
    return ": no history;" in repair or "nameplate and sun height used" in repair


def _priced(
    version: InputVersion, name: str, terms: PriceTerms | None, told: _Told
) -> Iterator[tuple[str, FloatArray]]:
    """The contract's price, as told; else by its terms from the market's."""
    if (series := version.series.get(name)) is not None:
        yield name, _slots(name, series, told)
    if terms is not None and (spot := version.series.get(SPOT)) is not None:
        yield SPOT, _slots(SPOT, spot, told) * terms.factor_ratio + terms.add_per_kwh


def _slots(name: str, series: UniformSeries, told: _Told) -> FloatArray:
    return to_slots(name, series).window(told.lo, told.hi)


def _moved(kw: FloatArray, new_kw: FloatArray, old_kw: FloatArray, cap_kw: float) -> FloatArray:
    """As far from the new mean as it was from the old one; nothing by night."""
    out: FloatArray = np.where(new_kw > 0.0, np.clip(kw + new_kw - old_kw, 0.0, cap_kw), 0.0)
    return out


def _beside(q: str, of: Paths, mean_kw: Paths) -> dict[str, FloatArray]:
    """A low quantile is no higher than the mean, a high one no lower."""
    side = np.minimum if q == "p10" else np.maximum
    return {a: side(kw, mean_kw[a]) for a, kw in of.items()}
