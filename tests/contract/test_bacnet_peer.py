"""BACnet/IP against devices of two other makes: state of objects, priorities, fall-backs, silence, browsing.

@bacnet-js/client shows what it is told to; bacpypes3 has objects and priority arrays of its own.
"""

import asyncio
import dataclasses
import math
import signal
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cli import browse
from cli.read import run as ems_read
from connectors.bacnet.client import BacnetLink
from connectors.field import FieldIO
from ems.bacnet import Bacnet
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.errors import EmsError
from ems.site import Connection, IdentityField, PointMap, Protocol
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.bacnet_plant import (
    DEVICE_ID,
    NULL,
    OUT_OF_SERVICE,
    PRESENT_VALUE,
    RELIABILITY,
    STATUS_FLAGS,
    NodeDevice,
    Peer,
    PypesDevice,
    flags,
    held,
)
from tests.contract.plants import command, site_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs_server]
FAULT, OVERRIDDEN, OUT = 1, 2, 3
NO_BITS = {"bitsUsed": 0, "value": []}
NOT_TOLD = "its state is not told:"


def row(name: str, address: str, data_type: str, writable: bool = False) -> PointMap:
    return PointMap(
        point=f"dev.{name}", address=address, table="object", data_type=data_type, byte_order="big",
        word_order="big", scale=1.0, offset=0.0, sign=1, unit="kW", low=-1e10, high=1e10, age_s_max=3.0,
        writable=writable,
    )  # fmt: skip


ROWS = (
    row("real", "analog-input,0", "real"),
    row("double", "large-analog-value,1", "double"),
    row("count", "accumulator,2", "unsigned"),
    row("mode", "multi-state-input,3", "unsigned"),
    row("signed", "integer-value,4", "signed"),
    row("on", "binary-input,5", "bit"),
    row("status", f"device,{DEVICE_ID},system-status", "enumerated"),
    row("set", "analog-output,6", "real", writable=True),
    row("run", "binary-output,7 [priority 8]", "bit", writable=True),
    row("step", "multi-state-value,8", "unsigned", writable=True),
    row("gone", "analog-input,99", "real"),
)
OBJECTS = {
    "0,0": held("real", -33.5, False),
    "46,1": held("double", 1234567.125, False),
    "23,2": held("unsigned", 4_000_000_000, False),
    "13,3": held("unsigned", 3, False),
    "45,4": held("signed", -70_000, False),
    "3,5": held("bit", True, False),
    "1,6": held("real", 12.0, True),
    "4,7": held("bit", False, True),
    "19,8": held("unsigned", 1, True),
}
GOOD = {
    "real": -33.5, "double": 1234567.125, "count": 4e9, "mode": 3.0, "signed": -70000.0, "on": 1.0,
    "status": 0.0, "set": 12.0, "run": 0.0, "step": 1.0,
}  # fmt: skip


