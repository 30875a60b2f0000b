"""The historian against plain SQLite and PostgreSQL, used as somebody in a hurry would, in the same run.

Readings of seconds of one point, and of minutes of 200 points: in, on the disk, and out as a plot of all
of it. The rivals hold a row for each reading (time, point, value, quality, time of the device) and an index
of point and time; a plot is their own GROUP BY. PostgreSQL is left out, by name, where it is not installed.

python benchmarks/historian.py                     two weeks: some minutes
python benchmarks/historian.py --days 365          a year, 137 million readings: hours, 20 GB
"""

import argparse
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from connectors.historian.archive.compactor import Compactor, Store
from connectors.historian.archive.confirmed import Trimmer
from connectors.historian.archive.source import open_recent
from connectors.historian.archive.upkeep import roll_up
from connectors.historian.archive.wear import in_five_years_tb, written
from connectors.historian.reader import SqliteHistoryReader
from connectors.historian.schema import ARCHIVE, HISTORY
from connectors.historian.sqlite import SqliteRecorder
from connectors.sqlite_file import open_writer, to_ms
from ems.commands import Cause, Command, WriteOutcome, WriteResult
from ems.records import StatusRow
from ems.telemetry import Quality, Reading, Snapshot

START = datetime(2026, 1, 1, tzinfo=UTC)
RECENT = timedelta(hours=2)
PLOT_POINTS = 1000  # buckets of a plot, about
LIVE_SNAPSHOTS = 300
Rows = list[tuple[int, int, float, int, int]]  # at_ms, point, value, quality, age of sample [ms]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A plant: so many points, one snapshot every so often, for so many days."""

    name: str
    points: int
    every_s: int
    days: float

    @property
    def rows(self) -> int:
        return self.points * int(self.days * 86400 / self.every_s)

    @property
    def end(self) -> datetime:
        return START + timedelta(days=self.days)

    @property
    def bucket_s(self) -> int:
        ladder = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
        return next(e for e in ladder if self.days * 86400 / e <= PLOT_POINTS)


@dataclass(slots=True)
class Figures:
    """What one store took: bytes, and seconds of wall time."""

    in_s: float = 0.0
    size_bytes: int = 0
    plot_one_s: float = 0.0
    plot_all_s: float = 0.0
    raw_hour_s: float = 0.0
    notes: list[str] = field(default_factory=list)


def name_of(point: int) -> str:
    return f"asset{point:03}.p_kw"


def values(rng: np.random.Generator, kind: int, count: int) -> np.ndarray:
    """Powers with noise, short floats, states of charge, voltages of registers, states, counters."""
    if kind == 0:
        return np.round(200 + np.cumsum(rng.normal(0, 0.4, count)) + rng.normal(0, 0.5, count), 1)
    if kind == 1:
        return (50 + rng.normal(0, 0.02, count)).astype(np.float32).astype(float)
    if kind == 2:
        return np.round(0.5 + 0.4 * np.sin(np.arange(count) / 9000), 3)
    if kind == 3:
        return np.rint(rng.normal(4000, 20, count)) * 0.1
    return np.ones(count) if kind == 4 else np.round(1e5 + np.arange(count) * 0.05, 1)


