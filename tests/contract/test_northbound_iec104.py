"""Our controlled station, read and told bounds by c104 (lib60870-C) and hat-drivers; what it never does."""

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from connectors.iec104.asdu import Cause, Type, asdu_of, single
from connectors.iec104.frames import Function, Numbered, Supervisory, Unnumbered
from connectors.iec104.times import time_bytes, time_of
from connectors.iec104.values import IV, NT
from connectors.northbound import iec104_server
from ems.iec104 import Iec104Times
from ems.northbound import WriteRights
from ems.northbound_iec104 import Iec104Command, Iec104Row
from ems.requests import TellLimit
from tests.contract.northbound_104_peer import (
    FIELDS,
    OLD,
    STATION,
    VALUES,
    Raw,
    Scada,
    edge_rules,
    interrogation,
    moved,
    refused_last,
    serving,
    setpoint,
)
from tests.contract.northbound_peer import PLAIN_WRITES
from tests.contract.test_northbound_tls import stunnel
from tests.contract.tls_pki import Authority

BY = {
    "how": "MISMATCHED_TYPE_ID",
    "cause": "INTERROGATED_BY_STATION",
}  # of c104: untimed where timed is usual
GOOD = "Quality set: {}, is_good: True"
ROWS_BIG = (Iec104Row(point="grid1.p_kw", address=11),)
SELECTED = (Iec104Command(limit="dso", address=31, select=True),)


@pytest.fixture
async def scada() -> AsyncIterator[Scada]:
    async with Scada.up() as made:
        yield made


# --- c104 -------------------------------------------------------------------------------------------------


@pytest.mark.needs_server
@pytest.mark.parametrize("init", ["ALL", "NONE"])
async def test_c104_interrogates_and_hears_changes_with_time_and_quality(demo, tmp_path, scada, init):
    async with serving(demo, tmp_path) as (port, plant):
        await scada.connect(port, init=init)
        assert await scada.ask("interrogate", station=STATION)
        found = {h["address"]: h for h in await scada.until(9, **BY)}
        assert {a: h["value"] for a, h in found.items()} == {
            1: 1, 3: 0, 11: 123.5, 12: 2, 13: 0, 14: 0.5, 15: 1002, 21: 300, 22: 0
        }  # fmt: skip
        assert {a for a, h in found.items() if h["quality"] != GOOD} == {13}
        assert found[13]["quality"] == OLD
        before = datetime.now(UTC).timestamp() - 1.0
        moved(plant, grid1__p_kw=150.0, grid1__breaker_closed=0.0, bess1__soc=-0.25)
        (power,) = await scada.until(address=11, type="M_ME_TF_1", cause="SPONTANEOUS")
        assert (power["value"], power["quality"]) == (150.0, GOOD)
        assert before < power["at"] < before + 30.0
        (breaker,) = await scada.until(address=12, type="M_DP_TB_1")
        assert breaker["value"] == 1.0
        (soc,) = await scada.until(address=14, type="M_ME_TD_1")
        assert soc["value"] == -0.25


@pytest.mark.needs_server
async def test_c104_reads_counters_and_one_object_and_sets_no_clock(demo, tmp_path, scada):
    async with serving(demo, tmp_path) as (port, plant):
        await scada.connect(port)
        assert await scada.ask("counters", station=STATION)
        (energy,) = await scada.until(cause="REQUESTED_BY_GENERAL_COUNTER")
        assert (energy["address"], energy["value"], energy["type"]) == (16, 2469, "M_IT_NA_1")
        assert await scada.ask("read", station=STATION, address=15)
        (one,) = await scada.until(cause="REQUEST")
        assert (one["address"], one["value"]) == (15, 1002)
        assert await scada.ask("test", station=STATION)
        assert plant.records.count == 0
        assert not await scada.ask("clock", station=STATION)
        assert refused_last(plant).code == "clock"
        assert plant.records.stranger is None


@pytest.mark.needs_server
@pytest.mark.parametrize("done", [True, False])
async def test_c104_is_confirmed_what_the_edge_ruled(demo, tmp_path, scada, done):
    async with serving(demo, tmp_path) as (port, plant):
        await scada.connect(port, commands={"31": "C_SE_NC_1 DIRECT"})
        task = asyncio.create_task(scada.ask("tell", station=STATION, address=31, value=120.25))
        while not plant.door.waiting:
            assert not task.done()
            await asyncio.sleep(0.02)
        told = edge_rules(plant, done=done)
        assert told == f"{TellLimit(limit='dso', value_kw=120.25)} scada: no certificate, at 127.0.0.1"
        assert await task is done
        assert plant.records.count == (not done)
        (answer,) = [h for h in await scada.until(address=22, cause="SPONTANEOUS") if h["value"] > 1]
        assert answer["value"] == (2 if done else 3)


