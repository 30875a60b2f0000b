"""Shadow mode over compressed days on real sockets: every request to every device counted, no write seen.

Start, an outage that nobody announced, devices that trip and fall silent, and Ctrl-C in the middle of it.
"""

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from cli.day import choose_ports
from cli.process_config import Pace, ProcessConfig, write_config
from connectors.field import FieldIO
from connectors.historian.sqlite import SqliteHistoryReader
from dispatch.controllers.rules import Rules
from dispatch.runtime import EdgeRuntime
from ems.clock import VirtualClock, wall_sleep
from ems.site import Protocol
from sim.clock import TimeKeeper
from sim.scenario import FaultEvent, FaultKind, Scenario, save_scenario
from tests.builders import T0
from tests.contract.plants import command, connection, free_port, site_of
from tests.e2e.days import SITE_FILE, around_outage, demo_day
from tests.e2e.ua_wire import READ, UaProxy
from tests.e2e.wire import ModbusProxy
from tests.unit.dispatch.test_runtime import FakeRecorder, NoPlans

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
Proxy = ModbusProxy | UaProxy


@dataclass(slots=True, kw_only=True)
class Counted:
    """What was seen on the wire of each device, and what the edge left behind."""

    modbus: dict[str, ModbusProxy]
    ua: dict[str, UaProxy]
    reader: SqliteHistoryReader
    edge_code: int
    edge_text: str

    @property
    def writes(self) -> dict[str, int]:
        seen = {i: p.writes for i, p in self.modbus.items()} | {i: p.writes for i, p in self.ua.items()}
        return {i: n for i, n in seen.items() if n}


def with_faults(scenario: Scenario) -> Scenario:
    """A battery that trips, a genset that does not start, devices that fall silent, spread over the run."""
    s = scenario.duration_s
    rows = (
        (FaultKind.DEVICE_SILENT, "pv1", 0.10, 0.15),
        (FaultKind.DEVICE_SILENT, scenario.site.grid.id, 0.25, 0.28),
        (FaultKind.GENSET_START_FAILS, "gen1", 0.40, 0.70),
        (FaultKind.BESS_TRIPS, "bess1", 0.60, 0.65),
        (FaultKind.DEVICE_SILENT, "bess1", 0.75, 0.80),
    )
    faults = tuple(
        FaultEvent(kind=kind, asset=asset, start=scenario.at(lo * s), end=scenario.at(hi * s))
        for kind, asset, lo, hi in rows
    )
    return replace(scenario, faults=faults)


async def live(scenario: Scenario, directory: Path, *, shadow: bool, ctrl_c_at: float) -> Counted:
    """Plant and edge in lock-step, a counting proxy before every device; Ctrl-C at a share of the run."""
    site = scenario.site
    processes: list[asyncio.subprocess.Process] = []
    told: list[float] = []

    def ctrl_c(now_s: float) -> None:
        if now_s >= ctrl_c_at * scenario.duration_s and not told:
            told.append(now_s)
            processes[1].send_signal(signal.SIGINT)

    keeper = TimeKeeper(
        scenario.start, end_s=scenario.duration_s, expected=("plant", "edge"), progress=ctrl_c
    )
    async with contextlib.AsyncExitStack() as stack:
        modbus: dict[str, ModbusProxy] = {}
        ua: dict[str, UaProxy] = {}
        for c in site.connections:
            if c.protocol is Protocol.MODBUS_TCP:
                modbus[c.id] = await stack.enter_async_context(ModbusProxy(0))
            else:
                ua[c.id] = await stack.enter_async_context(UaProxy(0))
        inner, _ = choose_ports(site, 0, free=True)
        for proxies in (modbus, ua):
            for i, proxy in proxies.items():
                proxy.target_port = inner[i]
        outer = {i: p.port for i, p in modbus.items()} | {i: p.port for i, p in ua.items()}
        save_scenario(directory / "scenario.npz", scenario)
        plant = ProcessConfig(
            site=SITE_FILE.resolve(),
            directory=directory,
            keeper_port=await keeper.open(),
            ports=inner,
            shadow=shadow,
            pace=Pace(start=scenario.start, end=scenario.end, mains_edges_s=scenario.mains_edges_s()),
            scenario=directory / "scenario.npz",
        )
        edge = replace(plant, ports=outer)
        processes.append(await _process("cli.plant_process", plant, directory / "plant.json"))
        while "plant" not in keeper.participants():
            assert processes[0].returncode is None
            await wall_sleep(0.05)
        processes.append(await _process("cli.edge_process", edge, directory / "edge.json"))

        try:
            await keeper.run()
            out, _ = await asyncio.wait_for(processes[1].communicate(), 60.0)
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        assert told, "the run was over before Ctrl-C"
        code = processes[1].returncode
        assert code is not None
        return Counted(
            modbus=modbus,
            ua=ua,
            reader=SqliteHistoryReader(edge.history),
            edge_code=code,
            edge_text=out.decode(),
        )


