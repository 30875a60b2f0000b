"""Site keys of HTTP connections and rows of their maps; the example of docs/http-json.md."""

import re
from argparse import Namespace
from pathlib import Path

import pytest

from cli.check import protection
from cli.check import run as check
from cli.runbook_wire import map_sections, wire_section
from connectors.map_check import check_point_maps
from connectors.stores.permit import _plain
from ems.errors import ConfigError
from ems.http_json import HttpJson
from ems.site import Connection, Protocol
from ems.site_schema import load_devices, load_site

ROOT = Path(__file__).parents[3]
BROKEN = ROOT / "tests" / "unit" / "ems" / "broken_sites"
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "http-json.md").read_text(), re.DOTALL)
KEYS = (
    "{protection: pinned, certificate: pki/http/battery.pem, user: ems, password_env: EMS_BATTERY_PASSWORD}"
)
POINT = "{address: /a, value: /p, type: number, range: [0, 1], age_s_max: 3}"
TEXT = "{address: /a, value: /m, type: text, codes: {On: 1}, range: [0, 3], age_s_max: 3}"


def devices(folder: Path, connection: str, rows: str) -> Connection:
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "battery_api.yaml").write_text(rows)
    (folder / "site.yaml").write_text(f"bess: {{bess1: {{}}}}\n{connection}")
    (one,) = load_devices(folder / "site.yaml", []).connections
    return one


def problem(folder: Path, rows: str, more: str = "", keys: str = KEYS) -> str:
    assert KEYS in BLOCKS[0]
    with pytest.raises(ConfigError) as caught:
        devices(
            folder, BLOCKS[0].replace(KEYS, keys) + more, f"device: one\nprotocol: http_json\npoints:\n{rows}"
        )
    return "\n".join(str(p) for p in caught.value.problems)


def test_example_of_the_page_is_a_device(tmp_path):
    one = devices(tmp_path, *BLOCKS)
    assert (one.protocol, one.port) == (Protocol.HTTP_JSON, 443)
    assert one.stamps_sampled  # a point of it tells the time of its sample
    assert one.http is not None
    assert (one.http.protection, one.http.user) == ("pinned", "ems")
    state = next(p for p in one.points if p.point == "bess1.state")
    assert state.payload is not None
    assert state.payload.words == ("Idle", "Grid", "Island", "Fault")
    assert state.codes == ((0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0))
    assert [(f.name, f.address, f.pointer) for f in one.identity] == [
        ("model", "/api/device", "/model"),
        ("serial", "/api/device", "/serial"),
    ]
    assert check_point_maps([one]) == []


def test_left_out_is_an_authority_of_our_own_and_plain_has_another_port(tmp_path):
    bare = BLOCKS[0].replace(f"    http: {KEYS}\n", "")
    one = devices(tmp_path, bare, BLOCKS[1])
    assert one.http == HttpJson(ca="pki/http/ca.pem", certificate="pki/http/device.pem")
    assert one.port == 443
    one = devices(tmp_path, BLOCKS[0].replace(KEYS, "{protection: plain}"), BLOCKS[1])
    assert one.port == 80


@pytest.mark.parametrize(
    ("name", "point", "key", "why"),
    [
        ("p_kw", POINT.replace("/a", "a"), "address", "the path of a request"),
        ("p_kw", POINT.replace("/a", "7"), "address", "the path of a request"),
        ("p_kw", POINT.replace("/a", "//other/a"), "address", "one / first"),
        ("p_kw", POINT.replace("/a", '"/a b"'), "address", "others as %20"),
        ("p_kw", POINT.replace("/a", '"/a\\r\\nX: y"'), "address", "others as %20"),
        ("p_kw", POINT.replace("/a", '"/a#b"'), "address", "others as %20"),
        ("p_kw", POINT.replace("/a", f"/{'a' * 1024}"), "address", "1024 characters"),
        ("p_kw", POINT.replace("value: /p, ", ""), "value", "JSON pointer"),
        ("p_kw", POINT.replace("/p", "p"), "value", "JSON pointer"),
        ("p_kw", POINT.replace("/p", "/~2"), "value", "JSON pointer"),
        ("p_kw", POINT.replace("number", "float"), "type", "number"),
        ("p_kw", POINT.replace("type:", "table: node, type:"), "table", "nothing with http_json"),
        ("p_kw", POINT.replace("type:", "word_order: big, type:"), "word_order", "nothing with http_json"),
        ("p_kw", POINT.replace("type:", "quality: /q, type:"), "good", "together"),
        ("p_kw", POINT.replace("type:", "time_form: s, type:"), "time_form", "`time` beside it"),
        ("p_set_kw", POINT, "writable", "read only"),
        ("p_kw", POINT.replace("type:", "writable: true, type:"), "writable", "read only"),
        ("state", TEXT.replace("codes: {On: 1}, ", ""), "codes", "the words it may tell"),
        ("state", TEXT.replace("{On: 1}", "{On: running}"), "codes", "running"),
        ("state", TEXT.replace("{On: 1}", "{On: 9}"), "codes", "inside the range"),
        ("state", TEXT.replace("type:", "bit: 1, type:"), "bit", "text"),
        ("state", TEXT.replace("type:", "scale: 2, type:"), "codes", "without them"),
        ("state", TEXT.replace("text", "number"), "codes", "only with integer types"),
        ("state", TEXT.replace("text", "integer"), "codes", "whole numbers"),
    ],
)
def test_row_that_cannot_be_is_refused_at_its_key(tmp_path, name, point, key, why):
    told = problem(tmp_path, f"  {name}: {point}\n")
    assert f"points.{name}.{key}" in told
    assert why in told


