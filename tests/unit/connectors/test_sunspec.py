"""SunSpec points: where they lie, what their registers say, and in which order setpoints are written."""

import dataclasses
import json
import math
import shutil
import struct
import sys
from argparse import Namespace

import pytest

from cli.check import run as check
from connectors.field import FieldIO
from connectors.link import LinkError, NotSent
from connectors.point_map import PointCodec
from connectors.sunspec import definitions
from connectors.sunspec.chain import MODELS_MAX, Chain, ChainError, walk
from connectors.sunspec.control import control_of
from connectors.sunspec.definitions import folder, known_models, model_def
from connectors.sunspec.faults import sunspec_problems
from connectors.sunspec.numbers import KINDS, Rollover, scaled, unscaled
from connectors.sunspec.places import spot
from ems.assets import ActuatorSafety, DeviceBehaviour, OnSilence
from ems.clock import VirtualClock
from ems.commands import WriteOutcome
from ems.errors import BadValue, EmsError
from ems.site import SetpointAuthority
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.sunspec_peer import example, write_example
from tests.unit.connectors.sunspec_fake import FakeWire, Memory, device, link, model, row

DAY = float("inf")  # until when a write may be sent


# ---- definitions ----------------------------------------------------------------------------------


def test_every_published_model_is_understood():
    """A new release of the definitions cannot bring a form that we misread in silence."""
    assert len(known_models()) > 100
    for number in known_models():
        found = model_def(number)
        assert found is not None
        raw = json.loads((folder() / f"model_{number}.json").read_text())
        assert [(p.name, p.offset) for p in found.top.points[:2]] == [("ID", 0), ("L", 1)]
        assert [p["name"] for p in raw["group"]["points"]] == [p.name for p in found.top.points]
        for p in found.top.points:
            assert p.kind not in KINDS or KINDS[p.kind].registers == p.size, (number, p)


@pytest.mark.parametrize(
    ("number", "good", "bad"),
    [
        (1, (66, 65), (64, 67, 0)),
        (701, (153,), (152, 154, 0)),
        (704, (65,), (57, 64)),
        (160, (8, 28, 48), (9, 27, 7)),
        (714, (18, 43, 68), (19, 42)),
        (203, (105,), (104, 106)),
    ],
)
def test_length_of_a_model_is_its_fixed_part_and_whole_groups(number, good, bad):
    found = model_def(number)
    assert found is not None
    assert all(found.fits(n) for n in good)
    assert not any(found.fits(n) for n in bad)


@pytest.mark.parametrize(
    ("name", "offset", "exponent_at"),
    [
        ("701.W", 10, 116),
        ("701[3].W", 10, 116),
        ("701.TotWhInj", 19, 120),
        ("704.PFWInj.PF", 59, 53),
        ("704.PFWAbsRvrt.Ext", 66, None),
        ("714.Prt[1].DCW", 32, 17),
        ("714.Prt[3].DCW", 82, 17),
        ("160.module[2].DCW", 41, 4),
        ("802.SoC", 11, 56),
        ("111.W", 22, None),
    ],
)
def test_place_of_a_point_by_hand_from_the_published_table(name, offset, exponent_at):
    place = spot(name)
    assert (place.offset, place.exponent_at) == (offset, exponent_at)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("W", "a model and a point"),
        ("701", "a model and a point"),
        ("701[0].W", "from 1 up"),
        ("9999.W", "9999 is none"),
        ("701.WW", "a point of 701: "),
        ("1.Mn", "holds a number: Mn is of type string"),
        ("714.Prt", "a point of 714"),
        ("714.Prd[1].DCW", "a group: Prt"),
        ("705.Crv[1].ActPt", "Crv holds groups that are repeated"),
    ],
)
def test_place_that_is_none_says_what_is_allowed(name, allowed):
    with pytest.raises(BadValue) as caught:
        spot(name)
    assert allowed in str(caught.value)


def test_definitions_not_installed_say_what_to_install(monkeypatch):
    monkeypatch.setattr(definitions, "PACKAGE", "no_such_package")
    definitions.folder.cache_clear()
    with pytest.raises(EmsError, match=r"pip install 'hybrid-ems\[sunspec\]'"):
        definitions.folder()
    monkeypatch.undo()
    definitions.folder.cache_clear()


