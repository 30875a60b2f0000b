"""One VTN of OpenADR 3: its programs and events asked for again and again, its bounds told to the edge."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Any
from urllib.parse import quote

from connectors.expiry import Expiry
from connectors.openadr3.book import Book
from connectors.openadr3.reading import Wrong, id_of
from connectors.openadr3.reporter import Reporter
from connectors.openadr3.seller import Seller, Sold
from connectors.openadr3.told import Event, Program
from connectors.openadr3.transport import Transport
from connectors.utility.ahead import Ahead
from connectors.utility.asker import NoAnswer, NotBelieved
from connectors.utility.bound import Bound
from connectors.utility.kept import read
from connectors.utility.session import SHOWN_MAX, Around, Contact, UtilitySession
from ems.errors import BadValue, EmsError
from ems.records import JsonValue
from ems.utility import Telling, VtnServer

PAGE = 50  # most that the standard lets be asked for at once
PROGRAMS_MAX, EVENTS_MAX = 1000, 1000
STATES = ("running", "to come", "without times", "over")  # of an event, in the order in which they are shown
REPORTS_S = 10.0  # what is told in a round takes no longer
AHEAD_S_MAX = 3600.0  # a clock that is further off is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a VTN, over a restart."""

    where: str  # host and port
    client_id: str  # ours, when it was told
    seed: str  # of chance
    at: datetime | None = None  # of the last whole answer, our clock; None: there was none
    ahead_s: float = 0.0  # clock of the VTN less ours
    events: tuple[Event, ...] = ()
    programs: tuple[Program, ...] = ()
    heard_s: dict[str, float]
    sold: Sold | None = None  # the prices that were handed on last
    reported: dict[str, str] = field(default_factory=dict)  # by id of an event, what became of its report


