"""The codec: exact where it can be, never out of range, and the four byte orders told apart."""

import dataclasses
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.link import PointValue
from connectors.map_check import check_point_maps
from connectors.modbus.blocks import read_blocks
from connectors.modbus.frames import DATA_AT
from connectors.point_map import PointCodec, point_codecs
from connectors.raw_types import MODBUS_TYPES, OPC_UA_TYPES, Kind
from ems.errors import BadValue, ConfigError
from ems.site import Connection, PointMap, Protocol
from ems.telemetry import Quality

INTEGERS = [t for t in MODBUS_TYPES.values() if t.kind is Kind.INTEGER]
IN_REGISTERS = [t.name for t in MODBUS_TYPES.values() if t.kind is not Kind.BOOLEAN]


def row(**changes: object) -> PointMap:
    values: dict[str, object] = {
        "point": "bess1.p_kw",
        "address": "0",
        "table": "holding",
        "data_type": "s16",
        "byte_order": "big",
        "word_order": "big",
        "scale": 1.0,
        "offset": 0.0,
        "sign": 1,
        "unit": "kW",
        "low": -1e9,
        "high": 1e9,
        "age_s_max": 3.0,
        "writable": True,
    }
    return PointMap(**(values | changes))  # type: ignore[arg-type]


def codec(**changes: object) -> PointCodec:
    point = row(**changes)
    return PointCodec(point, (MODBUS_TYPES | OPC_UA_TYPES)[point.data_type])


def device(*rows: PointMap, protocol: Protocol = Protocol.MODBUS_TCP) -> Connection:
    return Connection(
        id="dev",
        protocol=protocol,
        host="127.0.0.1",
        port=502,
        unit_id=1,
        endpoint="",
        poll_s=1.0,
        timeout_s=0.5,
        watchdog_point=None,
        points=rows,
    )


# 0x0A0B0C0D, the way devices call it: ABCD, CDAB, BADC, DCBA
ORDERS = [
    ("big", "big", [0x0A0B, 0x0C0D]),
    ("big", "little", [0x0C0D, 0x0A0B]),
    ("little", "big", [0x0B0A, 0x0D0C]),
    ("little", "little", [0x0D0C, 0x0B0A]),
]


@pytest.mark.parametrize(("byte_order", "word_order", "registers"), ORDERS)
def test_decode_byte_and_word_orders_of_two_registers(byte_order, word_order, registers):
    c = codec(data_type="u32", byte_order=byte_order, word_order=word_order)
    assert c.decode(registers) == (0x0A0B0C0D, Quality.GOOD)
    assert c.encode(0x0A0B0C0D) == registers


@pytest.mark.parametrize(
    ("byte_order", "word_order", "registers"),
    [
        ("big", "big", [0x0102, 0x0304, 0x0506, 0x0708]),
        ("big", "little", [0x0708, 0x0506, 0x0304, 0x0102]),
        ("little", "big", [0x0201, 0x0403, 0x0605, 0x0807]),
        ("little", "little", [0x0807, 0x0605, 0x0403, 0x0201]),
    ],
)
def test_decode_byte_and_word_orders_of_four_registers(byte_order, word_order, registers):
    value = struct.unpack(">d", bytes(range(1, 9)))[0]
    c = codec(data_type="f64", byte_order=byte_order, word_order=word_order)
    assert c.decode(registers).value == value
    assert c.encode(value) == registers


@pytest.mark.parametrize(
    ("data_type", "byte_order", "registers", "value"),
    [
        ("u16", "big", [0x1234], 0x1234),
        ("u16", "little", [0x3412], 0x1234),
        ("s16", "big", [0xFFFE], -2.0),
        ("s32", "big", [0xFFFF, 0xFFFE], -2.0),
        ("u64", "big", [0, 0, 1, 0], 65536.0),
        ("s64", "big", [0xFFFF] * 4, -1.0),
        ("f32", "big", [0x42F6, 0xE979], 123.456001282),
    ],
)
def test_decode_known_registers_known_value(data_type, byte_order, registers, value):
    c = codec(data_type=data_type, byte_order=byte_order)
    assert c.decode(registers).value == pytest.approx(value, rel=1e-9)


def test_decode_scale_sign_offset_applied_once():
    c = codec(data_type="s16", scale=0.1, sign=-1, offset=5.0)
    assert c.decode([100]).value == pytest.approx(-5.0)
    assert c.encode(-5.0) == [100]