@pytest.mark.needs_server
async def test_c104_selects_before_it_executes_where_that_is_asked(demo, tmp_path, scada):
    async with serving(demo, tmp_path, commands=SELECTED) as (port, plant):
        await scada.connect(port, commands={"31": "C_SE_NC_1 SELECT_AND_EXECUTE"})
        task = asyncio.create_task(scada.ask("tell", station=STATION, address=31, value=7.5))
        while not plant.door.waiting:
            assert not task.done()
            await asyncio.sleep(0.02)
        assert "7.5" in edge_rules(plant)
        assert await task is True


@pytest.mark.needs_server
async def test_c104_is_refused_what_it_may_not(demo, tmp_path, scada):
    async with serving(demo, tmp_path, commands=SELECTED) as (port, plant):
        commands = {"31": "C_SE_NC_1 DIRECT", "32": "C_SE_NC_1 DIRECT", "33": "C_SC_NA_1 DIRECT"}
        await scada.connect(port, commands=commands)
        for address, value in ((31, 5.0), (32, 5.0), (33, True)):
            assert not await scada.ask("tell", station=STATION, address=address, value=value)
        assert plant.desk.collect() == []
        codes = [r.code for r in plant.records._waiting]
        assert codes == ["out_of_bounds", "not_writable", "not_writable"]


@pytest.mark.needs_server
async def test_c104_inside_stunnel_is_known_by_its_certificate(demo, tmp_path, scada, require_program):
    """Its own TLS gives up before it has said anything (-0x5d80: it tells Mbed TLS no name of a host)."""
    ca = Authority(tmp_path / "pki")
    own, client = ca.signs("ems", hosts=("127.0.0.1",)), ca.signs("dso", role="GridOperator", file="client")
    rights = WriteRights(limits=("dso",), roles=("GridOperator",), per_s=10.0)
    async with serving(demo, tmp_path / "run", writes=rights, tls=own.files(ca.file)) as (port, plant):
        lines = (
            f"client = yes\nconnect = 127.0.0.1:{port}\nCAfile = {ca.file}\nverifyChain = yes\n"
            f"checkIP = 127.0.0.1\ncert = {client.certificate}\nkey = {client.key}\n"
        )
        async with stunnel(require_program("stunnel"), tmp_path, lines) as inner:
            await scada.connect(inner, commands={"31": "C_SE_NC_1 DIRECT"})
            assert await scada.ask("interrogate", station=STATION)
            assert await scada.until(9, **BY)
            task = asyncio.create_task(scada.ask("tell", station=STATION, address=31, value=9.0))
            while not plant.door.waiting:
                assert not task.done()
                await asyncio.sleep(0.02)
            assert "CN=dso, role GridOperator" in edge_rules(plant)
            assert await task is True
        raw = await Raw.to(port, start=False)
        raw.function(Function.STARTDT_ACT)
        assert await raw.ended()
        assert refused_last(plant).code == "no_handshake"
        await raw.close()


# --- hat-drivers ------------------------------------------------------------------------------------------


@pytest.mark.needs_server
async def test_hat_reads_everything_and_tells_a_bound(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, plant), Scada.up("hat_client.py") as hat:
        assert await hat.ask("connect", port=port)
        await hat.until(how="InitializationMsg", cause="LOCAL_POWER")
        await hat.ask("interrogate", station=STATION)
        await hat.until(how="InterrogationMsg", cause="ACTIVATION_TERMINATION")
        found = {h["io_address"]: h for h in await hat.until(9, cause="INTERROGATED_STATION")}
        assert (found[11]["value"], found[15]["value"]) == (123.5, 1002)
        assert found[14]["value"] == pytest.approx(0.5, abs=1e-4)  # its full scale is 32767
        assert (found[12]["value"], found[1]["value"]) == ("ON", "ON")
        assert {a: h["bad"] for a, h in found.items() if h["bad"]} == {13: ["invalid", "not_topical"]}
        assert {h["originator_address"] for h in found.values()} == {5}
        await hat.ask("counters", station=STATION)
        (energy,) = await hat.until(cause="INTERROGATED_COUNTER")
        assert energy["value"] == 2469
        moved(plant, grid1__p_kw=100.0)
        (change,) = await hat.until(io_address=11, cause="SPONTANEOUS")
        assert change["value"] == 100.0
        assert abs(change["at"] - datetime.now(UTC).timestamp()) < 60.0
        await hat.ask("tell", station=STATION, address=31, value=44.0, select=False)
        while not plant.door.waiting:
            await asyncio.sleep(0.02)
        assert "44.0" in edge_rules(plant)
        await hat.until(how="CommandMsg", cause="ACTIVATION_CONFIRMATION", is_negative_confirm=False)
        await hat.until(how="CommandMsg", cause="ACTIVATION_TERMINATION")


