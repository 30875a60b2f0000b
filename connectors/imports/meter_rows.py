"""Rows of a meter's load profile as values of points: each interval by the time it begins, whole or none.

A meter captures at the end of an interval. Power is the mean over it: from an average (D = 4, 5, ...), from
the energy of the interval (D = 29), or from the difference of a counter (D = 8). A counter as a point of its
own is what it was when it was captured.
"""

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from connectors.dlms import profile as load
from connectors.dlms.association import Association
from connectors.dlms.profile import Layout, NotAProfile, Row
from connectors.imports.rows import Line, refused
from connectors.link import LinkError, Refused, Untrusted
from connectors.sqlite_file import to_ms
from connectors.wire_log import QUIET
from ems.clock import wall_sleep
from ems.dlms import Term, parse_terms, unit_factor, unit_name
from ems.errors import BadValue
from ems.imports import UA_COLUMNS, ImportMapping, MeterProfile

AVERAGE, OF_INTERVAL, DIFFERENCE, AS_IT_IS = "average", "of interval", "difference", "as it is"
AVERAGES = (4, 5, 14, 15, 24, 25)  # D of average power
COUNTER, INTERVAL = 8, 29
ENERGY_OF = {"kW": "kWh", "kvar": "kvarh"}
TRIES = 3  # in a row without a row, before a meter is given up
PAUSE_S = 2.0
WANTED = "a meter that answers"


class Meaning(NamedTuple):
    """How a column becomes a value: in which way, and times what."""

    way: str
    factor: float


def meaning_of(term: Term, unit: int | None, wanted: str) -> Meaning:
    """Of a column in the meter's unit, for a point in `wanted`. Raises BadValue."""
    code, d = -1 if unit is None else unit, term.place.obis[3]
    energy = ENERGY_OF.get(wanted)
    try:
        factor = unit_factor(code, wanted)
    except BadValue:
        if energy is None:
            raise
        factor = unit_factor(code, energy)
        if d not in (COUNTER, INTERVAL):
            raise BadValue(
                f"{unit_name(code)} with D = {d}: neither a counter (8) nor of an interval (29)"
            ) from None
        return Meaning(OF_INTERVAL if d == INTERVAL else DIFFERENCE, factor * term.sign)
    return Meaning(AVERAGE if energy is not None and d in AVERAGES else AS_IT_IS, factor * term.sign)


