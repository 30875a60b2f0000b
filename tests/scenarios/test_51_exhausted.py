"""51: the processor is wanted by many, memory and descriptors are at their end, logs come in a storm."""

import asyncio
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import structlog

from cli.edge_people import People
from cli.logs import BURST, LINES_PER_S, Lines, RateCap
from cli.process_config import ProcessConfig
from connectors.historian.rows import RowWriter
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.stores.plans import PlanReader, SqlitePlanStore
from dispatch.pacing import share
from ems.site import Site
from sim.rig import Rig
from sim.rig_io import RigClock
from sim.rig_scenario import MONDAY, Power
from tests.scenarios.recording import recording, until

pytestmark = pytest.mark.scenario(
    51, left="the jitter of a cycle on a processor wanted by many is measured in `make soak` alone"
)
LOAD: Mapping[str, Power] = {
    "critical": 60.0,
    "essential": lambda t: 80.0 + 60.0 * (int(t / 7.0) % 2),
    "deferrable": 40.0,
}
BURNERS, CYCLE_S, CYCLES = 8, 0.1, 25
LATE_S_MAX, JUDGED_CYCLES = 0.1, 100  # of the 1 s cycle, at p99


def commands(rig: Rig) -> list[tuple[float, str, float]]:
    return [(row.t_s, c.point, c.value) for row in rig.rows() for c in row.commands]


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """So many may still be opened by this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(p.name) for p in Path("/proc/self/fd").iterdir()) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, highest), hard))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left", [0, 1])
def test_without_descriptors_the_edge_decides_as_ever(demo: Site, tmp_path: Path, left: int):
    """Desks, orders, plan store and historian are asked each cycle, and none of them can open a file."""
    plain = Rig(demo, load_kw=LOAD, pv_kw=100.0).run(30.0)
    rig, recorder = recording(Rig(demo, load_kw=LOAD, pv_kw=100.0), tmp_path)
    config = ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path)
    store, reader = SqlitePlanStore(config.plans), PlanReader(config.plans)
    people = People(config, rig.clock, lambda kind, fields: None, demo.control, ran_before=False)
    rig.runtime._keep = people.keep
    rig.runtime._planner_alive = reader.producer_alive

    def cycle(r: Rig) -> None:
        people.hear(r.runtime)
        reader.current()

    for t_s in range(30):
        rig.at(float(t_s), cycle)
    rig.run(10.0)
    with ExitStack() as stack:
        stack.enter_context(descriptors_left(left))
        rig.run(20.0)
    rig.run(30.0)
    assert rig.broken is None
    assert commands(rig) == commands(plain)
    assert recorder.close()
    reader.close()
    store.close()


def test_without_memory_the_recorder_goes_on_and_loses_nothing(
    demo: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its thread ended with the first batch for which there was no memory, and wrote no more."""
    monkeypatch.setattr("connectors.historian.sqlite.RETRY_S", 0.05)
    real, short = RowWriter.write, [True]

    def write(self: RowWriter, batch) -> None:
        if short[0]:
            raise MemoryError
        real(self, batch)

    monkeypatch.setattr(RowWriter, "write", write)
    rig, recorder = recording(Rig(demo, load_kw=LOAD, pv_kw=100.0), tmp_path)
    rig.run(10.0)
    until(lambda: recorder.trouble)
    rig.run(30.0)
    assert rig.last.alarmed("records.unwritten")
    short[0] = False
    assert recorder.close()
    reader = SqliteHistoryReader(tmp_path / "history.sqlite")
    found = reader.commands(MONDAY, MONDAY.replace(hour=12), None, 10_000)
    reader.close()
    assert len([c for c in found if c.refused_code is None]) == len(commands(rig))


