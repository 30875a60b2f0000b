"""Fewest read requests for a set of points."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

from connectors.link import PointValue
from connectors.modbus.frames import DATA_AT
from connectors.point_map import BIT_TABLES, PointCodec
from ems.modbus import HOLES_MAX, REGISTERS_MAX
from ems.telemetry import Quality

_pack = tuple.__new__  # a named tuple without the call of its own constructor


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One read request and the points in its answer, each with its offset in bytes; of bits, in bits."""

    table: str
    address: int
    count: int
    points: tuple[tuple[PointCodec, int], ...]
    has_holes: bool
    plain: Struct  # every point at once, holes skipped; of no points when `odd`
    usual: tuple[tuple[PointCodec, str, int | None, float, float, float, float], ...]  # `PointCodec.usual`
    odd: bool  # points that share registers, have codes, or other orders of bytes: decoded one by one

    @property
    def of_bits(self) -> bool:
        """Coils or discrete inputs."""
        return self.table in BIT_TABLES

    def decode_into(self, out: dict[str, PointValue], received: bytes, age_s: float | None = None) -> None:
        """Add value and quality of each point in the whole reply `received` to a request of `age_s` ago."""
        if self.of_bits:
            for codec, at in self.points:
                out[codec.point.point] = PointValue(*codec.from_raw(bit_of(received, at)), None, age_s)
            return
        if self.odd:
            for codec, at in self.points:
                out[codec.point.point] = PointValue(*codec.decode_at(received, DATA_AT + at), None, age_s)
            return
        raws = self.plain.unpack_from(received, DATA_AT)
        for (codec, point, missing, factor, offset, low, high), raw in zip(self.usual, raws, strict=True):
            value: float = raw * factor + offset
            if low <= value <= high and raw != missing:  # nearly always; NaN is in no range
                out[point] = _pack(PointValue, (value, Quality.GOOD, None, age_s))
            else:
                out[point] = PointValue(*codec.from_raw(raw), None, age_s)


def bit_of(received: bytes, at: int) -> bool:
    """A bit of a whole reply; the first one is the lowest of the first byte."""
    return bool(received[DATA_AT + at // 8] >> at % 8 & 1)


def read_blocks(
    codecs: Iterable[PointCodec], hole_max: int = HOLES_MAX, registers_max: int = REGISTERS_MAX
) -> tuple[ReadBlock, ...]:
    """Group points of one device into the fewest requests.

    No point is split, no request reads more than `registers_max` registers or more than `hole_max` unmapped
    registers in a row. Taking points in order of address and closing a block only when the next point does
    not fit gives the fewest blocks.
    """
    ordered = sorted(codecs, key=lambda c: (c.point.table, c.address, c.registers))
    blocks: list[ReadBlock] = []
    group: list[PointCodec] = []
    start = end = 0
    for codec in ordered:
        same_table = bool(group) and codec.point.table == group[0].point.table
        near = codec.address <= end + hole_max and codec.address + codec.registers <= start + registers_max
        if group and not (same_table and near):
            blocks.append(_block(group))
            group = []
        if not group:
            start, end = codec.address, codec.address
        group.append(codec)
        end = max(end, codec.address + codec.registers)
    if group:
        blocks.append(_block(group))
    return tuple(blocks)


def halves(block: ReadBlock) -> tuple[ReadBlock, ...]:
    """The same points in two requests; the block itself where it has one point alone."""
    group = [codec for codec, _ in block.points]
    if len(group) == 1:
        return (block,)
    middle = len(group) // 2
    return _block(group[:middle]), _block(group[middle:])


def _block(group: Sequence[PointCodec]) -> ReadBlock:
    start = group[0].address
    end = max(c.address + c.registers for c in group)
    width = 1 if group[0].point.table in BIT_TABLES else 2
    points = tuple((c, width * (c.address - start)) for c in group)
    plain = _plain(points)
    mapped = {r for c in group for r in range(c.address, c.address + c.registers)}
    return ReadBlock(
        table=group[0].point.table,
        address=start,
        count=end - start,
        points=points,
        has_holes=len(mapped) < end - start,
        plain=Struct("") if plain is None else plain,
        usual=tuple((codec, *codec.usual) for codec, _ in points),
        odd=plain is None,
    )


def _plain(points: Sequence[tuple[PointCodec, int]]) -> Struct | None:
    """One format for all points in a row, most significant byte first; None where they do not lie so."""
    code, at = ">", 0
    for codec, offset in points:
        if offset < at or not codec.is_big_endian or not codec.is_linear:
            return None
        code += f"{offset - at}x{codec.raw.code}"
        at = offset + 2 * codec.registers
    return Struct(code)
