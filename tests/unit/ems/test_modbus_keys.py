"""What a Modbus device takes, as its map, its family and a site file say it."""

import re
from pathlib import Path

import pytest

from cli.runbook_wire import map_sections
from ems.errors import ConfigError
from ems.modbus import ModbusTerms
from ems.site import Connection, Devices
from ems.site_schema import load_devices
from ems.site_schema.checks_family import check_family_file

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "connectors.md").read_text().partition("## What a Modbus device takes")[2]
(BLOCK, *_) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
MAP = """\
device: one
protocol: {protocol}
{more}points:
  p_kw: {{address: 100, table: holding, type: s16, range: [-1000, 1000], age_s_max: 3}}
  p_set_kw: {{address: 105, table: holding, type: s16, range: [-500, 500], age_s_max: 3, writable: true}}
"""
TCP = "protocol: modbus_tcp, host: 127.0.0.1, port: 502, "
POLLED = "poll_s: 1, timeout_s: 500 ms, asset: bess1"


def devices(folder: Path, of_map: str = "", of_site: str = "", where: str = TCP) -> Devices:
    protocol = where.partition(",")[0].removeprefix("protocol: ")
    (folder / "one.yaml").write_text(MAP.format(protocol=protocol, more=of_map))
    block = f", {of_site}" if of_site else ""
    rows = f"connections:\n  one: {{{where}{POLLED}, map: one.yaml{block}}}\n"
    (folder / "site.yaml").write_text(f"bess: {{bess1: {{}}}}\n{rows}")
    return load_devices(folder / "site.yaml", [])


def read(folder: Path, of_map: str = "", of_site: str = "") -> Connection:
    (one,) = devices(folder, of_map, of_site).connections
    return one


def refused(folder: Path, of_map: str = "", of_site: str = "", where: str = TCP) -> str:
    with pytest.raises(ConfigError) as caught:
        devices(folder, of_map, of_site, where)
    return "\n".join(str(p) for p in caught.value.problems)


def test_nothing_said_is_what_the_protocol_allows(tmp_path):
    assert read(tmp_path).modbus == ModbusTerms()
    assert ModbusTerms() == ModbusTerms(registers_max=125, holes_max=8, pause_s=0.0, write_with=6)


def test_example_of_the_page_is_said_by_map_or_site(tmp_path):
    said = ModbusTerms(registers_max=32, holes_max=0, pause_s=0.05, write_with=16)
    assert read(tmp_path, BLOCK).modbus == said
    assert read(tmp_path, of_site=BLOCK.strip()).modbus == said


def test_site_says_what_is_different_on_its_device(tmp_path):
    one = read(tmp_path, "modbus: {registers_max: 32, pause_s: 20 ms}\n", "modbus: {pause_s: 0}")
    assert one.modbus == ModbusTerms(registers_max=32)


@pytest.mark.parametrize(
    ("block", "key", "allowed"),
    [
        ("modbus: {registers_max: 3}", "modbus.registers_max", "4"),
        ("modbus: {registers_max: 126}", "modbus.registers_max", "125"),
        ("modbus: {holes_max: -1}", "modbus.holes_max", "0"),
        ("modbus: {pause_s: 2}", "modbus.pause_s", "1"),
        ("modbus: {write_with: 15}", "modbus.write_with", "6"),
        ("modbus: {function: 16}", "modbus.function", "write_with"),
    ],
)
def test_numbers_that_no_device_has_are_refused_by_key(tmp_path, block, key, allowed):
    for text in (refused(tmp_path, of_site=block), refused(tmp_path, of_map=f"{block}\n")):
        assert key in text
        assert allowed in text


def test_identity_that_is_longer_than_a_read_is_refused(tmp_path):
    identity = "identity:\n  serial: {address: 0, type: string, length: 16}\n"
    text = refused(tmp_path, identity, "modbus: {registers_max: 8}")
    assert "an identity of 16 registers" in text
    assert read(tmp_path, identity, "modbus: {registers_max: 16}").identity[0].length == 16


def test_identity_that_cannot_be_read_is_refused_by_key(tmp_path):
    """It was a traceback."""
    text = refused(tmp_path, "identity:\n  serial: {address: 0, type: string, length: 65}\n")
    assert "one.yaml:4: identity.serial.length" in text


def test_other_protocols_have_no_such_block(tmp_path):
    text = refused(tmp_path, of_site="modbus: {pause_s: 1}", where="protocol: bacnet, host: 127.0.0.1, ")
    assert "no modbus with bacnet" in text


def test_models_of_sunspec_say_where_registers_lie(tmp_path):
    where = TCP.replace("modbus_tcp", "sunspec")
    text = refused(tmp_path, of_site="modbus: {registers_max: 64, holes_max: 0, write_with: 16}", where=where)
    assert "modbus.holes_max" in text
    assert "modbus.write_with" in text
    assert "modbus.registers_max" not in text


def test_family_says_it_for_all_of_its_kind(tmp_path):
    family = "family: acme\nmaker: Acme\nassets: [bess]\nsource: {document: a, where: b, unverified: c}\n"
    body = family + MAP.format(protocol="modbus_tcp", more=BLOCK)
    path = tmp_path / "acme.yaml"
    path.write_text(body)
    assert check_family_file(path) == []
    path.write_text(body.replace("modbus_tcp", "opc_ua"))
    assert any(p.key == "modbus" for p in check_family_file(path))


def test_runbook_tells_the_requests_as_they_are_sent(tmp_path):
    text = "\n".join(map_sections(devices(tmp_path, BLOCK)))
    assert "One poll, unit 1, 0.05 s apart: function 3, 1 from 100; function 3, 1 from 105." in text
    assert "function 16" in text
    plain = "\n".join(map_sections(devices(tmp_path)))
    assert "One poll, unit 1: function 3, 6 from 100." in plain
