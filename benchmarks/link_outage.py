"""A database that was away for days: how fast the backlog goes to it, and whether the edge feels it.

Run by `python -m benchmarks.links --outage 72`.

The historian holds so many hours of seconds of all points of the demonstration site. The link runs as it does
beside an edge: its own process, its priority, one connection after the other. An edge decides and records
once a second at the same time, on the same file; how late it wakes and how long a cycle takes is compared
with its own figures before the link was started. Half way PostgreSQL is killed, every process at once, and is
away for some seconds. In the end the database is compared with the historian's own file, row by row in sums,
and block by block by its own count and hash.
"""

import json
import multiprocessing
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cli.telemetry_process import TELEMETRY_NICE
from connectors.historian.spool import Spool
from connectors.historian.sqlite import SqliteRecorder
from connectors.postgres.wire import Pace, PostgresWire
from connectors.sqlite_file import to_ms
from connectors.telemetry.ledger import Ledger
from connectors.telemetry.sender import Sender
from dispatch.controllers.rules import Rules
from dispatch.cycle import EdgeSetup, tick
from dispatch.observing.process_image import ProcessImage
from dispatch.state import EdgeState
from dispatch.vocabulary import TickInput
from ems.clock import VirtualClock
from ems.links import DatabaseLink
from ems.site import Site
from ems.site_schema import load_site
from ems.telemetry import Quality, Reading, Snapshot
from plant_models.plant import PlantInput, initial_state, step
from tests.builders import T0
from tests.contract.postgres import Postgres

QUIET_S = 30.0  # of the edge alone
AWAY_S = 10.0  # the database, after it was killed
CYCLE_S = 1.0
GIVEN = PlantInput(
    mains_present=True,
    demand_kw={"critical": 60.0, "essential": 100.0, "deferrable": 40.0},
    pv_potential_kw={"pv1": 150.0},
)


@dataclass(slots=True)
class Cycles:
    """How late each cycle began, and how long it took to decide and hand over to the recorder [s wall]."""

    late_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)

    def told(self) -> str:
        """Median, p99 and most, in ms."""
        late, took = (sorted(1e3 * v for v in values) for values in (self.late_s, self.took_s))
        three = lambda v: " ".join(f"{v[min(len(v) - 1, int(q * len(v)))]:8.2f}" for q in (0.5, 0.99, 1.0))  # noqa: E731
        return f"{len(late):5} cycles; begun late {three(late)} ms; took {three(took)} ms"