class VtnSession(UtilitySession):
    """One VTN. Events go by our own clock: their times are absolute, and no resource of it tells the time."""

    def __init__(self, server: VtnServer, around: Around) -> None:
        super().__init__(server, around)
        self._server = server
        clock = around.clock
        self._transport = Transport(server, around.folder, now=clock.now, monotonic_s=clock.monotonic_s)
        self._book = Book(server, token_hex(16), around.site.currency)
        self._reporter: Reporter | None = None
        if server.post_meter and around.means is not None:
            resource = around.site.hierarchy.plant
            self._reporter = Reporter(server, self._transport, resource, around.means)
        self._seller = None if server.prices is None else Seller(server, server.prices, around.folder)

    async def _begin(self) -> None:
        await asyncio.to_thread(self._transport.secret)
        try:
            known = read(Known, self._file)
        except BadValue as error:
            self._note("state", "not_kept", str(error))
            return
        if known is None or (known.where, known.client_id) != (self._server.where, self._server.client_id):
            return
        self._book = Book(self._server, known.seed, self._site.currency)
        if self._seller is not None:
            self._seller.last = known.sold
        if self._reporter is not None:
            self._reporter.told = dict(known.reported)
        self._book.events = {e.id: e for e in known.events}
        self._book.programs = {p.id: p for p in known.programs}
        self._book.heard_s = dict(known.heard_s)
        self._heard_before(known.at, 0.0)

    def _known(self) -> Known:
        return Known(
            where=self._server.where,
            client_id=self._server.client_id,
            seed=self._book.seed,
            at=None if self._contact is None else self._contact.at,
            ahead_s=self._ahead_s,
            events=tuple(self._book.events.values()),
            programs=tuple(self._book.programs.values()),
            heard_s=dict(self._book.heard_s),
            sold=None if self._seller is None else self._seller.last,
            reported={} if self._reporter is None else dict(self._reporter.told),
        )

    def _hang_up(self) -> None:
        self._transport.close()

    def _expiries(self) -> tuple[Expiry, ...]:
        return self._transport.expiries

    def _told_rate_s(self) -> float:
        return self._server.every_s

    @property
    def _events_go_by(self) -> str:
        return "ours"

    # ---- asking -----------------------------------------------------------------------------------

    async def _ask(self) -> None:
        at, now_s = self._clock.now(), self._clock.monotonic_s()
        programs = await self._every("programs", "", PROGRAMS_MAX)
        events: list[Any] = []
        for query in self._questions(programs):
            known = {_id(one, "events") for one in events}
            more = await self._every("events", query, EVENTS_MAX)
            events += [one for one in more if _id(one, "events") not in known]
        if len(events) > EVENTS_MAX:
            raise NotBelieved(f"/events: found more than {EVENTS_MAX} of them; allowed: {EVENTS_MAX}")
        told_s = self._transport.ahead_s
        ahead_s = 0.0 if told_s is None else told_s
        if abs(ahead_s) > AHEAD_S_MAX:
            raise NotBelieved(f"its clock is {ahead_s:.0f} s from ours; allowed: {AHEAD_S_MAX:g} s")
        words = self._book.take(programs, events, at.timestamp())
        self._ahead_s = ahead_s
        self._contact = Contact(at, now_s, at.timestamp())  # the answer is as old as the first question
        self._peer = self._transport.peer
        for one in words:
            self._note("event", "not_done", one)
        if self._seller is not None:
            told = tuple(self._book.events.values())
            if why := await asyncio.to_thread(self._seller.sell, told, at):
                self._note("prices", "not_believed", why)
        await self._tell_back()

    async def _tell_back(self) -> None:
        """Reports that are due; whatever becomes of them, the round counts."""
        if self._reporter is None:
            return
        try:
            async with asyncio.timeout(REPORTS_S):
                told = tuple(self._book.events.values())
                await self._reporter.report(told, self._server_s(), self._book.seed, self._note)
        except TimeoutError:
            self._note("report", "no_answer", f"they take longer than {REPORTS_S:g} s")
        except EmsError as error:  # also of the historian
            self._note("report", "no_answer", str(error))

    def _questions(self, programs: list[Any]) -> list[str]:
        """What is asked of the events: all of them, or those of each program that counts."""
        if not self._server.programs:
            return [""]
        wanted = [p for p in programs if p.get("programName") in self._server.programs]
        return [f"programID={_id(p, 'programs')}&" for p in wanted]

    async def _every(self, what: str, query: str, most: int) -> list[Any]:
        """All objects of a list, and of those that only questions with our targets are answered by."""
        found = await self._all(what, query, most)
        for target in self._server.targets if self._server.ask_targets else ():
            known = {_id(one, what) for one in found}
            more = await self._all(what, f"{query}targets={quote(target, safe='')}&", most)
            found += [one for one in more if _id(one, what) not in known]
        return found

    async def _all(self, what: str, query: str, most: int) -> list[Any]:
        """All objects of a list, page by page.

        Each page begins with the last object of the one before: a list that changes meanwhile is found out,
        and asked for again. The last page holds nothing new, whatever the VTN makes of `limit`.

        Raises
        ------
        NoAnswer : there is none, or it changed.
        NotBelieved : it is no list of objects.
        """
        found: list[Any] = []
        while True:
            skip = len(found) - (len(found) > 1)
            path = f"{self._server.path.rstrip('/')}/{what}?{query}skip={skip}&limit={PAGE}"
            page = await self._transport.get(path)
            if not isinstance(page, list):
                raise NotBelieved(f"/{what}: found no list; allowed: a list of objects")
            ids = [_id(one, what) for one in page]
            known = [_id(one, what) for one in found]
            if not found and page:
                found = page
            elif ids == known or (not ids and len(known) == 1):  # nothing; one; or all, whatever is skipped
                return found
            elif len(known) == 1:
                raise NoAnswer(f"/{what}: its pages are of one object; allowed: two or more")
            elif not ids or ids[0] != known[-1]:
                raise NoAnswer(f"/{what}: it changed while it was read")
            elif len(page) == 1:
                return found
            else:
                found += page[1:]
            if len(found) > most:
                raise NotBelieved(f"/{what}: found more than {most} of them; allowed: {most}")

    # ---- telling ----------------------------------------------------------------------------------

    def bounds(self) -> dict[str, Bound]:
        """What holds now, by type of payload; nothing where the VTN was heard too long ago."""
        if not self._is_young:
            return {}
        now_s = self._server_s()
        found = ((t.word, self._book.bound(t.word, t.otherwise_kw, now_s)) for t in self._server.tellings)
        return {word: bound for word, bound in found if bound is not None}

    def _foreseen(self, telling: Telling, now_s: float) -> tuple[Ahead, ...]:
        return self._book.ahead(telling.word, telling.otherwise_kw, now_s)

    def status(self) -> dict[str, JsonValue]:
        """How it does, for the status row. Raises what is a bug."""
        return super().status() | {
            "client_id": self._server.client_id,
            "requests": self._transport.asked,
            "others": self._book.others,
            "programs": [{"id": p.id, "name": p.name} for p in self._book.programs.values()][:SHOWN_MAX],
            "events": list(self._event_rows(self._server_s())),
            "prices": None if self._seller is None else self._seller.status(),
        }

    def _event_rows(self, now_s: float) -> Iterator[JsonValue]:
        """What runs, then what comes, then what is over."""
        rows = [self._event_row(event, now_s) for event in self._book.events.values()]
        rows.sort(key=lambda r: (STATES.index(str(r["state"])), str(r["id"])))
        yield from rows[:SHOWN_MAX]

    def _event_row(self, event: Event, now_s: float) -> dict[str, JsonValue]:
        start_s, end_s = event.span(self._book.seed)
        now_kw: dict[str, JsonValue] = {}
        for window in event.at(now_s, self._book.seed):
            now_kw |= window.kw
        program = self._book.programs.get(event.program)
        return {
            "id": event.id,
            "state": _state(start_s, end_s, now_s),
            "title": event.title,
            "program": event.program if program is None else program.name,
            "priority": event.priority,
            "start_s": start_s,
            "end_s": end_s,
            "intervals": len(event.steps),
            "now_kw": now_kw,
            "unmet": list(event.unmet),
            "reports": list(event.reports),
            "wants_demand": event.wants_demand,
            "reported": None if self._reporter is None else self._reporter.told.get(event.id),
        }


def _state(start_s: float | None, end_s: float | None, now_s: float) -> str:
    """Where an event is between its start and its end."""
    if start_s is None:
        return "without times"
    if now_s < start_s:
        return "to come"
    return "over" if end_s is not None and now_s >= end_s else "running"


def _id(one: Any, what: str) -> str:
    """The id of an object in a list. Raises NotBelieved."""
    try:
        return id_of(one)
    except Wrong as wrong:
        raise NotBelieved(f"/{what}: {wrong}") from None
