"""JSON over HTTP against servers of another make: Python and Node.js, bare and inside stunnel."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.main import main
from connectors.field import FieldIO
from connectors.http_json.browse import lines_of
from connectors.json_document import at_pointer
from ems.clock import SystemClock, wall_s, wall_sleep
from ems.site_schema import load_devices
from ems.site_schema.families import family_text, read_family, shipped_folder
from ems.telemetry import Quality, Reading
from tests.contract.plants import free_port
from tests.contract.test_northbound_tls import stunnel
from tests.contract.tls_pki import Authority, Party

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "http-json.md").read_text()
SITE, MAP = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[:2]
RIGHT = {"p_kw": -12.5, "temp_degc": 21.5, "soc": 0.555, "state": 2.0}
FLOW = "/solar_api/v1/GetPowerFlowRealtimeData.fcgi"


async def listening(process: subprocess.Popen[str], port: int) -> None:
    give_up_s = wall_s() + 30.0
    while True:
        assert process.poll() is None
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert wall_s() < give_up_s
            await wall_sleep(0.05)
            continue
        writer.close()
        return


@asynccontextmanager
async def serving(*command: str, port: int) -> AsyncIterator[int]:
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            await listening(process, port)
            yield port
        finally:
            process.kill()


def node(program: str, port: int, who: str = "", party: Party | None = None) -> tuple[str, ...]:
    files = () if party is None else (str(party.key), str(party.certificate))
    return program, str(HERE / "node_http" / "server.js"), str(port), who, *files


def python(folder: Path, port: int, version: str) -> tuple[str, ...]:
    return (
        sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder),
        "--protocol", version,
    )  # fmt: skip


def written(folder: Path, port: int, http: str, points: str = MAP) -> Path:
    """A site file with the device of the page."""
    told = re.sub(r"http: \{.*\}", f"http: {http}", SITE).replace("battery.plant.example", "127.0.0.1")
    told = told.replace("    poll_s: 2\n", f"    port: {port}\n    poll_s: 0.2\n")
    told = told.replace("timeout_s: 1", "timeout_s: 5")
    assert f"port: {port}" in told
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "battery_api.yaml").write_text(points)
    (folder / "site.yaml").write_text(f"bess: {{bess1: {{}}}}\n{told}")
    return folder / "site.yaml"


async def polled(path: Path, times: int) -> tuple[list[dict[str, Reading]], FieldIO]:
    """Readings of so many polls, and whoever read them, closed."""
    io = FieldIO(load_devices(path, []), clock=SystemClock(), folder=path.parent)
    out = []
    try:
        for _ in range(times):
            out.append({r.point.removeprefix("bess1."): r for r in await io.read_all()})
            await wall_sleep(0.21)
    finally:
        await io.close()
    return out, io


def right(readings: dict[str, Reading]) -> None:
    assert {p: r.value for p, r in readings.items()} == pytest.approx(RIGHT)
    assert {r.quality for r in readings.values()} == {Quality.GOOD}


@pytest.mark.needs_server
async def test_node_over_tls_is_pinned_asked_with_a_password_and_read(tmp_path, require_program, monkeypatch):
    """Whole answers, chunks with trailers, and connections that it closes, by turns."""
    ca, port = Authority(tmp_path / "pki"), free_port()
    party = ca.signs("device", hosts=("127.0.0.1",))
    monkeypatch.setenv("EMS_BATTERY_PASSWORD", "s3cret:x")
    http = "{protection: pinned, certificate: pki/device.pem, user: ems, password_env: EMS_BATTERY_PASSWORD}"
    async with serving(*node(require_program("node"), port, "ems:s3cret:x", party), port=port):
        path = written(tmp_path, port, http)
        polls, io = await polled(path, 8)
        for readings in polls:
            right(readings)
        counts = io.links()["battery_api"]
        assert counts["failures"] == 0
        assert counts["reconnects"]
        assert counts["malformed"] == counts["statuses"] == 0
        assert io.identities() == {"battery_api": {"model": "B-500", "serial": "4711"}}
        monkeypatch.setenv("EMS_BATTERY_PASSWORD", "wrong")
        (readings,), io = await polled(path, 1)
        assert {r.quality for r in readings.values()} == {Quality.COMM_FAILED}
        assert "401 Unauthorized" in str(io.links()["battery_api"]["reason"])


@pytest.mark.needs_server
async def test_node_inside_stunnel_is_known_by_its_authority(tmp_path, require_program):
    ca, port = Authority(tmp_path / "pki"), free_port()
    party = ca.signs("device", hosts=("battery.example",))
    lines = f"connect = 127.0.0.1:{port}\ncert = {party.certificate}\nkey = {party.key}\n"
    async with (
        serving(*node(require_program("node"), port), port=port),
        stunnel(require_program("stunnel"), tmp_path, lines) as outer,
    ):
        good = "{ca: pki/ca.pem, server_name: battery.example}"
        polls, io = await polled(written(tmp_path, outer, good), 3)
        for readings in polls:
            right(readings)
        (readings,), io = await polled(written(tmp_path, outer, "{ca: pki/ca.pem}"), 1)
        assert {r.value for r in readings.values()} == {None}
        assert "is not believed" in str(io.links()["battery_api"]["reason"])


@pytest.mark.needs_server
async def test_node_without_tls_is_browsed_and_read_by_the_commands(tmp_path, require_program, capsys):
    port = free_port()
    async with serving(*node(require_program("node"), port), port=port):
        path = written(tmp_path, port, "{protection: plain}")
        command = ["browse", f"127.0.0.1:{port}", "--plain", "--http"]
        assert await asyncio.to_thread(main, [*command, "/api/power?unit=W"]) == 0
        told = capsys.readouterr().out
        assert re.search(r"^/battery/active_power +integer +12500$", told, re.MULTILINE)
        assert re.search(r"^/battery/cells/0/t +number +21.5$", told, re.MULTILINE)
        assert re.search(r"^/a~1b~0c +- +null$", told, re.MULTILINE)
        assert await asyncio.to_thread(main, [*command, "/api/status", "--only", "soc"]) == 0
        assert capsys.readouterr().out.split() == ["/soc", "number", "55.5"]
        assert await asyncio.to_thread(main, [*command, "/nowhere"]) == 2
        assert "GET /nowhere: it answers 404 Not Found" in capsys.readouterr().err
        assert await asyncio.to_thread(main, ["read", str(path), "battery_api"]) == 0
        told = capsys.readouterr().out
        assert "identity serial: 4711" in told
        assert re.search(r"bess1.soc +0.555 +good +path /api/status at /soc", told)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--http", "status"], "--http: found 'status'; allowed: the path of a request"),
        (["--http", "/a", "--dnp3", "3"], "--http: found with --dnp3; allowed: one of them"),
        (["--http", "/a", "--plain", "--ca", "x"], "--plain: found with --ca"),
        (["--http", "/a", "--user", "x"], "--user, --password-file: found one of them"),
        (["--http", "/a", "--plain", "--token-file", "x"], "the secret would cross the network"),
        (["--http", "/a", "--pinned", "nowhere.pem"], "nowhere.pem cannot be read"),
    ],
)
def test_browse_that_cannot_be_is_refused(more, why, capsys):
    assert main(["browse", "192.0.2.51", *more]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
async def test_files_that_python_serves_are_read_and_are_old_once_they_stand_still(tmp_path, version):
    """Nobody writes the file any more: by its own stamp it is stale, by its arrival it would be new."""
    served, port = tmp_path / "served", free_port()
    served.mkdir()
    rows = re.sub(r"address: /api/(\w+)\S*", r"address: /\1.json,", MAP).replace("json,\n", "json\n")
    (served / "device.json").write_text(json.dumps({"model": "B-500", "serial": "4711"}))
    (served / "power.json").write_text(
        json.dumps({"battery": {"active_power": 12500, "cells": [{"t": 21.5}]}})
    )
    status = {"soc": 55.5, "valid": True, "mode": "Island", "sampled_ms": int(wall_ms())}
    (served / "status.json").write_text(json.dumps(status))
    async with serving(*python(served, port, version), port=port):
        path = written(tmp_path, port, "{protection: plain}", rows)
        polls, _ = await polled(path, 2)
        for readings in polls:
            right(readings)
        (served / "status.json").write_text(json.dumps({**status, "sampled_ms": int(wall_ms()) - 11_000}))
        (served / "power.json").write_text('{"battery": {"active_power": NaN, "cells": [{"t": 21.5}]}}')
        (readings,), io = await polled(path, 1)
        assert readings["soc"].quality is Quality.STALE
        assert readings["p_kw"].quality is readings["temp_degc"].quality is Quality.DEVICE_BAD
        assert readings["state"].quality is Quality.GOOD
        assert "NaN is no number" in io.why_unread("bess1.p_kw")
        (served / "power.json").unlink()
        (readings,), io = await polled(path, 1)
        assert readings["p_kw"].value is None
        assert "404" in io.why_unread("bess1.p_kw")


def wall_ms() -> float:
    return SystemClock().now().timestamp() * 1000.0


FLOWS = {  # as the maker's document has them: charging is negative, SOC in percent
    "charging": ({"P_Akku": -2500.0}, {"SOC": 55.5, "Battery_Mode": "normal"}, 0, (-2.5, 0.555, 1.0)),
    "full": ({"P_Akku": 0}, {"SOC": 100, "Battery_Mode": "battery full"}, 0, (0.0, 1.0, 1.0)),
    "at rest": ({"P_Akku": None}, {"SOC": 4.7, "Battery_Mode": "suspended"}, 0, (None, 0.047, 0.0)),
    "unknown": ({"P_Akku": 900}, {"SOC": 50, "Battery_Mode": "startup"}, 0, (0.9, 0.5, None)),
    "not asked": ({"P_Akku": 900}, {"SOC": 50, "Battery_Mode": "normal"}, 8, (None, None, None)),
    "no battery": ({}, {"P": 3}, 0, (None, None, None)),
}


async def test_family_of_fronius_reads_what_its_source_says(tmp_path):
    served, port = tmp_path / "served", free_port()
    (served / "solar_api" / "v1").mkdir(parents=True)
    document, form = read_family(shipped_folder() / "fronius_solar_bess.yaml")
    assert not document.problems
    assert form is not None
    assert {p.address for p in form.points.values()} == {FLOW}
    (tmp_path / "fronius_solar_bess.yaml").write_text(family_text(form))
    assert read_family(tmp_path / "fronius_solar_bess.yaml")[1] == form
    (tmp_path / "site.yaml").write_text(f"""bess: {{bess1: {{}}}}
