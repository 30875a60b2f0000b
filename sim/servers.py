"""Modbus TCP and OPC UA servers over a world, from the point maps of a site; and the plant's own loop."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import SimDevice

from connectors.point_map import PointCodec, point_codecs
from ems.clock import Clock
from ems.errors import EmsError
from ems.site import Connection, IdentityField, Protocol
from sim.clock import ClockStoppedError, LockstepClock
from sim.devices import ModbusDevice
from sim.sunspec_device import SunSpecDevice
from sim.ua_device import UaDevice
from sim.world import EPSILON_S, World

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
Address = tuple[str, int]


class PlantServers:
    """All devices of a plant on the wire.

    Parameters
    ----------
    world : the plant.
    connections : one server each, Modbus units that share host and port behind one server.
    addresses : host and port by connection id where they differ from the site file.
    identities : what devices say they are where it differs from what their maps expect, by connection id.
    """

    def __init__(
        self,
        world: World,
        connections: Sequence[Connection],
        *,
        addresses: Mapping[str, Address] | None = None,
        identities: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._world = world
        self._connections = tuple(connections)
        self._addresses = {} if addresses is None else dict(addresses)
        self._identities = {} if identities is None else dict(identities)
        self._modbus: list[ModbusTcpServer] = []
        self._opc_ua: list[UaDevice] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def publish(self) -> None:
        """Call after the world has moved. Modbus reads the world itself; OPC UA nodes are written here."""
        for device in self._opc_ua:
            await device.publish()

    def address_of(self, connection: Connection) -> Address:
        """Where a connection's server listens."""
        return self._addresses.get(connection.id, (connection.host, connection.port))

    def identity_of(self, connection: Connection) -> list[tuple[IdentityField, str]]:
        """What a device says it is: what its map was written for, unless told otherwise."""
        told = self._identities.get(connection.id, {})
        return [(f, told.get(f.name, _as_expected(f, connection.id))) for f in connection.identity]

    async def _start(self) -> None:
        units: dict[Address, list[Connection]] = {}
        for connection in self._connections:
            match connection.protocol:
                case Protocol.MODBUS_TCP | Protocol.SUNSPEC:
                    units.setdefault(self.address_of(connection), []).append(connection)
                case Protocol.OPC_UA:
                    host, port = self.address_of(connection)
                    path = "/" + connection.endpoint.lstrip("/")
                    codecs = list(point_codecs(connection).values())
                    device = UaDevice(
                        self._world, codecs, f"opc.tcp://{host}:{port}{path}", self.identity_of(connection)
                    )
                    self._opc_ua.append(device)
                    await device.start()
                case _:
                    raise EmsError(f"{connection.id!r}: no {connection.protocol} device is simulated")
        for address, connections in units.items():
            await self._start_modbus(address, connections)

    async def _start_modbus(self, address: Address, connections: Sequence[Connection]) -> None:
        devices: list[SimDevice] = []
        codecs: list[PointCodec] = []
        for connection in connections:
            mine = list(point_codecs(connection).values())
            codecs += mine
            identity = self.identity_of(connection)
            kind = SunSpecDevice if connection.protocol is Protocol.SUNSPEC else ModbusDevice
            device = kind(self._world, mine, unit_id=connection.unit_id, identity=identity)
            devices.append(device.sim_device())
        assets = frozenset(c.point.point.partition(".")[0] for c in codecs)

        def ears(sending: bool, data: bytes) -> bytes:
            """A silent device hears nothing and says nothing."""
            return b"" if assets <= self._world.silent_assets() else data

        server = ModbusTcpServer(devices, address=address, trace_packet=ears)
        try:
            await server.serve_forever(background=True)
        except (OSError, RuntimeError) as error:
            raise EmsError(f"cannot listen on {address[0]}:{address[1]} ({error})") from error
        self._modbus.append(server)

    async def _stop(self) -> None:
        for server in self._modbus:
            await server.shutdown()  # type: ignore[no-untyped-call]
        for device in self._opc_ua:
            with contextlib.suppress(OSError, AttributeError):
                await device.stop()
        self._modbus, self._opc_ua = [], []


def _as_expected(field: IdentityField, connection_id: str) -> str:
    for text in (field.expected, field.low, field.high):
        if text is not None:
            return text
    return f"SIM-{connection_id}"


async def serve_plant(
    world: World,
    clock: Clock,
    servers: PlantServers,
    *,
    period_s: Callable[[float], float],
    stop: Callable[[], bool] = lambda: False,
    checkpoint: Path | None = None,
    checkpoint_s: float = 60.0,
) -> None:
    """The loop of the plant process: move the world with the clock until the scenario or the clock ends.

    Parameters
    ----------
    world : at or behind the clock; a world restored from a checkpoint catches up at once.
    clock : a `LockstepClock` that was connected with `follow`, or a real one. Its 0 s is the start of the run
        in lock-step; with a real clock the run starts now.
    period_s : longest step from a time on, where nobody else asks for an earlier time [s].
    stop : asked after each step.
    checkpoint : file that is renewed every `checkpoint_s` of plant time, for a plant that is killed.
    """
    lockstep = isinstance(clock, LockstepClock)
    zero_s = 0.0 if lockstep else clock.monotonic_s() - world.now_s
    saved_s = world.now_s
    with contextlib.suppress(ClockStoppedError):
        while world.now_s < world.scenario.duration_s - EPSILON_S and not stop():
            due_s = zero_s + world.now_s + period_s(world.now_s)
            if isinstance(clock, LockstepClock):
                await clock.follow(due_s)
            else:
                await clock.sleep_until(due_s)
            world.advance(clock.monotonic_s() - zero_s)
            await servers.publish()
            if checkpoint is not None and world.now_s >= saved_s + checkpoint_s:
                write_checkpoint(world, checkpoint)
                saved_s = world.now_s


def write_checkpoint(world: World, path: Path) -> None:
    """Write the world's state whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(world.checkpoint())
    part.replace(path)
