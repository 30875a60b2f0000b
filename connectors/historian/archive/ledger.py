"""The ledger of the long-term store: which segments there are, and what became of those that are not.

One file of text that is only ever appended to, a line for each entry, synced before anything relies on it.
A line that a loss of power has cut short counts as not written, and the next writer takes it away.
"""

import bisect
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from connectors.historian.archive.segment import Head, head_of

FILE = "ledger.jsonl"
RAW = "raw"
LENGTH_MS_MAX = 31 * 86_400_000  # of a segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A segment of the ledger: its file, what it says of itself, and its bytes with their hash."""

    file: str
    head: Head
    size_bytes: int
    sha256: str


@dataclass(slots=True)
class Catalogue:
    """What a ledger says, read as far as it goes."""

    segments: dict[str, Entry] = field(default_factory=dict)  # by file, in the order they came
    dropped: dict[str, Entry] = field(default_factory=dict)  # so that something else has room
    replaced: set[str] = field(default_factory=set)  # files instead of which there are others
    days: list[Mapping[str, Any]] = field(default_factory=list)  # accounts of what was written
    bad_lines: int = 0
    watermark_ms: int | None = None  # readings from here on were never in a segment; None: none ever was
    _of: dict[str, list[Entry]] = field(default_factory=dict)

    def of(self, kind: str) -> list[Entry]:
        """Segments of one kind, by their start."""
        if kind not in self._of:
            mine = (e for e in self.segments.values() if e.head.kind == kind)
            self._of[kind] = sorted(mine, key=lambda e: (e.head.start_ms, e.file))
        return self._of[kind]

    def overlapping(self, kind: str, start_ms: int, end_ms: int) -> list[Entry]:
        """Segments of one kind with a part in [start, end), by their start."""
        every = self.of(kind)
        first = bisect.bisect_left(every, start_ms - LENGTH_MS_MAX, key=lambda e: e.head.start_ms)
        last = bisect.bisect_left(every, end_ms, key=lambda e: e.head.start_ms)
        return [e for e in every[first:last] if e.head.end_ms > start_ms]

    def take(self, line: Mapping[str, Any]) -> None:
        """Let one line count."""
        self._of.clear()
        match line:
            case {"do": "add", "file": str(file), "head": dict(head), **rest}:
                entry = Entry(
                    file=file, head=head_of(head), size_bytes=rest["size_bytes"], sha256=rest["sha256"]
                )
                for old in rest.get("instead_of", ()):
                    self.segments.pop(old, None)
                    self.replaced.add(old)
                self.segments[file] = entry
                if entry.head.kind == RAW:
                    before = -1 if self.watermark_ms is None else self.watermark_ms
                    self.watermark_ms = max(before, entry.head.end_ms)
            case {"do": "drop", "file": str(file)}:
                if file in self.segments:
                    self.dropped[file] = self.segments.pop(file)
            case {"do": "day"}:
                self.days.append(line)
            case _:
                self.bad_lines += 1


class LedgerReader:
    """Follows a ledger that another process writes; only what is new is read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._known = Catalogue()
        self.inode = self._read_to = 0

    def catalogue(self) -> Catalogue:
        """What the ledger says now; empty where there is none. Raises OSError."""
        try:
            with self.path.open("rb") as stream:
                at = os.fstat(stream.fileno())
                if at.st_ino != self.inode or at.st_size < self._read_to:
                    self._known, self.inode, self._read_to = Catalogue(), at.st_ino, 0
                if at.st_size > self._read_to:
                    stream.seek(self._read_to)
                    self._follow(stream.read())
        except FileNotFoundError:
            self._known, self.inode, self._read_to = Catalogue(), 0, 0
        return self._known

    @property
    def whole_bytes(self) -> int:
        """How far the file is whole lines."""
        return self._read_to

    def _follow(self, raw: bytes) -> None:
        end = raw.rfind(b"\n") + 1
        for line in raw[:end].splitlines():
            body = _body(line)
            if body is None:
                self._known.bad_lines += 1
            else:
                self._known.take(body)
        self._read_to += end


class LedgerWriter:
    """The one writer of a ledger. Raises OSError where the disk does not take it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._reader = LedgerReader(folder)
        self.catalogue = self._reader.catalogue()
        self._folder, path = folder, self._reader.path
        is_new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._file, self._reader.whole_bytes)  # what a loss of power has cut short
        os.lseek(self._file, 0, os.SEEK_END)
        os.fsync(self._file)
        if is_new:
            sync_folder(folder)

    def add(self, entry: Entry, *, instead_of: tuple[str, ...] = ()) -> None:
        """A segment is there, instead of others."""
        more = {"instead_of": list(instead_of)} if instead_of else {}
        self._append({"do": "add", **asdict(entry), **more})

    def drop(self, entry: Entry, *, at: str, why: str) -> None:
        """A segment is given up; its file may be removed once this is written."""
        self._append({"do": "drop", "at": at, "file": entry.file, "rows": entry.head.rows, "why": why})

    def day(self, account: Mapping[str, Any]) -> None:
        """What was written in a day that is over."""
        self._append({"do": "day", **account})

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, body: Mapping[str, Any]) -> None:
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        line = f'{{"crc32":"{_sum(text)}","body":{text}}}\n'.encode()
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            done = os.write(self._file, line)
            if done != len(line):
                raise OSError(f"{FILE}: only {done} of {len(line)} bytes were taken")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)
            raise
        self.catalogue = self._reader.catalogue()


def lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Every whole entry of a ledger, oldest first. Raises OSError."""
    for line in path.read_bytes().splitlines():
        body = _body(line)
        if body is not None:
            yield body


def sync_folder(folder: Path) -> None:
    """Names in the folder outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _body(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None where it is not what was written."""
    try:
        outer = json.loads(line)
        body = outer["body"]
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return body if outer["crc32"] == _sum(text) and isinstance(body, dict) else None
    except (ValueError, KeyError, TypeError):
        return None


def _sum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
