"""Prices told from elsewhere, quarter of an hour by quarter: which version counts, and what a day costs.

One rule for whoever reckons in money: of each quarter the newest issue that was known tells the price, where
that tells nothing the issue before, then the next input of the site file, then the tariff of the site file.
The bill asks as of the time it is made, so that it rests on what was settled last; whoever decides asks as of
now. Without anything from after that time either is the same for ever.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.contracts import CreditBasis
from ems.inputs import EXPORT, IMPORT, SPOT, InputKind, InputParams, InputUse, InputVersion, PriceTerms
from ems.ports import InputKnowledge
from ems.series import lattice_means
from ems.tariff import Tariff
from ems.timegrid import FloatArray, IntArray

QUARTER_S = 900
SIDES = (IMPORT, EXPORT)
_QUARTERS_A_DAY = 96
_LIMITS = (50, 5000)  # versions that are asked for: mostly the first few tell all of a day
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldPrices:
    """Prices of the quarters from `start` on, as known at `at`.

    Parameters
    ----------
    per_kwh : by side (import_per_kwh, export_per_kwh): (N,) prices, NaN where nobody tells [money per kWh].
    by : by side: (N,) index in `versions` of the one that tells it; -1: nobody.
    expected : sides that an input of the site file is to tell: what it does not is priced by the tariff.
    """

    start: datetime
    at: datetime
    per_kwh: Mapping[str, FloatArray]
    by: Mapping[str, IntArray]
    versions: tuple[InputUse, ...]
    expected: frozenset[str]

    def find(self, side: str, when: datetime) -> tuple[float, int]:
        """Price of the quarter that holds an aware time and index of its version; NaN and -1: nobody."""
        i = int((when - self.start).total_seconds() // QUARTER_S)
        if not 0 <= i < len(self.by[side]):
            return float("nan"), -1
        return float(self.per_kwh[side][i]), int(self.by[side][i])

    def or_tariff(self, side: str, tariff: Tariff) -> FloatArray:
        """(N,) prices of one side, those of the tariff where nobody tells [money per kWh]."""
        price = tariff.import_per_kwh if side == IMPORT else tariff.export_price
        out = self.per_kwh[side].copy()
        for i in np.flatnonzero(~np.isfinite(out)).tolist():
            out[i] = price(self.start + timedelta(seconds=i * QUARTER_S))
        return out


def told_prices(
    inputs: Sequence[InputParams],
    tariff: Tariff,
    knowledge: InputKnowledge,
    at: datetime,
    start: datetime,
    end: datetime,
) -> ToldPrices:
    """What was told by `at` of the quarters that [start, end) touches.

    Notes
    -----
    A quarter has a price where at least half of it is told, that of the mean. Where exported energy is
    credited at the price of import, a told price of import is that of export too, unless that is told itself.
    """
    lo, hi = _quarter(start), max(_quarter(start) + 1, -int(-(end - _EPOCH).total_seconds() // QUARTER_S))
    told = _Told(lo=lo, per_kwh={s: np.full(hi - lo, np.nan) for s in SIDES},
                 by={s: np.full(hi - lo, -1) for s in SIDES}, uses=[])  # fmt: skip
    of = [p for p in inputs if p.kind is InputKind.PRICE]
    for first in range(lo, hi, _QUARTERS_A_DAY):
        last = min(hi, first + _QUARTERS_A_DAY)
        for params in of:
            for version in _versions(params, told, knowledge, at, first, last):
                told.lay(params, version, first, last)
    expected = {s for p in of for s in SIDES if _may_tell(p, s)}
    if tariff.export_credit is not None and tariff.export_credit.basis is CreditBasis.IMPORT_PRICE:
        missing = told.by[EXPORT] < 0
        told.per_kwh[EXPORT][missing] = told.per_kwh[IMPORT][missing]
        told.by[EXPORT][missing] = told.by[IMPORT][missing]
        if IMPORT in expected:
            expected.add(EXPORT)
    expected |= {s for s in SIDES if (told.by[s] >= 0).any()}
    return ToldPrices(
        start=_start(lo), at=at, per_kwh=told.per_kwh, by=told.by, versions=tuple(told.uses),
        expected=frozenset(expected),
    )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _Told:
    """What is told so far."""

    lo: int
    per_kwh: dict[str, FloatArray]
    by: dict[str, IntArray]
    uses: list[InputUse]

    def missing(self, params: InputParams, first: int, last: int) -> bool:
        sides = [s for s in SIDES if _may_tell(params, s)] or list(SIDES)
        return any((self.by[s][first - self.lo : last - self.lo] < 0).any() for s in sides)

    def lay(self, params: InputParams, version: InputVersion, first: int, last: int) -> None:
        """Fill what is still missing of the quarters [first, last)."""
        for side, terms in ((IMPORT, params.import_terms), (EXPORT, params.export_terms)):
            for name, values in _priced(version, side, terms, first, last):
                here = slice(first - self.lo, last - self.lo)
                new = (self.by[side][here] < 0) & np.isfinite(values)
                if new.any():
                    self.by[side][here][new] = self._number(version, name)
                    self.per_kwh[side][here][new] = values[new]

    def _number(self, version: InputVersion, name: str) -> int:
        for n, use in enumerate(self.uses):
            if (use.input, use.version) == (version.input, version.id):
                self.uses[n] = replace(use, series=tuple(sorted({*use.series, name})))
                return n
        self.uses.append(use_of(version, [name]))
        return len(self.uses) - 1


def use_of(version: InputVersion, names: Iterable[str]) -> InputUse:
    """A version as plans and bills name it, with the series that count."""
    return InputUse(
        input=version.input,
        version=version.id,
        issued_at=version.issued_at,
        arrived_at=version.arrived_at,
        sha256=version.sha256,
        series=tuple(sorted(names)),
    )


def _versions(
    params: InputParams, told: _Told, knowledge: InputKnowledge, at: datetime, first: int, last: int
) -> Iterator[InputVersion]:
    """Those that may count, newest issue first; the further ones only where something is still missing."""
    done = 0
    for limit in _LIMITS:
        found = knowledge.known(params.id, at, _start(first), _start(last), limit)
        yield from found[done:]
        if len(found) < limit or not told.missing(params, first, last):
            return
        done = len(found)


def _priced(
    version: InputVersion, side: str, terms: PriceTerms | None, first: int, last: int
) -> Iterator[tuple[str, FloatArray]]:
    """The contract's price, as told; else by its terms from the market's."""
    for name, factor, add in ((side, 1.0, 0.0), *(() if terms is None else ((SPOT, *_terms(terms)),))):
        if (series := version.series.get(name)) is not None:
            begin, means = lattice_means(series, QUARTER_S)
            values = np.full(last - first, np.nan)
            a, b = max(first, begin), min(last, begin + len(means))
            if a < b:
                values[a - first : b - first] = means[a - begin : b - begin]
            # Means by differences of sums are off by 1e-13: a price is what was told, to the last digit.
            yield name, np.round(values, 9) * factor + add


def _terms(terms: PriceTerms) -> tuple[float, float]:
    return terms.factor_ratio, terms.add_per_kwh


def _may_tell(params: InputParams, side: str) -> bool:
    """Whether the site file says that this input tells a side; our own CSV is taken to tell import."""
    if (params.import_terms if side == IMPORT else params.export_terms) is not None:
        return True
    columns = [c.series for c in params.provider.columns]
    return side in columns or (not columns and side == IMPORT and params.export_terms is None)


def _quarter(when: datetime) -> int:
    return int((when - _EPOCH).total_seconds() // QUARTER_S)


def _start(quarter: int) -> datetime:
    return _EPOCH + timedelta(seconds=quarter * QUARTER_S)


# ---- for decisions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPrices:
    """Prices of a local day as known while it runs, for who decides without a plan.

    `import_per_kwh[i]`, `export_per_kwh[i]` are those of the quarter that begins i quarters after `start`
    [money per kWh]; the tariff's where nobody tells.
    """

    start: datetime
    import_per_kwh: tuple[float, ...]
    export_per_kwh: tuple[float, ...]

    def quarter(self, when: datetime) -> int | None:
        """Index of the quarter that holds an aware time; None: it is of another day."""
        i = int((when - self.start).total_seconds() // QUARTER_S)
        return i if 0 <= i < len(self.import_per_kwh) else None


class TodaysPrices:
    """The prices of the local day, asked for anew each quarter of an hour; None where nobody tells any."""

    def __init__(self, inputs: Sequence[InputParams], tariff: Tariff, knowledge: InputKnowledge) -> None:
        self._inputs = tuple(p for p in inputs if p.kind is InputKind.PRICE)
        self._tariff, self._knowledge = tariff, knowledge
        self._asked: tuple[int, DayPrices | None] | None = None

    def __call__(self, now: datetime) -> DayPrices | None:
        """As known at the start of the quarter that holds `now`."""
        if not self._inputs:
            return None
        if self._asked is None or self._asked[0] != _quarter(now):
            at = _start(_quarter(now))
            self._asked = (_quarter(now), day_prices(self._inputs, self._tariff, self._knowledge, at))
        return self._asked[1]


def day_prices(
    inputs: Sequence[InputParams],
    tariff: Tariff,
    knowledge: InputKnowledge,
    at: datetime,
    when: datetime | None = None,
) -> DayPrices | None:
    """Prices of the local day that holds `when` (`at`), as known at `at`; None where nobody tells any."""
    zone = ZoneInfo(tariff.timezone)
    today = (at if when is None else when).astimezone(zone).date()
    start, end = (_midnight(d, zone) for d in (today, today + timedelta(days=1)))
    told = told_prices(inputs, tariff, knowledge, at, start, end)
    if not any((by >= 0).any() for by in told.by.values()):
        return None
    return DayPrices(
        start=told.start,
        import_per_kwh=tuple(told.or_tariff(IMPORT, tariff).tolist()),
        export_per_kwh=tuple(told.or_tariff(EXPORT, tariff).tolist()),
    )


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)
