"""GOOSE messages without a wire: which count, how long, what their quality is, and frames that are none."""

import contextlib
import random
import struct
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from open61850 import data as iec
from open61850 import goose

from connectors.field import FieldIO
from connectors.iec61850.goose_frame import TAGS, Malformed, header_of, message_of
from connectors.iec61850.goose_link import Ear
from connectors.iec61850.goose_stream import Stream
from connectors.map_check import check_point_maps
from ems.clock import VirtualClock
from ems.errors import BadValue, ConfigError
from ems.goose import leaves
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.goose_frames import (
    BLOCK,
    CHANGED,
    MEMBERS,
    RIGHT,
    connection,
    ear,
    frame,
    places,
    quality,
    spoilt,
    values,
)
from tests.contract.plants import site_of


def told(stream: Stream, at_s: float) -> dict[str, float]:
    return {p: v.value for p, (v, _) in stream.values(at_s).items() if v.quality is Quality.GOOD and v.value}


def why(stream: Stream, at_s: float) -> set[tuple[Quality, str]]:
    return {(v.quality, text) for v, text in stream.values(at_s).values() if v.value is None}


def test_members_whole_objects_and_single_attributes_are_read():
    listening, stream = ear()
    listening.take(frame(), 10.0)
    values_now = stream.values(10.25)
    assert told(stream, 10.25) == RIGHT
    assert {v.source_time for v, _ in values_now.values()} == {CHANGED}
    assert {v.age_s for v, _ in values_now.values()} == {0.25}


@pytest.mark.parametrize("vlan", [0, 5, 4095])
def test_vlan_tag_is_tolerated(vlan):
    listening, stream = ear()
    listening.take(frame(vlan_id=vlan), 10.0)
    assert told(stream, 10.0) == RIGHT


def test_what_the_package_reads_we_read():
    one = frame(sequence=4, state=0xFFFFFFFF)
    pair = goose.decode_goose_frame(one, strict=True)
    assert pair is not None
    message = message_of(one, header_of(one))
    assert list(message.values) == pair[1].all_data
    assert (message.state, message.sequence, message.alive_s) == (pair[1].st_num, pair[1].sq_num, 1.0)


OTHERS = [{"app_id": 0x1002}, {"dst_mac": "01:0c:cd:01:00:02"}, {"gocb_ref": "IED1LD0/LLN0$GO$gcbOther"}]


@pytest.mark.parametrize("more", OTHERS)
def test_messages_of_others_are_left_alone(more):
    listening, stream = ear()
    listening.take(frame(**more), 10.0)
    assert (listening.others, listening.malformed, stream.counts.messages) == (1, 0, 0)
    assert {q for q, _ in why(stream, 10.0)} == {Quality.COMM_FAILED}


