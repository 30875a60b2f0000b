"""A SunSpec device of pymodbus for the suite of the device port: registers by hand, models 1 to 802."""

import dataclasses

from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from ems.site import Connection, PointMap, SunSpecRow
from ems.site import Protocol as Wire
from tests.contract.plants import ModbusPlant, connection, free_port
from tests.contract.sunspec_image import battery, registers

BASE = 40000
# point -> SunSpec point, a hundred percent of it, factor and sign, range
ROWS: dict[str, tuple[str, str | None, float, int, float, float]] = {
    "p_kw": ("701.W", None, 0.001, 1, -500.0, 500.0),
    "soc": ("802.SoC", None, 0.01, 1, 0.0, 1.0),
    "state": ("701.InvSt", None, 1.0, 1, 0.0, 3.0),
    "p_set_kw": ("704.WSet", None, 0.001, -1, -500.0, 500.0),
    "run_request": ("802.CtrlHb", None, 1.0, 1, 0.0, 1.0),
    "p_limit_kw": ("704.WMaxLimPct", "702.WMaxRtg", 0.001, 1, 0.0, 600.0),
}
STATES = (("OFF", 0.0), ("SLEEPING", 1.0), ("STARTING", 2.0), ("RUNNING", 3.0))
WRITABLE = {"p_set_kw", "run_request", "p_limit_kw"}
# point -> (register, how many, value of one count); 701.W in tens of W, the limit in thousandths of a percent
# of 1000 kW, WSet in hundreds of W with charging positive here.
PLACES: dict[str, tuple[int, int, float]] = {
    "p_kw": (40080, 1, 0.01),
    "soc": (40364, 1, 0.001),
    "state": (40074, 1, 1.0),
    "p_set_kw": (40301, 2, -0.1),
    "run_request": (40372, 1, 1.0),
    "p_limit_kw": (40292, 1, 0.01),
}
MISSING = {"p_kw": 0x8000, "soc": 0xFFFF}
SCALES = {40186: [1], 40227: [1000], 40270: [3], 40331: [0xFFFD, 2, 0xFFFF], 40291: [1], 40299: [1, 1]}


def row(asset: str, name: str) -> PointMap:
    address, rating, scale, sign, low, high = ROWS[name]
    return PointMap(
        point=f"{asset}.{name}",
        address=address,
        table="model",
        data_type="float",
        byte_order="big",
        word_order="big",
        scale=scale,
        offset=0.0,
        sign=sign,
        unit="kW",
        low=low,
        high=high,
        age_s_max=3.0,
        writable=name in WRITABLE,
        sunspec=SunSpecRow(percent_of=rating, states=STATES if name == "state" else ()),
    )


def sunspec_connection(asset: str, wire: Wire, port: int) -> Connection:
    plain = connection(asset, wire.wire, port)
    return dataclasses.replace(plain, protocol=wire, points=tuple(row(asset, name) for name in ROWS))


class SunSpecPlant(ModbusPlant):
    wire, framer = Wire.SUNSPEC, FramerType.SOCKET

    def __init__(self, asset: str = "dev", port: int | None = None) -> None:
        self.asset = asset
        self.connection = sunspec_connection(asset, self.wire, free_port() if port is None else port)
        self.writes = 0
        self.refusing = False
        self.server: ModbusTcpServer | None = None
        image = registers(battery(BASE) | SCALES)
        self.registers = [image[a] for a in sorted(image)]

    async def start(self) -> None:
        device = SimDevice(
            id=1,
            simdata=[SimData(BASE, values=self.registers, datatype=DataType.REGISTERS)],
            action=self._action,
        )
        address = ("127.0.0.1", self.connection.port)
        self.server = ModbusTcpServer(device, framer=self.framer, address=address)
        await self.server.serve_forever(background=True)

    async def stop(self) -> None:
        if self.server is not None:
            for at in range(0, len(self.registers), 100):
                count = min(100, len(self.registers) - at)
                words = await self.server.async_getValues(1, 3, BASE + at, count)
                self.registers[at : at + count] = [int(w) for w in words]
            await self.server.shutdown()  # type: ignore[no-untyped-call]
            self.server = None

    async def get(self, name: str) -> float | None:
        address, count, one = PLACES[name]
        assert self.server is not None
        words = [int(w) for w in await self.server.async_getValues(1, 3, address, count)]
        raw = int.from_bytes(b"".join(w.to_bytes(2, "big") for w in words), "big", signed=count == 2)
        return raw * one

    async def put(self, name: str, value: float | None) -> None:
        address, count, one = PLACES[name]
        assert self.server is not None
        raw = MISSING[name] if value is None else round(value / one)
        words = [(raw >> 16) & 0xFFFF, raw & 0xFFFF][2 - count :]
        before = self.writes
        await self.server.async_setValues(1, 16, address, words)
        self.writes = before


class SunSpecRtuPlant(SunSpecPlant):
    """The same in serial frames through TCP, as a transparent gateway passes them on."""

    wire, framer = Wire.SUNSPEC_RTU_TCP, FramerType.RTU
