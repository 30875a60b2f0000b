"""All devices behind `ems.ports.DeviceIO`: one task each, so that a dead one costs the others nothing."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from pathlib import Path

import structlog

from connectors import tls
from connectors.bacnet.client import BacnetLink
from connectors.device import Device, Health, OnEvent
from connectors.dnp3.client import Dnp3Link
from connectors.expiry import EXPIRY_DAYS, ending
from connectors.http_json import secure as http
from connectors.http_json.client import HttpJsonLink
from connectors.identity import Told
from connectors.iec104.client import Iec104Link
from connectors.j1939.link import J1939Link
from connectors.link import Certified, Counting, DeviceLink, Explaining, Tapped, WriteReply
from connectors.modbus.bus import Bus
from connectors.modbus.client import ModbusLink
from connectors.modbus.registers import RegisterLink, terms_of
from connectors.modbus.rtu_link import RtuLink, bus_key, make_bus
from connectors.mqtt import session as mqtt
from connectors.mqtt.client import MqttLink
from connectors.opcua.client import OpcUaLink
from connectors.opcua.security import located
from connectors.point_map import PointCodec, point_codecs
from connectors.problems import connection_problems
from connectors.recorded import Collector, Recording, SampleStore
from connectors.sunspec.link import RegisterWire, SunSpecLink
from connectors.wire_log import TapOf, quiet
from ems.clock import Clock, wall_s
from ems.commands import Command, WriteOutcome, WriteResult
from ems.errors import ConfigError
from ems.ports import LastWord
from ems.records import JsonValue
from ems.site import Connection, Devices, Protocol, Site
from ems.telemetry import Reading

log = structlog.get_logger()

BUDGET_RATIO = 0.9  # of the time left before the next tick may be spent on waiting for writes
BUSY = WriteReply(WriteOutcome.NOT_SENT, "the device has not answered its last write yet")
LATE = WriteReply(WriteOutcome.UNKNOWN, "no answer before the cycle was over")


class FieldIO:
    """Real devices over the network. Control time comes from `clock`, wire time-outs are wall time.

    Parameters
    ----------
    site : its `connections` say which devices there are and which points they hold.
    clock : gives `Reading.arrived_s` and, where the device tells no time of its own, `source_time`.
    addresses : connection id -> (host, port) that replaces the one in the site file.
    timeout_s : replaces the wire time-out of every connection [s wall]; None keeps each connection's own.
    back_off_s_max : longest pause between two attempts to connect [s wall].
    phased : devices poll by themselves just before each tick they are told of (`expect_tick`), and nobody
        waits for them: `read_all` gives what has arrived, `write` comes back before the next tick. Needs a
        clock that runs by itself. False: `read_all` polls and waits, as lock-step time needs it.
    folder : that files named in the site file are relative to.
    commissioned : connection id -> what its device said it is when it was commissioned; a device that says
        something else is read, and not written to.
    on_event : told once when a link is lost and once when it is back; `Recorder.event` fits.
    tap_of : connection id -> what is told every byte on its wire.
    samples : where what devices recorded by themselves goes; None: it is left in them as far as that can be.

    Raises
    ------
    ConfigError : the point maps cannot be worked with; carries every Problem.
    """

    def __init__(  # noqa: PLR0913  each is a port or a choice of the composition root
        self,
        site: Site | Devices,
        *,
        clock: Clock,
        addresses: Mapping[str, tuple[str, int]] | None = None,
        timeout_s: float | None = None,
        on_event: OnEvent | None = None,
        back_off_s_max: float = 2.0,
        phased: bool = False,
        commissioned: Mapping[str, Mapping[str, str]] | None = None,
        folder: Path = Path(),
        tap_of: TapOf = quiet,
        samples: SampleStore | None = None,
    ) -> None:
        if refused := connection_problems(site):
            raise ConfigError(refused)
        self._clock = clock
        self._on_event, self._samples = on_event, samples
        self._collectors: dict[str, Collector] = {}
        self._devices: dict[str, Device] = {}
        self._device_of: dict[str, Device] = {}
        self._registers: list[RegisterLink] = []
        self._explaining: list[Explaining] = []
        self._counting: dict[str, Counting] = {}
        self._certified: dict[str, Certified] = {}
        deadlines: list[float] = []
        buses: dict[tuple[str, int], Bus] = {}
        shares: dict[tuple[str, int], list[float]] = {}  # time-outs of the units of each bus
        link: DeviceLink
        wire: object
        for connection in site.connections:
            codecs = point_codecs(connection)
            host, port = (addresses or {}).get(connection.id, (connection.host, connection.port))
            wait_s = connection.timeout_s if timeout_s is None else timeout_s
            deadlines.append(wait_s)
            if connection.protocol.is_rtu:
                key = bus_key(connection, host, port)
                bus = buses.setdefault(key, make_bus(connection, host, port))
                shares.setdefault(key, [wait_s]).append(wait_s)
                bus.taps.append(tap_of(connection.id))
                bus.keep_apart(terms_of(connection).pause_s)
                link, wire = _over_bus(connection, codecs, bus, wait_s, site)
            else:
                connection = _with_whole_paths(connection, folder)
                link, wire = _over_tcp(connection, codecs, host, port, wait_s, clock, site)
            self._keep(connection.id, link, wire, tap_of)
            device = Device(
                connection,
                codecs,
                link,
                clock=clock,
                on_event=self._link_event,
                back_off_s_max=back_off_s_max,
            )
            device.commissioned = None if commissioned is None else commissioned.get(connection.id)
            self._devices[connection.id] = device
            self._device_of |= dict.fromkeys(codecs, device)
        deadlines += [sum(waits) for waits in shares.values()]  # units of a bus are asked one after the other
        # A little longer than the wire time-outs: a silent device is told as failed in the same call.
        self._deadline_s = 1.2 * max(deadlines, default=0.0) + 0.02
        self._phased = phased
        self._tick_s = -math.inf  # when the next tick is due
        self._tasks: list[asyncio.Task[None]] = []
        self._sending: dict[str, asyncio.Task[None]] = {}  # writes that outlast their cycle
        self._late_bugs: list[asyncio.Task[None]] = []  # of those

    def _keep(self, connection_id: str, link: DeviceLink, wire: object, tap_of: TapOf) -> None:
        """What else is asked of a link, and of the wire below it, than readings and writes."""
        if isinstance(wire, Certified):
            self._certified[connection_id] = wire
        if isinstance(wire, Tapped):
            wire.tap = tap_of(connection_id)
        if isinstance(link, Counting):
            self._counting[connection_id] = link
        if isinstance(link, Explaining):
            self._explaining.append(link)
        if isinstance(link, RegisterLink):
            self._registers.append(link)
        if isinstance(link, Recording):
            collector = Collector(
                connection_id, self._samples, now=self._clock.now, on_event=self._link_event
            )
            link.collector = self._collectors[connection_id] = collector

    def expect_tick(self, at_s: float) -> None:
        """Told when the next tick is due [s control time]: polls end just before it, and writes are over."""
        self._tick_s = at_s
        if self._phased and math.isfinite(at_s):
            for device in self._devices.values():
                device.expect_tick(at_s)
        self._told = -1  # polls and failures that the edge knows of

    async def read_all(self) -> Sequence[Reading]:
        """One reading per point: what has arrived when phased, else what is polled now.

        When not phased it waits little longer than the longest wire time-out at most, and not at all for
        devices known to be down or still working on the poll before; their answers are taken when they come.
        The first call waits in either case, so that a start is not taken for a failure of every device.
        """
        first = self._start()
        if first or not self._phased:
            waits = [w for d in self._devices.values() if (w := d.request_poll()) is not None]
            if waits:
                await asyncio.wait(waits, timeout=self._deadline_s)
        self._raise_bugs()
        self._told = self._arrivals()
        return list(chain.from_iterable(d.readings() for d in self._devices.values()))

    def _arrivals(self) -> int:
        return sum(d.counters.polls + d.counters.failures for d in self._devices.values())

    def newest(self) -> Sequence[Reading]:
        """Every reading known now, without asking the wire; none where nothing arrived since last asked."""
        arrived = self._arrivals()
        if arrived == self._told:
            return ()
        self._told = arrived
        return list(chain.from_iterable(d.readings() for d in self._devices.values()))

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        """Send each command once; those of one device in order, the devices side by side.

        When phased it comes back before the next tick is due. What a device has not answered by then is
        unknown, and what it was not sent by then is never sent. It gets nothing more before it has answered.
        """
        return await self._write(commands, None)

    async def write_in_turn(self, commands: Sequence[Command], last_word: LastWord) -> Sequence[WriteResult]:
        """The same; each link asks `last_word` when it holds the wire, right before the bytes."""
        return await self._write(commands, last_word)

    async def _write(self, commands: Sequence[Command], last_word: LastWord | None) -> Sequence[WriteResult]:
        self._start()
        groups: dict[str, list[int]] = {}
        replies = [WriteReply(WriteOutcome.NOT_SENT, "no device has this point")] * len(commands)
        for i, command in enumerate(commands):
            if command.point in self._device_of:
                groups.setdefault(self._device_of[command.point].connection.id, []).append(i)
        finished = [self._clock.now()] * len(commands)
        budget_s = self._budget_s()
        until_s, begun = wall_s() + budget_s, set[str]()

        async def send(device_id: str, rows: list[int], before: "asyncio.Task[None] | None") -> None:
            if before is not None:
                await asyncio.wait([before])
            begun.add(device_id)
            answers = await self._devices[device_id].write([commands[i] for i in rows], until_s, last_word)
            for i, answer in zip(rows, answers, strict=True):
                replies[i], finished[i] = answer, self._clock.now()

        tasks = {d: asyncio.create_task(send(d, rows, self._sending.get(d))) for d, rows in groups.items()}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=None if budget_s == math.inf else budget_s)
        for device_id, task in tasks.items():
            if task.done():
                task.result()
                continue
            for i in groups[device_id]:
                replies[i], finished[i] = LATE if device_id in begun else BUSY, self._clock.now()
            self._leave_behind(device_id, task, len(groups[device_id]))
        self._raise_bugs()
        return [
            WriteResult(command=c, outcome=r.outcome, detail=r.detail, finished_at=at)
            for c, r, at in zip(commands, replies, finished, strict=True)
        ]

    def _budget_s(self) -> float:
        """How long a write may keep the cycle; no limit where nobody said when the next tick is due [s]."""
        left_s = self._tick_s - self._clock.monotonic_s()
        return BUDGET_RATIO * left_s if self._phased and left_s > 0.0 else math.inf

    def _leave_behind(self, device_id: str, task: "asyncio.Task[None]", writes: int) -> None:
        """A device answers too late for this cycle: its task goes on, and keeps it from further writes."""
        self._devices[device_id].counters.late_writes += writes
        self._sending[device_id] = task
        task.add_done_callback(lambda done: self._answered(device_id, done))

    def _answered(self, device_id: str, task: "asyncio.Task[None]") -> None:
        if self._sending.get(device_id) is task:
            del self._sending[device_id]
        if not task.cancelled() and task.exception() is not None:
            self._late_bugs.append(task)

    async def close(self) -> None:
        """Let writes on the wire have their answers, then drop every connection."""
        if self._sending:
            await asyncio.wait(self._sending.values(), timeout=self._deadline_s)
        for device, task in zip(self._devices.values(), self._tasks, strict=False):
            device.end(task)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []

    def strangers(self) -> dict[str, str]:
        """Connections whose device is not the one that may be written to, and why."""
        return {i: d.strange for i, d in self._devices.items() if d.strange}

    def identities(self) -> dict[str, Told]:
        """What each device said it is, when it was connected last; only those with an identity block."""
        return {i: d.told for i, d in self._devices.items() if d.connection.identity}

    def expiring(self) -> dict[str, str]:
        """Connections with a certificate that ends within `EXPIRY_DAYS`, or has ended, and which it is."""
        now = self._clock.now()
        texts = {i: "; ".join(ending(link.expiries, now, EXPIRY_DAYS)) for i, link in self._certified.items()}
        return {i: text for i, text in texts.items() if text}

    def faults(self) -> dict[str, tuple[str, ...]]:
        """Active fault codes of each device that is connected and tells some, in words."""
        return {i: d.faults for i, d in self._devices.items() if d.faults and d.health is Health.UP}

    def driver_faults(self) -> dict[str, str]:
        """Devices whose driver raised what it should not have: told once at least, and while down by it."""
        return {i: told for i, d in self._devices.items() if (told := d.driver_fault())}

    def losses(self) -> dict[str, str]:
        """Devices that lately recorded more than they handed over, and why."""
        return {i: why for i, c in self._collectors.items() if (why := c.loss)}

    def wrong_clocks(self) -> dict[str, str]:
        """Devices whose clock is not believed, by what they recorded lately, and why."""
        return {i: why for i, c in self._collectors.items() if (why := c.clock)}

    def why_unread(self, point: str) -> str:
        """What a device or its link said when a point could not be read last; empty: nothing."""
        for link in self._explaining:
            if point in link.refused:
                return link.refused[point]
        device = self._device_of.get(point)
        return "" if device is None else device.strange or device.reason

    def words(self, point: str) -> tuple[int, ...]:
        """Registers of a point as they came with the last answer; empty where it is not one of registers."""
        return next((words for link in self._registers if (words := link.words(point))), ())

    def links(self) -> dict[str, dict[str, JsonValue]]:
        """State and counters of each connection, for the status row."""
        return {
            device_id: {
                "health": d.health.value,
                "reason": d.reason,
                "polls": d.counters.polls,
                "failures": d.counters.failures,
                "connects": d.counters.connects,
                "writes": d.counters.writes,
                "unknown_writes": d.counters.unknown_writes,
                "late_polls": d.counters.late_polls,
                "late_writes": d.counters.late_writes,
                **({"faults": list(d.faults)} if d.faults is not None else {}),
                **(self._counting[device_id].counts if device_id in self._counting else {}),
                **(self._collectors[device_id].counts if device_id in self._collectors else {}),
            }
            for device_id, d in self._devices.items()
        }

    def figures(self) -> dict[str, JsonValue]:
        """Sums over all connections, for the status row."""
        counters = [d.counters for d in self._devices.values()]
        return {
            "devices": len(self._devices),
            "devices_down": sum(d.health is not Health.UP for d in self._devices.values()),
            "device_polls": sum(c.polls for c in counters),
            "device_failures": sum(c.failures for c in counters),
            "late_polls": sum(c.late_polls for c in counters),
            "late_writes": sum(c.late_writes for c in counters),
        }

    def _start(self) -> bool:
        """Start the tasks; True when they were not running yet."""
        if self._tasks:
            return False
        self._tasks = [asyncio.create_task(d.run(), name=f"device {i}") for i, d in self._devices.items()]
        return True

    def _raise_bugs(self) -> None:
        """A device task ends only by being cancelled; anything else is no matter of one device alone."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()
        for late in self._late_bugs:
            late.result()

    def _link_event(self, at: datetime, kind: str, fields: dict[str, JsonValue]) -> None:
        log.info(kind, **fields)
        if self._on_event is not None:
            self._on_event(at, kind, fields)