class Rig:
    def __init__(self, server: Peer, rows: tuple[PointMap, ...] = ROWS, **keys: Any) -> None:
        settings = {"device": DEVICE_ID} | {
            k: v for k, v in keys.items() if k not in ("identity", "timeout_s")
        }
        self.connection = Connection(
            id="dev", protocol=Protocol.BACNET, host="127.0.0.1", port=server.port, unit_id=1, endpoint="",
            poll_s=1.0, timeout_s=keys.get("timeout_s", 5.0), watchdog_point=None, points=rows,
            identity=keys.get("identity", ()), bacnet=Bacnet(**settings),
        )  # fmt: skip
        self.clock = VirtualClock(T0)
        self.events: list[tuple[str, Any]] = []
        self.io = FieldIO(
            site_of(self.connection), clock=self.clock, back_off_s_max=0.1,
            on_event=lambda at, kind, fields: self.events.append((kind, fields)),
        )  # fmt: skip

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point.removeprefix("dev."): r for r in await self.io.read_all()}

    async def read_until_good(self, name: str) -> dict[str, Reading]:
        for _ in range(600):
            if (readings := await self.read())[name].is_good:
                return readings
            await wall_sleep(0.02)
        raise AssertionError("it never answered again")

    async def write(self, name: str, value: float) -> tuple[WriteOutcome, str]:
        (result,) = await self.io.write([command(f"dev.{name}", value)])
        return result.outcome, result.detail

    @property
    def faults(self) -> tuple[str, ...]:
        return self.io.faults().get("dev", ())

    def count(self, name: str) -> Any:
        return self.io.links()["dev"][name]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node() -> AsyncIterator[NodeDevice]:
    server = NodeDevice(OBJECTS)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(node) -> AsyncIterator[Rig]:
    await node.ask("multiple", value=True)
    await node.ask("most", value=1_000_000)
    await node.ask("refuse", error=None)
    await node.ask("silent", value=False)
    for key, properties in OBJECTS.items():
        for prop, values in properties.items():
            await node.ask("put", object=key, property=prop, values=values)
    await node.ask("seen")
    rig = Rig(node)
    await rig.read()
    yield rig
    await rig.io.close()


async def test_every_type_is_read_in_one_request_and_a_missing_object_spoils_no_other(rig, node):
    await node.ask("seen")
    readings = await rig.read()
    assert {n: r.value for n, r in readings.items() if r.is_good} == GOOD
    assert (readings["gone"].value, readings["gone"].quality) == (None, Quality.DEVICE_BAD)
    assert rig.io.why_unread("dev.gone") == "analog-input,99: unknown object (object, code 31)"
    seen = await node.ask("seen")
    assert (seen["many"], seen["one"]) == (1, 0)


@pytest.mark.parametrize(
    ("prop", "values", "why"),
    [
        (STATUS_FLAGS, flags(OUT), "out of service"),
        (STATUS_FLAGS, flags(FAULT), "fault"),
        (RELIABILITY, [{"type": 9, "value": 12}], "fault: communication failure (12)"),
        (STATUS_FLAGS, [{"type": 8, "value": NO_BITS}], f"{NOT_TOLD} status flags that are none"),
        (STATUS_FLAGS, [{"type": 9, "value": 0}], f"{NOT_TOLD} status flags that are none"),
        (RELIABILITY, [{"type": 2, "value": 0}], f"{NOT_TOLD} a reliability that is none"),
        (PRESENT_VALUE, [{"type": 2, "value": 5}], "an unsigned is told, real in the map"),
        (PRESENT_VALUE, [{"type": 5, "value": 5.0}], "a double is told, real in the map"),
        (PRESENT_VALUE, [NULL], "nothing (null) is told, real in the map"),
        (PRESENT_VALUE, [], "0 values are told, one is in the map"),
        (PRESENT_VALUE, [{"type": 4, "value": 1.0}] * 2, "2 values are told, one is in the map"),
    ],
)  # fmt: skip
async def test_object_that_is_not_well_gives_no_number_and_the_reason(rig, node, prop, values, why):
    await node.put("analog-input,0", prop, *values)
    readings = await rig.read()
    assert (readings["real"].value, readings["real"].quality) == (None, Quality.DEVICE_BAD)
    assert rig.io.why_unread("dev.real") == why
    assert readings["double"].is_good


async def test_value_that_is_no_number_is_not_finite(rig, node):
    await node.put("analog-input,0", PRESENT_VALUE, {"type": 4, "value": "NaN"})
    reading = (await rig.read())["real"]
    assert (reading.value, reading.quality) == (None, Quality.NOT_FINITE)


async def test_overridden_object_is_good_and_counted(rig, node):
    await node.put("analog-input,0", STATUS_FLAGS, *flags(OVERRIDDEN, 0))
    assert (await rig.read())["real"].value == -33.5
    assert (rig.count("overridden"), rig.count("in_alarm")) == (1, 1)


