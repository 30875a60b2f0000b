"""Devices whose registers are laid out by one point map and read by another: what a wrong map does.

In virtual time and without a socket: values of the world become the registers a device has, and those are
decoded by the site's own map; writes go the other way. Readings of OPC UA nodes likewise, by their names.
"""

from collections.abc import Mapping, Sequence

from connectors.point_map import PointCodec, point_codecs
from ems.clock import Clock
from ems.commands import Command, WriteOutcome, WriteResult
from ems.errors import BadValue
from ems.site import Protocol, Site
from ems.telemetry import Quality, Reading
from sim.direct_io import WorldIO
from sim.faults.face import DeviceFace
from sim.writes import WriteVerdict

Register = tuple[str, str, int]  # connection, table, address


class MappedIO:
    """`DeviceIO` over a world: `true` is the map of the devices, `used` the one the edge was given."""

    def __init__(self, face: DeviceFace, clock: Clock, true: Site, used: Site) -> None:
        self._inner, self._face, self._clock = WorldIO(face, clock), face, clock
        self._true = {c.id: point_codecs(c) for c in true.connections if c.protocol is Protocol.MODBUS_TCP}
        self._used = {c.id: point_codecs(c) for c in used.connections if c.protocol is Protocol.MODBUS_TCP}
        self._device = {p: c for c, codecs in self._used.items() for p in codecs}
        nodes = [point_codecs(c) for c in true.connections if c.protocol is Protocol.OPC_UA]
        self._nodes = {codec.point.address: codec for codecs in nodes for codec in codecs.values()}
        asked = [point_codecs(c) for c in used.connections if c.protocol is Protocol.OPC_UA]
        self._asked = {point: codec for codecs in asked for point, codec in codecs.items()}

    async def read_all(self) -> Sequence[Reading]:
        """Every point through both maps."""
        mapped = {*self._device, *self._asked}
        out = [r for r in await self._inner.read_all() if r.point not in mapped]
        told = self._face.readings()
        out += [self._node(point, codec, told) for point, codec in self._asked.items()]
        for device, codecs in self._used.items():
            registers = self._registers(device, told)
            for point, codec in codecs.items():
                out.append(self._reread(device, point, codec, registers))
        return out

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        """Each command as the device understands it."""
        return [await self._write_one(c) for c in commands]

    async def close(self) -> None:
        """Nothing to release."""

    def _registers(self, device: str, told: Mapping[str, float]) -> dict[Register, int]:
        """What the device has in its registers."""
        out: dict[Register, int] = {}
        for point, codec in self._true[device].items():
            for i, word in enumerate(codec.encode_reported(told.get(point))):
                out[device, codec.point.table, codec.address + i] = word
        return out

    def _reread(
        self, device: str, point: str, codec: PointCodec, registers: Mapping[Register, int]
    ) -> Reading:
        words = [
            registers.get((device, codec.point.table, codec.address + i)) for i in range(codec.registers)
        ]
        known = [w for w in words if w is not None]
        value, quality = None, Quality.DEVICE_BAD
        if len(known) == len(words):
            value, quality = codec.decode(known)
        return self._reading(point, value, quality)

    def _node(self, point: str, codec: PointCodec, told: Mapping[str, float]) -> Reading:
        """What the node of a name is read as."""
        node = self._nodes.get(codec.point.address)
        if node is None:
            return self._reading(point, None, Quality.DEVICE_BAD)
        return self._reading(point, *codec.from_raw(node.raw_reported(told.get(node.point.point))))

    def _reading(self, point: str, value: float | None, quality: Quality) -> Reading:
        now = self._clock.now()
        return Reading(
            point=point, value=value, quality=quality, source_time=now, arrived_s=self._clock.monotonic_s()
        )

    async def _write_one(self, command: Command) -> WriteResult:
        device = self._device.get(command.point)
        if device is None:
            (result,) = await self._inner.write([command])
            return result
        outcome, detail = self._sent(device, command)
        return WriteResult(command=command, outcome=outcome, detail=detail, finished_at=self._clock.now())

    def _sent(self, device: str, command: Command) -> tuple[WriteOutcome, str]:
        codec = self._used[device][command.point]
        try:
            words = codec.encode(command.value)
        except BadValue as error:
            return WriteOutcome.NOT_SENT, str(error)
        for point, true in self._true[device].items():
            if (true.address, true.registers) != (codec.address, len(words)) or not true.point.writable:
                continue
            value, quality = true.decode(words)
            if value is None or quality is not Quality.GOOD:
                return WriteOutcome.REJECTED, "exception 3: illegal data value"
            verdict = self._face.write(point, value)
            taken = verdict is WriteVerdict.ACCEPTED
            return (WriteOutcome.CONFIRMED, "") if taken else (WriteOutcome.REJECTED, verdict.value)
        return WriteOutcome.REJECTED, "exception 2: illegal data address"