def _with_whole_paths(connection: Connection, folder: Path) -> Connection:
    """Files named in the site file are relative to its folder."""
    return replace(
        connection,
        security=None if connection.security is None else located(connection.security, folder),
        mqtt=None if connection.mqtt is None else mqtt.located(connection.mqtt, folder),
        http=None if connection.http is None else http.located(connection.http, folder),
        tls=None if connection.tls is None else tls.located(connection.tls, folder),
        dlms=None if connection.dlms is None else connection.dlms.located(folder),
    )


def _over_bus(
    connection: Connection, codecs: Mapping[str, PointCodec], bus: Bus, timeout_s: float, site: Site | Devices
) -> tuple[DeviceLink, RtuLink]:
    """A unit of a bus, and its wire."""
    plain = connection.protocol.is_modbus
    rtu = RtuLink(connection, list(codecs.values()) if plain else [], bus=bus, timeout_s=timeout_s)
    return (rtu if plain else _sunspec(codecs, rtu, site)), rtu


def _over_tcp(
    connection: Connection,
    codecs: Mapping[str, PointCodec],
    host: str,
    port: int,
    timeout_s: float,
    clock: Clock,
    site: Site | Devices,
) -> tuple[DeviceLink, object]:
    """A device with a wire of its own, and that wire."""
    if connection.protocol is not Protocol.SUNSPEC:
        link = _link(connection, codecs, host, port, timeout_s, clock)
        return link, link
    wire = ModbusLink(connection, [], host=host, port=port, timeout_s=timeout_s, now=clock.now)
    return _sunspec(codecs, wire, site), wire


