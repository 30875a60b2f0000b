"""26: replies that are almost right, and frames that are anything: none is taken for an answer.

The eleven mutations run over a socket in tests/e2e/test_modbus_bad_devices.py; here any number of frames
comes in through the transport's own door, split where the network likes.
"""

import asyncio
import random
import struct
from collections import Counter

import pytest

from connectors.link import LinkError
from connectors.modbus.wire import Wire
from tests.contract.mute import MuteTransport

pytestmark = pytest.mark.scenario(26)
REGISTERS = 4
READ = struct.pack(">BBHH", 1, 3, 100, REGISTERS)
WRITE = struct.pack(">BBHH", 1, 6, 103, 55)
WRITE_SEVERAL = struct.pack(">BBHHB2H", 1, 16, 102, 2, 4, 55, 66)


def rightly_shaped(sent: bytes, frame: bytes) -> bool:
    """What may be taken for the answer to `sent`, spelt out anew: header, then one of three bodies."""
    head, unit, function = sent[:2] + b"\0\0", sent[6:7], sent[7]
    exception = head + b"\0\3" + unit + bytes([function | 0x80])
    if frame[:8] == exception and len(frame) == 9:
        return True
    if function == 6:
        return frame == sent
    if function == 16:
        return frame == head + b"\0\6" + sent[6:12]
    body = bytes([function, 2 * REGISTERS])
    return frame[:9] == head + struct.pack(">H", 3 + 2 * REGISTERS) + unit + body and len(frame) == 17


def right_answer(rng: random.Random, sent: bytes) -> bytes:
    """What a device says to it."""
    match sent[7]:
        case 6:
            return sent
        case 16:
            return sent[:4] + b"\0\6" + sent[6:12]
        case _:
            reply = struct.pack(">BB", 3, 2 * REGISTERS) + rng.randbytes(2 * REGISTERS)
            return sent[:4] + struct.pack(">HB", len(reply) + 1, 1) + reply


def spoilt(rng: random.Random, right: bytes) -> bytes:
    """A frame that came out of a right one, or of nothing."""
    frame = bytearray(right)
    for _ in range(rng.randint(1, 3)):
        match rng.randrange(6):
            case 0:
                frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            case 1:
                frame[rng.randrange(min(9, len(frame)))] = rng.randrange(256)
            case 2:
                del frame[max(1, rng.randrange(len(frame))) :]
            case 3:
                frame += rng.randbytes(rng.randint(1, 20))
            case 4:
                at = rng.randrange(len(frame))
                frame[at:at] = rng.randbytes(rng.randint(1, 3))
            case _:
                return rng.randbytes(rng.randint(1, 300))
    return bytes(frame)


async def through_the_door(rng: random.Random, count: int) -> tuple[Counter[int], int]:
    """Frames taken by function, and how many were not; raises where one was taken that must not be."""
    taken: Counter[int] = Counter()
    wire = Wire(60.0)
    for _ in range(count):
        if not wire.connected:
            wire = Wire(60.0, wire.transaction)
            wire.connection_made(MuteTransport())
        (body,) = rng.choices((READ, WRITE, WRITE_SEVERAL), (0.6, 0.2, 0.2))
        asking = asyncio.ensure_future(wire.exchange(body))
        await asyncio.sleep(0)
        sent = wire._sent
        frame = spoilt(rng, right_answer(rng, sent))
        cut = rng.randrange(1, len(frame) + 1)
        for part in (frame[:cut], frame[cut:]):
            if part:
                wire.data_received(part)
        await asyncio.sleep(0)
        if not asking.done():  # it could still become the answer: its deadline ends it
            wire.drop("no answer in time")
        try:
            got = await asking
        except LinkError:
            assert not wire.connected
            continue
        assert rightly_shaped(sent, got), (sent.hex(), got.hex())
        assert frame.startswith(got)
        taken[sent[7]] += 1
    return taken, count - taken.total()


@pytest.mark.scenario(26, left="a million random frames run in `make soak` alone; ten thousand here")
async def test_random_frames_only_rightly_shaped_ones_taken():
    taken, refused = await through_the_door(random.Random(26), 10_000)
    assert min(taken[f] for f in (3, 6, 16)) >= 5
    assert (
        taken[3] > 100
    )  # flipped bits in the values of registers: Modbus TCP carries no check sum of its own
    assert refused > 7_000


@pytest.mark.soak
async def test_random_frames_a_million_only_rightly_shaped_ones_taken():
    taken, refused = await through_the_door(random.Random(2600), 1_000_000)
    assert taken.total() + refused == 1_000_000
