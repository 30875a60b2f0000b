"""A file of text that is only ever appended to, a line for each entry, synced before anything relies on it.

A line that a loss of power has cut short counts as not written, and the next writer takes it away.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

FILE = "ledger.jsonl"


class Known(Protocol):
    """What the lines of a journal come to."""

    bad_lines: int

    def take(self, line: Mapping[str, Any]) -> None:
        """Let one line count."""
        ...


K = TypeVar("K", bound=Known)


class JournalReader(Generic[K]):
    """Follows a journal that another process writes; only what is new is read.

    Parameters
    ----------
    make : what is known before the first line.
    """

    def __init__(self, folder: Path, make: Callable[[], K]) -> None:
        self.path, self._make = folder / FILE, make
        self._known = make()
        self.inode = self._read_to = 0

    def catalogue(self) -> K:
        """What the journal says now; empty where there is none. Raises OSError."""
        try:
            with self.path.open("rb") as stream:
                at = os.fstat(stream.fileno())
                if at.st_ino != self.inode or at.st_size < self._read_to:
                    self._known, self.inode, self._read_to = self._make(), at.st_ino, 0
                if at.st_size > self._read_to:
                    stream.seek(self._read_to)
                    self._follow(stream.read())
        except FileNotFoundError:
            self._known, self.inode, self._read_to = self._make(), 0, 0
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


class JournalWriter(Generic[K]):
    """The one writer of a journal. Raises OSError where the disk does not take it."""

    def __init__(self, folder: Path, make: Callable[[], K]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._reader = JournalReader(folder, make)
        self.catalogue = self._reader.catalogue()
        path = self._reader.path
        is_new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._file, self._reader.whole_bytes)  # what a loss of power has cut short
        os.lseek(self._file, 0, os.SEEK_END)
        os.fsync(self._file)
        if is_new:
            sync_folder(folder)

    def append(self, body: Mapping[str, Any]) -> None:
        """One more line, on the disk when this returns."""
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

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


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
