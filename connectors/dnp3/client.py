"""DNP3 link: one TCP connection to one outstation, points read with their flags, outputs operated."""

import asyncio
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from connectors.dnp3 import session as dnp
from connectors.dnp3.control import operate
from connectors.dnp3.events import EPOCH, EventLog, meaning, time_of, timed_events
from connectors.dnp3.objects import MalformedObjects, Told, all_of, attribute_of, ranges
from connectors.dnp3.session import Session
from connectors.endpoint import Endpoint
from connectors.link import (
    Latest,
    LinkError,
    NotSent,
    PointValue,
    WriteReply,
    as_decided,
    in_turn,
    raw_now,
)
from connectors.point_map import PointCodec
from connectors.raw_types import Raw
from connectors.recorded import Receipt, no_collector
from connectors.wire_log import QUIET
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.dnp3 import VARIATIONS, Place, parse_attribute, parse_place
from ems.errors import BadValue
from ems.site import Connection
from ems.telemetry import Quality

EVENTS = b"".join(all_of(60, variation) for variation in (2, 3, 4))
CLASS_0 = all_of(60, 1)
CLEAR_RESTART = bytes([80, 1, 0, 7, 7, 0])
REQUEST_BYTES_MAX = 240  # every outstation takes a request of one segment
ROUNDS_MAX = 6  # of reading in one poll, while the outstation has more events
SYNC_AGAIN_S = 10.0
Key = tuple[int, int]  # static group, index


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of a point."""

    raw: Raw
    flags: int | None
    at: datetime | None  # of the event it comes from; None: no time, or one that is not believed
    told_s: float  # wall


@dataclass(slots=True)
class Counts:
    """What happened since the start, and what the last poll said beside being good."""

    events: int = 0
    unsolicited: int = 0
    restarts: int = 0
    overflows: int = 0
    time_syncs: int = 0
    times_not_believed: int = 0
    forced_values: int = 0
    others: int = 0


class Dnp3Link:
    """One connection to one outstation (IEEE 1815 over TCP).

    Parameters
    ----------
    connection : its link addresses and how it is read, and its identity.
    codecs : its points; addresses are group and index.
    host, port : where it listens.
    timeout_s : deadline of the connect, and of each request with its whole answer, wall time [s].
    now : aware time, for an outstation whose clock we set.
    """

    def __init__(
        self,
        connection: Connection,
        codecs: Sequence[PointCodec],
        *,
        host: str,
        port: int,
        timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        assert connection.dnp3 is not None, "the site schema gives every DNP3 connection its addresses"
        self._endpoint = Endpoint(host, port, None, timeout_s=timeout_s, now=now)
        self._timeout_s, self._now = timeout_s, now
        self._settings, self._identity = connection.dnp3, connection.identity
        self.tap = QUIET
        self._codecs = tuple(codecs)
        self._places = {c.point.point: parse_place(c.point.address) for c in codecs}
        self._wanted = {(p.group, p.index) for p in self._places.values()}
        self._classes = b"" if self._settings.is_guest else EVENTS  # events that are read are gone for others
        if self._classes and self._settings.events == "times":
            self._classes = timed_events(self._codecs, self._places) + EVENTS
        self._everything = self._requests(self._codecs, self._classes)
        self._static = self._requests(self._codecs, b"")
        if self._settings.static == "class0":
            self._everything, self._static = [self._classes + CLASS_0], [CLASS_0]
        self._news = self._requests((c for c in self._codecs if c.point.writable), self._classes)
        self.collector = no_collector()
        self._log = EventLog(self._codecs, self._places)
        self._session: Session | None = None
        self._number = 0
        self._held: dict[Key, Held] = {}
        self._whole_s = -math.inf  # when everything was read last
        self._indications = 0  # of the last answer
        self._why_not = ""  # the last reading was not answered whole
        self._restart_stays = False  # it cannot be cleared there
        self._has_overflown = False  # as it said last
        self._synced_s = -math.inf
        self._counts = Counts()
        self.refused: dict[str, str] = {}  # point -> why it has no value

    def _requests(self, codecs: Iterable[PointCodec], classes: bytes) -> list[bytes]:
        """Objects of the requests that read events and these points, each small enough for anybody."""
        wanted: dict[tuple[int, int], list[int]] = {}
        for codec in codecs:
            place = self._places[codec.point.point]
            wanted.setdefault((place.group, VARIATIONS[place.group][codec.raw.name]), []).append(place.index)
        out = [classes]
        for (group, variation), indexes in sorted(wanted.items()):
            for header in ranges(group, variation, indexes):
                if len(out[-1]) + len(header) > REQUEST_BYTES_MAX:
                    out.append(b"")
                out[-1] += header
        return out

    @property
    def connected(self) -> bool:
        return self._session is not None and not self._session.broken

    @property
    def counts(self) -> dict[str, int]:
        """What happened since the start, and what the last poll said beside being good."""
        told: dict[str, int] = asdict(self._counts)
        if self._session is not None:
            told["others"] += self._session.others
            told["unsolicited"] += self._session.unsolicited
        return told | {"in_local_control": int(bool(self._indications & dnp.LOCAL))}

    @property
    def faults(self) -> tuple[str, ...]:
        """What the outstation says is wrong with itself."""
        return tuple(text for bit, text in dnp.FAULTS.items() if self._indications & bit)

    async def connect(self) -> None:
        await self.disconnect()
        session = Session(
            master=self._settings.master,
            outstation=self._settings.outstation,
            timeout_s=self._timeout_s,
            number=self._number,
            heard=None if self._settings.is_guest else self._take,
            keep=self._keep,
            confirmed=self._log.confirmed,
            tap=self.tap,
        )
        self._session = session
        loop, there = asyncio.get_running_loop(), self._endpoint
        try:
            with there.opening():
                async with asyncio.timeout(self._timeout_s):
                    await loop.create_connection(lambda: session, there.host, there.port)
                if not self._settings.is_guest:
                    answer = await session.ask(dnp.DISABLE_UNSOLICITED, EVENTS)
                    await self._attend(session, answer.indications)
        except BaseException:
            self._drop()
            raise

    async def identify(self) -> dict[str, str | None]:
        if not self._identity:
            return {}
        session = self._usable()
        told: dict[str, str | None] = {}
        for field in self._identity:
            variation = parse_attribute(field.address)
            try:
                answer = await session.ask(dnp.READ, struct.pack("<BBBBB", 0, variation, 0, 0, 0))
                told[field.name] = attribute_of(answer.objects, variation) if answer.objects else None
            except (LinkError, MalformedObjects) as error:
                self._drop()
                raise LinkError(f"identity: {error}") from None
        return told

    async def read(self) -> dict[str, PointValue]:
        session = self._usable()
        try:
            await self._poll(session)
        except LinkError as error:
            self._drop()
            raise LinkError(f"read: {error}") from None
        self.refused, self._counts.forced_values = {}, 0
        now_s = wall_s()
        return {c.point.point: self._value(c, now_s) for c in self._codecs}

    async def _poll(self, session: Session) -> None:
        """Read what is due, and again where the outstation says that there is more. Raises LinkError."""
        every_s = self._settings.integrity_s
        if self._settings.is_guest:
            await self._round(session, whole=True)
            return
        whole = every_s is None or wall_s() - self._whole_s >= every_s or self._restart_stays
        if not self._log.is_free():  # events stay in the device, and do not stand for the values
            indications = await self._round(session, whole=True, static=True)
            await self._attend(session, indications)
            self._overflow(bool(indications & dnp.OVERFLOW))
            return
        for _ in range(ROUNDS_MAX):
            indications = await self._round(session, whole=whole)
            if await self._attend(session, indications):  # it has restarted: nothing of before counts
                whole = True
                continue
            self._overflow(bool(indications & dnp.OVERFLOW))
            if indications & dnp.OVERFLOW and not whole:
                whole = True
                continue
            if not indications & dnp.CLASS_EVENTS:
                return
            await session.settle()
            if not self._log.is_free():
                break
            whole = False
        # The newest event that was read is not the newest there is.
        await self._round(session, whole=True, static=True)

    def _overflow(self, is_so: bool) -> None:
        """The outstation dropped events before they were read; told once, until it has room again."""
        self._counts.overflows += is_so
        if is_so and not self._has_overflown:
            self.collector.lost("event buffer overflow (IIN2.3): it had more events than it keeps")
        self._has_overflown = is_so

    async def _round(self, session: Session, *, whole: bool, static: bool = False) -> int:
        """Read events, and everything or the outputs alone; the indications. Static: without events."""
        began_s = wall_s()
        self._log.begin()
        indications, why_not = 0, ""
        for objects in self._static if static else self._everything if whole else self._news:
            if not objects:
                continue
            answer = await session.ask(dnp.READ, objects, decode=True)
            indications |= answer.indications
            if answer.is_cut:
                return indications | await self._round(session, whole=True, static=True)
            self._take(answer.told, answer.indications)
            why_not = why_not or dnp.refusal(answer.indications)
        if whole:
            self._held = {key: held for key, held in self._held.items() if held.told_s >= began_s}
            self._whole_s, self._why_not = began_s, why_not
        self._indications = indications
        return indications

    async def _attend(self, session: Session, indications: int) -> bool:
        """Do what the indications ask for; True where the outstation has restarted. Raises LinkError."""
        self._indications = indications
        restarted = bool(indications & dnp.RESTART) and not self._restart_stays
        if restarted:
            self._counts.restarts += 1
            self._held = {}
            answer = await session.ask(dnp.WRITE, CLEAR_RESTART)
            self._restart_stays = bool(answer.indications & dnp.RESTART)
        elif not indications & dnp.RESTART:
            self._restart_stays = False
        due = wall_s() - self._synced_s >= SYNC_AGAIN_S
        if self._settings.time_sync and indications & dnp.NEED_TIME and due:
            await self._set_clock(session)
        return restarted

    async def _set_clock(self, session: Session) -> None:
        """The procedure of networks: it notes when the first request comes, and is told when that was."""
        self._synced_s = wall_s()
        async with session.alone() as ask:
            at = self._now()
            answer = await ask(dnp.RECORD_TIME, b"")
            if not dnp.refusal(answer.indications):
                answer = await ask(dnp.WRITE, bytes([50, 3, 0x07, 1]) + _ms_of(at))
            if dnp.refusal(answer.indications):
                answer = await ask(dnp.WRITE, bytes([50, 1, 0x07, 1]) + _ms_of(self._now()))
        self._counts.time_syncs += not dnp.refusal(answer.indications)

    def _take(self, told: Iterable[Told], indications: int) -> None:
        """What a fragment tells, asked for or not."""
        now_s, is_set = wall_s(), not indications & dnp.NEED_TIME
        for one in told:
            self._counts.events += one.is_event
            key = (one.group, one.place)
            if key not in self._wanted:
                continue
            at = time_of(one.at_ms) if is_set else None
            self._counts.times_not_believed += one.at_ms is not None and at is None
            before = self._held.get(key)
            if not one.is_event and before is not None and before.raw == one.raw:
                at = before.at  # as it has been since that event
            self._held[key] = Held(one.raw, one.flags, at, now_s)

    def _keep(self, told: Sequence[Told], indications: int) -> Receipt:
        """Events of a fragment, handed to whoever stores them."""
        if not self.collector.is_on or self._settings.is_guest:
            return Receipt(is_stored=True)
        return self._log.keep(told, not indications & dnp.NEED_TIME, self.collector)

    def _value(self, codec: PointCodec, now_s: float) -> PointValue:
        point = codec.point.point
        place = self._places[point]
        held = self._held.get((place.group, place.index))
        if held is None:
            why = f"g{place.group}/{place.index} is not told{': ' if self._why_not else ''}{self._why_not}"
            return self._refuse(point, why, Quality.DEVICE_BAD)
        age_s = now_s - held.told_s
        meant = meaning(codec, place.group, held.raw, held.flags)
        self._counts.forced_values += meant.is_forced
        if meant.reason:
            self.refused[point] = meant.reason
        return PointValue(meant.value, meant.quality, held.at, age_s)

    def _refuse(self, point: str, why: str, quality: Quality) -> PointValue:
        self.refused[point] = why
        return PointValue(None, quality, None)

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return await in_turn(values, lambda codec, value: self._write(codec, value, until_s, latest))

    async def _write(self, codec: PointCodec, value: float, until_s: float, latest: Latest) -> WriteReply:
        now = raw_now(codec, value, latest)
        try:
            codec.to_raw(value)
            session = self._usable()
            place: Place = self._places[codec.point.point]
            select = self._settings.operate == "select"
            reply = await operate(session, place, now, select=select, until_s=until_s)
        except (BadValue, NotSent) as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        except LinkError as error:
            self._drop()
            return WriteReply(WriteOutcome.UNKNOWN, f"write: {error}")
        if session.broken:
            self._drop()
        return reply

    async def disconnect(self) -> None:
        self._drop()

    def _usable(self) -> Session:
        if self._session is None or self._session.broken:
            why = "not connected" if self._session is None else self._session.broken
            self._drop()
            raise NotSent(why)
        return self._session

    def _drop(self) -> None:
        session, self._session = self._session, None
        self._held, self._whole_s, self._why_not = {}, -math.inf, ""
        self._indications, self._restart_stays, self._synced_s = 0, False, -math.inf
        if session is not None:
            session.drop("closed")
            self._number = session.number
            self._counts.others += session.others
            self._counts.unsolicited += session.unsolicited


def _ms_of(at: datetime) -> bytes:
    """DNP3 time: milliseconds since 1970 UTC, 48 bits."""
    return ((at - EPOCH) // timedelta(milliseconds=1)).to_bytes(6, "little")
