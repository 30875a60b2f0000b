"""IEC 60870-5-104 link: one connection to one controlled station, interrogated and heard, never commanded."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from connectors.endpoint import Endpoint
from connectors.expiry import Expiry
from connectors.iec104.asdu import Asdu, Cause, Type
from connectors.iec104.monitored import judged, told_by
from connectors.iec104.session import Session
from connectors.link import Latest, LinkError, NotSent, PointValue, WriteReply, as_decided
from connectors.point_map import PointCodec
from connectors.raw_types import Kind
from connectors.wire_log import QUIET
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.site import Connection
from ems.telemetry import Quality

STATION, ALL_COUNTERS = 20, 5
AHEAD_S_MAX = 60.0  # a time further ahead of ours is not believed
READ_ONLY = WriteReply(WriteOutcome.NOT_SENT, "stations are read alone over iec104")


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of an object."""

    kind: str
    raw: float  # unit: that of the object, as counts
    quality: int
    at: datetime | None  # when it became so; None: no time, or one that is not believed
    told_s: float  # wall


@dataclass(slots=True)
class Counts:
    """What happened since the start, and what the last poll said beside being good."""

    changes: int = 0
    restarts: int = 0
    times_not_believed: int = 0
    substituted_values: int = 0
    others: int = 0


class Iec104Link:
    """One connection to one controlled station.

    Parameters
    ----------
    connection : its common address and how it is read; the files of its `tls` are whole paths.
    codecs : its points; addresses are those of information objects.
    timeout_s : of the connect, and of each interrogation with its whole answer [s wall].
    now : aware time.
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
        assert connection.iec104 is not None, "the site schema gives every such connection its station"
        self._endpoint = Endpoint(host, port, connection.tls, timeout_s=timeout_s, now=now)
        self._timeout_s, self._now, self._station = timeout_s, now, connection.iec104
        zone = self._station.time_zone
        self._zone = None if zone is None else ZoneInfo(zone)
        self._codecs = tuple(codecs)
        self._wanted = {int(c.point.address) for c in codecs}
        self._has_counters = any(c.point.data_type == "counter" for c in codecs)
        self.tap = QUIET
        self._session: Session | None = None
        self._held: dict[int, Held] = {}
        self._whole_s = -math.inf  # when everything was asked last, wall
        self._counts = Counts()
        self.refused: dict[str, str] = {}  # point -> why it has no value

    @property
    def connected(self) -> bool:
        return self._session is not None and not self._session.broken

    @property
    def counts(self) -> dict[str, int]:
        """What happened since the start, and what the last poll said beside being good."""
        told: dict[str, int] = asdict(self._counts)
        return told | {"others": told["others"] + (0 if self._session is None else self._session.others)}

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """Of the last attempt to connect."""
        return self._endpoint.expiries

    async def connect(self) -> None:
        await self.disconnect()
        there, loop = self._endpoint, asyncio.get_running_loop()
        context, name = await there.protection()
        session = self._session = Session(
            self._station, timeout_s=self._timeout_s, heard=self._hear, tap=self.tap
        )
        try:
            with there.opening():
                async with asyncio.timeout(self._timeout_s):
                    await loop.create_connection(
                        lambda: session, there.host, there.port, ssl=context, server_hostname=name
                    )
                await session.start()
        except BaseException:
            self._drop()
            raise
        there.seen(session.certificate)

    async def identify(self) -> dict[str, str | None]:
        return {}

    async def read(self) -> dict[str, PointValue]:
        session = self._usable()
        every_s = self._station.interrogate_s
        if every_s is None or wall_s() - self._whole_s >= every_s:
            await self._interrogate(session)
        self.refused, self._counts.substituted_values = {}, 0
        now_s = wall_s()
        return {c.point.point: self._value(c, now_s) for c in self._codecs}

    async def _interrogate(self, session: Session) -> None:
        """Ask for everything; what was not told then is not known any more. Raises LinkError."""
        began_s, restarts = wall_s(), self._counts.restarts
        try:
            await session.ask(Type.C_IC_NA, STATION)
            if self._has_counters:
                await session.ask(Type.C_CI_NA, ALL_COUNTERS)
        except LinkError as error:
            self._drop()
            raise LinkError(f"read: {error}") from None
        self._held = {address: held for address, held in self._held.items() if held.told_s >= began_s}
        if self._counts.restarts == restarts:  # what was told before a restart does not count
            self._whole_s = began_s

    def _hear(self, asdu: Asdu) -> None:
        """What the station tells, asked for or not. Raises BadFrame."""
        if asdu.type == Type.M_EI_NA:
            self._counts.restarts += 1
            self._held, self._whole_s = {}, -math.inf
            return
        if asdu.test or asdu.negative or asdu.cause >= Cause.UNKNOWN_TYPE:
            return
        now_s = wall_s()
        for one in told_by(asdu, self._zone):
            if one.address not in self._wanted:
                continue
            at, before = one.at, self._held.get(one.address)
            if at is not None and (at - self._now()).total_seconds() > AHEAD_S_MAX:
                at = None
            self._counts.times_not_believed += one.is_timed and at is None
            self._counts.changes += one.is_timed
            same = before is not None and (before.raw, before.quality) == (one.raw, one.quality)
            if before is not None and same and not one.is_timed:
                at = before.at  # as it has been since then
            self._held[one.address] = Held(one.kind, one.raw, one.quality, at, now_s)

    def _value(self, codec: PointCodec, now_s: float) -> PointValue:
        point = codec.point.point
        held = self._held.get(int(codec.point.address))
        if held is None:
            return self._refuse(point, f"object {codec.point.address} is not told")
        if held.kind != codec.point.data_type:
            return self._refuse(point, f"it is told as {held.kind}, not {codec.point.data_type}")
        age_s = now_s - held.told_s
        found = judged(held.kind, held.quality)
        self._counts.substituted_values += found.is_substituted
        if found.reason:
            self.refused[point] = found.reason
        if found.quality is Quality.DEVICE_BAD:
            return PointValue(None, found.quality, held.at, age_s)
        if not math.isfinite(held.raw):
            self.refused[point] = "not a finite number"
            return PointValue(None, Quality.NOT_FINITE, held.at, age_s)
        value, quality = codec.from_raw(int(held.raw) if codec.raw.kind is Kind.INTEGER else held.raw)
        return PointValue(value, quality if found.quality is Quality.GOOD else found.quality, held.at, age_s)

    def _refuse(self, point: str, why: str) -> PointValue:
        self.refused[point] = why
        return PointValue(None, Quality.DEVICE_BAD, None)

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return [READ_ONLY] * len(values)

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
        self._held, self._whole_s = {}, -math.inf
        if session is not None:
            session.drop("closed")
            self._counts.others += session.others
