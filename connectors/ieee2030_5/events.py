"""Events of IEEE 2030.5 through their lives: which holds now, what the server is answered. Pure.

Source: IEEE 2030.5-2018, 10.2.2.3 and 10.10; an event that is gone from its list is cancelled (2023, rule p).
Where the editions differ on what comes after an event that took over from another, the tighter of both holds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from random import Random

from connectors.ieee2030_5.told import Control, Program, Told
from connectors.utility.ahead import Ahead, foreseen
from connectors.utility.bound import Bound

RECEIVED_BIT, SPECIFIC_BIT = 1, 2
FORGET_S = 24 * 3600  # an event that is over is remembered so long after its end
REPLY_S = 3600  # an answer that nobody takes is given up so long after it was due
EVENTS_MAX = 2000  # more than that are forgotten, the oldest first, once they are over
REPLIES_MAX = 500
CANCELLED, CANCELLED_SLOWLY, SUPERSEDED_BY_SERVER = 2, 3, 4


class State(StrEnum):
    """Where an event is in its life."""

    SCHEDULED = "scheduled"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    REFUSED = "refused"  # wrong in itself
    EXPIRED = "expired"  # over before it was heard of

    @property
    def is_over(self) -> bool:
        """Whether nothing of it can hold any more."""
        return self not in (State.SCHEDULED, State.ACTIVE, State.SUPERSEDED)


NEVER_RAN = (State.REFUSED, State.CANCELLED, State.EXPIRED)


class Code(IntEnum):
    """Status of a response (IEEE 2030.5-2018, table 27)."""

    RECEIVED = 1
    STARTED = 2
    COMPLETED = 3
    CANCELLED = 6
    SUPERSEDED = 7
    NO_PARTICIPATION = 10
    NOT_APPLICABLE = 252
    INVALID = 253
    EXPIRED = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event as it is kept."""

    control: Control
    later_s: int = 0  # start, by chance
    longer_s: int = 0  # duration, by chance
    state: State = State.SCHEDULED
    cut_s: int | None = None  # it was cancelled, and ends then
    covered: tuple[str, ...] = ()  # modes that another event has taken over
    held: bool = False  # the edge has done what it asks
    said: tuple[int, ...] = ()  # responses that are due or sent

    @property
    def start_s(self) -> int:
        """When it really starts, server's time."""
        return self.control.start_s + self.later_s

    @property
    def end_s(self) -> int:
        """When it really ends, server's time."""
        end_s = self.start_s + max(0, self.control.duration_s + self.longer_s)
        return end_s if self.cut_s is None else min(end_s, self.cut_s)

    @property
    def rank(self) -> tuple[int, int, str]:
        """The lowest goes first: primacy of its program, then the one made last."""
        return self.control.primacy, -self.control.created_s, self.control.mrid

    def asks(self, mode: str) -> bool:
        """Whether it bounds this mode."""
        return mode in self.control.ask.bounds_kw


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response that the server waits for."""

    mrid: str
    href: str
    code: int
    at_s: int  # server's time


class Book:
    """All events and defaults of one server.

    Parameters
    ----------
    random : of starts and durations; chosen once for each event.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.events: dict[str, Event] = {}
        self.programs: tuple[Program, ...] = ()
        self.replies: list[Reply] = []

    def take(self, told: Told, now_s: float) -> list[str]:
        """A whole answer of the server; what of it was refused, in words.

        Parameters
        ----------
        now_s : server's time [s].
        """
        refused: list[str] = []
        self.programs = tuple(replace(p, controls=()) for p in told.programs)
        by_primacy = sorted(told.programs, key=lambda p: -p.primacy)
        served = {
            c.mrid: c for p in by_primacy for c in p.controls
        }  # of one in two programs the first counts
        for control in sorted(served.values(), key=lambda c: c.start_s):
            known = self.events.get(control.mrid)
            if known is None:
                refused += self._new(control, now_s)
            elif not known.state.is_over:
                refused += self._changed(known, control, now_s)
        for mrid in [m for m in self.events if m not in served]:
            event = self.events[mrid]
            if not event.state.is_over and now_s < event.end_s:
                self._cancel(event, int(now_s), now_s)
            elif event.state.is_over and now_s > event.end_s + FORGET_S:
                del self.events[mrid]
        over = sorted((e.end_s, m) for m, e in self.events.items() if e.state.is_over and m not in served)
        for _, mrid in over[: max(0, len(self.events) - EVENTS_MAX)]:
            del self.events[mrid]
        self.advance(now_s)
        return refused

    def _new(self, control: Control, now_s: float) -> Iterator[str]:
        event = Event(
            control=control,
            later_s=self._by_chance(control.random_start_s),
            longer_s=self._by_chance(control.random_duration_s),
        )
        before = self._before(event)
        if before is not None:  # no gap and no overlap between events that follow each other (rule m)
            event = replace(event, later_s=before.end_s - control.start_s)
        if control.ask.wrong:
            self._put(replace(event, state=State.REFUSED), Code.INVALID, now_s)
            yield f"event {control.mrid}: {control.ask.wrong}"
        elif now_s >= event.end_s:
            self._put(replace(event, state=State.EXPIRED), Code.EXPIRED, now_s)
        elif control.status in (CANCELLED, CANCELLED_SLOWLY):
            self._put(replace(event, state=State.CANCELLED), Code.CANCELLED, now_s)
        elif control.status == SUPERSEDED_BY_SERVER:
            covered = tuple(control.ask.bounds_kw)
            self._put(replace(event, state=State.SUPERSEDED, covered=covered), Code.SUPERSEDED, now_s)
        elif control.ask.unmet:
            self._put(event, Code.NOT_APPLICABLE, now_s)
            yield f"event {control.mrid}: {', '.join(control.ask.unmet)}: nothing here can do that"
        else:
            self._put(event, Code.RECEIVED, now_s)

    def _before(self, event: Event) -> Event | None:
        """The event of the same program that ends where this one is told to start."""
        mine = event.control
        ran = [e for e in self.events.values() if e.cut_s is None and e.state not in NEVER_RAN]
        for other in ran:
            c = other.control
            if c.program == mine.program and c.start_s + c.duration_s == mine.start_s:
                return other
        return None

    def _changed(self, event: Event, control: Control, now_s: float) -> Iterator[str]:
        """What the server says of an event that is known."""
        if control.ask.wrong:
            yield f"event {control.mrid}: {control.ask.wrong}; it stays as it was told before"
            return
        event = replace(event, control=control)
        self.events[control.mrid] = event
        if control.status == CANCELLED:
            self._cancel(event, int(now_s), now_s)
        elif control.status == CANCELLED_SLOWLY and event.cut_s is None:
            most_s = max(abs(control.random_start_s), abs(control.random_duration_s))
            wait_s = self._random.randint(0, most_s)
            self._cancel(event, int(now_s) + (wait_s if event.state is State.ACTIVE else 0), now_s)
        elif control.status == SUPERSEDED_BY_SERVER:
            self._cover(event, tuple(control.ask.bounds_kw), now_s)

    def _cancel(self, event: Event, at_s: int, now_s: float) -> None:
        cut = replace(event, cut_s=at_s)
        over = replace(cut, state=State.CANCELLED) if at_s <= now_s else cut
        self._put(over, Code.CANCELLED, now_s)

    def _cover(self, event: Event, modes: Iterable[str], now_s: float) -> None:
        """Another event has taken some modes over; with the last of them it is superseded."""
        covered = tuple(sorted({*event.covered, *modes}))
        event = replace(event, covered=covered)
        self.events[event.control.mrid] = event
        if set(event.control.ask.bounds_kw) <= set(covered) and event.state is not State.SUPERSEDED:
            self._put(replace(event, state=State.SUPERSEDED), Code.SUPERSEDED, now_s)

    def _put(self, event: Event, code: Code, now_s: float) -> None:
        """Keep it, and have the server answered once where it asks for that."""
        control = event.control
        bit = RECEIVED_BIT if code is Code.RECEIVED else SPECIFIC_BIT
        if code not in event.said:
            event = replace(event, said=(*event.said, int(code)))
            if control.reply_to and control.replies & bit:
                reply = Reply(mrid=control.mrid, href=control.reply_to, code=int(code), at_s=int(now_s))
                self.replies = [*self.replies, reply][-REPLIES_MAX:]
        self.events[control.mrid] = event

    def _by_chance(self, most_s: int) -> int:
        found_s = self._random.randint(0, abs(most_s))
        return found_s if most_s >= 0 else -found_s

    def advance(self, now_s: float) -> None:
        """Starts, ends and takings-over that are due; answers that nobody takes are given up."""
        for event in list(self.events.values()):
            if event.state.is_over:
                continue
            if now_s >= event.end_s:
                self._end(event, now_s)
            elif event.state is State.SCHEDULED and now_s >= event.start_s:
                self.events[event.control.mrid] = replace(event, state=State.ACTIVE)
        for mode in {m for e in self.events.values() for m in e.control.ask.bounds_kw}:
            running = sorted(self._running(mode, now_s), key=lambda e: e.rank)
            for loser in running[1:]:
                self._cover(self.events[loser.control.mrid], (mode,), now_s)
        self.replies = [r for r in self.replies if now_s - r.at_s <= REPLY_S]

    def _end(self, event: Event, now_s: float) -> None:
        if event.cut_s is not None and event.end_s == event.cut_s:
            self._put(replace(event, state=State.CANCELLED), Code.CANCELLED, now_s)
        elif event.state is State.SUPERSEDED or event.control.ask.unmet:
            self.events[event.control.mrid] = replace(event, state=State.COMPLETED)
        else:
            done = event.held or not event.control.ask.bounds_kw
            code = Code.COMPLETED if done else Code.NO_PARTICIPATION
            self._put(replace(event, state=State.COMPLETED), code, now_s)

    def _running(self, mode: str, now_s: float) -> Iterator[Event]:
        """Events that may decide a mode now."""
        for event in self.events.values():
            whole = not event.control.ask.unmet and mode not in event.covered
            if event.state is State.ACTIVE and event.asks(mode) and whole and now_s < event.end_s:
                yield event

    def bound(self, mode: str, otherwise_kw: float | None, now_s: float) -> Bound | None:
        """What holds of a mode at a time of the server; None: nobody says.

        The event that goes first; else the default of the first program that has one for it; else
        `otherwise_kw`. An event that asks for more than can be done here, and without another event one
        that was taken over and has not ended, can only tighten that.
        """
        running = sorted(self._running(mode, now_s), key=lambda e: e.rank)
        bound = self._without(mode, otherwise_kw)
        if running:
            first = running[0]
            kw, mrid = first.control.ask.bounds_kw[mode], first.control.mrid
            bound = Bound(kw=kw, why=f"event {mrid}", until_s=first.end_s)
        for event in self.events.values():
            if not (event.asks(mode) and event.start_s <= now_s < event.end_s) or event.state.is_over:
                continue
            left = mode in event.covered and not running
            if left or event.control.ask.unmet:
                kw, mrid = event.control.ask.bounds_kw[mode], event.control.mrid
                why = (
                    f"event {mrid}, which {'was taken over' if left else 'cannot be done whole'}, is tighter"
                )
                if bound is None or kw < bound.kw:
                    bound = Bound(kw=kw, why=why, until_s=event.end_s)
        return bound

    def ahead(self, mode: str, otherwise_kw: float | None, now_s: float) -> tuple[Ahead, ...]:
        """What will hold of a mode from now on if the server tells nothing else: its events lived through."""
        alive = {mrid: e for mrid, e in self.events.items() if not e.state.is_over}
        twin = Book(self._random)
        twin.events, twin.programs = dict(alive), self.programs

        def at(at_s: float) -> Bound | None:
            twin.advance(at_s)
            return twin.bound(mode, otherwise_kw, at_s)

        return foreseen(at, (float(s) for e in alive.values() for s in (e.start_s, e.end_s)), now_s)

    def _without(self, mode: str, otherwise_kw: float | None) -> Bound | None:
        """What holds without an event."""
        for program in sorted(self.programs, key=lambda p: p.primacy):
            if program.default is not None and mode in program.default.bounds_kw:
                return Bound(kw=program.default.bounds_kw[mode], why=f"default of {program.href}")
        if otherwise_kw is None:
            return None
        return Bound(kw=otherwise_kw, why="otherwise_kw of the site file")

    def done(self, mrid: str, modes: Iterable[str], held: Mapping[str, bool], now_s: float) -> None:
        """The edge has done what the modes of an event ask; once that is so of all of them it has started."""
        event = self.events.get(mrid)
        if event is None or event.state is not State.ACTIVE or event.held:
            return
        if all(held.get(m, False) for m in modes):
            self._put(replace(event, held=True), Code.STARTED, now_s)

    def idle(self, now_s: float) -> None:
        """Events that ask nothing of a bound start without the edge."""
        for event in list(self.events.values()):
            ask = event.control.ask
            if event.state is State.ACTIVE and not ask.bounds_kw and not ask.unmet:
                self._put(event, Code.STARTED, now_s)

    def cannot(self, mrid: str, now_s: float) -> None:
        """The edge refuses what an event asks."""
        event = self.events.get(mrid)
        if event is not None and event.state is State.ACTIVE and not event.held:
            self._put(event, Code.NOT_APPLICABLE, now_s)

    def sent(self, reply: Reply) -> None:
        """The server has taken an answer."""
        self.replies = [r for r in self.replies if r != reply]

    def coming(self, now_s: float) -> list[Event]:
        """Events that have not begun, the next one first."""
        found = [e for e in self.events.values() if e.state is State.SCHEDULED and e.end_s > now_s]
        return sorted(found, key=lambda e: (e.start_s, e.rank))
