"""Rollups of days and months that are over, and what is given up where the disk's budget is used up.

A day becomes one file of minutes, a month one file of quarters of an hour. What comes late for a day that
was rolled up already is added to it, and the file replaced. Readings are given up last: the oldest whole
segments go, their minutes stay; then the oldest minutes, and their quarters stay; then the oldest quarters.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import numpy as np

from connectors.historian.archive.compactor import Store
from connectors.historian.archive.ledger import RAW, Entry
from connectors.historian.archive.rollup import MINUTE_MS, QUARTER_MS, coarser, rolled_up, together
from connectors.historian.archive.segment import Segment, Table, Writer
from connectors.sqlite_file import from_ms, to_ms

MINUTES, QUARTERS = str(MINUTE_MS // 1000), str(QUARTER_MS // 1000)  # kinds of segments
DAY = timedelta(days=1)


def roll_up(store: Store, open_ms: int) -> bool:
    """Roll up one day or one month that is over; whether there may be more.

    Parameters
    ----------
    open_ms : from here on readings are not packed yet [ms since 1970 UTC].

    Raises
    ------
    OSError : the disk fails. BadValue : a segment is not what was written.
    """
    days = _grouped(store.catalogue.of(RAW), _day)
    for start, raw in days.items():
        old = _made(store, MINUTES, start)
        if to_ms(start) <= _given_up_ms(store, MINUTES):  # what comes so late stays as it came
            continue
        if to_ms(start + DAY) <= open_ms and (new := _not_in(raw, old)):
            _write_day(store, start, new, old)
            return True
    for start, minutes in _grouped(store.catalogue.of(MINUTES), _month).items():
        old = _made(store, QUARTERS, start)
        if to_ms(start) <= _given_up_ms(store, QUARTERS):
            continue
        if to_ms(_next_month(start)) <= open_ms and (new := _not_in(minutes, old)):
            _write_month(store, start, new, old)
            return True
    return False


def make_room(store: Store, bytes_max: int, now: datetime) -> list[Entry]:
    """Give up the oldest segments until the budget is kept; those given up, most detailed first.

    What is not in a rollup yet is never given up.
    """
    given_up: list[Entry] = []
    known = store.catalogue
    over = sum(e.size_bytes for e in known.segments.values()) - bytes_max
    for kind, above in ((RAW, MINUTES), (MINUTES, QUARTERS), (QUARTERS, None)):
        safe = {file for e in known.of(above) for file in e.head.made_of} if above is not None else None
        gone_ms = -1 if above is None else _given_up_ms(store, above)
        for entry in known.of(kind):
            if over <= 0:
                return given_up
            if safe is None or entry.file in safe or entry.head.start_ms <= gone_ms:
                store.drop(entry, now=now, why=f"more than {bytes_max} bytes")
                over -= entry.size_bytes
                given_up.append(entry)
    return given_up


def _write_day(store: Store, start: datetime, raw: Sequence[Entry], old: Entry | None) -> None:
    made_of = (*(() if old is None else old.head.made_of), *(e.file for e in raw))
    writer = Writer(MINUTES, to_ms(start), to_ms(start + DAY), made_of)
    for point, tables in _gathered(store, [*raw, *(() if old is None else [old])]):
        writer.add(
            point, together([t if e.head.kind == MINUTES else rolled_up(t, MINUTE_MS) for e, t in tables])
        )
    store.put(writer, instead_of=() if old is None else [old])


def _write_month(store: Store, start: datetime, minutes: Sequence[Entry], old: Entry | None) -> None:
    """Quarters of the days given, and of the others those that were there before."""
    made_of = (*(() if old is None else old.head.made_of), *(e.file for e in minutes))
    writer = Writer(QUARTERS, to_ms(start), to_ms(_next_month(start)), made_of)
    renewed = [(e.head.start_ms, e.head.end_ms) for e in minutes]
    for point, tables in _gathered(store, [*minutes, *(() if old is None else [old])]):
        quarters = [
            coarser(t, QUARTER_MS) if e.head.kind == MINUTES else _without(t, renewed) for e, t in tables
        ]
        writer.add(point, together(quarters))
    store.put(writer, instead_of=() if old is None else [old])


def _gathered(store: Store, entries: Sequence[Entry]) -> Iterator[tuple[str, list[tuple[Entry, Table]]]]:
    """Each point, in order, with its tables in all these segments."""
    with ExitStack() as stack:
        opened = [(e, stack.enter_context(Segment(store.folder / e.file))) for e in entries]
        for point in sorted({p for _, s in opened for p in s.points}):
            yield point, [(e, t) for e, s in opened if (t := s.table(point)) is not None]


def _without(table: Table, spans: Sequence[tuple[int, int]]) -> Table:
    """The buckets outside some spans of time."""
    kept = np.ones(len(table["at_ms"]), dtype=bool)
    for start, end in spans:
        kept &= (table["at_ms"] < start) | (table["at_ms"] >= end)
    return {name: values[kept] for name, values in table.items()}


def _given_up_ms(store: Store, kind: str) -> int:
    """The newest start of a rollup of a kind that was given up; -1: none was."""
    return max((e.head.start_ms for e in store.catalogue.dropped.values() if e.head.kind == kind), default=-1)


def _not_in(entries: Sequence[Entry], rollup: Entry | None) -> list[Entry]:
    return [e for e in entries if rollup is None or e.file not in rollup.head.made_of]


def _made(store: Store, kind: str, start: datetime) -> Entry | None:
    return next((e for e in store.catalogue.of(kind) if e.head.start_ms == to_ms(start)), None)


def _grouped(
    entries: Sequence[Entry], start_of: Callable[[datetime], datetime]
) -> dict[datetime, list[Entry]]:
    out: dict[datetime, list[Entry]] = {}
    for e in entries:
        out.setdefault(start_of(from_ms(e.head.start_ms)), []).append(e)
    return out


def _day(at: datetime) -> datetime:
    return datetime(at.year, at.month, at.day, tzinfo=UTC)


def _month(at: datetime) -> datetime:
    return datetime(at.year, at.month, 1, tzinfo=UTC)


def _next_month(start: datetime) -> datetime:
    return datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
