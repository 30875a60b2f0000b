"""What was imported, as the days before that a forecaster starts from."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from cli.past import STEPS_MAX
from connectors.imports.store import ImportedHistory
from ems.points import point_id
from ems.records import Sample
from ems.series import UniformSeries
from ems.site import Site
from ems.telemetry import Quality
from ems.timegrid import FloatArray

STEP_S = 900.0
HOLD_S_MAX = 3600.0  # so long a value stands at most until the next
COVERED_RATIO_MIN = 0.5  # of a step that has a mean
_PAGE = 50_000


def imported_means(directory: Path, site: Site) -> dict[str, UniformSeries]:
    """Mean power of each quarter of an hour, of the newest weeks, by feeder and PV plant.

    Raises
    ------
    StoreError : the file of imports is of another kind or version, or cannot be read.
    """
    out: dict[str, UniformSeries] = {}
    with closing(ImportedHistory(directory)) as history:
        wanted: list[tuple[str, tuple[str, ...]]] = [(f.id, ("p_kw",)) for f in site.feeders]
        wanted += [(p.id, ("p_available_kw", "p_kw")) for p in site.pv]
        for asset, names in wanted:
            point = next((p for n in names if history.span(p := point_id(asset, n)) is not None), None)
            if point is None or (span := history.span(point)) is None:
                continue
            last = span[1] + timedelta(milliseconds=1)
            start = max(_quarter(span[0]), _quarter(last) - timedelta(seconds=STEP_S * (STEPS_MAX - 4)))
            out[asset] = _means(list(_samples(history, point, start, last)), start)
    return out


def with_imported(
    past: Mapping[str, UniformSeries], imported: Mapping[str, UniformSeries]
) -> dict[str, UniformSeries]:
    """What the planner knows already, and what was imported where it knows nothing; same steps."""
    out = dict(past)
    for asset, found in imported.items():
        known = past.get(asset)
        if known is None or not len(known.values):
            out[asset] = found
            continue
        start = min(known.start, found.start)
        values = np.full(round((known.end - start).total_seconds() / STEP_S), np.nan)
        _lay(values, start, found)
        _lay(values, start, known)
        values = values[-STEPS_MAX:]
        start = known.end - timedelta(seconds=STEP_S * len(values))
        out[asset] = UniformSeries(start=start, step_s=STEP_S, values=values)
    return out


def _lay(values: FloatArray, start: datetime, series: UniformSeries) -> None:
    """Put what is finite of a series where it belongs, as far as there is room."""
    first = round((series.start - start).total_seconds() / STEP_S)
    part = series.values[: max(0, len(values) - first)]
    place = values[first : first + len(part)]
    place[np.isfinite(part)] = part[np.isfinite(part)]


def _samples(history: ImportedHistory, point: str, start: datetime, end: datetime) -> Iterator[Sample]:
    while page := history.series(point, start, end, _PAGE):
        yield from page
        start = page[-1].at + timedelta(milliseconds=1)


def _means(samples: list[Sample], start: datetime) -> UniformSeries:
    """Each value for the time until the next, at most an hour; NaN where less than half is known."""
    at_s = np.array([(s.at - start).total_seconds() for s in samples])
    good = np.array([s.quality is Quality.GOOD and s.value is not None for s in samples], dtype=bool)
    kw = np.array([0.0 if s.value is None else s.value for s in samples])
    length_s = np.diff(at_s, append=at_s[-1:] + _usual_s(at_s))
    until_s = at_s + np.minimum(length_s, HOLD_S_MAX)
    steps = int(np.ceil(until_s[-1] / STEP_S))
    total, known_s = np.zeros(steps), np.zeros(steps)
    for k in range(int(HOLD_S_MAX // STEP_S) + 1):
        step = (at_s // STEP_S).astype(int) + k
        held_s = np.minimum(until_s, (step + 1) * STEP_S) - np.maximum(at_s, step * STEP_S)
        use = good & (held_s > 0.0) & (step < steps)
        np.add.at(total, step[use], kw[use] * held_s[use])
        np.add.at(known_s, step[use], held_s[use])
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(known_s >= COVERED_RATIO_MIN * STEP_S, total / known_s, np.nan)
    return UniformSeries(start=start, step_s=STEP_S, values=values)


def _usual_s(at_s: FloatArray) -> float:
    """What lies between two samples as a rule: so long the last one stands."""
    return float(np.median(np.diff(at_s))) if len(at_s) > 1 else STEP_S


def _quarter(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)
