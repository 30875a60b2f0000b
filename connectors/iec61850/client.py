"""IEC 61850 link: one MMS association, data objects read whole, setpoints written and controls operated."""

import asyncio
import math
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from open61850 import data as iec
from open61850.mms.pdu import ObjectName

from connectors.expiry import Expiry
from connectors.iec61850.control import operate, order
from connectors.iec61850.mms import Mms, ServiceFault, refusal
from connectors.iec61850.places import Place, Surveyor, Unlike, Way, object_name
from connectors.iec61850.transport import Transport
from connectors.iec61850.values import (
    AccessFault,
    data_of,
    quality_of,
    raw_of,
    stamp_of,
    text_of,
)
from connectors.link import LinkError, PointValue, Untrusted, WriteReply
from connectors.opcua.certificates import CertificateError
from connectors.point_map import PointCodec
from connectors.raw_types import Raw
from connectors.tls import Contexts, expiry_of, words_of
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.iec61850_reference import ORIGINATORS, parse_reference
from ems.site import Connection
from ems.telemetry import Quality

DOUBLE: dict[Raw | None, bool] = {1: False, 2: True}  # the others are on the way, and broken
LOOK_AGAIN_S = 10.0  # for points that the device did not hold as the map says
ENVELOPE_BYTES = 200  # of a request or an answer around what it carries
NAME_BYTES = 12  # of an object in a request, beside its name
TOO_LATE = WriteReply(WriteOutcome.NOT_SENT, "the cycle was over before it could be sent")


@dataclass(slots=True)
class Counts:
    """What the values of the last poll said beside being good."""

    unsynchronised: int = 0  # times that are not believed
    substituted: int = 0  # put in by hand at the device


