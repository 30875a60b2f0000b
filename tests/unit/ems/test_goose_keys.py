"""Site keys of GOOSE connections and rows of their maps; the example of docs/goose.md."""

import re
from pathlib import Path

import pytest

from cli.check import protection
from cli.runbook_wire import map_sections, wire_section
from connectors.map_check import check_point_maps
from ems.errors import ConfigError
from ems.site import Connection, Protocol
from ems.site_schema import load_devices, load_site

ROOT = Path(__file__).parents[3]
BROKEN = Path(__file__).parent / "broken_sites"
CONNECTION, ROWS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "goose.md").read_text(), re.DOTALL)

P = "protocol: goose"


def devices(folder: Path, connection: str = CONNECTION, rows: str = ROWS) -> Connection:
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "poi_relay_goose.yaml").write_text(rows)
    (folder / "site.yaml").write_text(f"bus: {{}}\n{connection}")
    (one,) = load_devices(folder / "site.yaml", []).connections
    return one


def problem(folder: Path, connection: str = CONNECTION, rows: str = ROWS) -> str:
    with pytest.raises(ConfigError) as caught:
        devices(folder, connection, rows)
    return "\n".join(str(p) for p in caught.value.problems)


def test_example_of_the_page_is_a_device(tmp_path):
    one = devices(tmp_path)
    assert (one.protocol, one.host, one.port) == (Protocol.GOOSE, "", 0)
    assert one.goose is not None
    (block,) = one.goose.blocks
    assert (one.goose.interface, block.app_id, block.conf_rev, block.simulation) == ("eth1", 0x1001, 3, False)
    assert {p.table for p in one.points} == {"member"}
    assert check_point_maps([one]) == []


@pytest.mark.parametrize(
    ("old", "new", "key", "why"),
    [
        ("interface: eth1", "interface: a/b", "goose.interface", "the name of an interface"),
        ("interface: eth1", "interface: averylongnetworkname", "goose.interface", "the name of an interface"),
        ("$GO$gcbStatus", ".gcbStatus", "blocks[0].control_block", "gocbRef as the message has it"),
        ("app_id: 0x1001", "app_id: 0x10001", "blocks[0].app_id", "65535"),
        ("01:0c:cd", "00:0c:cd", "blocks[0].destination", "multicast"),
        ("01:0c:cd:01:00:01", "01:0c:cd", "blocks[0].destination", "multicast"),
        ("conf_rev: 3", "conf_rev: -1", "blocks[0].conf_rev", "0 or more"),
        ("        - RELAY1LD0/XCBR1.Pos.q [ST]\n", "", "points.contact_1.address", "no quality (q)"),
        ("XCBR1.Pos.q [ST]", "XCBR1.Pos.q", "blocks[0].members[1]", "no functional constraint"),
        ("XCBR1.Pos.stVal", "XCBR1.Loc.stVal", "contact_1.address", "no control block of this"),
        ("protocol: goose", "protocol: goose\n    host: 192.0.2.1", "poi_relay.host", "no host with goose"),
        ("protocol: goose", "protocol: goose\n    port: 102", "poi_relay.port", "no port with goose"),
        ("protocol: goose", "protocol: goose\n    tls: {}", "poi_relay.tls", "no tls with goose"),
        ("protocol: goose", "protocol: goose\n    originator: bay", "poi_relay.originator", "no originator"),
        (P, f"{P}\n    watchdog_point: bus.contact_1", "watchdog_point", "listened"),
        (P, f"{P}\n    stamps_sampled: true", "stamps_sampled", "those of changes"),
        ("asset: bus", "asset: relay", "poi_relay.asset", "an asset of this site"),
    ],
)  # fmt: skip
def test_key_that_cannot_be_is_refused_where_it_stands(tmp_path, old, new, key, why):
    told = problem(tmp_path, connection=CONNECTION.replace(old, new, 1))
    assert key in told
    assert why in told


@pytest.mark.parametrize(
    ("old", "new", "key", "why"),
    [
        ("type: Dbpos", "type: Double", "contact_1.type", "Dbpos"),
        ("type: Dbpos", "table: node, type: Dbpos", "contact_1.table", "nothing with goose"),
        ("type: Dbpos", "value: /a, type: Dbpos", "contact_1.value", "no value with goose"),
        ("type: Dbpos", "writable: true, type: Dbpos", "contact_1.writable", "nothing is published"),
        ('"RELAY1LD0/XCBR1.Pos.stVal [ST]"', "7", "contact_1.address", "a member of a data set"),
        ("GGIO1.Ind1.stVal", "XCBR1.Pos.stVal", "emergency_stop.address", "again"),
        ("points:", "identity:\n  model: {address: a}\npoints:", "identity", "nobody is asked there"),
        ("protocol: goose", "protocol: iec61850", "poi_relay.map", "a map for goose"),
    ],
)
def test_row_that_cannot_be_is_refused_at_its_key(tmp_path, old, new, key, why):
    told = problem(tmp_path, rows=ROWS.replace(old, new, 1))
    assert key in told
    assert why in told


def test_block_that_is_told_twice_is_refused(tmp_path):
    block = CONNECTION[CONNECTION.index("      - control_block") : CONNECTION.index("    poll_s")]
    told = problem(tmp_path, connection=CONNECTION.replace(block, block + block))
    assert "each control block once" in told
    assert "both tell it" in told


def test_goose_belongs_to_goose(tmp_path):
    assert "`goose` with its interface" in problem(
        tmp_path, re.sub(r"    goose:.*?    poll", "    poll", CONNECTION, flags=re.DOTALL)
    )
    other = CONNECTION.replace("protocol: goose", "protocol: iec61850\n    host: 192.0.2.1")
    assert "no goose with iec61850" in problem(tmp_path, connection=other)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A whole site with a relay."""
    text = (BROKEN / "good.yaml").read_text()
    mine = CONNECTION.partition("connections:\n")[2]
    (tmp_path / "site.yaml").write_text(text.replace("\nconnections:\n", f"\nconnections:\n{mine}", 1))
    (tmp_path / "maps").mkdir()
    for file in (BROKEN / "maps").glob("*.yaml"):
        (tmp_path / "maps" / file.name).write_text(file.read_text())
    (tmp_path / "maps" / "poi_relay_goose.yaml").write_text(
        ROWS.replace("contact_1", "contact_7").replace("emergency_stop", "contact_8")
    )
    return tmp_path / "site.yaml"


def test_check_and_runbook_say_what_is_listened_to_and_that_nobody_signs_it(whole):
    site = load_site(whole)
    told = "\n".join(protection(site))
    assert "poi_relay: PLAIN: whoever is on the network of eth1 can show us false values" in told
    assert "SIMULATED" not in told
    book = "\n".join([*wire_section(site), *map_sections(site)])
    assert (
        "RELAY1LD0/LLN0$GO$gcbStatus`, APPID 0x1001, 01:0c:cd:01:00:01, confRev 3, goID `poi_status`" in book
    )
    assert re.search(r"bus.contact_8.*Ind1.stVal \[ST\]`.*BOOLEAN", book)
    text = whole.read_text()
    whole.write_text(text.replace("conf_rev: 3", "conf_rev: 3\n        simulation: true"))
    told = "\n".join(protection(load_site(whole)))
    assert "SIMULATED messages of RELAY1LD0/LLN0$GO$gcbStatus are taken for real" in told
