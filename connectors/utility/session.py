"""One server of a utility: asked again and again, what it says kept, its bounds told to the edge.

The network is waited for by a task of its own; `step` never waits. What holds is reckoned from what is known,
so that a server that hangs, is gone or lies costs neither a cycle of the edge nor a beat of the telling.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from connectors.expiry import EXPIRY_DAYS, Expiry, ending
from connectors.northbound.client import Client
from connectors.northbound.door import DeskDoor
from connectors.northbound.image import Board
from connectors.northbound.records import Records
from connectors.utility.ahead import Ahead
from connectors.utility.asker import NoAnswer, NotBelieved, NotServed, Untrusted
from connectors.utility.bound import Bound
from connectors.utility.kept import file_of, write
from connectors.utility.teller import Teller
from ems.clock import Clock, wall_sleep
from ems.errors import EmsError
from ems.records import Bucket, JsonValue
from ems.site import Site
from ems.utility import Telling, UtilityServer

log = structlog.get_logger()

RATE_S_MIN = 10.0  # between two rounds, at least
FRESH_TIMES = 3.0  # rounds in the age that is allowed
RETRY_S = 10.0  # after the first failure, then twice as long each time
BEAT_S = 0.5
ALARMED = ("not_done", "not_believed")  # refused in a way that a person should know
KEEP_S = 60.0  # so often the time of the last contact alone is worth a write
SHOWN_MAX = 20  # events in the status row
FORESEE_S = 30.0  # so long what comes is not reckoned anew without a new answer


@dataclass(frozen=True, slots=True)
class Contact:
    """The last whole answer, by the time at which it was asked for."""

    at: datetime  # our clock
    at_s: float  # monotonic
    server_s: float  # the clock that events go by, then


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
    means: Callable[[datetime, datetime], Sequence[Bucket]] | None = None  # power at the POI by the minute


class UtilitySession(ABC):
    """One server. `start` begins to ask; `step` reckons and tells, and is called about each second."""

    def __init__(self, server: UtilityServer, around: Around) -> None:
        clock = around.clock
        self.name, self._asked_server, self._clock = server.id, server, clock
        self._records, self._board, self._site = around.records, around.board, around.site
        self._file = file_of(around.directory, server.id)
        limits = {x.id: x for x in around.site.control.limits}
        self._teller = Teller(server, limits, around.board, around.door, monotonic_s=clock.monotonic_s)
        self._contact: Contact | None = None
        self._ahead_s = 0.0
        self._next_s = 0.0  # monotonic, when it is asked again
        self._failures = 0
        self.rounds = 0  # asked since the start, in vain or not
        self._refused = ""  # why the last round brought nothing
        self._last_refused: tuple[datetime, str] | None = None
        self._peer = ""
        self._kept: Any = None
        self._kept_s = 0.0  # monotonic, when that was
        self._ahead_told: list[JsonValue] = []
        self._ahead_of, self._ahead_at_s = -1, 0.0  # round and monotonic time for which that was reckoned
        self._keep_next_s = 0.0  # monotonic: a disk that takes nothing is left alone until then
        self._task: asyncio.Task[None] | None = None

    # ---- of each protocol -------------------------------------------------------------------------

    @abstractmethod
    async def _begin(self) -> None:
        """Take up what was kept. Raises EmsError: our own credentials cannot be used."""

    @abstractmethod
    async def _ask(self) -> None:
        """One whole round. Raises NoAnswer, NotBelieved: nothing of it counts."""

    @abstractmethod
    def _hang_up(self) -> None:
        """End every connection."""

    @abstractmethod
    def _told_rate_s(self) -> float:
        """Until the next round, as the server or the site file wants it [s]."""

    @abstractmethod
    def bounds(self) -> dict[str, Bound]:
        """What holds now, by mode; nothing where the server was heard too long ago."""

    @abstractmethod
    def _foreseen(self, telling: Telling, now_s: float) -> tuple[Ahead, ...]:
        """What the server has told of a mode from now on."""

    @abstractmethod
    def _known(self) -> Any:
        """What is kept over a restart, a dataclass with `at` and `ahead_s`; None: nothing yet."""

    @abstractmethod
    def _expiries(self) -> tuple[Expiry, ...]:
        """When certificates of both sides end."""

    async def _report(self) -> None:
        """What is told to the server between two rounds: nothing, unless a protocol has something."""
        return

    def _lost(self, error: NoAnswer) -> None:
        """A round had no answer: what is known of where things are there may be another."""
        return

    # ---- asking -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what was kept, and begin to ask. Raises EmsError: our own credentials cannot be used."""
        await self._begin()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._hang_up()

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
            self._contact = None  # it says itself that it tells us nothing
            self._lost(error)
            self._failed("not_served", error, 0.0)
        except NoAnswer as error:
            self._lost(error)
            self._failed("no_answer", error, error.retry_s)
        except NotBelieved as error:
            self._failed("not_believed", error, 0.0)
        else:
            self._failures, self._refused = 0, ""
            self._next_s = self._clock.monotonic_s() + self._rate_s()
        finally:
            self._hang_up()
        await self._keep()
        self.rounds += 1

    @property
    def _share_s(self) -> float:
        """A round, or what is told to the server at once, takes no longer: what is known stays young."""
        return self._asked_server.age_s_max / FRESH_TIMES

    def _rate_s(self) -> float:
        """Until the next round: as it is wanted, as far as what the server said stays young enough."""
        return max(RATE_S_MIN, min(self._told_rate_s(), self._share_s))

    def _failed(self, code: str, error: EmsError, retry_s: float) -> None:
        why = str(error)
        if why != self._refused:
            self._note("round", code, why)
            log.warning("utility.round.failed", server=self.name, code=code, why=why)
        self._refused = why
        wait_s = min(RETRY_S * 2.0 ** min(self._failures, 10), self._rate_s())
        self._failures += 1
        most_s = self._asked_server.age_s_max
        self._next_s = self._clock.monotonic_s() + max(wait_s, min(retry_s, most_s))

    async def _keep(self) -> None:
        """Over a restart. Where the disk does not take it, all goes on, and is told."""
        known = self._known()
        if known is None:
            return
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

    def _heard_before(self, at: datetime | None, ahead_s: float) -> None:
        """The last contact before a restart, unless it is from a time to come."""
        now, now_s = self._clock.now(), self._clock.monotonic_s()
        if at is None or at > now:
            return
        age_s = (now - at).total_seconds()
        self._contact = Contact(at, now_s - age_s, at.timestamp() + ahead_s)

    def _note(self, what: str, code: str, why: str) -> None:
        """For whoever asks what was refused."""
        if code in ALARMED:
            self._last_refused = self._clock.now(), why
        client = Client(server=self.name, address=self._asked_server.host, name=self._peer)
        self._records.refused(client, what, code, why)

    # ---- telling ----------------------------------------------------------------------------------

    def _server_s(self) -> float:
        """The clock that events go by [s], carried on by our monotonic one."""
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
        return age_s is not None and 0.0 <= age_s <= self._asked_server.age_s_max

    def step(self) -> None:
        """Tell the edge what is due. Never waits."""
        self._teller.tell(self._wanted_kw(self.bounds()), self._peer)

    def _wanted_kw(self, bounds: dict[str, Bound]) -> dict[str, float]:
        shares = [(t.word, x, ratio) for t in self._asked_server.tellings for x, ratio in t.shares]
        return {x: bounds[word].kw * ratio for word, x, ratio in shares if word in bounds}

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
        age_s = self._age_s()
        fields: dict[str, JsonValue] = {
            "protocol": self._asked_server.protocol.value,
            "trouble": self._trouble,
            "where": self._asked_server.where,
            "peer": self._peer,
            "heard_at": None if self._contact is None else self._contact.at.isoformat(),
            "age_s": None if age_s is None else round(age_s, 1),
            "asked_in_vain": self._refused,
            "ahead_s": round(self._ahead_s, 1),
            "clock": self._clock_words(),
            "certificates": "; ".join(ending(self._expiries(), self._clock.now(), EXPIRY_DAYS)),
            "bounds": list(self._bound_rows()),
            "ahead": self._ahead_rows(),
        }
        if self._last_refused is not None:
            at, fields["refused_why"] = self._last_refused
            fields["refused_at"] = at.isoformat()
        return fields

    def _clock_words(self) -> str:
        """Why the clocks are worth an alarm; "": they agree, or nobody knows."""
        if self._contact is None or abs(self._ahead_s) <= self._asked_server.clock_s_max:
            return ""
        way = "ahead of" if self._ahead_s > 0.0 else "behind"
        return f"its clock is {abs(self._ahead_s):.0f} s {way} ours; its events go by {self._events_go_by}"

    @property
    def _events_go_by(self) -> str:
        return "its own"

    def _bound_rows(self) -> Iterator[JsonValue]:
        bounds = self.bounds()
        wanted_kw = self._wanted_kw(bounds)
        for telling in self._asked_server.tellings:
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

    def _ahead_rows(self) -> list[JsonValue]:
        """What limits will be told in times to come, by our clock; reckoned anew after each round."""
        now_s = self._clock.monotonic_s()
        if not self._is_young:
            return []
        if self._ahead_of == self.rounds and now_s - self._ahead_at_s < FORESEE_S:
            return self._ahead_told
        server_s, now = self._server_s(), self._clock.now()
        self._ahead_of, self._ahead_at_s = self.rounds, now_s
        self._ahead_told = [
            {
                "limit": limit,
                "kw": ahead.kw * ratio,
                "start": (now + timedelta(seconds=ahead.start_s - server_s)).isoformat(),
                "end": (now + timedelta(seconds=ahead.end_s - server_s)).isoformat(),
            }
            for telling in self._asked_server.tellings
            for ahead in self._foreseen(telling, server_s)
            for limit, ratio in telling.shares
        ]
        return self._ahead_told
