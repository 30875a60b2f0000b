"""Small devices on real sockets: a Modbus TCP and an OPC UA server in this process."""

import dataclasses
from typing import Any, Protocol

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes
from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from cli.free_ports import free_ports
from connectors.point_map import point_codecs
from ems.commands import Cause, Command
from ems.site import Connection, PointMap, Site
from ems.site import Protocol as Wire
from tests.builders import T0, site

URI = "urn:test:plant"
REGISTERS = {"p_kw": 0, "soc": 2, "state": 3, "p_set_kw": 10, "run_request": 11, "p_limit_kw": 12}
TYPES = {
    "p_kw": ("f32", "Float", 1.0, 1, -500.0, 500.0),
    "soc": ("u16", "UInt16", 0.001, 1, 0.0, 1.0),
    "state": ("u16", "UInt16", 1.0, 1, 0.0, 3.0),
    "p_set_kw": ("s16", "Int16", 0.1, -1, -500.0, 500.0),
    "run_request": ("u16", "Boolean", 1.0, 1, 0.0, 1.0),
    "p_limit_kw": ("f32", "Double", 1.0, 1, 0.0, 600.0),
}
WRITABLE = {"p_set_kw", "run_request", "p_limit_kw"}
START = {"p_kw": 12.5, "soc": 0.5, "state": 1.0, "p_set_kw": 0.0, "run_request": 0.0, "p_limit_kw": 600.0}


def free_port() -> int:
    return free_ports(1)[0]


def point_map(asset: str, name: str, wire: Wire) -> PointMap:
    modbus_type, ua_type, scale, sign, low, high = TYPES[name]
    modbus = wire.is_modbus
    return PointMap(
        point=f"{asset}.{name}",
        address=str(REGISTERS[name]) if modbus else f"nsu={URI};s={asset}.{name}",
        table="holding" if modbus else "node",
        data_type=modbus_type if modbus else ua_type,
        byte_order="big",
        word_order="little" if name == "p_kw" else "big",
        scale=scale,
        offset=0.0,
        sign=sign,
        unit="kW",
        low=low,
        high=high,
        age_s_max=3.0,
        writable=name in WRITABLE,
    )


def connection(asset: str, wire: Wire, port: int, timeout_s: float = 0.3) -> Connection:
    return Connection(
        id=f"{asset}_link",
        protocol=wire,
        host="127.0.0.1",
        port=port,
        unit_id=1,
        endpoint="/plant",
        poll_s=1.0,
        timeout_s=timeout_s,
        watchdog_point=None,
        points=tuple(point_map(asset, name, wire) for name in TYPES),
    )


def site_of(*connections: Connection) -> Site:
    return dataclasses.replace(site(), connections=tuple(connections))


def command(point: str, value: float, seq: int = 1) -> Command:
    return Command(
        point=point,
        value=value,
        cause=Cause.PLAN,
        reason="test",
        owner="test",
        plan_id=None,
        epoch=1,
        seq=seq,
        limits_hash="",
        decided_at=T0,
        decided_s=0.0,
    )


async def reset(plant: "Plant") -> None:
    """Give a running plant the state it was started with."""
    await plant.refuse_writes(False)
    for name, value in START.items():
        await plant.put(name, value)


class Plant(Protocol):
    """A device that a test can look into, break and repair."""

    connection: Connection
    asset: str

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def get(self, name: str) -> float | None: ...
    async def put(self, name: str, value: float | None) -> None: ...
    async def refuse_writes(self, refuse: bool) -> None: ...


