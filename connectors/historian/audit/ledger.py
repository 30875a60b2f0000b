"""Which files of audit rows there are, in the order of their chain, and which were removed when and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from connectors.historian.archive.journal import JournalReader, JournalWriter
from connectors.historian.audit.file import AuditHead, Opening, head_of

AUDIT = "audit"  # folder, below that of the long-term store


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A file: what it says of itself, and its bytes with their hash."""

    file: str
    head: AuditHead
    size_bytes: int
    sha256: str


@dataclass(slots=True)
class AuditCatalogue:
    """What a ledger says, read as far as it goes."""

    files: dict[str, AuditEntry] = field(default_factory=dict)  # in the order of the chain
    removed: dict[str, AuditEntry] = field(default_factory=dict)  # they were older than is kept
    bad_lines: int = 0
    newest: AuditEntry | None = None  # the end of the chain
    reach: dict[Opening, int] = field(default_factory=dict)  # the last number that ever was in a file

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(e.size_bytes for e in self.files.values())

    def of(self, opening: Opening) -> list[AuditEntry]:
        """Files of one opening of a historian's file, by their numbers."""
        return [e for e in self.files.values() if e.head.opening == opening]

    def take(self, line: Mapping[str, Any]) -> None:
        """Let one line count."""
        match line:
            case {"do": "add", "file": str(file), "head": dict(head), **rest}:
                entry = AuditEntry(
                    file=file, head=head_of(head), size_bytes=rest["size_bytes"], sha256=rest["sha256"]
                )
                self.files[file] = self.newest = entry
                opening = entry.head.opening
                self.reach[opening] = max(self.reach.get(opening, 0), entry.head.last)
            case {"do": "drop", "file": str(file)}:
                if file in self.files:
                    self.removed[file] = self.files.pop(file)
            case _:
                self.bad_lines += 1

    def breaks(self) -> list[str]:
        """Where the chain is broken: a file that names another one before it than there is."""
        out, before = [], ""
        every = sorted([*self.files.values(), *self.removed.values()], key=lambda e: e.head.index)
        for entry in every:
            if entry.head.before != before and (before or entry.head.index == 1):
                out.append(f"{entry.file}: the file before it is not the one that it was written after")
            before = entry.sha256
        return out


class AuditLedgerReader(JournalReader[AuditCatalogue]):
    """Follows a ledger that another process writes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, AuditCatalogue)


class AuditLedgerWriter(JournalWriter[AuditCatalogue]):
    """The one writer of a ledger. Raises OSError where the disk does not take it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, AuditCatalogue)

    def add(self, entry: AuditEntry) -> None:
        """A file is there."""
        self.append({"do": "add", **asdict(entry)})

    def drop(self, entry: AuditEntry, *, at: str, why: str) -> None:
        """A file is removed once this is written."""
        self.append({"do": "drop", "at": at, "file": entry.file, "rows": entry.head.count, "why": why})
