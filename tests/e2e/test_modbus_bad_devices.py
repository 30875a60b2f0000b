"""A Modbus device that answers wrongly, late, in drips or not at all: no wrong value is ever taken.

The cases are those that a widely used client library accepts or mishandles when it is trusted alone.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from connectors.field import FieldIO
from connectors.modbus.client import ModbusLink
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.site import PointMap
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.plants import command, connection, free_port, site_of

from ems.site import Protocol as Wire  # isort: skip
import dataclasses  # isort: skip

TIMEOUT_S = 0.25
Send = Callable[[bytes], Awaitable[None]]


def frame(tid: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


class Adversary:
    """A hand-written Modbus server with registers 100 to 103 that can be told to misbehave."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mode = "ok"
        self.registers = {100: 11, 101: 22, 102: 33, 103: 44}
        self.requests: list[tuple[int, int]] = []
        self.connections = 0
        self._late: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._late:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            while True:
                tid, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                self.requests.append((pdu[0], int.from_bytes(pdu[1:3], "big")))
                if self.mode == "hang_up":
                    break
                try:
                    await self._answer(send, tid, unit, pdu)
                except KeyError:  # no such register
                    await send(frame(tid, unit, bytes([pdu[0] | 0x80, 2])))
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _right(self, pdu: bytes) -> bytes:
        """The right answer; a write is carried out."""
        function, address, count = pdu[0], *struct.unpack(">HH", pdu[1:5])
        if function in (3, 4):
            return struct.pack(
                f">BB{count}H", function, 2 * count, *(self.registers[address + i] for i in range(count))
            )
        if function == 6:
            self.registers[address] = count
            return pdu
        for i in range(count):
            self.registers[address + i] = int.from_bytes(pdu[6 + 2 * i : 8 + 2 * i], "big")
        return pdu[:5]

    async def _answer(self, send: Send, tid: int, unit: int, pdu: bytes) -> None:
        right, function = self._right(pdu), pdu[0]
        wrong7 = struct.pack(">4H", 7, 7, 7, 7)
        match self.mode:
            case "ok":
                await send(frame(tid, unit, right))
            case "wrong transaction id":
                await send(frame(tid ^ 0x55, unit, right))
            case "transaction id 0":
                await send(frame(0, unit, right))
            case "wrong protocol id":
                await send(struct.pack(">HHHB", tid, 1, len(right) + 1, unit) + right)
            case "wrong unit id":
                await send(frame(tid, unit + 3, right))
            case "too few registers":
                await send(frame(tid, unit, bytes([function, 4]) + wrong7[:4]))
            case "too many registers":
                await send(frame(tid, unit, bytes([function, 18]) + wrong7 + wrong7 + b"\0\7"))
            case "wrong function code":
                await send(frame(tid, unit, bytes([4, 8]) + wrong7))
            case "wrong byte count":
                await send(frame(tid, unit, bytes([function, 200]) + wrong7))
            case "odd byte count":
                await send(frame(tid, unit, bytes([function, 7]) + wrong7[:7]))
            case "byte count shorter than the data":
                await send(frame(tid, unit, bytes([function, 8]) + wrong7 + b"\0\7"))
            case "garbage":
                await send(b"\xff" * 300)
            case "a second answer behind the first":
                await send(frame(tid, unit, right) + frame(tid + 1, unit, bytes([function, 8]) + wrong7))
            case "drip":
                for byte in frame(tid, unit, right):
                    await send(bytes([byte]))
                    await wall_sleep(0.05)
            case "late":
                task = asyncio.create_task(self._send_later(send, frame(tid, unit, right)))
                self._late.add(task)
            case "busy":
                await send(frame(tid, unit, bytes([function | 0x80, 6])))
            case "gateway":
                await send(frame(tid, unit, bytes([function | 0x80, 11])))
            case "wrong echo":
                await send(frame(tid, unit, pdu[:3] + struct.pack(">H", 0x7777)))
            case "echo of another address":
                await send(frame(tid, unit, pdu[:1] + struct.pack(">H", 999) + pdu[3:5]))
            case "silent":
                pass

    async def _send_later(self, send: Send, data: bytes) -> None:
        await wall_sleep(1.5 * TIMEOUT_S)
        await send(data)


def map_row(name: str, address: int, writable: bool = False) -> PointMap:
    return PointMap(
        point=f"dev.{name}",
        address=str(address),
        table="holding",
        data_type="u16",
        byte_order="big",
        word_order="big",
        scale=1.0,
        offset=0.0,
        sign=1,
        unit="kW",
        low=0.0,
        high=60000.0,
        age_s_max=3.0,
        writable=writable,
    )


ROWS = (map_row("a", 100), map_row("b", 101), map_row("c", 102), map_row("set", 103, writable=True))
RIGHT = {"dev.a": 11.0, "dev.b": 22.0, "dev.c": 33.0, "dev.set": 44.0}


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


@pytest.mark.parametrize("mode", ["busy", "gateway"])
async def test_write_exception_reply_rejected_and_connection_kept(rig, adversary, mode):
    await rig.settle()
    adversary.mode, before = mode, adversary.connections
    assert await rig.write(55.0) is WriteOutcome.REJECTED
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
    assert {r.quality for r in (await rig.read()).values()} == {Quality.DEVICE_BAD}
    assert {p: r.value for p, r in (await rig.read()).items()} == RIGHT | {"dev.far": 55.0}
    assert adversary.requests == [(3, 100), (3, 100), (3, 107)]
    assert adversary.connections == 1
    await rig.io.close()


async def test_read_all_bug_in_a_device_task_raises(rig, monkeypatch):
    """A broken invariant must stop the edge, not look like a silent device."""
    await rig.settle()

    async def bug(self: ModbusLink) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(ModbusLink, "read", bug)
    with pytest.raises(ZeroDivisionError):
        await rig.read()


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
