"""What the devices cost a cycle: time, jitter and latency, against a bare asyncio client in the same run.

    python -m benchmarks.device_cycle [back] [paced] [planner] [dead] [opcua]     all of them if none is named
                                      [--devices 10 50 200] [--cycles 0.1 1.0] [--seconds 20]

Each Modbus device has 24 values in two reads of 57 registers and gets a write in every cycle; they are served
by a process of their own, which writes down when requests arrive and replies leave. The bare client asks the
same of the same devices over plain sockets, and checks, decodes and decides nothing. Ours is the production
edge: devices phased before the tick, the whole decision, a heartbeat to each device.

back     cycles one after the other: wall and CPU time of polling and writing, without the decision
paced    at a cycle time: lateness of the decision, latency from a device's last reply byte to its first write
         byte, work from the tick to the last acknowledged write
planner  the same beside a planner that never stops solving
dead     the same with one device in ten accepting and silent
opcua    1,000 nodes on four servers, read and one written in every cycle, against asyncua by itself
"""

import argparse
import asyncio
import contextlib
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import structlog

from benchmarks import bare_modbus, bare_opcua, device_plant
from cli import memory
from cli.priorities import PLANNER_NICE
from connectors.field import FieldIO
from dispatch.controllers.rules import Rules
from dispatch.runtime import EdgeRuntime
from ems.clock import SystemClock, VirtualClock
from ems.site import Site
from tests.builders import T0
from tests.contract.plants import command
from tests.unit.dispatch.test_runtime import FakeRecorder, NoPlans

SECTIONS = ("back", "paced", "planner", "dead", "opcua")
TIMEOUT_S, WARM_UP = 0.25, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """Lateness of each decision, latency of each device's write, misses; all of one run."""

    late_s: np.ndarray
    latency_s: np.ndarray
    took_s: np.ndarray
    cpu_ratio: float
    writes_ratio: float  # of the healthy devices' cycles that ended with a write


def spread(seconds: Sequence[float] | np.ndarray) -> str:
    """p50, p99 and max [ms]."""
    p50, p99 = np.percentile(seconds, [50, 99])
    return f"{1e3 * p50:7.2f} {1e3 * p99:7.2f} {1e3 * np.max(seconds):7.2f}"


def load() -> str:
    """How busy this machine is with whatever else runs on it."""
    return " ".join(f"{x:.1f}" for x in os.getloadavg())


async def clocked(count: int, cycle: Callable[[], Awaitable[object]]) -> tuple[np.ndarray, float]:
    """Wall time of each cycle [s], and CPU of this process per cycle [s]."""
    for _ in range(WARM_UP):
        await cycle()
    took, began_cpu = [], time.process_time()
    for _ in range(count):
        began = time.perf_counter()
        await cycle()
        took.append(time.perf_counter() - began)
    return np.asarray(took), (time.process_time() - began_cpu) / count


async def back(count: int, cycles: int = 150, rounds: int = 3) -> None:
    """Back to back, in turns, best round of each."""
    with device_plant.devices(count) as plant:
        site = device_plant.plant(plant.ports, 1.0, 2.0)
        plant.fill(site)
        polls, beats = device_plant.polls(site), [(6, device_plant.BEAT, 1)] * count
        ours: list[tuple[np.ndarray, float]] = []
        bare: list[tuple[np.ndarray, float]] = []
        for _ in range(rounds):
            clients = await bare_modbus.connect(plant.ports)
            bare.append(await clocked(cycles, lambda: bare_modbus.cycle(clients, polls, beats)))  # noqa: B023
            for c in clients:
                c.transport.abort()
            clock = VirtualClock(T0)
            io = FieldIO(site, clock=clock)
            commands = [command(f"m{i}.heartbeat", 1.0) for i in range(count)]

            async def cycle() -> None:
                clock.advance(1.0)  # noqa: B023
                readings = await io.read_all()  # noqa: B023
                assert all(r.is_good for r in readings)
                results = await io.write(commands)  # noqa: B023
                assert all(r.outcome.value == "confirmed" for r in results)

            ours.append(await clocked(cycles, cycle))
            await io.close()
    b, o = min(bare, key=lambda x: x[1]), min(ours, key=lambda x: x[1])
    wall, cpu = np.median(o[0]) / np.median(b[0]), o[1] / b[1]
    print(f"{count:4d} devices  bare {spread(b[0])}  cpu {1e3 * b[1]:6.2f}   "
          f"ours {spread(o[0])}  cpu {1e3 * o[1]:6.2f} ms   ratio p50 {wall:.2f}, cpu {cpu:.2f}")  # fmt: skip


async def paced_bare(plant: device_plant.Devices, site: Site, cycle_s: float, seconds: float) -> Paced:
    """The bare client at a cycle time: poll all, then write all, when the cycle is due."""
    polls, beats = device_plant.polls(site), [(6, device_plant.BEAT, 1)] * len(site.connections)
    clients = await bare_modbus.connect(plant.ports)
    due_s, late, took = time.monotonic() + cycle_s, [], []
    end_s, began_cpu = due_s + seconds, time.process_time()
    while due_s < end_s:
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        began_s = time.monotonic()
        late.append(began_s - due_s)
        await bare_modbus.cycle(clients, polls, beats)
        took.append(time.monotonic() - began_s)
        due_s += cycle_s
    cpu_ratio = (time.process_time() - began_cpu) / seconds
    for c in clients:
        c.transport.abort()
    return _of(plant.dump(), late, took, cpu_ratio, len(clients))


