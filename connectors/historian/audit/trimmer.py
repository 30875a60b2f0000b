"""Which audit rows may leave the historian's file: those in a file that was read back and compared.

The process that packs writes the list; the one that writes the historian's file takes the rows out, in small
steps, and only where exactly those numbers lie in exactly that opening of exactly that file. The newest
number of each opening stays: the next is counted from it.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from connectors.historian.audit.file import Opening, Tables
from connectors.historian.audit.table import COMMAND, EVENT, GONE, OUTCOME, READINGS, REFUSAL, SAMPLE, Row
from connectors.historian.schema import SPOOLED
from connectors.sqlite_file import transaction
from connectors.stores.kept_file import keep, kept
from ems.errors import BadValue

FILE = "confirmed.json"
CHUNK = 500  # numbers taken out in one transaction: a few ms
MOD = 1_000_003
# Which numbers, and of what rows.
CHECKSUM = f"coalesce(sum((seq % {MOD} + 1) * (kind + 1 + a % {MOD} + 3 * (b % {MOD}))), 0)"
_KEYS = {
    COMMAND: ("n", "a"),
    OUTCOME: ("(epoch, seq)", "a, b"),
    REFUSAL: ("n", "a"),
    EVENT: ("n", "a"),
    SAMPLE: ("n", "a"),
}
DELETES = {
    kind: f"DELETE FROM {kind} WHERE boot = ? AND {key} IN (SELECT {of} FROM spool WHERE boot = ? "  # noqa: S608
    f"AND seq BETWEEN ? AND ? AND kind = {SPOOLED[kind]})"
    for kind, (key, of) in _KEYS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Numbers of one opening, how many rows of each table are theirs, and which they are."""

    opening: Opening
    first: int
    last: int
    count: int
    checksum: int
    rows: Mapping[str, int]


def chunks_of(opening: Opening, span: tuple[int, int], tables: Tables) -> list[Chunk]:
    """What a file holds, as the list names it."""
    keys = sorted(_keys(tables))
    out, at = [], 0
    for first in range(span[0], span[1] + 1, CHUNK):
        last = min(span[1], first + CHUNK - 1)
        mine = []
        while at < len(keys) and keys[at][0] <= last:
            mine.append(keys[at])
            at += 1
        rows = {kind: sum(1 for *_, of in mine if of == kind) for kind in DELETES}
        checksum = sum((n % MOD + 1) * (code + 1 + a % MOD + 3 * (b % MOD)) for n, code, a, b, _ in mine)
        out.append(
            Chunk(opening=opening, first=first, last=last, count=len(mine), checksum=checksum, rows=rows)
        )
    return out


def _keys(tables: Tables) -> list[tuple[int, int, int, int, str]]:
    """Number, kind and key of each row, as the table of numbers has them."""
    out = []
    for kind, rows in tables.items():
        for row in rows:
            out.append((row[0], *_key(kind, row), kind))
    return out


def _key(kind: str, row: Row) -> tuple[int, int, int]:
    if kind == GONE:
        return row[1], row[2], row[3]
    code = SPOOLED[kind]
    if kind == READINGS:
        return code, row[1], 0
    return (code, row[2], row[3]) if kind == OUTCOME else (code, row[2], 0)


def keep_chunks(folder: Path, chunks: Sequence[Chunk]) -> None:
    """Replace the list. Raises OSError."""
    keep(folder / FILE, {"chunks": [asdict(c) for c in chunks]})


def kept_chunks(folder: Path) -> list[Chunk]:
    """The list; empty where there is none, or one that is not what was written."""
    try:
        body = kept(folder / FILE)
    except BadValue:
        return []
    found: Any = [] if body is None else body.get("chunks", [])
    return [Chunk(**{**c, "opening": tuple(c["opening"])}) for c in found]


class AuditTrimmer:
    """Takes confirmed rows out of the historian's file, a chunk at a time; for its one writer.

    Parameters
    ----------
    folder : that of the audit files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._left: list[Chunk] = []
        self.trimmed = self.mismatches = 0  # rows taken out, chunks that were not as confirmed

    def step(self, db: sqlite3.Connection) -> bool:
        """Take out one chunk; whether there is more. A disk that fails is for the next batch to find."""
        self._look()
        if not self._left:
            return False
        try:
            db.execute("PRAGMA secure_delete=OFF")
            db.execute("PRAGMA synchronous=NORMAL")  # what comes back after a loss of power goes again
            with transaction(db):
                gone = _take_out(db, self._left[0])
        except _NotAsConfirmedError:
            self.mismatches += 1
        except sqlite3.Error:
            return False
        else:
            self.trimmed += gone
        self._left.pop(0)
        return bool(self._left)

    def _look(self) -> None:
        try:
            at = (self._folder / FILE).stat()
        except OSError:
            return
        seen = at.st_ino, at.st_mtime_ns, at.st_size
        if seen != self._seen:
            self._seen, self._left = seen, kept_chunks(self._folder)


def _take_out(db: sqlite3.Connection, chunk: Chunk) -> int:
    """How many rows went; 0: they had gone before."""
    store, boot, opened_ms = chunk.opening
    file = db.execute("SELECT s.id, b.opened_ms FROM store s JOIN boot b ON b.boot = ?", (boot,)).fetchone()
    span = (boot, chunk.first, chunk.last)
    where = "FROM spool WHERE boot = ? AND seq BETWEEN ? AND ?"
    newest = "AND seq < (SELECT max(seq) FROM spool WHERE boot = ?)"
    left = db.execute(f"SELECT count(*) {where} {newest}", (*span, boot)).fetchone()
    if left == (0,):
        return 0
    if file != (store, opened_ms):
        raise _NotAsConfirmedError
    *found, low = db.execute(f"SELECT count(*), {CHECKSUM}, min(seq) {where}", span).fetchone()
    gone = {kind: db.execute(sql, (boot, *span)).rowcount for kind, sql in DELETES.items()}
    is_whole = found == [chunk.count, chunk.checksum] and gone == {**dict.fromkeys(DELETES, 0), **chunk.rows}
    # It was the newest when its chunk was taken out: its row is gone, and now its number may go too.
    is_rest = found[0] == 1 and low == chunk.last and not any(gone.values())
    if not (is_whole or is_rest):
        raise _NotAsConfirmedError
    db.execute(f"DELETE {where} {newest}", (*span, boot))
    return sum(gone.values())


class _NotAsConfirmedError(Exception):
    """Other rows lie there than those that were confirmed."""
