"""BACnet link: one device over BACnet/IP, objects read with their status flags, present values commanded."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict

from connectors.bacnet import names
from connectors.bacnet.apdu import Asked, Denied, Key, Route
from connectors.bacnet.asking import MULTIPLE, Asker, Told
from connectors.bacnet.control import Commanded, write
from connectors.bacnet.quality import is_absent, judged
from connectors.bacnet.session import Counts, Session
from connectors.bacnet.tags import (
    APPLICATION,
    BOOLEAN,
    DOUBLE,
    ENUMERATED,
    REAL,
    SIGNED,
    UNSIGNED,
    MalformedTags,
    bits_of,
    kind_of,
    natural,
    number_of,
    text_of,
)
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
from connectors.raw_types import Kind, Raw
from connectors.wire_log import QUIET
from ems.bacnet import (
    DEVICE,
    OUT_OF_SERVICE,
    PRIORITY_ARRAY,
    RELIABILITY,
    STATUS_FLAGS,
    Place,
    parse_identity,
    parse_place,
)
from ems.clock import wall_sleep
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.site import Connection
from ems.telemetry import Quality

MAX_APDU, SERVICES, SYSTEM_STATUS = 62, 97, 112
TAGS = {
    "bit": (ENUMERATED, BOOLEAN), "unsigned": (UNSIGNED,), "signed": (SIGNED,), "enumerated": (ENUMERATED,),
    "real": (REAL,), "double": (DOUBLE,),
}  # fmt: skip


class BacnetLink:
    """One device (ANSI/ASHRAE 135, BACnet/IP), or one behind a router.

    Parameters
    ----------
    connection : who is spoken to, at which priority, and its identity.
    codecs : its points; addresses are object and property.
    host, port : where it is, or its router.
    timeout_s : deadline of each request with its answer, wall time [s].
    """

    def __init__(
        self,
        connection: Connection,
        codecs: Sequence[PointCodec],
        *,
        host: str,
        port: int,
        timeout_s: float,
    ) -> None:
        assert connection.bacnet is not None, "the site schema gives every BACnet connection its device"
        self._settings, self._identity = connection.bacnet, connection.identity
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._device: Key = (DEVICE, connection.bacnet.device)
        self.tap = QUIET
        self._codecs = tuple(codecs)
        self._places = {c.point.point: parse_place(c.point.address) for c in codecs}
        self._commanded = {
            c.point.point: Commanded(self._places[c.point.point], c.raw.name, connection.bacnet.priority)
            for c in codecs
            if c.point.writable
        }
        self._session: Session | None = None
        self._asker: Asker | None = None
        self._absent: set[tuple[Key, int]] = set()  # properties that an object does not have
        self._counts, self._invoke = Counts(), 0
        self._overridden = self._in_alarm = 0
        self._faults: tuple[str, ...] = ()
        self.refused: dict[str, str] = {}  # point -> why it has no value

    @property
    def connected(self) -> bool:
        return self._session is not None and not self._session.broken

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the device, and who else commands what we command."""
        return self._faults

    @property
    def counts(self) -> dict[str, int]:
        """What happened since the start, and what the last poll said beside being good."""
        multiple = self._asker is not None and self._asker.multiple
        return asdict(self._counts) | {
            "overridden": self._overridden,
            "in_alarm": self._in_alarm,
            "reads_multiple": int(multiple),
        }

    async def connect(self) -> None:
        await self.disconnect()
        await wall_sleep(0.0)  # so that a socket before is closed, whose port may be ours again
        s = self._settings
        session = Session(
            timeout_s=self._timeout_s,
            route=None if s.network is None else Route(s.network, bytes.fromhex(s.mac)),
            pause_s=s.pause_s,
            counts=self._counts,
            invoke=self._invoke,
            tap=self.tap,
        )
        self._session = session
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(self._timeout_s):
                await session.open(self._host, self._port, s.bind)
            self._asker = await greet(session, self._device)
        except TimeoutError:
            self._drop()
            raise LinkError(f"cannot reach {where} in {self._timeout_s:g} s") from None
        except (OSError, LinkError) as error:
            self._drop()
            raise LinkError(f"cannot reach {where}: {error}") from None
        except BaseException:
            self._drop()
            raise

    async def identify(self) -> dict[str, str | None]:
        if not self._identity:
            return {}
        _, asker = self._usable()
        places = {f.name: parse_identity(f.address) for f in self._identity}
        wanted: dict[str, Asked] = {
            name: ((p.object_type, p.instance or (self._device[1] if p.object_type == DEVICE else 0)),
                   p.property_id, None)
            for name, p in places.items()
        }  # fmt: skip
        try:
            told = await asker.read(_grouped(list(wanted.values())))
        except LinkError as error:
            self._drop()
            raise LinkError(f"identity: {error}") from None
        return {name: _text(told[asked]) for name, asked in wanted.items()}

    async def read(self) -> dict[str, PointValue]:
        _, asker = self._usable()
        try:
            told = await asker.read(self._wanted(asker))
            if without := [(key, OUT_OF_SERVICE, None) for key in self._without_flags(told)]:
                told |= await asker.read(without)
        except LinkError as error:
            self._drop()
            raise LinkError(f"read: {error}") from None
        self._absent |= {(one[0], one[1]) for one, what in told.items() if is_absent(what)}
        self.refused, self._overridden, self._in_alarm = {}, 0, 0
        known: dict[tuple[Key, int], Told] = {(key, prop): what for (key, prop, _), what in told.items()}
        values = {c.point.point: self._value(c, known) for c in self._codecs}
        faults = [_system(known.get((self._device, SYSTEM_STATUS)))]
        for commanded in self._commanded.values():
            flags, array = (known.get((commanded.key, p)) for p in (STATUS_FLAGS, PRIORITY_ARRAY))
            if judged(flags, None, None).overridden:
                faults.append(f"{names.object_name(commanded.key)}: overridden at the device")
            faults += commanded.looked_at(array)
        self._faults = tuple(text for text in faults if text)
        return values

    def _without_flags(self, told: dict[Asked, Told]) -> list[Key]:
        """Objects that have just said that they have no status flags."""
        return [one[0] for one, what in told.items() if one[1] == STATUS_FLAGS and is_absent(what)]

    def _wanted(self, asker: Asker) -> list[Asked]:
        """Everything that is read at a poll; what an object does not have is not asked for again."""
        wanted: list[Asked] = []
        for codec in self._codecs:
            place = self._places[codec.point.point]
            key = (place.object_type, place.instance)
            wanted.append((key, place.property_id, None))
            if place.object_type == DEVICE:
                continue
            wanted += [(key, STATUS_FLAGS, None), (key, RELIABILITY, None)]
            if (key, STATUS_FLAGS) in self._absent:
                wanted.append((key, OUT_OF_SERVICE, None))
            if codec.point.point in self._commanded:
                wanted.append((key, PRIORITY_ARRAY, None))
        if asker.multiple:
            wanted.append((self._device, SYSTEM_STATUS, None))
        mine = {(_key(p), p.property_id) for p in self._places.values()}
        return _grouped([w for w in wanted if (w[0], w[1]) not in self._absent or (w[0], w[1]) in mine])

    def _value(self, codec: PointCodec, known: dict[tuple[Key, int], Told]) -> PointValue:
        point = codec.point.point
        place = self._places[point]
        key = _key(place)
        told = known[key, place.property_id]
        if isinstance(told, Denied):
            return self._refuse(point, f"{names.object_name(key)}: {told}")
        flags, reliability, out = (known.get((key, p)) for p in (STATUS_FLAGS, RELIABILITY, OUT_OF_SERVICE))
        said = judged(flags, reliability, out)
        self._overridden += said.overridden
        self._in_alarm += said.in_alarm
        if said.bad:
            return self._refuse(point, said.bad)
        try:
            raw = raw_of(told, codec)
        except MalformedTags as error:
            return self._refuse(point, str(error))
        if isinstance(raw, float) and not math.isfinite(raw):
            return self._refuse(point, "not a finite number", Quality.NOT_FINITE)
        return PointValue(*codec.from_raw(raw), None)

    def _refuse(self, point: str, why: str, quality: Quality = Quality.DEVICE_BAD) -> PointValue:
        self.refused[point] = why
        return PointValue(None, quality, None)

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return await in_turn(values, lambda codec, value: self._write(codec, value, until_s, latest))

    async def _write(self, codec: PointCodec, value: float, until_s: float, latest: Latest) -> WriteReply:
        now = raw_now(codec, value, latest)
        try:
            raw, (session, _) = codec.to_raw(value), self._usable()
            to = self._commanded[codec.point.point]
            return await write(session, to, raw, until_s=until_s, latest=now)
        except (BadValue, NotSent) as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        except LinkError as error:
            self._drop()
            return WriteReply(WriteOutcome.UNKNOWN, f"write: {error}")

    async def disconnect(self) -> None:
        self._drop()

    def _usable(self) -> tuple[Session, Asker]:
        session, asker = self._session, self._asker
        if session is None or asker is None or session.broken:
            why = "not connected" if session is None or not session.broken else session.broken
            self._drop()
            raise NotSent(why)
        return session, asker

    def _drop(self) -> None:
        session, self._session = self._session, None
        self._asker, self._absent, self._faults = None, set(), ()
        if session is not None:
            session.drop("closed")
            self._invoke = session.invoke


