"""DLMS link: one association with one meter, registers read with their own scalers, units and times."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from connectors.dlms.apdus import Denied, Result
from connectors.dlms.association import Association, ListRefused
from connectors.dlms.data import Datum, count_of, number_of, status_of, text_of
from connectors.dlms.instants import Instant, instant_of
from connectors.dlms.requests import Asked
from connectors.dlms.scalers import Scaler, scaler_of
from connectors.endpoint import Endpoint
from connectors.link import Latest, LinkError, NotSent, PointValue, WriteReply, as_decided
from connectors.point_map import PointCodec
from connectors.raw_types import Kind
from connectors.wire_log import QUIET
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.dlms import CAPTURE_TIME, CLOCK, DATA, SCALER_UNIT, STATUS, Place, parse_obis, parse_place
from ems.site import Connection
from ems.telemetry import Quality

CLOCK_EVERY_S = 600.0  # wall
READ_ONLY = WriteReply(WriteOutcome.NOT_SENT, "a meter is only read")


@dataclass(slots=True)
class Counts:
    """What happened since the start, and what the last poll said beside being good."""

    unsolicited: int = 0
    lists_refused: int = 0
    times_not_believed: int = 0
    statuses_set: int = 0


class DlmsLink:
    """One association with one logical device of a meter (IEC 62056, over TCP).

    Parameters
    ----------
    connection : who is spoken to and how we are known, files as whole paths; and its identity.
    codecs : its points; addresses are OBIS codes.
    host, port : where it listens.
    timeout_s : deadline of the connect, and of each request with its whole answer, wall time [s].
    now : aware time, to hold the clock of the meter against.
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
        assert connection.dlms is not None, "the site schema gives every DLMS connection its addresses"
        self._endpoint = Endpoint(host, port, None, timeout_s=timeout_s, now=now)
        self._timeout_s, self._now = timeout_s, now
        self._settings, self._identity = connection.dlms, connection.identity
        self.tap = QUIET
        self._codecs = tuple(codecs)
        self._places = {c.point.point: parse_place(c.point.address) for c in codecs}
        zone = self._settings.time_zone
        self._zone = None if zone is None else ZoneInfo(zone)
        self._clock = Asked(CLOCK, parse_obis(self._settings.clock), 2) if self._settings.clock else None
        self._association: Association | None = None
        self._merged, self._list_answered = True, False
        self._scalers: dict[Place, Scaler] = {}  # of this association
        self._clock_s = -math.inf  # when the clock was asked last, wall
        self._ahead_s: float | None = None  # of ours
        self._counts = Counts()
        self.refused: dict[str, str] = {}  # point -> why it has no value

    @property
    def connected(self) -> bool:
        return self._association is not None and self._association.usable

    @property
    def counts(self) -> dict[str, int]:
        """What happened since the start, and what the last poll said beside being good."""
        told: dict[str, int] = asdict(self._counts)
        if self._association is not None:
            told["unsolicited"] += self._association.session.unsolicited
        ahead = {} if self._ahead_s is None else {"clock_ahead_s": round(self._ahead_s)}
        return told | {"one_by_one": int(not self._merged)} | ahead

    async def connect(self) -> None:
        await self.disconnect()
        there = self._endpoint
        association = Association(self._settings, timeout_s=self._timeout_s, tap=self.tap)
        self._association = association
        try:
            with there.opening():
                await association.open(there.host, there.port)
        except BaseException:
            await self.disconnect()
            raise

    async def identify(self) -> dict[str, str | None]:
        if not self._identity:
            return {}
        places = [parse_place(field.address, class_id=DATA) for field in self._identity]
        results = await self._get([_value(p) for p in places], "identity")
        told = zip(self._identity, results, strict=True)
        return {f.name: None if isinstance(r, Denied) else text_of(r) for f, r in told}

    async def read(self) -> dict[str, PointValue]:
        places = dict.fromkeys(self._places.values())
        missing = [p for p in places if p.has_scaler and p not in self._scalers]
        scalers = await self._get([Asked(p.class_id, p.obis, SCALER_UNIT[p.class_id]) for p in missing])
        unknown = {p: r.why for p, r in zip(missing, scalers, strict=True) if isinstance(r, Denied)}
        self._scalers |= {
            p: scaler_of(r) for p, r in zip(missing, scalers, strict=True) if not isinstance(r, Denied)
        }
        asked = list(dict.fromkeys(a for p in places for a in _of_place(p)))
        if self._clock is not None and wall_s() - self._clock_s >= CLOCK_EVERY_S:
            asked.append(self._clock)
        told = dict(zip(asked, await self._get(asked), strict=True))
        if self._clock is not None and self._clock in told:
            self._compare(told[self._clock])
        self.refused, self._counts.times_not_believed, self._counts.statuses_set = {}, 0, 0
        return {c.point.point: self._point(c, told, unknown) for c in self._codecs}

    async def _get(self, asked: list[Asked], what: str = "read") -> list[Result]:
        """Each attribute; with lists for as long as the meter answers them. Raises LinkError."""
        association = self._usable()
        if not asked:
            return []
        listed = self._merged and association.takes_lists and len(asked) > 1
        try:
            try:
                results = await association.get(asked, merged=self._merged)
                self._list_answered = self._list_answered or listed
            except ListRefused:
                self._merged = False
                self._counts.lists_refused += 1
                results = await association.get(asked, merged=False)
        except LinkError as error:
            if listed and not self._list_answered:
                self._merged = False  # it may not even answer that it knows no lists
            await self.disconnect()
            raise LinkError(f"{what}: {error}") from None
        return results

    def _point(self, codec: PointCodec, told: dict[Asked, Result], unknown: dict[Place, str]) -> PointValue:
        """One reading, out of what was told."""
        point, place = codec.point.point, self._places[codec.point.point]
        result = told[_value(place)]
        if isinstance(result, Denied):
            return self._refuse(point, f"{place} is not told: {result.why}")
        if place in unknown:
            return self._refuse(point, f"scaler and unit of {place} are not told: {unknown[place]}")
        at, why = self._source(place, told)
        if why:
            return self._refuse(point, why, at=at)
        raw, why = self._raw(codec, place, result)
        if raw is None:
            return self._refuse(point, why, at=at)
        if not math.isfinite(raw):
            return self._refuse(point, "not a finite number", Quality.NOT_FINITE, at)
        value, quality = codec.from_raw(raw)
        return PointValue(value, quality, at)

    def _raw(self, codec: PointCodec, place: Place, told: Datum) -> tuple[float | int | None, str]:
        """The number in the unit of the map, or why there is none."""
        scaler = self._scalers.get(place, Scaler())
        if codec.raw.kind is Kind.INTEGER:
            count = count_of(told)
            if count is None:
                return None, f"{told.name} is told, integer in the map"
            if scaler.why or scaler.exponent:
                return None, scaler.why or f"a scaler of {scaler.exponent} is told, integer in the map"
            return count, ""
        number = number_of(told)
        if number is None:
            return None, f"{told.name} is told, number in the map"
        row = codec.point.dlms
        wanted = codec.point.unit if row is None or row.unit is None else row.unit
        return scaler.applied(number, wanted)

    def _source(self, place: Place, told: dict[Asked, Result]) -> tuple[datetime | None, str]:
        """When the meter has captured it, and why its status makes it bad."""
        if place.class_id not in CAPTURE_TIME:
            return None, ""
        at: datetime | None = None
        captured = told[Asked(place.class_id, place.obis, CAPTURE_TIME[place.class_id])]
        if not isinstance(captured, Denied):
            at = instant_of(captured, self._zone).at
            self._counts.times_not_believed += at is None
        status = told[Asked(place.class_id, place.obis, STATUS[place.class_id])]
        bits = None if isinstance(status, Denied) else status_of(status)
        self._counts.statuses_set += bool(bits)
        if place.bad and bits is None:
            return at, f"the status of {place} is not told"
        return at, f"status {bits:#x} of {place}" if bits is not None and bits & place.bad else ""

    def _refuse(
        self, point: str, why: str, quality: Quality = Quality.DEVICE_BAD, at: datetime | None = None
    ) -> PointValue:
        self.refused[point] = why
        return PointValue(None, quality, at)

    def _compare(self, told: Result) -> None:
        """Hold the clock of the meter against ours."""
        self._clock_s, self._ahead_s = wall_s(), None
        instant = Instant(None, told.why) if isinstance(told, Denied) else instant_of(told, self._zone)
        if instant.at is not None:
            self._ahead_s = (instant.at - self._now()).total_seconds()

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return [READ_ONLY] * len(values)

    async def disconnect(self) -> None:
        association, self._association = self._association, None
        self._scalers, self._clock_s, self._ahead_s = {}, -math.inf, None
        if association is not None:
            self._counts.unsolicited += association.session.unsolicited
            await association.close()

    def _usable(self) -> Association:
        if self._association is None or not self._association.usable:
            raise NotSent("not connected")
        return self._association


def _value(place: Place) -> Asked:
    return Asked(place.class_id, place.obis, place.attribute)


def _of_place(place: Place) -> list[Asked]:
    """Everything of an object that is asked at each poll."""
    asked = [_value(place)]
    for attribute in (STATUS, CAPTURE_TIME):
        if place.class_id in attribute:
            asked.append(Asked(place.class_id, place.obis, attribute[place.class_id]))
    return asked