async def test_object_without_status_flags_is_asked_whether_it_is_in_service(rig, node):
    await node.drop("analog-input,0", STATUS_FLAGS)
    await node.drop("analog-input,0", RELIABILITY)
    await node.put("analog-input,0", OUT_OF_SERVICE, {"type": 1, "value": True})
    for _ in range(2):  # it says so once that it has none
        assert (await rig.read())["real"].quality is Quality.DEVICE_BAD
        assert rig.io.why_unread("dev.real") == "out of service"
    await node.put("analog-input,0", OUT_OF_SERVICE, {"type": 1, "value": False})
    assert (await rig.read())["real"].value == -33.5
    await node.drop("analog-input,0", OUT_OF_SERVICE)
    for _ in range(2):  # an object that tells nothing of its state
        assert (await rig.read())["real"].value == -33.5


async def test_binary_that_is_neither_of_two_and_count_that_is_too_large_are_no_values(rig, node):
    await node.put("binary-input,5", PRESENT_VALUE, {"type": 9, "value": 2})
    assert (await rig.read())["on"].quality is Quality.DEVICE_BAD
    assert rig.io.why_unread("dev.on") == "2 is told, bit in the map"


async def test_device_without_read_multiple_is_read_one_by_one(rig, node):
    await node.ask("multiple", value=False)
    await rig.read()
    await node.ask("seen")
    readings = await rig.read()
    assert {n: r.value for n, r in readings.items() if r.is_good} == GOOD
    seen = await node.ask("seen")
    assert seen["many"] == 0
    assert seen["one"] > len(GOOD)
    assert rig.count("reads_multiple") == 0


async def test_device_that_takes_less_at_once_is_asked_in_parts(rig, node):
    await node.ask("most", value=12)
    readings = await rig.read()
    assert {n: r.value for n, r in readings.items() if r.is_good} == GOOD
    await node.ask("seen")
    assert (await rig.read())["set"].is_good
    seen = await node.ask("seen")
    assert seen["many"] >= 3
    assert seen["one"] == 0


async def test_small_answers_of_a_device_behind_mstp_are_asked_in_several_requests(node):
    server = NodeDevice(OBJECTS, apdu=206)
    await server.start()
    rig = Rig(server)
    try:
        assert {n: r.value for n, r in (await rig.read()).items() if r.is_good} == GOOD
        await server.ask("seen")
        await rig.read()
        seen = await server.ask("seen")
        assert seen["many"] >= 3
        assert seen["one"] == 0
    finally:
        await rig.io.close()
        await server.stop()


async def test_commands_go_at_their_priority_and_are_shown(rig, node):
    assert await rig.write("set", 250.25) == (WriteOutcome.CONFIRMED, "")
    assert await rig.write("run", 1.0) == (WriteOutcome.CONFIRMED, "")
    assert await rig.write("step", 4.0) == (WriteOutcome.CONFIRMED, "")
    assert (await node.ask("seen"))["writes"] == [
        ["1,6", 85, 4, 250.25, 10], ["4,7", 85, 9, 1, 8], ["19,8", 85, 2, 4, 10],
    ]  # fmt: skip
    readings = await rig.read()
    assert [readings[n].value for n in ("set", "run", "step")] == [250.25, 1.0, 4.0]
    assert rig.faults == ()


async def test_another_writer_above_us_is_told_in_words_and_what_holds_is_read(rig, node):
    await rig.write("set", 100.0)
    await node.command("analog-output,6", 5, {"type": 4, "value": 42.5})
    assert (await rig.read())["set"].value == 42.5
    assert rig.faults == ("analog-output,6: priority 5 holds 42.5, above ours (10)",)
    await node.command("analog-output,6", 5, NULL)
    assert (await rig.read())["set"].value == 100.0
    assert rig.faults == ()
    told = [fields["faults"] for kind, fields in rig.events if kind == "device.faults"]
    assert told == [["analog-output,6: priority 5 holds 42.5, above ours (10)"], []]


