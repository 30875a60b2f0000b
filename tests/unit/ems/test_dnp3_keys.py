"""Site keys of DNP3 connections and rows of their maps; the example of docs/dnp3.md."""

import re
from argparse import Namespace
from pathlib import Path

import pytest

from cli.check import protection
from cli.check import run as check
from cli.runbook_wire import map_sections
from connectors.map_check import check_point_maps
from connectors.stores.permit import _plain
from ems.dnp3 import Dnp3
from ems.errors import ConfigError
from ems.site import Connection, Protocol, Site
from ems.site_schema import load_devices, load_site
from ems.site_schema.families import family_text, read_family, shipped_folder

ROOT = Path(__file__).parents[3]
BROKEN = ROOT / "tests" / "unit" / "ems" / "broken_sites"
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "dnp3.md").read_text(), re.DOTALL)
POINT = '{address: g30/0, type: f32, range: [0, 1], age_s_max: 3}'  # fmt: skip
SET = '{address: g41v3/0, type: f32, range: [0, 1], age_s_max: 3, writable: true}'  # fmt: skip


def devices(folder: Path, connection: str, rows: str) -> Connection:
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "bess_dnp3.yaml").write_text(rows)
    (folder / "site.yaml").write_text(f"bess: {{bess1: {{}}}}\n{connection}")
    (one,) = load_devices(folder / "site.yaml", []).connections
    return one


def problem(
    folder: Path, point: str, name: str = "p_kw", more: str = "", keys: str = "{outstation: 10}"
) -> str:
    rows = f"device: one\nprotocol: dnp3\npoints:\n  {name}: {point}\n"
    connection = BLOCKS[0].replace("{outstation: 10, master: 1}", keys) + more
    with pytest.raises(ConfigError) as caught:
        devices(folder, connection, rows)
    return "\n".join(str(p) for p in caught.value.problems)


def test_example_of_the_page_is_a_device(tmp_path):
    one = devices(tmp_path, *BLOCKS)
    assert (one.protocol, one.port, one.dnp3) == (Protocol.DNP3, 20000, Dnp3(outstation=10, master=1))
    assert {p.table for p in one.points} == {"object"}
    assert [(f.name, f.address, f.expected) for f in one.identity] == [
        ("manufacturer", "g0v252", "Example Power"), ("serial", "g0v248", None),
    ]  # fmt: skip
    assert check_point_maps([one]) == []


def test_every_key_reaches_the_connection(tmp_path):
    keys = (
        "{outstation: 4, master: 100, static: class0, integrity_s: 2 s, operate: select, time_sync: true, "
        "events: times}"
    )
    one = devices(tmp_path, BLOCKS[0].replace("{outstation: 10, master: 1}", keys), BLOCKS[1])
    assert one.dnp3 == Dnp3(
        outstation=4,
        master=100,
        static="class0",
        integrity_s=2.0,
        operate="select",
        time_sync=True,
        events="times",
    )


@pytest.mark.parametrize(
    ("name", "point", "key", "why"),
    [
        ("p_kw", POINT.replace("g30/0", "30/0"), "address", "gGROUP/INDEX"),
        ("p_kw", POINT.replace("g30/0", "7"), "address", "group and index"),
        ("p_kw", POINT.replace("f32", "Float"), "type", "f32"),
        ("p_kw", POINT.replace("f32", "bit"), "type", "s16 s32 f32 f64 with g30/0"),
        ("p_kw", POINT.replace("type:", "table: node, type:"), "table", "nothing with dnp3"),
        ("p_kw", POINT.replace("type:", "word_order: big, type:"), "word_order", "nothing with dnp3"),
        ("p_kw", POINT.replace("type:", "value: /a, type:"), "value", "no value with dnp3"),
        ("p_kw", POINT.replace("f32", "s16").replace("[0, 1]", "[40000, 50000]"), "sign", "-32768 to 32767"),
        ("p_kw", POINT.replace("g30/0", "g41v3/0"), "address", "only read"),
        ("p_set_kw", SET.replace("g41v3/0", "g30/0"), "address", "an output"),
        ("p_set_kw", SET.replace("f32", "s32"), "type", "f32 with g41v3/0"),
        ("p_set_kw", SET.replace("g41v3/0", '"g41v3/0 [g1/7]"'), "address", "read back where"),
        ("state", POINT.replace("f32", "f32, codes: {0: 0}"), "codes", "only with integer types"),
        ("state", POINT.replace("f32", "s16, bit: 16"), "bit", "0 to 15"),
    ],
)
def test_row_that_cannot_be_is_refused_at_its_key(tmp_path, name, point, key, why):
    told = problem(tmp_path, point, name)
    assert f"points.{name}.{key}" in told
    assert why in told


