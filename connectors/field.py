"""All devices behind `ems.ports.DeviceIO`: one task each, so that a dead one costs the others nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain

import structlog

from connectors.device import Device, OnEvent
from connectors.link import DeviceLink, WriteReply
from connectors.modbus.client import ModbusLink
from connectors.opcua.client import OpcUaLink
from connectors.point_map import PointCodec, point_codecs
from ems.clock import Clock
from ems.commands import Command, WriteOutcome, WriteResult
from ems.records import JsonValue
from ems.site import Connection, Protocol, Site
from ems.telemetry import Reading

log = structlog.get_logger()


class FieldIO:
    """Real devices over the network. Control time comes from `clock`, wire time-outs are wall time.

    Parameters
    ----------
    site : its `connections` say which devices there are and which points they hold.
    clock : gives `Reading.arrived_s` and, where the device tells no time of its own, `source_time`.
    addresses : connection id -> (host, port) that replaces the one in the site file.
    timeout_s : replaces the wire time-out of every connection [s wall]; None keeps each connection's own.
    back_off_s_max : longest pause between two attempts to connect [s wall].
    on_event : told once when a link is lost and once when it is back; `Recorder.event` fits.

    Raises
    ------
    ConfigError : the point maps cannot be worked with; carries every Problem.
    """

    def __init__(
        self,
        site: Site,
        *,
        clock: Clock,
        addresses: Mapping[str, tuple[str, int]] | None = None,
        timeout_s: float | None = None,
        on_event: OnEvent | None = None,
        back_off_s_max: float = 2.0,
    ) -> None:
        self._clock = clock
        self._on_event = on_event
        self._devices: dict[str, Device] = {}
        self._device_of: dict[str, Device] = {}
        deadlines = []
        for connection in site.connections:
            codecs = point_codecs(connection)
            host, port = (addresses or {}).get(connection.id, (connection.host, connection.port))
            wait_s = connection.timeout_s if timeout_s is None else timeout_s
            deadlines.append(wait_s)
            link = _link(connection, codecs, host, port, wait_s)
            device = Device(
                connection,
                codecs,
                link,
                clock=clock,
                on_event=self._link_event,
                back_off_s_max=back_off_s_max,
            )
            self._devices[connection.id] = device
            self._device_of |= dict.fromkeys(codecs, device)
        # A little longer than the wire time-outs: a silent device is told as failed in the same call.
        self._deadline_s = 1.2 * max(deadlines, default=0.0) + 0.02
        self._tasks: list[asyncio.Task[None]] = []

    async def read_all(self) -> Sequence[Reading]:
        """Poll every device that is due, wait for those that answer in time, return one reading per point.

        Waits little longer than the longest wire time-out at most, and not at all for devices known to be
        down or still working on the poll before; their answers are taken when they come.
        """
        self._start()
        waits = [w for d in self._devices.values() if (w := d.request_poll()) is not None]
        if waits:
            await asyncio.wait(waits, timeout=self._deadline_s)
        self._raise_bugs()
        return list(chain.from_iterable(d.readings() for d in self._devices.values()))

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        """Send each command once; those of one device in order, the devices side by side."""
        self._start()
        groups: dict[str, list[int]] = {}
        replies = [WriteReply(WriteOutcome.NOT_SENT, "no device has this point")] * len(commands)
        for i, command in enumerate(commands):
            if command.point in self._device_of:
                groups.setdefault(self._device_of[command.point].connection.id, []).append(i)
        finished = [self._clock.now()] * len(commands)

        async def send(device_id: str, rows: list[int]) -> None:
            answers = await self._devices[device_id].write([commands[i] for i in rows])
            for i, answer in zip(rows, answers, strict=True):
                replies[i], finished[i] = answer, self._clock.now()

        if len(groups) == 1:
            await send(*next(iter(groups.items())))
        elif groups:
            await asyncio.gather(*(send(d, rows) for d, rows in groups.items()))
        self._raise_bugs()
        return [
            WriteResult(command=c, outcome=r.outcome, detail=r.detail, finished_at=at)
            for c, r, at in zip(commands, replies, finished, strict=True)
        ]

    async def close(self) -> None:
        """Drop every connection."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []

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
            }
            for device_id, d in self._devices.items()
        }

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(d.run(), name=f"device {i}") for i, d in self._devices.items()]

    def _raise_bugs(self) -> None:
        """A device task ends only by being cancelled; anything else is a bug, not a silent device."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    def _link_event(self, at: datetime, kind: str, fields: dict[str, JsonValue]) -> None:
        log.info(kind, **fields)
        if self._on_event is not None:
            self._on_event(at, kind, fields)


def _link(
    connection: Connection, codecs: Mapping[str, PointCodec], host: str, port: int, timeout_s: float
) -> DeviceLink:
    rows = list(codecs.values())
    match connection.protocol:
        case Protocol.MODBUS_TCP:
            return ModbusLink(connection, rows, host=host, port=port, timeout_s=timeout_s)
        case Protocol.OPC_UA:
            return OpcUaLink(connection, rows, host=host, port=port, timeout_s=timeout_s)