connections:
  battery:
    {{protocol: http_json, host: 127.0.0.1, port: {port}, poll_s: 5, timeout_s: 5, asset: bess1,
     http: {{protection: plain, content_type: application/octet-stream}},
     family: fronius_solar_bess, settings: {{p_rated_kw: 5 kW}}}}
""")
    async with serving(*python(served, port, "HTTP/1.1"), port=port):
        for site, inverter, code, wanted in FLOWS.values():
            body = {
                "Body": {"Data": {"Inverters": {"1": inverter}, "Site": site}},
                "Head": {"Status": {"Code": code}},
            }
            (served / FLOW[1:]).write_text(json.dumps(body))
            (readings,), _ = await polled(tmp_path / "site.yaml", 1)
            assert tuple(readings[p].value for p in ("p_kw", "soc", "state")) == pytest.approx(wanted), body
            assert all(r.is_good is (r.value is not None) for r in readings.values())


def test_every_value_is_listed_with_the_pointer_that_finds_it():
    document = {"a/b": [1, {"~": [2.5, None, "x\x1b[31m"]}], "": {"": True}, "e": [], "o": {}}
    lines = list(lines_of(document))
    assert [(line.pointer, line.type_name) for line in lines] == [
        ("/a~1b/0", "integer"), ("/a~1b/1/~0/0", "number"), ("/a~1b/1/~0/1", "-"), ("/a~1b/1/~0/2", "text"),
        ("//", "boolean"), ("/e", "-"), ("/o", "-"),
    ]  # fmt: skip
    for line in lines:
        assert json.loads(line.about) == at_pointer(document, line.pointer)
        assert line.about.isprintable()
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert [line.about for line in lines_of(deep)] == ["[]"]
