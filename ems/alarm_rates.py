"""How well an operator can keep up with the alarms: the figures of ISA-18.2 clause 16 and EEMUA 191.

Computed from the journal: only what rang counts, once each time it rang.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from ems.alarms import AlarmBook, Priority
from ems.records import EventRecord

JOURNAL = "alarm."  # kinds of the journal begin so
TEN_MIN = timedelta(minutes=10)
FLOOD_OVER = 10  # more in ten minutes begin a flood
FLOOD_UNDER = 5  # fewer in ten minutes end it
CHATTER_COUNT, CHATTER_WITHIN = 3, timedelta(minutes=1)
FLEETING = timedelta(seconds=10)  # gone again before anybody could respond
STALE = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """More alarms than an operator can follow. `end` is None while it lasts."""

    start: datetime
    end: datetime | None
    alarms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRates:
    """Figures of one window [start, end). Targets of EEMUA 191 in brackets."""

    start: datetime
    end: datetime
    alarms: int
    mean_per_h: float  # [at most 6]
    peak_10_min: int  # most in any ten minutes [at most 10]
    floods: tuple[Flood, ...]
    flood_ratio: float  # share of the time [under 0.01]
    top_ten: Mapping[str, int]  # the ten keys that rang most
    top_ten_share: float  # of all alarms [at most 0.05]
    chattering: tuple[str, ...]  # keys that rang three times within a minute [none]
    fleeting: tuple[str, ...]  # keys that were gone within 10 s [none]
    stale: tuple[str, ...]  # standing for more than a day [fewer than 5]
    shelved: int  # now
    by_priority: Mapping[Priority, int]  # [about 1, 5, 15, 80 per cent]
    acknowledged: int
    mean_acknowledge_s: float | None
    acknowledge_s_max: float | None


def alarm_rates(
    journal: Sequence[EventRecord], start: datetime, end: datetime, book: AlarmBook | None = None
) -> AlarmRates:
    """The figures of a window.

    Parameters
    ----------
    journal : events of kind `alarm.*` in [start, end), in any order.
    book : what stands now; without it nothing is stale or shelved.

    Notes
    -----
    A flood begins when more than 10 alarms rang within 10 minutes and ends when fewer than 5 did.

    Source: ANSI/ISA-18.2-2016, 16 (monitoring), table 7; EEMUA publication 191, edition 3, appendix 11.
    """
    events = sorted((e for e in journal if start <= e.at < end), key=lambda e: e.at)
    rang = [e for e in events if e.fields.get("annunciated") is True]
    times = [e.at for e in rang]
    floods = tuple(_floods(times, end))
    counts = Counter(str(e.fields["key"]) for e in rang)
    top = dict(counts.most_common(10))
    waits_s, fleeting = _waits(events)
    in_flood_s = sum(((f.end or end) - f.start).total_seconds() for f in floods)
    length_s = max((end - start).total_seconds(), 1e-9)
    entries = () if book is None else book.standing()
    return AlarmRates(
        start=start,
        end=end,
        alarms=len(rang),
        mean_per_h=len(rang) * 3600.0 / length_s,
        peak_10_min=max((n for _, n in _windows(times)), default=0),
        floods=floods,
        flood_ratio=in_flood_s / length_s,
        top_ten=top,
        top_ten_share=sum(top.values()) / len(rang) if rang else 0.0,
        chattering=tuple(sorted(k for k in counts if _chatters(rang, k))),
        fleeting=fleeting,
        stale=tuple(e.key for e in entries if e.raised_at is not None and end - e.raised_at > STALE),
        shelved=0 if book is None else sum(e.shelf is not None for e in book.entries),
        by_priority=_split(rang),
        acknowledged=len(waits_s),
        mean_acknowledge_s=sum(waits_s) / len(waits_s) if waits_s else None,
        acknowledge_s_max=max(waits_s, default=None),
    )


def _split(rang: Sequence[EventRecord]) -> dict[Priority, int]:
    counts = Counter(str(e.fields["priority"]) for e in rang)
    return {p: counts[p.value] for p in Priority}


def _windows(times: Sequence[datetime]) -> Iterator[tuple[datetime, int]]:
    """At each alarm, how many rang in the ten minutes up to it."""
    first = 0
    for i, at in enumerate(times):
        while times[first] <= at - TEN_MIN:
            first += 1
        yield at, i - first + 1


def _floods(times: Sequence[datetime], end: datetime) -> Iterator[Flood]:
    """Floods, oldest first. The count falls when an alarm is ten minutes old."""
    moments = sorted([(t, 1) for t in times] + [(t + TEN_MIN, -1) for t in times if t + TEN_MIN < end])
    count, began, alarms = 0, None, 0
    for at, together in groupby(moments, key=lambda m: m[0]):
        changes = [
            change for _, change in together
        ]  # one that comes as another goes leaves the count as it is
        count += sum(changes)
        if began is None and count > FLOOD_OVER:
            began, alarms = at, count
        elif began is not None:
            alarms += changes.count(1)
            if count < FLOOD_UNDER:
                yield Flood(start=began, end=at, alarms=alarms)
                began = None
    if began is not None:
        yield Flood(start=began, end=None, alarms=alarms)


def _chatters(rang: Sequence[EventRecord], key: str) -> bool:
    times = [e.at for e in rang if e.fields["key"] == key]
    n = CHATTER_COUNT - 1
    return any(b - a < CHATTER_WITHIN for a, b in zip(times, times[n:], strict=False))


def _waits(events: Sequence[EventRecord]) -> tuple[list[float], tuple[str, ...]]:
    """How long alarms waited for their acknowledgement [s], and the keys that were gone within 10 s."""
    rang_at: dict[str, datetime] = {}
    waits_s: list[float] = []
    fleeting: set[str] = set()
    for e in events:
        key = str(e.fields.get("key"))
        if e.fields.get("annunciated") is True:
            rang_at[key] = e.at
        elif e.kind == "alarm.acknowledged" and key in rang_at:
            waits_s.append((e.at - rang_at.pop(key)).total_seconds())
        elif e.kind == "alarm.cleared" and key in rang_at and e.at - rang_at[key] <= FLEETING:
            fleeting.add(key)
    return waits_s, tuple(sorted(fleeting))
