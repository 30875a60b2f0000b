"""The grid of cycles: each slot at most once, nothing made up for, lateness told and alarmed."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.pacing import Pace, share
from ems.telemetry import Reading
from tests.builders import T0
from tests.unit.dispatch.test_runtime import Bench

DT_S = 1.0


def test_begin_on_time_nothing_counted():
    pace = Pace(due_s=10.0)
    for k in range(5):
        now_s = 10.0 + k
        assert pace.begin(now_s, DT_S) is False
        assert pace.end(now_s, now_s + 0.2, DT_S) == now_s + 1.0
    assert (pace.overruns, pace.missed, max(pace.late_s)) == (0, 0, 0.0)


def test_begin_late_wake_up_next_is_due_on_the_grid():
    """Starting the next cycle a second after the last start let every late wake-up move the grid for good."""
    pace = Pace(due_s=0.0)
    pace.begin(0.015, DT_S)
    assert pace.end(0.015, 0.1, DT_S) == 1.0
    assert pace.late_s[-1] == pytest.approx(0.015)


def test_end_cycle_longer_than_its_slot_next_starts_late_in_its_own_slot():
    pace = Pace(due_s=0.0)
    pace.begin(0.0, DT_S)
    assert pace.end(0.0, 1.3, DT_S) == 1.0
    assert pace.begin(1.3, DT_S) is True
    assert pace.end(1.3, 1.4, DT_S) == 2.0
    assert pace.begin(2.0, DT_S) is False
    assert (pace.overruns, pace.missed) == (1, 0)


def test_begin_machine_asleep_whole_slots_skipped_and_counted():
    pace = Pace(due_s=0.0)
    pace.begin(0.0, DT_S)
    pace.end(0.0, 0.1, DT_S)
    assert pace.begin(31.4, DT_S) is True
    assert pace.missed == 30
    assert pace.end(31.4, 31.5, DT_S) == 32.0


@given(st.lists(st.floats(0.0, 7.0), min_size=1, max_size=40), st.sampled_from([0.1, 1.0, 2.5]))
def test_pace_whatever_cycles_take_never_two_in_one_slot(lengths_s, dt_s):
    pace, now_s, slots = Pace(due_s=5.0), 5.0, []
    for took_s in lengths_s:
        began_s = now_s
        pace.begin(began_s, dt_s)
        slots.append(round((pace.due_s - 5.0) / dt_s))
        assert -1e-6 <= began_s - pace.due_s < dt_s + 1e-6
        now_s = max(began_s + took_s, pace.end(began_s, began_s + took_s, dt_s))
    assert len(set(slots)) == len(slots)
    assert slots == sorted(slots)
    assert pace.missed == slots[-1] + 1 - len(slots)


def test_share_of_few_values():
    pace = Pace(due_s=0.0)
    assert share(pace.late_s, 0.99) == 0.0
    pace.late_s.extend(float(i) for i in range(200))
    assert (share(pace.late_s, 0.5), share(pace.late_s, 0.99), share(pace.late_s, 1.0)) == (
        100.0,
        198.0,
        199.0,
    )


class Slow(Bench):
    """Devices that hold the third read for so long that plant time has gone on meanwhile."""

    def __init__(self, hold_s: float) -> None:
        super().__init__()
        self.reads, self.hold_s = 0, hold_s
        self.told_s: list[float] = []
        self.plain = self.io.read_all
        self.io.read_all = self.read_slowly  # type: ignore[method-assign]
        self.edge._expecting = self.told_s.append

    async def read_slowly(self) -> Sequence[Reading]:
        self.reads += 1
        if self.reads == 3:
            self.clock.advance(self.hold_s)
        return await self.plain()


async def test_run_cycle_overruns_skipped_counted_and_alarmed():
    bench = Slow(3.4)
    seen: list[tuple[datetime, tuple[str, ...]]] = []
    await bench.edge.run(
        lambda last: DT_S,
        lambda: bench.clock.monotonic_s() >= 70.0,
        lambda d, dt_s: seen.append((d.at, tuple(a.code for a in d.alarms))),
    )
    at_s = [(at - T0).total_seconds() for at, _ in seen]
    assert at_s[:6] == [0.0, 1.0, 5.4, 5.4, 6.0, 7.0]
    assert (bench.edge.pace.overruns, bench.edge.pace.missed) == (1, 2)
    told = [s for s, (_, codes) in zip(at_s, seen, strict=True) if "edge.cycle.overrun" in codes]
    assert told == [5.4]
    raised = [f for k, f in bench.recorder.events if k == "alarm.raised" and "overrun" in str(f)]
    assert len(raised) == 1


async def test_run_tells_the_next_tick_and_at_the_end_that_there_is_none():
    bench = Slow(0.0)
    await bench.edge.run(lambda last: DT_S, lambda: bench.clock.monotonic_s() >= 3.0)
    assert bench.told_s == [1.0, 2.0, 3.0, float("inf")]
    await asyncio.sleep(0)
