"""When a device polls: before each tick, by as much as its polls take, never twice at once."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from connectors.device import DEVIATIONS, LEAD_RATIO_MAX, MARGIN_S, Device
from connectors.link import Latest, PointValue, WriteReply, as_decided
from connectors.point_map import PointCodec, point_codecs
from ems.clock import wall_sleep
from ems.site import Protocol
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.plants import connection


class StillClock:
    """Time that moves when told to; whoever sleeps is noted and woken by it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.asked_s: list[float] = []
        self._moved = asyncio.Condition()

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.now_s)

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep_until(self, monotonic_s: float) -> None:
        self.asked_s.append(monotonic_s)
        async with self._moved:
            await self._moved.wait_for(lambda: self.now_s >= monotonic_s)

    async def move(self, to_s: float) -> None:
        self.now_s = to_s
        async with self._moved:
            self._moved.notify_all()
        await wall_sleep(0.01)


class QuickLink:
    """Answers at once, or when it is let go; counts its polls."""

    def __init__(self) -> None:
        self.polls = self.waiting = self.most = 0
        self.go = asyncio.Event()
        self.go.set()

    @property
    def connected(self) -> bool:
        return True

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def identify(self) -> dict[str, str | None]:
        return {}

    async def read(self) -> dict[str, PointValue]:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.go.wait()
        self.waiting -= 1
        self.polls += 1
        return {"dev.soc": PointValue(0.5, Quality.GOOD, None)}

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        raise AssertionError("nobody writes")


class Bench:
    def __init__(self) -> None:
        self.clock, self.link = StillClock(), QuickLink()
        base = connection("dev", Protocol.MODBUS_TCP, 1)
        self.device = Device(
            base, point_codecs(base), self.link, clock=self.clock,
            on_event=lambda at, kind, fields: None, back_off_s_max=1.0,
        )  # fmt: skip
        self.task = asyncio.create_task(self.device.run())

    async def settle(self) -> None:
        await wall_sleep(0.01)
        assert self.link.polls == 1  # on connecting


async def test_poll_starts_before_its_tick_by_length_deviation_and_margin():
    bench = Bench()
    await bench.settle()
    bench.device._took_s, bench.device._spread_s = 0.2, 0.03
    lead_s = 0.2 + DEVIATIONS * 0.03 + MARGIN_S
    assert bench.device.lead_s == pytest.approx(lead_s)
    bench.device.expect_tick(1.0)
    await wall_sleep(0.01)
    assert bench.clock.asked_s == [pytest.approx(1.0 - lead_s)]
    await bench.clock.move(1.0 - lead_s - 0.01)
    assert bench.link.polls == 1
    await bench.clock.move(1.0 - lead_s + 1e-6)
    assert bench.link.polls == 2
    assert bench.device.readings()[0].arrived_s == pytest.approx(1.0 - lead_s, abs=1e-5)
    bench.device.end(bench.task)


async def test_lead_follows_polls_forgets_a_slow_one_and_is_bounded():
    bench = Bench()
    await bench.settle()
    bench.device._took_s = 0.0
    for _ in range(30):
        bench.device._learn(0.01)
    assert bench.device.lead_s == pytest.approx(0.01 + MARGIN_S, abs=1e-3)
    bench.device._learn(0.3)
    assert bench.device.lead_s > 0.2
    for _ in range(30):
        bench.device._learn(0.01)
    assert bench.device.lead_s < 0.03
    for _ in range(30):
        bench.device._learn(5.0)
    assert bench.device.lead_s == LEAD_RATIO_MAX * bench.device.connection.poll_s
    bench.device.end(bench.task)


async def test_ticks_faster_than_the_poll_interval_polled_at_the_interval():
    bench = Bench()
    await bench.settle()
    for k in range(1, 31):
        bench.device.expect_tick(0.1 * k)
        await bench.clock.move(0.1 * k)
    assert bench.link.polls - 1 in (3, 4)  # three seconds at one a second, the first tick included
    bench.device.end(bench.task)


async def test_device_that_does_not_answer_has_one_request_waiting_and_left_out_polls_counted():
    bench = Bench()
    await bench.settle()
    bench.link.go.clear()
    for k in range(1, 6):
        bench.device.expect_tick(float(k))
        await bench.clock.move(float(k))
    assert bench.link.most == 1
    assert bench.device.counters.late_polls >= 3
    bench.link.go.set()
    await bench.clock.move(6.0)
    assert bench.link.most == 1
    bench.device.end(bench.task)