# --- whatever the client is made of -----------------------------------------------------------------------


async def test_interrogation_is_whole_and_ends(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, _):
        raw = await Raw.to(port)
        assert asdu_of(await raw.asdu()).type == Type.M_EI_NA
        raw.send(interrogation(station=0xFFFF))
        parts = [asdu_of(await raw.asdu()) for _ in range(7)]
        assert [p.cause for p in parts] == [7, 20, 20, 20, 20, 20, 10]
        assert {p.station for p in parts} == {STATION}
        assert {p.originator for p in parts} == {3}
        assert sum(p.count for p in parts[1:-1]) == 9
        raw.function(Function.STOPDT_ACT)
        assert await raw.frame() == Unnumbered(Function.STOPDT_CON)
        raw.function(Function.STARTDT_ACT)
        assert await raw.frame() == Unnumbered(Function.STARTDT_CON)
        raw.function(Function.TESTFR_ACT)
        assert await raw.frame() == Unnumbered(Function.TESTFR_CON)
        await raw.close()


@pytest.mark.parametrize(
    ("asdu", "cause", "code"),
    [
        (single(Type.M_ME_NC, 6, STATION, 11, bytes(5)), 44, "unknown"),
        (b"\x2d\x01\x06\x00" + bytes((STATION, 0)) + b"\x1f\x00\x00\x01", 44, "not_writable"),
        (b"\x69\x01\x06\x00" + bytes((STATION, 0)) + b"\x00\x00\x00\x01", 44, "unknown"),  # reset the process
        (setpoint(5.0, kind=Type.C_SE_NB)[:-2], 44, "not_writable"),
        (interrogation(cause=5), 45, "unknown"),
        (single(Type.C_RD_NA, 6, STATION, 11, b""), 45, "unknown"),
        (interrogation(cause=6 | 0x40), 45, "unknown"),
        (interrogation(station=8), 46, "unknown"),
        (setpoint(5.0, station=8), 46, "not_writable"),
        (setpoint(5.0, station=0xFFFF), 46, "not_writable"),
        (single(Type.C_RD_NA, 5, STATION, 99, b""), 47, "unknown"),
        (setpoint(5.0, address=11), 47, "not_writable"),
        (interrogation(address=1), 47, "unknown"),
        (interrogation(21), 7, "unknown"),
        (interrogation(0x45, kind=Type.C_CI_NA), 7, "unknown"),  # and freeze them
        (interrogation(cause=8), 9, ""),
        (setpoint(-1.0), 7, "out_of_bounds"),
        (setpoint(float("nan")), 7, "out_of_bounds"),
        (setpoint(5.0, qualifier=1), 7, "out_of_bounds"),
        (setpoint(5.0, cause=6 | 0x80), 7, "out_of_bounds"),  # marked as a test
        (setpoint(5.0, cause=8), 9, ""),
    ],
)
async def test_what_is_not_served_is_answered_by_its_cause_and_recorded(demo, tmp_path, asdu, cause, code):
    async with serving(demo, tmp_path) as (port, plant):
        raw = await Raw.to(port)
        await raw.asdu(Cause.INITIALISED)
        raw.send(asdu)
        answer = asdu_of(await raw.asdu())
        assert (answer.cause, answer.negative) == (cause, True)
        assert answer.raw[6:] == asdu[6:]
        assert plant.desk.collect() == []
        assert [r.code for r in plant.records._waiting] == [code] * bool(code)
        await raw.close()


@pytest.mark.parametrize(
    "rights",
    [None, replace(PLAIN_WRITES, plain_from=("10.0.0.5",)), replace(PLAIN_WRITES, limits=("other",))],
)
@pytest.mark.parametrize("select", [True, False])
async def test_client_without_the_right_is_refused_at_once(demo, tmp_path, rights, select):
    async with serving(demo, tmp_path, writes=rights) as (port, plant):
        raw = await Raw.to(port)
        raw.send(setpoint(5.0, select=select))
        assert asdu_of(await raw.asdu(Cause.ACTIVATION_CON)).negative
        assert plant.desk.collect() == []
        assert plant.records.stranger is not None
        await raw.close()