def test_nothing_of_the_library_is_loaded_but_its_data(monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "sunspec2"]:
        monkeypatch.delitem(sys.modules, name)
    spot("802.SoC")
    assert [n for n in sys.modules if n.startswith("sunspec2.")] == []


# ---- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words", "value"),
    [
        ("int16", "FFFF", -1),
        ("int16", "8000", None),
        ("uint16", "8000", 32768),
        ("uint16", "FFFF", None),
        ("int32", "FFFFFF9C", -100),
        ("int32", "80000000", None),
        ("uint32", "FFFFFFFF", None),
        ("uint32", "00010000", 65536),
        ("int64", "8000000000000000", None),
        ("uint64", "FFFFFFFFFFFFFFFF", None),
        ("acc32", "00000000", None),
        ("acc32", "FFFFFFFF", 4294967295),
        ("acc64", "0000000000000000", None),
        ("enum16", "FFFF", None),
        ("enum16", "0000", 0),
        ("bitfield32", "FFFFFFFF", None),
        ("float32", "7FC00000", None),
        ("float32", "FF800000", None),
        ("float32", "C2F6E979", struct.unpack(">f", bytes.fromhex("C2F6E979"))[0]),
    ],
)
def test_registers_and_what_stands_for_no_number(kind, words, value):
    assert KINDS[kind].raw(bytes.fromhex(words), 0) == value


@pytest.mark.parametrize("exponent", range(-10, 11))
@pytest.mark.parametrize("raw", [0, 1, -32767, 3, 32767, 65534])
def test_scale_factor_there_and_back_is_the_same_count(raw, exponent):
    value = scaled(raw, exponent)
    assert value == float(f"{raw}e{exponent}")
    assert round(unscaled(value, exponent)) == raw


def test_rollover_goes_on_and_a_reset_is_one():
    counter, span = Rollover(), 1 << 32
    assert [counter.seen(n, span) for n in (4294967290, 4294967295, 4, 10)] == [
        4294967290,
        4294967295,
        4294967300,
        4294967306,
    ]
    assert counter.seen(3, span) == 3  # far behind: reset


# ---- chain ----------------------------------------------------------------------------------------


async def chain(memory: Memory) -> Chain:
    async def read(address: int, count: int) -> tuple[int, ...] | None:
        words = [memory.get(address + i) for i in range(count)]
        return None if None in words else tuple(w for w in words if w is not None)

    return await walk(read, 40000)


async def test_chain_bounded_by_count_and_by_the_last_register():
    many = device(*[[64999, 0] for _ in range(MODELS_MAX + 5)])
    with pytest.raises(ChainError, match=f"more than {MODELS_MAX} models"):
        await chain(many)
    with pytest.raises(ChainError, match="leaves the registers"):
        await chain(device([64999, 65535]))
    with pytest.raises(ChainError, match="comes model 65535"):
        await chain({40000: 0x5375, 40001: 0x6E53, 40002: 0xFFFF, 40003: 0})


async def test_second_model_of_an_id_is_another_one_and_unknown_models_are_passed_over():
    first = model(701, 153, {10: [100], 116: [0]})
    second = model(701, 153, {10: [200], 116: [1]})
    wire = FakeWire(device(first, [64123, 3, 1, 2, 3], [64124, 0], second))
    it = link(wire, row("a", "701.W"), row("b", "701[2].W"), row("c", "701[3].W"))
    await it.connect()
    assert (await it.identify())["models"] == "40000: 1/66 701/153 64123/3 64124/0 701/153"
    values = await it.read()
    assert (values["a"].value, values["b"].value) == (100.0, 2000.0)
    assert values["c"].quality is Quality.DEVICE_BAD


async def test_device_that_does_not_answer_at_one_base_is_asked_at_the_next():
    """Some gateways drop the connection where they should answer with an exception."""
    wire = FakeWire(device(model(802, 62, {11: [50], 56: [0]}), base=0))

    def before():
        if wire.asked[-1][0] in (40000, 50000):
            raise LinkError("no answer in time")

    wire.before = before
    it = link(wire, row("soc", "802.SoC"))
    for _ in range(2):
        await it.connect()
        with pytest.raises(LinkError):
            await it.read()
    await it.connect()
    assert (await it.read())["soc"].value == 50.0


