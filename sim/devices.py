"""A simulated Modbus device: registers from the point map, values from the world when they are read."""

from collections.abc import Callable, Sequence

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from connectors.identity import to_registers
from connectors.point_map import BIT_TABLES, PointCodec
from ems.site import IdentityField
from ems.telemetry import Quality
from sim.world import World
from sim.writes import WriteVerdict

WRITES = (5, 6, 15, 16, 22, 23)
TABLE_OF = dict.fromkeys((3, *WRITES), "holding") | {
    1: "coil",
    2: "discrete",
    4: "input",
    5: "coil",
    15: "coil",
}
REFUSAL = {
    WriteVerdict.UNKNOWN_POINT: ExcCodes.ILLEGAL_ADDRESS,
    WriteVerdict.READ_ONLY: ExcCodes.ILLEGAL_ADDRESS,
    WriteVerdict.BAD_VALUE: ExcCodes.ILLEGAL_VALUE,
    WriteVerdict.SILENT: ExcCodes.DEVICE_FAILURE,
    WriteVerdict.REFUSED: ExcCodes.DEVICE_BUSY,
}
RESERVED_MAX = 16  # registers between two points that read as 0, as real devices do; wider gaps do not exist
UNUSED = SimData(0, count=1, datatype=DataType.BITS)


class ModbusDevice:
    """One unit behind a Modbus TCP server.

    Parameters
    ----------
    world : the plant.
    codecs : points of the unit, by the map of its connection.
    unit_id : answers to this unit only.
    identity : what it says it is.
    on_write : called after a write that the device took.
    """

    def __init__(
        self,
        world: World,
        codecs: Sequence[PointCodec],
        *,
        unit_id: int,
        identity: Sequence[tuple[IdentityField, str]] = (),
        on_write: Callable[[], None] = lambda: None,
    ) -> None:
        self._world = world
        self._codecs = {
            table: [c for c in codecs if c.point.table == table]
            for table in ("holding", "input", *BIT_TABLES)
        }
        self._unit_id = unit_id
        self._identity = {
            table: [(int(f.address), to_registers(f, text)) for f, text in identity if f.table == table]
            for table in ("holding", "input")
        }
        self._on_write = on_write

    def sim_device(self) -> SimDevice:
        """The pymodbus side of it."""
        return SimDevice(
            id=self._unit_id,
            simdata=(
                self._bits("coil"),
                self._bits("discrete"),
                self._blocks("holding"),
                self._blocks("input"),
            ),
            use_bit_addressing=True,
            action=self._action,
        )

    def _bits(self, table: str) -> list[SimData]:
        """One block from the first mapped bit to the last."""
        places = [c.address for c in self._codecs[table]]
        if not places:
            return [UNUSED]
        values = [False] * (max(places) + 1 - min(places))
        return [SimData(min(places), values=values, datatype=DataType.BITS)]

    def _blocks(self, table: str) -> list[SimData]:
        bits = {(c.address, c.registers): c for c in self._codecs[table] if c.point.bit is not None}
        spans = [
            (c.address, [0] * c.registers, not c.point.writable)
            for c in (*bits.values(), *(c for c in self._codecs[table] if c.point.bit is None))
        ]
        spans += [(address, words, True) for address, words in self._identity[table]]
        if not spans:
            return [SimData(0, count=1, datatype=DataType.INVALID)]
        out: list[SimData] = []
        end = min(address for address, _, _ in spans)
        for address, words, readonly in sorted(spans):
            if 0 < address - end <= RESERVED_MAX:
                out.append(_registers(end, [0] * (address - end), readonly=True))
            out.append(_registers(address, words, readonly=readonly))
            end = address + len(words)
        return out

    async def _action(
        self,
        function_code: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        table = TABLE_OF.get(function_code, "holding")
        if table in BIT_TABLES:  # counted in words of 16 bits
            count = 16 * count if values is None else len(values)
        touched = [
            c
            for c in self._codecs[table]
            if c.address < address + count and address < c.address + c.registers
        ]
        if values is not None and function_code in WRITES:
            refused = self._write(touched, address, [int(v) for v in values])
            if refused is not None:
                return refused
        readings, told = self._world.readings(), set[int]()
        for codec in touched:
            value = readings.get(codec.point.point)
            if table in BIT_TABLES:
                at, mask = codec.address // 16 - start, 1 << codec.address % 16
                registers[at] = registers[at] | mask if codec.raw_reported(value) else registers[at] & ~mask
                continue
            at = codec.address - start
            of_many = codec.point.bit is not None
            words = codec.encode_reported(0.0 if of_many and value is None else value)
            if of_many and codec.address in told:
                words = [a | b for a, b in zip(words, registers[at : at + codec.registers], strict=True)]
            registers[at : at + codec.registers] = words
            told.add(codec.address)
        return None

    def _write(self, touched: list[PointCodec], address: int, values: list[int]) -> ExcCodes | None:
        """All or nothing: a device takes no half values and no values it cannot hold."""
        wanted: list[tuple[str, float]] = []
        for codec in touched:
            at = codec.address - address
            if at < 0 or at + codec.registers > len(values):
                return ExcCodes.ILLEGAL_ADDRESS
            bit = codec.point.table in BIT_TABLES
            decoded = (
                codec.from_raw(bool(values[at])) if bit else codec.decode(values[at : at + codec.registers])
            )
            if decoded.value is None or decoded.quality is not Quality.GOOD:
                return ExcCodes.ILLEGAL_VALUE
            wanted.append((codec.point.point, decoded.value))
        for point, value in wanted:
            verdict = self._world.write(point, value)
            if verdict is not WriteVerdict.ACCEPTED:
                return REFUSAL[verdict]
        self._on_write()
        return None


def _registers(address: int, words: list[int], *, readonly: bool) -> SimData:
    return SimData(address, values=words, datatype=DataType.REGISTERS, readonly=readonly)
