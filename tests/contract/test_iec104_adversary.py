"""A station that lies: whatever its bytes are, nothing crashes, and no value comes of what is not sound."""

import asyncio
import random
import struct
from typing import Any

import pytest

from connectors.iec104.asdu import Asdu, Type, asdu_of, single
from connectors.iec104.frames import Function, Numbered, Unnumbered, first_frame, packed
from connectors.iec104.monitored import OF_TYPE, told_by
from connectors.iec104.session import Session
from connectors.iec104.times import time_bytes
from connectors.link import LinkError
from ems.iec104 import Iec104
from tests.builders import T0

FRAMES, FRAMES_SOAK = 20_000, 1_000_000
SOUND = [
    single(Type.M_ME_NC, 20, 47, 11, struct.pack("<fB", 5.0, 0)),
    single(Type.M_ME_TF, 3, 47, 11, struct.pack("<fB", 5.0, 0) + time_bytes(T0)),
    single(Type.M_SP_TB, 3, 47, 12, b"\1" + time_bytes(T0)),
    single(Type.M_IT_NA, 37, 47, 13, bytes(5)),
    single(Type.M_EI_NA, 4, 47, 0, b"\0"),
    bytes((Type.M_ME_ND, 0x83, 20, 0, 47, 0, 11, 0, 0)) + bytes(6),
    single(Type.M_ME_NB, 20, 48, 11, bytes(3)),
]


class Wire(asyncio.Transport):
    """What the session sends is counted, so that a station can confirm it."""

    def __init__(self) -> None:
        super().__init__()
        self.numbered, self.open = 0, True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        rest = bytes(data)
        while rest:
            found = first_frame(rest)
            assert found is not None
            self.numbered += isinstance(found[0], Numbered)
            rest = rest[found[1] :]

    def abort(self) -> None:
        self.open = False


def spoilt(rng: random.Random, sent: int, received: int) -> tuple[bytes, bool]:
    """(bytes of a station, whether its own number moved)."""
    kind = rng.random()
    if kind > 0.99:
        return rng.randbytes(rng.randrange(1, 260)), False
    if kind > 0.98:
        return packed(Unnumbered(rng.choice(list(Function)))), False
    strange = bytes((rng.choice(list(OF_TYPE)),)) + rng.randbytes(30)
    asdu = bytearray(rng.choice(SOUND) if kind > 0.2 else strange)
    for _ in range(rng.choice((0, 1, 2))):
        asdu[rng.randrange(len(asdu))] = rng.randrange(256)
    if kind > 0.97:
        del asdu[rng.randrange(1, len(asdu)) :]
    return packed(Numbered(sent % 32768, received, bytes(asdu))), True


async def bombard(count: int, seed: int) -> None:
    rng = random.Random(seed)
    heard: list[Asdu] = []
    values = connections = 0

    def hear(asdu: Asdu) -> None:
        nonlocal values
        for one in told_by(asdu, T0.tzinfo):
            size = len(asdu.body) / asdu.count
            assert size == int(size) or asdu.sequence
            assert isinstance(one.raw, float)
            values += 1
        heard.append(asdu)
        del heard[:-10]

    wire, session, sent, asking = Wire(), None, 0, None
    for i in range(count):
        if session is None or session.broken:
            if asking is not None:
                with pytest.raises(LinkError):
                    await asking
            connections += 1
            wire, sent = Wire(), 0
            session = Session(Iec104(station=47), timeout_s=1e6, heard=hear)
            session.connection_made(wire)
            session._frames_s = float("inf")  # no second ever begins anew: it is counted from here
            session.data_received(packed(Unnumbered(Function.STARTDT_CON)))
            asking = asyncio.create_task(session.ask(Type.C_IC_NA, 20))
            await asyncio.sleep(0)
        session._frames = 0
        data, moved = spoilt(rng, sent, wire.numbered)
        sent += moved
        session.data_received(data)
        if asking is not None and asking.done():
            asking.exception()
            session.drop("asked")
            asking = None
        if i % 1000 == 0:
            await asyncio.sleep(0)
    assert session is not None
    session.drop("over")
    if asking is not None:
        with pytest.raises(LinkError):
            await asking
    assert count / 20 < connections < count / 2
    assert values > count / 10


async def test_frames_at_random_crash_nothing():
    await bombard(FRAMES, 104)


@pytest.mark.soak
async def test_a_million_frames_at_random_crash_nothing():
    await bombard(FRAMES_SOAK, 1040)


def test_objects_are_taken_only_where_every_byte_is_theirs():
    for raw in SOUND:
        for size in range(6, len(raw) + 3):
            asdu = asdu_of((raw + b"\0\0\0")[:size])
            if size == len(raw):
                list(told_by(asdu, None))
            elif asdu.type in OF_TYPE:
                with pytest.raises(Exception, match="bytes for"):
                    list(told_by(asdu, None))
