"""25: a Modbus TCP device is lost in each way a network knows; the others do not notice."""

import gc
from collections.abc import AsyncIterator

import pytest

from ems.clock import wall_sleep
from ems.telemetry import Quality
from tests.contract.adversary import Adversary
from tests.contract.pace import Loop, open_files

pytestmark = pytest.mark.scenario(25)
DT_S, TIMEOUT_S = 0.2, 0.35  # a loss is known in three cycles
TICKS = 10


@pytest.fixture
async def devices() -> AsyncIterator[dict[str, Adversary]]:
    named = {name: Adversary() for name in ("well", "ill")}
    for device in named.values():
        await device.start()
    yield named
    for device in named.values():
        await device.stop()


@pytest.fixture
async def loop(devices) -> AsyncIterator[Loop]:
    loop = Loop(devices, DT_S, TIMEOUT_S, back_off_s_max=0.2)
    await loop.ticks(4)
    loop.seen.clear()
    yield loop
    await loop.io.close()


async def inflict(ill: Adversary, how: str) -> None:
    match how:
        case "cable pulled":  # what is open falls silent, what is new gets no answer
            ill.mode = "silent"
            await ill.swallow_connects()
        case "black hole":  # what is open is reset, what is new gets no answer
            await ill.swallow_connects()
            ill.reset_all()
        case _:
            ill.mode = how


@pytest.mark.parametrize("how", ["cable pulled", "black hole", "reset", "hang_up", "silent"])
async def test_device_lost_known_in_three_cycles_others_read_in_each_and_no_socket_leaks(loop, devices, how):
    before = open_files()
    await inflict(devices["ill"], how)
    polls = loop.polls("well")
    await loop.ticks(TICKS)
    assert loop.polls("well") - polls >= 0.9 * TICKS
    lost = [q is Quality.COMM_FAILED for q in loop.qualities("ill")]
    assert True in lost
    assert lost.index(True) <= 3
    assert all(lost[lost.index(True) :])
    if devices["ill"]._plugs:
        await devices["ill"].plug_in()
    devices["ill"].mode = "ok"
    await loop.until_good("ill")
    assert [e for e in loop.events if e[1] == "ill_link"] == [
        (f"device.link.{x}", "ill_link") for x in ("up", "down", "up")
    ]
    await wall_sleep(0.05)
    gc.collect()
    assert open_files() <= before


@pytest.mark.parametrize(("ratio", "answered"), [(0.7, True), (1.3, False)])
async def test_latency_around_the_time_out_taken_below_it_and_lost_above(loop, devices, ratio, answered):
    """0.9 and 1.1 of the time-out, with room for a busy machine on both sides."""
    devices["ill"].mode, devices["ill"].delay_s = "slow", ratio * TIMEOUT_S
    polls = loop.polls("well")
    await loop.ticks(2 * TICKS)
    later = loop.qualities("ill")[4:]
    assert all(q is Quality.GOOD for q in later) if answered else Quality.GOOD not in later
    assert loop.polls("well") - polls >= 0.9 * 2 * TICKS
