"""How fast a backlog of records reaches a database or files, and how large those are.

Run by `python -m benchmarks.links`.

A historian with one snapshot of all points of the demonstration site a second is sent to a PostgreSQL
server that the program starts itself (fsync off, as in the tests): through the link, with count and hash
confirmed by the database, and the same rows by a bare COPY into a table of the same columns and key, in the
same run. Then the same records as files in each format. Nothing else should run; the load is printed.

With `--outage 72` so many hours wait for a database that was away: see `benchmarks/link_outage.py`.
"""

import argparse
import os
import platform
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg

from benchmarks.link_outage import outage, progress
from connectors.files.wire import FilesWire
from connectors.historian.spool import Span, Spool
from connectors.historian.sqlite import SqliteRecorder
from connectors.postgres.wire import Pace, PostgresWire
from connectors.telemetry.ledger import Ledger
from connectors.telemetry.outbox import Outbox
from connectors.telemetry.wire import Desk
from ems.clock import VirtualClock
from ems.links import DatabaseLink, ExportLink
from ems.site import Site
from ems.site_schema import load_site
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0
from tests.contract.mosquitto import make_pki
from tests.contract.postgres import Postgres, find_postgres

DEMO = Path(__file__).resolve().parents[1] / "sites" / "demo" / "site.yaml"
COPIED = """
    CREATE TABLE copied (at timestamptz, source_at timestamptz, value double precision, seq bigint,
        point_id integer, opening_id integer, quality smallint, PRIMARY KEY (point_id, at, opening_id))
    """


def record(path: Path, points: list[str], seconds: int) -> None:
    """Values that wander, as measurements do."""
    luck = random.Random(1)
    values = dict.fromkeys(points, 50.0)
    with closing(SqliteRecorder(path, clock=VirtualClock(T0), sync=False)) as recorder:
        for t_s in range(seconds):
            at = T0 + timedelta(seconds=t_s)
            values = {p: round(v + luck.gauss(0.0, 0.5), 2) for p, v in values.items()}
            readings = {
                p: Reading(point=p, value=v, quality=Quality.GOOD, source_time=at, arrived_s=float(t_s))
                for p, v in values.items()
            }
            recorder.readings(Snapshot(at=at, monotonic_s=float(t_s), readings=readings))
            if t_s % 1000 == 999:
                assert recorder.flush(60.0)
                progress(f"recorded {t_s + 1} of {seconds} snapshots")
    progress("")


def desk_of(path: Path, name: str, seconds: int) -> Desk:
    """What a link's thread would have; the clock stands a day after the last record."""
    spool = Spool(path)
    ledger = Ledger(path.with_name(f"{name}.sqlite"))
    desk = Desk(
        link=name,
        spool=spool,
        outbox=Outbox(name, spool, ledger),
        now=lambda: T0 + timedelta(seconds=seconds + 86400),
        closing=threading.Event(),
    )
    desk.outbox.look()
    return desk


def sent(link: DatabaseLink, site: Site, path: Path, seconds: int) -> float:
    """Wall seconds until everything is confirmed."""
    desk = desk_of(path, "database", seconds)
    wire = PostgresWire(link, site, desk, path.parent, Pace())
    wire.open()
    began_s = time.monotonic()
    while desk.outbox.missing()[0]:
        wire.turn()
    took_s = time.monotonic() - began_s
    assert desk.figures.rows_unlike == 0
    wire.close()
    return took_s


def copied(server: Postgres, path: Path, points: list[str], last: int) -> float:
    """Wall seconds of one bare COPY of the same rows, made ready before."""
    ids = {p: i for i, p in enumerate(points)}
    spool = Spool(path)
    rows = [
        (T0 + timedelta(seconds=r.seq - 1), T0 + timedelta(seconds=r.seq - 1), value, r.seq, ids[p], 1, 0)
        for first in range(1, last + 1, 500)
        for r in spool.records(Span(boot=1, first=first, last=min(last, first + 499)))
        for p, (value, _, _) in (r.values or {}).items()
    ]
    where = f"host={server.folder} port={server.port} dbname=plants user=root"
    with psycopg.connect(where, autocommit=True) as db:
        db.execute(COPIED)
        began_s = time.monotonic()
        with db.cursor().copy("COPY copied FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return time.monotonic() - began_s


def files(site: Site, path: Path, form: str, seconds: int) -> tuple[float, int]:
    """Wall seconds, and bytes of the files of readings."""
    folder = path.parent / form
    folder.mkdir()
    link = ExportLink(
        id=form, folder=str(folder), format=form, every="hour", clock="utc", mounted=False, settle_s=1.0,
        backlog_s_max=1.0,
    )  # fmt: skip
    desk = desk_of(path, form, seconds)
    wire = FilesWire(link, site, desk, path.parent)
    wire.open()
    began_s = time.monotonic()
    while desk.outbox.missing()[0]:
        wire.turn()
    return time.monotonic() - began_s, sum(p.stat().st_size for p in folder.glob("*.readings.*"))


def told(server: Postgres, seconds: int, points: int) -> None:
    """What is measured, and on what."""
    version = server.sql("SHOW server_version")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
          f"PostgreSQL {version}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__})")  # fmt: skip
    print(f"{seconds} snapshots of {points} points: {seconds * points} values", flush=True)


def backlog(server: Postgres, site: Site, path: Path, points: list[str], seconds: int) -> None:
    """The link against a bare COPY, and files."""
    rows = seconds * len(points)
    link_s = sent(server.link(path.parent), site, path, seconds)
    copy_s = copied(server, path, points, seconds)
    print(f"link       {link_s:6.1f} s  {rows / link_s:9.0f} values/s  {seconds / link_s:6.0f} x real time")
    print(f"bare COPY  {copy_s:6.1f} s  {rows / copy_s:9.0f} values/s  {seconds / copy_s:6.0f} x real time")
    print(f"the link takes {link_s / copy_s:.1f} times as long as the bare COPY; asked for: 20 x real time")
    for form in ("csv", "csv.gz", "parquet"):
        took_s, size = files(site, path, form, seconds)
        print(f"{form:10} {took_s:6.1f} s  {rows / took_s:9.0f} values/s  {size / rows:6.1f} bytes a value")


def main() -> None:
    """Print rows a second, and how many times real time that is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=2.0, help="of records (2)")
    parser.add_argument(
        "--outage", type=float, help="hours that a database was away, instead; 72: half an hour"
    )
    args = parser.parse_args()
    seconds = round(3600 * (args.hours if args.outage is None else args.outage))
    if seconds < 1:
        sys.exit(f"{seconds} s of records; at least 1 s is needed")
    site = load_site(DEMO)
    points = [f"{a}.{n}" for a, names in site.read_names().items() for n in names]
    folder = Path(tempfile.mkdtemp(prefix="ems-links-"))
    server = Postgres(find_postgres(), make_pki(folder))
    try:
        server.make().start().fresh()
        path = folder / "history.sqlite"
        told(server, seconds, len(points))
        if args.outage is None:
            record(path, points, seconds)
            backlog(server, site, path, points, seconds)
        else:
            server.kill()
            record(path, points, seconds)
            outage(server, server.link(folder), DEMO, path, seconds)
    finally:
        server.remove()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
