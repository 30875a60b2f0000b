"""Status rows of a process beside the edge, looked at by a thread of it, which costs no cycle."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from connectors.northbound.records import RecordsReader
from connectors.sqlite_file import StoreError
from ems.records import StatusRow

LOOK_S = 5.0
SILENT_S = 60.0  # a row that is older is that of a process which hangs or is gone

Seen = TypeVar("Seen")
Look = Callable[[Mapping[str, StatusRow], datetime, datetime], Seen]  # rows, now, when it began to look


class StatusWatch(Generic[Seen]):
    """Reads the rows every few seconds.

    Parameters
    ----------
    path : the file of the process; None: nothing is done.
    now : record time.
    look : what of the rows a person should know.
    failing : the same of why the file cannot be read.
    seen : what is known before the first look.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        name: str,
        now: Callable[[], datetime],
        look: Look[Seen],
        failing: Callable[[str], Seen],
        seen: Seen,
    ) -> None:
        self._now, self._look, self._failing = now, look, failing
        self._began = now()
        self.seen = seen
        self._closing = threading.Event()
        if path is not None:
            threading.Thread(target=self._run, args=(path,), name=name, daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def _run(self, path: Path) -> None:
        reader = RecordsReader(path)
        while not self._closing.wait(LOOK_S):
            try:
                rows = reader.statuses()
            except StoreError as error:
                self.seen = self._failing(str(error))
                continue
            self.seen = self._look(rows, self._now(), self._began)
        reader.close()
