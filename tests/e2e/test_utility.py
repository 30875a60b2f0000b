"""Servers of a utility bound a plant: real edge, real utility process, servers of another make."""

import asyncio
import contextlib
import os
import pwd
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.planner_inputs import ToldCaps
from cli.process_config import ProcessConfig, write_config
from connectors.northbound.records import RecordsReader
from ems.clock import wall_sleep
from ems.records import JsonValue
from ems.site_schema import load_site
from tests.contract.openadr3_peer import IMPORT, PROGRAM, SECRET, vtn_on
from tests.contract.openadr3_peer import at as told_at
from tests.contract.openadr3_peer import event as told_event
from tests.contract.utility_peer import EXPORT, Pki
from tests.contract.utility_server import Event, Program, UtilityServer, watts
from tests.e2e.live import EMS
from tests.e2e.test_operator import Edge
from tests.e2e.test_shadow import ROOT, Plant, plant

__all__ = ["plant"]
pytestmark = [pytest.mark.timeout(300)]
ME = pwd.getpwuid(os.getuid()).pw_name
A = "A1" * 16
SITE = """
control:
  users: {{{user}: [utility]}}
  limits:
    out: {{kind: export, watchdog_s: 600, on_loss_kw: 0}}
    into: {{kind: import, watchdog_s: 600, on_loss_kw: 0}}
utility:
  dso:
    protocol: openadr3
    url: https://127.0.0.1:{vtn_port}/vtn
    tls: {{ca: {vtn_ca}}}
    client_id: plant-7
    client_secret_file: {secret}
    tells: {{IMPORT_CAPACITY_LIMIT: {{limit: into}}}}
  dnsp:
    protocol: ieee2030_5
    url: https://127.0.0.1:{port}/dcap
    pin: 111115
    tls: {{ca: {ca}, certificate: {certificate}, key: {key}}}
    tells: {{opModExpLimW: {{limit: out}}}}
"""


@dataclass(slots=True, kw_only=True)
class Bounded(Edge):
    """An edge with the process that asks the utility."""

    server: UtilityServer

    async def says(self, *arguments: str) -> tuple[int, str]:
        """`ems utility ...` as a person types it."""
        process = await asyncio.create_subprocess_exec(
            EMS, "utility", *arguments, cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60.0)
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def until(self, what: str, holds: object) -> None:
        assert callable(holds)
        async with asyncio.timeout(90.0):
            while not holds():
                await wall_sleep(0.1)

    def row(self, server: str = "dnsp") -> dict[str, JsonValue]:
        """What the process last stored of the server."""
        reader = RecordsReader(self.directory / "utility.sqlite")
        try:
            return dict(reader.statuses()[server].fields)
        finally:
            reader.close()

    def cap(self, limit: str = "out") -> float | None:
        """What the edge holds of a limit, as the utility told it."""
        caps = self.status("authority")["caps"]
        return next((c["cap_kw"] for c in caps if c["reason"] == f"{limit} says so"), None)


@pytest.fixture
async def bounded(plant: Plant, tmp_path: Path) -> AsyncIterator[Bounded]:
    pki = Pki(tmp_path / "pki")
    server = pki.serves()
    event = Event(A, server.now_s() - 1, 3600, {EXPORT: watts(15, 3)})
    server.programs["site"] = Program(primacy=1, default={EXPORT: watts(5000)}, events=[event])
    server.start()
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    with vtn_on(tmp_path / "vtn") as (vtn, authority, _):
        running = told_event("noon", told_at(-60), "PT1H", 25.0, word=IMPORT)
        running["intervals"][0]["payloads"].append({"type": "SIMPLE", "values": [1]})
        vtn.change(programs=[PROGRAM], events=[running])
        text = SITE.format(
            user=ME, port=server.port, ca=pki.authority.file, certificate=pki.own.certificate,
            key=pki.own.key, vtn_port=vtn.port, vtn_ca=authority.file, secret=secret,
        )  # fmt: skip
        plant.site_file.write_text(plant.site_file.read_text() + text)
        directory = tmp_path / "run"
        directory.mkdir()
        config = ProcessConfig(
            site=plant.site_file, directory=directory, ports=plant.ports, shadow=False, cycle_s=0.5
        )
        path = write_config(config, directory / "process.json")
        one = Bounded(plant=plant, directory=directory, config=path, server=server)
        await one.start()
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.utility_process", str(path), cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        yield one
        server.stop()
        for process in (one.process, asking):
            assert process is not None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def test_event_of_the_utility_holds_at_the_edge_and_is_shown(bounded: Bounded):
    server = bounded.server
    await bounded.until("the event holds", lambda: bounded.cap() == 15.0)
    await bounded.until("the server is answered", lambda: server.responses == [(A, 1), (A, 2)])
    await bounded.until("the ratings are put", lambda: "/edev/1/der/1/dercap" in server.puts)
    await bounded.until("it is in the status row", lambda: "'edge': 'done'" in str(bounded.row()))
    code, text = await bounded.says("status", "--dir", str(bounded.directory))
    assert code == 0, text
    assert "dnsp: up" in text
    assert f"opModExpLimW -> out: 15 kW, event {A}" in text
    assert "last told 15 kW, edge: done" in text
    assert "active and held" in text
    assert "answered received, started" in text
    assert "ahead: out 15 kW, " in text
    assert "ahead: out 5 kW, " in text, "then the default"
    await bounded.until("the event of the VTN holds", lambda: bounded.cap("into") == 25.0)
    await bounded.until("it is in its status row", lambda: "'edge': 'done'" in str(bounded.row("dso")))
    code, text = await bounded.says("status", "--dir", str(bounded.directory))
    assert code == 0, text
    assert "dso: up" in text
    assert "(CN=vtn), we are plant-7" in text
    assert "programs 'capacity' (p1); events that are meant for others: 0" in text
    assert "IMPORT_CAPACITY_LIMIT -> into: 25 kW, event noon until" in text
    assert "event noon 'noon' of capacity, without priority" in text
    assert "now IMPORT_CAPACITY_LIMIT 25 kW; nothing here can do that: SIMPLE" in text
    code, text = await bounded.says("identity", str(bounded.plant.site_file))
    assert code == 0, text
    assert "we are plant-7, by a token of 127.0.0.1" in text
    # what the planner process takes from the same file
    caps = ToldCaps(load_site(bounded.plant.site_file), bounded.directory / "utility.sqlite")(
        datetime.now(UTC)
    )
    assert [(c.cap_kw, c.source) for c in caps if not c.is_import] == [(15.0, "dnsp"), (5.0, "dnsp")]
    (imported,) = (c for c in caps if c.is_import)
    assert (imported.cap_kw, imported.source) == (25.0, "dso")
    assert 3000.0 < (imported.end - datetime.now(UTC)).total_seconds() < 3600.0
