"""What a row of a point map would read if it were wrong in one of the usual ways. Pure.

For a value that cannot be right: which mistake would explain it.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from connectors.point_map import PointCodec
from connectors.raw_types import Kind, types_of
from ems.site import Connection, PointMap

_SCALES = (
    (10.0, "ten times the scale"),
    (0.1, "a tenth of the scale"),
    (1000.0, "kW for W"),
    (0.001, "W for kW"),
)


def doubts(connection: Connection, point: str, value: float) -> list[str]:
    """Mistakes in the map that would make a plausible reading of an implausible one."""
    row = next(m for m in connection.points if m.point == point)
    if row.low <= value <= row.high:
        return []
    out = []
    for other, name in _others(connection, row):
        if other.data_type not in types_of(connection):
            continue
        read = _reread(connection, row, other, value)
        if read is not None and other.low <= read <= other.high:
            out.append(f"{name} would read {read:g} {row.unit}".rstrip())
    return out


def signedness(connection: Connection, point: str) -> str:
    """A type that cannot hold half of the range it is to be read in; empty: none."""
    row = next(m for m in connection.points if m.point == point)
    kind = types_of(connection)[row.data_type]
    if kind.kind is not Kind.INTEGER or kind.raw_min < 0:
        return ""
    raws = sorted((v - row.offset) / (row.scale * row.sign) for v in (row.low, row.high))
    if raws[0] < -0.02 * max(1.0, abs(raws[1])):
        span = f"[{row.low:g}, {row.high:g}]"
        return f"type {row.data_type} cannot hold the lower part of the range {span}: signed?"
    return ""


def _others(connection: Connection, row: PointMap) -> Iterator[tuple[PointMap, str]]:
    if connection.protocol.is_modbus:
        flipped = {"big": "little", "little": "big"}
        yield replace(row, word_order=flipped[row.word_order]), f"word_order {flipped[row.word_order]}"
        yield replace(row, byte_order=flipped[row.byte_order]), f"byte_order {flipped[row.byte_order]}"
        twin = {"u": "s", "s": "u"}.get(row.data_type[0])
        if twin is not None:
            yield replace(row, data_type=twin + row.data_type[1:]), f"type {twin}{row.data_type[1:]}"
    yield replace(row, sign=-row.sign), f"sign {-row.sign}"
    for factor, name in _SCALES:
        yield replace(row, scale=row.scale * factor), name


def _reread(connection: Connection, row: PointMap, other: PointMap, value: float) -> float | None:
    """What the registers behind a reading would read by another row."""
    types = types_of(connection)
    mine, theirs = PointCodec(row, types[row.data_type]), PointCodec(other, types[other.data_type])
    if connection.protocol.is_modbus:
        read = theirs.decode(mine.encode_reported(value)).value
    else:
        read = theirs.from_raw(mine.raw_reported(value)).value
    return read if read is not None and math.isfinite(read) else None