# (state, sequence, seconds after the message before) ... and the counts that are not 0; alive for 1 s each
LEFT = {"states": 1, "states_missed": 2, "sequence_gaps": 2}
RUNS = {
    "repeated": ([(1, 0, 0), (1, 1, 0.5), (1, 2, 0.5)], {"messages": 3}),
    "gap": ([(1, 0, 0), (1, 4, 0.5)], {"messages": 2, "sequence_gaps": 3}),
    "duplicate": ([(1, 5, 0), (1, 5, 0.5)], {"messages": 1, "duplicates": 1}),
    "reordered": ([(1, 5, 0), (1, 4, 0.5)], {"messages": 1, "reordered": 1}),
    "change": ([(1, 5, 0), (2, 0, 0.5)], {"messages": 2, "states": 1}),
    "missed": ([(1, 5, 0), (4, 2, 0.5)], {"messages": 2} | LEFT),
    "back": ([(7, 5, 0), (6, 9, 0.5)], {"messages": 1, "set_back": 1}),
    "restart": ([(7, 5, 0), (1, 0, 0.6), (1, 1, 0.6)], {"messages": 2, "set_back": 1, "lapses": 1}),
    "one state anew": ([(1, 9, 0), (1, 0, 0.6), (1, 1, 0.6)], {"messages": 2, "reordered": 1, "lapses": 1}),
    "state wraps": ([(2**32 - 1, 5, 0), (1, 0, 0.5)], {"messages": 2, "states": 1}),
    "sequence wraps": ([(3, 2**32 - 1, 0), (3, 1, 0.5)], {"messages": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_state_and_sequence_numbers_say_what_counts(name):
    run, counts = RUNS[name]
    listening, stream = ear()
    at_s = 0.0
    for state, sequence, later_s in run:
        at_s += later_s
        listening.take(frame(state, sequence), at_s)
    assert {k: v for k, v in stream.counted().items() if v} == counts


def test_value_of_an_older_state_never_replaces_the_newer_one():
    listening, stream = ear()
    listening.take(frame(8, 0), 0.0)
    old = [iec.BitStringData(b"\x40", 6), *values()[1:]]
    listening.take(frame(7, 3, all_data=old), 0.9)
    assert told(stream, 1.0)["dev.closed"] == 2.0
    assert not stream.lives(1.1)  # it did not keep the newer one alive either
    listening.take(frame(7, 4, all_data=old), 1.2)
    assert told(stream, 1.2)["dev.closed"] == 1.0


def test_time_allowed_to_live_ends_every_value_at_once():
    listening, stream = ear()
    listening.take(frame(alive_ms=500), 5.0)
    assert told(stream, 5.5) == RIGHT
    ((bad, text),) = why(stream, 5.501)
    assert bad is Quality.COMM_FAILED
    assert "nothing heard for 0.5 s, timeAllowedToLive was 0.5 s" in text
    assert {v.value for v, _ in stream.values(5.501).values()} == {None}


WRONG = [
    ({"conf_rev": 4}, "confRev 4, 3 in the site file"),
    ({"nds_com": True}, "ndsCom is set"),
    ({"dat_set": "IED1LD0/LLN0$DSOther"}, "data set 'IED1LD0/LLN0$DSOther'"),
    ({"go_id": "other"}, "goID 'other', 'trip' in the site file"),
    ({"go_id": None}, "goID None, 'trip' in the site file"),
    ({"all_data": values()[:-1]}, "5 values, 6 members in the site file"),
    ({"alive_ms": 0}, "timeAllowedToLive is 0"),
]


@pytest.mark.parametrize(("more", "text"), WRONG)
def test_message_that_is_not_as_agreed_ends_the_values_with_a_named_problem(more, text):
    listening, stream = ear()
    listening.take(frame(1, 0), 0.0)
    listening.take(frame(**({"state": 1, "sequence": 1} | more)), 0.1)
    ((bad, named),) = why(stream, 0.1)
    assert bad is Quality.DEVICE_BAD
    assert text in named
    assert stream.counts.not_as_agreed == 1
    listening.take(frame(1, 2), 0.2)
    assert told(stream, 0.2) == RIGHT


def test_simulated_messages_are_never_taken_for_real_unless_it_is_said():
    listening, stream = ear()
    listening.take(frame(9, 0, simulation=True), 0.0)
    assert "simulated messages alone are heard" in str(why(stream, 0.1))
    listening.take(frame(1, 0), 0.2)
    listening.take(
        frame(10, 0, simulation=True, all_data=[iec.BitStringData(b"\x40", 6), *values()[1:]]), 0.3
    )
    assert told(stream, 0.3) == RIGHT
    assert stream.counts.simulated == 2


def test_simulated_bit_of_the_frame_alone_counts_too():
    made = bytearray(frame())
    made[18] |= 0x80
    listening, stream = ear()
    listening.take(bytes(made), 0.0)
    assert (stream.counts.simulated, stream.counts.messages) == (1, 0)


def test_simulated_messages_that_are_taken_push_the_real_ones_out():
    listening, stream = ear(simulation=True)
    listening.take(frame(50, 0), 0.0)
    assert told(stream, 0.0) == RIGHT
    tested = [iec.BitStringData(b"\x40", 6), *values()[1:]]
    listening.take(frame(1, 0, simulation=True, all_data=tested), 0.1)
    listening.take(frame(51, 0), 0.2)
    assert told(stream, 0.2)["dev.closed"] == 1.0
    assert not stream.lives(1.2)  # and when they end, the real ones are not taken up again


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0b0100000000000, Quality.DEVICE_BAD),  # invalid
        (0b1000000000000, Quality.DEVICE_BAD),  # reserved
        (0b1101000000000, Quality.OUT_OF_RANGE),
        (0b1100000000000, Quality.DEVICE_BAD),
        (0b0000000000010, Quality.DEVICE_BAD),  # test
        (0b0000000000001, Quality.STALE),  # blocked by an operator
        (0b1100000100000, Quality.STALE),  # old
        (0b0000000000100, Quality.GOOD),  # substituted
    ],
)
def test_quality_bits_are_the_quality_of_the_reading(bits, expected):
    listening, stream = ear()
    listening.take(frame(all_data=values(q=bits)), 0.0)
    now = stream.values(0.0).values()
    assert {v.quality for v, _ in now} == {expected}
    assert all((text == "") is (expected is Quality.GOOD) for _, text in now)
    assert {v.value is None for v, _ in now} == {expected is Quality.DEVICE_BAD}