def test_storm_of_log_lines_is_capped_and_counted(tmp_path: Path):
    """Ten thousand a second for ten seconds: a burst, then twenty a second; what is left out is counted."""
    now_s = [0.0]
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    cap = RateCap(lambda: now_s[0])
    log = structlog.wrap_logger(Lines(file), processors=[cap, structlog.processors.KeyValueRenderer()])
    for n in range(100_000):
        now_s[0] = n / 10_000.0
        log.error("device.silent", n=n)
    now_s[0] += 60.0
    log.error("calm again")
    os.close(file)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) <= BURST + 10.0 * LINES_PER_S + 2
    assert len(lines) >= 10.0 * LINES_PER_S
    left_out = sum(int(line.split("left_out=")[1].split()[0]) for line in lines if "left_out=" in line)
    assert left_out + len(lines) == 100_001


class Real(RigClock):
    """The machine's own time, from when the run began."""

    def monotonic_s(self) -> float:
        return time.monotonic() - BEGAN_S[0]

    async def sleep_until(self, monotonic_s: float) -> None:
        await asyncio.sleep(max(0.0, monotonic_s - self.monotonic_s()))


BEGAN_S = [0.0]


@contextmanager
def wanted_by_many() -> Iterator[None]:
    """Four processes for each of two cores, and a thread of ours that logs without end."""
    burn = [sys.executable, "-c", "import os\nos.nice(5)\nwhile True: pass"]
    burners = [subprocess.Popen(burn) for _ in range(BURNERS)]
    over = threading.Event()
    null = os.open("/dev/null", os.O_WRONLY)
    log = structlog.wrap_logger(Lines(null), processors=[RateCap(), structlog.processors.KeyValueRenderer()])

    def storm() -> None:
        while not over.wait(0.001):
            for n in range(10):
                log.error("storm", n=n)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.close(null)
        for burner in burners:
            burner.kill()
            burner.wait()


def test_processor_wanted_by_many_every_slot_is_a_cycle_or_counted(demo: Site, tmp_path: Path):
    """In real time: nothing locks up, no cycle is made up for, the heartbeat counts the cycles that were."""
    rig, recorder = recording(Rig(demo, load_kw=LOAD, pv_kw=100.0), tmp_path)
    rig.clock.__class__ = Real
    dues: list[tuple[float, int]] = []  # when each cycle was due, slots missed by then
    pace = rig.runtime.pace

    def period(_: object) -> float:
        rig.world.advance(max(rig.world.now_s, rig.clock.monotonic_s()))
        return CYCLE_S

    def told(_: object, dt_s: float) -> None:
        dues.append((pace.due_s, pace.missed))

    with wanted_by_many():
        BEGAN_S[0] = time.monotonic()
        asyncio.run(rig.runtime.run(period, lambda: len(dues) >= CYCLES, told))
    assert pace.cycles == CYCLES == len(dues)
    for (due_s, missed), (next_s, missed_then) in pairwise(dues):
        assert next_s - due_s == pytest.approx((1 + missed_then - missed) * CYCLE_S, abs=1e-6)
    assert rig.runtime.state.held_safe, "stopped in order, by the safe table"
    beats = [r.command.value for r in rig.io.results if "heartbeat" in r.command.point]
    assert beats
    assert beats == sorted(beats)
    assert recorder.close()


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_processor_wanted_by_many_jitter_is_below_a_tenth_of_a_second(demo: Site, tmp_path: Path):
    """The cycle of 1 s, beside others that are as nice as the planner: p99 of what it begins late.

    On a machine that others use as well it says something about them: not part of the quick tests.
    """
    rig, recorder = recording(Rig(demo, load_kw=LOAD, pv_kw=100.0), tmp_path)
    rig.clock.__class__ = Real
    pace = rig.runtime.pace

    def period(_: object) -> float:
        rig.world.advance(max(rig.world.now_s, rig.clock.monotonic_s()))
        return 1.0

    with wanted_by_many():
        BEGAN_S[0] = time.monotonic()
        asyncio.run(rig.runtime.run(period, lambda: pace.cycles >= JUDGED_CYCLES))
    late_s = share(pace.late_s, 0.99)
    print(f"p99 of lateness {1e3 * late_s:.1f} ms, {pace.missed} of {JUDGED_CYCLES} slots missed")
    assert (late_s <= LATE_S_MAX, pace.missed) == (True, 0)
    assert recorder.close()