async def test_another_writer_at_our_priority_is_told_in_words(rig, node):
    await rig.write("set", 100.0)
    await node.command("analog-output,6", 10, {"type": 4, "value": 7.0})
    assert (await rig.read())["set"].value == 7.0
    (fault,) = rig.faults
    assert fault.startswith("analog-output,6: priority 10 holds 7, we wrote 100: ")


async def test_device_that_keeps_values_in_steps_is_no_other_writer(rig, node):
    await rig.write("set", 100.04)
    await node.command("analog-output,6", 10, {"type": 4, "value": 100.0})
    assert (await rig.read())["set"].value == 100.0
    assert rig.faults == ()
    await node.command("analog-output,6", 10, NULL)
    await rig.read()
    (fault,) = rig.faults
    assert fault.startswith("analog-output,6: priority 10 holds nothing, we wrote 100.04: ")


async def test_setpoint_that_is_overridden_at_the_device_is_told(rig, node):
    await node.put("analog-output,6", STATUS_FLAGS, *flags(OVERRIDDEN))
    assert (await rig.read())["set"].is_good
    assert rig.faults == ("analog-output,6: overridden at the device",)


async def test_refused_command_is_rejected_in_words_and_the_next_one_goes(rig, node):
    await node.ask("refuse", error=[2, 40])
    words = "write access denied (property, code 40)"
    assert await rig.write("set", 1.0) == (WriteOutcome.REJECTED, words)
    await node.ask("refuse", error=None)
    assert await rig.write("set", 2.0) == (WriteOutcome.CONFIRMED, "")


async def test_command_out_of_range_or_not_finite_is_not_sent(rig, node):
    for value in (math.nan, math.inf, 1e11):
        assert (await rig.write("set", value))[0] is WriteOutcome.NOT_SENT
    assert (await node.ask("seen"))["writes"] == []


async def test_closing_writes_nothing(rig, node):
    await rig.write("set", 250.0)
    await node.ask("seen")
    await rig.io.close()
    assert (await node.ask("seen"))["writes"] == []
    assert (await node.get("analog-output,6"))[0]["value"] == 250.0


async def test_device_that_is_not_operational_is_a_fault(rig, node):
    await node.put(f"device,{DEVICE_ID}", "112", {"type": 9, "value": 4})
    await rig.read()
    assert rig.faults == ("the device: non-operational",)
    await node.put(f"device,{DEVICE_ID}", "112", {"type": 9, "value": 0})


async def test_silent_device_ends_at_the_deadline_its_command_is_unknown_and_it_is_read_back_first(node, rig):
    mine = Rig(node, timeout_s=0.2)
    try:
        await mine.read()
        await node.ask("silent", value=True)
        began_s = wall_s()
        outcome, detail = await mine.write("set", 77.0)
        assert (outcome, detail) == (WriteOutcome.UNKNOWN, "write: no answer in 0.2 s")
        assert wall_s() - began_s < 1.0
        readings = await mine.read()
        assert {r.quality for r in readings.values()} == {Quality.COMM_FAILED}
        assert (await mine.write("set", 78.0))[0] is WriteOutcome.NOT_SENT
        await node.ask("silent", value=False)
        assert (await mine.read_until_good("set"))["set"].value == 12.0
        assert (await mine.write("set", 79.0))[0] is WriteOutcome.CONFIRMED
    finally:
        await mine.io.close()


async def test_frozen_device_is_dead_within_its_deadline_and_its_late_answers_are_nothing(node, rig):
    mine = Rig(node, timeout_s=0.3)
    try:
        await mine.read()
        node.send(signal.SIGSTOP)
        await mine.read()
        readings = await mine.read()
        assert {(r.value, r.quality) for r in readings.values()} == {(None, Quality.COMM_FAILED)}
        node.send(signal.SIGCONT)
        assert {n: r.value for n, r in (await mine.read_until_good("real")).items() if r.is_good} == GOOD
        assert mine.count("repeated") >= 1
    finally:
        node.send(signal.SIGCONT)
        await mine.io.close()


