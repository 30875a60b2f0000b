"""The ledger of the long-term store: which segments there are, and what became of those that are not."""

import bisect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from connectors.historian.archive.journal import JournalReader, JournalWriter
from connectors.historian.archive.segment import Head, head_of

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


class LedgerReader(JournalReader[Catalogue]):
    """Follows a ledger that another process writes; only what is new is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Catalogue)


class LedgerWriter(JournalWriter[Catalogue]):
    """The one writer of a ledger. Raises OSError where the disk does not take it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Catalogue)

    def add(self, entry: Entry, *, instead_of: tuple[str, ...] = ()) -> None:
        """A segment is there, instead of others."""
        more = {"instead_of": list(instead_of)} if instead_of else {}
        self.append({"do": "add", **asdict(entry), **more})

    def drop(self, entry: Entry, *, at: str, why: str) -> None:
        """A segment is given up; its file may be removed once this is written."""
        self.append({"do": "drop", "at": at, "file": entry.file, "rows": entry.head.rows, "why": why})

    def day(self, account: Mapping[str, Any]) -> None:
        """What was written in a day that is over."""
        self.append({"do": "day", **account})
