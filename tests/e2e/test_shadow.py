"""Shadow mode writes nothing: counted on the wire and at the simulated devices, from start to SIGTERM.

The plant is the demo's, its PV controller a SunSpec device: a setpoint of it is several writes on the wire.
"""

import asyncio
import contextlib
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cli.day import choose_ports
from cli.process_config import ProcessConfig, write_config
from connectors.historian.sqlite import SqliteHistoryReader
from ems.clock import SystemClock, wall_sleep
from ems.site import Protocol
from ems.site_schema import load_site
from sim.servers import PlantServers, serve_plant
from sim.writes import WriteVerdict
from tests.e2e.days import SITE_FILE, around_outage
from tests.e2e.wire import CountingWorld, ModbusProxy

pytestmark = pytest.mark.timeout(300)
CYCLES = 12
CYCLE_S = 0.3
ROOT = Path(__file__).resolve().parents[2]


SUNSPEC_MAP = """
device: PV inverter that speaks SunSpec
protocol: sunspec
points:
  p_kw: {address: 103.W, unit: W, range: [-20, 770], age_s_max: 25}
  state: {address: 103.St, states: {MPPT: 1, THROTTLED: 1, otherwise: 0}, range: [0, 1], age_s_max: 25}
  p_limit_kw:
    address: 704.WMaxLimPct
    percent_of: 702.WMaxRtg
    unit: W
    range: [0, 700]
    age_s_max: 25
    writable: true
"""


def with_sunspec(folder: Path) -> Path:
    """The demo's site with another PV controller."""
    shutil.copytree(SITE_FILE.parent, folder)
    (folder / "maps" / "pv_plant.yaml").write_text(SUNSPEC_MAP)
    file = folder / "site.yaml"
    text, n = re.subn(r"(  pv_controller:\n    protocol: )modbus_tcp", r"\1sunspec", file.read_text())
    assert n == 1
    file.write_text(text)
    return file


@dataclass(slots=True, kw_only=True)
class Plant:
    """A simulated plant on real sockets, with a counting proxy before each Modbus device."""

    site_file: Path
    world: CountingWorld
    proxies: dict[str, ModbusProxy]
    ports: dict[str, int]


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    site_file = with_sunspec(tmp_path / "site")
    world = CountingWorld(replace(around_outage(), site=load_site(site_file)))
    site = world.site
    inner, _ = choose_ports(site, 0, free=True)
    addresses = {i: ("127.0.0.1", port) for i, port in inner.items()}
    async with (
        PlantServers(world, site.connections, addresses=addresses) as servers,
        contextlib.AsyncExitStack() as stack,
    ):
        modbus = [c.id for c in site.connections if c.protocol.wire is Protocol.MODBUS_TCP]
        proxies = {i: await stack.enter_async_context(ModbusProxy(inner[i])) for i in modbus}
        loop = asyncio.create_task(serve_plant(world, SystemClock(), servers, period_s=lambda _: 0.1))
        yield Plant(
            site_file=site_file,
            world=world,
            proxies=proxies,
            ports={**inner, **{i: p.port for i, p in proxies.items()}},
        )
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop


async def run_edge(plant: Plant, directory: Path, *, shadow: bool) -> SqliteHistoryReader:
    """The real edge process for some cycles, ended by SIGTERM; gives its historian."""
    config = ProcessConfig(
        site=plant.site_file.resolve(), directory=directory, ports=plant.ports, shadow=shadow, cycle_s=CYCLE_S
    )
    path = write_config(config, directory / "process.json")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.edge_process", str(path), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    reader = SqliteHistoryReader(config.history)
    try:
        async with asyncio.timeout(60.0):
            while _beats(reader) < CYCLES:
                assert process.returncode is None
                await wall_sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 30.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, out.decode()
    return reader


def _beats(reader: SqliteHistoryReader) -> int:
    row = reader.statuses().get("edge")
    return 0 if row is None else int(str(row.fields["heartbeat"]))


async def test_shadow_edge_from_start_to_sigterm_writes_nothing(plant: Plant, tmp_path: Path):
    reader = await run_edge(plant, tmp_path, shadow=True)
    assert plant.world.arrived == []
    for name, proxy in plant.proxies.items():
        assert proxy.codes.total() >= 4, f"{name} was hardly read: {proxy.codes}"
        assert proxy.writes == 0, f"{name} was written to: {proxy.codes}"
    assert reader.statuses()["edge"].fields["shadow"] is True
    assert all(r.is_good for r in reader.latest().values()), "a shadow that sees nothing proves nothing"


async def test_edge_with_authority_writes_and_leaves_the_safe_table(plant: Plant, tmp_path: Path):
    """The counter-proof: the same counts see the writes of an edge that may write."""
    await run_edge(plant, tmp_path, shadow=False)
    taken = plant.world.arrived
    assert {v for _, _, v in taken} == {WriteVerdict.ACCEPTED}
    assert {p.partition(".")[0] for p, _, _ in taken} >= {
        "bess1",
        "gen1",
        "gen2",
        "pv1",
        "essential",
        "deferrable",
    }
    for name, proxy in plant.proxies.items():
        assert proxy.writes > 0, f"no write was seen at {name}: {proxy.codes}"
    last = {p: v for p, v, _ in taken}
    assert last["bess1.p_set_kw"] == pytest.approx(0.0)
    assert last["pv1.p_limit_kw"] == pytest.approx(140.0, abs=0.7)