def _link(
    connection: Connection,
    codecs: Mapping[str, PointCodec],
    host: str,
    port: int,
    timeout_s: float,
    clock: Clock,
) -> DeviceLink:
    rows = list(codecs.values())
    match connection.protocol:
        case Protocol.MODBUS_TCP:
            return ModbusLink(connection, rows, host=host, port=port, timeout_s=timeout_s, now=clock.now)
        case Protocol.OPC_UA:
            return OpcUaLink(connection, rows, host=host, port=port, timeout_s=timeout_s, now=clock.now)
        case Protocol.DNP3:
            return Dnp3Link(connection, rows, host=host, port=port, timeout_s=timeout_s, now=clock.now)
        case Protocol.IEC_104:
            return Iec104Link(connection, rows, host=host, port=port, timeout_s=timeout_s, now=clock.now)
        case Protocol.BACNET:
            return BacnetLink(connection, rows, host=host, port=port, timeout_s=timeout_s)
        case Protocol.DLMS:
            from connectors.dlms.client import DlmsLink  # its package is an extra

            return DlmsLink(connection, rows, host=host, port=port, timeout_s=timeout_s, now=clock.now)
        case Protocol.MQTT:
            assert connection.mqtt is not None, "the site schema gives every MQTT connection its broker"
            return MqttLink(
                connection,
                rows,
                broker=connection.mqtt,
                host=host,
                port=port,
                timeout_s=timeout_s,
                now=clock.now,
            )
        case Protocol.HTTP_JSON:
            assert connection.http is not None, "the site schema gives every HTTP connection its device"
            return HttpJsonLink(
                connection,
                rows,
                http=connection.http,
                host=host,
                port=port,
                timeout_s=timeout_s,
                now=clock.now,
            )
        case Protocol.IEC_61850:
            from connectors.iec61850.client import Iec61850Link  # its package is an extra

            return Iec61850Link(connection, rows, host=host, port=port, timeout_s=timeout_s, now=clock.now)
        case Protocol.GOOSE:
            from connectors.iec61850.goose_link import GooseLink

            assert connection.goose is not None, "the site schema gives every GOOSE connection its blocks"
            return GooseLink(connection.goose, rows, timeout_s=timeout_s)
        case Protocol.J1939:
            assert connection.can is not None, "the site schema gives every J1939 connection its bus"
            return J1939Link(connection.can, rows, timeout_s=timeout_s)
        case Protocol.MODBUS_RTU | Protocol.MODBUS_RTU_TCP:
            raise AssertionError("units of a bus are linked through it")
        case Protocol.SUNSPEC | Protocol.SUNSPEC_RTU | Protocol.SUNSPEC_RTU_TCP:
            raise AssertionError("SunSpec devices are linked over a Modbus link")


def _sunspec(codecs: Mapping[str, PointCodec], wire: RegisterWire, site: Site | Devices) -> SunSpecLink:
    return SunSpecLink(list(codecs.values()), wire, authority=site.authority.setpoints)