async def greet(session: Session, device: Key) -> Asker:
    """Whether the device is the one that is meant, and what it takes. Raises LinkError."""
    asker = Asker(session, multiple=False)
    told = await asker.one((device, MAX_APDU, None))
    if isinstance(told, Denied):
        raise LinkError(f"{names.object_name(device)} is not there: {told}")
    services = await asker.one((device, SERVICES, None))
    try:
        room = natural(told[0].data) if len(told) == 1 and told[0][:2] == (APPLICATION, UNSIGNED) else 0
        bits = None if isinstance(services, Denied) or len(services) != 1 else bits_of(services[0])
    except MalformedTags as error:
        raise LinkError(str(error)) from None
    if not room:
        raise LinkError("how much it takes at once is no number")
    multiple = bits is None or (len(bits) > MULTIPLE and bits[MULTIPLE])
    return Asker(session, apdu_bytes=room, multiple=multiple)


def _key(place: Place) -> Key:
    return place.object_type, place.instance


def _grouped(wanted: Sequence[Asked]) -> list[Asked]:
    """Each once, those of one object behind one another."""
    return sorted(dict.fromkeys(wanted), key=lambda one: (one[0], one[1]))


def _text(told: Told) -> str | None:
    return text_of(told[0]) if not isinstance(told, Denied) and len(told) == 1 else None


