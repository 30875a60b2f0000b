"""A recorded series made fit for sums and statistics: another series, each change of which says what it is.

What was recorded stays as it is, and nothing that controls a plant sees this.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby, pairwise
from operator import itemgetter

from ems.frozen import replace
from ems.points import COUNTED, MEASURED, PointSpec
from ems.records import Sample
from ems.site import PointMap
from ems.telemetry import Quality

SPIKE_RATIO = 0.1  # of the range of a point: so far a single reading is from both of its neighbours
AGREE_RATIO = 0.5  # of its distance: so near the two are to each other
FROZEN_S, FROZEN_COUNT = 1800.0, 10  # to the last bit the same for so long, in so many readings
FROZEN_NAMES = ("p_kw", "f_hz", "v_pu", "v1_pu", "v2_pu", "v3_pu")  # of which nature leaves none at rest
FILL_S = 60.0
SPAN, BESIDE = timedelta(days=1), timedelta(hours=1)  # held of a long series, and judged beside
AT_LEAST_S = 1.0  # readings may come in a burst: what moves in a second is never too fast
WRAP_RATIO = 0.1  # of what a register counts to: so near its end before, and its beginning after
BITS = {f"{s}{n}": n - (s == "s") for n in (16, 32, 64) for s in "us"}


class Mark(StrEnum):
    """What a reading was found to be."""

    MEASURED = "measured"
    BAD = "bad"  # when it was read: stale, no answer, refused
    OUT_OF_RANGE = "out_of_range"
    TOO_FAST = "too_fast"  # further from the last one than the point can have moved
    SPIKE = "spike"  # alone, between two that agree
    FROZEN = "frozen"
    ROLLOVER = "rollover"  # of a counter: its register began anew, and it goes on
    RESET = "reset"  # of a counter: it was set back, and goes on from there


KEPT = frozenset((Mark.MEASURED, Mark.ROLLOVER, Mark.RESET))


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanSample:
    """A recorded reading, and what stands for it.

    Parameters
    ----------
    value : unit of the point; of a counter without its resets. None: nothing stands for it.
    raw : as it was recorded.
    substituted : on the straight line between the readings before and after it.
    """

    at: datetime
    value: float | None
    mark: Mark
    raw: float | None
    quality: Quality
    substituted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRules:
    """What a point is judged by; what is None or infinite is not asked. Unit of the point."""

    low: float = -math.inf
    high: float = math.inf
    rate_per_s_max: float | None = None
    spike: float | None = None
    frozen_s: float | None = None
    counts: bool = False  # it only grows
    counts_to: float | None = None  # where its register begins anew
    fill_s: float = 0.0  # at most so long a gap is bridged


def rules_of(spec: PointSpec, row: PointMap | None) -> CleanRules:
    """How a point is judged: by its kind, and by the row of its map where it has one."""
    low, high = (-math.inf, math.inf) if row is None else (row.low, row.high)
    if spec.name in COUNTED:
        bits = None if row is None else BITS.get(row.data_type)
        to = None if row is None or bits is None else row.scale * 2.0**bits
        return CleanRules(low=max(0.0, low), high=high, counts=True, counts_to=to, fill_s=FILL_S)
    if spec.name not in MEASURED:
        return CleanRules(low=low, high=high)
    return CleanRules(
        low=low,
        high=high,
        rate_per_s_max=None if row is None else row.rate_per_s_max,
        spike=None if row is None else SPIKE_RATIO * (high - low),
        frozen_s=FROZEN_S if spec.name in FROZEN_NAMES else None,
        fill_s=FILL_S,
    )


def cleaned(samples: Sequence[Sample], rules: CleanRules) -> list[CleanSample]:
    """The clean series of recorded readings, one for one and in their order.

    Each is judged by the readings given alone: at the ends of a window there is less to judge by.

    Parameters
    ----------
    samples : of one point, oldest first.
    """
    marks = [_alone(s, rules) for s in samples]
    if rules.spike is not None:
        _spikes(samples, marks, rules.spike, rules.fill_s)
    if rules.rate_per_s_max is not None:
        _too_fast(samples, marks, rules.rate_per_s_max)
    if rules.frozen_s is not None:
        _frozen(samples, marks, rules.frozen_s)
    offsets = _counted(samples, marks, rules) if rules.counts else [0.0] * len(samples)
    values = [
        s.value + by if s.value is not None and m in KEPT else None
        for s, m, by in zip(samples, marks, offsets, strict=True)
    ]
    filled = _filled(samples, values, rules.fill_s)
    return [
        CleanSample(
            at=s.at,
            value=v if f is None else f,
            mark=m,
            raw=s.value,
            quality=s.quality,
            substituted=f is not None,
        )
        for s, m, v, f in zip(samples, marks, values, filled, strict=True)
    ]


def cleaned_long(samples: Iterable[Sample], rules: CleanRules) -> Iterator[CleanSample]:
    """The same of a series too long to be held: each reading is judged beside an hour before and after."""
    kept, before = list[Sample](), list[CleanSample]()  # what is held, and of it what was told already
    for sample in samples:
        kept.append(sample)
        if sample.at - kept[0].at < SPAN:
            continue
        upto = sum(s.at < sample.at - BESIDE for s in kept)
        yield from (told := _next(kept, before, rules, upto))
        from_ = kept[upto - 1].at - BESIDE
        first = next(i for i, s in enumerate(kept) if s.at >= from_)
        kept, before = kept[first:], [*before, *told][first:]
    yield from _next(kept, before, rules, len(kept))


def _next(
    kept: Sequence[Sample], before: Sequence[CleanSample], rules: CleanRules, upto: int
) -> list[CleanSample]:
    """Clean readings after those that were told; a counter goes on from where it stood."""
    out = cleaned(kept, rules)
    if not rules.counts:
        return out[len(before) : upto]
    both = ((b.value, o.value) for b, o in zip(reversed(before), reversed(out[: len(before)]), strict=True))
    by = next((b - o for b, o in both if b is not None and o is not None), 0.0)
    more = out[len(before) : upto]
    return [s if s.value is None else replace(s, value=s.value + by) for s in more]


def _alone(s: Sample, rules: CleanRules) -> Mark:
    """By itself."""
    if s.quality is Quality.FROZEN:
        return Mark.FROZEN
    if s.quality is Quality.OUT_OF_RANGE:
        return Mark.OUT_OF_RANGE
    if s.quality is not Quality.GOOD or s.value is None or not math.isfinite(s.value):
        return Mark.BAD
    return Mark.MEASURED if rules.low <= s.value <= rules.high else Mark.OUT_OF_RANGE


def _good(samples: Sequence[Sample], marks: Sequence[Mark]) -> list[tuple[int, float]]:
    """Places and values of what still counts as measured."""
    return [
        (i, s.value)
        for i, (s, m) in enumerate(zip(samples, marks, strict=True))
        if m is Mark.MEASURED and s.value is not None
    ]


def _spikes(samples: Sequence[Sample], marks: list[Mark], far: float, near_s: float) -> None:
    good = _good(samples, marks)
    for (h, a), (i, x), (j, b) in zip(good, good[1:], good[2:], strict=False):
        up, down = x - a, x - b
        alone = up * down > 0.0 and min(abs(up), abs(down)) > far and abs(a - b) <= AGREE_RATIO * abs(up)
        if alone and (samples[j].at - samples[h].at).total_seconds() <= near_s:
            marks[i] = Mark.SPIKE


def _too_fast(samples: Sequence[Sample], marks: list[Mark], rate: float) -> None:
    """A true step is believed once enough time has passed for it."""
    last: tuple[datetime, float] | None = None
    for i, x in _good(samples, marks):
        at = samples[i].at
        if last is not None:
            span_s = max(AT_LEAST_S, (at - last[0]).total_seconds())
            if abs(x - last[1]) > rate * span_s:
                marks[i] = Mark.TOO_FAST
                continue
        last = at, x


def _frozen(samples: Sequence[Sample], marks: list[Mark], long_s: float) -> None:
    """All of a run but its first reading; nothing flows, or nothing is there, where it reads 0."""
    for x, group in groupby(_good(samples, marks), key=itemgetter(1)):
        run = [i for i, _ in group]
        if x == 0.0 or len(run) < FROZEN_COUNT:
            continue
        if (samples[run[-1]].at - samples[run[0]].at).total_seconds() >= long_s:
            for i in run[1:]:
                marks[i] = Mark.FROZEN


def _counted(samples: Sequence[Sample], marks: list[Mark], rules: CleanRules) -> list[float]:
    """What is added to each reading of a counter, so that it only grows."""
    offsets, by, last = [0.0] * len(samples), 0.0, None
    good = _good(samples, marks)
    for n, (i, x) in enumerate(good):
        if last is not None and x < last:
            after = good[n + 1][1] if n + 1 < len(good) else None
            if after is not None and after >= last:
                marks[i] = Mark.SPIKE
                continue
            to = rules.counts_to
            wraps = to is not None and last >= (1.0 - WRAP_RATIO) * to and x <= WRAP_RATIO * to
            by += to if wraps and to is not None else last
            marks[i] = Mark.ROLLOVER if wraps else Mark.RESET
        offsets[i], last = by, x
    return offsets


def _filled(samples: Sequence[Sample], values: Sequence[float | None], most_s: float) -> list[float | None]:
    """What stands for readings that do not count, where their gap is short enough."""
    out: list[float | None] = [None] * len(samples)
    known = [i for i, v in enumerate(values) if v is not None]
    for i, j in pairwise(known):
        a, b = values[i], values[j]
        span_s = (samples[j].at - samples[i].at).total_seconds()
        if j == i + 1 or a is None or b is None or not 0.0 < span_s <= most_s:
            continue
        for k in range(i + 1, j):
            out[k] = a + (b - a) * (samples[k].at - samples[i].at).total_seconds() / span_s
    return out