@pytest.mark.parametrize("data_type", IN_REGISTERS)
@pytest.mark.parametrize(("byte_order", "word_order"), [o[:2] for o in ORDERS])
@given(data=st.data())
def test_encode_decode_round_trip(data_type, byte_order, word_order, data):
    """Within half a count (integers) or the type's own precision (floats), in every byte order."""
    scale = data.draw(st.sampled_from([1.0, 0.1, 0.001, 0.7, 10.0, 2.5]))
    sign = data.draw(st.sampled_from([1, -1]))
    offset = data.draw(st.sampled_from([0.0, -40.0, 273.15]))
    raw_type = MODBUS_TYPES[data_type]
    low = max(raw_type.raw_min + 1, -1e12) * scale
    high = min(raw_type.raw_max - 1, 1e12) * scale
    if sign < 0:
        low, high = -high, -low
    c = codec(
        data_type=data_type, byte_order=byte_order, word_order=word_order, scale=scale, sign=sign,
        offset=offset, low=low + offset, high=high + offset,
    )  # fmt: skip
    value = data.draw(st.floats(min_value=low + offset, max_value=high + offset))
    registers = c.encode(value)
    assert len(registers) == raw_type.registers
    assert all(0 <= r <= 0xFFFF for r in registers)
    back = c.decode(registers)
    assert back.quality is Quality.GOOD
    assert back.value is not None
    if raw_type.kind is Kind.INTEGER:
        assert abs(back.value - value) <= scale * (0.5 + 1e-3) + 1e-9 * abs(value)
    else:
        precision = 1e-6 if data_type == "f32" else 1e-12
        assert back.value == pytest.approx(value, rel=precision, abs=precision * (abs(offset) + 1.0))


@given(value=st.floats(), data_type=st.sampled_from(IN_REGISTERS))
def test_encode_any_float_refused_or_inside_the_range(value, data_type):
    c = codec(data_type=data_type, scale=0.5, low=-100.25, high=100.25)
    try:
        registers = c.encode(value)
    except BadValue:
        assert not math.isfinite(value) or not -100.25 <= value <= 100.25 or data_type.startswith("u")
    else:
        back = c.decode(registers).value
        assert back is not None
        assert -100.25 <= back <= 100.25


@given(registers=st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4))
@pytest.mark.parametrize("data_type", IN_REGISTERS)
def test_decode_any_registers_good_only_when_finite_and_in_range(data_type, registers):
    c = codec(data_type=data_type, low=-1000.0, high=1000.0)
    value, quality = c.decode(registers[: c.registers])
    assert value is None or math.isfinite(value)
    if quality is Quality.GOOD:
        assert value is not None
        assert -1000.6 <= value <= 1000.6


@pytest.mark.parametrize(
    ("data_type", "registers"),
    [
        ("u16", [0xFFFF]),
        ("s16", [0x8000]),
        ("u32", [0xFFFF, 0xFFFF]),
        ("s32", [0x8000, 0]),
        ("u64", [0xFFFF] * 4),
        ("s64", [0x8000, 0, 0, 0]),
    ],
)
def test_decode_not_available_count_is_no_number(data_type, registers):
    c = codec(data_type=data_type, low=-1e30, high=1e30)
    assert c.decode(registers) == (None, Quality.DEVICE_BAD)


@pytest.mark.parametrize("raw", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("data_type", "code"), [("f32", ">f"), ("f64", ">d")])
def test_decode_float_not_finite_is_no_number(data_type, code, raw):
    payload = struct.pack(code, raw)
    registers = list(struct.unpack(f">{len(payload) // 2}H", payload))
    assert codec(data_type=data_type).decode(registers) == (None, Quality.NOT_FINITE)


def test_decode_outside_plausible_range_value_kept_quality_bad():
    c = codec(data_type="u16", scale=0.001, low=0.0, high=1.0)
    assert c.decode([1000]) == (1.0, Quality.GOOD)
    value, quality = c.decode([1002])
    assert value is not None
    assert quality is Quality.OUT_OF_RANGE
    assert value == pytest.approx(1.002)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e400, 500.1, -500.1])
def test_encode_not_finite_or_out_of_range_refused_by_name(value):
    with pytest.raises(BadValue, match=r"bess1\.p_kw"):
        codec(low=-500.0, high=500.0).encode(value)


