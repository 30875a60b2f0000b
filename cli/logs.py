"""Log lines of a process: a full disk or a storm of them must cost nothing but lines.

Every process writes to standard output, which its supervisor has put into a file. A print that fails there
would raise in whoever logs, in the middle of a cycle.
"""

import os
import threading
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from ems.clock import wall_s

LINES_PER_S, BURST = 20.0, 200.0
STDOUT = 1


class RateCap:
    """Lets a burst pass and then so many lines a second; the next line says how many were left out."""

    def __init__(self, now_s: Callable[[], float] = wall_s) -> None:
        self._now_s = now_s
        self._mutex = threading.Lock()
        self._room, self._at_s, self._left_out = BURST, now_s(), 0

    def __call__(
        self, logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """A structlog processor."""
        with self._mutex:
            now_s = self._now_s()
            self._room = min(BURST, self._room + LINES_PER_S * (now_s - self._at_s))
            self._at_s = now_s
            if self._room < 1.0:
                self._left_out += 1
                raise structlog.DropEvent
            self._room -= 1.0
            left_out, self._left_out = self._left_out, 0
        if left_out:
            event["left_out"] = left_out
        return event


class Lines:
    """Writes each line at once; one that cannot be written is counted, and told with the next that can."""

    def __init__(self, descriptor: int = STDOUT) -> None:
        self._descriptor = descriptor
        self.unwritten = 0

    def msg(self, message: str) -> None:
        """One line."""
        told = f"{self.unwritten} log lines could not be written\n" if self.unwritten else ""
        raw = f"{told}{message}\n".encode(errors="replace")
        try:
            whole = os.write(self._descriptor, raw) == len(raw)
        except OSError:
            whole = False
        self.unwritten = 0 if whole else self.unwritten + 1

    log = debug = info = warning = error = critical = exception = fatal = msg


def configure() -> None:
    """Call once, when a process starts."""
    lines = Lines()
    processors = [RateCap(), *structlog.get_config()["processors"]]
    structlog.configure(
        processors=processors, logger_factory=lambda *_: lines, cache_logger_on_first_use=False
    )