async def test_another_device_at_the_address_is_not_taken_for_ours(node, rig):
    mine = Rig(node, device=1202)
    try:
        readings = await mine.read()
        assert {r.quality for r in readings.values()} == {Quality.COMM_FAILED}
        assert "device,1202 is not there: unknown object (object, code 31)" in mine.count("reason")
    finally:
        await mine.io.close()


IDENTITY = tuple(
    IdentityField(name=n, address=a, table="object", data_type="string", length=0, byte_order="big",
                  word_order="big", expected=e)
    for n, a, e in (
        ("manufacturer", "vendor-name", "Example Meters"), ("model", "model-name", "EM-4"),
        ("firmware", "firmware-revision", None), ("serial", "serial-number", None),
    )
)  # fmt: skip


async def test_identity_is_read_at_connect_and_a_stranger_is_not_written_to(node, rig):
    told = {"manufacturer": "Example Meters", "model": "EM-4", "firmware": "3.1.7", "serial": "0042"}
    mine = Rig(node, identity=IDENTITY)
    other = dataclasses.replace(IDENTITY[1], expected="EM-5")
    wrong = Rig(node, identity=(IDENTITY[0], other))
    try:
        assert (await mine.read())["real"].is_good
        assert mine.io.identities()["dev"] == told
        assert (await wrong.read())["real"].quality is Quality.DEVICE_BAD
        assert (await wrong.write("set", 1.0))[0] is WriteOutcome.NOT_SENT
    finally:
        await mine.io.close()
        await wrong.io.close()


# bacpypes3, whose objects and priority arrays are its own

