"""How our own servers do, as the edge sees it: looked at by a thread, so that a slow disk costs no cycle."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from connectors.northbound.records import RecordsReader
from connectors.sqlite_file import StoreError
from ems.records import StatusRow

LOOK_S = 5.0
SILENT_S = 60.0  # a row that is older is that of a process which hangs or is gone
TOLD_S = 600.0  # so long somebody who was refused is told


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person should know; empty texts where all is well."""

    down: str = ""
    ending: str = ""  # certificates
    strangers: str = ""  # the newest who was refused


class NorthboundWatch:
    """Reads the status rows of the servers every few seconds.

    Parameters
    ----------
    servers : names of those of the site file; with none nothing is done.
    path : the file of the process that serves.
    now : record time.
    """

    def __init__(self, servers: Sequence[str], path: Path, *, now: Callable[[], datetime]) -> None:
        self._servers, self._path, self._now = tuple(servers), path, now
        self._began = now()
        self.seen = Seen()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="northbound watch", daemon=True)
        if self._servers:
            self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def _run(self) -> None:
        reader = RecordsReader(self._path)
        while not self._closing.wait(LOOK_S):
            try:
                rows = reader.statuses()
            except StoreError as error:
                self.seen = Seen(down=str(error))
                continue
            self.seen = look(self._servers, rows, self._now(), self._began)
        reader.close()


def look(servers: Sequence[str], rows: Mapping[str, StatusRow], now: datetime, began: datetime) -> Seen:
    """What of the servers is to be told.

    Parameters
    ----------
    rows : status rows by name of the server.
    began : rows are not missed so soon after this.
    """
    down, ending, strangers = [], [], dict[str, str]()
    for name in servers:
        row = rows.get(name)
        if row is None or (now - row.at).total_seconds() > SILENT_S:
            if (now - began).total_seconds() > SILENT_S:
                down.append(f"{name}: nobody serves; see northbound.log")
            continue
        if not row.fields.get("up"):
            down.append(f"{name}: {row.fields.get('trouble')}")
        if row.fields.get("certificates"):
            ending.append(f"{name}: {row.fields['certificates']}")
        at = row.fields.get("stranger_at")
        if isinstance(at, str) and at and (now - datetime.fromisoformat(at)).total_seconds() < TOLD_S:
            strangers[str(row.fields.get("stranger"))] = at  # the same one is told by all servers
    return Seen("; ".join(down), "; ".join(ending), "; ".join(strangers))
