"""Registers of our own server: every value where the map says, bad ones as nothing; nothing is believed."""

import math
import struct
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.modbus.served import (
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    BadFrame,
    Fault,
    Frame,
    Identify,
    Read,
    Write,
    answer,
    first_frame,
    request_of,
)
from connectors.northbound.guard import Guard, plain_address
from connectors.northbound.image import Image, Shown
from connectors.northbound.registers import AGE_MAX, QUALITIES, RegisterMap, map_id, rows_of
from connectors.raw_types import MODBUS_TYPES
from ems.control_site import LimitKind, UtilityLimit
from ems.northbound import Door, ModbusServer, ServedRow
from ems.site_schema import load_site
from ems.site_schema.checks_northbound import BITS
from ems.telemetry import Quality
from tests.builders import T0

DEMO = load_site(Path(__file__).resolve().parents[3] / "sites" / "demo" / "site.yaml")
LIMITS = (UtilityLimit(id="dso", kind=LimitKind.IMPORT, watchdog_s=60.0, on_loss_kw=0.0),)
SITE = replace(DEMO, control=replace(DEMO.control, limits=LIMITS))
SERVER = ModbusServer(id="ppc", door=Door(host="127.0.0.1", port=502), unit_id=1)


def image(*shown: Shown, why: str = "", beat: int = 70000) -> Image:
    return Image(
        at=T0, beat=beat, looked_s=0.0, fresh_s=5.0, why=why, epoch=7, shown={s.point: s for s in shown}
    )


def good(point: str, value: float) -> Shown:
    return Shown(point=point, value=value, quality=Quality.GOOD, at=T0)


def shown(row: ServedRow, *values: Shown) -> bytes:
    registers = RegisterMap([row]).registers(image(*values), {}, T0)
    found = registers.read("holding", row.address, MODBUS_TYPES[row.data_type].registers)
    assert found is not None
    return found


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "value", "raw"),
    [
        ({"data_type": "f32"}, -40.5, struct.pack(">f", -40.5)),
        ({"data_type": "f64"}, 1e300, struct.pack(">d", 1e300)),
        ({"data_type": "s16", "scale": 0.1}, -40.5, struct.pack(">h", -405)),
        ({"data_type": "u16", "scale": 0.1, "offset": -50.0}, -40.5, struct.pack(">H", 95)),
        ({"data_type": "s32", "scale": 0.001}, -40.5, struct.pack(">i", -40500)),
        ({"data_type": "u32", "word_order": "little"}, 65538.0, struct.pack(">HH", 2, 1)),
        ({"data_type": "f32", "word_order": "little"}, 1.0, b"\0\0" + b"\x3f\x80"),
        ({"data_type": "u64"}, 2.0**40, struct.pack(">Q", 2**40)),
        ({"data_type": "u16"}, 70000.0, b"\xff\xff"),  # does not fit: nothing, and never another number
        ({"data_type": "u16"}, -1.0, b"\xff\xff"),
        ({"data_type": "s16", "not_available": 9999}, 40000.0, struct.pack(">h", 9999)),
        ({"data_type": "f32"}, 1e300, struct.pack(">f", math.nan)),
    ],
)
def test_value_is_in_its_registers_as_the_map_says(row, value, raw):
    assert shown(ServedRow(point="pv1.p_kw", table="both", address=3, **row), good("pv1.p_kw", value)) == raw


@pytest.mark.parametrize("data_type", BITS)
def test_value_that_is_not_good_is_nothing_and_says_what_and_how_old(data_type):
    row = ServedRow(
        point="pv1.p_kw", table="input", address=10, data_type=data_type, quality_at=20, age_at=21
    )
    stale = Shown(point="pv1.p_kw", value=5.0, quality=Quality.STALE, at=T0 - timedelta(seconds=90))
    registers = RegisterMap([row]).registers(image(stale), {}, T0)
    kind = MODBUS_TYPES[data_type]
    value = registers.read("input", 10, kind.registers)
    nothing = math.nan if kind.sentinel is None else kind.sentinel
    assert value == struct.pack(f">{kind.code}", nothing)
    quality, age_s = struct.unpack(">HH", registers.read("input", 20, 2) or b"")
    assert (QUALITIES[quality], age_s) == (Quality.STALE, 90)


