"""Site keys of MQTT: brokers known by their certificate unless it is said otherwise, and nothing written."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from cli.check import protection
from cli.link_wires import wire_of
from connectors.link import Refused
from ems.errors import ConfigError
from ems.links import SparkplugNode
from ems.site import Connection, Site
from ems.site_schema import load_site

GOOD = Path(__file__).parent / "broken_sites"
TANK = """  tank:
    protocol: mqtt
    host: {host}
    port: 8883
    poll_s: 1
    timeout_s: 2
    map: maps/tank.yaml
{more}deferrables:
"""
ROW = "  grid1.f_hz: {address: plant/meter, type: number, value: /f, range: [40, 70], age_s_max: 5"
SPARKPLUG = "telemetry:\n  cloud: {{host: b, payload: sparkplug, {}}}\n"
OTHER = "  bess1.temp_degc: {address: plant/bess, type: number, range: [-40, 90], age_s_max: 60}\n"


@pytest.fixture
def loaded(tmp_path):
    """The small good site with a connection to a broker, and more lines where a test wants them."""

    def load(more: str = "", row: str = "", points: str = "", end: str = "", host: str = "10.0.0.9") -> Site:
        shutil.copytree(GOOD / "maps", tmp_path / "maps", dirs_exist_ok=True)
        whole = f"device: A gateway\nprotocol: mqtt\npoints:\n{ROW}{row}}}\n{points}"
        (tmp_path / "maps" / "tank.yaml").write_text(whole)
        text = (GOOD / "good.yaml").read_text()
        (tmp_path / "site.yaml").write_text(
            text.replace("deferrables:\n", TANK.format(host=host, more=more), 1) + end
        )
        return load_site(tmp_path / "site.yaml")

    return load


def tank(site: Site) -> Connection:
    (one,) = (c for c in site.connections if c.id == "tank")
    return one


def test_nothing_said_means_certificates_on_both_sides(loaded):
    site = loaded(points=OTHER)
    broker = tank(site).mqtt
    assert broker is not None
    assert broker.protection == "mutual"
    assert broker.client_id == f"ems-{site.name}-tank"
    assert (broker.ca, broker.certificate, broker.key) == (
        "pki/mqtt/ca.pem", "pki/mqtt/own.pem", "pki/mqtt/own.key",
    )  # fmt: skip
    assert not tank(site).stamps_sampled
    assert [line for line in protection(site) if line.startswith("tank: TLS, mutual")]


def test_plain_must_be_said_and_is_told_each_time(loaded):
    site = loaded("    mqtt: {protection: plain}\n")
    (line,) = (x for x in protection(site) if x.startswith("tank"))
    assert line.startswith("tank: PLAIN")


def test_map_with_times_judges_samples_by_them(loaded):
    connection = tank(loaded("    mqtt: {session_expiry_s: 60}\n", ", time: /at, time_form: ms"))
    assert connection.stamps_sampled
    payload = connection.points[0].payload
    assert payload is not None
    assert (payload.value, payload.time, payload.time_form) == ("/f", "/at", "ms")


@pytest.mark.parametrize(
    ("given", "key", "told"),
    [
        ({"row": ", writable: true"}, "writable", "MQTT carries no setpoints"),
        (
            {"points": "  bess1.p_set_kw: {address: x, type: number, range: [-1, 1], age_s_max: 5}\n"},
            "writable", "MQTT carries no setpoints",
        ),
        ({"more": "    watchdog_point: grid1.f_hz\n"}, "watchdog_point", "MQTT carries no setpoints"),
        ({"row": ", table: holding"}, "table", "nothing with mqtt"),
        ({"points": OTHER.replace("plant/bess", "'plant/+'")}, "address", "without the wildcards"),
        ({"points": OTHER.replace("plant/bess", "'$SYS/uptime'")}, "address", "neither / nor $ first"),
        ({"points": OTHER.replace("plant/bess", "7")}, "address", "a topic"),
        ({"points": OTHER.replace("plant/bess", "plant/meter, value: /f")}, "address", "no other point"),
        ({"points": OTHER.replace("number", "Float")}, "type", "number, boolean"),
        ({"points": OTHER.replace("number", "number, value: f")}, "value", "a JSON pointer"),
        ({"points": OTHER.replace("number", "number, time: /t")}, "time", "`value` beside it"),
        ({"row": ", quality: /q"}, "good", "`quality` and `good` together"),
        ({"row": ", time_form: ms"}, "time_form", "`time` beside it"),
        ({"row": ", time: /t", "points": OTHER}, "temp_degc", "`time` at every point"),
        ({"more": "    mqtt: {session_expiry_s: 5}\n"}, "session_expiry_s", "`time` at every point"),
        ({"more": "    mqtt: {protection: password}\n"}, "user", "a user with protection: password"),
        ({"more": "    mqtt: {user: ems}\n"}, "user", "`password_env` or `password_file`"),
        ({"more": "    mqtt: {user: ems, password: x}\n"}, "password", "one of protection"),
        ({"more": "    mqtt: {protection: plain, ca: x.pem}\n"}, "ca", "nothing with protection: plain"),
        (
            {"more": "    mqtt: {protection: plain, user: ems, password_file: pw}\n"},
            "user", "mutual, password or anonymous",
        ),
        ({"more": "    security: {policy: None}\n"}, "security", "no security with mqtt"),
        ({"more": "    endpoint: /x\n"}, "endpoint", "no endpoint with mqtt"),
        ({"more": "    updates: subscribe\n"}, "updates", "no updates with mqtt"),
        ({"end": "telemetry: {cloud: {host: b, topic: 'ems/#'}}\n"}, "topic", "without the wildcards"),
        ({"end": "telemetry: {cloud: {host: b}}\n"}, "topic", "all topics of the link begin with"),
        ({"end": "telemetry: {a: {host: b, topic: e, payload: xml}}\n"}, "payload", "'json' or 'sparkplug'"),
        (
            {"end": "telemetry: {cloud: {host: b, topic: e, sparkplug: {node: n}}}\n"},
            "sparkplug", "nothing without payload: sparkplug",
        ),
        ({"end": SPARKPLUG.format("topic: e")}, "topic", "Sparkplug has topics of its own"),
        ({"end": SPARKPLUG.format("mqtt: {status_topic: e}")}, "status_topic", "Sparkplug has topics of its"),
        ({"end": SPARKPLUG.format("sparkplug: {group: a/b}")}, "group", "a part of a topic"),
        ({"end": SPARKPLUG.format("sparkplug: {resend_s: -1}")}, "resend_s", "0"),
        ({"end": SPARKPLUG.format("mqtt: {session_expiry_s: 9}")}, "session_expiry_s", "hears nothing"),
        (
            {"end": SPARKPLUG.format("port: 1") + "  other: {host: b, port: 1, payload: sparkplug}\n"},
            "node", "another node than that of 'cloud'",
        ),
        (
            {"end": "telemetry: {cloud: {host: 10.0.0.9, topic: e, mqtt: {client_id: ems-small-tank}}}\n"},
            "client_id", "another name than 'tank'",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_key(loaded, given, key, told):
    with pytest.raises(ConfigError) as caught:
        loaded(**given)
    found = [p for p in caught.value.problems if p.key.endswith(key)]
    assert found, caught.value.problems
    assert any(told in f"{p.allowed} {p.message}" for p in found), found


def test_keys_of_messages_mean_nothing_elsewhere(tmp_path):
    shutil.copytree(GOOD / "maps", tmp_path / "maps")
    meter = tmp_path / "maps" / "meter.yaml"
    meter.write_text(meter.read_text().replace("type: Double,", "type: Double, value: /p, good: [1],"))
    shutil.copy(GOOD / "good.yaml", tmp_path / "site.yaml")
    with pytest.raises(ConfigError) as caught:
        load_site(tmp_path / "site.yaml")
    assert {p.allowed for p in caught.value.problems} == {"no value with opc_ua", "no good with opc_ua"}


def test_telemetry_says_under_its_topic_whether_it_is_up(loaded):
    (link,) = loaded(end="telemetry: {cloud: {host: broker.example, topic: ems/plant1}}\n").telemetry
    assert link.port == 8883
    assert link.broker.protection == "mutual"
    assert link.broker.status_topic == "ems/plant1/status"


def test_site_file_of_the_docs_is_right(tmp_path):
    """docs/mqtt.md, as an engineer copies it."""
    text = (Path(__file__).parents[3] / "docs" / "mqtt.md").read_text()
    site_part, map_part = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[:2]
    shutil.copytree(GOOD / "maps", tmp_path / "maps")
    field = tmp_path / "maps" / "field.yaml"
    field.write_text("".join(x for x in field.read_text().splitlines(True) if "fuel_l" not in x))
    (tmp_path / "maps" / "gateway.yaml").write_text(map_part)
    indented = "".join(f"  {line}" for line in site_part.splitlines(True))
    good = (GOOD / "good.yaml").read_text()
    (tmp_path / "site.yaml").write_text(good.replace("deferrables:\n", f"{indented}deferrables:\n", 1))
    (one,) = (c for c in load_site(tmp_path / "site.yaml").connections if c.id == "gateway")
    assert [m.point for m in one.points] == ["bess1.temp_degc", "gen1.fuel_l"]


def test_sparkplug_node_is_that_of_the_hierarchy_unless_it_is_named(loaded):
    (link,) = loaded(end=SPARKPLUG.format("port: 1")).telemetry
    assert link.sparkplug == SparkplugNode(group="folio", node="small")
    assert link.broker.status_topic is None
    (link,) = loaded(end="telemetry: {cloud: {host: b, topic: e}}\n").telemetry
    assert link.sparkplug is None


def test_missing_protobuf_is_told_with_its_remedy(loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "connectors.telemetry.sparkplug_wire", None)
    site = loaded(end=SPARKPLUG.format("port: 1"))
    make = wire_of(site.telemetry[0], site, tmp_path, tmp_path)
    with pytest.raises(Refused, match=r"package protobuf.*pip install 'hybrid-ems\[sparkplug\]'"):
        make(None)  # type: ignore[arg-type]


def test_telemetry_of_the_docs_is_right(loaded):
    text = (Path(__file__).parents[3] / "docs" / "mqtt.md").read_text()
    blocks = re.findall(r"```yaml\n(# in the site file, at its end\n.*?)```", text, re.DOTALL)
    (scada,) = loaded(end=blocks[1]).telemetry
    assert scada.sparkplug == SparkplugNode(group="east-africa", node="mill-4", primary_host="scada1")
    (link,) = loaded(end=blocks[0]).telemetry
    assert (link.id, link.topic, link.broker.ca) == ("cloud", "ems/plant1", "pki/cloud/ca.pem")
