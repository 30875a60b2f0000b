"""J1939 without a wire: places, counts that are no value, long messages, fault codes, lines that are none."""

import random
from dataclasses import replace
from typing import Any

import pytest

from connectors.field import FieldIO
from connectors.j1939.engine import Engine
from connectors.j1939.messages import fault_codes, identifier_of
from connectors.j1939.wire import parsed
from connectors.map_check import check_point_maps
from connectors.point_map import point_codecs
from ems.clock import VirtualClock
from ems.errors import BadValue, ConfigError
from ems.j1939 import Can, parse_place, place_faults
from ems.site_schema import load_devices
from ems.site_schema.families import family_text, read_family, shipped_folder
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.can_engine import (
    GROUPS,
    NONE,
    POINTS,
    RIGHT,
    SOURCE,
    connection,
    engine,
    line,
    number,
    parts,
)
from tests.contract.plants import site_of


def told(one, at_s: float) -> dict[str, float]:
    return {p: v.value for p, (v, _) in one.values(at_s).items() if v.quality is Quality.GOOD}


def heard(one, at_s: float = 0.0, **other: Any):
    for pgn, data in GROUPS.items():
        one.take((number(pgn), bytes(other.get(f"pgn_{pgn}", data))), at_s)
    return one


def test_groups_of_an_engine_are_read():
    one = heard(engine())
    assert told(one, 0.1) == pytest.approx(RIGHT)
    assert one.values(0.1)["dev.oil_kpa"][0].age_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("pgn", "place", "raw", "text"),
    [
        (61444, slice(3, 5), [0xFF, 0xFF], "not available"),
        (61444, slice(3, 5), [0x00, 0xFF], "not available"),
        (61444, slice(3, 5), [0x12, 0xFE], "error"),
        (61444, slice(3, 5), [0x00, 0xFB], "reserved"),
        (65262, slice(0, 1), [0xFF], "not available"),
        (65262, slice(0, 1), [0xFE], "error"),
        (65262, slice(0, 1), [0xFB], "reserved"),
        (65253, slice(0, 4), [0xFF] * 4, "not available"),
        (65253, slice(0, 4), [0, 0, 0, 0xFE], "error"),
        (65029, slice(0, 4), [0, 0, 0, 0xFB], "reserved"),
    ],
)
def test_count_that_is_no_value_never_becomes_one(pgn, place, raw, text):
    data = list(GROUPS[pgn])
    data[place] = raw
    one = heard(engine(), 0.0, **{f"pgn_{pgn}": data})
    bad = {p: (v, why) for p, (v, why) in one.values(0.0).items() if v.quality is Quality.DEVICE_BAD}
    ((value, why),) = bad.values()
    assert (value.value, text in why) == (None, True)


@pytest.mark.parametrize("raw", [0xFA, 0x00])
def test_largest_and_smallest_count_are_values(raw):
    one = heard(engine(), pgn_65262=[raw, *NONE[1:]])
    assert told(one, 0.0)["dev.coolant_degc"] == raw - 40.0


def test_each_group_lives_for_three_of_its_own_periods():
    one = heard(engine(periods_s=((65263, 0.2), (61444, 0.01))))
    assert set(told(one, 0.5)) == set(RIGHT)
    assert set(RIGHT) - set(told(one, 0.61)) == {"dev.speed_rpm", "dev.p_kw", "dev.oil_kpa"}
    assert set(told(one, 2.9)) == {"dev.coolant_degc", "dev.run_h"}
    assert told(one, 3.1) == {}
    (value, why) = one.values(3.1)["dev.run_h"]
    assert (value.value, value.quality) == (None, Quality.COMM_FAILED)
    assert why == "PGN 65253 was not heard for 3.1 s, more than 3 s"


