"""IEC 61850 link: one MMS association, data objects read whole, setpoints written and controls operated."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from open61850 import data as iec
from open61850.mms.pdu import InformationReport, ObjectName

from connectors.endpoint import Endpoint
from connectors.expiry import Expiry
from connectors.iec61850.buffered import BufferedReports
from connectors.iec61850.control import operate, order
from connectors.iec61850.meaning import Results, meaning
from connectors.iec61850.mms import Mms, ServiceFault
from connectors.iec61850.places import Place, Surveyor, Unlike, object_name
from connectors.iec61850.reports import Book, enable, heard
from connectors.iec61850.transport import Transport
from connectors.iec61850.values import AccessFault, data_of, text_of
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
from connectors.recorded import no_collector
from connectors.wire_log import QUIET
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.iec61850_reference import BUFFERED, ORIGINATORS, parse_block, parse_reference
from ems.site import Connection
from ems.telemetry import Quality

LOOK_AGAIN_S = 10.0  # for points that the device did not hold as the map says
ENVELOPE_BYTES = 200  # of a request or an answer around what it carries
NAME_BYTES = 12  # of an object in a request, beside its name
ABSENT = PointValue(None, Quality.DEVICE_BAD, None)
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
        self._endpoint = Endpoint(host, port, connection.tls, timeout_s=timeout_s, now=now)
        self._timeout_s, self._now = timeout_s, now
        self._codecs = tuple(codecs)
        self._identity = connection.identity
        self._origin = ORIGINATORS[connection.originator]
        self.refused: dict[str, str] = {}  # point -> why it has no value
        self._unlike: dict[str, str] = {}  # point -> how the device differs from the map
        self.tap = QUIET
        self._mms: Mms | None = None
        self._places: dict[str, Place] = {}
        self._requests: list[list[ObjectName]] = []
        self._number = 0  # ctlNum of the last command
        self._looked_s = 0.0
        self._counts = Counts()
        self._reports = connection.reports
        self._books: list[Book] = []
        self._told: dict[str, tuple[Place, Book]] = {}  # points that are not asked for
        self._unreported: list[str] = []  # blocks that do not report, and why
        self._counted = 0  # reports of the connections before
        self.collector = no_collector()
        self._buffered: BufferedReports | None = None
        if self._reports is not None and self._reports.buffered:
            blocks = [parse_block(text, BUFFERED) for text in self._reports.buffered]
            self._buffered = BufferedReports(blocks, self._codecs, self._associated)
        self._history: asyncio.Task[None] | None = None  # listens to those, beside the polls

    @property
    def connected(self) -> bool:
        return self._mms is not None and not self._mms.is_over

    @property
    def counts(self) -> dict[str, int]:
        """What the values of the last poll said beside being good, for the status row."""
        told = {
            "times_not_believed": self._counts.unsynchronised,
            "substituted_values": self._counts.substituted,
        }
        if self._reports is not None:
            told["reports"] = self._counted + sum(b.reports for b in self._books)
            told["points_told"], told["blocks_refused"] = len(self._told), len(self._unreported)
        if self._buffered is not None:
            told |= self._buffered.counts
        return told

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """Of the last attempt to connect."""
        return self._endpoint.expiries

    async def connect(self) -> None:
        self._drop()
        mms = await self._associated(self._heard)
        try:
            with self._endpoint.opening():
                await self._survey(mms, self._codecs)
        except BaseException:
            mms.abort()
            raise
        self._mms = mms
        if self._buffered is not None and self.collector.is_on and self._history is None:
            self._history = asyncio.create_task(self._buffered.run(self.collector), name="buffered reports")

    async def _associated(self, on_report: Callable[[InformationReport], None]) -> Mms:
        """A new association. Raises LinkError."""
        mms = Mms(await self._open(), self._timeout_s, on_report)
        try:
            with self._endpoint.opening():
                await mms.associate()
        except BaseException:
            mms.abort()
            raise
        return mms

    async def _open(self) -> Transport:
        there = self._endpoint
        context, name = await there.protection()
        with there.opening():
            async with asyncio.timeout(self._timeout_s):
                made = await Transport.open(
                    there.host, there.port, context=context, server_name=name, tap=self.tap
                )
        there.seen(made.certificate)
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
        if self._reports is not None and self._mms is None:
            await self._subscribe(mms, surveyor)
        polled = [p for point, p in places.items() if point not in self._told]
        self._requests = list(requests(polled, mms.pdu_bytes_max))
        self._looked_s = wall_s()

    async def _subscribe(self, mms: Mms, surveyor: Surveyor) -> None:
        """Have the points that are only read told; what no block tells is read. Raises LinkError.

        Setpoints are read, so that what is read back after a write is never from before it.
        """
        assert self._reports is not None
        self._unreported = []
        for text in self._reports.blocks:
            block, integrity_s = parse_block(text), self._reports.integrity_s
            try:
                book = await enable(mms, block, integrity_s, self._timeout_s, self._books)
            except Unlike as error:
                self._unreported.append(str(error))
                continue
            for codec in self._codecs:
                point = codec.point.point
                if codec.point.writable or point not in self._places or point in self._told:
                    continue
                place = surveyor.told(self._places[point], book.members)
                if place is not None:
                    self._told[point] = (place, book)

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
        if self._history is not None and self._history.done():
            self._history.result()  # it ends by a bug alone
        mms = self._usable()
        results: dict[ObjectName, iec.IECData | AccessFault | str] = {}
        try:
            self._check_books()
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
        now_s, out = wall_s(), {}
        for codec in self._codecs:
            point = codec.point.point
            if point in self._told:
                place, book = self._told[point]
                out[point] = self._value(codec, place, book.values)._replace(age_s=book.age_s(now_s))
            elif point in self._places:
                out[point] = self._value(codec, self._places[point], results)
            else:
                out[point] = ABSENT
        return out

    def _check_books(self) -> None:
        """Raises LinkError where the device does not report any more as it should."""
        for book in self._books:
            book.check(wall_s())

    def _value(self, codec: PointCodec, place: Place, results: Results) -> PointValue:
        meant = meaning(codec, place, results)
        self._counts.unsynchronised += bool(meant.doubt)
        self._counts.substituted += meant.is_substituted
        if meant.why:
            self.refused[codec.point.point] = meant.why
        return meant.value

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return await in_turn(values, lambda codec, value: self._write(codec, value, until_s, latest))

    async def _write(self, codec: PointCodec, value: float, until_s: float, latest: Latest) -> WriteReply:
        now = raw_now(codec, value, latest)
        try:
            codec.to_raw(value)
            mms = self._usable()
        except (BadValue, NotSent) as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        try:
            async with mms.alone():
                if wall_s() >= until_s:
                    return TOO_LATE
                if mms is not self._mms:
                    raise NotSent("the connection was lost before it could be sent")
                reply = await self._send(mms, codec, now, until_s)
        except (BadValue, NotSent) as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        except ServiceFault as error:
            reply = WriteReply(WriteOutcome.REJECTED, str(error))
        except LinkError as error:
            self._drop()
            return WriteReply(WriteOutcome.UNKNOWN, f"write: {error}")
        if mms.is_over:
            self._drop()
        return reply

    async def _send(
        self, mms: Mms, codec: PointCodec, latest: Callable[[], Raw], until_s: float
    ) -> WriteReply:
        """Raises BadValue, NotSent, ServiceFault, and LinkError where it is unknown what became of it."""
        place, kind = self._places.get(codec.point.point), codec.raw.name
        if place is None:
            raise NotSent(self._unlike.get(codec.point.point, "not there"))
        raw = latest()
        if place.control is not None:
            self._number = (self._number + 1) & 0xFF
            one = order(
                place.control, raw, kind,
                unsigned=place.unsigned, origin=self._origin, number=self._number, at=self._now(),
            )  # fmt: skip
            return await operate(mms, one, self._timeout_s, until_s, lambda: latest() == raw)
        assert place.write is not None, "a codec of a point that is read is never written"
        (refused,) = await mms.write([place.write], [data_of(raw, kind, unsigned=place.unsigned)])
        return WriteReply(WriteOutcome.REJECTED if refused else WriteOutcome.CONFIRMED, refused)

    async def disconnect(self) -> None:
        history, self._history = self._history, None
        if history is not None:
            history.cancel()
            await asyncio.wait([history])
        self._drop()

    def _heard(self, report: InformationReport) -> None:
        heard(report, self._books)

    def _usable(self) -> Mms:
        if self._mms is None or self._mms.is_over:
            why = "not connected" if self._mms is None else self._mms.broken or "it has hung up"
            self._drop()
            raise NotSent(why)
        return self._mms

    def _drop(self) -> None:
        mms, self._mms = self._mms, None
        self._places, self._unlike, self._requests = {}, {}, []
        self._told, self._counted = {}, self._counted + sum(b.reports for b in self._books)
        self._books = []
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