async def _process(module: str, config: ProcessConfig, path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, str(write_config(config, path)), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


def judge_silent(counted: Counted, modes: Sequence[str]) -> None:
    """Nothing was written, and it was a run in which an edge that may write would have written."""
    assert counted.edge_code == 0, counted.edge_text
    assert counted.writes == {}
    for name, proxy in counted.modbus.items():
        assert set(proxy.codes) <= {3, 4}, f"{name}: {proxy.codes}"
        assert proxy.codes.total() > 50, f"{name} was hardly read: {proxy.codes}"
    for name, ua_proxy in counted.ua.items():
        assert ua_proxy.services[READ] > 50, f"{name} was hardly read: {ua_proxy.services}"
    row = counted.reader.statuses()["edge"]
    assert row.fields["shadow"] is True
    far = row.at + timedelta(days=2)
    changes = counted.reader.events(row.at - timedelta(days=2), far, "grid.mode.changed", 1000)
    assert {str(e.fields["now"]) for e in changes} >= set(modes)
    sent = counted.reader.commands(row.at - timedelta(days=2), far, None, 100_000)
    assert [c for c in sent if c.refused_code is None] == []


async def test_shadow_outage_faults_and_ctrl_c_writes_nothing(tmp_path):
    scenario = with_faults(around_outage())
    counted = await live(scenario, tmp_path, shadow=True, ctrl_c_at=0.9)
    judge_silent(counted, ["grid_tied", "islanded"])


async def test_edge_with_authority_on_the_same_wires_is_seen_to_write(tmp_path):
    """The counter-proof: Modbus and OPC UA writes of an edge that may write are counted, heartbeats too."""
    scenario = around_outage((17, 25), (17, 35))
    counted = await live(scenario, tmp_path, shadow=False, ctrl_c_at=0.8)
    assert counted.edge_code == 0, counted.edge_text
    assert set(counted.writes) == {*counted.modbus, *(i for i, p in counted.ua.items() if p.writes)}
    assert any(p.writes for p in counted.ua.values())


@pytest.mark.soak
async def test_shadow_whole_day_with_faults_and_ctrl_c_writes_nothing(tmp_path):
    counted = await live(with_faults(demo_day()), tmp_path, shadow=True, ctrl_c_at=0.99)
    judge_silent(counted, ["grid_tied", "islanded"])


@pytest.mark.needs_server
async def test_shadow_before_a_device_made_of_libmodbus_writes_nothing(tmp_path):
    """A peer that shares no code with us, behind the counting proxy: read in every cycle, never written."""
    compiler, config = shutil.which("cc"), shutil.which("pkg-config")
    if compiler is None or config is None:
        pytest.skip("no C compiler or no pkg-config")
    flags = subprocess.run([config, "--cflags", "--libs", "libmodbus"], capture_output=True, text=True)
    if flags.returncode != 0:
        pytest.skip("libmodbus is not installed")
    program, source = tmp_path / "slave", ROOT / "tests" / "contract" / "libmodbus_slave.c"
    subprocess.run([compiler, str(source), "-o", str(program), *flags.stdout.split()], check=True)
    port = free_port()
    slave = subprocess.Popen([str(program), str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert slave.stdout is not None
        assert slave.stdout.readline() == "listening\n"
        async with ModbusProxy(port) as proxy:
            clock = VirtualClock(T0)
            site = site_of(replace(connection("bess1", Protocol.MODBUS_TCP, proxy.port, 1.0)))
            io = FieldIO(site, clock=clock)
            edge = EdgeRuntime(
                site, clock=clock, device_io=io, plans=NoPlans(), recorder=FakeRecorder([]),
                controller=Rules(), shadow=True, epoch=1, expecting=io.expect_tick,
            )  # fmt: skip
            await edge.run(lambda last: 1.0, lambda: clock.monotonic_s() >= 60.0)
            assert proxy.writes == 0
            assert proxy.codes.total() >= 60
            await io.write([command("bess1.p_set_kw", 5.0)])  # the counter-proof
            assert proxy.writes == 1
            await io.close()
    finally:
        slave.kill()
        slave.communicate()
