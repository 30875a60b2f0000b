"""A Modbus device that answers wrongly, late, in drips or not at all: no wrong value is ever taken.

The cases are those that a widely used client library accepts or mishandles when it is trusted alone.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from connectors.field import FieldIO
from connectors.modbus.client import ModbusLink
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.site import PointMap
from ems.site import Protocol as Wire
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.adversary import RIGHT, ROWS, Adversary, map_row
from tests.contract.plants import command, connection, site_of

TIMEOUT_S = 0.25


class Rig:
    def __init__(
        self, adversary: Adversary, rows: tuple[PointMap, ...] = ROWS, timeout_s: float = TIMEOUT_S
    ) -> None:
        base = connection("dev", Wire.MODBUS_TCP, adversary.port, timeout_s)
        self.clock = VirtualClock(T0)
        self.io = FieldIO(site_of(dataclasses.replace(base, points=rows)), clock=self.clock)

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point: r for r in await self.io.read_all()}

    async def write(self, value: float) -> WriteOutcome:
        (result,) = await self.io.write([command("dev.set", value)])
        return result.outcome

    async def settle(self) -> dict[str, Reading]:
        for _ in range(300):
            readings = await self.read()
            if all(r.is_good for r in readings.values()):
                return readings
            await wall_sleep(0.01)
        raise AssertionError("the device never came back")


@pytest.fixture
async def adversary() -> AsyncIterator[Adversary]:
    adversary = Adversary()
    await adversary.start()
    yield adversary
    await adversary.stop()


@pytest.fixture
async def rig(adversary) -> AsyncIterator[Rig]:
    rig = Rig(adversary)
    yield rig
    await rig.io.close()


BAD_READS = [
    "wrong transaction id", "transaction id 0", "wrong protocol id", "wrong unit id", "too few registers",
    "too many registers", "wrong function code", "wrong byte count", "odd byte count",
    "byte count shorter than the data", "garbage", "a second answer behind the first", "drip", "late",
    "silent", "hang_up",
]  # fmt: skip


@pytest.mark.scenario(26)
@pytest.mark.parametrize("mode", BAD_READS)
async def test_read_malformed_reply_no_value_taken_and_connection_dropped(rig, adversary, mode):
    assert {p: r.value for p, r in (await rig.settle()).items()} == RIGHT
    adversary.mode, before = mode, adversary.connections
    started_s = wall_s()
    for _ in range(4):
        for reading in (await rig.read()).values():
            assert (reading.value, reading.quality) == (None, Quality.COMM_FAILED)
    assert wall_s() - started_s < 4 * TIMEOUT_S  # one time-out, not one per read
    adversary.mode = "ok"
    assert {p: r.value for p, r in (await rig.settle()).items()} == RIGHT
    assert adversary.connections > before


@pytest.mark.scenario(27)
async def test_read_late_replies_for_a_long_time_never_the_answer_to_another_request(rig, adversary):
    await rig.settle()
    for _ in range(10):
        adversary.mode = "late"
        adversary.registers[100] = 666
        await rig.read()
        adversary.mode = "ok"
        adversary.registers[100] = 11
        for _ in range(5):
            values = {p: r.value for p, r in (await rig.read()).items() if r.value is not None}
            assert values in ({}, RIGHT)
            await wall_sleep(0.02)
    assert {p: r.value for p, r in (await rig.settle()).items()} == RIGHT


@pytest.mark.parametrize(
    ("mode", "quality"), [("busy", Quality.DEVICE_BAD), ("gateway", Quality.COMM_FAILED)]
)
async def test_read_exception_reply_bad_quality_and_connection_kept(rig, adversary, mode, quality):
    await rig.settle()
    adversary.mode, before = mode, adversary.connections
    assert {(r.value, r.quality) for r in (await rig.read()).values()} == {(None, quality)}
    adversary.mode = "ok"
    assert {p: r.value for p, r in (await rig.read()).items()} == RIGHT
    assert adversary.connections == before


BAD_WRITES = [
    "wrong transaction id", "transaction id 0", "wrong unit id", "wrong echo", "echo of another address",
    "garbage", "drip", "late", "silent", "hang_up",
]  # fmt: skip


@pytest.mark.scenario(26)
@pytest.mark.parametrize("mode", BAD_WRITES)
async def test_write_without_a_right_answer_unknown_once_sent_then_read_back_first(rig, adversary, mode):
    """It may have been carried out: it is not sent again, and nothing else before a read told the truth."""
    await rig.settle()
    adversary.mode, adversary.requests = mode, []
    assert await rig.write(55.0) is WriteOutcome.UNKNOWN
    assert adversary.requests == [(6, 103)]
    assert await rig.write(56.0) is WriteOutcome.NOT_SENT
    adversary.mode = "ok"
    readings = await rig.settle()
    carried_out = 44.0 if mode == "hang_up" else 55.0
    assert readings["dev.set"].value == carried_out
    assert [function for function, _ in adversary.requests][:2] == [6, 3]
    assert await rig.write(57.0) is WriteOutcome.CONFIRMED
    assert [function for function, _ in adversary.requests].count(6) == 2


async def test_write_exception_reply_rejected_and_connection_kept(rig, adversary):
    await rig.settle()
    adversary.mode, before = "busy", adversary.connections
    assert await rig.write(55.0) is WriteOutcome.REJECTED
    assert adversary.connections == before


async def test_write_that_a_gateway_may_have_passed_on_is_unknown_until_the_device_is_read(rig, adversary):
    await rig.settle()
    adversary.mode, before = "gateway", adversary.connections
    assert await rig.write(55.0) is WriteOutcome.UNKNOWN
    assert await rig.write(56.0) is WriteOutcome.NOT_SENT
    adversary.mode = "ok"
    assert await rig.write(56.0) is WriteOutcome.NOT_SENT
    await rig.settle()
    assert await rig.write(56.0) is WriteOutcome.CONFIRMED
    assert adversary.connections == before


async def test_write_two_commands_first_unanswered_second_not_sent(rig, adversary):
    await rig.settle()
    adversary.mode, adversary.requests = "silent", []
    results = await rig.io.write([command("dev.set", 55.0, 1), command("dev.set", 56.0, 2)])
    assert [r.outcome for r in results] == [WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT]
    assert len(adversary.requests) == 1


async def test_read_device_refuses_unmapped_registers_read_without_holes_from_then_on(adversary):
    """Merging two points over a gap saves a request; some devices answer it with an exception."""
    adversary.registers[107] = 55
    rig = Rig(adversary, (*ROWS, map_row("far", 107)))
    for _ in range(2):
        assert {p: r.value for p, r in (await rig.read()).items()} == RIGHT | {"dev.far": 55.0}
    assert adversary.requests == [(3, 100), (3, 100), (3, 107), (3, 100), (3, 107)]
    assert adversary.connections == 1
    await rig.io.close()


async def test_read_all_bug_in_a_driver_is_that_device_down_and_it_comes_back(rig, monkeypatch):
    """It is told as a bug; the edge goes on with what the other devices say."""
    good = await rig.settle()

    async def bug(self: ModbusLink) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as broken:
        broken.setattr(ModbusLink, "read", bug)
        readings = await rig.read()
        assert {r.quality for r in readings.values()} == {Quality.COMM_FAILED}
        assert list(rig.io.driver_faults().values()) == ["ZeroDivisionError in the driver: a bug"]
    assert (await rig.settle()).keys() == good.keys()


async def test_close_while_a_request_hangs_ends_at_once(adversary):
    rig = Rig(adversary, timeout_s=5.0)
    await rig.settle()
    adversary.mode = "silent"
    rig.clock.advance(1.0)
    reading = asyncio.create_task(rig.io.read_all())
    await wall_sleep(0.05)
    started_s = wall_s()
    await rig.io.close()
    assert wall_s() - started_s < 1.0
    reading.cancel()
