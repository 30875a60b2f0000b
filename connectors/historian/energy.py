"""Energy of a point from what the historian holds, to be compared with counters."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ems.ports import HistoryReader
from ems.records import Sample
from ems.telemetry import Quality

PAGE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one power point over a period; `missing_s` had no good samples and counts as nothing."""

    positive_kwh: float
    negative_kwh: float  # a positive number
    covered_s: float
    missing_s: float

    @property
    def net_kwh(self) -> float:
        """Positive minus negative."""
        return self.positive_kwh - self.negative_kwh


def integrate(
    history: HistoryReader, point: str, start: datetime, end: datetime, *, gap_s_max: float = 60.0
) -> Energy:
    """Integrate a power point over [start, end), straight lines between good samples.

    Parameters
    ----------
    history : where the samples are.
    point : a point in kW.
    gap_s_max : two samples further apart than this [s], or with a bad one between, are not joined.
    """
    positive_kws = negative_kws = covered_s = 0.0
    last: Sample | None = None
    after = start
    while True:
        page = history.series(point, after, end, PAGE)
        for sample in page:
            if last is not None and (dt_s := _joined_s(last, sample, gap_s_max)) > 0:
                up, down = _parts(_kw(last), _kw(sample), dt_s)
                positive_kws, negative_kws, covered_s = (
                    positive_kws + up,
                    negative_kws + down,
                    covered_s + dt_s,
                )
            last = sample
        if len(page) < PAGE:
            break
        after = page[-1].at + timedelta(milliseconds=1)
    return Energy(
        positive_kwh=positive_kws / 3600.0,
        negative_kwh=negative_kws / 3600.0,
        covered_s=covered_s,
        missing_s=(end - start).total_seconds() - covered_s,
    )


def _joined_s(a: Sample, b: Sample, gap_s_max: float) -> float:
    """Seconds between two samples that may be joined, else 0."""
    dt_s = (b.at - a.at).total_seconds()
    good = all(s.quality is Quality.GOOD and s.value is not None for s in (a, b))
    return dt_s if good and dt_s <= gap_s_max else 0.0


def _kw(sample: Sample) -> float:
    assert sample.value is not None
    return sample.value


def _parts(a_kw: float, b_kw: float, dt_s: float) -> tuple[float, float]:
    """Positive and negative area [kWs] under the line from a to b."""
    if a_kw * b_kw >= 0:
        area = 0.5 * (a_kw + b_kw) * dt_s
        return (area, 0.0) if area >= 0 else (0.0, -area)
    first = 0.5 * a_kw * dt_s * a_kw / (a_kw - b_kw)  # until the line crosses zero
    second = 0.5 * b_kw * dt_s * b_kw / (b_kw - a_kw)
    return (first, -second) if a_kw > 0 else (second, -first)
