"""Which readings may leave the historian's file: those that lie in a segment that was read back and compared.

The process that packs segments writes the list; the one that writes the historian's file takes the readings
out, in small steps, and only where exactly so many lie in that span as were confirmed: a row that came late
stays, until it is in a segment too.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog

from connectors.historian.archive.source import CHECKSUM, Block
from connectors.historian.audit.ledger import AUDIT
from connectors.historian.audit.trimmer import AuditTrimmer
from connectors.sqlite_file import transaction
from connectors.stores.kept_file import keep, kept
from ems.errors import BadValue

log = structlog.get_logger()

FILE = "confirmed.json"
CHUNK_ROWS = 1000  # taken out in one transaction: a few ms
HOUR_MS = 3_600_000
Chunk = tuple[int, int, int, int]  # first and last time [ms], rows, checksum of which rows


def chunks_of(block: Block) -> list[Chunk]:
    """The readings of a block, by time, in spans of whole snapshots that lie in one hour."""
    if not len(block):
        return []
    at_ms, ids = block[:, 0].astype(np.int64), block[:, 1].astype(np.int64)
    marks = (at_ms % HOUR_MS + 1) * (ids + 1)
    times, starts, counts = np.unique(at_ms, return_index=True, return_counts=True)
    group = np.column_stack([times // HOUR_MS, starts // CHUNK_ROWS])
    first = np.flatnonzero(np.append(True, (np.diff(group, axis=0) != 0).any(axis=1)))
    last = np.append(first[1:], len(times)) - 1
    rows = np.add.reduceat(counts, first)
    sums = np.add.reduceat(marks, starts[first])
    columns = (c.tolist() for c in (times[first], times[last], rows, sums))
    return list(zip(*columns, strict=True))


def keep_chunks(folder: Path, chunks: Sequence[Chunk]) -> None:
    """Replace the list. Raises OSError."""
    keep(folder / FILE, {"chunks": [list(c) for c in chunks]})


def kept_chunks(folder: Path) -> list[Chunk]:
    """The list; empty where there is none, or one that is not what was written."""
    try:
        body = kept(folder / FILE)
    except BadValue:
        return []
    found = [] if body is None else body["chunks"]
    return [tuple(c) for c in found] if isinstance(found, list) else []


class Trimmer:
    """Takes confirmed readings, then audit rows, out of the historian's file; for its one writer, by chunks.

    Parameters
    ----------
    folder : that of the long-term store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._left: list[Chunk] = []
        self._audit = AuditTrimmer(folder / AUDIT)
        self.trimmed = self.mismatches = 0  # readings taken out, chunks that were not as confirmed

    def step(self, db: sqlite3.Connection) -> bool:
        """Take out one chunk; whether there is more. A disk that fails is for the next batch to find."""
        self._look()
        if not self._left:
            return self._audit.step(db)
        first, last, *confirmed = self._left[0]
        try:
            db.execute("PRAGMA secure_delete=OFF")  # or every freed page is written once more
            db.execute("PRAGMA synchronous=NORMAL")  # what comes back after a loss of power goes again
            with transaction(db):
                where = "FROM reading WHERE at_ms BETWEEN ? AND ?"
                found = db.execute(f"SELECT count(*), {CHECKSUM} {where}", (first, last)).fetchone()
                if found[0] and list(found) != confirmed:
                    raise _NotAsConfirmedError
                db.execute(f"DELETE {where}", (first, last))
        except _NotAsConfirmedError:
            self.mismatches += 1
        except sqlite3.Error:
            return False
        else:
            self.trimmed += found[0]
        self._left.pop(0)
        return True

    def counts(self) -> dict[str, int | str]:
        """Figures for the status row of the edge."""
        return {
            "trimmed": self.trimmed,
            "trim_mismatches": self.mismatches + self._audit.mismatches,
            "trimmed_audit": self._audit.trimmed,
        }

    def _look(self) -> None:
        try:
            at = (self._folder / FILE).stat()
        except OSError:
            return
        seen = at.st_ino, at.st_mtime_ns, at.st_size
        if seen != self._seen:
            self._seen, self._left = seen, kept_chunks(self._folder)


class _NotAsConfirmedError(Exception):
    """Other readings lie there than those that were confirmed."""
