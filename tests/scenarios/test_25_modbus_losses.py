"""25: a Modbus TCP device is lost in each way a network knows; the others do not notice.

Both ends are in one event loop whose clock jumps over the waiting: a busy machine changes no time.
"""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from ems.clock import wall_sleep
from ems.telemetry import Quality
from tests.contract.adversary import Adversary
from tests.contract.pace import Loop, open_files
from tests.contract.spoilt import LoopClock, run

pytestmark = pytest.mark.scenario(25)
DT_S, TIMEOUT_S = 20.0, 35.0  # a loss is known in three cycles
TICKS = 10
SPACING = 0.1  # of a cycle
SETTLE_S = 0.02  # of the machine: what is on the wire comes before any clock is put forward


@pytest.fixture(autouse=True)
def of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of requests go by the clock of the loop, too."""
    for module in ("modbus.wire", "device"):
        monkeypatch.setattr(f"connectors.{module}.wall_s", LoopClock().monotonic_s)


@asynccontextmanager
async def polled() -> AsyncIterator[tuple[Loop, Adversary, Adversary]]:
    """An edge's pace with a device that stays well and one that falls ill."""
    well, ill = Adversary(), Adversary()
    for device in (well, ill):
        await device.start()
    loop = Loop({"well": well, "ill": ill}, DT_S, TIMEOUT_S, back_off_s_max=20.0, clock=LoopClock())
    await loop.ticks(4)
    loop.seen.clear()
    well.asked_s.clear()
    yield loop, well, ill
    await loop.io.close()
    for device in (well, ill):
        await device.stop()


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


def asked_in_each_cycle(device: Adversary, cycles: int) -> bool:
    """Whether it was polled a cycle apart each time, within a tenth. A poll is due right before its tick."""
    apart_s = [b - a for a, b in pairwise(device.asked_s)]
    return abs(len(device.asked_s) - cycles) <= 1 and all(abs(s - DT_S) <= SPACING * DT_S for s in apart_s)


@pytest.mark.parametrize("how", ["cable pulled", "black hole", "reset", "hang_up", "silent"])
def test_device_lost_known_in_three_cycles_others_read_in_each_and_no_socket_leaks(how: str):
    async def lose() -> None:
        async with polled() as (loop, well, ill):
            before = open_files()
            await inflict(ill, how)
            await loop.ticks(TICKS)
            assert asked_in_each_cycle(well, TICKS), well.asked_s
            assert set(loop.qualities("well")) == {Quality.GOOD}
            lost = [q is Quality.COMM_FAILED for q in loop.qualities("ill")]
            assert True in lost
            assert lost.index(True) <= 3
            assert all(lost[lost.index(True) :])
            if ill._plugs:
                await ill.plug_in()
            ill.mode = "ok"
            await loop.until_good("ill")
            assert [e for e in loop.events if e[1] == "ill_link"] == [
                (f"device.link.{x}", "ill_link") for x in ("up", "down", "up")
            ]
            await wall_sleep(0.05)
            gc.collect()
            assert open_files() <= before

    run(lose(), SETTLE_S)


@pytest.mark.parametrize(("ratio", "answered"), [(0.9, True), (1.1, False)])
def test_latency_around_the_time_out_taken_below_it_and_lost_above(ratio: float, answered: bool):
    async def dawdle() -> None:
        async with polled() as (loop, well, ill):
            ill.mode, ill.delay_s = "slow", ratio * TIMEOUT_S
            await loop.ticks(2 * TICKS)
            later = loop.qualities("ill")[4:]
            assert all(q is Quality.GOOD for q in later) if answered else Quality.GOOD not in later
            assert asked_in_each_cycle(well, 2 * TICKS), well.asked_s

    run(dawdle(), SETTLE_S)
