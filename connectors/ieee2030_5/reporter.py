"""What a server is told: answers to its events, ratings and state of the plant, readings of the meter.

Where a server takes one of these not, that is recorded, and it is tried again: a quarter of an hour after it
was refused, half a minute after there was no answer. Nothing of it keeps the bounds from being held.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from connectors.ieee2030_5.documents import BadDocument, Documents
from connectors.ieee2030_5.events import Reply
from connectors.ieee2030_5.identity import Identity
from connectors.ieee2030_5.ratings import (
    Doing,
    doe_bits,
    doing,
    modes_bits,
    ratings,
    scaled,
    set_max_kw,
)
from connectors.ieee2030_5.reading import path_of
from connectors.ieee2030_5.transport import Transport
from connectors.ieee2030_5.walk import Places
from connectors.northbound.image import Board
from connectors.utility.asker import NoAnswer
from ems.clock import Clock
from ems.records import JsonValue
from ems.site import Site
from ems.utility import Sep2Server

Note = Callable[[str, str, str], None]  # what, code, why

RATINGS_S = 24 * 3600.0
POST_S, POST_S_MIN, POST_S_MAX = (
    300.0,
    10.0,
    3600.0,
)  # between two posts, where the server says nothing; bounds
AGAIN_S = 30.0  # after a request that had no answer
TAKES_NOT_S = 900.0  # after a request that was refused
GRAD_W = 10_000  # hundredths of a percent in a second: the edge moves as fast as its units
MIRROR_ROLE = 0x03  # isMirror, isPremisesAggregationPoint
VALID = 0x01  # of qualityFlags
POWER, AVERAGE, FORWARD, INDICATING, ELECTRICITY = 37, 2, 1, 12, 1
READINGS = {  # point of the meter -> (description, unit of measure, factor to it from the point's unit)
    "p_kw": ("active power", 38, 1000.0),
    "q_kvar": ("reactive power", 63, 1000.0),
}


@dataclass(slots=True)
class _Mean:
    """Mean of what was read well."""

    total: float = 0.0
    count: int = 0


@dataclass(slots=True)
class _Mirror:
    """Our MirrorUsagePoint at the server."""

    href: str = ""  # "": not made yet
    every_s: float = POST_S
    since_s: float = 0.0  # monotonic
    since_server_s: float = 0.0
    means: dict[str, _Mean] = field(default_factory=dict)


class Reporter:
    """Tells one server."""

    def __init__(
        self,
        site: Site,
        server: Sep2Server,
        transport: Transport,
        documents: Documents,
        board: Board,
        identity: Identity,
        clock: Clock,
    ) -> None:
        self._site, self._server, self._transport = site, server, transport
        self._documents, self._sep = documents, documents.sep
        self._board, self._identity, self._clock = board, identity, clock
        self._next_s: dict[str, float] = {}  # by resource, monotonic
        self._said: Doing | None = None  # how the plant did when that was taken last
        self._said_s = 0.0  # monotonic
        self._mirror = _Mirror()
        self._counts = {"answers": 0, "puts": 0, "readings": 0}

    def status(self) -> dict[str, JsonValue]:
        """What was taken since the start."""
        return {"told": dict(self._counts), "mirror": self._mirror.href}

    def rest(self) -> None:
        """Tell nothing for a while: the server takes its time."""
        for what in ("answers", "readings", "ratings", "state"):
            self._wait(what, AGAIN_S)

    # ---- answers ----------------------------------------------------------------------------------

    async def answer(self, reply: Reply, note: Note) -> bool:
        """Tell what becomes of an event; whether it is done with, taken or refused for good."""
        if not self._is_due("answers"):
            return False
        sep = self._sep
        body = sep.DercontrolResponse(
            created_date_time=sep.TimeType(value=reply.at_s),
            end_device_lfdi=bytes.fromhex(self._identity.lfdi),
            status=reply.code,
            subject=sep.MRidtype(value=bytes.fromhex(reply.mrid)),
        )
        try:
            await self._transport.post(reply.href, self._documents.write(body))
        except NoAnswer as error:
            note(f"answer {reply.code} to {reply.mrid}", "not_taken", str(error))
            if 400 <= error.status < 500 and error.status not in (408, 429):
                return True
            self._wait("answers", AGAIN_S, error)
            return False
        self._counts["answers"] += 1
        return True

    # ---- ratings and state ------------------------------------------------------------------------

    async def report(self, places: Places, server_s: float, note: Note) -> None:
        """Whatever is due of ratings, state and readings.

        Parameters
        ----------
        server_s : clock of the server [s].
        """
        if self._server.post_meter and places.mirror:
            await self._trying("readings", note, self._read_out, places.mirror, server_s)
        if self._server.post_device and places.ders:
            await self._trying("ratings", note, self._put_ratings, places.ders, server_s)
            if self._has_changed():
                self._wait("state", 0.0)
            await self._trying("state", note, self._put_state, places, server_s)
        self._transport.close()

    def _has_changed(self) -> bool:
        """Whether a mode or a bit is another than the server was told, some seconds ago at least."""
        said, now = self._said, doing(self._site, self._board.now())
        if said is None or self._clock.monotonic_s() - self._said_s < POST_S_MIN:
            return False
        return _words(now) != _words(said)

    async def _trying(self, what: str, note: Note, work: Callable[..., Any], *about: Any) -> None:
        """Do it where it is due; a server that does not take it is left alone for a while."""
        if not self._is_due(what):
            return
        try:
            await work(*about)
        except (NoAnswer, BadDocument) as error:
            note(what, "not_taken", str(error))
            status = error.status if isinstance(error, NoAnswer) else 400
            self._said = None if what == "state" else self._said
            self._wait(what, TAKES_NOT_S if 400 <= status < 500 else AGAIN_S, error)

    def _is_due(self, what: str) -> bool:
        return self._clock.monotonic_s() >= self._next_s.get(what, 0.0)

    def _wait(self, what: str, least_s: float, error: Exception | None = None) -> None:
        retry_s = error.retry_s if isinstance(error, NoAnswer) else 0.0
        self._next_s[what] = self._clock.monotonic_s() + max(least_s, retry_s)

    async def _der(self, place: str) -> Any:
        """Our DER. Raises NoAnswer, BadDocument."""
        ders = self._documents.read(await self._transport.get(f"{place}?s=0&l=1"), self._sep.Derlist)
        if not ders.der:
            raise BadDocument(f"GET {place}: no DER in it")
        return ders.der[0]

    async def _put(self, link: Any, document: Any) -> None:
        if link is not None:
            await self._transport.put(path_of(link.href, self._server), self._documents.write(document))
            self._counts["puts"] += 1

    async def _put_ratings(self, place: str, server_s: float) -> None:
        der, sep, rated = await self._der(place), self._sep, ratings(self._site)
        modes = sep.DercontrolType(value=modes_bits(self._server).to_bytes(4, "big"))
        stores = bool(self._site.bess)
        powers = {
            "max_w": self._power(rated.p_max_kw),
            "max_va": self._power(rated.s_max_kva, sep.ApparentPower),
            "max_charge_rate_w": self._power(rated.charge_kw_max) if stores else None,
            "max_discharge_rate_w": self._power(rated.discharge_kw_max) if stores else None,
            "max_wh": self._power(rated.energy_kwh, sep.WattHour) if stores else None,
        }
        capability = sep.Dercapability(
            modes_supported=modes,
            type_value=sep.Dertype(value=rated.kind),
            other_element=[self._doe("DoeModesSupported")],
            **{f"rtg_{name}": value for name, value in powers.items()},
        )
        settings = sep.Dersettings(
            modes_enabled=modes,
            set_grad_w=GRAD_W,
            updated_time=sep.TimeType(value=int(server_s)),
            other_element=[self._doe("DoeModesEnabled")],
            **{f"set_{name}": value for name, value in powers.items()}
            | {"set_max_w": self._power(set_max_kw(self._site, self._server))},
        )
        await self._put(der.dercapability_link, capability)
        await self._put(der.dersettings_link, settings)
        self._wait("ratings", RATINGS_S)

    async def _put_state(self, places: Places, server_s: float) -> None:
        now = doing(self._site, self._board.now())
        der, sep = await self._der(places.ders), self._sep
        at = sep.TimeType(value=int(server_s))
        if now.mode is not None:
            await self._put(der.derstatus_link, self._state(now, at))
        if now.available_kw is not None:
            available = sep.Deravailability(reading_time=at, stat_wavail=self._power(now.available_kw))
            await self._put(der.deravailability_link, available)
        self._said, self._said_s = now, self._clock.monotonic_s()
        self._wait("state", _rate_s(places.post_s))

    def _state(self, now: Doing, at: Any) -> Any:
        sep = self._sep

        def stamped(model: Any, value: Any) -> Any:
            return None if value is None else model(date_time=at, value=value)

        soc = None if now.soc_ratio is None else sep.PerCent(value=round(10_000 * now.soc_ratio))
        return sep.Derstatus(
            reading_time=at,
            operational_mode_status=stamped(sep.OperationalModeStatusType, now.mode),
            state_of_charge_status=stamped(sep.StateOfChargeStatusType, soc),
            storage_mode_status=stamped(sep.StorageModeStatusType, now.storage),
            gen_connect_status=stamped(sep.ConnectStatusType, _byte(now.generating)),
            stor_connect_status=stamped(sep.ConnectStatusType, _byte(now.storing)),
        )

    def _power(self, value_k: float, model: Any = None) -> Any:
        """kW, kVA or kWh as the standard's number and power of ten."""
        number, multiplier = scaled(1000.0 * value_k)
        power = self._sep.PowerOfTenMultiplierType(value=multiplier)
        return (self._sep.ActivePower if model is None else model)(multiplier=power, value=number)

    def _doe(self, name: str) -> Any:
        from py20305.models.csipaus import csipaus_ext

        return getattr(csipaus_ext, name)(value=bytes([doe_bits(self._server)]))

    # ---- readings of the meter --------------------------------------------------------------------

    def sample(self) -> None:
        """Take what is read well now into the means. Never waits."""
        image = self._board.now()
        if not image.fresh or not self._server.post_meter:
            return
        for name in READINGS:
            value = image.get(f"{self._site.grid.id}.{name}").usable
            if value is not None:
                mean = self._mirror.means.setdefault(name, _Mean())
                mean.total += value
                mean.count += 1

    async def _read_out(self, place: str, server_s: float) -> None:
        """Post the means since the last time; of nothing that was read well, nothing."""
        mirror, now_s = self._mirror, self._clock.monotonic_s()
        if not mirror.href:
            await self._make_mirror(place)
            mirror.since_s, mirror.since_server_s, mirror.means = now_s, server_s, {}
        elif now_s - mirror.since_s >= mirror.every_s:
            means = {n: m.total / m.count for n, m in mirror.means.items()}
            since_s = mirror.since_server_s
            mirror.since_s, mirror.since_server_s, mirror.means = now_s, server_s, {}
            for name, mean in means.items():
                await self._post_reading(name, mean, since_s, server_s)

    async def _make_mirror(self, place: str) -> None:
        sep = self._sep
        body = sep.MirrorUsagePoint(
            m_rid=self._mrid("meter"),
            description=f"{self._site.hierarchy.plant} POI"[:32],
            role_flags=sep.RoleFlagsType(value=MIRROR_ROLE.to_bytes(2, "big")),
            service_category_kind=sep.ServiceKind(value=0),
            status=1,
            device_lfdi=bytes.fromhex(self._identity.lfdi),
            mirror_meter_reading=[
                sep.MirrorMeterReading1(
                    m_rid=self._mrid(name), description=words, reading_type=self._type(unit)
                )
                for name, (words, unit, _) in READINGS.items()
            ],
        )
        told = await self._transport.post(place, self._documents.write(body))
        href = path_of(told, self._server)
        made = self._documents.read(await self._transport.get(href), sep.MirrorUsagePoint)
        rate_s = None if made.post_rate is None else float(made.post_rate)
        self._mirror.href, self._mirror.every_s = href, _rate_s(rate_s)

    def _type(self, unit: int) -> Any:
        sep = self._sep
        return sep.ReadingType1(
            accumulation_behaviour=sep.AccumulationBehaviourType(value=INDICATING),
            commodity=sep.CommodityType(value=ELECTRICITY),
            data_qualifier=sep.DataQualifierType(value=AVERAGE),
            flow_direction=sep.FlowDirectionType(value=FORWARD),
            kind=sep.KindType(value=POWER),
            power_of_ten_multiplier=sep.PowerOfTenMultiplierType(value=0),
            uom=sep.UomType(value=unit),
        )

    async def _post_reading(self, name: str, mean: float, since_s: float, until_s: float) -> None:
        sep, (words, _, factor) = self._sep, READINGS[name]
        period = sep.DateTimeInterval(
            duration=max(0, int(until_s) - int(since_s)), start=sep.TimeType(value=int(since_s))
        )
        body = sep.MirrorMeterReading(
            m_rid=self._mrid(name),
            description=words,
            reading=sep.Reading1(
                quality_flags=VALID.to_bytes(2, "big"), time_period=period, value=round(mean * factor)
            ),
        )
        try:
            await self._transport.post(self._mirror.href, self._documents.write(body))
        except NoAnswer as error:
            if error.status == 404:
                self._mirror.href = ""  # the server has forgotten it: it is made anew
            raise
        self._counts["readings"] += 1

    def _mrid(self, what: str) -> Any:
        """Always the same for the same plant, whose LFDI is in it."""
        return self._sep.MRidtype(
            value=hashlib.sha256(f"{self._identity.lfdi} {what}".encode()).digest()[:16]
        )


def _rate_s(told_s: float | None) -> float:
    """As the server wants it, within bounds."""
    return POST_S if told_s is None else min(POST_S_MAX, max(POST_S_MIN, told_s))


def _words(now: Doing) -> tuple[int | None, ...]:
    """What of a state is told at once when it changes."""
    return now.mode, now.storage, now.generating, now.storing


def _byte(bits: int | None) -> bytes | None:
    return None if bits is None else bytes([bits])
