"""Imported history in a file of its own beside the historian: marked by source, whole or not seen."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from connectors.historian.schema import QUALITIES
from connectors.imports.convert import Converter, Imported
from connectors.imports.rows import Rows
from connectors.sqlite_file import ReadOnlyFile, Schema, WriterLock, from_ms, open_writer, to_ms, transaction
from ems.imports import ImportMapping
from ems.records import Sample

FILE = "imported.sqlite"
CHUNK = 20_000  # values in one transaction; what was done of a file is in the same one
IMPORTED = Schema(
    name="import",
    application_id=0x454D5349,  # "EMSI"
    version=1,
    sql="""
    CREATE TABLE point (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    -- What was imported, by content or query. Rows of what is not finished count as none.
    CREATE TABLE origin (
        id INTEGER PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, identity TEXT NOT NULL,
        mapping TEXT NOT NULL, lines_done INTEGER NOT NULL, finished_ms INTEGER,
        UNIQUE (source, identity, mapping)
    );
    CREATE TABLE reading (
        point_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, source TEXT NOT NULL,
        value REAL, quality INTEGER NOT NULL, origin_id INTEGER NOT NULL,
        PRIMARY KEY (point_id, at_ms, source)
    ) WITHOUT ROWID;
    CREATE VIEW readings AS
        SELECT strftime('%Y-%m-%dT%H:%M:%fZ', r.at_ms / 1000.0, 'unixepoch') AS at, p.name AS point, r.value,
               r.quality = 0 AS good, r.source
        FROM reading r JOIN point p ON p.id = r.point_id
        JOIN origin o ON o.id = r.origin_id AND o.finished_ms IS NOT NULL;
    """,
)
_PUT = """
    INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET value = excluded.value, quality = excluded.quality, origin_id = excluded.origin_id
    WHERE reading.origin_id <> excluded.origin_id
        AND (SELECT o.finished_ms FROM origin o WHERE o.id = reading.origin_id) IS NULL
    """
# What is there already; a row of an import that was given up counts as none.
_KNOWN = """
    SELECT value, quality FROM reading r JOIN origin o ON o.id = r.origin_id
    WHERE point_id = ? AND at_ms = ? AND r.source = ? AND (finished_ms IS NOT NULL OR o.id = ?)
    """


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one file or query."""

    name: str
    values: int = 0  # that were read
    added: int = 0
    known: int = 0  # were there already
    unlike: int = 0  # are there with another value, and left so
    unknown: Mapping[str, int]  # rows of tags that the mapping does not name
    first: datetime | None = None
    last: datetime | None = None
    skipped: bool = False  # the whole of it was imported before


class ImportStore:
    """The file's one writer. Raises StoreError where another process imports."""

    def __init__(self, directory: Path) -> None:
        path = directory / FILE
        self._lock = WriterLock(path)
        try:
            self._db = open_writer(path, IMPORTED)
        except BaseException:
            self._lock.release()
            raise
        self._points: dict[str, int] = dict(self._db.execute("SELECT name, id FROM point").fetchall())

    def take(self, rows: Rows, mapping: ImportMapping, now: datetime, *, by_content: bool) -> Outcome:
        """Check all rows, then store them; goes on where an import of the same content was ended.

        Parameters
        ----------
        by_content : the identity of the rows is that of their content, so that nothing is read twice.

        Raises
        ------
        ConfigError : something is wrong with a row; nothing was stored.
        """
        origin_id, done, finished = self._origin(rows, mapping)
        if by_content and finished:
            return Outcome(name=rows.name, unknown={}, skipped=True)
        checked = Converter(rows, mapping)
        for _ in checked.samples():
            pass
        checked.refuse()
        outcome = Outcome(name=rows.name, unknown=checked.unknown)
        converter, chunk = Converter(rows, mapping), list[Imported]()
        for sample in converter.samples(done if by_content else 0):
            if len(chunk) >= CHUNK and sample.line != chunk[-1].line:
                self._store(origin_id, mapping.source, chunk, outcome)
                chunk = []
            chunk.append(sample)
        self._store(origin_id, mapping.source, chunk, outcome)
        converter.refuse()
        self._db.execute("UPDATE origin SET finished_ms = ? WHERE id = ?", (to_ms(now), origin_id))
        return outcome

    def close(self) -> None:
        """Close the file and let the next one in."""
        self._db.close()
        self._lock.release()

    def _origin(self, rows: Rows, mapping: ImportMapping) -> tuple[int, int, bool]:
        # A set has no order of its own: it is written down sorted, so that the same mapping is known again.
        read_as = f"{replace(mapping, good=frozenset())!r} {sorted(mapping.good)}"
        key = (mapping.source, rows.identity(), hashlib.sha256(read_as.encode()).hexdigest())
        self._db.execute(
            "INSERT INTO origin (source, identity, mapping, name, lines_done) VALUES (?, ?, ?, ?, 0) "
            "ON CONFLICT DO NOTHING",
            (*key, rows.name),
        )
        text = (
            "SELECT id, lines_done, finished_ms IS NOT NULL FROM origin "
            "WHERE source = ? AND identity = ? AND mapping = ?"
        )
        origin_id, done, finished = self._db.execute(text, key).fetchone()
        return origin_id, done, bool(finished)

    def _store(self, origin_id: int, source: str, chunk: Sequence[Imported], outcome: Outcome) -> None:
        if not chunk:
            return
        with transaction(self._db):
            for s in chunk:
                key = (self._id(s.point), s.at_ms, source)
                known = self._db.execute(_KNOWN, (*key, origin_id)).fetchone()
                self._db.execute(_PUT, (*key, s.value, s.quality, origin_id))
                outcome.added += known is None
                outcome.known += known == (s.value, s.quality)
                outcome.unlike += known is not None and known != (s.value, s.quality)
            done = "UPDATE origin SET lines_done = ? WHERE id = ?"
            self._db.execute(done, (chunk[-1].line, origin_id))
        outcome.values += len(chunk)
        times = [from_ms(min(s.at_ms for s in chunk)), from_ms(max(s.at_ms for s in chunk))]
        outcome.first = min(t for t in (outcome.first, times[0]) if t is not None)
        outcome.last = max(t for t in (outcome.last, times[1]) if t is not None)

    def _id(self, point: str) -> int:
        if point not in self._points:
            self._db.execute("INSERT OR IGNORE INTO point (name) VALUES (?)", (point,))
            (self._points[point],) = self._db.execute(
                "SELECT id FROM point WHERE name = ?", (point,)
            ).fetchone()
        return self._points[point]


class ImportedHistory:
    """What was imported, as the historian gives samples; a file that is not there reads as empty.

    Where two sources know the same time of a point, that of the source first by name counts.
    """

    def __init__(self, directory: Path) -> None:
        self._file = ReadOnlyFile(directory / FILE, IMPORTED)

    def span(self, point: str) -> tuple[datetime, datetime] | None:
        """First and last time of a point; None where there is none."""
        rows = self._file.rows(
            "SELECT min(r.at_ms), max(r.at_ms) FROM reading r JOIN origin o ON o.id = r.origin_id "
            "WHERE o.finished_ms IS NOT NULL AND point_id = (SELECT id FROM point WHERE name = ?)",
            (point,),
        )
        if not rows or rows[0][0] is None:
            return None
        return from_ms(rows[0][0]), from_ms(rows[0][1])

    def series(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[Sample]:
        """Samples of one point in [start, end), oldest first, at most `limit`; page on from the last one."""
        rows: list[Any] = self._file.rows(
            "SELECT r.at_ms, r.value, r.quality, min(r.source) "
            "FROM reading r JOIN origin o ON o.id = r.origin_id "
            "WHERE r.at_ms >= ? AND r.at_ms < ? AND r.point_id = (SELECT id FROM point WHERE name = ?) "
            "AND o.finished_ms IS NOT NULL GROUP BY r.at_ms ORDER BY r.at_ms LIMIT ?",
            (to_ms(start), to_ms(end), point, limit),
        )
        return [Sample(at=from_ms(ms), value=value, quality=QUALITIES[q]) for ms, value, q, _ in rows]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def imports_of(directory: Path) -> list[tuple[str, str, int, bool]]:
    """Source, name, lines done and whether it is finished, of all that was imported."""
    with closing(ReadOnlyFile(directory / FILE, IMPORTED)) as file:
        rows = file.rows("SELECT source, name, lines_done, finished_ms IS NOT NULL FROM origin ORDER BY id")
    return [(source, name, done, bool(finished)) for source, name, done, finished in rows]
