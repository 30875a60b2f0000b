"""From shadow to writing: a plant on real sockets is commissioned, and only then commanded."""

import asyncio
import contextlib
import getpass
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from cli._sites import find_site
from cli.day import choose_ports
from cli.main import main
from connectors.historian.sqlite import SqliteHistoryReader
from ems.clock import SystemClock, wall_s, wall_sleep
from ems.commands import Cause, WriteOutcome
from ems.site import Site
from ems.site_schema import load_site
from plant_models.plant import initial_state
from sim.rig_scenario import MONDAY, rig_scenario
from sim.servers import PlantServers, serve_plant
from sim.world import World
from tests.e2e.live import EMS

pytestmark = pytest.mark.timeout(180)
DEMO = find_site("demo").parent
BESS = "bess1.p_set_kw"
LOAD = {"critical": 110.0, "essential": 160.0, "deferrable": 30.0}
PERIOD_S = 0.2
UNPROVEN = (
    "bess1.q_kvar", "bess1.p_charge_kw_max", "bess1.p_discharge_kw_max", "pv1.p_available_kw", "bus.alive",
    *(f"{g}.{name}" for g in ("gen1", "gen2") for name in ("p_kw", "state", "run_h")),
    *(f"{f}.closed" for f in ("critical", "essential", "deferrable")),
)  # fmt: skip


def copied_site(folder: Path) -> Path:
    """The demo site with ports of its own, polled fast, and with whoever runs this as engineer."""
    folder.mkdir()
    (folder / "maps").mkdir()
    for path in (DEMO / "maps").iterdir():
        (folder / "maps" / path.name).write_bytes(path.read_bytes())
    text = (DEMO / "site.yaml").read_text()
    site = load_site(DEMO / "site.yaml")
    ports, _ = choose_ports(site, 0, free=True)
    free = {str(c.port): str(ports[c.id]) for c in site.connections}
    text = re.sub(r"(?<=port: )\d+$", lambda port: free[port[0]], text, flags=re.MULTILINE)  # all at once
    # It is noon where the plant stands, whenever this runs, and power is cheap there at noon alone.
    text = text.replace("timezone: America/New_York", f"timezone: Etc/GMT{SystemClock().now().hour - 12:+d}")
    prices = "windows: [{name: noon, from: 11:00, to: 15:00, import_per_kwh: 0.09}]\n"
    text = re.sub(r"windows:\n(    - .*\n)+", prices, text, count=1)
    text = text.replace("default_import_per_kwh: 0.16", "default_import_per_kwh: 0.7")
    text = text.replace("demand_charge_per_kw: 9.00 USD/kW", "demand_charge_per_kw: 0")
    text = text.replace("poll_s: 1\n", f"poll_s: {PERIOD_S}\n")
    users = f"control:\n  transfer_ramp_s: 5\n  users: {{{getpass.getuser()}: [engineer]}}\n"
    text = text.replace("connections:\n", f"{users}dispatch:\n  cycle_s: {PERIOD_S}\nconnections:\n", 1)
    (folder / "site.yaml").write_text(text)
    return folder / "site.yaml"


