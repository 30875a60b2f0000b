"""Prices of a VTN as a version of an input: steps of equal length, in our own form of CSV. Pure.

They go through the same door as those of anybody else: a file in the folder of an input, which is read, held
against the bounds of that input, kept with its bytes and refused whole where anything in it is wrong.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.openadr3.reading import PRICES
from connectors.openadr3.told import Event

COLUMNS = {"PRICE": "import_per_kwh", "EXPORT_PRICE": "export_per_kwh"}
DAY_S = 86400
PAST_DAYS, AHEAD_DAYS = 1, 10  # whole days of UTC around today
STEP_S_MIN, STEP_S_MAX = 60, 3600  # of an input
PIECES_MAX = 50_000


class NoPrices(Exception):
    """No version can be made of what the VTN says; says why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One price, for some time."""

    kind: str
    start_s: int
    end_s: int
    per_kwh: float
    rank: tuple[float, float]  # the lowest goes first
    event: str


@dataclass(frozen=True, slots=True)
class Version:
    """What is told of prices, by step; None: nothing."""

    start_s: int
    step_s: int
    per_kwh: dict[str, tuple[float | None, ...]]  # by type, of those that are told

    def csv(self, issued_s: float) -> str:
        """As a file of an input.

        Parameters
        ----------
        issued_s : time of issue [s since 1970 UTC].
        """
        issued = _text(issued_s)
        names = ",".join(COLUMNS[k] for k in self.per_kwh)
        lines = [f"time,issued_at,{names}"]
        for i, row in enumerate(zip(*self.per_kwh.values(), strict=True)):
            cells = ",".join("" if v is None else repr(v) for v in row)
            lines.append(f"{_text(self.start_s + i * self.step_s)},{issued},{cells}")
        return "\n".join([*lines, ""])


def version_of(events: Iterable[Event], now_s: float) -> Version | None:
    """The prices of yesterday to ten days ahead; None: there are none.

    Of two events that with the lower priority counts, of one priority that which was made or changed last.
    `randomizeStart` moves no price: it spreads loads, and what is paid does not depend on chance.

    Raises
    ------
    NoPrices : times that are not whole minutes, or two prices for one time of which none goes first.
    """
    today_s = int(now_s // DAY_S) * DAY_S
    first_s, last_s = today_s - PAST_DAYS * DAY_S, today_s + (AHEAD_DAYS + 1) * DAY_S
    pieces = list[Piece]()
    for event in events:
        for piece in _pieces(event, first_s, last_s):
            pieces.append(piece)
            if len(pieces) > PIECES_MAX:
                raise NoPrices(f"found more than {PIECES_MAX} prices; allowed: {PIECES_MAX}")
    if not pieces:
        return None
    start_s = min(p.start_s for p in pieces)
    step_s = _step_s(pieces, start_s)
    count = (max(p.end_s for p in pieces) - start_s) // step_s + 1
    per_kwh = {}
    for kind in PRICES:
        mine = [p for p in pieces if p.kind == kind]
        if mine:
            per_kwh[kind] = _filled(mine, start_s, step_s, count)
    return Version(start_s, step_s, per_kwh)


def _pieces(event: Event, first_s: int, last_s: int) -> Iterator[Piece]:
    """Its prices between two times, repeated where it repeats them. Raises NoPrices."""
    steps = [s for s in event.steps if s.prices_per_kwh]
    if not steps:
        return
    begins_s = min(s.start_s for s in event.steps)
    ends = [None if s.duration_s is None else s.start_s + s.duration_s for s in event.steps]
    span_s = max((e for e in ends if e is not None), default=begins_s) - begins_s
    until_s = math.inf if event.duration_s is None else begins_s + event.duration_s
    repeats = event.limited and span_s > 0.0 and None not in ends
    turn = max(0, math.floor((first_s - begins_s) / span_s)) if repeats else 0
    rank = (math.inf if event.priority is None else float(event.priority), -event.made_s)
    while True:
        moved_s = turn * span_s if repeats else 0.0
        for step in steps:
            assert step.duration_s is not None, "prices have an end"
            for kind, values in step.prices_per_kwh.items():
                part_s = step.duration_s / len(values)
                for i, value in enumerate(values):
                    start_s = _whole(step.start_s + moved_s + i * part_s, event.id)
                    end_s = _whole(step.start_s + moved_s + (i + 1) * part_s, event.id)
                    if event.limited and until_s < end_s:
                        end_s = _whole(until_s, event.id)
                    if max(start_s, first_s) < min(end_s, last_s):
                        inside = max(start_s, first_s), min(end_s, last_s)
                        yield Piece(kind, *inside, value, rank, event.id)
        turn += 1
        if not repeats or begins_s + turn * span_s >= min(last_s, until_s):
            return


def _whole(at_s: float, event: str) -> int:
    """A time in whole seconds. Raises NoPrices."""
    found = round(at_s)
    if abs(found - at_s) > 1e-3:
        raise NoPrices(f"event {event}: found a price that begins within a second; allowed: whole minutes")
    return found


def _step_s(pieces: list[Piece], start_s: int) -> int:
    """The longest step that all prices begin and end with. Raises NoPrices."""
    step_s = 0
    for piece in pieces:
        step_s = math.gcd(step_s, piece.start_s - start_s, piece.end_s - start_s)
    step_s = math.gcd(step_s, STEP_S_MAX)
    if step_s < STEP_S_MIN:
        raise NoPrices(f"found prices {step_s} s apart; allowed: whole minutes")
    return step_s


def _filled(pieces: list[Piece], start_s: int, step_s: int, count: int) -> tuple[float | None, ...]:
    """The price of each step. Raises NoPrices: two events tell another one, and none of them goes first."""
    values: list[float | None] = [None] * count
    ranks: list[tuple[float, float] | None] = [None] * count
    for piece in sorted(pieces, key=lambda p: (p.rank, p.event)):
        for i in range((piece.start_s - start_s) // step_s, (piece.end_s - start_s) // step_s):
            rank = ranks[i]
            if rank is None:
                values[i], ranks[i] = piece.per_kwh, piece.rank
            elif rank == piece.rank and values[i] != piece.per_kwh:
                when = _text(start_s + i * step_s)
                found = f"{values[i]!r} and {piece.per_kwh!r} at {when}"
                raise NoPrices(f"{piece.kind}: found {found}, none of which goes first; allowed: one price")
    return tuple(values)


def _text(at_s: float) -> str:
    return datetime.fromtimestamp(math.floor(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