@pytest.mark.parametrize("clock", [0x4A, 0x2A])
def test_time_of_a_clock_that_is_not_right_is_not_told(clock):
    listening, stream = ear()
    listening.take(frame(all_data=values(clock=clock), time_quality=clock), 0.0)
    assert {v.source_time for v, _ in stream.values(0.0).values()} == {None}
    assert stream.counts.times_not_believed == 1


@pytest.mark.parametrize(
    ("place", "other"),
    [
        (0, iec.BoolData(True)),
        (0, iec.BitStringData(b"\x80\x00", 3)),
        (1, iec.BoolData(True)),
        (2, iec.BoolData(True)),
        (2, iec.StructureData([iec.BoolData(True), quality()])),
        (3, iec.StructureData([iec.FloatData(1.0), quality()])),
        (3, iec.StructureData([iec.StructureData([iec.FloatData(1.0, double=True)]), quality()])),
        (4, iec.UIntData(5)),
        (4, iec.IntData(2**31)),
        (4, iec.RawData(0x80, b"\x0a")),
    ],
)
def test_value_of_another_form_is_no_value_and_the_others_are_read(place, other):
    listening, stream = ear()
    told_now = values()
    told_now[place] = other
    listening.take(frame(all_data=told_now), 0.0)
    bad = [p for p, (v, text) in stream.values(0.0).items() if v.quality is Quality.DEVICE_BAD and text]
    assert bad == [["dev.closed", "dev.closed", "dev.stop", "dev.p", "dev.n"][place]]
    assert len(told(stream, 0.0)) == 3


def test_value_that_is_not_finite_is_none():
    listening, stream = ear()
    told_now = values()
    told_now[3] = iec.StructureData([iec.StructureData([iec.FloatData(float("nan"))]), quality()])
    listening.take(frame(all_data=told_now), 0.0)
    assert stream.values(0.0)["dev.p"][0].quality is Quality.NOT_FINITE


# ---- the members of a data set --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("IED1LD0/XCBR1.Pos", "no functional constraint"),
        ("IED1LD0/XCBR1.Pos [CO]", "a control tells nothing"),
        ("IED1LD0/XCBR1.Pos [ST] stVal", "allowed: the parts"),
        ("IED1LD0/XCBR1.Pos [ST] (stVal", "allowed: the parts"),
        ("IED1LD0/XCBR1.Pos [ST] (a(stVal)", "do not match"),
        ("IED1LD0/XCBR1.Pos [ST] (stVal,, q)", "names with commas"),
        ("IED1LD0/XCBR1.Pos [ST] ()", "names with commas"),
        ("IED1LD0/XCBR1.Pos [ST] (a) (b)", "do not match"),
        ("IED1LD0/XCBR1.Pos [ST] (a(b) c)", "do not match"),
        (f"IED1LD0/XCBR1.Pos [ST] {'(a' * 20}{')' * 20}", "names with commas"),
        (f"IED1LD0/XCBR1.Pos [ST] ({', '.join('a' * 70)})", "names with commas"),
    ],
)
def test_member_that_is_none_says_why(member, text):
    with pytest.raises(BadValue, match=text):
        leaves([member])