async def test_command_with_a_time_counts_while_it_is_new(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, plant):
        raw = await Raw.to(port)
        for old_s, valid in ((0, True), (120, True), (-120, True), (0, False)):
            stamp = time_bytes(datetime.now(UTC) - timedelta(seconds=old_s), valid=valid)
            raw.send(setpoint(5.0, kind=Type.C_SE_TC, tail=stamp))
            if old_s == 0 and valid:
                while not plant.door.waiting:
                    await asyncio.sleep(0.02)
                edge_rules(plant)
            answer = asdu_of(await raw.asdu(Cause.ACTIVATION_CON))
            assert answer.negative is not (old_s == 0 and valid)
        await raw.close()


async def test_selection_is_of_one_value_one_client_and_one_execution(demo, tmp_path):
    async with serving(demo, tmp_path, commands=SELECTED) as (port, plant):
        raw, other = await Raw.to(port), await Raw.to(port, start=False)

        async def answer(asdu: bytes) -> bool:
            raw.send(asdu)
            return not asdu_of(await raw.asdu(Cause.ACTIVATION_CON)).negative

        assert await answer(setpoint(5.0, select=True))
        assert not await answer(setpoint(6.0))
        assert not await answer(setpoint(5.0))  # the attempt has ended the selection
        assert await answer(setpoint(5.0, select=True))
        raw.send(setpoint(5.0, cause=8))
        assert not asdu_of(await raw.asdu(Cause.DEACTIVATION_CON)).negative
        assert not await answer(setpoint(5.0))
        assert await answer(setpoint(5.0, select=True))
        assert not await answer(setpoint(5.0, originator=4))
        assert await answer(setpoint(5.0, select=True))
        raw.send(setpoint(5.0))
        while not plant.door.waiting:
            await asyncio.sleep(0.02)
        assert "5.0" in edge_rules(plant)
        assert not asdu_of(await raw.asdu(Cause.ACTIVATION_CON)).negative
        assert asdu_of(await raw.asdu(Cause.ACTIVATION_END)).raw[6:] == setpoint(5.0)[6:]
        for one in (raw, other):
            await one.close()


async def test_newer_value_takes_the_place_of_one_that_waits_and_both_are_answered(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, plant):
        raw = await Raw.to(port)
        raw.send(setpoint(500.0))
        raw.send(setpoint(100.0))
        first = asdu_of(await raw.asdu(Cause.ACTIVATION_CON))
        assert (first.negative, first.raw[6:]) == (True, setpoint(500.0)[6:])
        assert "100.0" in edge_rules(plant)
        second = asdu_of(await raw.asdu(Cause.ACTIVATION_CON))
        assert (second.negative, second.raw[6:]) == (False, setpoint(100.0)[6:])
        await raw.close()


async def test_edge_that_stands_still_makes_everything_invalid_and_takes_no_bound(
    demo, tmp_path, monkeypatch
):
    async with serving(demo, tmp_path) as (port, plant):
        raw = await Raw.to(port)
        await raw.asdu(Cause.INITIALISED)
        real = plant.clock.monotonic_s
        monkeypatch.setattr(plant.board, "_monotonic_s", lambda: real() + 6000.0)
        quality: dict[int, int] = {}
        fresh = None
        while len(quality) < 5 or fresh is None:
            asdu = asdu_of(await raw.asdu(Cause.SPONTANEOUS))
            size = len(asdu.body) // asdu.count
            for i in range(asdu.count):
                one = asdu.body[i * size : (i + 1) * size]
                address, content, stamp = int.from_bytes(one[:3], "little"), one[3:-7], time_of(one[-7:])
                assert stamp is not None
                assert abs((datetime.now(UTC) - stamp).total_seconds()) < 60.0  # when it was seen
                if address == 1:
                    fresh = content[0]
                else:
                    quality[address] = content[-1] & 0xF0
        assert fresh == 0
        assert quality == dict.fromkeys((11, 12, 14, 15, 21), IV | NT)
        raw.send(interrogation(5, kind=Type.C_CI_NA))
        counter = asdu_of(await raw.asdu(Cause.COUNTERS_REQUESTED))
        assert counter.element[-1] == IV
        raw.send(setpoint(5.0))
        assert asdu_of(await raw.asdu(Cause.ACTIVATION_CON)).negative
        assert refused_last(plant).code == "edge_away"
        await raw.close()


