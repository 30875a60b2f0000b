"""The invocation counter of a pair of keys, kept in a file so that it never goes back.

A counter that is used twice with one key gives the key away (AES-GCM), and a meter refuses one that is not
higher than the last. Numbers are taken from the file before they are used, in lots; those of a lot that were
not used are given back where nobody has taken others meanwhile. A file that is gone is not begun anew.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from connectors.link import Untrusted

LOT = 256
LAST = 0xFFFF_FFFF
ALLOWED = "one number: 1 with new keys, else the meter's own counter of this client (0-0:43.1.x*255) plus 1"


class Counter:
    """Numbers out of one file; several processes may draw from it.

    Parameters
    ----------
    path : holds the next number, in digits.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = self._end = 0  # of the lot that is ours

    @property
    def left(self) -> int:
        """Numbers of the lot that were not used."""
        return self._end - self._next

    def take(self) -> int:
        """The next number of the lot. There must be one."""
        assert self.left > 0, "a lot is drawn before a request is made"
        self._next += 1
        return self._next - 1

    def draw(self) -> None:
        """Take a lot; blocks until it is on the disk. Raises Untrusted."""
        with self._held():
            first = self._read()
            if first + LOT > LAST:
                raise Untrusted(f"{self._path}: the invocation counter is used up; the meter needs new keys")
            self._write(first + LOT)
            self._next, self._end = first, first + LOT

    def give_back(self) -> None:
        """Leave what was not used to the next lot, if nobody has drawn one since.

        Where the file cannot be read or written any more they are lost; the next lot is what tells it.
        """
        with suppress(Untrusted):
            if self.left:
                with self._held():
                    if self._read() == self._end:
                        self._write(self._next)
        self._next = self._end = 0

    @contextmanager
    def _held(self) -> Iterator[None]:
        try:
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Untrusted(f"{self._path}.lock cannot be made: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> int:
        try:
            text = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no text"
            raise Untrusted(f"{self._path} cannot be read ({why}); it holds {ALLOWED}") from None
        if not (text.isascii() and text.isdigit() and int(text) <= LAST):
            raise Untrusted(f"{self._path}: found {text[:20]!r}; allowed: {ALLOWED}")
        return int(text)

    def _write(self, number: int) -> None:
        """Whole or not at all, and on the disk before a number of it is used."""
        beside = Path(f"{self._path}.new")
        try:
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, f"{number}\n".encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            beside.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Untrusted(f"{self._path} cannot be written: {error.strerror}") from None