def test_random_members_are_refused_or_read():
    rng = random.Random(8)
    for _ in range(3000):
        text = list(rng.choice(MEMBERS))
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.choice("(), []abq.")
        with contextlib.suppress(BadValue):
            assert leaves(["".join(text)])


def test_point_without_quality_is_refused_unless_it_is_said():
    bare = tuple(m for m in MEMBERS if m != "IED1LD0/GGIO1.IntIn1.q [ST]")
    (problem,) = check_point_maps([connection(members=bare)])
    assert problem.key == "connections.dev.points.dev.n.address"
    assert "no quality (q) of it among the members" in problem.allowed
    assert check_point_maps([connection(members=bare, without_q=True)]) == []


def test_map_that_cannot_be_is_refused_before_anything_is_opened():
    one = connection()
    gone = replace(one, points=(replace(one.points[0], address="IED1LD0/XCBR1.Loc.stVal [ST]"),))
    with pytest.raises(ConfigError, match="no control block of this connection has it"):
        FieldIO(site_of(gone), clock=VirtualClock(T0))


# ---- seeded frames --------------------------------------------------------------------------------


def survive(seed: int, count: int) -> tuple[int, int]:
    """So many spoilt frames; a value that is believed is the one at its place. (malformed, believed)."""
    rng = random.Random(seed)
    base = frame(5, 5)
    where = places(base)
    at_s, believed = 0.0, 0
    listening, stream = ear()
    for i in range(count):
        at_s += 1000.0  # nothing of the one before lives
        made = spoilt(rng, base)
        listening.take(made, at_s)
        if not stream.lives(at_s):
            continue
        for point, (value, _) in stream.values(at_s).items():
            if value.quality is Quality.GOOD:
                believed += 1
                assert is_there(made, point, where[point][0], value.value), (seed, i, made.hex())
    return listening.malformed, believed


def tags(made: bytes) -> int:
    count = 0
    while int.from_bytes(made[12 + 4 * count : 14 + 4 * count]) in TAGS:
        count += 1
    return count


def is_there(made: bytes, point: str, begin: int, value: float | None) -> bool:
    """Whether a value is what stands at its place in the frame."""
    assert value is not None
    begin += 4 * tags(made)  # noise may become a VLAN tag
    match point:
        case "dev.closed":
            return value == made[begin + 1] >> 6
        case "dev.stop":
            return value == (made[begin] != 0)
        case "dev.p":
            return struct.pack(">f", value) == made[begin + 1 : begin + 5]
    return value == int.from_bytes(made[begin : begin + 3], signed=True)


@pytest.mark.scenario(26)
def test_spoilt_frames_never_crash_and_never_become_a_value():
    malformed, believed = survive(seed=61850, count=12000)
    assert malformed > 4000
    assert believed > 2000


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_spoilt_goose_frames_soak(seed):
    malformed, believed = survive(seed, count=50000)
    assert min(malformed, believed) > 5000


def test_random_bytes_are_none():
    rng = random.Random(1)
    listening = Ear([])
    for _ in range(3000):
        listening.take(rng.randbytes(rng.randrange(120)), 0.0)
    assert listening.malformed + listening.others == 3000
    head = frame()[:14]
    for _ in range(3000):
        made = head + rng.randbytes(rng.randrange(120))
        try:
            message_of(made, header_of(made))
        except Malformed:
            continue
        raise AssertionError(made.hex())


def test_block_of_the_tests_is_one_of_the_standard():
    assert BLOCK.control_block in str(frame())
    assert datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC) == CHANGED
