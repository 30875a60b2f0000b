"""`ems operator` as people type it, against a real edge process and a simulated plant on real sockets."""

import asyncio
import contextlib
import os
import pwd
import re
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.process_config import ProcessConfig, write_config
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.stores.request_text import text_of
from ems.clock import wall_sleep
from ems.requests import Confirm, Request
from tests.e2e.live import EMS
from tests.e2e.test_shadow import ROOT, Plant, plant

__all__ = ["plant"]
pytestmark = pytest.mark.timeout(300)
ME = pwd.getpwuid(os.getuid()).pw_name
OTHER = pwd.getpwnam("daemon")
CONTROL = f"""
control:
  setpoint_expiry_s: 600
  transfer_ramp_s: 0
  users:
    {ME}: [operator, engineer, utility]
    {OTHER.pw_name}: [operator]
  limits:
    dso: {{kind: export, watchdog_s: 600, on_loss_kw: 0}}
"""


@dataclass(slots=True, kw_only=True)
class Edge:
    """A real edge process over a plant, and who types at it."""

    plant: Plant
    directory: Path
    config: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def reader(self) -> SqliteHistoryReader:
        return SqliteHistoryReader(self.directory / "history.sqlite")

    def status(self, key: str) -> Any:
        """A field of what it last told of itself."""
        return self.reader.statuses()["edge"].fields[key]

    async def start(self) -> None:
        """Start it and let it make some cycles."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.edge_process", str(self.config), cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        before = self.reader.statuses().get("edge")
        async with asyncio.timeout(60.0):
            while (now := self.reader.statuses().get("edge")) is None or (
                before is not None and now.pid == before.pid
            ):
                await wall_sleep(0.05)

    async def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def types(self, *arguments: str) -> tuple[int, str]:
        """(exit code, what was printed) of `ems operator ...`."""
        process = await asyncio.create_subprocess_exec(
            EMS, "operator", *arguments, "--dir", str(self.directory), cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60.0)
        assert process.returncode is not None
        return process.returncode, out.decode()

    def holds(self, point: str) -> float | None:
        """What the device holds."""
        return self.plant.world.setpoints.values.get(point)

    async def until(self, what: str, holds: object) -> None:
        """Wait for something to hold."""
        assert callable(holds)
        until_s = time.monotonic() + 20.0
        while not holds():
            assert time.monotonic() < until_s, f"{what} did not happen"
            await wall_sleep(0.05)


@pytest.fixture
async def edge(plant: Plant, tmp_path: Path) -> AsyncIterator[Edge]:
    site = plant.site_file
    site.write_text(site.read_text() + CONTROL)
    directory = tmp_path / "run"
    directory.mkdir()
    config = ProcessConfig(site=site, directory=directory, ports=plant.ports, shadow=False, cycle_s=0.2)
    one = Edge(plant=plant, directory=directory, config=write_config(config, directory / "process.json"))
    await one.start()
    yield one
    if one.process is not None:
        with contextlib.suppress(ProcessLookupError):
            one.process.kill()
        await one.process.wait()


def typed(text: str) -> list[str]:
    """The arguments of the command that an answer tells people to type."""
    found = re.search(r"ems operator (\w+ [0-9a-f]{8,12})", text)
    assert found, text
    return found[1].split()


async def test_operator_commands_reach_the_devices_and_outlive_the_edge(edge: Edge):
    """Mode, setpoint, limit, second person; the edge is killed twice, the second time its file is bad."""
    code, text = await edge.types("set", "bess1.p_set_kw", "-40")
    assert (code, "no_right" in text, "auto" in text) == (1, True, True), text
    code, text = await edge.types("mode", "manual", "bess1", "--why", "cell check")
    assert (code, text) == (0, "done: bess1: manual\n")
    code, text = await edge.types("set", "bess1.p_set_kw", "-40", "--for", "8min", "--why", "cell check")
    assert (code, text) == (0, "done: bess1.p_set_kw = -40 for 480 s\n")
    await edge.until("the battery holds what was set", lambda: edge.holds("bess1.p_set_kw") == -40.0)
    await tightened_and_loosened(edge)

    await edge.kill()
    await edge.start()
    await edge.until("it is in manual", lambda: edge.status("control")["bess1"] == "manual")
    code, text = await edge.types("status")
    assert code == 0
    for shown in (f"{ME}: -40", "as it was when bess1 came into manual", "cap on import: 200 kW"):
        assert shown in text, text

    await edge.kill()
    standing = edge.directory / "standing.json"
    raw = standing.read_bytes()
    standing.write_bytes(raw.replace(b"200.0", b"900.0"))
    assert standing.read_bytes() != raw
    await edge.start()
    await edge.until("the alarm stands", lambda: "control.standing_lost" in edge.status("alarms"))
    assert edge.status("plant_control") == "off"
    code, text = await edge.types("mode", "auto", "--why", "limits were read in the log book and set anew")
    assert code == 0, text
    await edge.until("it is in auto", lambda: edge.status("plant_control") == "auto")


async def tightened_and_loosened(edge: Edge) -> None:
    """One person tightens; to loosen takes a second one, and the first is not that one."""
    assert await edge.types("limit", "import", "200 kW") == (0, "done: import: 200\n")
    code, text = await edge.types("limit", "import", "300", "--why", "crane on site")
    assert code == 3, text
    act, token = typed(text)
    code, text = await edge.types(act, token)
    assert (code, "same_person" in text) == (1, True), text
    if os.getuid() == 0:  # only root can hand in as somebody else
        hand_in_as_other(edge, Confirm(proposal=token))
        await edge.until("the limit is wider", lambda: edge.status("limits")["import"]["value"] == 300.0)
        assert (await edge.types("limit", "import", "200"))[0] == 0


def hand_in_as_other(edge: Edge, ask: Confirm) -> None:
    """A file that belongs to somebody else."""
    epoch = int(edge.status("epoch"))
    request = Request(id=uuid.uuid4().hex, session="s", epoch=epoch, ttl_s=10.0, reason="", ask=ask)
    draft = edge.directory / "requests" / ".second"
    draft.write_text(text_of(request))
    draft.chmod(0o644)
    os.chown(draft, OTHER.pw_uid, OTHER.pw_gid)
    draft.rename(draft.with_name(f"{request.id}.json"))
