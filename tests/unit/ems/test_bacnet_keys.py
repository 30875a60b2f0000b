"""Site keys of BACnet connections and rows of their maps; the example of docs/bacnet.md."""

import re
from argparse import Namespace
from pathlib import Path

import pytest

from cli.check import protection
from cli.check import run as check
from cli.runbook_wire import _row, _where
from connectors.map_check import check_point_maps
from connectors.point_map import point_codecs
from connectors.stores.permit import _plain
from ems.bacnet import Bacnet, parse_identity, parse_place
from ems.errors import BadValue, ConfigError
from ems.site import Connection, Protocol, Site
from ems.site_schema import load_devices, load_site
from ems.site_schema.families import family_text, read_family, shipped_folder

ROOT = Path(__file__).parents[3]
BROKEN = ROOT / "tests" / "unit" / "ems" / "broken_sites"
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "bacnet.md").read_text(), re.DOTALL)
POINT = '{address: "analog-input,3", type: real, range: [0, 1], age_s_max: 3}'  # fmt: skip
SET = '{address: "analog-output,5", type: real, range: [0, 1], age_s_max: 3, writable: true}'  # fmt: skip
IN, OUT = "analog-input,3", "analog-output,5"
KEYS = "{device: 1201, priority: 10}"


def devices(folder: Path, connection: str, rows: str) -> Connection:
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "bess_bacnet.yaml").write_text(rows)
    (folder / "site.yaml").write_text(f"bess: {{bess1: {{}}}}\n{connection}")
    (one,) = load_devices(folder / "site.yaml", []).connections
    return one


def problem(folder: Path, point: str, name: str = "p_kw", more: str = "", keys: str = KEYS) -> str:
    rows = f"device: one\nprotocol: bacnet\npoints:\n  {name}: {point}\n"
    with pytest.raises(ConfigError) as caught:
        devices(folder, BLOCKS[0].replace(KEYS, keys) + more, rows)
    return "\n".join(str(p) for p in caught.value.problems)


def test_example_of_the_page_is_a_device(tmp_path):
    one = devices(tmp_path, *BLOCKS)
    assert (one.protocol, one.port, one.bacnet) == (Protocol.BACNET, 47808, Bacnet(device=1201))
    assert {p.table for p in one.points} == {"object"}
    assert [(f.name, f.address, f.expected) for f in one.identity] == [
        ("manufacturer", "vendor-name", "Example Power"), ("model", "model-name", None),
        ("firmware", "firmware-revision", None), ("serial", "serial-number", None),
    ]  # fmt: skip
    assert check_point_maps([one]) == []


def test_every_key_reaches_the_connection_and_the_runbook(tmp_path):
    keys = (
        '{device: 77, bind: "192.0.2.9:47809", priority: 6, priority_is: minimum_on_off, network: 2001, '
        'mac: "0c", pause_s: 0.1}'
    )
    one = devices(tmp_path, BLOCKS[0].replace(KEYS, keys), BLOCKS[1])
    assert one.bacnet == Bacnet(
        device=77, bind="192.0.2.9:47809", priority=6, priority_is="minimum_on_off", network=2001, mac="0c",
        pause_s=0.1,
    )  # fmt: skip
    where = "192.0.2.51:47808, network 2001 address 0c, device 77, from 192.0.2.9:47809"
    assert _where(one) == where
    codecs = point_codecs(one)
    how = {p.point: _row(one, p, codecs[p.point])[-1] for p in one.points}
    assert how["bess1.p_set_kw"] == "priority 8"
    assert how["bess1.p_kw"] == "–"