PYPES_ROWS = (
    *(row(f"in{i}", f"analog-input,{i}", "real") for i in range(90)),
    row("on", "binary-input,1", "bit"),
    row("mode", "multi-state-input,1", "unsigned"),
    row("energy", "accumulator,1", "unsigned"),
    row("total", "large-analog-value,1", "double"),
    row("set", "analog-output,1", "real", writable=True),
    row("run", "binary-output,1", "bit", writable=True),
    row("plain", "analog-value,1", "real", writable=True),
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pypes() -> AsyncIterator[PypesDevice]:
    server = PypesDevice(inputs=290)  # whose list of objects does not fit into one answer
    await server.start()
    yield server
    await server.stop()


async def test_bacpypes3_is_read_commanded_and_contended(pypes):
    rig = Rig(pypes, PYPES_ROWS)
    try:
        readings = await rig.read()
        assert all(r.is_good for r in readings.values()), rig.io.links()
        assert [readings[f"in{i}"].value for i in range(90)] == [1.5 + i for i in range(90)]
        assert [readings[n].value for n in ("on", "mode", "energy", "total")] == [1, 3, 65000, 1234567.25]
        before = rig.count("requests")
        await rig.read()
        assert rig.count("requests") - before == 3  # 97 objects with their state, 1476 bytes each
        assert await rig.write("set", -33.5) == (WriteOutcome.CONFIRMED, "")
        assert await rig.write("run", 1.0) == (WriteOutcome.CONFIRMED, "")
        assert await rig.write("plain", 6.5) == (WriteOutcome.CONFIRMED, "")
        readings = await rig.read()
        assert [readings[n].value for n in ("set", "run", "plain")] == [-33.5, 1.0, 6.5]
        array = await pypes.ask("get", object="analog-output,1", property="priorityArray")
        assert array[9] == -33.5
        await pypes.ask("command", object="analog-output,1", priority=3, value=99.0)
        assert (await rig.read())["set"].value == 99.0
        assert rig.faults == ("analog-output,1: priority 3 holds 99, above ours (10)",)
        await pypes.ask("command", object="analog-output,1", priority=3, value=None)
        assert (await rig.read())["set"].value == -33.5
    finally:
        await rig.io.close()
        await pypes.ask("command", object="analog-output,1", priority=10, value=None)


async def test_bacpypes3_answer_that_would_need_segments_is_asked_in_parts(pypes):
    rig = Rig(pypes, PYPES_ROWS)
    await rig.read()
    try:
        (link,) = rig.io._counting.values()
        assert isinstance(link, BacnetLink)
        assert link._asker is not None
        link._asker._room = 60_000  # as if more fitted into an answer than does: it aborts
        before = rig.count("requests")
        readings = await rig.read()
        assert all(r.is_good for r in readings.values())
        assert rig.count("requests") - before == 3  # one that was aborted, and its halves
        assert link._asker._room == 30_000
        assert rig.count("failures") == 0
    finally:
        await rig.io.close()


SITE = """grid: {id: grid1}
connections:
  meter:
    protocol: bacnet
    host: 127.0.0.1
    port: PORT
    bacnet: {device: 1201}
    poll_s: 1
    timeout_s: 2
    asset: grid1
    map: meter.yaml
"""
MAP = """device: meter
protocol: bacnet
identity:
  model: {address: model-name}
points:
  p_kw: {address: "analog-input,2", type: real, sign: -1, range: [-100, 100], age_s_max: 3}
  q_kvar: {address: "analog-input,777", type: real, range: [-100, 100], age_s_max: 3}
"""


async def test_ems_read_shows_a_device_with_reasons(pypes, tmp_path, capsys):
    (tmp_path / "meter.yaml").write_text(MAP)
    (tmp_path / "site.yaml").write_text(SITE.replace("PORT", str(pypes.port)))
    options = Namespace(site=str(tmp_path / "site.yaml"), device=["meter"], every=None, wait=1.0, listen=1.0)
    assert await asyncio.to_thread(ems_read, options) == 1
    out = capsys.readouterr().out
    assert f"meter: bacnet 127.0.0.1:{pypes.port} device 1201" in out
    assert "identity model: CH-900" in out
    assert "-3.5 kW" in out
    assert "object analog-input,2" in out
    assert "analog-input,777: unknown object" in out


def arguments(**more: Any) -> Namespace:
    parser = ArgumentParser()
    browse.configure(parser)
    return Namespace(**vars(parser.parse_args(["HOST"])) | more)


async def test_browse_lists_objects_as_a_map_names_them(pypes, capsys):
    where = f"127.0.0.1:{pypes.port}"
    assert await asyncio.to_thread(browse.run, arguments(host=where, bacnet=DEVICE_ID)) == 0
    lines = capsys.readouterr().out.splitlines()
    words = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert words["analog-input,2"] == "real 3.5 kW; measured 2; power of part 2"
    assert words["binary-input,1"].startswith("bit 1; ")
    assert words["large-analog-value,1"].startswith("double 1234567.25 kWh; no priority array; total")
    assert words["analog-output,1"].startswith("real 12 kW; commandable; setpoint")
    assert words["serial-number"] == "string A-17; identity: serial"
    assert len([line for line in lines if line.startswith("analog-input")]) == 290
    assert await asyncio.to_thread(browse.run, arguments(host=where, bacnet=DEVICE_ID, only="no such")) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"bacnet": 4194303}, "--bacnet: found 4194303"),
        ({"bacnet": 1, "dnp3": 1}, "one of them"),
        ({"bacnet": 1, "network": 5}, "--network, --mac"),
        ({"bacnet": 1, "network": 5, "mac": "zz"}, "--mac: found 'zz'"),
        ({"bacnet": 1, "network": 0, "mac": "01"}, "--network: found 0"),
        ({"bacnet": 7}, "device,7 is not there: unknown object"),
    ],
)
async def test_browse_says_what_is_wrong(pypes, more, message):
    with pytest.raises(EmsError, match=message):
        await asyncio.to_thread(browse.run, arguments(host=f"127.0.0.1:{pypes.port}", **more))
