"""The points of an engine, what its messages hold, and what they mean; worked out from SAE J1939 by hand."""

from typing import Any

from connectors.j1939.engine import Engine
from connectors.point_map import point_codecs
from ems.j1939 import Can
from ems.site import Connection, PointMap, Protocol

# point -> (place, type, scale, offset, low, high)
POINTS = {
    "speed_rpm": ("61444/4 [190]", "u16", 0.125, 0.0, 0.0, 8031.875),
    "coolant_degc": ("65262/1 [110]", "u8", 1.0, -40.0, -40.0, 210.0),
    "oil_kpa": ("65263/4 [100]", "u8", 4.0, 0.0, 0.0, 1000.0),
    "run_h": ("65253/1 [247]", "u32", 0.05, 0.0, 0.0, 2e8),
    "p_kw": ("65029/1 [2452]", "u32", 0.001, -2e6, -2e6, 2e6),
    "stop_lamp": ("65226/1.5", "bits2", 1.0, 0.0, 0.0, 1.0),
}
NONE = [255] * 8
GROUPS = {
    61444: [0xF0, 0x7D, 0x7D, 0xE0, 0x2E, 0x00, 0xFF, 0xFF],
    65262: [128, *NONE[1:]],
    65263: [0xFF, 0xFF, 0xFF, 105, 0xFF, 0xFF, 0xFF, 0xFF],
    65253: [0x40, 0xE2, 0x01, 0x00, 0xFF, 0xFF, 0xFF, 0xFF],
    65029: [0x00, 0x94, 0x35, 0x77, 0xFF, 0xFF, 0xFF, 0xFF],  # 2,000,000,000 and 0 W
}
RIGHT = {
    "dev.speed_rpm": 1500.0, "dev.coolant_degc": 88.0, "dev.oil_kpa": 420.0, "dev.run_h": 6172.8,
    "dev.p_kw": 0.0,
}  # fmt: skip
SOURCE = 3


def row(name: str) -> PointMap:
    address, data_type, scale, offset, low, high = POINTS[name]
    return PointMap(
        point=f"dev.{name}", address=address, table="pgn", data_type=data_type, byte_order="big",
        word_order="big", scale=scale, offset=offset, sign=1, unit="", low=low, high=high, age_s_max=60.0,
        writable=False,
    )  # fmt: skip


def connection(where: str = "can0", timeout_s: float = 0.2, **can: Any) -> Connection:
    told: dict[str, Any] = {"serial" if "/" in where else "interface": where, "source": SOURCE} | can
    return Connection(
        id="dev", protocol=Protocol.J1939, host="", port=0, unit_id=1, endpoint="", poll_s=0.1,
        timeout_s=timeout_s, watchdog_point=None, points=tuple(map(row, POINTS)), can=Can(**told),
    )  # fmt: skip


def engine(**can: Any) -> Engine:
    told = connection(**can)
    assert told.can is not None
    return Engine(told.can, list(point_codecs(told).values()))


def number(pgn: int, source: int = SOURCE, priority: int = 6) -> int:
    return priority << 26 | pgn << 8 | source


def line(pgn: int, data: list[int] | bytes, source: int = SOURCE) -> bytes:
    """A frame as an adapter writes it."""
    return b"T%08X%d%s\r" % (number(pgn, source), len(data), bytes(data).hex().upper().encode())


def parts(pgn: int, data: bytes) -> list[tuple[int, bytes]]:
    """A long message to everybody: its announcement and its parts."""
    count = -(-len(data) // 7)
    head = bytes([32, *len(data).to_bytes(2, "little"), count, 255, *pgn.to_bytes(3, "little")])
    body = data.ljust(7 * count, b"\xff")
    return [
        (number(60416 | 255), head),
        *((number(60160 | 255), bytes([i + 1]) + body[7 * i : 7 * i + 7]) for i in range(count)),
    ]
