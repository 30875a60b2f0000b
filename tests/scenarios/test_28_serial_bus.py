"""28, on a serial line: damaged, dripping and late answers, those of another unit, a unit that is dead."""

from collections.abc import AsyncIterator

import pytest

from connectors.modbus.rtu import crc
from ems.commands import WriteOutcome
from ems.telemetry import Quality
from tests.contract.cable import Cable
from tests.contract.pace import BusUnit, Loop
from tests.contract.plants import command

pytestmark = pytest.mark.scenario(28)
DT_S, TIMEOUT_S = 0.5, 0.2
REGISTERS = {100: 11, 101: 22, 102: 33, 103: 44}
SEED = 563  # of the cable: the fourth and the thirteenth answer
UP_DOWN = ["device.link.up", "device.link.down"]


@pytest.fixture
async def cable() -> AsyncIterator[Cable]:
    cable = Cable()
    cable.units = {1: dict(REGISTERS), 2: dict(REGISTERS)}
    yield cable
    cable.close()


@pytest.fixture
async def loop(cable) -> AsyncIterator[Loop]:
    loop = Loop({"well": BusUnit(cable.port, 1), "ill": BusUnit(cable.port, 2)}, DT_S, TIMEOUT_S)
    await loop.until_good("ill")
    loop.seen.clear()
    yield loop
    await loop.io.close()


def told(loop: Loop, name: str) -> list[str]:
    return [kind for kind, device in loop.events if device == f"{name}_link"]


def reads(cable: Cable, unit: int) -> int:
    return sum(r[0] == unit and r[1] == 3 for r in cable.requests)


async def test_damaged_answers_are_never_values_and_raise_nothing(cable, loop):
    """One answer in ten: ten times the ratio of the scenario, so that some fall into these seconds."""
    cable.spoil_ratio = 0.1
    for k in range(9):
        await loop.ticks(1, [command("ill.set", float(100 + k), k)])
        for name in ("well", "ill"):
            values = {p: r.value for p, r in loop.seen[-1][1].items() if p.startswith(name) and r.is_good}
            assert {v for p, v in values.items() if not p.endswith(".set")} <= {11.0, 22.0, 33.0}
    assert cable.spoilt > 0
    assert (
        len(told(loop, "well")) + len(told(loop, "ill")) <= 6
    )  # two in a row are a loss; at 1 % 1 in 10,000
    sent = [r for r in cable.requests if r[0] == 2 and r[1] == 6]
    assert len(sent) == len(set(sent))  # a write is never repeated
    assert set(loop.outcomes["ill"]) <= {WriteOutcome.CONFIRMED, WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT}
    assert loop.outcomes["ill"].count(WriteOutcome.CONFIRMED) > 2


async def test_one_damaged_answer_in_a_hundred_is_no_loss(cable, loop):
    """The ratio of the scenario, with draws among which some fall into these seconds."""
    cable._random.seed(SEED)
    cable.spoil_ratio = 0.01
    while cable.spoilt < 2:
        await loop.ticks(1)
    await loop.ticks(2)
    values = {r.value for _, seen in loop.seen for p, r in seen.items() if not p.endswith(".set")}
    assert values == {11.0, 22.0, 33.0}
    assert told(loop, "well") == told(loop, "ill") == ["device.link.up"]


@pytest.mark.parametrize(
    ("mode", "quality", "outcomes"),
    [
        ("busy", Quality.DEVICE_BAD, {WriteOutcome.REJECTED}),
        # it may have passed the write on: nothing more is written before the device has been read
        ("gateway", Quality.COMM_FAILED, {WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT}),
    ],
)
async def test_busy_or_gateway_exception_bad_value_refused_write_and_bus_kept(
    cable, loop, mode, quality, outcomes
):
    cable.mode[2] = mode
    before = reads(cable, 2)
    await loop.ticks(4, [command("ill.set", 5.0)])
    assert reads(cable, 2) - before <= 5, "asked again in its next cycle, and not before"
    assert set(loop.qualities("ill")[3:]) == {quality}
    assert set(loop.outcomes["ill"]) == outcomes
    assert set(loop.qualities("well")) == {Quality.GOOD}
    assert told(loop, "ill") == ["device.link.up"]


@pytest.mark.parametrize("mode", ["silent", "drip", "another unit"])
async def test_unit_that_gives_no_answer_is_told_once_and_costs_the_other_little(cable, loop, mode):
    cable.mode[2], cable.drip_s = mode, 0.05
    before, polls = reads(cable, 2), loop.polls("well")
    await loop.ticks(6)
    lost = [q is Quality.COMM_FAILED for q in loop.qualities("ill")]
    assert all(lost[lost.index(True) :])
    assert told(loop, "ill") == UP_DOWN
    assert told(loop, "well") == ["device.link.up"]
    assert reads(cable, 2) - before <= 5  # a time-out and a silence each: asked ever more rarely
    assert loop.polls("well") - polls >= 2
    assert max(loop.ages_s("well")) < 2.0
    cable.mode[2] = "ok"
    await loop.until_good("ill")


async def test_late_answers_are_never_taken_for_the_next_one(cable, loop):
    """The device answers each read after the time-out; what it held is not what it holds."""
    cable.mode[2], cable.late_s = "late", 1.4 * TIMEOUT_S
    await loop.ticks(3)
    for k in range(2):
        cable.units[2][100] = 1000 + k
        await loop.ticks(2)
        assert not loop.last("ill").is_good
        assert loop.last("well").value == 11.0
    cable.mode[2] = "ok"
    await loop.until_good("ill")
    assert loop.last("ill").value == 1001.0


async def test_write_without_an_answer_is_unknown_and_read_back_before_the_next(cable, loop):
    await loop.ticks(1)
    cable.mode[2] = "no checksum on writes"
    await loop.ticks(1, [command("ill.set", 77.0, 1), command("ill.set", 78.0, 2)])
    assert loop.outcomes["ill"] == [WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT]
    cable.mode[2] = "ok"
    for _ in range(20):  # until the poll after the write is in; the one before it is still good
        await loop.ticks(1)
        if loop.seen[-1][1]["ill.set"].value == 77.0:
            break
    assert loop.seen[-1][1]["ill.set"].value == 77.0  # it was carried out all the same
    await loop.ticks(1, [command("ill.set", 79.0, 3)])
    assert loop.outcomes["ill"][-1] is WriteOutcome.CONFIRMED
    assert crc(cable.requests[0][:-2]) == cable.requests[0][-2:]
