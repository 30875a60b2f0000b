"""One server of IEEE 2030.5: asked again and again, its events kept, held and answered."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

from connectors.expiry import Expiry
from connectors.ieee2030_5.documents import Documents
from connectors.ieee2030_5.events import Book, Event, State
from connectors.ieee2030_5.identity import Identity, identity_of
from connectors.ieee2030_5.kept import Known
from connectors.ieee2030_5.ratings import set_max_kw
from connectors.ieee2030_5.reading import Reader
from connectors.ieee2030_5.reporter import Reporter
from connectors.ieee2030_5.transport import Transport
from connectors.ieee2030_5.walk import Places, Walk
from connectors.northbound.door import Answer
from connectors.utility.ahead import Ahead
from connectors.utility.asker import NoAnswer, NotServed
from connectors.utility.bound import Bound
from connectors.utility.kept import read
from connectors.utility.session import SHOWN_MAX, Around, Contact, UtilitySession
from ems.errors import BadValue
from ems.records import JsonValue
from ems.utility import Sep2Server, Telling

RATE_S = 300.0  # between two rounds, where the server says nothing
PLACES_S_MIN, PLACES_S_MAX = 60.0, 900.0


class Sep2Session(UtilitySession):
    """One server.

    Parameters
    ----------
    random : of starts and durations.
    """

    def __init__(self, server: Sep2Server, around: Around, *, random: Random) -> None:
        super().__init__(server, around)
        self._server = server
        self._transport = Transport(server, around.folder, now=around.clock.now)
        self._book = Book(random)
        self._walk: Walk | None = None
        self._reporter: Reporter | None = None
        self._identity: Identity | None = None
        self._places: Places | None = None
        self._places_s = 0.0  # monotonic, when they were found
        self._unmet: set[str] = set()  # of defaults, as it was told last

    async def _begin(self) -> None:
        identity = identity_of(Path(self._transport.files.certificate))
        documents = await asyncio.to_thread(Documents)
        most_kw = set_max_kw(self._site, self._server)
        reader = Reader(self._server, documents.modes, most_kw)
        self._identity = identity
        self._walk = Walk(
            self._server, self._transport, documents, reader, lfdi=identity.lfdi, now=self._clock.now
        )
        self._reporter = Reporter(
            self._site, self._server, self._transport, documents, self._board, identity, self._clock
        )
        self._take_up(identity)

    def _take_up(self, identity: Identity) -> None:
        """What was known before, if it is of this server and of us, and not from a time to come."""
        try:
            known = read(Known, self._file)
        except BadValue as error:
            self._note("state", "not_kept", str(error))
            return
        if known is None or (known.where, known.lfdi) != (self._server.where, identity.lfdi):
            return
        self._book.events = {e.control.mrid: e for e in known.events}
        self._book.programs, self._book.replies = known.programs, list(known.replies)
        self._ahead_s = known.ahead_s
        self._heard_before(known.at, known.ahead_s)

    def _hang_up(self) -> None:
        self._transport.close()

    def _expiries(self) -> tuple[Expiry, ...]:
        return self._transport.expiries

    # ---- asking -----------------------------------------------------------------------------------

    async def _ask(self) -> None:
        assert self._walk is not None, "started"
        at, now_s, places = self._clock.now(), self._clock.monotonic_s(), self._places
        if places is None or now_s - self._places_s >= min(PLACES_S_MAX, max(PLACES_S_MIN, places.every_s)):
            places = await self._walk.places()
            self._places, self._places_s = places, now_s
        told = await self._walk.told(places)
        self._ahead_s = told.ahead_s  # the answer is as old as the first question
        self._contact = Contact(at, now_s, at.timestamp() + told.ahead_s)
        self._peer = "" if self._transport.peer is None else self._transport.peer.name
        for words in self._book.take(told, self._server_s()):
            self._note("event", "not_done", words)
        unmet = {f"default of {p.href}: {m}" for p in told.programs if p.default for m in p.default.unmet}
        for words in sorted(unmet - self._unmet):
            self._note("default", "not_done", f"{words}: nothing here can do that")
        self._unmet = unmet

    def _lost(self, error: NoAnswer) -> None:
        if error.status or isinstance(error, NotServed):
            self._places = None

    def _told_rate_s(self) -> float:
        return self._walk.rate_s if self._walk is not None and self._walk.rate_s > 0.0 else RATE_S

    async def _report(self) -> None:
        """Answers that are due, and how the plant does; only to a server that was heard."""
        if self._refused or self._places is None or self._reporter is None or self._contact is None:
            return
        try:
            async with asyncio.timeout(self._share_s):
                for reply in list(self._book.replies):
                    if not await self._reporter.answer(reply, self._note):
                        break
                    self._book.sent(reply)
                await self._reporter.report(self._places, self._server_s(), self._note)
        except TimeoutError:
            self._reporter.rest()
            self._note("reports", "not_taken", f"they take longer than {self._share_s:g} s")
        await self._keep()

    def _known(self) -> Known | None:
        if self._identity is None:
            return None
        return Known(
            where=self._server.where,
            lfdi=self._identity.lfdi,
            at=None if self._contact is None else self._contact.at,
            ahead_s=self._ahead_s,
            events=tuple(self._book.events.values()),
            programs=self._book.programs,
            replies=tuple(self._book.replies),
        )

    # ---- telling ----------------------------------------------------------------------------------

    def bounds(self) -> dict[str, Bound]:
        if not self._is_young:
            return {}
        now_s = self._server_s()
        found = ((t.word, self._book.bound(t.word, t.otherwise_kw, now_s)) for t in self._server.tellings)
        return {word: bound for word, bound in found if bound is not None}

    def step(self) -> None:
        """Move events on, and tell the edge what is due. Never waits."""
        now_s = self._server_s()
        self._book.advance(now_s)
        bounds = self.bounds()
        wanted_kw = self._wanted_kw(bounds)
        self._teller.tell(wanted_kw, self._peer)
        if self._reporter is not None:
            self._reporter.sample()
        self._book.idle(now_s)
        for event in [e for e in self._book.events.values() if e.state is State.ACTIVE and not e.held]:
            self._follow(event, bounds, wanted_kw, now_s)

    def _follow(
        self, event: Event, bounds: dict[str, Bound], wanted_kw: dict[str, float], now_s: float
    ) -> None:
        """Whether the edge does what an event asks; in shadow nothing is done, whatever it answers."""
        if self._board.now().get("ems.shadow").usable != 0.0:
            return
        mrid = event.control.mrid
        asked_kw = {m: kw for m, kw in event.control.ask.bounds_kw.items() if m not in event.covered}
        told = {
            t.word: {self._teller.held(wanted_kw, x) for x, _ in t.shares}
            for t in self._server.tellings
            if t.word in asked_kw and t.word in bounds and bounds[t.word].kw <= asked_kw[t.word]
        }
        if asked_kw and not event.control.ask.unmet:
            held = {word: answers == {Answer.DONE} for word, answers in told.items()}
            self._book.done(mrid, asked_kw, held, now_s)
        if any(Answer.REFUSED in answers for answers in told.values()):
            self._book.cannot(mrid, now_s)

    # ---- how it does ------------------------------------------------------------------------------

    def _foreseen(self, telling: Telling, now_s: float) -> tuple[Ahead, ...]:
        return self._book.ahead(telling.word, telling.otherwise_kw, now_s)

    def status(self) -> dict[str, JsonValue]:
        fields = super().status() | {
            "lfdi": "" if self._identity is None else self._identity.lfdi,
            "requests": self._transport.asked,
            "replies_due": len(self._book.replies),
            "programs": list(self._programs()),
            "events": list(self._event_rows(self._server_s())),
        }
        return fields if self._reporter is None else fields | self._reporter.status()

    def _programs(self) -> Iterator[JsonValue]:
        for p in sorted(self._book.programs, key=lambda p: p.primacy):
            default: dict[str, JsonValue] = {} if p.default is None else dict(p.default.bounds_kw)
            unmet: list[JsonValue] = [] if p.default is None else list(p.default.unmet)
            yield {
                "href": p.href,
                "title": p.title,
                "primacy": p.primacy,
                "default_kw": default,
                "unmet": unmet,
            }

    def _event_rows(self, now_s: float) -> Iterator[JsonValue]:
        """What runs, then what comes, then what was over last."""
        events = self._book.events.values()
        running = [e for e in events if e.state in (State.ACTIVE, State.SUPERSEDED)]
        over = sorted((e for e in events if e.state.is_over), key=lambda e: -e.end_s)
        for e in [*running, *self._book.coming(now_s), *over][:SHOWN_MAX]:
            yield {
                "mrid": e.control.mrid,
                "title": e.control.title,
                "program": e.control.program,
                "state": e.state.value,
                "held": e.held,
                "start_s": e.start_s,
                "end_s": e.end_s,
                "bounds_kw": dict(e.control.ask.bounds_kw),
                "unmet": [*e.control.ask.unmet, *([e.control.ask.wrong] if e.control.ask.wrong else [])],
                "said": list(e.said),
            }
