"""Times of inputs: with their zone, or in one that the provider names, through both changes of its clock."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from connectors.sqlite_file import EPOCH
from ems.inputs import Provider

FUTURE_S = 300.0  # clocks of two machines may differ by so much
_WANTED = {
    "iso": "a time in ISO 8601 with its zone, such as 2026-03-02T06:00:00Z",
    "s": "seconds since 1970 UTC",
    "ms": "milliseconds since 1970 UTC",
}


class TimeRefusedError(Exception):
    """A time that cannot be used; says what is allowed."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed


class InputTimes:
    """Reads the times of one file in the order of its rows."""

    def __init__(self, provider: Provider, arrived: datetime) -> None:
        self._form, self._zone = provider.time_form, provider.zone
        self._arrived = arrived
        self._last: datetime | None = None
        self._begin: datetime | None = None  # the first row is later than this

    def begin(self, cells: Sequence[Any]) -> None:
        """Where a series begins whose first time comes twice: in the second, unless its clock goes back then.

        Parameters
        ----------
        cells : the time of each row.

        Raises
        ------
        TimeRefusedError : all of it lies in the hour that comes twice, and may be in either.
        """
        if not cells or (first := self._twice(cells[0])) is None:
            return
        try:
            clock = [self._parsed(cell).replace(tzinfo=None) for cell in cells]
        except TimeRefusedError:  # told with its row
            return
        if any(b <= a for a, b in pairwise(clock)):
            return
        if all(self._twice(cell) is not None for cell in cells):
            raise TimeRefusedError("a time with its zone, or a row outside of the hour that comes twice")
        self._begin = first

    def _twice(self, cell: Any) -> datetime | None:
        """The first of the two times that a time may be; None where it comes once, or is none."""
        try:
            found = self._parsed(cell)
        except TimeRefusedError:  # told with its row
            return None
        if found.tzinfo is not None or self._zone is None:
            return None
        one, two = (found.replace(tzinfo=self._zone, fold=fold) for fold in (0, 1))
        before, after = one.utcoffset(), two.utcoffset()
        comes_twice = before is not None and after is not None and before > after
        return one.astimezone(UTC) if comes_twice else None

    def next(self, cell: Any) -> datetime:
        """Time of the next row, later than the one before it. Raises TimeRefusedError."""
        at = self.read(cell, self._begin if self._last is None else self._last)
        if self._last is not None and at <= self._last:
            raise TimeRefusedError(f"a time after the row before, {self._last.isoformat()}")
        self._last = at
        return at

    def read(self, cell: Any, after: datetime | None = None) -> datetime:
        """An aware time in UTC. Of an hour that comes twice the first one that is later than `after`.

        Raises
        ------
        TimeRefusedError : it is none, or there was no such time in its zone.
        """
        found = self._parsed(cell)
        try:
            return found.astimezone(UTC) if found.tzinfo is not None else self._local(found, after)
        except OverflowError:  # the first and the last day of the calendar
            raise TimeRefusedError("a time of this century") from None

    def _local(self, found: datetime, after: datetime | None) -> datetime:
        if self._zone is None:
            raise TimeRefusedError("a time with its zone: nobody says in which zone this is")
        meanings = [found.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        if meanings[0].astimezone(self._zone).replace(tzinfo=None) != found:
            raise TimeRefusedError(f"a time that there is in {self._zone}: its clock was put forward then")
        return next((m for m in meanings if after is None or m > after), meanings[1])

    def _parsed(self, cell: Any) -> datetime:
        wanted = _WANTED.get(self._form, f"a time like {self._form}")
        try:
            if self._form in ("s", "ms"):
                if isinstance(cell, bool) or not math.isfinite(number := float(cell)):
                    raise ValueError(cell)
                return EPOCH + timedelta(milliseconds=round(number * (1000 if self._form == "s" else 1)))
            if not isinstance(cell, str):
                raise TypeError(cell)
            text = cell.strip()
            if self._form == "iso":
                return datetime.fromisoformat(text)
            return datetime.strptime(text, self._form)  # noqa: DTZ007  (its zone is the provider's)
        except (ValueError, TypeError, OverflowError):
            raise TimeRefusedError(wanted) from None