@pytest.mark.parametrize(
    ("name", "point", "key", "why"),
    [
        ("p_kw", POINT.replace(IN, "AI3"), "address", "OBJECT-TYPE,INSTANCE"),
        ("p_kw", POINT.replace('"analog-input,3"', "7"), "address", "object type and instance"),
        (
            "p_kw",
            POINT.replace(IN, "analog-inputs,3"),
            "address",
            "object type 'analog-inputs'",
        ),
        ("p_kw", POINT.replace(IN, "analog-input,4194303"), "address", "0 to 4194302"),
        ("p_kw", POINT.replace(IN, "analog-input,3,no-such"), "address", "property 'no-such'"),
        ("p_kw", POINT.replace(IN, "device,3"), "address", "no present-value"),
        ("p_kw", POINT.replace(IN, "analog-input,3 [priority 8]"), "address", "no brackets"),
        ("p_kw", POINT.replace("real", "Float"), "type", "real"),
        ("p_kw", POINT.replace("real", "double"), "type", "real with present-value of analog-input"),
        (
            "p_kw",
            POINT.replace("analog-input", "binary-input"),
            "type",
            "bit with present-value",
        ),
        ("p_kw", POINT.replace("type:", "table: node, type:"), "table", "nothing with bacnet"),
        ("p_kw", POINT.replace("type:", "word_order: big, type:"), "word_order", "nothing with bacnet"),
        ("p_kw", POINT.replace("type:", "value: /a, type:"), "value", "no value with bacnet"),
        (
            "p_set_kw",
            SET.replace(OUT, "analog-input,5"),
            "address",
            "is writable",
        ),
        ("p_set_kw", SET.replace(OUT, f"{OUT},high-limit"), "address", "writable"),
        ("p_set_kw", SET.replace(OUT, f"{OUT} [priority 17]"), "address", "1 to 16"),
        ("p_set_kw", SET.replace(OUT, f"{OUT} [release]"), "address", "priority 8"),
        (
            "p_set_kw",
            SET.replace(OUT, f"{OUT} [priority 1]"),
            "address",
            "manual_life",
        ),
        (
            "p_set_kw",
            SET.replace(OUT, f"{OUT} [priority 2]"),
            "address",
            "automatic_life",
        ),
        (
            "p_set_kw",
            SET.replace(OUT, f"{OUT} [priority 6]"),
            "address",
            "minimum_on_off",
        ),
        ("state", POINT.replace("real", "real, codes: {0: 0}"), "codes", "only with integer types"),
    ],
)
def test_row_that_cannot_be_is_refused_at_its_key(tmp_path, name, point, key, why):
    told = problem(tmp_path, point, name)
    assert f"points.{name}.{key}" in told
    assert why in told


@pytest.mark.parametrize(
    ("keys", "where", "why"),
    [
        ("{}", "bacnet.device", ""),
        ("{device: 4194303}", "bacnet.device", "4194302"),
        ("{device: 1, priority: 0}", "bacnet.priority", "1"),
        ("{device: 1, priority: 17}", "bacnet.priority", "16"),
        ("{device: 1, priority: 1}", "bacnet.priority", "kept for manual_life_safety"),
        ("{device: 1, priority: 6, priority_is: automatic_life_safety}", "bacnet.priority", "minimum_on_off"),
        ("{device: 1, priority_is: minimum_on_off}", "bacnet.priority_is", "no setpoint has that priority"),
        ("{device: 1, priority_is: fire}", "bacnet.priority_is", "manual_life_safety"),
        ("{device: 1, network: 5}", "bacnet", "both for a device behind a router"),
        ("{device: 1, network: 5, mac: xy}", "bacnet.mac", "hexadecimal"),
        ("{device: 1, bind: 'a b'}", "bacnet.bind", "HOST:PORT"),
        ("{device: 1, bind: '192.0.2.9:99999'}", "bacnet.bind", "HOST:PORT"),
        ("{device: 1, pause_s: -1}", "bacnet.pause_s", ""),
        ("{device: 1, instance: 2}", "bacnet.instance", ""),
    ],
)
def test_keys_of_a_device_that_cannot_be_are_refused(tmp_path, keys, where, why):
    told = problem(tmp_path, POINT, keys=keys)
    assert where in told
    assert why in told


@pytest.mark.parametrize("priority", [3, 4, 5, 7, 8, 16])
def test_other_priorities_need_no_word(tmp_path, priority):
    one = devices(tmp_path, BLOCKS[0].replace("10}", f"{priority}}}"), BLOCKS[1])
    assert one.bacnet == Bacnet(device=1201, priority=priority)


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
        ("    dnp3: {outstation: 1}\n", "dnp3"),
    ],
)
def test_keys_of_others_are_refused(tmp_path, more, key):
    assert f"connections.store_controller.{key}" in problem(tmp_path, POINT, more=more)


def test_connection_without_device_is_refused_and_a_device_with_another_protocol(tmp_path):
    bare = BLOCKS[0].replace(f"    bacnet: {KEYS}\n", "")
    with pytest.raises(ConfigError, match=r"store_controller\.bacnet"):
        devices(tmp_path, bare, BLOCKS[1])
    with pytest.raises(ConfigError, match="no bacnet with iec61850"):
        devices(
            tmp_path, BLOCKS[0].replace("protocol: bacnet", "protocol: iec61850"),
            BLOCKS[1].replace("protocol: bacnet", "protocol: iec61850"),
        )  # fmt: skip


