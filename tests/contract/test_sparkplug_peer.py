"""Records as Sparkplug B, taken by a host of another make: what is lost is missed by its point and time."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.historian.spool import Span, Spool
from connectors.historian.sqlite import SqliteRecorder
from connectors.sqlite_file import to_ms
from connectors.telemetry import sparkplug_wire
from connectors.telemetry.ledger import Ledger
from connectors.telemetry.sender import Sender
from ems.clock import SystemClock, VirtualClock
from ems.links import SparkplugNode
from ems.site import Site, TelemetryLink
from ems.site_schema import load_site
from ems.telemetry import Quality, Snapshot
from tests.contract.mosquitto import Mosquitto, make_pki
from tests.contract.sparkplug_host import Host, Key, hosting
from tests.contract.test_mqtt_telemetry import until
from tests.unit.connectors.histories import at, command, reading

pytestmark = [pytest.mark.needs_server, pytest.mark.scenario(33), pytest.mark.scenario(49)]
GOOD = Path(__file__).parents[1] / "unit" / "ems" / "broken_sites" / "good.yaml"
POINTS = ("bess1.p_kw", "bess1.soc", "gen1.p_kw", "grid1.p_kw", "grid1.v_pu")
NODE = SparkplugNode(group="folio", node="small")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory, require_program) -> Path:
    require_program("openssl")
    return make_pki(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site(GOOD)


@pytest.fixture
def broker(tmp_path: Path, pki: Path, require_program) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "broker", pki, require_program("mosquitto")).start()
    yield broker
    broker.kill()


def record(path: Path, first: int, last: int, dead: str = "") -> None:
    """A snapshot a second, and a command each hundredth; of a dead asset nothing is heard."""
    with closing(SqliteRecorder(path, clock=VirtualClock(at(first)), sync=False)) as recorder:
        for i in range(first, last + 1):
            values = {
                p: reading(p, None, i, Quality.COMM_FAILED)
                if dead and p.startswith(dead)
                else reading(p, 0.5 * i + n, i)
                for n, p in enumerate(POINTS)
            }
            if i % 7 == 0:
                values["grid1.v_pu"] = reading("grid1.v_pu", 9.9, i, Quality.OUT_OF_RANGE)
            recorder.readings(Snapshot(at=at(i), monotonic_s=i, readings=values))
            if i % 100 == 0:
                recorder.intent(command(i, 1.0, i))
        recorder.flush()


def recorded(path: Path) -> dict[Key, float | None]:
    """Every reading there is; None where it is not good."""
    out: dict[Key, float | None] = {}
    with closing(Spool(path)) as spool:
        for boot, head in spool.heads().items():
            for r in spool.records(Span(boot=boot, first=1, last=head.last)):
                for point, (value, word, _) in (r.values or {}).items():
                    assert r.at_ms is not None
                    asset, _, name = point.partition(".")
                    out[asset, name, r.at_ms] = value if word == "good" else None
    return out


@contextmanager
def sending(broker: Mosquitto, site: Site, path: Path, place: SparkplugNode = NODE) -> Iterator[Sender]:
    link = TelemetryLink(
        id="scada", host="127.0.0.1", port=broker.tls, topic="", broker=broker.broker("ems-scada"),
        timeout_s=1.0, message_bytes_max=1024, backfill_bytes_per_s=None, backlog_s_max=900.0,
        sparkplug=place,
    )  # fmt: skip
    ledger = Ledger(path.with_name("telemetry.sqlite"))
    make = sparkplug_wire.wires(link, place, site, path.parent, path.parent)
    sender = Sender(link.id, path, ledger, make, now=SystemClock().now)
    sender.start()
    try:
        yield sender
    finally:
        sender.close(5.0)
        ledger.close()
        assert sender.bug is None


def property_of(host: Host, key: Key, name: str) -> Any:
    return host.quality[key].get(name, {}).get("value")


def test_host_of_another_make_loses_nothing_though_the_broker_is_killed_meanwhile(
    broker: Mosquitto, site: Site, tmp_path: Path
):
    """Mutual TLS, aliases, order and births as the specification has them; what comes twice is marked."""
    path = tmp_path / "history.sqlite"
    record(path, 1, 1500)
    with hosting(broker, "folio") as host, sending(broker, site, path) as sender:
        until(lambda: len(host.values) > 1000)
        broker.kill()
        record(path, 1501, 1560)
        until(lambda: not sender.figures.up)
        broker.start()
        until(lambda: sender.figures.up and sender.figures.missing_rows == 0)
        wanted = recorded(path)
        until(lambda: len(host.values) >= len(wanted), f"{len(host.values)} of {len(wanted)}")
        record(path, 1561, 1563)  # as it is now
        wanted = recorded(path)
        until(lambda: len(host.values) >= len(wanted))
        assert host.values == wanted, "0 lost, and each as it was recorded"
        assert host.unlike == 0
        assert host.twice_and_fresh == 0, "what comes twice is marked as history"
        assert not host.faults
        assert len(host.heard) > 2 * 256, "the order has begun anew"
        assert host.bd_seqs == [0, 1]
        assert len(host.texts) == 15, "commands, as texts of the node"
        assert host.fresh[-1][2] == to_ms(at(1563))
        of_one = [k for k in host.fresh if k[:2] == ("grid1", "p_kw")]
        assert of_one == sorted(of_one), "what is now never goes back"
    until(lambda: host.heard[-1] == "NDEATH")


def test_birth_says_what_each_metric_is_and_a_bad_reading_is_no_number(
    broker: Mosquitto, site: Site, tmp_path: Path
):
    path = tmp_path / "history.sqlite"
    record(path, 1, 13)
    with hosting(broker, "folio") as host, sending(broker, site, path):
        wanted = recorded(path)
        until(lambda: len(host.values) == len(wanted))
    power = next(m for m in host.births["bess1"] if m["name"] == "p_kw")
    assert power["type"] == "Double"
    assert power["value"] == 6.5, "it is born with its newest value"
    assert power["properties"]["engUnit"]["value"] == "kW"
    assert power["properties"]["sign"]["value"] == "measured active power, discharge positive"
    assert {m["name"] for m in host.births[""]} >= {"bdSeq", "Node Control/Rebirth", "Record/command"}
    bad, after, before = (("grid1", "v_pu", to_ms(at(i))) for i in (7, 8, 6))
    assert host.values[bad] is None
    assert (property_of(host, bad, "Quality"), property_of(host, bad, "reason")) == (0, "out_of_range")
    assert property_of(host, after, "Quality") == 192, "good again, and says so"
    assert property_of(host, before, "Quality") is None


def test_device_that_dies_is_told_dead_and_born_again(broker: Mosquitto, site: Site, tmp_path: Path):
    path = tmp_path / "history.sqlite"
    record(path, 1, 5)
    with hosting(broker, "folio") as host, sending(broker, site, path):
        until(lambda: len(host.values) == 5 * len(POINTS))
        record(path, 6, 10, dead="gen1")
        until(lambda: "DDEATH gen1" in host.heard)
        assert "gen1" not in host.alive
        record(path, 11, 12)
        until(lambda: host.heard.count("DBIRTH gen1") == 2)
        until(lambda: ("gen1", "p_kw", to_ms(at(12))) in host.values)
        assert not host.faults
        assert ("gen1", "p_kw", to_ms(at(8))) not in host.values, "its death says it"
        assert ("grid1", "p_kw", to_ms(at(8))) in host.values
        assert host.heard.count("DDEATH gen1") == 1


def test_past_of_a_device_that_is_dead_now_is_told_between_birth_and_death(
    broker: Mosquitto, site: Site, tmp_path: Path
):
    path = tmp_path / "history.sqlite"
    record(path, 1, 5)
    record(path, 6, 10, dead="gen1")
    with hosting(broker, "folio") as host, sending(broker, site, path):
        until(lambda: ("gen1", "p_kw", to_ms(at(5))) in host.values)
        until(lambda: "DDEATH gen1" in host.heard)
    assert not host.faults
    assert host.births["gen1"][0]["value"] is None
    assert {v for k, v in host.values.items() if k[0] == "gen1"} == {0.5 * i + 2 for i in range(1, 6)}


def test_rebirth_is_the_only_command_that_is_heeded(
    broker: Mosquitto, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sparkplug_wire, "REBIRTH_S", 0.0)
    path = tmp_path / "history.sqlite"
    record(path, 1, 5)

    def ask(host: Host, name: str, value: object, kind: str = "NCMD", **device: str) -> None:
        kind_of = "Boolean" if isinstance(value, bool) else "Double"
        host.order(
            type=kind, node="small", metrics=[{"name": name, "value": value, "type": kind_of}], **device
        )

    with hosting(broker, "folio") as host, sending(broker, site, path) as sender:
        until(lambda: len(host.values) == 5 * len(POINTS))
        ask(host, "p_set_kw", 500.0, "DCMD", device="bess1")
        ask(host, "Node Control/Reboot", True)
        ask(host, "Node Control/Rebirth", False)
        broker.publish("spBv1.0/folio/NCMD/small", b"\xff\xfe no protobuf")
        until(lambda: sender.row().get("commands_ignored") == 3)
        assert host.count("NBIRTH") == 1
        ask(host, "Node Control/Rebirth", True)
        until(lambda: host.heard.count("DBIRTH grid1") == 2)
        assert host.count("NBIRTH") == 2
        assert host.bd_seqs == [0, 0], "of the same connection"
        assert not host.faults
        record(path, 6, 6)
        until(lambda: len(host.values) == 6 * len(POINTS))
        assert not host.faults


def test_nothing_is_sent_while_the_primary_host_is_away_and_nothing_is_lost(
    broker: Mosquitto, site: Site, tmp_path: Path
):
    path = tmp_path / "history.sqlite"
    record(path, 1, 50)
    place = replace(NODE, primary_host="scada1")
    with hosting(broker, "folio") as watcher, sending(broker, site, path, place) as sender:
        until(lambda: "scada1 is not online" in sender.figures.reason)
        assert not watcher.heard
        assert sender.figures.missing_rows == 50
        with hosting(broker, "folio", "scada1") as host:
            until(lambda: len(host.values) == 50 * len(POINTS))
            until(lambda: sender.figures.missing_rows == 0)
        until(lambda: "NDEATH" in watcher.heard)
        record(path, 51, 60)
        until(lambda: sender.figures.missing_rows >= 10 and not sender.figures.up)
        births = watcher.count("NBIRTH")
        with hosting(broker, "folio", "scada1") as host:
            wanted = recorded(path)
            until(lambda: watcher.values == wanted, "0 lost")
            until(lambda: sender.figures.missing_rows == 0)
        assert births == 1
        assert watcher.bd_seqs[1] > watcher.bd_seqs[0]
        assert {k[2] for k in watcher.fresh} <= {to_ms(at(60))} | {k[2] for k in watcher.fresh[:250]}
        assert watcher.twice >= 250, "the host may have lost what it was told just before it went"
        assert watcher.twice_and_fresh == 0
        assert not watcher.faults


def test_primary_host_whose_clock_was_put_right_is_waited_for_no_longer(
    broker: Mosquitto, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its words were older than that of a year ahead, and nothing was sent until somebody came."""
    path = tmp_path / "history.sqlite"
    record(path, 1, 5)

    def told(online: str, ms: int) -> None:
        broker.publish("spBv1.0/STATE/scada1", f'{{"online": {online}, "timestamp": {ms}}}', "-r")

    told("false", 4_000_000)
    place = replace(NODE, primary_host="scada1")
    with sending(broker, site, path, place) as sender:
        until(lambda: "scada1 is not online" in sender.figures.reason)
        told("true", 1_000_000)
        monkeypatch.setattr(sparkplug_wire, "REASK_S", 0.5)
        until(lambda: sender.figures.missing_rows == 0)
        told("false", 900_000)  # the will of a session that is over
        record(path, 6, 8)
        until(lambda: sender.figures.rows_delivered >= 8 and sender.figures.missing_rows == 0)
        assert sender.figures.connects == 1