@dataclass
class Plant:
    site_file: Path
    site: Site
    world: World

    @property
    def directory(self) -> Path:
        return self.site_file.parent / "data"

    @property
    def held(self) -> float:
        return self.world.setpoints.values[BESS]

    async def ems(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(EMS), *arguments, "--dir", str(self.directory), cwd=self.site_file.parent,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def done(self, *arguments: str) -> tuple[int, str]:
        process = await self.ems(*arguments)
        out, _ = await asyncio.wait_for(process.communicate(), 120.0)
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def commission(self, *more: str) -> tuple[int, str]:
        return await self.done("commission", str(self.site_file), *more)

    def accepted_by_hand(self) -> list[str]:
        """What is not probed, and what nothing bears out while the gensets stand still."""
        others = [p for p in self.site.authority.setpoints if p != BESS] + list(UNPROVEN)
        return [x for p in others for x in ("--accept", f"{p}=by hand at its panel")]


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    site_file = copied_site(tmp_path / "site")
    site = load_site(site_file)
    scenario = rig_scenario(
        site, load_kw=LOAD, pv_kw=120.0, mains=(), faults=(), start=MONDAY, horizon_s=3600.0
    )
    world = World(scenario, state=initial_state(site, 0.5))
    world.setpoints.values |= {BESS: 0.0}
    async with PlantServers(world, site.connections) as servers:
        loop = asyncio.create_task(serve_plant(world, SystemClock(), servers, period_s=lambda _: 0.05))
        yield Plant(site_file, site, world)
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop


def spoil(plant: Plant, point: str, old: str, new: str) -> None:
    """Write one row of the converter's map otherwise than the device is."""
    path = plant.site_file.parent / "maps" / "bess_pcs.yaml"
    lines = path.read_text().splitlines()
    (i,) = [i for i, line in enumerate(lines) if re.match(rf"\s+{point}:", line)]
    assert old in lines[i]
    lines[i] = lines[i].replace(old, new)
    path.write_text("\n".join(lines) + "\n")


def planned(reader: SqliteHistoryReader) -> bool:
    """Whether the battery was told to move by the plan, and has confirmed it."""
    now = SystemClock().now()
    written = reader.commands(now - timedelta(minutes=5.0), now + timedelta(seconds=5.0), BESS, 1000)
    taken = [c for c in written if c.cause is Cause.PLAN and c.outcome is WriteOutcome.CONFIRMED]
    return any(abs(c.value) > 5.0 for c in taken)


def rows_in(said: str) -> dict[str, str]:
    """What was said of each point."""
    return {line.split()[0]: line for line in said.splitlines() if line and "." in line.split()[0]}


def signed(plant: Plant) -> Path:
    """Site file and record are signed by one person, whom the plant trusts with both."""
    home = plant.site_file.parent
    assert main(["sign", "key", "eve", "--into", str(home)]) == 0
    for use, file in (("site", plant.site_file), ("record", plant.directory / "commissioning.json")):
        assert main(["sign", use, str(file), "--key", str(home / "eve.key")]) == 0
    for use in ("site", "commissioning"):
        (home / "trust" / use).mkdir(parents=True)
        (home / "trust" / use / "eve.pem").write_bytes((home / "eve.pem").read_bytes())
    return home / "trust"


async def test_commissioned_plant_is_written_to_follows_the_plan_and_moves(plant: Plant):
    """Commissioned by steps of one setpoint, which comes back; then the plan is followed, and power flows."""
    code, said = await plant.commission("--consent", BESS, *plant.accepted_by_hand())
    assert code == 0, said
    assert "pass  6 steps read back" in rows_in(said)[BESS]
    assert "every point is shown or accepted by hand" in said
    assert plant.held == 0.0
    trust = signed(plant)
    process = await plant.ems(
        "run", str(plant.site_file), "--write", "--trust", str(trust), "--api-port", "0"
    )
    reader = SqliteHistoryReader(plant.directory / "history.sqlite")
    until_s = wall_s() + 60.0
    try:
        while not planned(reader) and wall_s() < until_s:
            await wall_sleep(0.2)
        await wall_sleep(1.0)
        moved_kw = plant.world.flows.bess_p_kw["bess1"]
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(process.communicate(), 30.0)
    assert planned(reader), out.decode()
    assert abs(moved_kw) >= 5.0, out.decode()
    assert plant.held == 0.0  # its safe value, on the way out


@pytest.mark.parametrize(
    ("point", "old", "new", "row", "named"),
    [
        # what every wrong sign and scale looks like is asked in scenario 20, without a wire
        pytest.param("p_set_kw", "sign: -1", "sign: 1", BESS, "sign of the setpoint", marks=pytest.mark.soak),
        ("p_kw", "type: s32", "type: s32, word_order: little", BESS, "word order"),
    ],
)
async def test_wrong_map_its_row_names_it_and_nothing_is_written(
    plant: Plant, point: str, old: str, new: str, row: str, named: str, capsys: pytest.CaptureFixture[str]
):
    spoil(plant, point, old, new)
    code, said = await plant.commission("--consent", BESS, *plant.accepted_by_hand())
    assert code == 1, said
    assert "pass" not in rows_in(said)[row]
    assert named in said, said
    assert plant.held == 0.0
    assert main(["run", str(plant.site_file), "--write", "--dir", str(plant.directory)]) == 2
    assert f"{row}: found " in capsys.readouterr().err


async def test_ctrl_c_in_the_middle_of_a_step_brings_it_back(plant: Plant):
    process = await plant.ems("commission", str(plant.site_file), "--consent", BESS)
    until_s = wall_s() + 60.0
    while plant.held < 20.0 and wall_s() < until_s:
        await wall_sleep(0.05)
    assert plant.held == pytest.approx(27.5)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 60.0)
    assert process.returncode == 130, out.decode()
    assert plant.held == 0.0
    assert "stopped by the engineer" in rows_in(out.decode())[BESS]