async def test_chain_that_changes_while_it_is_walked_is_none():
    """Seed 1024048 of the fuzz: half of a chain from before a change and half from after it is nobody's."""
    wire = FakeWire(device(model(802, 62, {}), model(103, 50, {14: [5], 15: [0]})))

    def before():
        if wire.asked[-1] == (40134, 2):  # behind the first two headers
            wire.memory |= {40002: 1, 40003: 65, 40069: 64001, 40070: 63}

    wire.before = before
    it = link(wire, row("p", "103.W"))
    await it.connect()
    with pytest.raises(ChainError, match="changes while it is read"):
        await it.read()
    assert (await it.read())["p"].value == 5.0

    def gone():
        if wire.asked[-1] == (40002, 2):  # behind the mark
            wire.memory[40000] = 0

    wire.before = gone
    it = link(wire, row("p", "103.W"))
    with pytest.raises(ChainError, match="'SunS' is not at 40000"):
        await it.read()


# ---- reading --------------------------------------------------------------------------------------


async def test_who_it_is_is_read_in_pieces_where_the_device_takes_no_more():
    memory = device(model(701, 153, {10: [100], 116: [0]}))
    name = b"Acme Power Conversion AG".ljust(32, b"\0")
    memory |= {40004 + i: int.from_bytes(name[2 * i : 2 * i + 2], "big") for i in range(16)}
    for registers_max in (5, 8, 125):
        it = link(FakeWire(memory, registers_max), row("p", "701.W"))
        await it.connect()
        assert (await it.identify())["manufacturer"] == "Acme Power Conversion AG"


async def test_value_and_scale_factor_come_in_one_request():
    wire = FakeWire(device(model(701, 153, {10: [100], 116: [0]})))
    it = link(wire, row("p", "701.W"))
    await it.connect()
    await it.read()
    wire.asked.clear()
    await it.read()
    assert wire.asked == [(40070, 117)]


@pytest.mark.parametrize("when", range(1, 8))
async def test_scale_factor_in_another_request_changes_at_any_moment_no_mixture_is_a_value(when):
    """On a slow bus a read is short. Seed 1018341: a change between a value and its factor was missed."""
    near = model(203, 105, {2: [100], 6: [0], 18: [100], 22: [0]})
    wire = FakeWire(device(model(701, 153, {10: [100], 17: [0, 100], 115: [0, 0]}), near), registers_max=16)
    it = link(wire, row("p", "701.W"), row("hz", "701.Hz"), row("a", "203.A"), row("w", "203.W"))
    await it.connect()
    await it.read()
    assert {v.value for v in (await it.read()).values()} == {100.0}
    counted = 0

    def change():
        nonlocal counted
        counted += 1
        if counted == when:
            for value, factor in ((40080, 40186), (40088, 40185), (40227, 40231), (40243, 40247)):
                wire.memory[value], wire.memory[factor] = 10, 1

    wire.before = change
    told = [v.value for v in (await it.read()).values()]
    assert counted >= 6
    assert set(told) <= {100.0, None}
    assert {v.value for v in (await it.read()).values()} == {100.0}


async def test_states_first_symbol_that_holds_counts_and_bits_are_looked_at():
    states = (("FAULT", 3.0), ("DERMode.GRID_FORMING", 2.0), ("RUNNING", 1.0), ("otherwise", 0.0))
    wire = FakeWire(device(model(701, 153, {4: [3], 8: [0, 2]})))
    only = row("only", "701.InvSt", states=(("OFF", 0.0),))
    it = link(wire, row("state", "701.InvSt", states=states), only)
    await it.connect()
    await it.read()
    for state, mode, value in ((6, 2, 3.0), (3, 2, 2.0), (3, 5, 1.0), (5, 1, 0.0)):
        wire.memory |= {40074: state, 40078: 0, 40079: mode}
        values = await it.read()
        assert values["state"].value == value
        assert values["only"].quality is Quality.DEVICE_BAD  # a state that the map does not name
    wire.memory[40078], wire.memory[40079] = 0xFFFF, 0xFFFF
    assert (await it.read())["state"].quality is Quality.DEVICE_BAD


