"""What is newest, written by a thread of its own: whoever has it puts it down and goes on.

A disk that hangs must hold no control cycle. What is put takes the place of what waits, so that a slow disk
is never more than one value behind. Whoever puts asks for `trouble` in each cycle, and tells it: nothing is
told from the thread.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ems.errors import BadValue

T = TypeVar("T")
LATE_S = 3.0  # wall: what has waited so long for the disk is told
CLOSE_S_MAX = 4.0  # wall: a supervisor has 15 s for the whole process


class KeptLater(Generic[T]):
    """The slot of one file.

    Parameters
    ----------
    name : of the thread.
    write : puts a value on the disk; raises OSError or BadValue where it cannot.
    beside : in a thread. False: `put` writes, and waits: for virtual time, where a wait delays nothing.
    """

    def __init__(self, name: str, write: Callable[[T], None], *, beside: bool) -> None:
        self._write = write
        self._turn = threading.Condition()
        self._slot: tuple[T, ...] = ()  # the newest, until it is taken to the disk
        self._put_s = 0.0  # when it was put
        self._failed: tuple[T, ...] = ()  # the newest, where the last try failed
        self._busy = self._closing = False
        self._why: str | None = None  # why the last try failed
        self._since_s: float | None = None  # since when the disk does not hold what is newest
        self._beside = beside
        if beside:
            threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def unwritten(self) -> bool:
        """Whether the newest value is not on the disk yet."""
        return self._since_s is not None

    @property
    def trouble(self) -> str | None:
        """Why the newest value cannot be written, or what it waits for; None: it is, or is about to be."""
        with self._turn:
            since_s = self._since_s
            if self._why is None and since_s is not None and time.monotonic() - since_s > LATE_S:
                return f"the disk has not answered for {LATE_S:g} s"
            return self._why

    def put(self, value: T) -> None:
        """Have it written. What still waits is not needed any more."""
        with self._turn:
            self._put_s = time.monotonic()
            if self._since_s is None:
                self._since_s = self._put_s
            self._slot, self._failed = (value,), ()
            self._turn.notify_all()
        if not self._beside:
            self._once()

    def again(self) -> None:
        """Try once more what could not be written; nothing where nothing failed."""
        with self._turn:
            failed = self._failed
        if failed:
            self.put(failed[0])

    def close(self, timeout_s: float = CLOSE_S_MAX) -> bool:
        """Write the newest value and end; False where it is not on the disk in time. Nothing is put after."""
        self.again()
        with self._turn:
            self._closing = True
            self._turn.notify_all()
        return self.settle(timeout_s)

    def settle(self, timeout_s: float) -> bool:
        """Wait for the disk, where a wait delays nothing; False: the newest value is not on it in time."""
        with self._turn:
            self._turn.wait_for(lambda: not (self._slot or self._busy), timeout_s)
        return not self.unwritten

    def _run(self) -> None:
        while self._waits():
            self._once()

    def _waits(self) -> bool:
        """Wait for a value; False: there is none, and none will come."""
        with self._turn:
            self._turn.wait_for(lambda: self._slot or self._closing)
            return bool(self._slot)

    def _once(self) -> None:
        with self._turn:
            taken, self._slot, self._busy = self._slot, (), True
        why: str | None = None
        try:
            self._write(taken[0])
        except OSError as error:
            why = error.strerror if error.strerror else type(error).__name__
        except (BadValue, MemoryError) as error:  # the thread must outlive them
            why = str(error) or type(error).__name__
        self._done(taken, why)

    def _done(self, taken: tuple[T, ...], why: str | None) -> None:
        with self._turn:
            self._why, self._busy = why, False
            if not self._slot:
                self._failed = () if why is None else taken
                self._since_s = self._since_s if self._failed else None
            elif why is None:  # the disk is one value behind, and no more
                self._since_s = self._put_s
            self._turn.notify_all()
