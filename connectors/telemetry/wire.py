"""What a link's way out is to the thread that drives it, and what that thread hands to it."""

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from connectors.historian.spool import Span, Spool
from connectors.telemetry.outbox import Outbox
from ems.clock import wall_s


@dataclass(slots=True)
class Figures:
    """What one link has done, and how it is."""

    up: bool = False
    reason: str = "not connected yet"
    connects: int = 0
    rows_delivered: int = 0
    rows_late: int = 0
    rows_resent: int = 0
    rows_unlike: int = 0  # set aside: they are not there as they were sent
    trouble: str = ""  # which rows, and why
    refused: int = 0
    missing_rows: int = 0
    missing_spans: int = 0
    missing_s: float = 0.0  # age of the oldest row that is missing
    unsaved: bool = False  # the ledger's disk does not take what was delivered


@dataclass(slots=True, kw_only=True)
class Desk:
    """What all connections of one link share. It belongs to the link's thread."""

    link: str
    spool: Spool
    outbox: Outbox
    now: Callable[[], datetime]  # record time
    closing: threading.Event
    figures: Figures = field(default_factory=Figures)
    counts: Counter[str] = field(default_factory=Counter)  # of this kind of wire, by name of a status field
    wanted: deque[Span] = field(default_factory=lambda: deque(maxlen=1000))  # rows asked for again


class Wire(Protocol):
    """One connection: made, used until its first error, dropped."""

    @property
    def where(self) -> str:
        """Whom it reaches, for a message."""
        ...

    def open(self) -> None:
        """Connect. Raises LinkError; Refused where a person has to look."""
        ...

    def turn(self) -> None:
        """Send what may be sent, hear what was taken, and wait a moment where there is nothing to do.

        Raises
        ------
        LinkError : the connection is of no use any more.
        """
        ...

    def close(self) -> None:
        """Drop it."""
        ...


class Allowance:
    """What late rows may use of a line.

    Parameters
    ----------
    rate : per second; None: any.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate, self._room, self._at_s = rate, 0.0, wall_s()

    @property
    def is_left(self) -> bool:
        """Whether something may be sent now."""
        if self._rate is None:
            return True
        now_s = wall_s()
        self._room = min(self._rate, self._room + self._rate * (now_s - self._at_s))
        self._at_s = now_s
        return self._room > 0.0

    def use(self, amount: float) -> None:
        """So much was sent."""
        self._room -= amount