class Edge:
    """Decides and records once a second, from a time of the plant on."""

    def __init__(self, site: Site, path: Path, points: list[str], first: datetime) -> None:
        self._first, self._points, self._path = first, points, path
        self._setup = EdgeSetup(site=site, controller=Rules(), shadow=False)
        self._image = ProcessImage({}, {})
        self._image.update(
            Reading(point=p, value=v, quality=Quality.GOOD, source_time=T0, arrived_s=0.0)
            for p, v in step(site, initial_state(site), GIVEN, CYCLE_S)[1].readings().items()
        )
        self.cycles, self.count = Cycles(), 0
        self._end = threading.Event()
        self.bug: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, with everything in the file."""
        self._end.set()
        self._thread.join()

    def fresh(self) -> Cycles:
        """Figures until now; from here on others are counted."""
        before, self.cycles = self.cycles, Cycles()
        return before

    def _run(self) -> None:
        state = EdgeState(epoch=1)
        try:
            with closing(SqliteRecorder(self._path, clock=VirtualClock(self._first))) as recorder:
                due_s = time.monotonic()
                while not self._end.wait(max(0.0, due_s - time.monotonic())):
                    state = self._cycle(recorder, state, due_s)
                    due_s += CYCLE_S
        except BaseException as error:
            self.bug = error
            raise

    def _cycle(self, recorder: SqliteRecorder, state: EdgeState, due_s: float) -> EdgeState:
        begun_s, cycles = time.monotonic(), self.cycles
        at = self._first + timedelta(seconds=self.count)
        seen = self._image.latch(T0, 1.0)
        state, _ = tick(self._setup, state, TickInput(snapshot=seen, plan=None, outages=(), dt_s=CYCLE_S))
        readings = {
            p: Reading(point=p, value=50.0, quality=Quality.GOOD, source_time=at, arrived_s=0.0)
            for p in self._points
        }
        recorder.readings(Snapshot(at=at, monotonic_s=float(self.count), readings=readings))
        self.count += 1
        cycles.late_s.append(begun_s - due_s)
        cycles.took_s.append(time.monotonic() - begun_s)
        return state


def send(link: DatabaseLink, site_file: Path, path: Path, now: datetime, told: Path) -> None:
    """A process of the link alone: its figures go to a file, until it is ended."""
    os.nice(TELEMETRY_NICE)
    site, pace, began_s = load_site(site_file), Pace(), time.monotonic()
    sender = Sender(
        link.id, path, Ledger(path.with_name("telemetry.sqlite")),
        lambda desk: PostgresWire(link, site, desk, path.parent, pace),
        now=lambda: now + timedelta(seconds=time.monotonic() - began_s),
    )  # fmt: skip
    sender.start()
    while sender.bug is None:
        time.sleep(0.2)
        new = told.with_suffix(".new")
        new.write_text(json.dumps(sender.row()))
        new.replace(told)


def progress(text: str) -> None:
    """On stderr, one line over the other."""
    print(f"\r{text:100}", end="", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Watch:
    """Looks at the link and the edge; ends the run with a reason where one of them ended."""

    told: Path
    process: multiprocessing.process.BaseProcess
    edge: Edge
    snapshots: int
    began_s: float = field(default_factory=time.monotonic)

    def until(self, done: Callable[[Mapping[str, float]], bool]) -> Mapping[str, float]:
        """Figures of the link, once they are so."""
        while True:
            time.sleep(0.2)
            if not self.process.is_alive() or self.edge.bug is not None:
                sys.exit(f"the link or the edge ended: {self.edge.bug}")
            row = json.loads(self.told.read_text()) if self.told.exists() else {}
            if row:
                sent = row["rows_delivered"]
                wall_s = time.monotonic() - self.began_s
                progress(f"{sent} of {self.snapshots} snapshots, {wall_s:.0f} s; "
                         f"{'up' if row['up'] else 'down'}: {row['reason']}"[:100])  # fmt: skip
                if done(row):
                    return row


def outage(server: Postgres, link: DatabaseLink, site_file: Path, path: Path, seconds: int) -> None:
    """Send what was recorded while the database was away, and print what that took.

    Parameters
    ----------
    server : made, not running yet.
    path : the historian's file, with one snapshot a second.
    """
    site = load_site(site_file)
    points = [f"{a}.{n}" for a, names in site.read_names().items() for n in names]
    now = T0 + timedelta(seconds=seconds)
    edge = Edge(site, path, points, now)
    time.sleep(QUIET_S)
    quiet = edge.fresh()
    told = path.with_name("told.json")
    process = multiprocessing.get_context("spawn").Process(
        target=send, args=(link, site_file, path, now + timedelta(seconds=QUIET_S), told), daemon=True
    )
    process.start()
    watch = Watch(told, process, edge, seconds)
    watch.until(lambda row: not row["up"] and row["missing_rows"] > 0)
    server.start()
    watch.began_s = began_s = time.monotonic()
    watch.until(lambda row: row["rows_delivered"] > seconds / 2)
    half_s = time.monotonic() - began_s
    server.kill()
    time.sleep(AWAY_S)
    server.start()
    watch.until(lambda row: row["up"] and row["missing_rows"] < 10)
    took_s = time.monotonic() - began_s
    busy = edge.fresh()
    edge.close()
    due = sum(head.last for head in Spool(path).heads().values())  # what the link tells may be older
    while int(server.sql("SELECT count(*) FROM ems.record")) < due:
        time.sleep(0.5)
    row = watch.until(lambda row: row["up"] and row["missing_rows"] == 0)
    process.terminate()
    process.join()
    progress("")
    rows = seconds * len(points)
    print(
        f"\n{seconds / 3600:g} h, {rows} values, delivered in {took_s:.1f} s: "
        f"{rows / took_s:.0f} values/s, {seconds / took_s:.0f} x real time (asked for: 20)\n"
        f"PostgreSQL killed after {half_s:.1f} s, away for {AWAY_S:g} s, which is in that; connected "
        f"{row['connects']} times, sent again {row['rows_resent']} records, set aside {row['rows_unlike']}\n"
        f"                 {'':16}{'median':>12}      p99     most\n"
        f"edge alone       {quiet.told()}\n"
        f"edge and link    {busy.told()}"
    )
    compared(server, path)


def compared(server: Postgres, path: Path) -> None:
    """Count, sums and hashes of the database against the historian's file."""
    t0 = to_ms(T0)  # sums of times since 1970 do not fit into 64 bits
    ours = (
        f"count(*), sum(at_ms - {t0}), sum(at_ms - lag_ms - {t0}), sum(CAST(round(value * 100) AS INTEGER))"
    )
    theirs = (
        f"count(*), sum(ems.to_ms(at) - {t0}), sum(ems.to_ms(source_at) - {t0}), "
        "sum(round(value * 100)::bigint)"
    )
    with closing(sqlite3.connect(path)) as db:
        here = [int(v) for v in db.execute(f"SELECT {ours} FROM reading").fetchone()]
    there = [int(v) for v in server.sql(f"SELECT {theirs} FROM ems.reading").split("|")]
    names = ("values", "sum of times", "sum of times of devices", "sum of values x 100")
    for name, a, b in zip(names, here, there, strict=True):
        print(f"{name:24} here {a}, there {b}: {'the same' if a == b else 'NOT THE SAME'}")
    server.sql("ANALYZE ems.reading")  # without statistics the next question takes minutes
    distinct = int(server.sql("SELECT count(*) FROM (SELECT DISTINCT point_id, at FROM ems.reading) d"))
    gaps = server.sql(
        "SELECT sum(n) FROM (SELECT max(seq) - count(*) AS n FROM ems.record GROUP BY opening_id) g"
    )
    blocks = server.sql("SELECT count(*) FROM ems.block")
    unlike = server.sql("SELECT count(*) FROM ems.unlike")
    print(f"lost {here[0] - distinct} values, {gaps} numbers missing; {there[0] - distinct} values twice; "
          f"{unlike} of {blocks} blocks hashed differently")  # fmt: skip
    if here != there or there[0] != distinct or int(gaps) or int(unlike):
        sys.exit("what is there is not what was sent")
