"""One server of a utility: asked again and again, its events kept, its bounds told to the edge.

The network is waited for by a task of its own; `step` never waits. What holds is reckoned from what is known,
so that a server that hangs, is gone or lies costs neither a cycle of the edge nor a beat of the telling.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from random import Random

import structlog

from connectors.expiry import EXPIRY_DAYS, ending
from connectors.ieee2030_5.documents import BadDocument, Documents
from connectors.ieee2030_5.events import Book, Bound, Event, State
from connectors.ieee2030_5.identity import Identity, identity_of
from connectors.ieee2030_5.kept import Known, file_of, read, write
from connectors.ieee2030_5.ratings import set_max_kw
from connectors.ieee2030_5.reading import Reader
from connectors.ieee2030_5.reporter import Reporter
from connectors.ieee2030_5.teller import Teller
from connectors.ieee2030_5.transport import NoAnswer, Transport, Untrusted
from connectors.ieee2030_5.walk import NotServed, Places, Walk
from connectors.northbound.client import Client
from connectors.northbound.door import Answer, DeskDoor
from connectors.northbound.image import Board
from connectors.northbound.records import Records
from ems.clock import Clock, wall_sleep
from ems.errors import BadValue, EmsError
from ems.records import JsonValue
from ems.site import Site
from ems.utility import UtilityServer

log = structlog.get_logger()

RATE_S, RATE_S_MIN = 300.0, 10.0  # between two rounds, where the server says nothing; at least
PLACES_S_MIN, PLACES_S_MAX = 60.0, 900.0
FRESH_TIMES = 3.0  # rounds in the age that is allowed
RETRY_S = 10.0  # after the first failure, then twice as long each time
BEAT_S = 0.5
ALARMED = ("not_done", "not_believed")  # refused in a way that a person should know
KEEP_S = 60.0  # so often the time of the last contact alone is worth a write
SHOWN_MAX = 20  # events in the status row


@dataclass(frozen=True, slots=True)
class _Contact:
    """The last whole answer, by the time at which it was asked for."""

    at: datetime  # our clock
    at_s: float  # monotonic
    server_s: float  # clock of the server then


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """The plant that is told bounds, and where what is known of its servers is kept."""

    site: Site
    board: Board
    door: DeskDoor
    records: Records
    directory: Path  # of the running plant
    folder: Path  # files of the site are relative to it
    clock: Clock


class UtilitySession:
    """One server. `start` begins to ask; `step` reckons and tells, and is called about each second.

    Parameters
    ----------
    random : of starts and durations.
    """

    def __init__(self, server: UtilityServer, around: Around, *, random: Random) -> None:
        site, board, door, clock = around.site, around.board, around.door, around.clock
        self.name, self._server, self._clock, self._records = server.id, server, clock, around.records
        self._file = file_of(around.directory, server.id)
        limits = {x.id: x for x in site.control.limits}
        self._teller = Teller(server, limits, board, door, monotonic_s=clock.monotonic_s)
        self._transport = Transport(server, around.folder, now=clock.now)
        self._site, self._board = site, board
        self._book = Book(random)
        self._walk: Walk | None = None
        self._reporter: Reporter | None = None
        self._identity: Identity | None = None
        self._contact: _Contact | None = None
        self._ahead_s = 0.0
        self._places: Places | None = None
        self._places_s = 0.0  # monotonic, when they were found
        self._next_s = 0.0  # monotonic, when it is asked again
        self._failures = 0
        self.rounds = 0  # asked since the start, in vain or not
        self._refused = ""  # why the last round brought nothing
        self._last_refused: tuple[datetime, str] | None = None
        self._unmet: set[str] = set()  # of defaults, as it was told last
        self._peer = ""
        self._kept: Known | None = None
        self._kept_s = 0.0  # monotonic, when that was
        self._keep_next_s = 0.0  # monotonic: a disk that takes nothing is left alone until then
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what was kept, and begin to ask. Raises EmsError: our own certificate cannot be used."""
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
        self._task = asyncio.get_running_loop().create_task(self._run())

    def _take_up(self, identity: Identity) -> None:
        """What was known before, if it is of this server and of us, and not from a time to come."""
        try:
            known = read(self._file)
        except BadValue as error:
            self._note("state", "not_kept", str(error))
            return
        if known is None or (known.where, known.lfdi) != (self._server.where, identity.lfdi):
            return
        self._book.events = {e.control.mrid: e for e in known.events}
        self._book.programs, self._book.replies = known.programs, list(known.replies)
        self._ahead_s = known.ahead_s
        now, now_s = self._clock.now(), self._clock.monotonic_s()
        if known.at is None or known.at > now:
            return
        age_s = (now - known.at).total_seconds()
        self._contact = _Contact(known.at, now_s - age_s, known.at.timestamp() + known.ahead_s)

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._transport.close()

    # ---- asking -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if self._clock.monotonic_s() >= self._next_s:
                await self._round()
            await self._report()
            await wall_sleep(BEAT_S)

    async def _round(self) -> None:
        """Ask for everything once; whatever fails is told, and asked for again later."""
        try:
            async with asyncio.timeout(self._share_s):
                await self._ask()
        except TimeoutError:
            self._failed("no_answer", EmsError(f"a round takes longer than {self._share_s:g} s"), 0.0)
        except Untrusted as error:
            self._failed("not_trusted", error, error.retry_s)
        except NotServed as error:
            self._contact = self._places = None  # it says itself that it tells us nothing
            self._failed("not_served", error, 0.0)
        except NoAnswer as error:
            self._places = None if error.status else self._places
            self._failed("no_answer", error, error.retry_s)
        except BadDocument as error:
            self._failed("not_believed", error, 0.0)
        else:
            self._failures, self._refused = 0, ""
            self._next_s = self._clock.monotonic_s() + self._rate_s()
        finally:
            self._transport.close()
        await self._keep()
        self.rounds += 1

    async def _ask(self) -> None:
        """Raises NoAnswer, BadDocument."""
        assert self._walk is not None, "started"
        at, now_s, places = self._clock.now(), self._clock.monotonic_s(), self._places
        if places is None or now_s - self._places_s >= min(PLACES_S_MAX, max(PLACES_S_MIN, places.every_s)):
            places = await self._walk.places()
            self._places, self._places_s = places, now_s
        told = await self._walk.told(places)
        self._ahead_s = told.ahead_s  # the answer is as old as the first question
        self._contact = _Contact(at, now_s, at.timestamp() + told.ahead_s)
        self._peer = "" if self._transport.peer is None else self._transport.peer.name
        for words in self._book.take(told, self._server_s()):
            self._note("event", "not_done", words)
        unmet = {f"default of {p.href}: {m}" for p in told.programs if p.default for m in p.default.unmet}
        for words in sorted(unmet - self._unmet):
            self._note("default", "not_done", f"{words}: nothing here can do that")
        self._unmet = unmet

    @property
    def _share_s(self) -> float:
        """A round, or what is told to the server at once, takes no longer: what is known stays young."""
        return self._server.age_s_max / FRESH_TIMES

    def _rate_s(self) -> float:
        """Until the next round: as the server wants it, as far as what it said stays young enough."""
        told_s = self._walk.rate_s if self._walk is not None and self._walk.rate_s > 0.0 else RATE_S
        return max(RATE_S_MIN, min(told_s, self._share_s))

    def _failed(self, code: str, error: EmsError, retry_s: float) -> None:
        why = str(error)
        if why != self._refused:
            self._note("round", code, why)
            log.warning("utility.round.failed", server=self.name, code=code, why=why)
        self._refused = why
        wait_s = min(RETRY_S * 2.0 ** min(self._failures, 10), self._rate_s())
        self._failures += 1
        self._next_s = self._clock.monotonic_s() + max(wait_s, min(retry_s, self._server.age_s_max))

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

    async def _keep(self) -> None:
        """Over a restart. Where the disk does not take it, all goes on, and is told."""
        if self._identity is None:
            return
        known = Known(
            where=self._server.where,
            lfdi=self._identity.lfdi,
            at=None if self._contact is None else self._contact.at,
            ahead_s=self._ahead_s,
            events=tuple(self._book.events.values()),
            programs=self._book.programs,
            replies=tuple(self._book.replies),
        )
        now_s = self._clock.monotonic_s()
        young = now_s - self._kept_s < KEEP_S  # an older contact in the file only makes us more careful
        if (
            self._kept is not None
            and young
            and known == replace(self._kept, at=known.at, ahead_s=known.ahead_s)
        ):
            return
        if now_s < self._keep_next_s:
            return
        try:
            await asyncio.to_thread(write, self._file, known)
        except OSError as error:
            self._keep_next_s = now_s + KEEP_S
            self._note("state", "not_kept", f"{self._file.name} cannot be written: {error.strerror}")
        else:
            self._kept, self._kept_s = known, now_s

    def _note(self, what: str, code: str, why: str) -> None:
        """For whoever asks what was refused."""
        if code in ALARMED:
            self._last_refused = self._clock.now(), why
        client = Client(server=self.name, address=self._server.host, name=self._peer)
        self._records.refused(client, what, code, why)

    # ---- telling ----------------------------------------------------------------------------------

    def _server_s(self) -> float:
        """Clock of the server now [s], carried on by our monotonic one."""
        contact = self._contact
        if contact is None:
            return self._clock.now().timestamp() + self._ahead_s
        return contact.server_s + self._clock.monotonic_s() - contact.at_s

    def _age_s(self) -> float | None:
        """Since the last whole answer [s]; None: there was none."""
        return None if self._contact is None else self._clock.monotonic_s() - self._contact.at_s

    @property
    def _is_young(self) -> bool:
        age_s = self._age_s()
        return age_s is not None and 0.0 <= age_s <= self._server.age_s_max

    def bounds(self) -> dict[str, Bound]:
        """What holds now, by mode; nothing where the server was heard too long ago."""
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

    def _wanted_kw(self, bounds: dict[str, Bound]) -> dict[str, float]:
        shares = [(t.word, x, ratio) for t in self._server.tellings for x, ratio in t.shares]
        return {x: bounds[word].kw * ratio for word, x, ratio in shares if word in bounds}

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

    @property
    def _trouble(self) -> str:
        age_s = self._age_s()
        if self._refused and not self._is_young:
            return self._refused
        if age_s is None:
            return "not heard yet"
        assert self._contact is not None, "it has an age"
        return "" if self._is_young else f"not heard since {self._contact.at:%Y-%m-%d %H:%M:%S} UTC"

    def status(self) -> dict[str, JsonValue]:
        """How it does, for the status row. Raises what is a bug."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        now_s, age_s = self._server_s(), self._age_s()
        fields: dict[str, JsonValue] = {
            "trouble": self._trouble,
            "where": self._server.where,
            "peer": self._peer,
            "lfdi": "" if self._identity is None else self._identity.lfdi,
            "heard_at": None if self._contact is None else self._contact.at.isoformat(),
            "age_s": None if age_s is None else round(age_s, 1),
            "asked_in_vain": self._refused,
            "ahead_s": round(self._ahead_s, 1),
            "clock": self._clock_words(),
            "certificates": "; ".join(ending(self._transport.expiries, self._clock.now(), EXPIRY_DAYS)),
            "requests": self._transport.asked,
            "replies_due": len(self._book.replies),
            "programs": list(self._programs()),
            "bounds": list(self._bound_rows()),
            "events": list(self._event_rows(now_s)),
        }
        if self._last_refused is not None:
            at, fields["refused_why"] = self._last_refused
            fields["refused_at"] = at.isoformat()
        if self._reporter is not None:
            fields |= self._reporter.status()
        return fields

    def _clock_words(self) -> str:
        """Why the clocks are worth an alarm; "": they agree, or nobody knows."""
        if self._contact is None or abs(self._ahead_s) <= self._server.clock_s_max:
            return ""
        way = "ahead of" if self._ahead_s > 0.0 else "behind"
        return f"its clock is {abs(self._ahead_s):.0f} s {way} ours; its events go by its own"

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

    def _bound_rows(self) -> Iterator[JsonValue]:
        bounds = self.bounds()
        wanted_kw = self._wanted_kw(bounds)
        for telling in self._server.tellings:
            bound = bounds.get(telling.word)
            for limit, _ in telling.shares:
                last = self._teller.last.get(limit)
                yield {
                    "mode": telling.word,
                    "limit": limit,
                    "kw": wanted_kw.get(limit),
                    "why": "nothing is told" if bound is None else bound.why,
                    "until_s": None if bound is None else bound.until_s,
                    "told_kw": None if last is None else last.kw,
                    "edge": self._teller.held(wanted_kw, limit).name.lower(),
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