@pytest.mark.parametrize(
    ("data_type", "value"), [("u16", -1.0), ("u16", 65536.0), ("s16", 32768.0), ("f32", 1e39)]
)
def test_encode_does_not_fit_the_type_refused(data_type, value):
    with pytest.raises(BadValue, match="does not fit"):
        codec(data_type=data_type, low=-1e40, high=1e40).encode(value)


@pytest.mark.parametrize(("data_type", "value"), [("u16", 65535.0), ("s16", -32768.0)])
def test_encode_value_that_would_read_as_not_available_refused(data_type, value):
    with pytest.raises(BadValue, match="does not fit"):
        codec(data_type=data_type).encode(value)


@pytest.mark.parametrize("sign", [1, -1])
def test_encode_limit_between_two_counts_never_rounded_beyond_it(sign):
    """Rounding 100.06 kW to 100.1 kW would command more than the limit allows."""
    c = codec(scale=0.1, sign=sign, low=-100.06, high=100.06)
    assert c.decode(c.encode(100.06)).value == pytest.approx(100.0)
    assert c.decode(c.encode(-100.06)).value == pytest.approx(-100.0)


@pytest.mark.parametrize("raw_type", INTEGERS, ids=lambda t: t.name)
@given(value=st.one_of(st.none(), st.floats()))
def test_encode_reported_any_value_is_a_number_of_the_type(raw_type, value):
    """A simulated device reports whatever it is asked to, and a number is never told as "not available"."""
    c = codec(data_type=raw_type.name, low=-10.0, high=10.0)
    decoded = c.decode(c.encode_reported(value))
    missing = value is None or math.isnan(value)
    assert (decoded.value is None) == missing
    if value is not None and abs(value) <= 10 and not (value < 0 and raw_type.name.startswith("u")):
        assert decoded.value == pytest.approx(value, abs=0.5001)


@pytest.mark.parametrize(("value", "raw"), [(0.0, False), (1.0, True)])
def test_to_raw_boolean_is_a_boolean(value, raw):
    assert codec(data_type="Boolean").to_raw(value) is raw


def test_to_raw_boolean_half_refused():
    with pytest.raises(BadValue, match="neither 0 nor 1"):
        codec(data_type="Boolean").to_raw(0.5)


WRONG = {
    "data_type": "float",
    "scale": 0.0,
    "offset": math.nan,
    "sign": 2,
    "low": -math.inf,
    "high": -2e9,
    "byte_order": "abcd",
    "word_order": "swapped",
    "table": "node",
    "address": "65536",
}


@pytest.mark.parametrize("key", WRONG)
def test_check_point_maps_each_wrong_key_named(key):
    problems = check_point_maps([device(row(**{key: WRONG[key]}))])
    assert [p.key.rsplit(".", 1)[-1] for p in problems] == [key]


def test_check_point_maps_all_problems_at_once():
    bad = row(**WRONG)
    problems = check_point_maps([device(bad, dataclasses.replace(bad, point="bess1.soc"))])
    assert len(problems) >= 2 * (len(WRONG) - 1)
    with pytest.raises(ConfigError):
        point_codecs(device(bad))


def test_check_point_maps_two_points_in_one_register_refused_when_one_is_written():
    first = row(data_type="u32", address="10")
    second = row(point="bess1.soc", address="11", data_type="u16", writable=False)
    assert [p.key for p in check_point_maps([device(first, second)])] == [
        "connections.dev.points.bess1.soc.address"
    ]
    read_only = dataclasses.replace(first, writable=False)
    assert check_point_maps([device(read_only, second)]) == []
    elsewhere = dataclasses.replace(second, table="input")
    assert check_point_maps([device(first, elsewhere)]) == []


def test_check_point_maps_written_input_register_refused():
    assert [p.found for p in check_point_maps([device(row(table="input"))])] == ["'input'"]


@pytest.mark.parametrize(("address", "good"), [("nsu=urn:x;s=a", True), ("i=85", True), ("ns=2;s=a", False)])
def test_check_point_maps_opc_ua_namespace_by_uri(address, good):
    """A namespace index may change with every restart of a server."""
    point = row(address=address, table="node", data_type="Double")
    assert (check_point_maps([device(point, protocol=Protocol.OPC_UA)]) == []) is good


