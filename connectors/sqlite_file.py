"""How the project keeps a SQLite file: one writing process, read-only readers, a schema version."""

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ems.errors import EmsError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
BUSY_S = 2.0  # waits for a lock: readers almost never need it in WAL mode
WAL_BYTES_MAX = 16 * 1024 * 1024


class StoreError(EmsError):
    """A database file that cannot be used: another format, another version, or another writer."""


class DiskError(StoreError):
    """A database file that cannot be read or written now: the disk is full, read-only or failing."""


# Primary result codes of SQLite that are the disk's fault and not the file's.
OF_DISK = frozenset(
    [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN]
)


def disk_fails(error: BaseException) -> bool:
    """Whether an error is one of the disk, which may be over later."""
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in OF_DISK
    return isinstance(error, DiskError | OSError)


def _store_error(text: str, error: BaseException) -> StoreError:
    return DiskError(text) if disk_fails(error) else StoreError(text)


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables of one kind of file. `application_id` and `version` are stamped into the file's header."""

    name: str
    application_id: int
    version: int
    sql: str
    added: Mapping[int, str] = field(default_factory=dict)  # version -> what it added to the one before


def to_ms(when: datetime) -> int:
    """Aware time -> whole milliseconds since 1970 UTC."""
    return (when - EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    """Milliseconds since 1970 UTC -> aware UTC time."""
    return EPOCH + ms * MILLISECOND


def open_writer(path: Path, schema: Schema, *, synchronous: str = "FULL") -> sqlite3.Connection:
    """Open the file for its one writer and create the tables if it is new.

    Raises
    ------
    StoreError : the file is of another kind or version.
    DiskError : it cannot be read or written now.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise _store_error(f"{path}: {error}", error) from None
    try:
        found = _check(connection, path, schema)
        if found is None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(
                f"BEGIN IMMEDIATE; {schema.sql}; PRAGMA application_id={schema.application_id};"
                f"PRAGMA user_version={schema.version}; COMMIT;"
            )
        elif found < schema.version:
            steps = "".join(schema.added[v] for v in range(found + 1, schema.version + 1))
            connection.executescript(
                f"BEGIN IMMEDIATE; {steps}; PRAGMA user_version={schema.version}; COMMIT;"
            )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_MAX}")
    except sqlite3.Error as error:
        connection.close()
        raise _store_error(f"{path}: {error}", error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path, schema: Schema) -> int | None:
    """The version of this schema that the file holds; None while it is empty.

    A file of an earlier version is readable when every version since then only added to it.
    """
    try:
        connection.execute("BEGIN")  # one look: another process may be making the file, in one transaction
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise _store_error(f"{path}: not a readable {schema.name} file ({error})", error) from None
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
    if (version, kind, tables) == (0, 0, 0):
        return None
    if kind != schema.application_id:
        raise StoreError(f"{path}: application id {kind:#x} is not that of a {schema.name} file")
    known = version == schema.version or {*range(version + 1, schema.version + 1)} <= schema.added.keys()
    if not (known and version <= schema.version):
        raise StoreError(
            f"{path}: {schema.name} schema version {version}; this program reads {schema.version}"
        )
    return int(version)


class ReadOnlyFile:
    """Read side of a file that another process writes: short queries, never a transaction left open.

    A file that is not there yet, or still empty, reads as empty. A disk without room for what SQLite keeps
    beside a file is no obstacle where nobody writes the file. Safe to use from several threads.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self._path, self._schema = path, schema
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """All rows of one SELECT.

        Raises
        ------
        StoreError : the file is of another kind or version.
        DiskError : it cannot be read now.
        """
        with self._lock:
            try:
                connection = self._open("mode=ro")
            except DiskError:
                if not self._at_rest():
                    raise
                connection = self._open("mode=ro&immutable=1")
                try:
                    return self._select(connection, sql, parameters)
                finally:
                    self._close()  # it would not see what is written from now on
            return self._select(connection, sql, parameters)

    def _select(
        self, connection: sqlite3.Connection | None, sql: str, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[Any]:
        if connection is None:
            return []
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            self._close()
            raise _store_error(f"{self._path}: {error}", error) from None

    def _at_rest(self) -> bool:
        """Whether everything is in the file itself: no log of writes lies beside it."""
        log = self._path.with_name(self._path.name + "-wal")
        try:
            return not (log.exists() and log.stat().st_size)
        except OSError:
            return False

    def close(self) -> None:
        """Close the file; the next query opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, how: str) -> sqlite3.Connection | None:
        if self._connection is None and self._path.exists():
            uri = f"{self._path.resolve().as_uri()}?{how}"
            connection: sqlite3.Connection | None = None
            try:
                connection = sqlite3.connect(
                    uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
                )
                if _check(connection, self._path, self._schema) is not None:
                    connection.execute("PRAGMA query_only=ON")
                    self._connection = connection
            except sqlite3.Error as error:
                raise _store_error(f"{self._path}: {error}", error) from None
            finally:
                if self._connection is None and connection is not None:
                    connection.close()
        return self._connection


class WriterLock:
    """Held by the one process that writes a file; the kernel drops it when that process dies."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open_lock(lock_path(path))
        give_up = time.monotonic() + BUSY_S  # a reader that asks who lives holds it for a moment
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > give_up:
                    os.close(self._file)
                    raise StoreError(f"{path}: another process is writing it") from None
                time.sleep(0.01)

    def release(self) -> None:
        """Let the next writer in."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _open_lock(path: Path) -> int:
    """A disk that became read-only must not let a second writer in: what lies there is locked as well."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        return os.open(path, os.O_RDONLY)


def lock_path(path: Path) -> Path:
    """Where the writer's lock of a file lies."""
    return path.with_name(path.name + ".lock")


def writer_alive(path: Path) -> bool:
    """Tell whether some process holds the writer's lock of this file; where nobody can look, it may."""
    try:
        file = os.open(lock_path(path), os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:  # no descriptor is left, or the disk fails: that is nobody's death
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(file)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
