"""A folder that files are dropped into: each is taken once, whole, and kept; a bad one is put aside.

A file counts when its size and time have not changed between two looks. Names that begin with a dot, or end
in .part or .tmp, are files that are still being written.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ems.errors import ConfigError, EmsError, Problem

ARCHIVE, REFUSED = "archive", "refused"
UNFINISHED = (".part", ".tmp")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
Mark = tuple[int, int, int]  # inode, size, time: another file, or one that is still written, has another


class FolderError(EmsError):
    """The folder cannot be used now; says why."""


@dataclass(slots=True, kw_only=True)
class DropFolder:
    """One folder. `suffix` of the files that are looked at, in lower case."""

    path: Path
    suffix: str
    bytes_max: int
    _seen: dict[str, Mark] = field(default_factory=dict)

    def ready(self) -> list[tuple[str, Mark]]:
        """Files that are whole, oldest first.

        Raises
        ------
        FolderError : there is no such folder, or everybody may write into it.
        """
        try:
            mode = self.path.stat().st_mode
            if not stat.S_ISDIR(mode):
                raise FolderError(f"{self.path}: not a folder")
            if mode & stat.S_IWOTH:
                raise FolderError(
                    f"{self.path}: everybody may write into it; allowed: its owner and its group"
                )
            marks = dict(self._marks())
        except OSError as error:
            raise FolderError(f"{self.path}: {error.strerror}") from None
        same = [(name, mark) for name, mark in marks.items() if self._seen.get(name) == mark]
        self._seen = marks
        return sorted(same, key=lambda found: (found[1][2], found[0]))

    def _marks(self) -> Iterator[tuple[str, Mark]]:
        for entry in os.scandir(self.path):
            name = entry.name
            unfinished = name.startswith(".") or name.lower().endswith(UNFINISHED)
            if unfinished or not name.lower().endswith(self.suffix):
                continue
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield name, (status.st_ino, status.st_size, status.st_mtime_ns)

    def take(self, name: str, mark: Mark, use: Callable[[bytes], None], now: datetime) -> str:
        """Hand a file's bytes to `use`, and keep it in the archive; refuse it where `use` raises ConfigError.

        Returns
        -------
        What is wrong with it; nothing where it was taken, or was changed meanwhile.

        Raises
        ------
        FolderError : it cannot be read or moved now; it is tried again.
        EmsError : of `use`, where the fault is not the file's: it stays where it is.
        """
        try:
            try:
                raw = self._read(name, mark)
                if raw is None:
                    return ""
                use(raw)
            except ConfigError as error:
                self._refuse(name, str(error), now)
                return str(error)
            self._move(name, ARCHIVE, now)
        except OSError as error:
            raise FolderError(f"{self.path / name}: {error.strerror}") from None
        finally:
            self._seen.pop(name, None)
        return ""

    def _read(self, name: str, mark: Mark) -> bytes | None:
        """None where it is another file by now. Raises ConfigError where it is none that may be taken."""
        try:
            handle = os.open(self.path / name, _FLAGS)
        except OSError as error:
            if (self.path / name).is_symlink():
                raise _bad(name, "a link", "a plain file") from None
            raise FolderError(f"{self.path / name}: {error.strerror}") from None
        with os.fdopen(handle, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _bad(name, "no plain file", "a plain file")
            if status.st_size > self.bytes_max:
                raise _bad(name, f"{status.st_size} bytes", f"at most {self.bytes_max}")
            if (status.st_ino, status.st_size, status.st_mtime_ns) != mark:
                return None
            raw = stream.read(self.bytes_max + 1)
        return raw if len(raw) == mark[1] else None

    def _refuse(self, name: str, why: str, now: datetime) -> None:
        kept = self._place(name, REFUSED, now)
        text = kept.with_name(kept.name + ".txt")
        part = kept.with_name(f".{kept.name}.txt.part")
        part.write_text(f"{why}\n", encoding="utf-8")
        part.replace(text)
        (self.path / name).rename(kept)

    def _move(self, name: str, where: str, now: datetime) -> None:
        (self.path / name).rename(self._place(name, where, now))

    def _place(self, name: str, where: str, now: datetime) -> Path:
        folder = self.path / where
        folder.mkdir(mode=0o750, exist_ok=True)
        stem = f"{now:%Y%m%dT%H%M%SZ}"
        names = [f"{stem}-{name}", *(f"{stem}-{n}-{name}" for n in range(2, 1000))]
        return next(p for p in (folder / n for n in names) if not p.exists())

    def put_aside(self) -> int:
        """How many refused files nobody has taken away yet."""
        try:
            names = [p.name for p in (self.path / REFUSED).iterdir()]
        except OSError:
            return 0
        return sum(not n.endswith(".txt") and not n.startswith(".") for n in names)


def printable(name: str) -> str:
    """A name as it can be kept and shown, whatever bytes it is made of."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _bad(name: str, found: str, allowed: str) -> ConfigError:
    return ConfigError([Problem(file=printable(name), line=None, key="file", found=found, allowed=allowed)])