def test_two_connections_do_not_share_a_port_of_ours(tmp_path):
    first = BLOCKS[0].replace(KEYS, '{device: 1, bind: "192.0.2.9:47809"}')
    second = first.partition("connections:\n")[2].replace("store_controller", "meter")
    second = second.replace("device: 1,", "device: 2,").replace("192.0.2.51", "192.0.2.52")
    second = second.replace("bess1", "grid1").replace("bess_bacnet", "meter")
    (tmp_path / "maps").mkdir()
    for name in ("bess_bacnet", "meter"):
        rows = f"device: one\nprotocol: bacnet\npoints:\n  p_kw: {POINT}\n"
        (tmp_path / "maps" / f"{name}.yaml").write_text(rows)
    text = f"bess: {{bess1: {{}}}}\ngrid: {{id: grid1}}\n{first}{second}"
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(ConfigError, match="the port of 'store_controller' again"):
        load_devices(tmp_path / "site.yaml", [])
    (tmp_path / "site.yaml").write_text(text.replace("9:47809", "9", 1))
    assert len(load_devices(tmp_path / "site.yaml", []).connections) == 2


def test_two_points_that_command_one_object_are_refused(tmp_path):
    again = SET.replace(OUT, f"{OUT} [priority 9]")
    told = problem(tmp_path, f"{SET}\n  q_set_kvar: {again}", "p_set_kw")
    assert "the object of 'bess1.p_set_kw' again" in told


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("serial: {address: 7}", "address"),
        ("serial: {address: serial}", "address"),
        ("model: {address: model-name, type: u16}", "type"),
        ("model: {address: model-name, length: 4}", "length"),
    ],
)
def test_identity_that_cannot_be_read_is_refused(tmp_path, line, key):
    told = problem(tmp_path, f"{POINT}\nidentity:\n  {line}")
    assert re.search(rf"identity\.(serial|model)\.{key}", told)


def test_places_are_read_as_they_are_written():
    place = parse_place("binary-output,2 [priority 8]")
    assert (place.object_type, place.instance, place.property_id) == (4, 2, 85)
    assert place.priority == 8
    assert parse_place("analog-input,1,high-limit").property_id == 45
    assert parse_place("analog-input,1,1000").property_id == 1000
    assert parse_identity("model-name").property_id == 70
    assert parse_identity("characterstring-value,3").object_type == 40
    for text in ("analog-input", "analog-input,", ",1", "analog-input,1,", "analog-input,1 []", "device,-1"):
        with pytest.raises(BadValue):
            parse_place(text)


def test_family_printed_and_read_again_is_the_same(tmp_path):
    document, form = read_family(shipped_folder() / "accuenergy_acuvim2.yaml")
    assert not document.problems
    assert form is not None
    (tmp_path / "accuenergy_acuvim2.yaml").write_text(family_text(form))
    assert read_family(tmp_path / "accuenergy_acuvim2.yaml")[1] == form


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A whole site whose meter speaks BACnet."""
    text = (BROKEN / "good.yaml").read_text()
    before = "    protocol: opc_ua\n    host: 127.0.0.1\n    port: 48401\n    endpoint: /meter\n"
    assert text.count(before) == 1
    after = "    protocol: bacnet\n    host: 192.0.2.51\n    bacnet: {device: 7}\n"
    (tmp_path / "site.yaml").write_text(text.replace(before, after))
    count = iter(range(100))
    (tmp_path / "maps").mkdir()
    for file in (BROKEN / "maps").glob("*.yaml"):
        rows = file.read_text()
        if file.name == "meter.yaml":
            for kind, where in (
                ("binary-output", ".*writable"),
                ("binary-input", ".*Boolean"),
                ("analog-input", ""),
            ):
                for found in re.findall(rf'"nsu=urn:x;s=\w+", (?={where})', rows):
                    rows = rows.replace(found, f'"{kind},{next(count)}", ', 1)
            for ours, theirs in (("Double", "real"), ("Float", "real"), ("Boolean", "bit")):
                rows = rows.replace(f"type: {ours}", f"type: {theirs}")
            rows = rows.replace("protocol: opc_ua", "protocol: bacnet")
        (tmp_path / "maps" / file.name).write_text(rows)
    return tmp_path / "site.yaml"


def meter(site: Site) -> Connection:
    return next(c for c in site.connections if c.id == "meter")


def test_plain_bacnet_is_told(whole, capsys):
    told = "\n".join(protection(load_site(whole)))
    assert "meter: PLAIN: whoever is on its network can read and operate 192.0.2.51:47808" in told
    assert check(Namespace(site=[str(whole)], quiet=True)) == 0


def test_connection_without_bacnet_is_what_was_commissioned_before(whole):
    """A key that came later must not have every plant commissioned anew."""
    site = load_site(whole)
    (other, *_) = [c for c in site.connections if c.protocol is not Protocol.BACNET]
    assert "bacnet" not in _plain(other)
    assert _plain(meter(site))["bacnet"]["device"] == 7
