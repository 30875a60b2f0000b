"""How old a reading is counts from when its device was asked, not from when a long poll was over."""

import asyncio
import math
import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest

from connectors.device import Device
from connectors.link import Late, Latest, LinkError, PointValue, WriteReply, as_decided
from connectors.modbus.registers import RegisterLink
from connectors.point_map import PointCodec, point_codecs
from dispatch.observing.process_image import ProcessImage
from ems.clock import wall_sleep
from ems.site import Protocol
from ems.telemetry import Quality
from tests.contract.plants import connection, point_map
from tests.unit.connectors.test_device_pace import StillClock

POLL_S = 0.05  # wall time that a read takes here
POINTS = ("dev.soc", "dev.p_kw")


class SlowLink:
    """Takes a while for each read, during which the edge's clock may move; then tells what it is given."""

    def __init__(self, clock: StillClock) -> None:
        self._clock = clock
        self.moves_s = 0.0  # of the edge's clock, by a read
        self.ages_s: list[float | None] = [None]
        self.lost = ""
        self.polls = 0

    @property
    def connected(self) -> bool:
        return True

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def identify(self) -> dict[str, str | None]:
        return {}

    async def read(self) -> dict[str, PointValue]:
        await wall_sleep(POLL_S)
        await self._clock.move(self._clock.now_s + self.moves_s)
        if self.lost:
            raise LinkError(self.lost)
        self.polls += 1
        return {p: PointValue(0.5, Quality.GOOD, None, a) for p, a in zip(POINTS, self.ages_s, strict=False)}

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        raise AssertionError("nobody writes")


class Bench:
    def __init__(self) -> None:
        self.clock = StillClock()
        self.link = SlowLink(self.clock)
        base = connection("dev", Protocol.MODBUS_TCP, 1)
        self.device = Device(
            base, point_codecs(base), self.link, clock=self.clock,
            on_event=lambda at, kind, fields: None, back_off_s_max=0.05,
        )  # fmt: skip

    async def poll(self, at_s: float, *ages_s: float | None, moves_s: float) -> list[float]:
        """When each value arrived, of a device that connects at `at_s` and is polled once [s]."""
        self.clock.now_s, self.link.moves_s, self.link.ages_s = at_s, moves_s, list(ages_s)
        task, before = asyncio.create_task(self.device.run()), self.link.polls
        try:
            async with asyncio.timeout(5.0):
                while self.link.polls == before:
                    await wall_sleep(0.005)
                await wall_sleep(0.005)
        finally:
            self.device.end(task)
            await asyncio.wait([task])
        return [r.arrived_s for r in self.device.readings()]


async def test_value_of_a_long_poll_is_as_old_as_its_question():
    assert await Bench().poll(100.0, None, moves_s=3.6) == [100.0]


async def test_value_that_was_asked_for_late_in_a_poll_is_that_much_younger():
    arrived = await Bench().poll(100.0, 0.5 * POLL_S, 0.0, moves_s=POLL_S)
    assert arrived == pytest.approx([100.0 + 0.5 * POLL_S, 100.0 + POLL_S])


async def test_value_that_was_told_before_the_poll_is_as_old_as_it_says():
    assert await Bench().poll(100.0, 7.0, moves_s=1.0) == pytest.approx([94.0])


async def test_on_a_clock_that_waits_for_the_poll_nothing_ages_meanwhile():
    assert await Bench().poll(100.0, None, 0.5 * POLL_S, moves_s=0.0) == [100.0, 100.0]


async def test_source_time_goes_with_it_where_the_device_tells_none():
    bench = Bench()
    await bench.poll(100.0, None, moves_s=3.6)
    (told,) = bench.device.readings()
    assert (bench.clock.now() - told.source_time).total_seconds() == pytest.approx(3.6)


async def test_first_poll_after_an_outage_is_believed_at_once():
    """It was asked before the last cycle that saw the device as lost: what counts is when it was lost."""
    bench, image = Bench(), ProcessImage({}, {})
    await bench.poll(100.0, None, moves_s=1.0)
    bench.clock.now_s, bench.link.moves_s, bench.link.lost = 105.0, 0.0, "no answer in time"
    task = asyncio.create_task(bench.device.run())
    async with asyncio.timeout(5.0):
        while not bench.device.reason:
            await wall_sleep(0.005)
    bench.device.end(task)
    await asyncio.wait([task])
    bench.link.lost, bench.clock.now_s = "", 109.0
    lost = bench.device.readings()
    assert {(r.quality, r.arrived_s) for r in lost} == {(Quality.COMM_FAILED, 105.0)}
    image.update(lost)
    await bench.poll(106.0, None, moves_s=4.0)
    image.update(bench.device.readings())
    told = image.latch(bench.clock.now(), 110.0).readings["dev.soc"]
    assert (told.quality, told.arrived_s) == (Quality.GOOD, 106.0)


class Queue(RegisterLink):
    """A wire that many share: it is a while until the first request goes out, and until each is answered."""

    WAITS_S, ANSWERS_S = 0.2, 0.1

    connected = True

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def _exchange(self, body: bytes, until_s: float = math.inf, late: Late | None = None) -> bytes:
        await wall_sleep(self.WAITS_S)
        sent = body if late is None else late()
        await wall_sleep(self.ANSWERS_S)
        _, function, _, count = struct.unpack(">BBHH", sent)
        return struct.pack(">HHHBBB", 1, 0, 3 + 2 * count, sent[0], function, 2 * count) + bytes(2 * count)


async def test_registers_age_from_when_each_request_went_on_the_wire():
    near = connection("dev", Protocol.MODBUS_TCP, 1)
    soc, power = point_map("dev", "soc", Protocol.MODBUS_TCP), point_map("dev", "p_kw", Protocol.MODBUS_TCP)
    far = replace(near, points=(soc, replace(power, address="5000")))
    told = await Queue(far, list(point_codecs(far).values())).read()
    assert told["dev.soc"].age_s == pytest.approx(2 * Queue.ANSWERS_S + Queue.WAITS_S, abs=0.08)
    assert told["dev.p_kw"].age_s == pytest.approx(Queue.ANSWERS_S, abs=0.08)
