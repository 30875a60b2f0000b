"""Site keys of J1939 connections and rows of their maps; the example of docs/j1939.md."""

import re
from pathlib import Path

import pytest

from cli.check import protection
from cli.runbook_wire import map_sections, wire_section
from connectors.map_check import check_point_maps
from ems.errors import ConfigError
from ems.points import ENGINE_POINTS
from ems.site import Connection, Protocol
from ems.site_schema import load_devices, load_site

ROOT = Path(__file__).parents[3]
BROKEN = Path(__file__).parent / "broken_sites"
CONNECTION, ROWS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "j1939.md").read_text(), re.DOTALL)
P = "protocol: j1939"
CAN = "can: {interface: can0, source: 0}"
REQUEST = "run_request: {address: 61444/1, type: u8, range: [0, 1], age_s_max: 5}"


def devices(folder: Path, connection: str = CONNECTION, rows: str = ROWS) -> tuple[Connection, ...]:
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "engine_j1939.yaml").write_text(rows)
    (folder / "site.yaml").write_text(f"gensets: {{gen1: {{}}, gen2: {{}}}}\n{connection}")
    return load_devices(folder / "site.yaml", []).connections


def problem(folder: Path, connection: str = CONNECTION, rows: str = ROWS) -> str:
    with pytest.raises(ConfigError) as caught:
        devices(folder, connection, rows)
    return "\n".join(str(p) for p in caught.value.problems)


def test_example_of_the_page_is_a_device(tmp_path):
    (one,) = devices(tmp_path)
    assert one.can is not None
    assert (one.protocol, one.host, one.can.interface, one.can.source) == (Protocol.J1939, "", "can0", 0)
    power = next(p for p in one.points if p.point == "gen1.p_kw")
    assert (power.scale, power.offset, power.table) == (0.001, -2e6, "pgn")
    assert check_point_maps([one]) == []


def test_serial_adapter_has_a_bit_rate(tmp_path):
    told = "can: {serial: /dev/ttyACM0, bitrate: 500000, source: 17, name: 0x1122334455667788, "
    told += "periods: {65280: 500 ms}}"
    (one,) = devices(tmp_path, CONNECTION.replace(CAN, told))
    assert one.can is not None
    assert (one.can.where, one.can.bitrate, one.can.source) == ("/dev/ttyACM0", 500000, 17)
    assert (one.can.name, one.can.lives_s(65280)) == (0x1122334455667788, 1.5)


@pytest.mark.parametrize(
    ("old", "new", "key", "why"),
    [
        (CAN, "can: {source: 0}", "gen1_engine.can", "`interface`, or `serial`"),
        (
            CAN,
            "can: {interface: can0, serial: /dev/x, source: 0}",
            "gen1_engine.can",
            "`interface`, or `serial`",
        ),
        (CAN, "can: {interface: a/b, source: 0}", "can.interface", "the name of an interface"),
        (CAN, "can: {interface: can0, bitrate: 250000, source: 0}", "can.bitrate", "the system sets"),
        (CAN, "can: {serial: /dev/x, bitrate: 1234, source: 0}", "can.bitrate", "250000"),
        (CAN, "can: {interface: can0, source: 254}", "can.source", "253 or less"),
        (
            CAN,
            "can: {interface: can0, source: 0, periods: {EEC1: 1}}",
            "can.periods.EEC1",
            "a PGN as a number",
        ),
        (f"    {CAN}\n", "", "gen1_engine.can", "`can` with its interface"),
        (P, f"{P}\n    host: 192.0.2.1", "gen1_engine.host", "no host with j1939"),
        (P, f"{P}\n    stamps_sampled: true", "stamps_sampled", "has no stamps"),
        (P, f"{P}\n    watchdog_point: gen1.p_kw", "watchdog_point", "listened"),
    ],
)
def test_key_that_cannot_be_is_refused_where_it_stands(tmp_path, old, new, key, why):
    told = problem(tmp_path, CONNECTION.replace(old, new, 1))
    assert key in told
    assert why in told


@pytest.mark.parametrize(
    ("old", "new", "key", "why"),
    [
        ("61444/4 [190]", "EEC1/4", "speed_rpm.address", "not PGN/BYTE"),
        ("61444/4 [190]", "65280/4", "speed_rpm.address", "whose period is known"),
        ('"61444/4 [190]"', "61444", "speed_rpm.address", "PGN and byte"),
        ("type: u16", "type: s16", "speed_rpm.type", "u16"),
        ("type: u16", "table: input, type: u16", "speed_rpm.table", "nothing with j1939"),
        ("type: u16", "byte_order: big, type: u16", "speed_rpm.byte_order", "nothing with j1939"),
        ("type: u16", "writable: true, type: u16", "speed_rpm.writable", "by its controller"),
        ("points:", f"points:\n  {REQUEST}", "run_request", "by its controller"),
        ("65262/1 [110]", "61444/4 [190]", "coolant_degc.address", "again"),
        ("points:", "identity:\n  model: {address: a}\npoints:", "identity", "`name` under `can`"),
    ],
)  # fmt: skip
def test_row_that_cannot_be_is_refused_at_its_key(tmp_path, old, new, key, why):
    told = problem(tmp_path, rows=ROWS.replace(old, new, 1))
    assert key in told
    assert why in told


def test_two_connections_to_one_sender_are_refused_and_to_two_senders_are_not(tmp_path):
    body = CONNECTION.partition("  gen1_engine:\n")[2]
    other = body.replace("asset: gen1", "asset: gen2")
    told = problem(tmp_path, f"{CONNECTION}  gen2_engine:\n{other}")
    assert "another sender than that of 'gen1_engine'" in told
    assert (
        len(devices(tmp_path, f"{CONNECTION}  gen2_engine:\n{other.replace('source: 0', 'source: 1')}")) == 2
    )


def test_family_is_a_device_of_a_site(tmp_path):
    told = CONNECTION.replace(
        "map: maps/engine_j1939.yaml", "family: j1939_genset\n    settings: {tank_l: 800 L, v_ll_v: 400 V}"
    )
    (one,) = devices(tmp_path, told)
    assert {p.point.partition(".")[2] for p in one.points} == ENGINE_POINTS - {"breaker_closed"} | {
        "p_kw",
        "run_h",
        "fuel_l",
    }
    assert check_point_maps([one]) == []


def test_check_and_runbook_say_what_is_listened_to(tmp_path):
    text = (BROKEN / "good.yaml").read_text()
    rows = re.sub(r"  (p_kw|fuel_l):.*\n", "", ROWS)
    mine = CONNECTION.partition("connections:\n")[2]
    (tmp_path / "site.yaml").write_text(text.replace("\nconnections:\n", f"\nconnections:\n{mine}", 1))
    (tmp_path / "maps").mkdir()
    for file in (BROKEN / "maps").glob("*.yaml"):
        (tmp_path / "maps" / file.name).write_text(file.read_text())
    (tmp_path / "maps" / "engine_j1939.yaml").write_text(rows)
    site = load_site(tmp_path / "site.yaml")
    assert "gen1_engine: PLAIN: whoever is on the cable of can0" in "\n".join(protection(site))
    book = "\n".join([*wire_section(site), *map_sections(site)])
    assert "can0, source 0" in book
    assert re.search(r"gen1.oil_kpa.*65263/4 \[100\]`.*u8", book)
    assert "oil_kpa" in site.read_names()["gen1"]
    assert "battery_v" not in site.read_names()["gen1"]