async def test_accumulator_that_rolls_over_goes_on():
    wire = FakeWire(device(model(203, 105, {38: [0xFFFF, 0xFFFE], 54: [1]})))
    it = link(wire, row("kwh", "203.TotWhExp"))
    await it.connect()
    assert (await it.read())["kwh"].value == 42949672940.0
    wire.memory[40108], wire.memory[40109] = 0, 3
    assert (await it.read())["kwh"].value == 42949672990.0
    wire.memory[40108], wire.memory[40109] = 0, 0
    assert (await it.read())["kwh"].quality is Quality.DEVICE_BAD  # 0 says: not implemented


# ---- writing --------------------------------------------------------------------------------------


def authority(point: str, on_silence: OnSilence, value: float | None = None) -> dict[str, SetpointAuthority]:
    behaviour = DeviceBehaviour(timeout_s=30.0, on_silence=on_silence, value=value)
    safety = ActuatorSafety(grid_tied=0.0, islanded=0.0, black=0.0, behaviour=behaviour)
    return {
        point: SetpointAuthority(
            point=point, low=-1e4, high=1e4, ramp_per_s=None, deadband=0.0, refresh_s=10.0, safety=safety
        )
    }


MODEL_123 = model(123, 24, {5: [100, 0, 0, 0, 0], 23: [0xFFFE]})
MODEL_124 = model(124, 24, {2: [5000], 5: [0], 12: [10000, 10000, 0, 0, 0], 18: [0], 25: [0xFFFE]})
MODEL_704 = model(
    704,
    65,
    {2: [0] * 12, 14: [0, 100, 100, 0, 0, 0, 0, 0], 22: [0] * 27, 53: [0xFFFE, 0, 0, 0, 0, 0], 59: [0] * 8},
)
MODEL_121 = model(121, 30, {2: [2000], 22: [0]})


@pytest.mark.parametrize(
    ("models", "address", "rating", "silence", "value", "written"),
    [
        # 25 % of 2000 W by 123: value, (window), reversion in a request of its own, enabled last
        ((MODEL_121, MODEL_123), "123.WMaxLimPct", "121.WMax", (OnSilence.FULL, None), 500.0,
         [(40109, (30,)), (40107, (2500,)), (40111, (1,))]),
        ((MODEL_121, MODEL_123), "123.WMaxLimPct", "121.WMax", (OnSilence.HOLD, None), 500.0,
         [(40109, (0,)), (40107, (2500,)), (40111, (1,))]),
        # charging with 1000 W of 5000 W by 124: at most 20 % in, at least 20 % in; both limits active
        ((MODEL_124,), "124.OutWRte", "124.WChaMax", (OnSilence.STOP, None), -1000.0,
         [(40085, (30,)), (40082, (0xF830, 2000)), (40075, (3,))]),
        ((MODEL_704,), "704.WSet", None, (OnSilence.STOP, None), 1500.0,
         [(40100, (1, 0, 30)), (40094, (0, 1500, 0, 0)), (40093, (1,)), (40092, (1,))]),
        ((MODEL_704,), "704.WSet", None, (OnSilence.HOLD, None), -2.0,
         [(40101, (0, 0)), (40094, (0xFFFF, 0xFFFE)), (40093, (1,)), (40092, (1,))]),
        ((MODEL_121, MODEL_704), "704.WSetPct", "121.WMax", (OnSilence.VALUE, 200.0), -500.0,
         [(40130, (0xFFE7, 10, 1, 0, 30)), (40124, (1,))]),
        ((MODEL_121, MODEL_704), "704.WMaxLimPct", "121.WMax", (OnSilence.FULL, None), 500.0,
         [(40119, (0, 0, 30)), (40117, (25,)), (40116, (1,))]),
        # over-excited 0.95 reverts to unity; under-excited is told by a register of its own
        ((MODEL_704,), "704.PFWInj.PF", None, (OnSilence.VALUE, -1.0), 0.95,
         [(40073, (1, 0, 30)), (40129, (95, 0, 100, 1)), (40072, (1,))]),
        ((MODEL_704,), "704.PFWInj.PF", None, (OnSilence.HOLD, None), -0.9,
         [(40074, (0, 0)), (40129, (90, 1)), (40072, (1,))]),
        ((MODEL_704,), "704.VarSet", None, (OnSilence.STOP, None), 7.0,
         [(40114, (1, 0, 30)), (40108, (0, 7, 0, 0)), (40106, (4,)), (40105, (1,))]),
    ],
)  # fmt: skip
async def test_setpoints_of_each_model_are_written_in_the_order_of_their_recipe(
    models, address, rating, silence, value, written
):
    wire = FakeWire(device(*models))
    rows = row("set", address, rating=rating, writable=True, span=(-5000.0, 5000.0))
    it = link(wire, rows, authority=authority("set", *silence))
    await it.connect()
    before = (await it.read())["set"].value
    idle = {"123.WMaxLimPct": 2000.0, "704.WMaxLimPct": 2000.0, "704.PFWInj.PF": 1.0}
    assert before == idle.get(address, 0.0)  # not enabled yet
    (reply,) = await it.write([(it._rows["set"].codec, value)], DAY)
    assert reply.outcome is WriteOutcome.CONFIRMED, reply.detail
    assert wire.written == written
    assert (await it.read())["set"].value == pytest.approx(value)