async def paced_ours(
    plant: device_plant.Devices, site: Site, cycle_s: float, seconds: float, dead: int
) -> Paced:
    """The production edge at a cycle time."""
    clock = SystemClock()
    io = FieldIO(site, clock=clock, phased=True)
    edge = EdgeRuntime(
        site,
        clock=clock,
        device_io=io,
        plans=NoPlans(),
        recorder=FakeRecorder([]),
        controller=Rules(),
        shadow=False,
        epoch=1,
        expecting=io.expect_tick,
    )
    end_s, began_cpu = clock.monotonic_s() + seconds, time.process_time()
    await edge.run(lambda last: cycle_s, lambda: clock.monotonic_s() >= end_s)
    cpu_ratio = (time.process_time() - began_cpu) / seconds
    await io.close()
    healthy = len(site.connections) - dead
    return _of(plant.dump(), list(edge.pace.late_s), list(edge.pace.took_s), cpu_ratio, healthy)


def _of(
    cycles: list[list[tuple[float, float, float]]],
    late: list[float],
    took: list[float],
    cpu_ratio: float,
    healthy: int,
) -> Paced:
    rows = [[w - r for _, r, w in device[WARM_UP:]] for device in cycles[:healthy]]
    return Paced(
        late_s=np.asarray(late[WARM_UP:]),
        latency_s=np.asarray([x for row in rows for x in row]),
        took_s=np.asarray(took[WARM_UP:]),
        cpu_ratio=cpu_ratio,
        writes_ratio=min(len(row) for row in rows) / max(1, len(late) - WARM_UP),
    )


async def paced(count: int, cycle_s: float, seconds: float, dead: int = 0) -> None:
    """Both at a cycle time, one after the other; with dead devices ours alone: bare would wait for ever."""
    with device_plant.devices(count, dead) as plant:
        site = device_plant.plant(plant.ports, cycle_s, TIMEOUT_S)
        plant.fill(site)
        runs = [("ours", await paced_ours(plant, site, cycle_s, seconds, dead))]
        if dead == 0:
            runs.insert(0, ("bare", await paced_bare(plant, site, cycle_s, seconds)))
    for name, p in runs:
        print(f"{count:4d} devices at {cycle_s:g} s, {dead} dead  {name}  late {spread(p.late_s)}  "
              f"latency {spread(p.latency_s)}  work {spread(p.took_s)} ms  cpu {100 * p.cpu_ratio:3.0f} %  "
              f"written {100 * p.writes_ratio:5.1f} %", flush=True)  # fmt: skip


@contextlib.contextmanager
def planner() -> Iterator[None]:
    """A planner that never stops solving, at the priority of the planner process."""
    solving = [sys.executable, "-m", "benchmarks.planner_speed", "--plans", "1000000"]
    process = subprocess.Popen(
        ["nice", "-n", str(PLANNER_NICE), *solving],
        stdout=subprocess.DEVNULL,
        cwd=device_plant.ROOT,
    )
    try:
        time.sleep(5.0)  # its imports and its first model
        yield
    finally:
        process.kill()
        process.wait()


async def opcua(cycles: int = 60) -> None:
    """A thousand nodes, back to back: ours against asyncua by itself."""
    with bare_opcua.servers(4, 250) as (connections, nodes):
        site = device_plant.only(connections)
        bare, cpu_bare = await bare_opcua.measure(connections, cycles, clocked)
        clock = VirtualClock(T0)
        io = FieldIO(site, clock=clock)

        async def cycle() -> None:
            clock.advance(1.0)
            readings = await io.read_all()
            assert sum(r.is_good for r in readings) == nodes
            results = await io.write([command(c.points[0].point, 1.0) for c in connections])
            assert all(r.outcome.value == "confirmed" for r in results)

        ours, cpu_ours = await clocked(cycles, cycle)
        await io.close()
    ratio = f"{np.median(ours) / np.median(bare):.2f}, cpu {cpu_ours / cpu_bare:.2f}"
    print(f"{nodes} nodes  bare {spread(bare)}  cpu {1e3 * cpu_bare:6.2f}   ours {spread(ours)}  "
          f"cpu {1e3 * cpu_ours:6.2f} ms   ratio p50 {ratio}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--devices", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--cycles", type=float, nargs="+", default=[1.0, 0.1])
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    chosen = given.sections if given.sections else SECTIONS
    memory.settle()  # as the edge process does
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, "
          f"asyncua {version('asyncua')}; load {load()}; p50, p99, max in ms")  # fmt: skip
    if "back" in chosen:
        print("-- back to back: two reads and a write to each device, without a decision")
        for n in given.devices:
            asyncio.run(back(n))
    for name in ("paced", "planner", "dead"):
        if name not in chosen:
            continue
        print(f"-- {name}; load {load()}")
        with planner() if name == "planner" else contextlib.nullcontext():
            for cycle_s in given.cycles:
                for n in given.devices:
                    seconds = max(given.seconds, 40 * cycle_s)
                    asyncio.run(paced(n, cycle_s, seconds, n // 10 if name == "dead" else 0))
    if "opcua" in chosen:
        print("-- OPC UA, back to back")
        asyncio.run(opcua())
    print(f"load at the end {load()}")


if __name__ == "__main__":
    main()
