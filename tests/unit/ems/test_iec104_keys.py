"""Site keys of IEC 60870-5-104 connections and rows of their maps; the example of docs/iec104.md."""

import re
from pathlib import Path

import pytest

from cli.check import protection
from cli.runbook_wire import map_sections, wire_section
from connectors.map_check import check_point_maps
from connectors.stores.permit import _plain
from ems.errors import ConfigError
from ems.iec104 import Iec104, Iec104Times
from ems.site import Connection, Protocol
from ems.site_schema import load_devices, load_site

ROOT = Path(__file__).parents[3]
BROKEN = ROOT / "tests" / "unit" / "ems" / "broken_sites"
PAGE = (ROOT / "docs" / "iec104.md").read_text().partition("## Reading a station")[2]
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
POINT = "{address: 11, type: float, range: [0, 1], age_s_max: 3}"


def devices(folder: Path, connection: str, rows: str) -> Connection:
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "rtu.yaml").write_text(rows)
    (folder / "site.yaml").write_text(f"grid: {{id: grid1}}\n{connection}")
    (one,) = load_devices(folder / "site.yaml", []).connections
    return one


def problem(folder: Path, point: str = POINT, more: str = "", keys: str = "{common_address: 47}") -> str:
    rows = f"device: one\nprotocol: iec104\npoints:\n  p_kw: {point}\n"
    connection = BLOCKS[0].replace("{common_address: 47}", keys) + more
    with pytest.raises(ConfigError) as caught:
        devices(folder, connection, rows)
    return "\n".join(str(p) for p in caught.value.problems)


def test_example_of_the_page_is_a_device(tmp_path):
    one = devices(tmp_path, *BLOCKS)
    assert (one.protocol, one.port, one.iec104) == (Protocol.IEC_104, 2404, Iec104(station=47))
    assert {p.table for p in one.points} == {"object"}
    assert check_point_maps([one]) == []


def test_every_key_reaches_the_connection(tmp_path):
    keys = (
        "{common_address: 300, originator: 5, interrogate_s: 2 s, time_zone: Europe/Berlin, k: 20, w: 10, "
        "t1_s: 30, t2_s: 5, t3_s: 60}"
    )
    more = "    tls: {server_name: rtu.example}\n"
    one = devices(tmp_path, BLOCKS[0].replace("{common_address: 47}", keys) + more, BLOCKS[1])
    assert one.iec104 == Iec104(
        station=300, originator=5, interrogate_s=2.0, time_zone="Europe/Berlin",
        times=Iec104Times(k=20, w=10, t1_s=30.0, t2_s=5.0, t3_s=60.0),
    )  # fmt: skip
    assert one.port == 19998
    assert one.tls is not None
    none = devices(tmp_path, BLOCKS[0].replace("47}", "47, time_zone: none}"), BLOCKS[1])
    assert none.iec104 == Iec104(station=47, time_zone=None)


@pytest.mark.parametrize(
    ("point", "key", "why"),
    [
        (POINT.replace("11", "0"), "address", "1 to 16777215"),
        (POINT.replace("11", "g30/1"), "address", "1 to 16777215"),
        (POINT.replace("float", "f32"), "type", "float"),
        (POINT.replace("type:", "table: node, type:"), "table", "nothing with iec104"),
        (POINT.replace("3}", "3, writable: true}"), "writable", "read alone"),
    ],
)
def test_row_that_is_none_is_refused(tmp_path, point, key, why):
    text = problem(tmp_path, point)
    assert f"points.p_kw.{key}" in text
    assert why in text


@pytest.mark.parametrize(
    ("keys", "more", "key", "why"),
    [
        ("{}", "", "iec104.common_address", ""),
        ("{common_address: 65535}", "", "iec104.common_address", "65534"),
        ("{common_address: 1, t2_s: 15}", "", "iec104.t2_s", "less than t1_s"),
        ("{common_address: 1, k: 2}", "", "iec104.w", "k, 2"),
        ("{common_address: 1, time_zone: Mars/Base}", "", "iec104.time_zone", "a time zone"),
        ("{common_address: 1, interrogate_s: 60}", "", "age_s_max", "60"),
        ("{common_address: 1}", "    watchdog_point: grid1.p_kw\n", "watchdog_point", "read alone"),
        ("{common_address: 1}", "    stamps_sampled: true\n", "stamps_sampled", "left out with iec104"),
        ("{common_address: 1}", "    dnp3: {outstation: 1}\n", "dnp3", "no dnp3 with iec104"),
    ],
)
def test_what_contradicts_itself_is_named(tmp_path, keys, more, key, why):
    text = problem(tmp_path, more=more, keys=keys)
    assert key in text
    assert why in text


def test_station_must_be_named_and_identifies_itself_in_no_way(tmp_path):
    with pytest.raises(ConfigError, match="that of the station"):
        devices(tmp_path, BLOCKS[0].replace("    iec104: {common_address: 47}\n", ""), BLOCKS[1])
    rows = BLOCKS[1].replace("points:", "identity:\n  model: {address: 5}\npoints:")
    with pytest.raises(ConfigError, match="does not say what it is"):
        devices(tmp_path, BLOCKS[0], rows)


def test_other_protocols_take_no_station(tmp_path):
    (tmp_path / "maps").symlink_to(BROKEN / "maps")
    text = (BROKEN / "good.yaml").read_text()
    before = "protocol: modbus_tcp"
    assert before in text
    (tmp_path / "site.yaml").write_text(
        text.replace(before, f"{before}\n    iec104: {{common_address: 1}}", 1)
    )
    with pytest.raises(ConfigError, match="no iec104 with modbus_tcp"):
        load_site(tmp_path / "site.yaml")


def test_check_and_runbook_say_that_it_is_plain_and_whose_time_counts(tmp_path):
    (tmp_path / "maps").mkdir()
    for file in (BROKEN / "maps").iterdir():
        (tmp_path / "maps" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "maps" / "rtu.yaml").write_text(
        BLOCKS[1].split("points:")[0] + "points:\n  import_kwh: " + POINT + "\n"
    )
    text = (BROKEN / "good.yaml").read_text()
    connection = BLOCKS[0].partition("\n")[2]
    (tmp_path / "site.yaml").write_text(text.replace("connections:\n", f"connections:\n{connection}", 1))
    site = load_site(tmp_path / "site.yaml")
    assert any(line.startswith("rtu: PLAIN") for line in protection(site))
    book = "\n".join([*wire_section(site), *map_sections(site)])
    assert "192.0.2.71:2404, common address 47" in book
    assert "that of the last change (UTC); everything asked at each poll; ages by arrival" in book


def test_records_of_commissioning_made_before_there_was_this_still_hold():
    site = load_site(BROKEN / "good.yaml")
    assert all("iec104" not in _plain(c) for c in site.connections)