async def test_mode_of_another_setpoint_is_changed_only_behind_the_new_value():
    """WSetPct of somebody else is active: our watts must not hold before they are there, nor theirs after."""
    memory = device(MODEL_704)
    memory |= {40092: 1, 40093: 0, 40098: 77}
    wire = FakeWire(memory)
    it = link(wire, row("set", "704.WSet", writable=True), authority=authority("set", OnSilence.STOP))
    await it.connect()
    assert (await it.read())["set"].value == 0.0  # enabled, but not in our mode
    await it.write([(it._rows["set"].codec, 9.0)], DAY)
    assert [a for a, _ in wire.written] == [40100, 40094, 40093, 40092]


async def test_storage_limits_that_leave_room_are_no_setpoint():
    """124 as it is delivered: both limits active and wide open."""
    wire = FakeWire(device(MODEL_124) | {40075: 3})
    it = link(wire, row("set", "124.OutWRte", rating="124.WChaMax", writable=True))
    await it.connect()
    assert (await it.read())["set"].value == 0.0


@pytest.mark.scenario(66)
@pytest.mark.parametrize(
    ("gone", "outcome", "done"), [(9, WriteOutcome.CONFIRMED, 4), (0, WriteOutcome.NOT_SENT, 0), (1, None, 1)]
)
async def test_write_is_that_of_the_moment_of_each_of_its_requests(gone: int, outcome, done: int):
    """Nine watts were decided, five are allowed when the wire is held; and after some requests none."""
    wire = FakeWire(device(MODEL_704))
    it = link(wire, row("set", "704.WSet", writable=True), authority=authority("set", OnSilence.STOP))
    await it.connect()
    await it.read()

    def latest(codec: PointCodec, value: float) -> float:
        assert value == 9.0
        if len(wire.written) >= gone:
            raise NotSent("lowered meanwhile")
        return 5.0

    (reply,) = await it.write([(it._rows["set"].codec, 9.0)], DAY, latest)
    assert reply.outcome is (WriteOutcome.UNKNOWN if outcome is None else outcome)
    assert "lowered meanwhile" in reply.detail or outcome is WriteOutcome.CONFIRMED
    whole = [(40100, (1, 0, 30)), (40094, (0, 5, 0, 0)), (40093, (1,)), (40092, (1,))]
    assert wire.written == whole[:done]


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_write_taken_in_part_is_unknown(failing, monkeypatch):
    wire = FakeWire(device(MODEL_704))
    it = link(wire, row("set", "704.WSet", writable=True), authority=authority("set", OnSilence.STOP))
    await it.connect()
    await it.read()
    put, count = wire.put, 0

    async def refusing(address, words, until_s, latest):
        nonlocal count
        count += 1
        return await put(70000 if count == failing + 1 else address, words, until_s, latest)

    monkeypatch.setattr(wire, "put", refusing)
    (reply,) = await it.write([(it._rows["set"].codec, 9.0)], DAY)
    assert reply.outcome is (WriteOutcome.REJECTED if failing == 0 else WriteOutcome.UNKNOWN)
    assert 40092 not in dict(wire.written)  # never enabled


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("701.W", "701.W is only read"),
        ("121.WMax", "a setpoint whose enabling and reversion are known"),
        ("704.WMaxLimPctRvrt", "a setpoint whose enabling and reversion are known"),
    ],
)
def test_points_that_nobody_may_write(address, allowed):
    with pytest.raises(BadValue, match=allowed):
        control_of(spot(address))


