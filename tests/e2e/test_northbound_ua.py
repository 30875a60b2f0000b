"""A bound told over OPC UA by node-opcua: through our servers, the real edge, to the device of a plant."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cli.process_config import ProcessConfig, write_config
from ems.clock import wall_s, wall_sleep
from ems.northbound_names import ua_namespace
from tests.contract.northbound_ua_peer import NodeClient, laid_out
from tests.contract.pki import pair
from tests.contract.plants import free_port
from tests.e2e.test_operator import ME, Edge
from tests.e2e.test_shadow import ROOT, Plant, plant

__all__ = ["plant"]
pytestmark = [pytest.mark.timeout(300), pytest.mark.soak, pytest.mark.needs_server]
PATIENCE_S = 60.0
SERVED = """
control:
  users: {{{me}: [utility]}}
  limits:
    dso: {{kind: pv, watchdog_s: 8, on_loss_kw: 50}}
northbound:
  opc_ua:
    scada:
      port: {port}
      certificate: pki/server.der
      key: pki/server.key
      trusted: pki/trusted
      users: {{dso: {{password_file: pki/dso.password, role: utility}}}}
      writes: {{limits: [dso], roles: [utility]}}
"""


@pytest.fixture
async def up(plant: Plant, tmp_path) -> AsyncIterator[tuple[Edge, NodeClient, int]]:
    folder = plant.site_file.parent / "pki"
    program = pair("urn:test:client", "edge")
    laid_out(folder, {"client": program}, {})
    (folder / "trusted" / "client.der").write_bytes(program.der)
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
        sys.executable, "-m", "cli.northbound_process", str(edge.config), cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    node = await NodeClient.made(folder)
    yield edge, node, port
    await node.end()
    for process in (servers, edge.process):
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def until(what: str, holds: Any) -> None:
    began_s = wall_s()
    while not await holds():
        assert wall_s() - began_s < PATIENCE_S, f"{what} did not happen"
        await wall_sleep(0.1)


async def test_bound_reaches_the_device_and_silence_brings_the_value_on_loss(up, plant):
    edge, node, port = up

    async def connected() -> bool:
        if await node.connect(port) is True:
            return True
        await node.ask("close")
        return False

    await until("a session", connected)
    index = (await node.ask("namespaces")).index(ua_namespace(plant.world.site))
    limit, cap, answer = (f"ns={index};s={n}" for n in ("limit.dso", "cap.pv_kw", "answer.dso"))

    async def shows(node_id: str, value: float, status: str = "Good") -> bool:
        (found,) = await node.ask("read", ids=[node_id])
        return (found["value"], found["status"]) == (value, status)

    async def held(kw: float) -> bool:
        found = edge.holds("pv1.p_limit_kw")
        return found is not None and found <= kw + 0.5

    assert await node.ask("write", id=limit, value=120.0) == "GoodCompletesAsynchronously"
    await until("it was done", lambda: shows(answer, 2.0))
    await until("the cap holds", lambda: shows(cap, 120.0))
    await until("the device holds it", lambda: held(120.0))
    await until("silence is noticed", lambda: shows(limit, 120.0, "UncertainLastUsableValue"))
    await until("the value on loss", lambda: shows(cap, 50.0))
    await until("the device holds that", lambda: held(50.0))
