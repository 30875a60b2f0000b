"""Plain SQLite and PostgreSQL, used as somebody in a hurry would: a table of readings, and an index.

Where a store is kept it is filled day by day, each in one transaction with the note that it is there, and the
index is made at the end, which is faster and leaves it smaller; otherwise the index is there from the start.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter

from benchmarks.historian_case import Case, Figures, days_of, name_of, timed

TABLE = "CREATE TABLE reading (at {time}, point text, value {number}, quality text, source {time})"
BUILT = "CREATE TABLE built (day integer, took_s {number})"  # day -1 is the index
INDEX = "CREATE INDEX reading_at ON reading (point, at)"


def plain_sqlite(case: Case, folder: Path, kept: bool) -> Figures:
    """A table and an index."""
    out, path = Figures(), folder / "plain.sqlite"
    db = sqlite3.connect(path)
    if not db.execute("SELECT 1 FROM sqlite_master").fetchall():
        db.executescript(
            ";".join(
                ["BEGIN", TABLE.format(time="TEXT", number="REAL"), BUILT.format(number="REAL")]
                + ([] if kept else [INDEX])
                + ["COMMIT"]
            )
        )
    for day, readings in days_of(
        case, "SQLite", db.execute("SELECT count(*) FROM built WHERE day >= 0").fetchone()[0]
    ):
        texts = list(readings.texts())
        begun = perf_counter()
        db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?)", texts)
        db.execute("INSERT INTO built VALUES (?, ?)", (day, perf_counter() - begun))
        db.commit()
    if kept and not db.execute("SELECT 1 FROM built WHERE day = -1").fetchall():
        db.execute("DROP INDEX IF EXISTS reading_at")
        db.execute("INSERT INTO built VALUES (-1, ?)", (timed(lambda: db.execute(INDEX)),))
        db.commit()
    out.in_s = db.execute("SELECT sum(took_s) FROM built").fetchone()[0]
    db.close()
    out.size_bytes = path.stat().st_size
    db = sqlite3.connect(path)
    sql = (
        "SELECT CAST(strftime('%s', at) AS INTEGER) / ? AS bucket, min(value), avg(value), max(value), "
        "count(*), max(quality) FROM reading WHERE point = ? AND at >= ? AND at < ? "
        "GROUP BY bucket ORDER BY bucket"
    )
    plot = lambda p: db.execute(  # noqa: E731
        sql, (case.bucket_s, name_of(p), text_of(case.out[0]), text_of(case.end))
    ).fetchall()
    raw = lambda start, end: db.execute(  # noqa: E731
        "SELECT at, value, quality, source FROM reading WHERE point = ? AND at >= ? AND at < ? ORDER BY at",
        (name_of(0), text_of(start), text_of(end)),
    ).fetchall()
    out.raw_hour_s = timed(lambda: raw(case.middle, case.middle + timedelta(hours=1)))
    begun = perf_counter()
    out.out_per_s = len(raw(*case.out)) / (perf_counter() - begun)
    found: list[tuple[float, ...]] = []
    out.plot_one_s = timed(lambda: found.extend(plot(0)))
    assert sum(row[4] for row in found) == case.rows // case.points, "all readings are in the plot"
    out.plots_s = timed(lambda: [plot(p) for p in case.plotted]) if case.points > 1 else 0.0
    db.close()
    return out


def text_of(at: datetime) -> str:
    """As the times in the table."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"