async def test_changes_below_the_deadband_are_not_told_and_add_up(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, plant):
        raw = await Raw.to(port)
        for value in (124.0, 124.4, 124.5, 125.0):
            moved(plant, grid1__p_kw=value)
            plant.serving.station.refresh()
        asdu = asdu_of(await raw.asdu(Cause.SPONTANEOUS))
        assert (asdu.count, struct.unpack_from("<f", asdu.element)[0]) == (1, 124.5)
        await raw.close()


async def test_local_time_is_told_where_it_is_wanted_and_none_where_not(demo, tmp_path):
    async with serving(demo, tmp_path, local_time=True) as (port, plant):
        raw = await Raw.to(port)
        moved(plant, grid1__p_kw=1.0)
        asdu = asdu_of(await raw.asdu(Cause.SPONTANEOUS))
        shown = time_of(asdu.element[-7:], plant.serving.station.zone)
        assert shown is not None
        assert abs((datetime.now(UTC) - shown).total_seconds()) < 60.0
        assert str(plant.serving.station.zone) == demo.timezone
        await raw.close()
    async with serving(demo, tmp_path / "b", time_tags=False) as (port, plant):
        raw = await Raw.to(port)
        moved(plant, grid1__p_kw=1.0)
        assert asdu_of(await raw.asdu(Cause.SPONTANEOUS)).type == Type.M_ME_NC
        await raw.close()


async def test_time_is_marked_invalid_while_the_edge_cannot_rely_on_its_clock(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, plant):
        raw = await Raw.to(port)
        for state, valid in (("holdover", True), ("invalid", False), ("valid", True)):
            plant.cycle(**VALUES | {"grid1__p_kw": 200.0 + 10 * len(state)}, fields={**FIELDS, "utc": state})
            asdu = asdu_of(await raw.asdu(Cause.SPONTANEOUS))
            assert (time_of(asdu.element[-7:]) is not None) is valid
        await raw.close()


# --- who is there, who was away ---------------------------------------------------------------------------


async def test_changes_while_a_client_is_away_are_told_in_order_and_only_once_confirmed(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, plant):
        raw = await Raw.to(port)
        assert isinstance(await raw.frame(), Numbered)  # initialised
        raw.confirm()
        moved(plant, grid1__p_kw=200.0)
        assert isinstance(await raw.frame(), Numbered)  # it came, but that is not said
        await raw.close()
        for value in (210.0, 220.0):
            moved(plant, grid1__p_kw=value)
            plant.serving.station.refresh()
        raw = await Raw.to(port)
        asdu = asdu_of(await raw.asdu())
        size = len(asdu.body) // asdu.count
        told = [struct.unpack_from("<f", asdu.body, 3 + i * size)[0] for i in range(asdu.count)]
        assert told == [200.0, 210.0, 220.0]
        await raw.close()


async def test_changes_beyond_the_buffer_are_lost_and_that_is_told_until_it_interrogates(demo, tmp_path):
    async with serving(demo, tmp_path, events_max=100) as (port, plant):
        raw = await Raw.to(port)
        await raw.asdu(Cause.INITIALISED)
        raw.function(Function.STOPDT_ACT)
        assert await raw.frame() == Unnumbered(Function.STOPDT_CON)
        await raw.close()
        before = plant.serving.station.shown
        for i in range(150):
            plant.serving.station.changes.add(replace(before[2], value=float(i)))
        raw = await Raw.to(port)
        first = asdu_of(await raw.asdu())
        assert (first.type, first.address, first.element[0]) == (Type.M_SP_TB, 3, 1)
        count = 0
        while count < 100:
            count += asdu_of(await raw.asdu(Cause.SPONTANEOUS)).count
        assert plant.serving.status()["events_lost"] == 50
        raw.send(interrogation())
        bits = asdu_of(await raw.asdu(Cause.INTERROGATED))
        assert bits.body == bytes.fromhex("01000001" + "03000001")
        await raw.asdu(Cause.ACTIVATION_END)
        last = asdu_of(await raw.asdu())
        assert (last.address, last.element[0]) == (3, 0)
        await raw.close()


