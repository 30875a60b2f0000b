"""Devices that poll by themselves just before each tick: a dead or slow one costs the others nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from connectors.device import Device
from connectors.modbus.client import ModbusLink
from ems.clock import wall_s, wall_sleep
from ems.commands import Command, WriteOutcome
from ems.telemetry import Quality
from tests.contract.adversary import Adversary
from tests.contract.pace import Loop
from tests.contract.plants import command

DT_S = 0.15
TIMEOUT_S = 5.0  # nobody may ever wait that long
NAMES = ("well", "ill")


@pytest.fixture
async def devices() -> AsyncIterator[tuple[Adversary, Adversary]]:
    pair = (Adversary(), Adversary())
    for device in pair:
        await device.start()
    yield pair
    for device in pair:
        await device.stop()


@pytest.fixture
async def loop(devices) -> AsyncIterator[Loop]:
    loop = Loop(dict(zip(NAMES, devices, strict=True)), DT_S, TIMEOUT_S)
    await loop.ticks(4)
    assert all(r.is_good for r in loop.seen[-1][1].values())
    loop.seen.clear()
    yield loop
    await loop.io.close()


def set_both(value: float) -> list[Command]:
    return [command(f"{name}.set", value, seq) for seq, name in enumerate(NAMES, 1)]


async def test_device_silent_others_read_and_written_in_every_cycle(loop, devices):
    """Cycles used to last as long as the time-out of the device that had just died."""
    devices[1].mode = "silent"
    began_s = wall_s()
    await loop.ticks(10, set_both(5.0))
    assert wall_s() - began_s < TIMEOUT_S  # ten cycles in less than one time-out
    assert loop.outcomes["well"] == [WriteOutcome.CONFIRMED] * 10
    assert max(loop.ages_s("well")) < 6 * DT_S
    # the silent one was asked once, and everything else that was meant for it was left out
    assert set(loop.outcomes["ill"]) == {WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT}
    assert loop.io.links()["ill_link"]["late_polls"] > 0
    ages_s = loop.ages_s("ill")
    assert ages_s[2:] == sorted(ages_s[2:])  # no value of it was taken for new


async def test_device_slow_read_as_often_as_it_answers_with_one_request_waiting(loop, devices):
    ill = devices[1]
    ill.mode, ill.delay_s, ill.requests = "slow", 2.5 * DT_S, []
    await loop.ticks(16)
    assert 3 <= len(ill.requests) <= 7
    assert min(loop.ages_s("ill")[8:]) < 6 * DT_S  # it is heard all the same
    assert max(loop.ages_s("well")) < 6 * DT_S
    assert loop.io.links()["ill_link"]["failures"] == 0


async def test_write_slow_device_back_before_the_next_tick_and_stale_values_never_sent_later(loop, devices):
    """What was decided in an old cycle must not reach a device behind the cycle that replaced it."""
    ill = devices[1]
    ill.mode, ill.delay_s, ill.requests = "slow", 2.5 * DT_S, []
    commands = [command("ill.set", value, seq) for seq, value in enumerate((1.0, 2.0, 3.0), 1)]
    loop.io.expect_tick(loop.clock.monotonic_s() + DT_S)
    results = await loop.io.write(commands)
    assert {r.outcome for r in results} == {WriteOutcome.UNKNOWN}
    (busy,) = await loop.io.write([command("ill.set", 9.0)])
    assert busy.outcome is WriteOutcome.NOT_SENT
    await wall_sleep(4 * ill.delay_s)
    assert [r for r in ill.requests if r[0] == 6] in ([(6, 103)], [])
    assert ill.registers[103] in (1, 44)
    loop.due_s = loop.clock.monotonic_s()
    ill.mode = "ok"
    await loop.ticks(3, [command("ill.set", 7.0)])
    assert loop.outcomes["ill"][-1] is WriteOutcome.CONFIRMED
    assert ill.registers[103] == 7


async def test_write_at_the_end_has_all_the_time_it_needs(loop, devices):
    """The safe table is written when there is no next tick."""
    ill = devices[1]
    ill.mode, ill.delay_s = "slow", 2.0 * DT_S
    loop.io.expect_tick(float("inf"))
    results = await loop.io.write([command("ill.set", value, seq) for seq, value in enumerate((1.0, 2.0), 1)])
    assert [r.outcome for r in results] == [WriteOutcome.CONFIRMED] * 2
    assert ill.registers[103] == 2


async def test_write_at_the_end_waits_for_a_write_left_behind_and_is_then_sent(loop, devices):
    """The safe table must reach a device that still owes the answer to a write of the last cycle."""
    await wall_sleep(2.0 * DT_S)
    ill = devices[1]
    ill.mode, ill.delay_s = "slow", 2.0 * DT_S
    loop.io.expect_tick(loop.clock.monotonic_s() + DT_S)
    (late,) = await loop.io.write([command("ill.set", 1.0)])
    assert late.outcome is WriteOutcome.UNKNOWN
    loop.io.expect_tick(float("inf"))
    (safe,) = await loop.io.write([command("ill.set", 2.0)])
    assert safe.outcome is WriteOutcome.CONFIRMED
    assert ill.registers[103] == 2


async def test_close_lets_a_write_on_the_wire_have_its_answer(devices):
    loop = Loop(dict(zip(NAMES, devices, strict=True)), DT_S, TIMEOUT_S)
    await loop.ticks(4)
    await wall_sleep(2.0 * DT_S)  # no poll is on its way that the write would have to wait for
    ill = devices[1]
    ill.mode, ill.delay_s = "slow", 2.5 * DT_S
    loop.io.expect_tick(loop.clock.monotonic_s() + DT_S)
    await loop.io.write([command("ill.set", 33.0)])
    await loop.io.close()
    assert ill.registers[103] == 33
    assert loop.io.links()["ill_link"]["unknown_writes"] == 0


async def test_read_all_first_call_waits_so_that_a_start_is_no_failure(devices):
    loop = Loop(dict(zip(NAMES, devices, strict=True)), DT_S, TIMEOUT_S)
    assert all(r.is_good for r in await loop.io.read_all())
    await loop.io.close()


async def test_device_dies_and_returns_bad_at_once_then_read_again(loop, devices):
    ill = devices[1]
    ill.mode = "hang_up"
    await loop.ticks(6)
    assert loop.seen[-1][1]["ill.a"].quality is Quality.COMM_FAILED
    assert max(loop.ages_s("well")) < 6 * DT_S
    ill.mode = "ok"
    for _ in range(40):
        await loop.ticks(1)
        if loop.seen[-1][1]["ill.a"].is_good:
            break
    assert loop.seen[-1][1]["ill.a"].is_good
    await asyncio.sleep(0)


async def test_write_bug_in_a_write_left_behind_raises_in_the_next_call(loop, devices, monkeypatch):
    """A broken invariant must stop the edge also where nobody waits for the write any more."""

    async def bug(*_: object) -> None:
        await wall_sleep(2.0 * DT_S)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Device, "write", bug)
    loop.io.expect_tick(loop.clock.monotonic_s() + DT_S)
    await loop.io.write([command("ill.set", 1.0)])
    await wall_sleep(4.0 * DT_S)
    with pytest.raises(ZeroDivisionError):
        await loop.io.read_all()


async def test_write_left_behind_whose_driver_raises_is_that_device_down(loop, devices, monkeypatch):
    async def bug(*_: object) -> None:
        await wall_sleep(2.0 * DT_S)
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as broken:
        broken.setattr(ModbusLink, "write", bug)
        loop.io.expect_tick(loop.clock.monotonic_s() + DT_S)
        (late,) = await loop.io.write([command("ill.set", 1.0)])
        await wall_sleep(4.0 * DT_S)
    assert late.outcome is WriteOutcome.UNKNOWN
    assert loop.io.driver_faults() == {"ill_link": "ZeroDivisionError in the driver: a bug"}
    await loop.until_good("ill")
    assert loop.last("well").is_good
    await loop.ticks(1, [command("ill.set", 7.0)])
    assert loop.outcomes["ill"][-1] is WriteOutcome.CONFIRMED