def test_value_that_does_not_fit_its_register_is_out_of_range_and_no_good_one():
    row = ServedRow(point="pv1.p_kw", table="both", address=0, data_type="s16", quality_at=1)
    registers = RegisterMap([row]).registers(image(good("pv1.p_kw", 40000.0)), {}, T0)
    assert registers.read("holding", 1, 1) == QUALITIES.index(Quality.OUT_OF_RANGE).to_bytes(2, "big")


def test_point_that_was_never_read_is_nothing_and_its_age_the_largest():
    row = ServedRow(point="pv1.p_kw", table="both", address=0, data_type="f32", quality_at=2, age_at=3)
    registers = RegisterMap([row]).registers(image(), {}, T0)
    quality, age_s = struct.unpack(">HH", registers.read("input", 2, 2) or b"")
    assert (QUALITIES[quality], age_s) == (Quality.COMM_FAILED, AGE_MAX)


# --- maps -------------------------------------------------------------------------------------------------


def test_automatic_map_is_the_same_each_time_without_a_register_twice():
    rows = rows_of(SITE, SERVER)
    assert rows == rows_of(SITE, SERVER)
    used = [
        a
        for r in rows
        for a in (
            *range(r.address, r.address + MODBUS_TYPES[r.data_type].registers),
            *(x for x in (r.quality_at, r.age_at) if x is not None),
        )
    ]
    assert len(used) == len(set(used))
    assert {r.table for r in rows} == {"both"}
    at = {r.point: r.address for r in rows}
    assert (at["server.beat"], at["ems.grid_mode"], at["cap.import_kw"]) == (0, 100, 150)
    assert (at["limit.dso"], at["answer.dso"], at["grid1.p_kw"]) == (200, 204, 1000)


def test_automatic_map_with_one_limit_more_moves_no_point():
    more = (*LIMITS, replace(LIMITS[0], id="curtail"))
    other = rows_of(replace(SITE, control=replace(SITE.control, limits=more)), SERVER)
    before = {r.point: r.address for r in rows_of(SITE, SERVER)}
    after = {r.point: r.address for r in other}
    assert before == {p: a for p, a in after.items() if p in before}
    assert map_id(other) != map_id(rows_of(SITE, SERVER))


def test_automatic_map_shows_head_limit_and_answer():
    registers = RegisterMap(rows_of(SITE, SERVER)).registers(
        image(good("limit.dso", 250.0)), {"dso": 2}, T0 + timedelta(seconds=3)
    )
    beat, fresh, age_s, _ = struct.unpack(">4H", registers.read("input", 0, 4) or b"")
    assert (beat, fresh, age_s) == (70000 - 65536, 1, 3)
    told = registers.read("holding", 200, 5)
    assert told == struct.pack(">fHHH", 250.0, 0, 3, 2)


def test_registers_where_nothing_is_are_not_read():
    registers = RegisterMap(rows_of(SITE, SERVER)).registers(image(), {}, T0)
    assert registers.read("holding", 4, 1) is None
    assert registers.read("holding", 3, 2) is None
    assert registers.read("holding", 65535, 1) is None
    assert registers.read("holding", 0, 4) is not None


def test_limit_is_told_by_exactly_its_registers():
    here = RegisterMap(rows_of(SITE, SERVER))
    words = struct.unpack(">HH", struct.pack(">f", 120.0))
    assert here.limit_at(200, words) == ("dso", 120.0)
    assert here.limit_at(200, words[:1]) is None
    assert here.limit_at(200, (*words, 0)) is None
    assert here.limit_at(199, words) is None
    assert here.limit_at(1000, words) is None  # a point of the plant
    small = ServedRow(point="limit.dso", table="holding", address=5, data_type="u16", scale=0.5)
    assert RegisterMap([small]).limit_at(5, (240,)) == ("dso", 120.0)
    told = RegisterMap([small]).limit_at(5, (0xFFFF,))
    assert told is not None
    assert math.isnan(told[1])  # not available: nothing is told
    assert RegisterMap([replace(small, table="input")]).limit_at(5, (240,)) is None


