"""27: the reply to request N-1 comes after its time-out, or after its caller left: never that to N."""

import asyncio
import random
import struct

import pytest

from connectors.link import LinkError
from connectors.modbus.wire import Wire
from tests.contract.mute import MuteTransport

pytestmark = pytest.mark.scenario(
    27, left="a hundred thousand trials run in `make soak` alone; a thousand here"
)
OLD, NEW = 666, 11


def reading(address: int) -> bytes:
    return struct.pack(">BBHH", 1, 3, address, 1)


def answer(sent: bytes, value: int) -> bytes:
    return sent[:4] + struct.pack(">HBBBH", 5, sent[6], 3, 2, value)


async def late(rng: random.Random, trials: int) -> int:
    """Trials in which a value was taken; raises where it was that of the request before."""
    wire, values = Wire(60.0), 0
    for _ in range(trials):
        wire = Wire(60.0, wire.transaction)
        wire.connection_made(MuteTransport())
        address = rng.randrange(4)
        first = asyncio.ensure_future(wire.exchange(reading(address)))
        waiting = asyncio.ensure_future(wire.exchange(reading(address))) if rng.random() < 0.5 else None
        await asyncio.sleep(0)
        old = wire._sent
        if rng.random() < 0.5:
            first.cancel()
        else:
            wire.drop("no answer in time")
        await asyncio.gather(first, return_exceptions=True)
        stale = answer(old, OLD)
        wire.data_received(stale[: rng.randint(1, len(stale))])  # the old socket's last bytes
        if waiting is not None:  # it stood in line behind the first: it must not be sent on this connection
            with pytest.raises(LinkError):
                await waiting
        fresh = Wire(60.0, wire.transaction)
        fresh.connection_made(MuteTransport())
        second = asyncio.ensure_future(fresh.exchange(reading(address)))
        await asyncio.sleep(0)
        if rng.random() < 0.5:  # a gateway answers late, on whichever connection there is
            fresh.data_received(stale)
        if fresh.connected:
            fresh.data_received(answer(fresh._sent, NEW))
        try:
            got = await second
        except LinkError:
            pass
        else:
            assert struct.unpack(">H", got[9:])[0] == NEW
            values += 1
        wire = fresh
    return values


async def test_late_reply_never_matched_to_the_next_request():
    assert 200 < await late(random.Random(27), 1_000) < 800


@pytest.mark.soak
async def test_late_reply_never_matched_to_the_next_request_many_times():
    assert await late(random.Random(2700), 100_000) > 30_000