def points_at(*spans: tuple[int, str, str]) -> list[PointCodec]:
    return [
        codec(point=f"a.p{i}", address=str(address), data_type=data_type, table=table, writable=False)
        for i, (address, data_type, table) in enumerate(spans)
    ]


def test_read_blocks_neighbours_merged_tables_apart():
    blocks = read_blocks(points_at((10, "u16", "holding"), (0, "f32", "holding"), (2, "u16", "input")))
    assert [(b.table, b.address, b.count) for b in blocks] == [("holding", 0, 11), ("input", 2, 1)]
    assert [o for _, o in blocks[0].points] == [0, 20]
    assert (blocks[0].has_holes, blocks[1].has_holes) == (True, False)


def test_read_blocks_hole_too_wide_split():
    far = points_at((0, "u16", "holding"), (10, "u16", "holding"))
    assert len(read_blocks(far, hole_max=9)) == 1
    assert len(read_blocks(far, hole_max=8)) == 2


@given(
    spans=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.sampled_from(["u16", "f32", "f64"]),
            st.sampled_from(["holding", "input"]),
        ),
        max_size=60,
    ),
    hole_max=st.integers(0, 20),
    registers_max=st.integers(4, 125),
)
def test_read_blocks_any_map_every_point_once_whole_and_within_limits(spans, hole_max, registers_max):
    codecs = points_at(*spans)
    blocks = read_blocks(codecs, hole_max, registers_max)
    seen = [c.point.point for b in blocks for c, _ in b.points]
    assert sorted(seen) == sorted(c.point.point for c in codecs)
    for b in blocks:
        assert 0 < b.count <= registers_max
        used = sorted((c.address, c.address + c.registers) for c, _ in b.points)
        assert (used[0][0], max(end for _, end in used)) == (b.address, b.address + b.count)
        reach = used[0][1]
        for start, end in used[1:]:
            assert start - reach <= hole_max
            reach = max(reach, end)
        for c, offset in b.points:
            assert c.point.table == b.table
            assert b.address + offset // 2 == c.address


@given(starts=st.lists(st.integers(0, 40), max_size=8, unique=True), hole_max=st.integers(0, 6))
def test_read_blocks_single_registers_no_fewer_blocks_possible(starts, hole_max):
    """Checked against every way of cutting the sorted list."""
    codecs = points_at(*((s, "u16", "holding") for s in starts))
    ordered = sorted(starts)
    best = [0]
    for end in range(1, len(ordered) + 1):
        fits = [
            best[begin] + 1
            for begin in range(end)
            if ordered[end - 1] - ordered[begin] < 10
            and all(
                b - a - 1 <= hole_max
                for a, b in zip(ordered[begin:end], ordered[begin + 1 : end], strict=False)
            )
        ]
        best.append(min(fits))
    assert len(read_blocks(codecs, hole_max, 10)) == best[-1]


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(sorted(IN_REGISTERS)),
            st.integers(0, 2),
            st.sampled_from(["big", "big", "little"]),
            st.sampled_from([1.0, 0.1, -10.0]),
        ),
        min_size=1,
        max_size=8,
    ),
    payload=st.binary(min_size=120, max_size=120),
    filler=st.sampled_from([None, b"\xff", b"\x00", b"\x80", b"\x7f"]),
)
def test_read_block_whole_reply_decoded_as_each_point_by_itself(rows, payload, filler):
    """A block decodes what is usual in one go; every value and quality must be that of its own codec."""
    codecs, at = [], 0
    for i, (data_type, hole, word_order, scale) in enumerate(rows):
        at += hole
        codecs.append(
            codec(
                point=f"a.p{i}", address=str(at), data_type=data_type, word_order=word_order, low=-300.0,
                high=300.0, scale=abs(scale), sign=1 if scale > 0 else -1, offset=0.5, writable=False,
            )
        )  # fmt: skip
        at += codecs[-1].registers
    data = payload if filler is None else filler * 120
    for block in read_blocks(codecs):
        out: dict[str, PointValue] = {}
        block.decode_into(out, bytes(DATA_AT) + data)
        for c, offset in block.points:
            expected = c.decode_at(data, offset)
            assert out[c.point.point] == PointValue(*expected, None)
            assert (out[c.point.point].value is None) == (expected.value is None)