async def test_changes_before_an_interrogation_are_never_told_after_its_values(demo, tmp_path):
    """Whatever is told of one object, and when: its last word is the newest."""
    async with serving(demo, tmp_path, rows=ROWS_BIG, events_max=1000) as (port, plant):
        raw = await Raw.to(port)
        await raw.asdu(Cause.INITIALISED)
        await raw.close()
        for i in range(300):
            moved(plant, grid1__p_kw=1000.0 + i)
            plant.serving.station.refresh()
        raw = await Raw.to(port)
        raw.send(interrogation())
        heard = []
        while True:
            asdu = asdu_of(await raw.asdu())
            if asdu.cause == Cause.ACTIVATION_END:
                break
            if asdu.cause in (Cause.SPONTANEOUS, Cause.INTERROGATED):
                size = len(asdu.body) // asdu.count
                heard += [struct.unpack_from("<f", asdu.body, 3 + i * size)[0] for i in range(asdu.count)]
        assert heard == [*(1000.0 + i for i in range(300)), 1299.0]
        await raw.close()


async def test_second_connection_of_a_client_stands_by_and_takes_over_when_it_is_started(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, plant):
        one, two = await Raw.to(port), await Raw.to(port, start=False)
        await one.asdu(Cause.INITIALISED)
        moved(plant, grid1__p_kw=200.0)
        await one.asdu(Cause.SPONTANEOUS)
        two.function(Function.TESTFR_ACT)
        assert await two.frame() == Unnumbered(Function.TESTFR_CON)
        two.function(Function.STARTDT_ACT)
        assert await two.frame() == Unnumbered(Function.STARTDT_CON)
        assert await one.ended()
        assert refused_last(plant).why == "another connection of this client was started"
        moved(plant, grid1__p_kw=300.0)
        assert struct.unpack_from("<f", asdu_of(await two.asdu(Cause.SPONTANEOUS)).element)[0] == 300.0
        assert plant.serving.status()["started"] == 1
        for raw in (one, two):
            await raw.close()


async def test_window_is_kept_and_who_confirms_nothing_is_ended_while_others_are_served(
    demo, tmp_path, monkeypatch
):
    monkeypatch.setattr(iec104_server, "LOOK_S", 0.02)
    times = Iec104Times(k=3, w=2, t1_s=1.5, t2_s=1.0, t3_s=200.0)
    async with serving(demo, tmp_path, times=times) as (port, plant):
        slow = await Raw.to(port)
        for i in range(10):
            moved(plant, grid1__p_kw=200.0 + 10 * i)
            plant.serving.station.refresh()
            await asyncio.sleep(0.05)
        assert await slow.ended()
        assert slow.received == 3
        assert "(t1)" in refused_last(plant).why
        await slow.close()
        good = await Raw.to(port)
        await good.asdu(Cause.SPONTANEOUS)
        for _ in range(2):
            good.send(single(Type.C_RD_NA, 5, STATION, 11, b""))
        await good.asdu(Cause.REQUEST)
        await good.close()


async def test_quiet_client_is_tested(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(iec104_server, "LOOK_S", 0.02)
    times = Iec104Times(t1_s=1.0, t2_s=0.5, t3_s=0.2)
    async with serving(demo, tmp_path, times=times) as (port, plant):
        raw = await Raw.to(port, start=False)
        assert await raw.frame() == Unnumbered(Function.TESTFR_ACT)
        raw.function(Function.TESTFR_CON)
        assert await raw.frame() == Unnumbered(Function.TESTFR_ACT)
        assert await raw.ended()
        assert "test was not answered" in refused_last(plant).why
        await raw.close()


async def test_what_a_client_sends_is_confirmed_after_w_frames(demo, tmp_path):
    async with serving(demo, tmp_path, times=Iec104Times(k=2, w=2)) as (port, _):
        raw = await Raw.to(port)
        assert isinstance(await raw.frame(), Numbered)
        for _ in range(4):  # two answers fly, unconfirmed; what else comes is confirmed on its own
            raw.send(single(Type.C_TS_TA, 6, STATION, 0, bytes(9)))
        for _ in range(2):
            assert isinstance(await raw.frame(), Numbered)
        found = await raw.frame()
        assert isinstance(found, Supervisory)
        assert found.received == 4
        await raw.close()


async def test_client_of_another_address_does_not_come_in(demo, tmp_path):
    async with serving(demo, tmp_path, clients=("10.0.0.0/24",)) as (port, plant):
        raw = await Raw.to(port, start=False)
        assert await raw.ended()
        assert refused_last(plant).code == "not_let_in"
        await raw.close()
