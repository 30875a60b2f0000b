"""The files of one period: written beside their place, put there whole, read back, and then told of."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.files.periods import Period
from connectors.files.tables import (
    READINGS,
    RECORDS,
    Hashed,
    PlacesOf,
    Row,
    hash_on_disk,
    reading_rows,
    record_row,
    writer_of,
)
from connectors.historian.spool import Record
from connectors.link import LinkError
from connectors.telemetry.outbox import Claim

VERSION = 1
Batches = Callable[[], Iterator[tuple[int, Sequence[Record]]]]  # boot and records of it, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """What is written where.

    Parameters
    ----------
    plant : first part of every name, and what the manifest says about the plant.
    form : csv, csv.gz or parquet.
    """

    folder: Path
    plant: str
    about: dict[str, str]
    form: str
    places: PlacesOf

    def manifest(self, period: Period) -> Path:
        """Where it is told that the files of a period are whole."""
        return self.folder / f"{self.plant}_{period.name}.manifest.json"

    def write(self, period: Period, claims: Sequence[Claim], batches: Batches) -> int:
        """Write the files of a period, unless they are there; how many rows they have.

        Raises
        ------
        LinkError : the folder takes no file, or gives back another one than was written.
        """
        spans = [
            {"boot": c.span.boot, "opened_ms": c.opened_ms, "first": c.span.first, "last": c.span.last}
            for c in claims
        ]
        told = self._told(period)
        if told is not None and told.get("openings") == spans and self._is_whole(told):
            return sum(f["rows"] for f in told["files"])
        try:
            files = [
                self._file(period, "readings", READINGS, _readings(batches, self.places)),
                self._file(period, "records", RECORDS, _records(batches)),
            ]
            body = {
                "v": VERSION, **self.about, "store": claims[0].store if claims else None,
                "start": period.start.isoformat(), "end": period.end.isoformat(),
                "openings": spans, "files": files,
            }  # fmt: skip
            self._put(self.manifest(period), json.dumps(body, indent=1).encode())
        except OSError as error:
            raise LinkError(f"{self.folder} takes no file: {error.strerror or error}") from None
        return sum(f["rows"] for f in files)

    def _told(self, period: Period) -> dict[str, Any] | None:
        try:
            found = json.loads(self.manifest(period).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _is_whole(self, told: dict[str, Any]) -> bool:
        try:
            return all(hash_on_disk(self.folder / f["name"]) == f["sha256"] for f in told["files"])
        except (OSError, KeyError, TypeError):
            return False

    def _file(self, period: Period, what: str, columns: Any, rows: Iterator[Sequence[Row]]) -> dict[str, Any]:
        path = self.folder / f"{self.plant}_{period.name}.{what}.{self.form}"
        part = path.with_name(path.name + ".part")
        count = 0
        try:
            with part.open("wb") as file:
                out = Hashed(file)
                writer = writer_of(self.form, out, columns)
                for some in rows:
                    writer.add(some)
                    count += len(some)
                writer.close()
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        self._settled()
        if (found := hash_on_disk(path)) != out.sha256:
            raise LinkError(f"{path} gives back something else than was written: {found}")
        return {"name": path.name, "rows": count, "bytes": out.size, "sha256": out.sha256}

    def _put(self, path: Path, raw: bytes) -> None:
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        self._settled()

    def _settled(self) -> None:
        """The new names are on the disk too."""
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # some network drives know no such thing
                os.fsync(handle)
        finally:
            os.close(handle)


def _readings(batches: Batches, places: PlacesOf) -> Iterator[Sequence[Row]]:
    for boot, records in batches():
        yield [row for r in records for row in reading_rows(boot, r, places)]


def _records(batches: Batches) -> Iterator[Sequence[Row]]:
    for boot, records in batches():
        yield [row for r in records if (row := record_row(boot, r)) is not None]
