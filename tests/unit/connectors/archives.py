"""A historian's file and its long-term store as the tests use them."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from connectors.historian.archive.compactor import Compactor, Store
from connectors.historian.archive.confirmed import Trimmer
from connectors.historian.archive.upkeep import make_room, roll_up
from connectors.historian.audit.ledger import AUDIT
from connectors.historian.audit.packer import AuditStore, Packer
from connectors.historian.reader import SqliteHistoryReader
from connectors.historian.rows import Kind, RowWriter
from connectors.historian.schema import ARCHIVE, HISTORY
from connectors.sqlite_file import open_writer, transaction
from ems.records import Sample
from ems.telemetry import Snapshot

RECENT = timedelta(hours=1)
ANY_SIZE = 10**12


def record(path: Path, snapshots: Sequence[Snapshot]) -> None:
    """Have these in the historian's file, as its writer would."""
    db = open_writer(path, HISTORY)
    cursor = db.execute("INSERT INTO boot (opened_ms) VALUES (0)")
    assert cursor.lastrowid is not None
    with transaction(db):
        RowWriter(db, cursor.lastrowid).write([(n, Kind.SNAPSHOT, s) for n, s in enumerate(snapshots)])
    db.close()


def trim(path: Path) -> Trimmer:
    """Take out of the file whatever is confirmed."""
    db = open_writer(path, HISTORY)
    trimmer = Trimmer(path.parent / ARCHIVE)
    while trimmer.step(db):
        pass
    db.close()
    return trimmer


@contextmanager
def store_of(path: Path) -> Iterator[Store]:
    store = Store(path.parent / ARCHIVE)
    try:
        yield store
    finally:
        store.close()


def pack(path: Path, now: datetime, *, bytes_max: int = ANY_SIZE, steps_max: int = 1000) -> Compactor:
    """Pack and roll up whatever is over, within a budget."""
    with store_of(path) as store:
        compactor = Compactor(path, store, recent=RECENT)
        while steps_max and (compactor.step(now) or roll_up(store, compactor.open_ms(now))):
            steps_max -= 1
        make_room(store, bytes_max, now)
        compactor.close()
    return compactor


def rows_left(path: Path) -> int:
    """Readings in the historian's file itself."""
    with sqlite3.connect(path) as db:
        (count,) = db.execute("SELECT count(*) FROM reading").fetchone()
    db.close()
    return int(count)


def all_samples(path: Path, point: str, start: datetime, end: datetime) -> Sequence[Sample]:
    reader = SqliteHistoryReader(path)
    try:
        return reader.series(point, start, end, 10**9)
    finally:
        reader.close()


def pack_audit(path: Path, now: datetime, recent: timedelta = RECENT) -> Packer:
    """Pack whatever audit rows are over."""
    store = AuditStore(path.parent / ARCHIVE / AUDIT)
    packer = Packer(path, store, recent=recent)
    while packer.step(now):
        pass
    packer.close()
    store.close()
    return packer


def audit_left(path: Path) -> dict[str, int]:
    """Audit rows and numbers in the historian's file itself."""
    with sqlite3.connect(path) as db:
        names = ("command", "outcome", "refusal", "event", "sample", "spool")
        found = {n: int(db.execute(f"SELECT count(*) FROM {n}").fetchone()[0]) for n in names}
    db.close()
    return found