class MeterRows:
    """Of the columns that a mapping names, for the intervals of [start, end).

    Parameters
    ----------
    meter : whose profile; files of its keys as whole paths.
    now : aware time, to hold the clock of the meter against.
    """

    def __init__(
        self,
        meter: MeterProfile,
        mapping: ImportMapping,
        start: datetime,
        end: datetime,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._meter, self._start, self._end, self._now = meter, start, end, now
        self.name = f"{meter.host}:{meter.port}"
        self._tags = list(mapping.points)
        self._terms = {tag: parse_terms(tag) for tag in self._tags}
        self._places = list(dict.fromkeys(t.place for terms in self._terms.values() for t in terms))
        self._zone = None if meter.dlms.time_zone is None else ZoneInfo(meter.dlms.time_zone)
        self._cells: list[tuple[int, str, float | None]] | None = None

    def identity(self) -> str:
        """Of the question: what it finds is known afterwards."""
        asked = f"{self._meter!r}\0{self._start.isoformat()}\0{self._end.isoformat()}"
        return hashlib.sha256(asked.encode()).hexdigest()

    def lines(self) -> Iterator[Line]:
        """Each value. The meter is asked the first time only. Raises ConfigError."""
        if self._cells is None:
            try:
                layout, rows = asyncio.run(self._fetch())
                self._cells = list(self._values(layout, rows))
            except NotAProfile as error:
                raise refused(
                    self.name, None, "profile", str(error), "a load profile that can be read"
                ) from None
            except (LinkError, OSError, TimeoutError) as error:
                why = str(error) or f"no answer in {self._meter.timeout_s:g} s"
                raise refused(self.name, None, "meter", why, WANTED) from None
        for number, (at_ms, tag, value) in enumerate(self._cells, 1):
            cells = (at_ms, tag, value, "good" if value is not None else "bad")
            yield Line(number, dict(zip(UA_COLUMNS, cells, strict=True)))

    def close(self) -> None:
        """Forget what was read."""
        self._cells = None

    async def _fetch(self) -> tuple[Layout, list[Row]]:
        """All rows, over as many associations as it takes. Raises NotAProfile, LinkError and OSError."""
        layout: Layout | None = None
        rows: list[Row] = []
        parts: list[tuple[datetime, datetime]] | list[int] | None = None
        failed = 0
        while True:
            association = Association(self._meter.dlms, timeout_s=self._meter.timeout_s, tap=QUIET)
            try:
                await association.open(self._meter.host, self._meter.port)
                found = await load.layout_of(
                    association, self._meter.profile, self._places, self._meter.status
                )
                if layout is not None and found != layout:
                    raise NotAProfile("its columns, period or scalers changed while it was read")
                layout = found
                deviation_min = await self._believed(association, layout)
                if parts is None:
                    parts = await self._parts(association, layout)
                while parts:
                    rows += await self._part(association, layout, parts[0], deviation_min)
                    del parts[0]
                    failed = 0
                return layout, rows
            except (Refused, Untrusted):
                raise
            except (LinkError, OSError, TimeoutError):
                failed += 1
                if failed >= TRIES:
                    raise
            finally:
                await association.close()
            await wall_sleep(PAUSE_S)

    async def _believed(self, association: Association, layout: Layout) -> int | None:
        """Its deviation, where its clock is near enough to ours. Raises NotAProfile and LinkError."""
        clock = await load.clock_of(association, layout, self._zone)
        if clock.at is None:
            raise NotAProfile(f"the clock of the meter: {clock.why}")
        ahead_s = (clock.at - self._now()).total_seconds()
        if abs(ahead_s) > self._meter.skew_s_max:
            most = f"more than {self._meter.skew_s_max:g} s: its times cannot be taken"
            raise NotAProfile(f"the clock of the meter is {ahead_s:+.0f} s from ours, {most}")
        return clock.deviation_min

    async def _parts(
        self, association: Association, layout: Layout
    ) -> list[tuple[datetime, datetime]] | list[int]:
        if self._meter.by == "range":
            return list(load.slices(self._start, self._end, layout.period_s))
        count = await load.entries_of(association, self._meter.profile)
        return list(range(1, count + 1, load.ENTRIES))

    async def _part(
        self,
        association: Association,
        layout: Layout,
        part: tuple[datetime, datetime] | int,
        deviation: int | None,
    ) -> list[Row]:
        profile = self._meter.profile
        if isinstance(part, int):
            return await load.rows_by_entry(association, profile, layout, part, self._zone)
        return await load.rows_by_range(association, profile, layout, part, deviation, self._zone)

    def _values(self, layout: Layout, rows: Sequence[Row]) -> Iterator[tuple[int, str, float | None]]:
        """Every value of every interval. Raises NotAProfile."""
        index = {place: i for i, place in enumerate(self._places)}
        by_end = grouped(rows, layout.period_s)
        length = timedelta(seconds=layout.period_s)
        for tag in self._tags:
            terms = [
                (index[t.place], self._meaning(tag, t, layout.scalers[index[t.place]].unit))
                for t in self._terms[tag]
            ]
            if len({m.way for _, m in terms}) > 1:
                raise NotAProfile(f"{tag}: {' and '.join(m.way for _, m in terms)} are no difference")
            way = terms[0][1].way
            shift = timedelta(0) if way == AS_IT_IS else -length
            for end, group in sorted(by_end.items()):
                at = end + shift
                if not self._start <= at < self._end:
                    continue
                parts = [self._one(group, by_end.get(end - length), i, m, layout.period_s) for i, m in terms]
                value = None if None in parts else math.fsum(p for p in parts if p is not None)
                yield to_ms(at), tag, value

    def _meaning(self, tag: str, term: Term, unit: int | None) -> Meaning:
        try:
            return meaning_of(term, unit, self._meter.units[tag])
        except BadValue as error:
            raise NotAProfile(f"{tag}: {error}") from None

    def _one(
        self, group: "Group", before: "Group | None", column: int, meaning: Meaning, period_s: int
    ) -> float | None:
        """One column of one interval; None where it is not whole, or its status says it is bad."""
        if self._is_bad(group):
            return None
        last = group.last
        if meaning.way == OF_INTERVAL:
            parts = [row.values[column] for row in (*group.inside, last)]
            energy = None if None in parts else math.fsum(p for p in parts if p is not None)
            return _finite(energy, meaning.factor * 3600.0 / period_s)
        if meaning.way == DIFFERENCE:
            if before is None or self._is_bad(before):
                return None
            now, then = last.values[column], before.last.values[column]
            if now is None or then is None or now < then:  # it rolled over, or is another meter
                return None
            return _finite(now - then, meaning.factor * 3600.0 / period_s)
        if meaning.way == AVERAGE and group.inside:
            return None  # of a part of the interval
        return _finite(last.values[column], meaning.factor)

    def _is_bad(self, group: "Group") -> bool:
        statuses = [row.status for row in (*group.inside, group.last)]
        return group.twice or any(s is None or s & self._meter.bad for s in statuses)


class Group(NamedTuple):
    """Rows of one interval: the one at its end, and those that were captured inside it."""

    last: Row
    inside: tuple[Row, ...]
    twice: bool  # two rows of its end that are not the same


def grouped(rows: Sequence[Row], period_s: int) -> dict[datetime, Group]:
    """Rows by the end of their interval; an interval without a row at its end has none."""
    ends: dict[datetime, list[Row]] = {}
    for row in dict.fromkeys(rows):
        if row.at is not None:
            ends.setdefault(_end(row.at, period_s), []).append(row)
    out: dict[datetime, Group] = {}
    for end, found in ends.items():
        last = [r for r in found if r.at == end]
        inside = tuple(sorted((r for r in found if r.at != end), key=lambda r: r.at or end))
        if last:
            out[end] = Group(last[0], inside, twice=len(last) > 1)
    return out


def _end(at: datetime, period_s: int) -> datetime:
    s = at.timestamp()
    return datetime.fromtimestamp(math.ceil(s / period_s) * period_s, UTC)


def _finite(value: float | None, factor: float) -> float | None:
    if value is None or not math.isfinite(value * factor):
        return None
    return value * factor
