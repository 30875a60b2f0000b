"""Rows of another historian as they stand there: of a CSV file, or of a query."""

import csv
import hashlib
import io
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ems.errors import ConfigError, Problem
from ems.imports import ImportMapping

AT_ONCE = 10_000


class Line(NamedTuple):
    """One row: its number as a person counts, and its cells by column."""

    number: int
    cells: dict[str, Any]


class Rows(Protocol):
    """Rows that can be read more than once."""

    name: str  # for messages

    def identity(self) -> str:
        """The same for the same content, or for the same question where content is not known before."""
        ...

    def lines(self) -> Iterator[Line]:
        """Each row. Raises ConfigError where it cannot be read, or a column is missing."""
        ...

    def close(self) -> None:
        """Give back what was held."""
        ...


def refused(name: str, line: int | None, key: str, found: str, allowed: str) -> ConfigError:
    """One problem, as an error."""
    return ConfigError([Problem(file=name, line=line, key=key, found=found, allowed=allowed)])


def _with_columns(name: str, header: Sequence[str], mapping: ImportMapping, line: int | None) -> None:
    missing = [c for c in mapping.columns if c not in header]
    twice = [c for c in mapping.columns if header.count(c) > 1]
    problems = [
        Problem(file=name, line=line, key=c, found="no such column", allowed=f"one of {', '.join(header)}")
        for c in missing
    ]
    problems += [
        Problem(file=name, line=line, key=c, found="two columns of this name", allowed="one") for c in twice
    ]
    if problems:
        raise ConfigError(problems)


class CsvRows:
    """Of a file in UTF-8 with a line of names at its top."""

    def __init__(self, path: Path, mapping: ImportMapping) -> None:
        self._path, self._mapping, self.name = path, mapping, str(path)

    def close(self) -> None:
        """Nothing is held."""

    def identity(self) -> str:
        """SHA-256 of the file. Raises ConfigError."""
        found = hashlib.sha256()
        try:
            with self._path.open("rb") as file:
                while block := file.read(1 << 20):
                    found.update(block)
        except OSError as error:
            raise refused(self.name, None, "file", error.strerror or str(error), "a readable file") from None
        return found.hexdigest()

    def lines(self) -> Iterator[Line]:
        """Each row; lines that are empty are none."""
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                yield from self._of(file)
        except UnicodeDecodeError as error:
            found = f"byte 0x{error.object[error.start]:02x}"
            raise refused(self.name, None, "encoding", found, "text in UTF-8") from None
        except OSError as error:
            raise refused(self.name, None, "file", error.strerror or str(error), "a readable file") from None

    def _of(self, file: io.TextIOBase) -> Iterator[Line]:
        reader = csv.reader(file, delimiter=self._mapping.delimiter, strict=True)
        try:
            header = [c.strip() for c in next(reader, [])]
            _with_columns(self.name, header, self._mapping, 1)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    found, wanted = f"{len(cells)} columns", f"{len(header)}, as in the first line"
                    raise refused(self.name, reader.line_num, "row", found, wanted)
                yield Line(reader.line_num, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise refused(self.name, reader.line_num, "row", str(error), "CSV (RFC 4180)") from None


class SqliteRows:
    """Of a query to an SQLite file, which is opened read-only."""

    def __init__(self, path: Path, mapping: ImportMapping) -> None:
        self._path, self._mapping, self.name = path, mapping, str(path)

    def close(self) -> None:
        """Nothing is held."""

    def identity(self) -> str:
        """Of the question: what it finds is known afterwards."""
        return _question(str(self._path.resolve()), self._mapping)

    def lines(self) -> Iterator[Line]:
        """Each row of the query."""
        assert self._mapping.query is not None
        try:
            uri = f"{self._path.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as db:
                cursor = db.execute(self._mapping.query)
                header = [str(c[0]) for c in cursor.description or ()]
                _with_columns(self.name, header, self._mapping, None)
                for n, row in enumerate(cursor, 1):
                    yield Line(n, dict(zip(header, row, strict=True)))
        except sqlite3.Error as error:
            raise refused(self.name, None, "query", str(error), "a query that this file answers") from None


class PostgresRows:
    """Of a query to PostgreSQL, in a transaction that may only read.

    Parameters
    ----------
    where : what libpq takes: words such as `host=... dbname=...`, or a URI. A password is in `~/.pgpass` or
        PGPASSWORD.
    """

    def __init__(self, where: str, mapping: ImportMapping) -> None:
        self._where, self._mapping, self.name = where, mapping, "postgresql"

    def close(self) -> None:
        """Nothing is held."""

    def identity(self) -> str:
        """Of the question: what it finds is known afterwards."""
        return _question(self._where, self._mapping)

    def lines(self) -> Iterator[Line]:
        """Each row of the query; no more than a few thousand are held at a time."""
        try:
            import psycopg
        except ImportError as error:
            wanted = "the package psycopg: pip install 'hybrid-ems[postgresql]'"
            raise refused(self.name, None, "package", str(error), wanted) from None
        assert self._mapping.query is not None
        try:
            with psycopg.connect(self._where) as db:
                db.read_only = True
                with db.cursor(name="ems_import") as cursor:
                    cursor.itersize = AT_ONCE
                    cursor.execute(self._mapping.query.encode())
                    header = [c.name for c in cursor.description or ()]
                    _with_columns(self.name, header, self._mapping, None)
                    for n, row in enumerate(cursor, 1):
                        yield Line(n, dict(zip(header, row, strict=True)))
        except psycopg.Error as error:
            text = next((x for x in str(error).splitlines() if x.strip()), type(error).__name__)
            raise refused(self.name, None, "query", text, "a query that this server answers") from None


def _question(where: str, mapping: ImportMapping) -> str:
    return hashlib.sha256(f"{where}\0{mapping.query}".encode()).hexdigest()
