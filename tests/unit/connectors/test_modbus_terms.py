"""What a Modbus device takes: said in the site file, or found out from what it refuses."""

import asyncio
import contextlib
import math
import struct
from collections.abc import Awaitable
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.link import Late, LinkError, PointValue
from connectors.modbus import registers
from connectors.modbus.pauses import pause_problems
from connectors.modbus.registers import RegisterLink
from connectors.modbus.requests import AGAIN_S, AT_ONCE_MAX, SILENT_S
from connectors.modbus.wire import Wire
from connectors.point_map import point_codecs
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.modbus import ModbusTerms
from ems.site import Connection, Protocol
from ems.telemetry import Quality
from tests.contract.plants import connection, point_map, site_of


def device(*addresses: int, terms: ModbusTerms | None = None) -> Connection:
    """A device of 16-bit values at these registers."""
    soc = point_map("dev", "soc", Protocol.MODBUS_TCP)
    points = (replace(soc, point=f"dev.r{a}", address=str(a), scale=1.0, high=65535.0) for a in addresses)
    return replace(connection("dev", Protocol.MODBUS_TCP, 1), points=tuple(points), modbus=terms)


class Memory(RegisterLink):
    """Each register holds its own address; some are not there, some reads are too long for it."""

    def __init__(self, told: Connection, *, missing: frozenset[int] = frozenset(), most: int = 125) -> None:
        super().__init__(told, list(point_codecs(told).values()))
        self.missing, self.most = missing, most
        self.asked: list[bytes] = []
        self.fails: LinkError | None = None
        self.gateway = False  # it answers for the device, which it does not reach

    connected = True

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def _exchange(self, body: bytes, until_s: float = math.inf, late: Late | None = None) -> bytes:
        body = body if late is None else late()
        self.asked.append(body)
        unit, function, address, count = struct.unpack_from(">BBHH", body)
        if self.fails is not None:
            raise self.fails
        if self.gateway:
            return struct.pack(">HHHBBB", 1, 0, 3, unit, function | 0x80, 11)
        if function in (6, 16):
            return struct.pack(">HHH", 1, 0, 6) + body[:6]
        code = 3 if count > self.most else 2 if self.missing & set(range(address, address + count)) else 0
        if code:
            return struct.pack(">HHHBBB", 1, 0, 3, unit, function | 0x80, code)
        words = struct.pack(f">{count}H", *range(address, address + count))
        return struct.pack(">HHHBBB", 1, 0, 3 + 2 * count, unit, function, 2 * count) + words

    async def polls(self, n: int) -> dict[str, PointValue]:
        for _ in range(n - 1):
            await self.read()
        self.asked.clear()
        return await self.read()

    def spans(self) -> list[tuple[int, int]]:
        return [struct.unpack_from(">HH", body, 2) for body in self.asked]


def good(told: dict[str, PointValue]) -> set[int]:
    held = {int(p.removeprefix("dev.r")): v for p, v in told.items() if v.quality is Quality.GOOD}
    assert all(v.value == a for a, v in held.items())
    return set(held)


async def test_reads_are_no_longer_than_the_device_takes():
    link = Memory(device(*range(40), terms=ModbusTerms(registers_max=16)), most=16)
    assert good(await link.polls(1)) == set(range(40))
    assert link.spans() == [(0, 16), (16, 16), (32, 8)]


async def test_registers_that_nobody_maps_are_left_alone_where_that_is_said():
    assert await Memory(device(0, 4)).polls(1)
    link = Memory(device(0, 4, terms=ModbusTerms(holes_max=0)), missing=frozenset({2}))
    assert good(await link.polls(1)) == {0, 4}


@pytest.mark.parametrize(("terms", "function"), [(None, 6), (ModbusTerms(write_with=16), 16)])
async def test_one_register_is_written_with_the_function_that_the_device_knows(terms, function):
    told = device(7, terms=terms)
    told = replace(told, points=(replace(told.points[0], writable=True),))
    link = Memory(told)
    (codec,) = point_codecs(told).values()
    (reply,) = await link.write([(codec, 5.0)], math.inf)
    assert reply.outcome is WriteOutcome.CONFIRMED
    assert link.asked[0][1] == function
    assert link.asked[0][-2:] == struct.pack(">H", 5)


async def test_register_that_is_not_there_costs_the_others_nothing():
    link = Memory(device(*range(60)), missing=frozenset({17}))
    assert good(await link.polls(1)) == set(range(60)) - {17}
    assert list(link.refused) == ["dev.r17"]
    again = len(link.asked)
    assert good(await link.polls(1)) == set(range(60)) - {17}
    assert len(link.asked) < again, "what was found out is kept"


async def test_reads_that_are_too_long_become_shorter_at_once():
    link = Memory(device(*range(100)), most=32)
    assert good(await link.polls(1)) == set(range(100))
    assert good(await link.polls(1)) == set(range(100))
    assert max(count for _, count in link.spans()) <= 32


async def test_holes_that_are_refused_are_left_out_whatever_else_is_missing():
    """Pairs of registers with one between them that is not there: forty requests, of which one fails."""
    pairs = [a for n in range(40) for a in (3 * n, 3 * n + 1)]
    holes = frozenset(3 * n + 2 for n in range(40))
    link = Memory(device(*pairs), missing=holes | {31})
    assert good(await link.polls(4)) == set(pairs) - {31}


