"""One session of a Sparkplug node: its order, its births and deaths, and what it takes from hosts."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.historian.spool import Record
from connectors.sparkplug import sparkplug_pb2
from connectors.sparkplug.node import Message, Node
from connectors.sparkplug.payloads import asks_for_rebirth, host_state
from connectors.sparkplug.sparkplug_pb2 import Payload
from connectors.telemetry.sparkplug_wire import Past
from ems.site_schema import load_site

SITE = load_site(Path(__file__).parents[1] / "ems" / "broken_sites" / "good.yaml")
STORE: dict[str, str | int] = {"store": "s", "boot": 1, "opened_ms": 0}
OPENING = "s", 1, 0


def node(bytes_max: int = 65536) -> Node:
    return Node(SITE, "g", "n", 7, bytes_max=bytes_max)


def snapshot(at_ms: int, **values: float | None) -> Record:
    told = {
        k.replace("__", "."): (v, "good" if v is not None else "comm_failed", 0) for k, v in values.items()
    }
    return Record(at_ms, {"kind": "readings"}, at_ms, told)


def kinds(messages: list[Message]) -> list[str]:
    return ["/".join(m.topic.split("/")[2:3] + m.topic.split("/")[4:]) for m in messages]


def test_order_is_0_at_birth_and_begins_anew_after_255():
    one = node()
    messages = list(one.births(["pv1.p_kw"], (OPENING, snapshot(1, pv1__p_kw=1.0)), 0))
    for i in range(600):
        messages += one.data([snapshot(2 + i, pv1__p_kw=1.0)], late=False, origin=STORE, now_ms=0)
    found = [Payload.FromString(m.payload).seq for m in messages]
    assert found == [i % 256 for i in range(602)]
    assert not Payload.FromString(one.death(5)).HasField("seq")


def test_too_many_points_for_one_message_go_in_several():
    values = {f"pv1__x{i}": float(i) for i in range(200)}
    one = node(bytes_max=1024)
    list(one.births([k.replace("__", ".") for k in values], (OPENING, snapshot(1, **values)), 0))
    messages = one.data([snapshot(2, **values)], late=False, origin=STORE, now_ms=0)
    assert len(messages) > 3
    assert all(len(m.payload) <= 1100 for m in messages)
    assert sum(len(Payload.FromString(m.payload).metrics) for m in messages) == 200


def test_point_that_nobody_knew_is_born_before_it_is_told():
    one = node()
    list(one.births(["pv1.p_kw"], (OPENING, snapshot(1, pv1__p_kw=1.0)), 0))
    now = one.data([snapshot(2, pv1__p_kw=1.0, pv1__q_kvar=2.0)], late=False, origin=STORE, now_ms=0)
    assert kinds(now) == ["DBIRTH/pv1", "DDATA/pv1"]
    once = one.data([snapshot(1, pv1__p_kw=1.0, pv1__state=1.0)], late=True, origin=STORE, now_ms=0)
    assert kinds(once) == ["DBIRTH/pv1", "DDATA/pv1"]
    birth = Payload.FromString(once[0].payload)
    assert {m.name: (m.is_null, m.double_value) for m in birth.metrics} == {
        "p_kw": (False, 1.0), "q_kvar": (False, 2.0), "state": (True, 0.0),
    }  # fmt: skip
    assert all(m.is_historical for m in Payload.FromString(once[1].payload).metrics)


def test_clock_that_is_set_back_makes_nothing_of_now_the_past():
    """For as long as it had been ahead, hosts would have kept a dead device for alive."""
    hour_ms = 3_600_000
    one = node()
    list(one.births(["pv1.p_kw"], (OPENING, snapshot(hour_ms, pv1__p_kw=1.0)), 0))
    told = [
        (STORE, replace(snapshot(1000, pv1__p_kw=2.0), seq=hour_ms + 1)),
        (STORE, replace(snapshot(2000, pv1__p_kw=None), seq=hour_ms + 2)),
        ({**STORE, "boot": 2}, replace(snapshot(500, pv1__p_kw=3.0), seq=1)),
        ({**STORE, "store": "made anew"}, replace(snapshot(400, pv1__p_kw=3.0), seq=1)),
    ]
    found = [one.data([record], late=False, origin=of, now_ms=0) for of, record in told]
    data = ["DDATA/pv1"]
    assert [kinds(m) for m in found] == [data, ["DDEATH/pv1"], ["DBIRTH/pv1", *data], data]
    payloads = [Payload.FromString(m.payload) for messages in found for m in messages]
    assert not any(m.is_historical for p in payloads for m in p.metrics)
    again = one.data([told[3][1]], late=False, origin=told[3][0], now_ms=0)
    assert all(m.is_historical for m in Payload.FromString(again[0].payload).metrics), "it was told before"


def test_asset_that_the_site_does_not_know_any_more_has_no_unit():
    one = node()
    *_, birth = one.births(["old.p_kw"], (OPENING, snapshot(1, old__p_kw=1.0)), 0)
    (metric,) = Payload.FromString(birth.payload).metrics
    assert "engUnit" not in metric.properties.keys


def test_record_that_is_kept_no_more_is_told_gone():
    one = node()
    list(one.births([], None, 0))
    (message,) = one.data([Record(9, {"seq": 9, "kind": "gone"}, None)], late=True, origin=STORE, now_ms=3)
    (metric,) = Payload.FromString(message.payload).metrics
    assert metric.string_value == '{"store": "s", "boot": 1, "opened_ms": 0, "seq": 9, "kind": "gone"}'


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"online": true, "timestamp": 5}', (True, 5)),
        (b'{"online": false, "timestamp": 5, "more": 1}', (False, 5)),
        (b'{"online": 1, "timestamp": 5}', None),
        (b'{"online": true, "timestamp": true}', None),
        (b'{"online": true, "timestamp": -1}', None),
        (b'{"online": true}', None),
        (b"ONLINE", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_state_of_a_host_is_exactly_that_or_nothing(raw: bytes, told: tuple[bool, int] | None):
    assert host_state(raw) == told


def test_command_that_is_none_asks_for_nothing():
    assert not asks_for_rebirth(b"\xff\xff")
    assert not asks_for_rebirth(b"")
    asked = Payload()
    asked.metrics.add(name="Node Control/Rebirth", string_value="true")
    assert not asks_for_rebirth(asked.SerializeToString())
    asked.metrics.add(name="Node Control/Rebirth", boolean_value=True)
    assert asks_for_rebirth(asked.SerializeToString())


def test_number_of_the_connection_outlives_the_process_and_a_bad_disk(tmp_path: Path):
    file = tmp_path / "sparkplug-x.json"

    def numbers(past: Past, count: int) -> list[int]:
        out = []
        for _ in range(count):
            out.append(past.next_bd_seq())
            assert past.next_bd_seq() == out[-1], "nobody was greeted with it"
            past.used(out[-1])
        return out

    assert numbers(Past(file), 256) == list(range(256))
    assert numbers(Past(file), 1) == [0]
    assert numbers(Past(file), 2) == [1, 2]
    before = file.stat().st_mtime_ns
    idle = Past(file)
    assert [idle.next_bd_seq() for _ in range(3)] == [3, 3, 3]
    after = file.stat().st_mtime_ns
    assert [idle.next_bd_seq() for _ in range(3)] == [3, 3, 3]
    assert before != after == file.stat().st_mtime_ns, "a broker that is not there wears no disk"
    file.write_text("cut sho")
    assert Past(file).next_bd_seq() == 1, "not that of a first connection"
    assert numbers(Past(tmp_path / "no" / "x.json"), 2) == [0, 1]


def test_module_is_what_the_compiler_made_of_the_proto_beside_it():
    text = (Path(sparkplug_pb2.__file__).parent / "sparkplug.proto").read_text()
    told = set(re.findall(r"^\s*(?:optional |repeated )?\w+ (\w+) = (\d+);", text, re.MULTILINE))
    whole = Payload.DESCRIPTOR
    found = {(f.name, str(f.number)) for d in (whole, *whole.nested_types) for f in d.fields}
    assert found == told
    assert len(told) > 20