@pytest.mark.parametrize(
    ("keys", "where", "why"),
    [
        ("{}", "dnp3.outstation", ""),
        ("{outstation: 65520}", "dnp3.outstation", "65519"),
        ("{outstation: 1}", "dnp3.master", "another address than the outstation's"),
        ("{outstation: 10, static: class1}", "dnp3.static", "class0"),
        ("{outstation: 10, operate: sbo}", "dnp3.operate", "select"),
        ("{outstation: 10, integrity_s: 3 s}", "points.p_kw.age_s_max", "more than integrity_s"),
        ("{outstation: 10, adress: 1}", "dnp3.adress", ""),
    ],
)
def test_keys_of_an_outstation_that_cannot_be_are_refused(tmp_path, keys, where, why):
    told = problem(tmp_path, POINT, keys=keys)
    assert where in told
    assert why in told


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("    endpoint: /x\n", "endpoint"),
        ("    security: {policy: None}\n", "security"),
        ("    updates: subscribe\n", "updates"),
        ("    mqtt: {}\n", "mqtt"),
        ("    tls: {}\n", "tls"),
        ("    stamps_sampled: true\n", "stamps_sampled"),
        ("    serial: {device: /dev/ttyS0}\n", "serial"),
        ("    originator: remote\n", "originator"),
        ("    goose: {interface: eth1, blocks: []}\n", "goose"),
    ],
)
def test_keys_of_others_are_refused(tmp_path, more, key):
    assert f"connections.bess_controller.{key}" in problem(tmp_path, POINT, more=more)


def test_connection_without_addresses_is_refused_and_addresses_with_another_protocol(tmp_path):
    bare = BLOCKS[0].replace("    dnp3: {outstation: 10, master: 1}\n", "")
    with pytest.raises(ConfigError, match=r"bess_controller\.dnp3"):
        devices(tmp_path, bare, BLOCKS[1])
    other = BLOCKS[0].replace("protocol: dnp3", "protocol: iec61850")
    with pytest.raises(ConfigError, match="no dnp3 with iec61850"):
        devices(tmp_path, other, BLOCKS[1].replace("protocol: dnp3", "protocol: iec61850"))


def test_two_points_of_one_object_are_refused_and_two_outstations_at_one_host_are_not(tmp_path):
    assert "object of 'bess1.p_kw' again" in problem(tmp_path, f"{POINT}\n  q_kvar: {POINT}")
    again = SET.replace("g41v3/0", '"g41v1/0 [g30/4]"').replace("f32", "s32")
    assert "output of 'bess1.p_set_kw' again" in problem(
        tmp_path, f"{SET}\n  q_set_kvar: {again}", "p_set_kw"
    )
    second = (
        BLOCKS[0].partition("connections:\n")[2].replace("bess_controller", "meter").replace("10,", "11,")
    )
    second = second.replace("bess1", "grid1").replace("bess_dnp3", "meter")
    rows = f"device: one\nprotocol: dnp3\npoints:\n  p_kw: {POINT}\n"
    (tmp_path / "maps").mkdir(exist_ok=True)
    (tmp_path / "maps" / "meter.yaml").write_text(rows)
    (tmp_path / "maps" / "bess_dnp3.yaml").write_text(rows)
    text = f"bess: {{bess1: {{}}}}\ngrid: {{id: grid1}}\n{BLOCKS[0]}{second}"
    (tmp_path / "site.yaml").write_text(text)
    assert len(load_devices(tmp_path / "site.yaml", []).connections) == 2
    (tmp_path / "site.yaml").write_text(text.replace("outstation: 11", "outstation: 10"))
    with pytest.raises(ConfigError, match="one writer per device"):
        load_devices(tmp_path / "site.yaml", [])


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("serial: {address: 7}", "address"),
        ("serial: {address: g30/1}", "address"),
        ("model: {address: g0v250, type: u16}", "type"),
        ("model: {address: g0v250, length: 4}", "length"),
    ],
)
def test_identity_that_cannot_be_read_is_refused(tmp_path, line, key):
    told = problem(tmp_path, f"{POINT}\nidentity:\n  {line}")
    assert re.search(rf"identity\.(serial|model)\.{key}", told)


