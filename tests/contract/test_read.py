"""`ems read` shows what a device answers, from a site file that is not finished, and writes nothing."""

import argparse
import asyncio
import subprocess
from pathlib import Path

import pytest

from cli.main import main
from cli.read import configure, run
from tests.contract.plants import free_port
from tests.contract.register_device import RegisterDevice

MAP = """
device: a converter
protocol: modbus_tcp
points:
  p_kw: {address: 10, table: input, type: s32, word_order: little, scale: 0.1, sign: -1,
         range: [-500, 500], age_s_max: 5}
  soc: {address: 20, table: holding, type: u16, scale: 0.001, range: [0, 1], age_s_max: 5}
  state: {address: 30, table: holding, type: u16, range: [0, 5], age_s_max: 5}
"""
SITE = """
bess: {bess1: {}}
connections:
  pcs: {protocol: modbus_tcp, host: 127.0.0.1, port: PORT, unit_id: 1, map: pcs.yaml, asset: bess1,
        timeout_s: 0.5, poll_s: 1}
  other: {protocol: modbus_tcp, host: 127.0.0.1, port: PORT, map: nowhere.yaml, asset: bess1,
        timeout_s: 0.5, poll_s: 1}
"""


MQTT_MAP = """
device: a gateway
protocol: mqtt
points:
  p_kw: {address: gateway/p, type: number, range: [-500, 500], age_s_max: 5}
"""
MQTT_SITE = """
bess: {bess1: {}}
connections:
  gateway: {protocol: mqtt, host: 127.0.0.1, port: PORT, map: m.yaml, asset: bess1, timeout_s: 2, poll_s: 1,
            mqtt: {protection: plain, client_id: ems-site, status_topic: status/ems}}
"""


def site(folder: Path, port: int) -> str:
    (folder / "pcs.yaml").write_text(MAP)
    (folder / "site.yaml").write_text(SITE.replace("PORT", str(port)))
    return str(folder / "site.yaml")


async def read(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    configure(parser)
    return await asyncio.to_thread(run, parser.parse_args(arguments))


async def test_read_shows_registers_values_and_what_was_refused_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    async with RegisterDevice() as device:
        device.put("input", 10, (0xFF85, 0xFFFF))  # -123, low word first
        device.put("holding", 20, (1500,))
        assert await read(site(tmp_path, device.port), "pcs", "--wait", "0.1") == 1
        assert device.writes == 0
        out = capsys.readouterr().out
        rows = {line.split()[0]: line for line in out.splitlines()}
        assert rows["pcs:"] == f"pcs: modbus_tcp 127.0.0.1:{device.port} unit 1"
        assert "12.3 kW  good" in rows["bess1.p_kw"]
        assert "input 10 s32, low word first, x -0.1  [FF85 FFFF]" in rows["bess1.p_kw"]
        assert "[05DC]" in rows["bess1.soc"]
        assert "good" not in rows["bess1.soc"]
        assert "exception 2 (illegal data address)" in rows["bess1.state"]
        device.put("holding", 20, (500,))
        device.put("holding", 30, (1,))
        assert await read(site(tmp_path, device.port), "pcs") == 0


async def test_read_of_a_device_that_is_not_there_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    port = free_port()
    assert await read(site(tmp_path, port), "pcs", "--wait", "0.1") == 1
    out = capsys.readouterr().out
    assert f"pcs: modbus_tcp 127.0.0.1:{port} unit 1, cannot connect" in out
    assert "comm_failed" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pcz"], ["connections.pcz: found no such connection; allowed: pcs, other", "did you mean 'pcs'?"]),
        (["other"], ["nowhere.yaml"]),
        ([], ["nowhere.yaml"]),
        (["pcs", "--wait", "0"], ["--wait: found 0; allowed: more than 0, up to 3600 s"]),
    ],
)
def test_read_refuses_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: list[str]
):
    assert main(["read", site(tmp_path, 1502), *arguments]) == 2
    err = capsys.readouterr().err
    assert all(t in err for t in told), err
    assert "hierarchy" not in err  # what else is missing in the file is not the question


def test_read_of_one_device_does_not_ask_for_what_another_one_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Points of a battery that stand in the other map, or in none yet."""
    path = Path(site(tmp_path, free_port()))
    text = path.read_text()
    path.write_text(text.replace("nowhere.yaml", "other.yaml"))
    (tmp_path / "other.yaml").write_text(
        MAP.replace("p_kw", "q_kvar").replace("soc", "temp_degc").replace("  state:", "  v_pu:")
    )
    assert main(["read", str(path), "pcs", "--wait", "0.1"]) == 1
    assert "cannot connect" in capsys.readouterr().out


def test_connections_that_are_a_list_are_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "site.yaml").write_text("connections: [1, 2]\n")
    for command, code in (("read", 2), ("check", 1)):
        assert main([command, str(tmp_path)]) == code
        said = "".join(capsys.readouterr())
        assert "connections: found a list; allowed: a mapping of names to entries" in said, command


def test_read_of_a_file_without_devices_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "site.yaml").write_text("bess: {bess1: {}}\n")
    assert main(["read", str(tmp_path)]) == 2
    assert "connections: found no connection; allowed: at least one device" in capsys.readouterr().err


@pytest.mark.needs_server
async def test_read_of_a_broker_leaves_the_ems_its_place(
    require_program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Another client id: a broker ends the elder of two connections of one name, and tells its last will."""
    program = require_program("mosquitto")
    port = free_port()
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type all\n")
    log = (tmp_path / "log").open("w")
    broker = subprocess.Popen([program, "-c", str(conf)], stdout=log, stderr=log)
    try:
        while not (tmp_path / "log").read_text().count("running"):
            await asyncio.sleep(0.02)
        (tmp_path / "m.yaml").write_text(MQTT_MAP)
        (tmp_path / "site.yaml").write_text(MQTT_SITE.replace("PORT", str(port)))
        assert await read(str(tmp_path), "--wait", "0.5") == 1
    finally:
        broker.kill()
        broker.wait()
        log.close()
    said = (tmp_path / "log").read_text()
    assert "ems-read-" in said
    assert "as ems-site" not in said
    assert "status/ems" not in said