@pytest.mark.parametrize(
    "frame",
    [
        (number(61444, source=SOURCE + 1), bytes(GROUPS[61444])),
        (number(61444) | 1 << 25, bytes(GROUPS[61444])),  # not of J1939
        (number(61444) | 1 << 24, bytes(GROUPS[61444])),  # of the other page
        (number(0xEF00 | 17), bytes(8)),  # to somebody else
    ],
)
def test_messages_of_others_are_left_alone(frame):
    one = engine()
    one.take(frame, 0.0)
    assert (one.counts.others, one.counts.messages, told(one, 0.0)) == (1, 0, {})


def test_short_message_has_no_value_where_it_ends():
    one = engine()
    one.take((number(61444), bytes(4)), 0.0)
    assert one.values(0.0)["dev.speed_rpm"] == (
        (None, Quality.DEVICE_BAD, None, None),
        "PGN 61444 has 4 bytes",
    )


def dm1(*faults: tuple[int, int, int]) -> bytes:
    out = bytearray([0b00010000, 0xFF])
    for spn, fmi, count in faults:
        out += bytes([spn & 0xFF, spn >> 8 & 0xFF, spn >> 16 << 5 | fmi, count])
    return bytes(out)


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (dm1((100, 1, 5)) + b"\xff\xff", ("SPN 100 FMI 1, 5 times",)),
        (dm1((0, 0, 0)) + b"\xff\xff", ()),
        (dm1((520192, 31, 127)), ("SPN 520192 FMI 31",)),
        (dm1((524287, 31, 127)), ()),
        (dm1((110, 0, 0x81)), ("SPN 110 FMI 0, 1 times, SPN by an older method",)),
        (b"\x00\xff", ()),
        (b"", ()),
    ],
)
def test_fault_codes_are_parameter_failure_mode_and_count(data, codes):
    assert fault_codes(data) == codes


def test_long_list_of_faults_comes_in_parts_and_ends_when_it_is_not_repeated():
    one = heard(engine())
    faults = [(100, 1, 5), (110, 0, 2), (190, 16, 1), (168, 18, 9)]
    for frame in parts(65226, dm1(*faults)):
        one.take(frame, 1.0)
    assert one.faults == tuple(f"SPN {s} FMI {f}, {n} times" for s, f, n in faults)
    assert told(one, 1.0)["dev.stop_lamp"] == 1.0
    one.take((number(65253), bytes(GROUPS[65253])), 4.2)
    one.forget_faults(4.2)
    assert one.faults == ()


@pytest.mark.parametrize("spoil", ["order", "late", "lost", "again", "short", "length"])
def test_long_message_that_is_not_told_to_its_end_is_none(spoil):
    one, frames, at_s = engine(), parts(65226, dm1((1, 1, 1), (2, 2, 2), (3, 3, 3))), 0.0
    if spoil == "order":
        frames[1], frames[2] = frames[2], frames[1]
    elif spoil == "lost":
        del frames[1]
    elif spoil == "again":
        frames.insert(1, frames[1])
    elif spoil == "short":
        frames[1] = (frames[1][0], frames[1][1][:5])
    elif spoil == "length":
        frames[0] = (frames[0][0], frames[0][1][:1] + b"\xff\xff" + frames[0][1][3:])
    for i, frame in enumerate(frames):
        at_s += 0.8 if spoil == "late" and i == 1 else 0.05
        one.take(frame, at_s)
    assert one.faults == ()
    assert (one.counted()["torn"] > 0) is (spoil != "length")


def test_address_that_another_name_takes_ends_the_values():
    one = heard(engine(name=0x1122334455667788))
    assert set(told(one, 0.0)) == set(RIGHT)  # nobody has claimed it yet
    one.take((number(60928 | 255), (0x1122334455667788).to_bytes(8, "little")), 0.0)
    assert told(heard(one), 0.0) == pytest.approx(RIGHT)
    one.take((number(60928 | 255), (0x99).to_bytes(8, "little")), 0.1)
    heard(one, 0.1)
    assert {v.quality for v, _ in one.values(0.1).values()} == {Quality.DEVICE_BAD}
    assert "source 3 is NAME 0x0000000000000099, 0x1122334455667788 in the site file" in one.stranger
    one.take((number(60928 | 255), (0x1122334455667788).to_bytes(8, "little")), 0.2)
    assert told(heard(one, 0.2), 0.2) == pytest.approx(RIGHT)


