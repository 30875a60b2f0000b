"""33: the WAN is lost for 72 h: nothing of ours needs anybody outside the plant's own network."""

import ast
import asyncio
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.field import FieldIO
from dispatch.observing.utc import HOLDOVER_S, UtcMemory, record_time
from ems.clock import SystemClock
from ems.site import Site
from ems.telemetry import UtcState
from sim.rig_scenario import MONDAY
from tests.scenarios.test_41_forecast_missing import planned, record

pytestmark = pytest.mark.scenario(33)
ROOT = Path(__file__).resolve().parents[2]
OURS = ("ems", "plant_models", "optimizer", "forecasting", "dispatch", "connectors", "api", "cli", "sim")
# Who may open or accept a connection, and to whom.
WIRE = {
    "connectors/systemd.py": "the service manager, on a local datagram socket",
    "cli/day.py": "free ports of this machine, for a demonstration",
    "api/server.py": "serves the page on this machine",
    "connectors/endpoint.py": "the devices of the site file",
    "connectors/modbus/client.py": "the devices of the site file",
    "connectors/northbound/listener.py": "whom the site file lets in, at its own servers",
    "connectors/tls.py": "nobody by itself: what is asked of both sides of a connection",
    "connectors/modbus/rtu_link.py": "the devices of the site file",
    "connectors/scan/over_tcp.py": "the hosts that whoever scans has named",
    "connectors/mqtt/client.py": "the brokers of the site file",
    "connectors/mqtt/session.py": "the brokers of the site file",
    "connectors/inputs/web.py": "the URLs under `inputs` of the site file",
    "connectors/imports/rows.py": "the database that `ems import` is told to ask",
    "connectors/postgres/session.py": "the databases of the site file",
    "connectors/postgres/tables.py": "nobody by itself: what a session to them may do",
    "connectors/telemetry/mqtt_wire.py": "the brokers of the site file",
    "connectors/telemetry/sparkplug_wire.py": "the brokers of the site file",
    "connectors/opcua/browse.py": "a server that a person names to `ems browse`",
    "connectors/opcua/client.py": "the devices of the site file",
    "connectors/opcua/security.py": "the same, to ask for their certificates",
    "connectors/opcua/subscription.py": "the same, to be told changes",
    "connectors/opcua/tapped.py": "the same: what is said to them, for the log that was asked for",
    "connectors/imports/ua_rows.py": "the server whose history `ems import` is told to read",
    "connectors/opcua/history.py": "the same",
    "connectors/opcua/limits.py": "the same: how much may be asked of them at once",
    "connectors/opcua/nodes.py": "the same, to find nodes by their paths",
    "connectors/opcua/values.py": "nobody: values as OPC UA has them",
    "connectors/bacnet/session.py": "the devices of the site file, and of whoever browses",
    "connectors/dnp3/client.py": "the devices of the site file",
    "connectors/iec104/client.py": "the devices of the site file",
    "connectors/dlms/association.py": "the meters of the site file, and whoever browses has named",
    "connectors/dnp3/browse.py": "the host that whoever browses has named",
    "connectors/http_json/client.py": "the devices of the site file",
    "connectors/http_json/secure.py": "nobody by itself: who a device is, and who we are there",
    "connectors/http_json/session.py": "the same: one connection",
    "connectors/utility/asker.py": "the servers under `utility` of the site file",
    "connectors/iec61850/client.py": "the devices of the site file",
    "connectors/iec61850/transport.py": "the same",
    "connectors/iec61850/browse.py": "the host that whoever browses has named",
    "connectors/iec61850/mms.py": "nobody by itself: MMS, encoded and decoded",
    "connectors/iec61850/control.py": "the same",
    "connectors/iec61850/places.py": "the same",
    "connectors/iec61850/values.py": "the same",
    "connectors/iec61850/reports.py": "the same",
    "connectors/iec61850/buffered.py": "the same; its association is that of client.py",
    "connectors/iec61850/meaning.py": "the same",
    "connectors/iec61850/goose_wire.py": "nobody: it listens to the interfaces of the site file",
    "connectors/iec61850/goose_frame.py": "nobody: GOOSE, decoded",
    "connectors/iec61850/goose_stream.py": "the same",
    "connectors/iec61850/goose_listen.py": "the same, to show it",
    "connectors/j1939/wire.py": "nobody: it listens to the CAN buses of the site file",
    "cli/certificate.py": "nobody by itself: the name of this machine",
    "cli/free_ports.py": "nobody: it looks which ports of this machine are free",
    "connectors/northbound/ua_server.py": "whoever the servers of the site file let in",
    "connectors/northbound/ua_connection.py": "nobody by itself: one connection of that server",
    "connectors/northbound/ua_guard.py": "the same: its sessions",
    "connectors/northbound/ua_space.py": "nobody: values as OPC UA has them",
    "sim/clock.py": "the time keeper on this machine",
    "sim/ua_device.py": "simulated devices on this machine",
}
SPEAKERS = {
    "socket", "ssl", "http", "urllib", "ftplib", "smtplib", "imaplib", "telnetlib", "xmlrpc", "requests",
    "httpx", "aiohttp", "urllib3", "websockets", "paho", "asyncua", "uvicorn", "ntplib", "boto3", "psycopg",
    "open61850",
}  # fmt: skip
CALLS = {"open_connection", "create_connection", "start_server", "create_server", "create_datagram_endpoint"}