def _system(told: Told | None) -> str:
    """What a device says of itself; "": nothing that is wrong."""
    if told is None or isinstance(told, Denied) or len(told) != 1:
        return ""
    try:
        status = number_of(told[0])
    except MalformedTags:
        return ""
    words = names.STATUSES.get(int(status)) if status is not None else None
    return f"the device: {words}" if words is not None else ""


def raw_of(told: Told, codec: PointCodec) -> Raw:
    """The one value of the type of the map. Raises MalformedTags: it is another."""
    assert not isinstance(told, Denied), "sorted out before"
    if len(told) != 1:
        raise MalformedTags(f"{len(told)} values are told, one is in the map")
    (tag,) = told
    if tag.form != APPLICATION or tag.number not in TAGS[codec.raw.name]:
        raise MalformedTags(f"{kind_of(tag)} is told, {codec.raw.name} in the map")
    raw = number_of(tag)
    if codec.raw.kind is Kind.BOOLEAN:
        if raw not in (0, 1):
            raise MalformedTags(f"{raw} is told, {codec.raw.name} in the map")
        return bool(raw)
    if raw is None or (codec.raw.kind is Kind.INTEGER and not codec.raw.raw_min <= raw <= codec.raw.raw_max):
        raise MalformedTags(f"{raw} is told, which {codec.raw.name} does not hold")
    return raw