def test_family_printed_and_read_again_is_the_same(tmp_path):
    document, form = read_family(shipped_folder() / "ieee1815_2_bess.yaml")
    assert not document.problems
    assert form is not None
    (tmp_path / "ieee1815_2_bess.yaml").write_text(family_text(form))
    assert read_family(tmp_path / "ieee1815_2_bess.yaml")[1] == form


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A whole site whose meter speaks DNP3."""
    text = (BROKEN / "good.yaml").read_text()
    before = "    protocol: opc_ua\n    host: 127.0.0.1\n    port: 48401\n    endpoint: /meter\n"
    assert text.count(before) == 1
    after = "    protocol: dnp3\n    host: 192.0.2.41\n    dnp3: {outstation: 7, operate: select}\n"
    (tmp_path / "site.yaml").write_text(text.replace(before, after))
    count = iter(range(100))
    (tmp_path / "maps").mkdir()
    for file in (BROKEN / "maps").glob("*.yaml"):
        rows = file.read_text()
        if file.name == "meter.yaml":
            rows = re.sub(r'"nsu=urn:x;s=\w+", (?=.*writable)', lambda m: f"g12v1/{next(count)}, ", rows)
            rows = re.sub(r'"nsu=urn:x;s=\w+", (?=.*Boolean)', lambda m: f"g1/{next(count)}, ", rows)
            rows = re.sub(r'"nsu=urn:x;s=\w+"', lambda m: f"g30/{next(count)}", rows)
            for ours, theirs in (("Double", "f64"), ("Float", "f32"), ("Boolean", "bit")):
                rows = rows.replace(f"type: {ours}", f"type: {theirs}")
            rows = rows.replace("protocol: opc_ua", "protocol: dnp3")
        (tmp_path / "maps" / file.name).write_text(rows)
    return tmp_path / "site.yaml"


def meter(site: Site) -> Connection:
    return next(c for c in site.connections if c.id == "meter")


def test_plain_dnp3_is_told_and_the_runbook_shows_how_it_is_written(whole, capsys):
    site = load_site(whole)
    assert meter(site).dnp3 == Dnp3(outstation=7, operate="select")
    told = "\n".join(protection(site))
    assert "meter: PLAIN: whoever is on its network can read and operate 192.0.2.41:20000" in told
    book = "\n".join(map_sections(site))
    assert re.search(r"rest.close_request.*g12v1/\d+`.*select, operate", book)
    assert check(Namespace(site=[str(whole)], quiet=True)) == 0


def test_connection_without_dnp3_is_what_was_commissioned_before(whole):
    """A key that came later must not have every plant commissioned anew."""
    site = load_site(whole)
    (other, *_) = [c for c in site.connections if c.protocol is not Protocol.DNP3]
    assert "dnp3" not in _plain(other)
    assert _plain(meter(site))["dnp3"]["outstation"] == 7
    assert "events" not in _plain(meter(site))["dnp3"]


def test_integrity_of_a_meter_comes_before_it_is_taken_for_lost(whole):
    text = whole.read_text().replace("operate: select", "integrity_s: 2.5")
    whole.write_text(text)
    with pytest.raises(ConfigError, match="would be taken for lost"):
        load_site(whole)
