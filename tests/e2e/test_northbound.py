"""A plant controller tells a bound over Modbus: real edge, real server process, plant on real sockets."""

import asyncio
import contextlib
import math
import os
import pwd
import struct
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.house import TELL_S
from cli.process_config import ProcessConfig, write_config
from ems.clock import wall_sleep
from tests.contract.northbound_peer import DSO_AT, Raw, read_pdu, words, write_pdu
from tests.contract.plants import free_port
from tests.e2e.live import EMS
from tests.e2e.test_operator import Edge
from tests.e2e.test_shadow import ROOT, Plant, plant

__all__ = ["plant"]
pytestmark = [pytest.mark.timeout(300), pytest.mark.scenario(64)]
ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
ME = pwd.getpwuid(os.getuid()).pw_name
SITE = """
control:
  users: {{{user}: [utility]}}
  limits:
    dso: {{kind: export, watchdog_s: 600, on_loss_kw: 0}}
northbound:
  modbus:
    ppc:
      port: {port}
      writes: {{limits: [dso], plain_from: [127.0.0.1], per_s: 10}}
"""


class Served(Edge):
    """An edge with its servers."""

    port: int = 0

    async def ask(self, pdu: bytes) -> bytes:
        """One request in a connection of its own, as soon as the server listens."""
        async with asyncio.timeout(60.0):
            while (client := await self._client()) is None:
                await wall_sleep(0.05)
        try:
            return await client.ask(pdu)
        finally:
            await client.close()

    async def _client(self) -> Raw | None:
        try:
            return await Raw.to(self.port)
        except OSError:
            return None

    async def told(self, address: int, form: str) -> tuple:
        """Registers of the automatic map."""
        answer = await self.ask(read_pdu(address, struct.calcsize(form) // 2))
        return struct.unpack(form, answer[2:])

    async def until_told(self, address: int, form: str, *expected: float) -> None:
        async with asyncio.timeout(30.0):
            while await self.told(address, form) != expected:
                await wall_sleep(0.1)

    async def types_northbound(self, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            EMS, "northbound", *arguments, cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60.0)
        assert process.returncode is not None
        return process.returncode, out.decode()


@pytest.fixture
async def served(plant: Plant, tmp_path: Path) -> AsyncIterator[Served]:
    site, port = plant.site_file, free_port()
    site.write_text(site.read_text() + SITE.format(user=ME, port=port))
    directory = tmp_path / "run"
    directory.mkdir()
    config = ProcessConfig(site=site, directory=directory, ports=plant.ports, shadow=False, cycle_s=0.2)
    path = write_config(config, directory / "process.json")
    one = Served(plant=plant, directory=directory, config=path)
    one.port = port
    await one.start()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.northbound_process", str(path), cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    yield one
    for process in (one.process, server):
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_bound_over_modbus_holds_at_the_edge_and_silence_of_the_edge_is_seen(served: Served):
    await served.until_told(1, ">H", 1)
    assert math.isnan((await served.told(DSO_AT, ">f"))[0])  # nothing was told yet
    wrote = write_pdu(DSO_AT, *words(150.0))
    assert await served.ask(wrote) == wrote[:5]
    await served.until_told(DSO_AT + 4, ">H", 2)  # the edge has done it
    await served.until_told(DSO_AT, ">fH", 150.0, 0)
    await served.until_told(154, ">f", 150.0)  # the cap on export that holds
    assert {"kind": "export", "cap_kw": 150.0, "layer": "utility", "reason": "dso says so"} in served.status(
        "authority"
    )["caps"]
    (done,) = [
        e
        for e in served.reader.events(*ALWAYS, "authority.request.done", 10)
        if e.fields.get("limit") == "dso"
    ]
    assert (done.fields["user"], done.fields["new"]) == (ME, 150.0)
    assert done.fields["session"] == "ppc: no certificate, at 127.0.0.1"
    assert await served.ask(write_pdu(1000, *words(1.0))) == b"\x90\x02"
    await wall_sleep(TELL_S + 1.0)
    code, text = await served.types_northbound("status", "--dir", str(served.directory))
    assert (code, "ppc: up" in text, "taken 1" in text) == (0, True, True), text
    assert "not_writable  holding 1000 to 1001 (ppc: no certificate, at 127.0.0.1)" in text

    await served.kill()
    await served.until_told(1, ">H", 0)
    value, quality = await served.told(DSO_AT, ">fH")
    assert (math.isnan(value), quality) == (True, 1)
    assert await served.ask(wrote) == b"\x90\x04"
