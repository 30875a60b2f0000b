"""The historian against plain SQLite and PostgreSQL, used as somebody in a hurry would, in the same run.

Readings of seconds of one point, and of minutes of 200 points: in, on the disk, and out as a plot of all
of it. The rivals hold a row for each reading (time, point, value, quality, time of the device) and an index
of point and time; a plot is their own GROUP BY. PostgreSQL is left out, by name, where it is not installed.

python benchmarks/historian.py                     two weeks: some minutes
python benchmarks/historian.py --days 365 --keep FOLDER    a year, 137 million readings: an hour, 40 GB

Without --keep every reading goes through the historian's file, is packed from there and taken out of it, as
at a plant. With --keep a day is handed to the packing as columns (segment, sync, read back, compared, ledger,
rollups: all as ever; only the historian's file is left out), and the rivals make their index at the end. What
was built stays in the folder: a run that was stopped goes on at the day where it was.
"""

import argparse
import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.historian_case import START, Case, Day, Figures, days_of, name_of, timed
from benchmarks.historian_rivals import plain_sqlite, postgres
from connectors.historian.archive.compactor import HOUR_MS, ROWS_MAX, SPANS_MS, Compactor, Store
from connectors.historian.archive.confirmed import Trimmer
from connectors.historian.archive.ledger import RAW
from connectors.historian.archive.segment import Writer
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

RECENT = timedelta(hours=2)
LIVE_SNAPSHOTS = 300
DAY_MS = 86_400_000


def by_rows(case: Case, folder: Path) -> Figures:
    """Into the historian's file, packed and taken out day by day, as a plant would over the year."""
    out, path = Figures(), folder / "history.sqlite"
    db = open_writer(path, HISTORY)
    db.executemany("INSERT INTO point VALUES (?, ?)", [(p, name_of(p)) for p in range(case.points)])
    store = Store(folder / ARCHIVE)
    compactor, trimmer = Compactor(path, store, recent=RECENT), Trimmer(folder / ARCHIVE)
    pack_s = trim_s = worst_s = 0.0
    for day, readings in days_of(case, "ems"):
        rows = list(readings.numbers())
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
    file, recent = open_recent(path)
    left, _ = recent.sums(0, 2**53)
    file.close()
    out.notes += [
        f"packed and rolled up in {pack_s:.1f} s, taken out in {trim_s:.1f} s, "
        f"longest step {1e3 * worst_s:.1f} ms; {left} readings still in SQLite"
    ]
    out.in_s += pack_s + trim_s
    for one in (compactor, store, db):
        one.close()
    return out


def in_bulk(case: Case, folder: Path) -> Figures:
    """Each day as columns to what packs them; a day that is in the ledger is not made again."""
    open_writer(folder / "history.sqlite", HISTORY).close()
    store, took = Store(folder / ARCHIVE), folder / "took.jsonl"
    known_ms = store.catalogue.watermark_ms
    first = 0 if known_ms is None else (known_ms - to_ms(START)) // DAY_MS
    for day, readings in days_of(case, "ems", first):
        start_ms = to_ms(START) + day * DAY_MS
        begun = perf_counter()
        packed(store, readings, max(start_ms, known_ms or 0), start_ms + DAY_MS)
        while roll_up(store, start_ms + DAY_MS):
            pass
        with took.open("a") as stream:
            stream.write(json.dumps({"day": day, "took_s": perf_counter() - begun}) + "\n")
    store.close()
    lines = [json.loads(line) for line in took.read_text().splitlines()]
    return Figures(in_s=sum(line["took_s"] for line in lines), notes=["in bulk, without SQLite"])


def packed(store: Store, day: Day, first_ms: int, end_ms: int) -> None:
    """Segments of a day, of the length that the compactor would choose."""
    rows_an_hour = len(day.columns) * len(day.at) / 24
    length = next((s for s in SPANS_MS if rows_an_hour * s <= ROWS_MAX * HOUR_MS), SPANS_MS[-1])
    for start_ms in range(first_ms, end_ms, length):
        mine = slice(*np.searchsorted(day.at, (start_ms, start_ms + length)))
        writer = Writer(RAW, start_ms, start_ms + length)
        none = np.zeros(len(day.at[mine]), dtype=np.int64)
        for point, values in enumerate(day.columns):  # in order of their names as well
            table = {"at_ms": day.at[mine], "value": values[mine], "quality": none,
                     "lag_ms": day.polled(point)[mine]}  # fmt: skip
            writer.add(name_of(point), table)
        store.put(writer)