def test_address_that_changes_hands_forgets_what_was_said_before():
    one = engine()
    one.take((number(60928 | 255), bytes(8)), 0.0)
    heard(one)
    one.take((number(60928 | 255), bytes([1, *bytes(7)])), 0.1)
    assert told(one, 0.1) == {}


def test_identifiers_of_the_standard():
    assert identifier_of(0x0CF00400) == (61444, 0, 255)
    assert identifier_of(0x18EEFF01) == (60928, 1, 255)
    assert identifier_of(0x18EA0102) == (59904, 2, 1)
    assert identifier_of(0x19FD9403) == (0x1FD94, 3, 255)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("61444", "not PGN/BYTE"),
        ("61444/4.9", "not PGN/BYTE"),
        ("EEC1/4", "not PGN/BYTE"),
        ("300000/1", "is no PGN"),
        ("61185/1", "is no PGN"),
    ],
)
def test_place_that_is_none_says_why(text, why):
    with pytest.raises(BadValue, match=why):
        parse_place(text)


@pytest.mark.parametrize(
    ("address", "data_type", "why"),
    [
        ("61444/0", "u8", "bytes from 1"),
        ("61444/4.1", "u16", "a bit, as in"),
        ("65226/1", "bits2", "a bit, as in"),
        ("65226/1.8", "bits2", "inside one byte"),
        ("65280/1", "u8", "a PGN whose period is known"),
        ("65226/1785", "u16", "bytes from 1 to 1785"),
    ],
)
def test_row_that_cannot_be_is_refused(address, data_type, why):
    assert why in str(list(place_faults(Can(interface="can0", source=0), address, data_type)))
    one = connection()
    row = replace(one.points[0], address=address, data_type=data_type)
    assert [p for p in check_point_maps([replace(one, points=(row,))]) if why in p.allowed]
    with pytest.raises(ConfigError):
        FieldIO(site_of(replace(one, points=(row,))), clock=VirtualClock(T0))


# ---- lines of an adapter --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "frames", "malformed"),
    [
        (b"T18FEEE03880FFFFFFFFFFFF\r", 0, 1),
        (b"T18FEEE0381020304050607FF\r", 0, 1),
        (b"T18FEEE03880FFFFFFFFFFFFFF\r", 1, 0),
        (b"T18FEEE03880FFFFFFFFFFFFFF1A2B\r", 1, 0),
        (b"T18FEEE030\r", 1, 0),
        (b"t12380011223344556677\rr1230\rz\rV1013\r\r\a\r", 0, 0),
        (b"T98FEEE03880FFFFFFFFFFFFFF\r", 0, 1),
        (b"T18FEEE03980FFFFFFFFFFFFFFFF\r", 0, 1),
        (b"X\rT18FEEE0G0\r", 0, 2),
        (b"T" * 100, 0, 1),
    ],
)
def test_lines_of_an_adapter(data, frames, malformed):
    found = parsed(data)
    assert (len(found.frames), found.malformed) == (frames, malformed)


