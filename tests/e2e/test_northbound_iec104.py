"""A bound told over IEC 60870-5-104 by c104: through our station, the real edge, to the device of a plant."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli.process_config import ProcessConfig, write_config
from ems.clock import wall_s, wall_sleep
from tests.contract.northbound_104_peer import OLD, Scada
from tests.contract.plants import free_port
from tests.e2e.test_operator import ME, Edge
from tests.e2e.test_shadow import ROOT, Plant, plant

__all__ = ["plant"]
pytestmark = [pytest.mark.timeout(300), pytest.mark.soak, pytest.mark.needs_server]
PATIENCE_S = 60.0
LIMIT, ANSWER, CAP_PV, FRESH, COMMAND = 1001, 2001, 203, 1, 3001
SERVED = """
control:
  users: {{{me}: [utility]}}
  limits:
    dso: {{kind: pv, watchdog_s: 8, on_loss_kw: 50}}
northbound:
  iec104:
    scada:
      port: {port}
      common_address: 7
      time_tags: false
      writes: {{limits: [dso], plain_from: [127.0.0.1]}}
"""


@pytest.fixture
async def up(plant: Plant, tmp_path: Path) -> AsyncIterator[tuple[Edge, int]]:
    port = free_port()
    text = plant.site_file.read_text()
    plant.site_file.write_text(text + SERVED.format(me=ME, port=port))
    directory = tmp_path / "run"
    directory.mkdir()
    config = ProcessConfig(
        site=plant.site_file, directory=directory, ports=plant.ports, shadow=False, cycle_s=0.2
    )
    edge = Edge(plant=plant, directory=directory, config=write_config(config, directory / "process.json"))
    await edge.start()
    servers = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.northbound_process", str(edge.config),
        cwd=ROOT, env={**os.environ}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    yield edge, port
    for process in (servers, edge.process):
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def held(edge: Edge, kw: float) -> None:
    """Wait until the device holds it."""
    began_s = wall_s()
    while (found := edge.holds("pv1.p_limit_kw")) is None or found > kw + 0.5:
        assert wall_s() - began_s < PATIENCE_S, found
        await wall_sleep(0.1)


async def test_bound_reaches_the_device_silence_brings_the_value_on_loss_and_no_edge_is_seen(up):
    edge, port = up
    async with Scada.up() as scada:
        points = {str(a): "M_ME_NC_1" for a in (LIMIT, ANSWER, CAP_PV)} | {str(FRESH): "M_SP_NA_1"}
        await scada.connect(port, points=points, commands={str(COMMAND): "C_SE_NC_1 DIRECT"})
        began_s = wall_s()
        while await scada.ask("tell", station=7, address=COMMAND, value=120.0) is not True:
            assert wall_s() - began_s < PATIENCE_S, "the edge is not up"
        by_itself: dict[str, Any] = {"how": "point", "cause": "SPONTANEOUS"}
        await scada.until(address=ANSWER, value=2.0, **by_itself)
        await scada.until(address=CAP_PV, value=120.0, **by_itself)
        await held(edge, 120.0)
        await scada.until(address=CAP_PV, value=50.0, **by_itself)  # c104 has said nothing more
        await held(edge, 50.0)
        await scada.until(address=LIMIT, value=120.0, quality=OLD, **by_itself)
        scada.heard.clear()
        await edge.kill()
        await scada.until(address=FRESH, value=False, **by_itself)
        await scada.until(address=CAP_PV, value=50.0, quality=OLD, **by_itself)
        assert await scada.ask("tell", station=7, address=COMMAND, value=120.0) is False
