"""What the historian and its rivals are given: readings of a made-up plant, a day after the other."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.sqlite_file import to_ms

START = datetime(2026, 1, 1, tzinfo=UTC)
PLOT_POINTS = 1000  # buckets of a plot, about
PLOTS = 10  # points that are plotted, where there are more: a rival takes minutes for all of 200
OUT = timedelta(days=7)  # of one point, in full
POLLED = 15  # points that one poll brings, with one time of the device
Rows = Iterator[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A plant: so many points, one snapshot every so often, for so many days."""

    name: str
    points: int
    every_s: int
    days: float

    @property
    def rows(self) -> int:
        return self.points * int(self.days * 86400 / self.every_s)

    @property
    def end(self) -> datetime:
        return START + timedelta(days=self.days)

    @property
    def middle(self) -> datetime:
        return START + timedelta(days=int(self.days / 2))

    @property
    def bucket_s(self) -> int:
        ladder = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
        return next(e for e in ladder if self.days * 86400 / e <= PLOT_POINTS)

    @property
    def plotted(self) -> list[int]:
        return list(range(0, self.points, max(1, self.points // PLOTS)))[:PLOTS]

    @property
    def out(self) -> tuple[datetime, datetime]:
        return START, min(self.end, START + OUT)


@dataclass(slots=True)
class Figures:
    """What one store took: bytes, and seconds of wall time."""

    in_s: float = 0.0
    size_bytes: int = 0
    plot_one_s: float = 0.0
    plots_s: float = 0.0
    raw_hour_s: float = 0.0
    out_per_s: float = 0.0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Readings of one day: times of the snapshots [ms], age of each poll's samples [ms], values by point."""

    at: NDArray[np.int64]
    lag: NDArray[np.int64]  # polls x snapshots
    columns: list[NDArray[np.float64]]

    def polled(self, point: int) -> NDArray[np.int64]:
        """Ages of the samples of a point."""
        return self.lag[point // POLLED % len(self.lag)]

    def numbers(self) -> Rows:
        """At_ms, point, value, quality, age [ms]; in order of time, then point."""
        polls = [p // POLLED % len(self.lag) for p in range(len(self.columns))]
        numbers = range(len(self.columns))
        for at, lags, values in zip(self.at.tolist(), self.lag.T.tolist(), _by_time(self), strict=True):
            for point in numbers:
                yield at, point, values[point], 0, lags[polls[point]]

    def texts(self) -> Rows:
        """At, point, value, quality, time of the device; in the same order."""
        names = [name_of(p) for p in range(len(self.columns))]
        polls = [p // POLLED % len(self.lag) for p in range(len(self.columns))]
        sources = [iso(self.at - lag) for lag in self.lag]
        for i, (at, values) in enumerate(zip(iso(self.at), _by_time(self), strict=True)):
            now = [s[i] for s in sources]
            for name, value, poll in zip(names, values, polls, strict=True):
                yield at, name, value, "good", now[poll]


def _by_time(day: Day) -> Iterator[list[float]]:
    return map(np.ndarray.tolist, np.stack(day.columns, axis=1))


def iso(ms: NDArray[np.int64]) -> list[str]:
    """Times as text, UTC."""
    return list(np.datetime_as_string(ms.astype("datetime64[ms]"), unit="ms", timezone="UTC").tolist())


def name_of(point: int) -> str:
    return f"asset{point:03}.p_kw"


def values(rng: np.random.Generator, kind: int, first: int, count: int) -> NDArray[np.float64]:
    """Powers with noise, short floats, states of charge, voltages of registers, states, counters."""
    if kind == 0:
        return np.round(200 + np.cumsum(rng.normal(0, 0.4, count)) + rng.normal(0, 0.5, count), 1)
    if kind == 1:
        return (50 + rng.normal(0, 0.02, count)).astype(np.float32).astype(float)
    if kind == 2:
        return np.round(0.5 + 0.4 * np.sin((first + np.arange(count)) / 9000), 3)
    if kind == 3:
        return np.rint(rng.normal(4000, 20, count)) * 0.1
    return np.ones(count) if kind == 4 else np.round(1e5 + (first + np.arange(count)) * 0.05, 1)


def day_of(case: Case, day: int) -> Day:
    """One day, the same whichever days were made before it."""
    rng = np.random.default_rng([9, day])
    count = int(86400 / case.every_s)
    n, first = min(count, int((case.days - day) * count)), day * count
    return Day(
        at=to_ms(START) + 1000 * case.every_s * (first + np.arange(n)) + rng.integers(0, 4, n),
        lag=rng.integers(150, 420, (-(-case.points // POLLED), n)),
        columns=[values(rng, p % 6, first, n) for p in range(case.points)],
    )


def days_of(case: Case, store: str, first: int = 0) -> Iterator[tuple[int, Day]]:
    """The days from one on, while a line on stderr says how far it is."""
    count, begun = int(np.ceil(case.days)), perf_counter()
    for day in range(first, count):
        print(
            f"\r{store}, {case.name}: day {day + 1} of {count}, {perf_counter() - begun:.0f} s   ",
            end="", file=sys.stderr, flush=True,
        )  # fmt: skip
        yield day, day_of(case, day)
    print("\r" + " " * 78 + "\r", end="", file=sys.stderr, flush=True)


def timed(do: Callable[[], object]) -> float:
    """Wall time of a call [s]."""
    begun = perf_counter()
    do()
    return perf_counter() - begun
