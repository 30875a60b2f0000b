"""28: bytes that drip, a device that is busy, a gateway without its device, another unit's answer."""

from collections.abc import AsyncIterator

import pytest

from ems.commands import WriteOutcome
from ems.telemetry import Quality
from tests.contract.adversary import Adversary
from tests.contract.pace import Loop
from tests.contract.plants import command

pytestmark = pytest.mark.scenario(28)
DT_S, DEADLINE_S = 0.25, 1.0
BACK_OFF_S = 0.4


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
    loop = Loop(devices, DT_S, DEADLINE_S, back_off_s_max=BACK_OFF_S)
    await loop.ticks(3)
    loop.seen.clear()
    yield loop
    await loop.io.close()


async def test_one_byte_in_a_quarter_second_ends_at_the_deadline_of_the_whole_request(loop, devices):
    """A deadline that every byte moves on would let this answer of 17 bytes take four seconds."""
    ill = devices["ill"]
    ill.mode, ill.drip_s, ill.connections = "drip", 0.25, 0
    polls = loop.polls("well")
    await loop.ticks(16)
    lost = [q is Quality.COMM_FAILED for q in loop.qualities("ill")]
    assert lost.index(True) <= DEADLINE_S / DT_S + 2  # cycles
    assert all(lost[lost.index(True) :])
    assert ill.connections <= 4  # a deadline and a pause each, not one in every cycle
    assert [k for k, d in loop.events if d == "ill_link"] == ["device.link.up", "device.link.down"]
    assert loop.polls("well") - polls >= 0.9 * 16


@pytest.mark.parametrize(
    ("mode", "quality", "outcomes"),
    [
        ("busy", Quality.DEVICE_BAD, {WriteOutcome.REJECTED}),
        # it may have passed the write on: nothing more is written before the device has been read
        ("gateway", Quality.COMM_FAILED, {WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT}),
    ],
)
async def test_busy_or_gateway_exception_bad_value_refused_write_and_connection_kept(
    loop, devices, mode, quality, outcomes
):
    ill = devices["ill"]
    ill.mode, ill.requests, before = mode, [], ill.connections
    await loop.ticks(6, [command("ill.set", 5.0)])
    assert set(loop.qualities("ill")[3:]) == {quality}
    assert set(loop.outcomes["ill"]) == outcomes
    sent = len([r for r in ill.requests if r[0] == 6])
    assert sent == (6 if mode == "busy" else 1)  # each command once, none repeated
    assert len([r for r in ill.requests if r[0] == 3]) <= 7, "asked again in its next cycle, and not before"
    assert [k for k, d in loop.events if d == "ill_link"] == ["device.link.up"]
    assert ill.connections == before
    ill.mode = "ok"
    await loop.until_good("ill")


async def test_another_units_answer_never_taken_and_told_once(loop, devices):
    ill = devices["ill"]
    ill.mode = "wrong unit id"
    await loop.ticks(8)
    assert Quality.GOOD not in loop.qualities("ill")[2:]
    assert [k for k, d in loop.events if d == "ill_link"] == ["device.link.up", "device.link.down"]
    ill.mode = "ok"
    await loop.until_good("ill")