def noise(seed: int, count: int) -> tuple[int, int]:
    """So many spoilt lines and frames; what is believed is right. (malformed, believed)"""
    rng, one = random.Random(seed), engine()
    groups = list(GROUPS.items())
    rest, malformed, believed = b"", 0, 0
    for i in range(count):
        pgn, data = rng.choice(groups)
        text = bytearray(line(pgn, data))
        spoil = rng.randrange(4)
        if spoil == 0:
            text[rng.randrange(11)] = rng.choice(b"GX \x00\xff")  # in its identifier or length
        elif spoil == 1:
            del text[rng.randrange(len(text)) :]
            text += b"\r"
        elif spoil == 2:
            at = rng.randrange(len(text))
            text[at:at] = rng.choice((b"\r", b"\a", b"T", b"\x00\xff"))
        elif rng.randrange(4) == 0:
            text[9] = rng.choice(b"0123456789ABCDEF")
        found = parsed(rest + bytes(text))
        rest = found.rest
        malformed += found.malformed
        for number_, payload in found.frames:
            one.take((number_, payload), float(i))
            for point, value in told(one, float(i)).items():
                believed += 1
                assert value == pytest.approx(RIGHT[point]), (seed, i, bytes(text))
        if i % 97 == 0:
            one = engine()
    return malformed, believed


@pytest.mark.scenario(26)
def test_spoilt_lines_never_crash_and_never_become_a_value():
    malformed, believed = noise(seed=1939, count=4000)
    assert malformed > 500
    assert believed > 1000


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_spoilt_lines_soak(seed):
    assert min(noise(seed, count=50000)) > 5000


def test_random_frames_never_crash():
    rng, one = random.Random(2), engine()
    for i in range(5000):
        pgn = rng.choice((*GROUPS, 60416 | 255, 60160 | 255, 60928 | 255, 65226, rng.randrange(2**18)))
        one.take((number(pgn), rng.randbytes(rng.randrange(9))), 0.01 * i)
        for value, _ in one.values(0.01 * i).values():
            assert value.value is None or value.quality in (Quality.GOOD, Quality.OUT_OF_RANGE)
        assert all(isinstance(f, str) for f in one.faults)
    assert set(POINTS) == {p.removeprefix("dev.") for p in one.values(0.0)}


# ---- the family -----------------------------------------------------------------------------------

FAMILY = {  # point -> (PGN, bytes of its message, value), from SAE J1939 by hand
    "speed_rpm": (61444, "FF FF FF 80 25 FF FF FF", 1200.0),
    "coolant_degc": (65262, "73 FF FF FF FF FF FF FF", 75.0),
    "oil_kpa": (65263, "FF FF FF 64 FF FF FF FF", 400.0),
    "fuel_l_h": (65266, "D0 07 FF FF FF FF FF FF", 100.0),
    "fuel_l": (65276, "FF 7D FF FF FF FF FF FF", 500.0),
    "battery_v": (65271, "FF FF FF FF 1C 02 FF FF", 27.0),
    "run_h": (65253, "20 4E 00 00 FF FF FF FF", 1000.0),
    "p_kw": (65029, "A0 9D 3A 77 FF FF FF FF", 330.144),
    "q_kvar": (65028, "70 11 36 77 FF FF FF FF", 32.112),
    "v_pu": (65030, "90 01 FF FF 00 19 FF FF", 1.0),
    "f_hz": (65030, "90 01 FF FF 00 19 FF FF", 50.0),
}


def test_family_reads_what_its_source_says(tmp_path):
    (tmp_path / "site.yaml").write_text(
        """gensets: {gen1: {}}
connections:
  engine:
    protocol: j1939
    can: {interface: can0, source: 3}
    poll_s: 1
    timeout_s: 1
    asset: gen1
    family: j1939_genset
    settings: {tank_l: 1 m3, v_ll_v: 400 V}
"""
    )
    (one,) = load_devices(tmp_path / "site.yaml", []).connections
    assert one.can is not None
    listening = Engine(one.can, list(point_codecs(one).values()))
    for pgn, data, _ in FAMILY.values():
        listening.take((number(pgn), bytes.fromhex(data)), 0.0)
    assert told(listening, 0.1) == pytest.approx({f"gen1.{p}": v for p, (_, _, v) in FAMILY.items()})
    document, form = read_family(shipped_folder() / "j1939_genset.yaml")
    assert not document.problems
    assert form is not None
    (tmp_path / "j1939_genset.yaml").write_text(family_text(form))
    assert read_family(tmp_path / "j1939_genset.yaml")[1] == form