def speaks(file: Path) -> set[str]:
    """What of a module's source can reach beyond this process over a network."""
    found, text = set[str](), file.read_text()
    if not any(word in text for word in SPEAKERS | CALLS):
        return found
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module]
        elif isinstance(node, ast.Attribute) and node.attr in CALLS:
            found.add(node.attr)
        found |= {n for n in names if n.partition(".")[0] in SPEAKERS and not n.startswith("urllib.parse")}
    return found


def test_only_these_modules_can_reach_anybody_at_all():
    found = {str(f.relative_to(ROOT)) for top in OURS for f in (ROOT / top).rglob("*.py") if speaks(f)}
    assert found == WIRE.keys()


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Whom anybody wants to reach, by name or by address; nobody answers."""
    asked: list[Any] = []

    def nobody(*args: Any, **kwargs: Any) -> Any:
        asked.append(args[:2])
        raise OSError(101, "Network is unreachable")

    async def nobody_answers(
        self: Any, factory: Any, host: Any = None, port: Any = None, **kwargs: Any
    ) -> Any:
        nobody(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setattr(socket.socket, "connect", lambda self, to: nobody(*to))
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "create_connection", nobody_answers)
    return asked


def test_edge_reaches_for_the_devices_of_its_site_file_alone(demo: Site, reached: list[Any]):
    async def some_cycles() -> None:
        clock = SystemClock()
        io = FieldIO(demo, clock=clock, on_event=lambda at, kind, fields: None)
        for _ in range(3):
            await io.read_all()
            await asyncio.sleep(0.05)
        await io.close()

    asyncio.run(some_cycles())
    known = {(c.host, c.port) for c in demo.connections}
    assert reached
    assert {tuple(to) for to in reached} <= known


def test_planner_reaches_for_nobody(tmp_path: Path, reached: list[Any]):
    """Loads and sun are foreseen from the plant's own past, prices are in the site file."""
    record(tmp_path / "history.sqlite", [(3.0, 0.0)])
    assert planned(tmp_path, 1800.0)
    assert not reached


@pytest.mark.parametrize(
    ("synchronised", "valid_s"), [(None, 72 * 3600.0), (False, HOLDOVER_S)], ids=["trusted", "kernel"]
)
def test_record_time_goes_on_without_time_from_outside(synchronised: bool | None, valid_s: float):
    """A clock that nobody vouches for is trusted throughout, one whose source is lost for four hours.

    After that no plan is followed. The record's times ascend all the while.
    """
    memory, at, _ = record_time(UtcMemory(), MONDAY, 0.0, None if synchronised is None else True)
    until_s = 0.0
    for t_s in range(60, 72 * 3600 + 1, 60):
        memory, now, state = record_time(memory, drifting(t_s), float(t_s), synchronised)
        assert now > at
        at = now
        until_s = float(t_s) if state is not UtcState.INVALID else until_s
    assert until_s == pytest.approx(valid_s, abs=120.0)


def drifting(t_s: float) -> datetime:
    """The machine's own clock, 20 ppm fast."""
    return MONDAY + timedelta(seconds=t_s * (1.0 + 20e-6))
