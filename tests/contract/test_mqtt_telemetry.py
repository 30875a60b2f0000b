"""Records sent to Mosquitto and taken by mosquitto_sub: what is lost on the way is known by its number."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.process_config import ProcessConfig, write_config
from connectors.historian.spool import Spool
from connectors.historian.sqlite import SqliteRecorder
from connectors.telemetry.ledger import Ledger, statuses
from connectors.telemetry.mqtt_wire import MqttWire
from connectors.telemetry.sender import Sender
from ems.clock import SystemClock, VirtualClock
from ems.site import TelemetryLink
from tests.contract.mosquitto import Mosquitto, make_pki
from tests.unit.connectors.histories import at, command, recorded, snapshot

pytestmark = [
    pytest.mark.needs_server,
    pytest.mark.scenario(33, left="how fast 72 h of seconds are sent is measured in `make soak` alone"),
    pytest.mark.scenario(49),
]
MINUTES_72_H = 4320
POINTS = {f"a{i}__p_kw": 0.125 * i for i in range(20)}
GOOD = Path(__file__).parents[1] / "unit" / "ems" / "broken_sites"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory, require_program) -> Path:
    require_program("openssl")
    return make_pki(tmp_path_factory.mktemp("site"))


@pytest.fixture
def broker(tmp_path: Path, pki: Path, require_program) -> Iterator[Mosquitto]:
    require_program("mosquitto_sub")
    broker = Mosquitto(tmp_path / "broker", pki, require_program("mosquitto")).start()
    yield broker
    broker.kill()


def link_to(broker: Mosquitto, **changes: Any) -> TelemetryLink:
    link = TelemetryLink(
        id="cloud", host="127.0.0.1", port=broker.tls, topic="ems/p1",
        broker=broker.broker("ems-cloud", status_topic="ems/p1/status"), timeout_s=1.0,
        message_bytes_max=16384, backfill_bytes_per_s=None, backlog_s_max=900.0,
    )  # fmt: skip
    return replace(link, **changes)


def record(path: Path, first: int, last: int, step_s: float = 60.0) -> None:
    with closing(SqliteRecorder(path, clock=VirtualClock(at(first)), sync=False)) as recorder:
        for i in range(first, last + 1):
            recorder.readings(snapshot(step_s * i, **POINTS))
            if i % 500 == 0:
                recorder.intent(command(i, 1.0, step_s * i))
                assert recorder.recorded(recorded(at(step_s * i), i))
                recorder.flush()


def until(holds: Callable[[], object], what: str = "", most_s: float = 20.0) -> None:
    give_up = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < give_up, what or "it has not come true"
        time.sleep(0.01)


Key = tuple[str, int, int]  # store, boot, seq


class Receiver:
    """A mosquitto_sub that stays subscribed, and a thread that knows rows by their number."""

    def __init__(self, broker: Mosquitto) -> None:
        self._process = subprocess.Popen(
            ["mosquitto_sub", "-W", "3600", "-V", "5", "-p", str(broker.plain), "-q", "1", "-c", "-i",
             "cloud", "-x", "3600", "-t", "ems/p1/#", "-F", "%t %x"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.rows: dict[Key, str] = {}
        self.lanes: list[tuple[str, int, int]] = []  # lane, first, last
        self.digests: list[dict[str, Any]] = []
        self.status: list[str] = []
        self.twice = self.unlike = 0
        self.listens = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            topic, _, payload = line.strip().partition(" ")
            self.listens = True
            lane, raw = topic.rpartition("/")[2], bytes.fromhex(payload).decode()
            if lane in ("live", "late"):
                self._take(lane, raw)
            elif lane == "digest":
                self.digests.append(json.loads(raw))
            elif lane == "status":
                self.status.append(raw)

    def _take(self, lane: str, raw: str) -> None:
        head, *lines = raw.splitlines()
        told = json.loads(head)
        self.lanes.append((lane, told["first"], told["last"]))
        for line in lines:
            key = (told["store"], told["boot"], json.loads(line)["seq"])
            self.twice += key in self.rows
            self.unlike += self.rows.setdefault(key, line) != line

    def missing(self, path: Path) -> list[Key]:
        with closing(Spool(path)) as spool:
            store, heads = spool.store(), spool.heads()
        assert store is not None
        wanted = ((store, b, n) for b, h in heads.items() for n in range(1, h.last + 1))
        return [key for key in wanted if key not in self.rows]

    def close(self) -> None:
        self._process.kill()
        self._thread.join(5.0)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def receiving(broker: Mosquitto) -> Iterator[Receiver]:
    receiver = Receiver(broker)
    try:
        broker.publish("ems/p1/probe", "x", "-r")
        until(lambda: receiver.listens, "nobody listens")
        yield receiver
    finally:
        receiver.close()


@contextmanager
def sending(link: TelemetryLink, path: Path) -> Iterator[Sender]:
    ledger = Ledger(path.with_name("telemetry.sqlite"))
    sender = Sender(
        link.id, path, ledger, lambda desk: MqttWire(link, desk, path.parent), now=SystemClock().now
    )
    sender.start()
    try:
        yield sender
    finally:
        sender.close(5.0)
        ledger.close()
        assert sender.bug is None


def test_link_that_was_down_for_72_h_loses_nothing_though_the_broker_is_killed_meanwhile(
    broker: Mosquitto, tmp_path: Path
):
    """A minute of each of 72 h waits; what a dead broker had acknowledged and lost is asked for again."""
    path = tmp_path / "history.sqlite"
    record(path, 1, MINUTES_72_H)
    with receiving(broker) as receiver, sending(link_to(broker), path) as sender:
        until(lambda: len(receiver.rows) > 500)
        assert receiver.lanes[0][0] == "live"
        assert receiver.lanes[0][2] > MINUTES_72_H - 200
        broker.kill()
        record(path, MINUTES_72_H + 1, MINUTES_72_H + 60)
        until(lambda: not sender.figures.up)
        broker.start()
        until(lambda: sender.figures.up and sender.figures.missing_rows == 0)
        receiver.listens = False
        broker.publish("ems/p1/probe", "x", "-r")
        until(lambda: receiver.listens, "it listens again")
        for boot in (1, 2):
            if lost := [key for key in receiver.missing(path) if key[1] == boot]:
                asked = {"store": lost[0][0], "boot": boot, "first": lost[0][2], "last": lost[-1][2]}
                broker.publish("ems/p1/resend", json.dumps(asked))
        until(lambda: not receiver.missing(path), "0 lost")
        assert receiver.unlike == 0, "one number, one row"
        boots = {boot for _, boot, _ in receiver.rows}
        assert boots == {1, 2}
        digest = next(d for d in receiver.digests if d["boot"] == 1)
        store = digest["store"]
        lines = [receiver.rows[store, 1, n] for n in range(digest["first"], digest["last"] + 1)]
        assert digest["lines"] == len(lines)
        text = "".join(f"{line}\n" for line in lines)
        assert digest["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    with closing(Ledger(path.with_name("telemetry.sqlite"))) as ledger:
        of = ledger.delivered("cloud", store)
        assert all(len(list(spans)) == 1 for spans in of.values()), "no gap is left"


def test_broker_that_refuses_records_has_none(tmp_path: Path, pki: Path, require_program):
    """It acknowledges them too, with a reason: that is not delivered."""
    path = tmp_path / "history.sqlite"
    record(path, 1, 50)
    acl = "user ems\ntopic read #\n"
    broker = Mosquitto(tmp_path / "broker", pki, require_program("mosquitto"), acl=acl).start()
    try:
        with sending(link_to(broker), path) as sender:
            until(lambda: sender.figures.refused, "it refuses")
            until(lambda: not sender.figures.up)
            assert sender.figures.rows_delivered == 0
            assert sender.figures.missing_rows == 50
            assert "does not take records under ems/p1: Not authorized" in sender.figures.reason
    finally:
        broker.kill()


def test_broker_that_hangs_is_left_and_found_again(broker: Mosquitto, tmp_path: Path):
    path = tmp_path / "history.sqlite"
    record(path, 1, 5)
    with receiving(broker) as receiver, sending(link_to(broker, timeout_s=0.5), path) as sender:
        until(lambda: not receiver.missing(path))
        broker.freeze(True)
        record(path, 6, 10)
        until(lambda: not sender.figures.up, "it acknowledges nothing")
        assert sender.figures.missing_rows == 5
        broker.freeze(False)
        until(lambda: not receiver.missing(path))
        until(lambda: sender.figures.missing_rows == 0)
        assert receiver.unlike == 0


def test_late_rows_go_no_faster_than_they_may_and_live_rows_pass_them(broker: Mosquitto, tmp_path: Path):
    path = tmp_path / "history.sqlite"
    record(path, 1, 2000)
    link = link_to(broker, backfill_bytes_per_s=20_000.0)
    with receiving(broker) as receiver, sending(link, path) as sender:
        until(lambda: any(lane == "late" for lane, _, _ in receiver.lanes))
        record(path, 2001, 2003)
        until(lambda: any(k[1:] == (2, 3) for k in receiver.rows), "live rows do not wait")
        assert sender.figures.missing_rows > 500


def test_process_that_is_killed_goes_on_where_it_was(broker: Mosquitto, tmp_path: Path):
    """The process that `ems run` starts, killed in the middle: its rows arrive, known by their number."""
    text = (GOOD / "good.yaml").read_text()
    (tmp_path / "maps").symlink_to(GOOD / "maps")
    (tmp_path / "pki").symlink_to(broker.pki.parent)
    told = f"{{host: 127.0.0.1, port: {broker.tls}, topic: ems/p1, message_bytes_max: 2048}}"
    (tmp_path / "site.yaml").write_text(f"{text}telemetry: {{cloud: {told}}}\n")
    config = ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path)
    record(config.history, 1, 1500)
    file = write_config(config, tmp_path / "process.json")

    def start() -> "subprocess.Popen[bytes]":
        with (tmp_path / "log").open("ab") as log:
            arguments = [sys.executable, "-m", "cli.telemetry_process", str(file)]
            return subprocess.Popen(arguments, stdout=log, stderr=log, env={**os.environ})

    with receiving(broker) as receiver:
        process = start()
        until(lambda: len(receiver.rows) > 300, (tmp_path / "log").read_text())
        process.kill()
        process.wait()
        record(config.history, 1501, 1510)
        process = start()
        try:
            until(lambda: not receiver.missing(config.history), (tmp_path / "log").read_text())
            until(lambda: statuses(config.telemetry)["telemetry_cloud"].fields["missing_rows"] == 0)
        finally:
            process.terminate()
            assert process.wait(10.0) == 0
        assert receiver.unlike == 0
        until(lambda: receiver.status[-1] == "offline")


@pytest.mark.soak
def test_72_h_of_seconds_go_at_least_20_times_as_fast_as_they_were_recorded(
    broker: Mosquitto, tmp_path: Path
):
    path = tmp_path / "history.sqlite"
    count = 72 * 3600
    record(path, 1, count, step_s=1.0)
    link = link_to(broker, message_bytes_max=65536, timeout_s=10.0)
    with receiving(broker) as receiver, sending(link, path) as sender:
        began_s = time.monotonic()
        until(lambda: sender.figures.rows_delivered >= count, most_s=count / 20.0)
        took_s = time.monotonic() - began_s
        print(f"{count} s of records in {took_s:.0f} s: {count / took_s:.0f} times real time")
        until(lambda: not receiver.missing(path), most_s=600.0)
        assert receiver.unlike == 0