class Postgres:
    """A server of its own, with the settings of its package but for fsync, which is off."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if not (folder / "data").exists():
            folder.mkdir(exist_ok=True)
            if self._as:
                shutil.chown(folder, "postgres")
            self._run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "bench")
        if self._is_up():  # left by a run that was killed
            return
        options = f"-c listen_addresses= -c fsync=off -k {folder}"
        self._run("pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def _is_up(self) -> bool:
        command = [*self._as, str(self._programs / "pg_ctl"), "-D", f"{self._folder}/data", "status"]
        return subprocess.run(command, stdout=subprocess.DEVNULL, cwd="/", check=False).returncode == 0

    def ask(self, *sql: str, text: str | None = None) -> str:
        """Rows, after all of it was done in one transaction."""
        command = ["psql", "-h", str(self._folder), "-U", "bench", "-d", "postgres", "-1qAtX"]
        for one in sql:
            command += ["-v", "ON_ERROR_STOP=1", "-c", one]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"PostgreSQL: {done.stderr.strip()}")
        return done.stdout

    def vacuum(self) -> None:
        """Count rows, so that the planner knows them; it can be in no transaction."""
        command = ["psql", "-h", str(self._folder), "-U", "bench", "-d", "postgres", "-qX"]
        subprocess.run([*command, "-c", "VACUUM ANALYZE reading"], check=True)

    def stop(self) -> None:
        """Leave nothing running."""
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "fast", "stop")


def postgres(case: Case, folder: Path, kept: bool) -> Figures | None:
    """A table and an index, filled by COPY; times are with the start of psql, which is told."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or shutil.which("psql") is None:
        return None
    server = Postgres(found[-1].parent, folder / "pg")
    try:
        filled_postgres(server, case, kept)
        return asked_postgres(server, case)
    finally:
        server.stop()


def filled_postgres(server: Postgres, case: Case, kept: bool) -> None:
    """Every day that is not there yet, and the index."""
    number = "double precision"
    if not server.ask("SELECT 1 FROM pg_class WHERE relname = 'built'"):
        server.ask(
            TABLE.format(time="timestamptz", number=number), BUILT.format(number=number),
            *([] if kept else [INDEX]),
        )  # fmt: skip
    for day, readings in days_of(
        case, "PostgreSQL", int(server.ask("SELECT count(*) FROM built WHERE day >= 0"))
    ):
        text = "".join(f"{at}\t{p}\t{v}\t{q}\t{s}\n" for at, p, v, q, s in readings.texts())
        note = f"INSERT INTO built SELECT {day}, extract(epoch FROM clock_timestamp() - now())"
        server.ask("COPY reading FROM STDIN", note, text=text)
    if kept and not server.ask("SELECT 1 FROM built WHERE day = -1"):
        note = "INSERT INTO built SELECT -1, extract(epoch FROM clock_timestamp() - now())"
        server.ask("SET LOCAL maintenance_work_mem = '1GB'", INDEX, note)
    server.vacuum()


def asked_postgres(server: Postgres, case: Case) -> Figures:
    """What it took to fill it, and what questions take."""
    out = Figures(
        in_s=float(server.ask("SELECT sum(took_s) FROM built")),
        size_bytes=int(server.ask("SELECT pg_total_relation_size('reading')")),
    )
    sql = (
        f"SELECT floor(extract(epoch FROM at) / {case.bucket_s}) AS bucket, min(value), avg(value), "
        "max(value), count(*), max(quality) FROM reading WHERE point = '{}' "
        "GROUP BY bucket ORDER BY bucket"
    )
    raw = lambda start, end: server.ask(  # noqa: E731
        f"SELECT at, value, quality, source FROM reading WHERE point = '{name_of(0)}' "
        f"AND at >= '{text_of(start)}' AND at < '{text_of(end)}' ORDER BY at"
    )
    out.raw_hour_s = timed(lambda: raw(case.middle, case.middle + timedelta(hours=1)))
    begun = perf_counter()
    out.out_per_s = raw(*case.out).count("\n") / (perf_counter() - begun)
    rows: list[str] = []
    out.plot_one_s = timed(lambda: rows.extend(server.ask(sql.format(name_of(0))).splitlines()))
    assert sum(int(r.split("|")[4]) for r in rows) == case.rows // case.points, "all are in the plot"
    if case.points > 1:
        out.plots_s = timed(lambda: server.ask(*[sql.format(name_of(p)) for p in case.plotted]))
    version = server.ask("SHOW server_version").split()[0]
    out.notes.append(f"PostgreSQL {version}; psql alone takes {timed(lambda: server.ask('SELECT 1')):.3f} s")
    return out