async def test_device_that_refuses_everything_is_tried_once_a_minute(monkeypatch):
    now_s = wall_s()
    monkeypatch.setattr(registers, "wall_s", lambda: now_s)
    link = Memory(device(*range(120)), missing=frozenset(range(120)))
    await link.polls(1)
    assert len(link.asked) == 1 + 2 * AT_ONCE_MAX
    await link.polls(20)
    assert len(link.asked) == 1
    now_s += SILENT_S
    await link.polls(1)
    assert len(link.asked) == 1 + 2 * AT_ONCE_MAX
    await link.polls(1)
    assert len(link.asked) == 1


async def test_poll_that_is_not_answered_loses_nothing_of_what_was_found_out():
    link = Memory(device(*range(60)), missing=frozenset({17}))
    assert good(await link.polls(1)) == set(range(60)) - {17}
    for silent in (LinkError("no answer in time"), None):
        link.fails, link.gateway = silent, silent is None
        with pytest.raises(LinkError) if silent else contextlib.nullcontext():
            assert good(await link.polls(1)) == set()
        link.fails, link.gateway = None, False
        assert good(await link.polls(1)) == set(range(60)) - {17}
        assert len(link.asked) <= 7


async def test_pauses_leave_no_room_for_many_requests():
    terms = ModbusTerms(pause_s=0.1)
    link = Memory(device(*range(64), terms=terms), missing=frozenset({1, 20, 40, 60}))
    await link.polls(5)
    assert len(link.asked) <= 5, "half of a second in pauses of a tenth"


async def test_device_that_refused_while_it_started_is_asked_in_one_request_again(monkeypatch):
    now_s = wall_s()
    monkeypatch.setattr(registers, "wall_s", lambda: now_s)
    link = Memory(device(*range(100)), missing=frozenset(range(100)))
    await link.polls(6)
    link.missing = frozenset({3})
    now_s += SILENT_S
    assert good(await link.polls(1)) == set(range(100)) - {3}
    link.missing = frozenset()
    assert good(await link.polls(1)) == set(range(100))
    now_s += AGAIN_S
    assert good(await link.polls(1)) == set(range(100))
    assert len(link.asked) == 1


@given(
    missing=st.frozensets(st.integers(0, 79), max_size=4),
    most=st.integers(20, 125),
    addresses=st.frozensets(st.integers(0, 79), min_size=1),
)
async def test_whatever_is_refused_every_register_that_is_there_is_told_in_the_end(missing, most, addresses):
    link = Memory(device(*sorted(addresses)), missing=missing, most=most)
    there = addresses - missing
    assert good(await link.polls(12)) == there
    assert good(await link.polls(1)) == there, "and in every poll from then on"


class Transport:
    """Takes bytes, and answers each request with a register at once."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.sent_s: list[float] = []

    def write(self, data: bytes) -> None:
        self.sent_s.append(wall_s())
        self._wire.data_received(data[:4] + b"\x00\x05\x01\x03\x02\x00\x01")

    def abort(self) -> None: ...


async def test_next_request_waits_for_as_long_as_the_device_needs():
    wire = Wire(1.0, pause_s=0.05)
    transport = Transport(wire)
    wire._transport = cast(asyncio.Transport, transport)
    ask: list[Awaitable[bytes]] = [wire.exchange(b"\x01\x03\x00\x00\x00\x01") for _ in range(3)]
    for one in ask:
        await one
    gaps_s = [b - a for a, b in zip(transport.sent_s, transport.sent_s[1:], strict=False)]
    assert len(gaps_s) == 2
    assert min(gaps_s) >= 0.049


@pytest.mark.parametrize(
    ("protocol", "pause_s", "poll_s", "units", "allowed"),
    [
        (Protocol.MODBUS_TCP, 0.1, 1.0, 1, ""),
        (Protocol.MODBUS_TCP, 0.3, 1.0, 1, "0.25 s or less, half of the time of 2 requests a second"),
        (Protocol.MODBUS_TCP, 0.3, 2.0, 1, ""),
        (Protocol.MODBUS_RTU_TCP, 0.1, 1.0, 2, ""),
        (Protocol.MODBUS_RTU_TCP, 0.1, 1.0, 3, "0.0833 s or less, half of the time of 6 requests a second"),
    ],
)
def test_pauses_that_leave_no_time_for_writes_are_refused(protocol, pause_s, poll_s, units, allowed):
    one = replace(device(0, 100, terms=ModbusTerms(pause_s=pause_s)), protocol=protocol, poll_s=poll_s)
    made = [replace(one, id=f"link{n}", unit_id=n + 1) for n in range(units)]
    made[1:] = [replace(c, modbus=ModbusTerms()) for c in made[1:]]
    site = site_of(*made)
    problems = pause_problems(site)
    assert [allowed in p.allowed for p in problems] == ([True] if allowed else [])
    assert {p.key for p in problems} <= {"connections.link0.modbus.pause_s"}


def test_pauses_of_models_are_short():
    """A write of one setpoint is several requests, which a cycle has to hold."""
    one = replace(device(terms=ModbusTerms(pause_s=0.2)), protocol=Protocol.SUNSPEC)
    (told,) = pause_problems(site_of(one))
    assert "0.1 s or less with sunspec" in told.allowed