class ModbusPlant:
    wire, framer = Wire.MODBUS_TCP, FramerType.SOCKET

    def __init__(self, asset: str = "dev", port: int | None = None) -> None:
        self.asset = asset
        self.connection = connection(asset, self.wire, free_port() if port is None else port)
        self.codecs = point_codecs(self.connection)
        self.writes = 0
        self.refusing = False
        self.server: ModbusTcpServer | None = None
        self.registers = [0] * 14
        for name, value in START.items():
            self._store(name, value)

    def _store(self, name: str, value: float | None) -> None:
        codec = self.codecs[f"{self.asset}.{name}"]
        self.registers[codec.address : codec.address + codec.registers] = codec.encode_reported(value)

    async def _action(self, function: int, start: int, address: int, count: int, registers: Any, values: Any):
        if function in (6, 16):
            if self.refusing:
                return ExcCodes.ILLEGAL_VALUE
            if values is not None:
                self.writes += 1
        return None

    async def start(self) -> None:
        device = SimDevice(
            id=1,
            simdata=[SimData(0, values=self.registers, datatype=DataType.REGISTERS)],
            action=self._action,
        )
        address = ("127.0.0.1", self.connection.port)
        self.server = ModbusTcpServer(device, framer=self.framer, address=address)
        await self.server.serve_forever(background=True)

    async def stop(self) -> None:
        if self.server is not None:
            self.registers = list(await self.server.async_getValues(1, 3, 0, 14))
            await self.server.shutdown()  # type: ignore[no-untyped-call]
            self.server = None

    async def get(self, name: str) -> float | None:
        codec = self.codecs[f"{self.asset}.{name}"]
        assert self.server is not None
        return codec.decode(await self.server.async_getValues(1, 3, codec.address, codec.registers)).value

    async def put(self, name: str, value: float | None) -> None:
        codec = self.codecs[f"{self.asset}.{name}"]
        assert self.server is not None
        before = self.writes
        await self.server.async_setValues(1, 16, codec.address, codec.encode_reported(value))
        self.writes = before

    async def refuse_writes(self, refuse: bool) -> None:
        self.refusing = refuse


class RtuTcpPlant(ModbusPlant):
    """Serial frames through TCP, as a transparent gateway passes them on."""

    wire, framer = Wire.MODBUS_RTU_TCP, FramerType.RTU


class OpcUaPlant:
    def __init__(self, asset: str = "dev", port: int | None = None) -> None:
        self.asset = asset
        self.connection = connection(asset, Wire.OPC_UA, free_port() if port is None else port)
        self.codecs = point_codecs(self.connection)
        self.values = dict(START)
        self.namespaces_before = 1
        self.server: Server | None = None
        self.nodes: dict[str, Any] = {}

    async def start(self) -> None:
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.connection.port}/plant")
        for i in range(self.namespaces_before):
            await server.register_namespace(f"urn:test:somebody:else:{i}")
        index = await server.register_namespace(URI)
        for name, value in self.values.items():
            codec = self.codecs[f"{self.asset}.{name}"]
            kind = ua.VariantType[codec.raw.name]
            node = await server.nodes.objects.add_variable(
                ua.NodeId.from_string(f"ns={index};s={self.asset}.{name}"),
                name,
                codec.raw_reported(value),
                kind,
            )
            if codec.point.writable:
                await node.set_writable()
            self.nodes[name] = node
        await self.prepare(server)
        await server.start()
        self.server = server

    async def prepare(self, server: Server) -> None:
        """What a kind of it wants before it starts."""

    async def stop(self) -> None:
        if self.server is not None:
            for name in self.nodes:
                value = await self.get(name)
                self.values[name] = 0.0 if value is None else value
            server, self.server = self.server, None
            await server.stop()

    async def get(self, name: str) -> float | None:
        data = await self.nodes[name].read_data_value(raise_on_bad_status=False)
        return self.codecs[f"{self.asset}.{name}"].from_raw(data.Value.Value).value

    async def put(self, name: str, value: float | None) -> None:
        codec = self.codecs[f"{self.asset}.{name}"]
        data = ua.DataValue(ua.Variant(codec.raw_reported(value), ua.VariantType[codec.raw.name]))
        if value is None:
            data = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadSensorFailure)))
        await self.server.write_attribute_value(self.nodes[name].nodeid, data)  # type: ignore[union-attr]

    async def refuse_writes(self, refuse: bool) -> None:
        for name in WRITABLE:
            await self.nodes[name].set_writable(not refuse)
