"""A folder that files are dropped into: each is taken once, whole, and kept; a bad one is put aside.

A file counts when its size and time have not changed between two looks. Names that begin with a dot, or end
in .part or .tmp, are files that are still being written.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ems.errors import ConfigError, EmsError, Problem

ARCHIVE, REFUSED = "archive", "refused"
_TAKING = ".taking"  # of files that are being read; what a crash left there is read again
NAME_BYTES_MAX = 200  # of a name that is kept: a time, a number and `.txt` go with it
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
        yield from self._marks_in("")
        if (self.path / _TAKING).is_dir():
            yield from self._marks_in(f"{_TAKING}/")

    def _marks_in(self, below: str) -> Iterator[tuple[str, Mark]]:
        for entry in os.scandir(self.path / below):
            name = entry.name
            unfinished = name.startswith(".") or name.lower().endswith(UNFINISHED)
            if unfinished or not name.lower().endswith(self.suffix):
                continue
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield below + name, (status.st_ino, status.st_size, status.st_mtime_ns)

    def take(self, name: str, mark: Mark, use: Callable[[bytes], None], now: datetime) -> str:
        """Hand a file's bytes to `use`, and keep it in the archive; refuse it where `use` raises ConfigError.

        It is moved aside first: what cannot be moved is not taken; what has its name then is another file.

        Returns
        -------
        What is wrong with it; nothing where it was taken, or was changed meanwhile.

        Raises
        ------
        FolderError : it cannot be moved or read now; it is tried again.
        EmsError : of `use`, where the fault is not the file's: it is put back, and tried again.
        """
        self._seen.pop(name, None)
        try:
            working = self._begin(name, now)
            try:
                raw = self._read(working, mark, name)
                if raw is not None:
                    use(raw)
            except ConfigError as error:
                self._refuse(working, str(error))
                return str(error)
            except BaseException:
                self._put_back(working, name)
                raise
            if raw is None:
                self._put_back(working, name)
            else:
                working.rename(self._free(ARCHIVE, working.name))
        except OSError as error:
            self._seen[name] = mark  # it stands still: it is tried at the next look
            raise FolderError(f"{self.path / name}: {error.strerror}") from None
        return ""

    def _begin(self, name: str, now: datetime) -> Path:
        """Where the file is while it is read; one that a crash left there stays there."""
        if name.startswith(f"{_TAKING}/"):
            return self.path / name
        for folder in (_TAKING, ARCHIVE):
            (self.path / folder).mkdir(mode=0o750, exist_ok=True)
        working = self._free(_TAKING, f"{now:%Y%m%dT%H%M%SZ}-{_short(name)}")
        (self.path / name).rename(working)
        return working

    def _put_back(self, working: Path, name: str) -> None:
        """Under its name, unless another file has that by now: then it waits where it is."""
        if not name.startswith(f"{_TAKING}/"):
            with contextlib.suppress(OSError):
                os.link(working, self.path / name, follow_symlinks=False)
                working.unlink()

    def _read(self, working: Path, mark: Mark, name: str) -> bytes | None:
        """None where it is another file by now. Raises ConfigError where it is none that may be taken."""
        try:
            handle = os.open(working, _FLAGS)
        except OSError as error:
            if working.is_symlink():
                raise _bad(name, "a link", "a plain file") from None
            if isinstance(error, PermissionError):
                raise _bad(name, "no right to read it", "a file that the EMS may read") from None
            raise
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

    def _refuse(self, working: Path, why: str) -> None:
        (self.path / REFUSED).mkdir(mode=0o750, exist_ok=True)
        kept = self._free(REFUSED, working.name)
        text = kept.with_name(kept.name + ".txt")
        part = kept.with_name(f".{kept.name}.txt.part")
        part.write_text(f"{why}\n", encoding="utf-8")
        part.replace(text)
        working.rename(kept)

    def _free(self, where: str, name: str) -> Path:
        """A name there that no other file has, here or in the archive: `name`, or with a number in it."""
        time, _, rest = name.partition("-")
        names = [name, *(f"{time}-{n}-{rest}" for n in range(2, 1000))]
        folders = {self.path / where, self.path / ARCHIVE}
        return self.path / where / next(n for n in names if not any(os.path.lexists(f / n) for f in folders))

    def put_aside(self) -> int:
        """How many refused files nobody has taken away yet."""
        try:
            names = [p.name for p in (self.path / REFUSED).iterdir()]
        except OSError:
            return 0
        return sum(not n.endswith(".txt") and not n.startswith(".") for n in names)


def _short(name: str) -> str:
    """A name that is not too long to be kept with more beside it: of its middle a part is left out."""
    stem, ending = Path(name).stem, Path(name).suffix
    if len(os.fsencode(name)) <= NAME_BYTES_MAX:
        return name
    kept = stem.encode("utf-8", "ignore")[: NAME_BYTES_MAX - 20] + ending.encode("utf-8", "ignore")[:20]
    return kept.decode("utf-8", "ignore")


def printable(name: str) -> str:
    """A name as it can be kept and shown, whatever bytes it is made of and wherever the file is now."""
    return Path(name).name.encode("utf-8", "replace").decode("utf-8")


def _bad(name: str, found: str, allowed: str) -> ConfigError:
    return ConfigError([Problem(file=printable(name), line=None, key="file", found=found, allowed=allowed)])