@pytest.mark.parametrize("address", ["715.ControllerHb", "802.CtrlHb"])
def test_heartbeats_need_nothing_else(address):
    assert control_of(spot(address)) is None


async def test_coarse_register_is_rounded_to_the_inside_of_its_range():
    wire = FakeWire(device(MODEL_704))
    it = link(wire, row("set", "704.WSet", writable=True, span=(-1.6, 2.4)))
    await it.connect()
    await it.read()
    for value, words in ((2.4, (0, 2)), (-1.6, (0xFFFF, 0xFFFF)), (1.6, (0, 2))):
        wire.written.clear()
        await it.write([(it._rows["set"].codec, value)], DAY)
        assert wire.written[0] == (40094, words)
    for value in (2.5, math.nan):
        (reply,) = await it.write([(it._rows["set"].codec, value)], DAY)
        assert reply.outcome is WriteOutcome.NOT_SENT


# ---- ems check ------------------------------------------------------------------------------------

WRONG = [
    ("address: 701.W, unit: W, range: [-10, 700]", "address: 701.W, unit: kW, range: [-10, 700]",
     "connections.pv_inverter.points.pv1.p_kw.unit: found 'kW'", "W, in which 701.W is defined"),
    ("701.W, unit: W, range: [-10", "701.P, unit: W, range: [-10", "pv1.p_kw.address", "a point of 701: "),
    ("percent_of: 702.WMaxRtg, unit", "percent_of: 702.WWW, unit", "p_limit_kw.percent_of", "a point of 702"),
    ("RUNNING: 1, THROTTLED: 1, otherwise: 0}, range: [0, 1]", "ON: 1}, range: [0, 1]",
     "pv1.state.states: found 'ON'", "a symbol of 701.InvSt: OFF, SLEEPING"),
    ("address: 704.WSet, unit", "address: 701.VA, unit", "bess1.p_set_kw.address", "701.VA is only read"),
    ("percent_of: 702.WMaxRtg, scale", "states: {A: 1}, scale", "silence.states", "only for what is read"),
    ("{timeout_s: 15, action: value, value: 60 kW", "{timeout_s: 15.5, action: value, value: 60 kW",
     "authority.pv1.p_limit_kw.silence", "whole seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "allowed"), WRONG, ids=[w[2] for w in WRONG])
def test_ems_check_tells_what_the_models_contradict(tmp_path, capsys, old, new, key, allowed):
    path = write_example(tmp_path / "site", {old: new})
    assert check(Namespace(site=[str(path)], quiet=False)) == 1
    out = capsys.readouterr().out
    assert key in out
    assert allowed in out
    shutil.rmtree(tmp_path / "site")


SERIAL = "serial: {device: /dev/ttyUSB0}\n"
ON_A_BUS = {
    "protocol: sunspec\n    host: 192.0.2.22\n    port: 502\n": f"protocol: sunspec_rtu\n    {SERIAL}",
    "protocol: sunspec\n    host: 192.0.2.23\n    port: 502\n": f"protocol: sunspec_rtu\n    {SERIAL}",
    "protocol: modbus_tcp\n    host: 127.0.0.1\n    port: 15029\n":
        f"protocol: modbus_rtu\n    unit_id: 9\n    {SERIAL}",
}  # fmt: skip


def test_sunspec_and_plain_units_share_a_serial_bus(tmp_path):
    site = example(tmp_path / "site", ON_A_BUS)
    units = {c.id: (c.protocol.wire.value, c.unit_id) for c in site.connections if c.serial is not None}
    expected = {"inputs": 9, "battery": 1, "poi_meter": 3}
    assert units == {name: ("modbus_rtu", unit) for name, unit in expected.items()}
    FieldIO(site, clock=VirtualClock(T0))  # every link can be made, on one bus


def test_two_setpoints_that_one_register_enables_are_refused(tmp_path):
    site = example(tmp_path / "site")
    (battery,) = (c for c in site.connections if c.id == "battery")
    twin = row("bess1.q_set_kvar", "704.WSetPct", writable=True)
    both = dataclasses.replace(battery, points=(*battery.points, twin))
    (problem,) = sunspec_problems(dataclasses.replace(site, connections=(both,)))
    assert problem.key == "connections.battery.points.bess1.q_set_kvar.address"
    assert "704.WSetEna enables: it is that of 'bess1.p_set_kw'" in problem.allowed