@pytest.mark.parametrize(
    ("keys", "key", "why"),
    [
        ("{protection: none}", "protection", "plain"),
        ("{protection: plain, ca: x.pem}", "ca", "nothing with protection: plain"),
        ("{protection: pinned, server_name: x}", "server_name", "nothing with protection: pinned"),
        ("{protection: system, certificate: x.pem}", "certificate", "nothing with protection: system"),
        ("{protection: plain, user: ems, password_env: X}", "password_env", "would cross the network"),
        ("{protection: plain, token_file: x}", "token_file", "would cross the network"),
        ("{user: ems}", "user", "beside it"),
        ("{password_env: X}", "password_env", "`user` beside it"),
        ("{user: ems, token_env: X}", "user", "password_env"),
        ("{user: ems, password_env: X, token_env: Y}", "token_env", "one of"),
        ('{user: "e:s", password_env: X}', "user", "without `:`"),
        ("{auth_scheme: Key}", "auth_scheme", "beside it"),
        ('{token_env: X, auth_header: "X: y"}', "auth_header", "the name of a header"),
        ("{answer_bytes_max: 0}", "answer_bytes_max", "64"),
        ('{content_type: "text/html\\r\\nX: y"}', "content_type", "a media type"),
    ],
)
def test_keys_of_a_device_that_cannot_be_are_refused(tmp_path, keys, key, why):
    told = problem(tmp_path, f"  p_kw: {POINT}\n", keys=keys)
    assert f"battery_api.http.{key}" in told
    assert why in told


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("    endpoint: /x\n", "endpoint"),
        ("    security: {policy: None}\n", "security"),
        ("    mqtt: {}\n", "mqtt"),
        ("    tls: {}\n", "tls"),
        ("    dnp3: {outstation: 3}\n", "dnp3"),
        ("    stamps_sampled: true\n", "stamps_sampled"),
        ("    serial: {device: /dev/ttyS0}\n", "serial"),
        ("    watchdog_point: bess1.p_kw\n", "watchdog_point"),
    ],
)
def test_keys_of_others_are_refused(tmp_path, more, key):
    assert f"connections.battery_api.{key}" in problem(tmp_path, f"  p_kw: {POINT}\n", more)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("serial: {address: 7, value: /s}", "address"),
        ("serial: {value: /s}", "address"),
        ("serial: {address: /a}", "value"),
        ("model: {address: /a, value: m}", "value"),
        ("model: {address: /a, value: /m, type: u16}", "type"),
        ("model: {address: /a, value: /m, length: 4}", "length"),
    ],
)
def test_identity_that_cannot_be_read_is_refused(tmp_path, line, key):
    told = problem(tmp_path, f"  p_kw: {POINT}\nidentity:\n  {line}")
    assert re.search(rf"identity\.(serial|model)\.{key}", told)


def test_two_points_of_one_place_are_refused_and_of_one_path_are_not(tmp_path):
    assert "path and place of 'bess1.p_kw' again" in problem(
        tmp_path, f"  p_kw: {POINT}\n  q_kvar: {POINT}\n"
    )


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A whole site with a weather station beside its battery that tells JSON."""
    text = (BROKEN / "good.yaml").read_text()
    bess = next(line.split(":")[0].strip() for line in text.partition("\nbess:\n")[2].splitlines())
    more = (
        "  battery_api: {protocol: http_json, host: 192.0.2.51, poll_s: 1, timeout_s: 1, map: maps/api.yaml, "
        f"asset: {bess}, http: {{protection: plain}}}}\n"
    )
    (tmp_path / "site.yaml").write_text(text.replace("connections:\n", f"connections:\n{more}"))
    (tmp_path / "maps").mkdir()
    for file in (BROKEN / "maps").glob("*.yaml"):
        (tmp_path / "maps" / file.name).write_text(file.read_text())
    rows = "{address: /t, value: /c, type: number, range: [-40, 90], age_s_max: 30}"
    (tmp_path / "maps" / "api.yaml").write_text(
        f"device: thermometer\nprotocol: http_json\npoints:\n  temp_degc: {rows}\n"
    )
    return tmp_path / "site.yaml"


def test_plain_http_is_told_and_the_runbook_shows_where_a_value_is(whole):
    site = load_site(whole)
    told = "\n".join(protection(site))
    assert "battery_api: PLAIN HTTP, as the site file says" in told
    assert "`/t` at `/c`" in "\n".join(map_sections(site))
    assert "192.0.2.51:80" in "\n".join(wire_section(site))
    assert check(Namespace(site=[str(whole)], quiet=True)) == 0


def test_connection_without_http_is_what_was_commissioned_before(whole):
    """A key that came later must not have every plant commissioned anew."""
    site = load_site(whole)
    others = [c for c in site.connections if c.protocol is not Protocol.HTTP_JSON]
    assert others
    for one in others:
        assert "http" not in _plain(one)
        assert not any("pointer" in field for field in _plain(one)["identity"])