def days_of(case: Case) -> Iterator[Rows]:
    """A day of rows after the other, in order of time."""
    rng = np.random.default_rng(9)
    count = int(86400 / case.every_s)
    for day in range(int(np.ceil(case.days))):
        n = min(count, int((case.days - day) * count))
        at = to_ms(START) + 1000 * case.every_s * (day * count + np.arange(n)) + rng.integers(0, 4, n)
        lag = rng.integers(150, 420, (max(1, case.points // 15), n))
        columns = [values(rng, p % 6, n) for p in range(case.points)]
        yield [
            (t, p, columns[p][i], 0, int(lag[p // 15 % len(lag)][i]))
            for i, t in enumerate(at.tolist())
            for p in range(case.points)
        ]


def timed(do: Callable[[], object]) -> float:
    begun = perf_counter()
    do()
    return perf_counter() - begun


def ours(case: Case, folder: Path) -> Figures:
    """Into the historian's file, packed and taken out day by day, as a plant would over the year."""
    out, path = Figures(), folder / "history.sqlite"
    db = open_writer(path, HISTORY)
    db.executemany("INSERT INTO point VALUES (?, ?)", [(p, name_of(p)) for p in range(case.points)])
    store = Store(folder / ARCHIVE)
    compactor, trimmer = Compactor(path, store, recent=RECENT), Trimmer(folder / ARCHIVE)
    pack_s = trim_s = worst_s = 0.0
    for day, rows in enumerate(days_of(case)):
        begun = perf_counter()
        db.execute("BEGIN")
        db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
        out.in_s += perf_counter() - begun
        now = START + timedelta(days=day + 1) + RECENT
        begun = perf_counter()
        while compactor.step(now) or roll_up(store, compactor.open_ms(now)):
            pass
        pack_s += perf_counter() - begun
        more = True
        while more:
            begun = perf_counter()
            more = trimmer.step(db)
            step_s = perf_counter() - begun
            trim_s, worst_s = trim_s + step_s, max(worst_s, step_s)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = {k: sum(e.size_bytes for e in store.catalogue.of(k)) for k in ("raw", "60", "900")}
    file, recent = open_recent(path)
    left, _ = recent.sums(0, 2**53)
    file.close()
    out.size_bytes = sum(kept.values())
    in_all_s = out.in_s + pack_s + trim_s
    out.notes += [
        f"packed and rolled up in {pack_s:.1f} s, taken out in {trim_s:.1f} s, "
        f"longest step {1e3 * worst_s:.1f} ms",
        f"bytes a reading: segments {kept['raw'] / case.rows:.2f}, minutes {kept['60'] / case.rows:.3f}, "
        f"quarters {kept['900'] / case.rows:.3f}; {left} readings still in SQLite",
    ]
    out.in_s = in_all_s
    reader = SqliteHistoryReader(path)
    read = lambda p: reader.buckets(name_of(p), START, case.end, case.bucket_s)  # noqa: E731
    found = read(0)
    assert sum(b.count for b in found) == case.rows // case.points, "all readings are in the plot"
    reader.close()
    reader = SqliteHistoryReader(path)  # nothing is open or known
    out.plot_one_s = timed(lambda: read(0))
    out.plot_all_s = timed(lambda: [read(p) for p in range(case.points)])
    hour = START + timedelta(days=case.days / 2)
    out.raw_hour_s = timed(lambda: reader.series(name_of(0), hour, hour + timedelta(hours=1), 10_000))
    begun, count, start = perf_counter(), 0, START
    end = min(case.end, START + timedelta(days=7))
    while page := reader.series(name_of(0), start, end, 10_000):
        count, start = count + len(page), page[-1].at + timedelta(milliseconds=1)
    out.notes.append(f"readings out, page by page: {count / (perf_counter() - begun):,.0f} a second")
    reader.close()
    for one in (compactor, store, db):
        one.close()
    return out


def plain_sqlite(case: Case, folder: Path) -> Figures:
    """A table and an index."""
    out, path = Figures(), folder / "plain.sqlite"
    db = sqlite3.connect(path)
    db.executescript(
        "CREATE TABLE reading (at TEXT, point TEXT, value REAL, quality TEXT, source TEXT);"
        "CREATE INDEX reading_at ON reading (point, at);"
    )
    for rows in days_of(case):
        texts = [(iso(t), name_of(p), v, "good", iso(t - lag)) for t, p, v, _, lag in rows]
        begun = perf_counter()
        db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?)", texts)
        db.commit()
        out.in_s += perf_counter() - begun
    out.size_bytes = path.stat().st_size
    sql = (
        "SELECT CAST(strftime('%s', at) AS INTEGER) / ? AS bucket, min(value), avg(value), max(value), "
        "count(*), max(quality) FROM reading WHERE point = ? AND at >= ? AND at < ? "
        "GROUP BY bucket ORDER BY bucket"
    )
    read = lambda p: db.execute(  # noqa: E731
        sql, (case.bucket_s, name_of(p), iso(to_ms(START)), iso(to_ms(case.end)))
    ).fetchall()
    out.plot_one_s = timed(lambda: read(0))
    out.plot_all_s = timed(lambda: [read(p) for p in range(case.points)])
    hour = to_ms(START + timedelta(days=case.days / 2))
    sql_hour = (
        "SELECT at, value, quality, source FROM reading WHERE point = ? AND at >= ? AND at < ? ORDER BY at"
    )
    out.raw_hour_s = timed(
        lambda: db.execute(sql_hour, (name_of(0), iso(hour), iso(hour + 3_600_000))).fetchall()
    )
    db.close()
    return out


def iso(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


class Postgres:
    """A server of its own, started for this run; None of it is left."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        folder.mkdir()
        if self._as:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "bench")
        options = f"-c listen_addresses= -k {folder}"
        self._run("pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def ask(self, sql: str, text: str | None = None) -> str:
        command = ["psql", "-h", str(self._folder), "-U", "bench", "-d", "postgres", "-qAtX", "-c", sql]
        done = subprocess.run(command, check=True, input=text, capture_output=True, text=True)
        return done.stdout

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "fast", "stop")


def postgres(case: Case, folder: Path) -> Figures | None:
    """A table and an index, filled by COPY; times are with the start of psql, which is told."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or shutil.which("psql") is None:
        return None
    out, server = Figures(), Postgres(found[-1].parent, folder / "pg")
    try:
        version = server.ask("SHOW server_version").split()[0]
        server.ask(
            "CREATE TABLE reading (at timestamptz, point text, value double precision, quality text, "
            "source timestamptz); CREATE INDEX ON reading (point, at)"
        )
        for rows in days_of(case):
            text = "".join(f"{iso(t)}\t{name_of(p)}\t{v}\tgood\t{iso(t - lag)}\n" for t, p, v, _, lag in rows)
            out.in_s += timed(lambda: server.ask("COPY reading FROM STDIN", text))  # noqa: B023
        server.ask("VACUUM ANALYZE reading")
        out.size_bytes = int(server.ask("SELECT pg_total_relation_size('reading')"))
        sql = (
            f"SELECT floor(extract(epoch FROM at) / {case.bucket_s}) AS bucket, min(value), avg(value), "
            "max(value), count(*), max(quality) FROM reading WHERE point = '{}' "
            "GROUP BY bucket ORDER BY bucket"
        )
        out.plot_one_s = timed(lambda: server.ask(sql.format(name_of(0))))
        every = "; ".join(sql.format(name_of(p)) for p in range(case.points))
        out.plot_all_s = timed(lambda: server.ask(every))
        hour = to_ms(START + timedelta(days=case.days / 2))
        out.raw_hour_s = timed(
            lambda: server.ask(
                f"SELECT at, value, quality, source FROM reading WHERE point = '{name_of(0)}' "
                f"AND at >= '{iso(hour)}' AND at < '{iso(hour + 3_600_000)}' ORDER BY at"
            )
        )
        out.notes.append(
            f"PostgreSQL {version}; psql alone takes {timed(lambda: server.ask('SELECT 1')):.3f} s"
        )
    finally:
        server.stop()
    return out


def live(points: int, folder: Path) -> Iterator[str]:
    """What the edge's recorder takes, and what a day writes: snapshot, command, outcome, status a second."""
    recorder = SqliteRecorder(folder / "live.sqlite")
    names = [name_of(p) for p in range(points)]
    before, took_s = written(os.getpid()), 0.0
    for i in range(LIVE_SNAPSHOTS):
        at = START + timedelta(seconds=i)
        readings = {
            n: Reading(point=n, value=float(i), quality=Quality.GOOD, source_time=at, arrived_s=0.0)
            for n in names
        }
        sent = heartbeat(at, i)
        begun = perf_counter()
        recorder.readings(Snapshot(at=at, monotonic_s=float(i), readings=readings))
        recorder.intent(sent)
        recorder.outcome(WriteResult(command=sent, outcome=WriteOutcome.CONFIRMED, detail="", finished_at=at))
        recorder.status(StatusRow(process="edge", pid=1, at=at, fields={"mode": "grid_tied"}))
        recorder.flush(60.0)
        took_s += perf_counter() - begun
    recorder.close()
    after = written(os.getpid())
    rate = points * LIVE_SNAPSHOTS / took_s
    yield f"recorder: {rate:,.0f} readings a second in, {points} points, each snapshot synced"
    if before is not None and after is not None:
        a_day = (after.size_bytes - before.size_bytes) / LIVE_SNAPSHOTS * 86400
        yield (
            f"recorder: writes {a_day / 1e9:.2f} GB a day at a cycle of 1 s, "
            f"{in_five_years_tb(a_day):.1f} TB in five years"
        )


def heartbeat(at: datetime, seq: int) -> Command:
    return Command(
        point="asset000.heartbeat", value=float(seq), cause=Cause.REFRESH, reason="alive", owner="edge",
        plan_id=None, epoch=1, seq=seq, limits_hash="0" * 12, decided_at=at, decided_s=float(seq),
    )  # fmt: skip


def show(case: Case, found: dict[str, Figures | None]) -> None:
    rivals = {n: f for n, f in found.items() if f is not None}
    mine = rivals["ems"]
    print(f"\n{case.name}: {case.rows:,} readings, {case.days:g} days, plot in buckets of {case.bucket_s} s")
    print(f"{'':<12}{'rows/s in':>12}{'bytes/row':>11}{'plot one':>11}{'plot all':>11}{'an hour':>11}")
    for name, f in rivals.items():
        print(
            f"{name:<12}{case.rows / f.in_s:>12,.0f}{f.size_bytes / case.rows:>11.2f}"
            f"{f.plot_one_s:>9.3f} s{f.plot_all_s:>9.2f} s{f.raw_hour_s:>9.3f} s"
        )
    for name, f in rivals.items():
        if f is not mine:
            print(
                f"{name + ' / ems':<24}{f.size_bytes / mine.size_bytes:>11.1f}"
                f"{f.plot_one_s / mine.plot_one_s:>9.1f}  "
                f"{f.plot_all_s / mine.plot_all_s:>9.1f}  {f.raw_hour_s / mine.raw_hour_s:>9.1f}"
            )
    for name, f in found.items():
        for note in ["not installed: left out"] if f is None else f.notes:
            print(f"  {name}: {note}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The historian against plain SQLite and PostgreSQL.")
    parser.add_argument("--days", type=float, default=14.0, help="that are recorded (14)")
    parser.add_argument("--points", type=int, default=200, help="of the case of minutes (200)")
    parser.add_argument("--dir", type=Path, help="where the stores are made (a temporary folder)")
    args = parser.parse_args(arguments)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"numpy {np.__version__}, SQLite {sqlite3.sqlite_version}; load {os.getloadavg()[0]:.1f}"
    )
    cases = (
        Case(name="seconds of one point", points=1, every_s=1, days=args.days),
        Case(name=f"minutes of {args.points} points", points=args.points, every_s=60, days=args.days),
    )
    with tempfile.TemporaryDirectory(dir=args.dir) as made:
        Path(made).chmod(0o755)  # the user postgres comes through
        for line in live(args.points, Path(made)):
            print(line)
        for i, case in enumerate(cases):
            folder = Path(made) / str(i)
            folder.mkdir()
            show(
                case,
                {
                    "ems": ours(case, folder),
                    "SQLite": plain_sqlite(case, folder),
                    "PostgreSQL": postgres(case, folder),
                },
            )
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