def ours(case: Case, folder: Path, kept: bool) -> Figures:
    """The historian: filled, and asked."""
    out = in_bulk(case, folder) if kept else by_rows(case, folder)
    store = Store(folder / ARCHIVE)
    sizes = {k: sum(e.size_bytes for e in store.catalogue.of(k)) for k in (RAW, "60", "900")}
    store.close()
    out.size_bytes = sum(sizes.values())
    out.notes.append(
        f"bytes a reading: segments {sizes[RAW] / case.rows:.2f}, minutes {sizes['60'] / case.rows:.3f}, "
        f"quarters {sizes['900'] / case.rows:.3f}"
    )
    reader = SqliteHistoryReader(folder / "history.sqlite")  # nothing is open or known
    out.raw_hour_s = timed(
        lambda: reader.series(name_of(0), case.middle, case.middle + timedelta(hours=1), 10_000)
    )
    begun, count, (start, end) = perf_counter(), 0, case.out
    while page := reader.series(name_of(0), start, end, 10_000):
        count, start = count + len(page), page[-1].at + timedelta(milliseconds=1)
    out.out_per_s = count / (perf_counter() - begun)
    reader.close()
    reader = SqliteHistoryReader(folder / "history.sqlite")

    def plot(point: int) -> list[int]:
        return [b.count for b in reader.buckets(name_of(point), START, case.end, case.bucket_s)]

    found: list[int] = []
    out.plot_one_s = timed(lambda: found.extend(plot(0)))
    assert sum(found) == case.rows // case.points, "all readings are in the plot"
    out.plots_s = timed(lambda: [plot(p) for p in case.plotted]) if case.points > 1 else 0.0
    reader.close()
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


def row(name: str, case: Case, f: Figures) -> str:
    """A line of the table."""
    plots = f"{f.plots_s:.2f} s" if case.points > 1 else ""
    return (
        f"{name:<12}{case.rows / f.in_s:>12,.0f}{f.size_bytes / case.rows:>11.2f}{f.plot_one_s:>9.3f} s"
        f"{plots:>11}{f.raw_hour_s:>9.3f} s{f.out_per_s:>12,.0f}"
    )


def ratios(name: str, mine: Figures, f: Figures) -> str:
    """How many times ours a rival takes."""
    plots = f"{f.plots_s / mine.plots_s:.1f}" if mine.plots_s else ""
    return (
        f"{name + ' / ems':<24}{f.size_bytes / mine.size_bytes:>11.1f}"
        f"{f.plot_one_s / mine.plot_one_s:>9.1f}  {plots:>9}  "
        f"{f.raw_hour_s / mine.raw_hour_s:>9.1f}  {f.out_per_s / mine.out_per_s:>10.2f}"
    )


def measured(case: Case, folder: Path, kept: bool) -> None:
    """All stores, in a folder of this case; each is told when it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # the user postgres comes through
    print(f"\n{case.name}: {case.rows:,} readings, {case.days:g} days, plot in buckets of {case.bucket_s} s")
    plots = f"plot {len(case.plotted)}" if case.points > 1 else ""
    columns = ("rows/s in", "bytes/row", "plot one", plots, "an hour", "rows/s out")
    print(" " * 12 + "".join(f"{c:>{w}}" for c, w in zip(columns, (12, 11, 11, 11, 11, 12), strict=True)))
    mine = ours(case, folder, kept)
    print(row("ems", case, mine), flush=True)
    found = {"ems": mine}
    for name, store in (("SQLite", plain_sqlite), ("PostgreSQL", postgres)):
        figures = store(case, folder, kept)
        if figures is None:
            print(f"{name:<12} not installed: left out")
            continue
        found[name] = figures
        print(row(name, case, figures), flush=True)
    for name, figures in found.items():
        if figures is not mine:
            print(ratios(name, mine, figures))
    for name, figures in found.items():
        for note in figures.notes:
            print(f"  {name}: {note}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what each store took."""
    parser = argparse.ArgumentParser(description="The historian against plain SQLite and PostgreSQL.")
    parser.add_argument("--days", type=float, default=14.0, help="that are recorded (14)")
    parser.add_argument("--points", type=int, default=200, help="of the case of minutes (200)")
    parser.add_argument("--only", choices=("seconds", "minutes"), help="one of the two cases")
    parser.add_argument("--dir", type=Path, help="where the stores are made (a temporary folder)")
    parser.add_argument("--keep", type=Path, help="build in bulk in this folder, keep it, go on where it was")
    args = parser.parse_args(arguments)
    if not 1 <= args.days <= 1000 or not 1 <= args.points <= 1000:
        parser.error("--days and --points: 1 to 1000")
    if args.keep is not None and args.days % 1:
        parser.error(f"--days {args.days:g}: with --keep, whole days")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"numpy {np.__version__}, SQLite {sqlite3.sqlite_version}; load {os.getloadavg()[0]:.1f}"
    )
    several = f"minutes of {args.points} points"
    cases = {
        "seconds": Case(name="seconds of one point", points=1, every_s=1, days=args.days),
        "minutes": Case(name=several, points=args.points, every_s=60, days=args.days),
    }
    chosen = {n: c for n, c in cases.items() if args.only in (None, n)}
    if args.keep is not None:
        for name, case in chosen.items():
            folder = args.keep.resolve() / f"{name}-{case.points}-{case.days:g}"
            measured(case, folder, kept=True)
        return
    with tempfile.TemporaryDirectory(dir=args.dir) as made:
        Path(made).chmod(0o755)
        for line in live(args.points, Path(made)):
            print(line)
        for name, case in chosen.items():
            measured(case, Path(made) / name, kept=False)
            shutil.rmtree(Path(made) / name, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; with --keep the same command goes on from here")