@settings(deadline=None)
@given(st.sampled_from(sorted(BITS)), st.floats(-30000, 30000), st.sampled_from(["big", "little"]))
def test_value_told_is_the_value_shown(data_type, value, word_order):
    row = ServedRow(
        point="limit.dso", table="both", address=0, data_type=data_type, word_order=word_order, scale=2.0
    )
    raw = shown(row, good("limit.dso", value))
    words = struct.unpack(f">{len(raw) // 2}H", raw)
    told = RegisterMap([row]).limit_at(0, words)
    assert told is not None
    assert math.isnan(told[1]) or abs(told[1] - value) <= max(1.0, abs(value) * 1e-6)


# --- requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pdu", "asked"),
    [
        (bytes.fromhex("03 0000 007d"), Read("holding", 0, 125)),
        (bytes.fromhex("04 ffff 0001"), Read("input", 65535, 1)),
        (bytes.fromhex("03 0000 007e"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("03 0000 0000"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("03 0000 0001 00"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("03 0000"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("06 0005 1234"), Write(5, (0x1234,))),
        (bytes.fromhex("06 0005"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("10 0005 0002 04 0001 0002"), Write(5, (1, 2))),
        (bytes.fromhex("10 0005 0002 04 0001"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("10 0005 0002 02 0001"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("10 0005 0000 00"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("10 0005"), Fault(ILLEGAL_VALUE)),
        (bytes.fromhex("01 0000 0001"), Fault(ILLEGAL_FUNCTION)),
        (bytes.fromhex("17 0000 0001 0000 0001 02 0001"), Fault(ILLEGAL_FUNCTION)),
        (bytes.fromhex("2b 0e 01 00"), Identify(1, 0)),
        (bytes.fromhex("2b 0d 01 00"), Fault(ILLEGAL_FUNCTION)),
        (bytes.fromhex("08"), Fault(ILLEGAL_FUNCTION)),
    ],
)
def test_request_is_what_its_bytes_say_or_a_fault(pdu, asked):
    assert request_of(pdu) == asked


@pytest.mark.parametrize(
    "raw", ["0001 0001", "0001 0000 0001", "0001 0000 0000", "0001 0000 00ff 01", "0001 0000 ffff"]
)
def test_bytes_that_cannot_become_a_frame_are_noticed_at_once(raw):
    with pytest.raises(BadFrame):
        first_frame(bytes.fromhex(raw))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_a_fault_or_not_whole_yet(raw):
    try:
        found = first_frame(raw)
    except BadFrame:
        return
    if found is None:
        assert len(raw) < 260
        return
    frame, size = found
    assert size == 6 + int.from_bytes(raw[4:6], "big") <= len(raw)
    reply = answer(frame, lambda asked: bytes(2 * asked.count), lambda asked: 0, ["x" * 99] * 7)
    assert reply[:4] == raw[:2] + b"\0\0"
    assert int.from_bytes(reply[4:6], "big") == len(reply) - 6 <= 254
    assert (reply[6], reply[7] & 0x7F) == (frame.unit, frame.pdu[0] & 0x7F)


def test_frames_in_one_piece_are_told_apart():
    one = bytes.fromhex("0001 0000 0006 01 03 0000 0001")
    two = bytes.fromhex("0002 0000 0006 01 04 0000 0001")
    frame, size = first_frame(one + two) or pytest.fail("not whole")
    assert (frame, size) == (Frame(1, 1, bytes.fromhex("03 0000 0001")), 12)
    assert first_frame((one + two)[size:-1]) is None


# --- who comes in -----------------------------------------------------------------------------------------


def test_guard_counts_by_address_and_in_all():
    guard = Guard(Door(host="0.0.0.0", port=1, clients=("10.0.0.0/30",), connections_max=3, per_client_max=2))
    assert "clients of the site file" in guard.enter("10.0.0.9")
    assert [guard.enter("10.0.0.1") for _ in range(2)] == ["", ""]
    assert "this address has 2" in guard.enter("10.0.0.1")
    assert guard.enter("10.0.0.2") == ""
    assert "there are 3" in guard.enter("10.0.0.2")
    guard.leave("10.0.0.1")
    assert guard.enter("10.0.0.2") == ""
    assert guard.open == 3


@pytest.mark.parametrize(
    ("told", "address"),
    [("::ffff:10.0.0.5", "10.0.0.5"), ("fe80::1%eth0", "fe80::1"), ("10.0.0.5", "10.0.0.5")],
)
def test_address_is_the_same_however_the_socket_tells_it(told, address):
    assert plain_address(told) == address
