"""`DeviceIO` straight onto a World: readings and writes without sockets; its coroutines never wait.

What a device tells passes through the point map as it does on the wire, so that an edge on a virtual clock
sees the same rounded numbers, and a device the same rounded commands.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Protocol

from connectors.point_map import PointCodec, point_codecs
from connectors.raw_types import Kind, Raw
from ems.clock import Clock
from ems.commands import Command, WriteOutcome, WriteResult
from ems.errors import BadValue
from ems.points import point_id
from ems.site import Site
from ems.telemetry import Quality, Reading
from sim.writes import WriteVerdict

_SINGLE = struct.Struct("f")
_DOUBLE_MAX = 1e300
OUTCOMES = {
    WriteVerdict.ACCEPTED: WriteOutcome.CONFIRMED,
    WriteVerdict.UNKNOWN_POINT: WriteOutcome.REJECTED,
    WriteVerdict.READ_ONLY: WriteOutcome.REJECTED,
    WriteVerdict.BAD_VALUE: WriteOutcome.REJECTED,
    WriteVerdict.SILENT: WriteOutcome.UNKNOWN,
    WriteVerdict.REFUSED: WriteOutcome.REJECTED,
}


class Devices(Protocol):
    """All devices of a plant as they answer: a World, or a DeviceFace over one."""

    @property
    def site(self) -> Site:
        """The plant they belong to."""
        ...

    def readings(self) -> Mapping[str, float]:
        """What they tell now, by point; those that do not answer are left out."""
        ...

    def write(self, point: str, value: float) -> WriteVerdict:
        """One write as it arrives."""
        ...


def mapped_points(site: Site) -> tuple[str, ...]:
    """Points the EMS reads: those of the connections, or every point there can be when the site has none."""
    if site.connections:
        beats = {c.watchdog_point for c in site.connections}
        return tuple(m.point for c in site.connections for m in c.points if m.point not in beats)
    return tuple(point_id(asset, name) for asset, names in site.read_names().items() for name in names)


class _Point:
    """One point of a device. The last answer and the last command are remembered: most are repeated."""

    __slots__ = ("_arriving", "_codec", "_sent", "_single", "held", "point", "quality", "value")

    def __init__(self, point: str, codec: PointCodec | None) -> None:
        self.point = point
        self.held: float | None = None  # by the device
        self.value: float | None = None  # as the EMS decodes it
        self.quality = Quality.COMM_FAILED
        self._codec = codec
        self._single = codec is not None and codec.raw.kind is Kind.FLOAT and codec.raw.raw_max < _DOUBLE_MAX
        self._sent: float | None = None
        self._arriving = 0.0

    def hear(self, held: float | None) -> None:
        """Take what the device holds now; None where it is silent or holds no value yet."""
        self.held = held
        if held is None:
            self.value, self.quality = None, Quality.COMM_FAILED
        elif self._codec is None:
            self.value, self.quality = held, Quality.GOOD
        else:
            self.value, self.quality = self._codec.from_raw(self._wired(self._codec.raw_reported(held)))

    def arriving(self, value: float) -> float:
        """What arrives at the device of a command.

        Raises
        ------
        BadValue : it cannot be sent.
        """
        if self._codec is None:
            return value
        if value != self._sent:
            arriving = self._codec.from_raw(self._wired(self._codec.to_raw(value))).value
            if arriving is None:
                raise BadValue(f"{self.point}: {value!r} means no number")
            self._sent, self._arriving = value, arriving
        return self._arriving

    def _wired(self, raw: Raw) -> Raw:
        """A float of 32 bits carries less than ours; everything else arrives as it is."""
        if self._single:
            single: float = _SINGLE.unpack(_SINGLE.pack(raw))[0]
            return single
        return raw


class WorldIO:
    """All devices of a world, read and written in memory, through the point maps of the site's connections.

    Parameters
    ----------
    world : the plant, or its devices with faults. A site without connections is read and written as it is.
    clock : time stamps of the readings.
    """

    def __init__(self, world: Devices, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        codecs = {p: c for x in world.site.connections for p, c in point_codecs(x).items()}
        self._points = {p: _Point(p, c) for p, c in codecs.items()}
        self._read = [self._point(p) for p in mapped_points(world.site)]

    async def read_all(self) -> Sequence[Reading]:
        """One reading per mapped point; COMM_FAILED where the device is silent or holds no value yet."""
        values = self._world.readings()
        now, now_s = self._clock.now(), self._clock.monotonic_s()
        out = []
        for p in self._read:
            held = values.get(p.point)
            if held != p.held:
                p.hear(held)
            out.append(
                Reading(point=p.point, value=p.value, quality=p.quality, source_time=now, arrived_s=now_s)
            )
        return out

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        """Give each command to its device; one result each."""
        return [self._write(command) for command in commands]

    async def close(self) -> None:
        """Nothing to release."""

    def _write(self, command: Command) -> WriteResult:
        try:
            value = self._point(command.point).arriving(command.value)
        except BadValue as error:
            outcome, detail = WriteOutcome.NOT_SENT, str(error)
        else:
            verdict = self._world.write(command.point, value)
            outcome, detail = OUTCOMES[verdict], verdict.value
        return WriteResult(command=command, outcome=outcome, detail=detail, finished_at=self._clock.now())

    def _point(self, point: str) -> _Point:
        if point not in self._points:  # not in any map: a site without connections
            self._points[point] = _Point(point, None)
        return self._points[point]
