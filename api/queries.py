"""Query parameters: windows of time that are aware, ordered and bounded, and limits that are bounded."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from api.errors import QueryRefusedError

LIMIT_MAX = 10_000
LIMIT_DEFAULT = 1_000
WINDOW_DAYS_MAX = 400
# Lengths of buckets [s]: whole parts of a day, and multiples of what is rolled up already where they can be.
EVERY_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_TIME_TEXT = "ISO 8601 with a zone, e.g. 2026-03-02T06:00:00Z (write + as %2B)"


class WindowQuery(BaseModel):
    """A window [start, end) and how many rows of it at most. No `end`: now; no `start`: an hour before."""

    model_config = ConfigDict(extra="forbid")

    start: str | None = Field(None, max_length=64, description=f"first moment, {_TIME_TEXT}")
    end: str | None = Field(None, max_length=64, description=f"first moment after, {_TIME_TEXT}")
    limit: int = Field(LIMIT_DEFAULT, ge=1, le=LIMIT_MAX, description="rows at most")


class HistoryQuery(WindowQuery):
    """One point's history: every reading, or buckets of them for a plot."""

    point: str = Field(max_length=128, description="`<asset>.<point>`, e.g. bess1.p_kw")
    every_s: int | None = Field(
        None, description=f"buckets of this length, one of {', '.join(map(str, EVERY_S))}"
    )
    max_points: int | None = Field(
        None,
        ge=1,
        le=LIMIT_MAX,
        description="buckets of the shortest length that makes so few of them, a day at most",
    )


class RecordedQuery(WindowQuery):
    """What a device recorded of one point."""

    point: str = Field(max_length=128, description="`<asset>.<point>`, e.g. grid1.breaker")


class CommandsQuery(WindowQuery):
    """Commands, of one setpoint or of all."""

    point: str | None = Field(None, max_length=128, description="one setpoint only, e.g. bess1.p_set_kw")


class EventsQuery(WindowQuery):
    """Events, of one kind or of all."""

    kind: str | None = Field(
        None, max_length=128, description="one kind only, e.g. grid.mains.lost; all that begin so: alarm."
    )


class AlarmsQuery(BaseModel):
    """Alarms: the operator's list, or with those out of sight."""

    model_config = ConfigDict(extra="forbid")

    hidden: bool = Field(False, description="true: shelved, suppressed and out of service too")


class ExplanationQuery(BaseModel):
    """All of an explanation, or what concerns the present step."""

    model_config = ConfigDict(extra="forbid")

    present: bool = Field(False, description="true: only setpoints and runs of the present step")


class NoQuery(BaseModel):
    """A route without parameters refuses those it would ignore."""

    model_config = ConfigDict(extra="forbid")


NoParameters = Annotated[NoQuery, Query()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A checked window."""

    start: datetime
    end: datetime
    limit: int


def parse_time(where: str, text: str) -> datetime:
    """An aware UTC time.

    Raises
    ------
    QueryRefusedError : not ISO 8601, or without a zone, or outside the years 1970 to 2200.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise QueryRefusedError(where, f"not a time; expected {_TIME_TEXT}") from None
    if when.tzinfo is None:
        raise QueryRefusedError(where, f"a time without a zone; expected {_TIME_TEXT}")
    if not 1970 < when.year < 2200:
        raise QueryRefusedError(where, "outside the years 1971 to 2199")
    return when.astimezone(UTC)


def every_of(query: HistoryQuery, window: Window) -> int | None:
    """The length of a bucket that a query means [s]; None: it asks for readings.

    Raises
    ------
    QueryRefusedError : a length that there is not, or two ways of saying it.
    """
    if query.every_s is not None and query.max_points is not None:
        raise QueryRefusedError("query.max_points", "beside every_s; expected one of them")
    if query.every_s is not None:
        if query.every_s not in EVERY_S:
            raise QueryRefusedError("query.every_s", f"expected one of {', '.join(map(str, EVERY_S))}")
        return query.every_s
    if query.max_points is None:
        return None
    length_s = (window.end - window.start).total_seconds()
    # One more bucket than fits may begin before the start.
    return next((e for e in EVERY_S if length_s / e + 1 <= query.max_points), EVERY_S[-1])


def window_of(query: WindowQuery, now: datetime, length: timedelta = timedelta(hours=1)) -> Window:
    """The window a query means; without a start it is `length` long.

    Raises
    ------
    QueryRefusedError : a bad time, an empty or reversed window, or one longer than WINDOW_DAYS_MAX.
    """
    end = now if query.end is None else parse_time("query.end", query.end)
    start = end - length if query.start is None else parse_time("query.start", query.start)
    if start >= end:
        raise QueryRefusedError("query.start", "not before the end of the window")
    if end - start > timedelta(days=WINDOW_DAYS_MAX):
        raise QueryRefusedError("query.start", f"the window is longer than {WINDOW_DAYS_MAX} days")
    return Window(start=start, end=end, limit=query.limit)