class Iec61850Link:
    """One association with one device (IEC 61850-8-1).

    Parameters
    ----------
    connection : its time-out and who we are to it; the files of its `tls` are whole paths.
    codecs : its points; addresses are references with their functional constraint.
    host, port : where it listens.
    timeout_s : deadline of the connect and of each request, wall time [s].
    now : aware time, of commands and of certificates.
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
        self._host, self._port, self._timeout_s, self._now = host, port, timeout_s, now
        self._codecs = tuple(codecs)
        self._identity = connection.identity
        self._origin = ORIGINATORS[connection.originator]
        self._tls = connection.tls
        self._contexts = None if self._tls is None else Contexts(self._tls, server=False, now=now)
        self.expiries: tuple[Expiry, ...] = ()
        self.refused: dict[str, str] = {}  # point -> why it has no value
        self._unlike: dict[str, str] = {}  # point -> how the device differs from the map
        self._mms: Mms | None = None
        self._places: dict[str, Place] = {}
        self._requests: list[list[ObjectName]] = []
        self._number = 0  # ctlNum of the last command
        self._looked_s = 0.0
        self._counts = Counts()

    @property
    def connected(self) -> bool:
        return self._mms is not None and not self._mms.is_over

    @property
    def counts(self) -> dict[str, int]:
        """What the values of the last poll said beside being good, for the status row."""
        return {
            "times_not_believed": self._counts.unsynchronised,
            "substituted_values": self._counts.substituted,
        }

    async def connect(self) -> None:
        await self.disconnect()
        transport = await self._open()
        mms = Mms(transport, self._timeout_s)
        try:
            await mms.associate()
            await self._survey(mms, self._codecs)
        except LinkError as error:
            mms.abort()
            raise LinkError(f"cannot connect to {self._host}:{self._port}: {error}") from None
        except BaseException:
            mms.abort()
            raise
        self._mms = mms

    async def _open(self) -> Transport:
        where = f"{self._host}:{self._port}"
        context: ssl.SSLContext | None = None
        name: str | None = None
        if self._contexts is not None and self._tls is not None:
            try:
                context = await asyncio.to_thread(self._contexts.current)
            except CertificateError as error:
                raise Untrusted(str(error)) from None
            self.expiries = self._contexts.expiries
            name = self._host if self._tls.server_name is None else self._tls.server_name
        try:
            async with asyncio.timeout(self._timeout_s):
                made = await Transport.open(self._host, self._port, context=context, server_name=name)
        except TimeoutError:
            raise LinkError(f"cannot connect to {where} in {self._timeout_s:g} s") from None
        except ssl.SSLError as error:
            raise Untrusted(words_of(error, where, "" if self._tls is None else self._tls.ca)) from None
        except OSError as error:
            raise LinkError(f"cannot connect: {error}") from None
        except LinkError as error:
            raise LinkError(f"cannot connect to {where}: {error}") from None
        if made.certificate is not None:
            self.expiries = (*self.expiries, expiry_of("the certificate of the device", made.certificate))
        return made

    async def _survey(self, mms: Mms, codecs: Iterable[PointCodec]) -> None:
        """Ask where points are. Raises LinkError."""
        surveyor = Surveyor(mms)
        places, unlike = dict(self._places), dict(self._unlike)
        for codec in codecs:
            point = codec.point.point
            try:
                places[point] = await surveyor.place(codec)
                unlike.pop(point, None)
            except Unlike as error:
                places.pop(point, None)
                unlike[point] = str(error)
        self._places, self._unlike = places, unlike
        self._requests = list(requests(places.values(), mms.pdu_bytes_max))
        self._looked_s = wall_s()

    async def identify(self) -> dict[str, str | None]:
        if not self._identity:
            return {}
        mms = self._usable()
        told: dict[str, str | None] = {}
        for field in self._identity:
            reference = parse_reference(field.address)
            try:
                (value,) = await mms.read([object_name(reference, reference.path)])
                told[field.name] = text_of(value)
            except ServiceFault:
                told[field.name] = None
            except LinkError as error:
                self._drop()
                raise LinkError(f"identity: {error}") from None
        return told

    async def read(self) -> dict[str, PointValue]:
        mms = self._usable()
        results: dict[ObjectName, iec.IECData | AccessFault | str] = {}
        try:
            if self._unlike and wall_s() - self._looked_s >= LOOK_AGAIN_S:
                await self._survey(mms, [c for c in self._codecs if c.point.point in self._unlike])
            for names in self._requests:
                try:
                    results |= zip(names, await mms.read(names), strict=True)
                except ServiceFault as error:
                    results |= dict.fromkeys(names, str(error))
        except LinkError as error:
            self._drop()
            raise LinkError(f"read: {error}") from None
        self._counts, self.refused = Counts(), dict(self._unlike)
        return {c.point.point: self._value(c, results) for c in self._codecs}

    def _value(
        self, codec: PointCodec, results: dict[ObjectName, iec.IECData | AccessFault | str]
    ) -> PointValue:
        point = codec.point.point
        place = self._places.get(point)
        if place is None:
            return PointValue(None, Quality.DEVICE_BAD, None)
        held = results[place.read]
        if isinstance(held, AccessFault):
            return self._refuse(point, f"{place.read}: {refusal(held.code)}")
        if isinstance(held, str):
            return self._refuse(point, f"{place.read}: {held}")
        stamp = None
        if place.time is not None:
            told_at = down(held, place.time)
            stamp = None if told_at is None else stamp_of(told_at)
            if stamp is None:
                return self._refuse(point, f"{place.read}: t is no time")
        source = None if stamp is None else stamp.at
        self._counts.unsynchronised += stamp is not None and bool(stamp.doubt)
        if place.quality is not None:
            quality = down(held, place.quality)
            told = None if quality is None else quality_of(quality)
            if told is None:
                return self._refuse(point, f"{place.read}: q is no quality")
            self._counts.substituted += told.is_substituted
            if told.quality is not Quality.GOOD:
                value = None if told.quality is Quality.DEVICE_BAD else self._raw(codec, place, held)
                meant = None if value is None else codec.from_raw(value).value
                self.refused[point] = told.reason
                return PointValue(meant, told.quality, source)
        raw = self._raw(codec, place, held)
        if raw is None:
            wanted = "position, off or on" if place.is_double else codec.raw.name
            return self._refuse(point, f"{place.read}: no {wanted}, as there should be")
        if isinstance(raw, float) and not math.isfinite(raw):
            self.refused[point] = "not a finite number"
            return PointValue(None, Quality.NOT_FINITE, source)
        return PointValue(*codec.from_raw(raw), source)

    def _raw(self, codec: PointCodec, place: Place, held: iec.IECData) -> bool | int | float | None:
        """The raw value in what was read; None where it is none of its type."""
        value = down(held, place.value)
        if value is None:
            return None
        if place.is_double:
            return DOUBLE.get(raw_of(value, "Dbpos"))
        raw = raw_of(value, codec.raw.name)
        if isinstance(raw, int) and not codec.raw.raw_min <= raw <= codec.raw.raw_max:
            return None
        return raw

    def _refuse(self, point: str, why: str) -> PointValue:
        self.refused[point] = why
        return PointValue(None, Quality.DEVICE_BAD, None)

    async def write(self, values: Sequence[tuple[PointCodec, float]], until_s: float) -> list[WriteReply]:
        replies: list[WriteReply] = []
        for codec, value in values:
            replies.append(await self._write(codec, value, until_s))
            if replies[-1].outcome is WriteOutcome.UNKNOWN:
                rest = WriteReply(WriteOutcome.NOT_SENT, "the write before it was not answered")
                return replies + [rest] * (len(values) - len(replies))
        return replies

    async def _write(self, codec: PointCodec, value: float, until_s: float) -> WriteReply:
        if wall_s() >= until_s:
            return TOO_LATE
        place = self._places.get(codec.point.point)
        try:
            raw = codec.to_raw(value)
            mms = self._usable()
        except (BadValue, LinkError) as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        if place is None:
            why = self._unlike.get(codec.point.point, "not there")
            return WriteReply(WriteOutcome.NOT_SENT, why)
        kind = codec.raw.name
        try:
            if place.control is not None:
                self._number = (self._number + 1) & 0xFF
                one = order(
                    place.control, raw, kind,
                    unsigned=place.unsigned, origin=self._origin, number=self._number, at=self._now(),
                )  # fmt: skip
                reply = await operate(mms, one, self._timeout_s)
            else:
                assert place.write is not None, "a codec of a point that is read is never written"
                (refused,) = await mms.write([place.write], [data_of(raw, kind, unsigned=place.unsigned)])
                reply = WriteReply(WriteOutcome.REJECTED if refused else WriteOutcome.CONFIRMED, refused)
        except ServiceFault as error:
            reply = WriteReply(WriteOutcome.REJECTED, str(error))
        except LinkError as error:
            self._drop()
            return WriteReply(WriteOutcome.UNKNOWN, f"write: {error}")
        if mms.is_over:
            self._drop()
        return reply

    async def disconnect(self) -> None:
        self._drop()

    def _usable(self) -> Mms:
        if self._mms is None or self._mms.is_over:
            self._drop()
            raise LinkError("not connected")
        return self._mms

    def _drop(self) -> None:
        mms, self._mms = self._mms, None
        self._places, self._unlike, self._requests = {}, {}, []
        if mms is not None:
            mms.abort()


def requests(places: Iterable[Place], pdu_bytes_max: int) -> Iterable[list[ObjectName]]:
    """What is read, each object once, in as few requests as fit in a message either way."""
    room = pdu_bytes_max - ENVELOPE_BYTES
    batch: list[ObjectName] = []
    asked = answered = 0
    for name, size in {p.read: p.size for p in places}.items():
        name_size = NAME_BYTES + len(name.item) + len(name.domain or "")
        if batch and (asked + name_size > room or answered + size > room):
            yield batch
            batch, asked, answered = [], 0, 0
        batch.append(name)
        asked, answered = asked + name_size, answered + size
    if batch:
        yield batch


def down(held: iec.IECData, way: Way) -> iec.IECData | None:
    """What is at the end of a way through structures; None where one is not built as it was."""
    for index, count in way:
        if not isinstance(held, iec.StructureData) or len(held.members) != count:
            return None
        held = held.members[index]
    return held
