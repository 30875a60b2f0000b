"""How the links do, as the edge sees it: looked at by a thread, so that a slow disk costs no cycle."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from connectors.sqlite_file import StoreError
from connectors.telemetry.ledger import statuses
from ems.links import DatabaseLink, ExportLink
from ems.records import StatusRow
from ems.site import TelemetryLink

Link = TelemetryLink | DatabaseLink | ExportLink
LOOK_S = 5.0
SILENT_S = 60.0  # a row that is older is that of a process which hangs or is gone
PREFIX = "telemetry_"  # of the name of a status row, before that of the link


class TelemetryWatch:
    """Reads the status rows of the links every few seconds.

    Parameters
    ----------
    links : those of the site file; with none nothing is done.
    path : the ledger of the process that sends.
    now : record time.
    """

    def __init__(self, links: Sequence[Link], path: Path, *, now: Callable[[], datetime]) -> None:
        self._links, self._path, self._now = tuple(links), path, now
        self._began = now()
        self._down = self._behind = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry watch", daemon=True)
        if self._links:
            self._thread.start()

    @property
    def down(self) -> str:
        """Which links are down and why; empty: none."""
        return self._down

    @property
    def behind(self) -> str:
        """Which links have rows that wait too long; empty: none."""
        return self._behind

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(LOOK_S):
            try:
                rows = statuses(self._path)
            except StoreError as error:
                self._down = str(error)
                continue
            self._down, self._behind = troubles(self._links, rows, self._now(), self._began)


def troubles(
    links: Sequence[Link], rows: Mapping[str, StatusRow], now: datetime, began: datetime
) -> tuple[str, str]:
    """What of the links is down, and what is behind; empty texts where all is well.

    Parameters
    ----------
    rows : status rows by name of the process.
    began : rows are not missed so soon after this.
    """
    down, behind = [], []
    for link in links:
        row = rows.get(PREFIX + link.id)
        if row is None or (now - row.at).total_seconds() > SILENT_S:
            if (now - began).total_seconds() > SILENT_S:
                down.append(f"{link.id}: nobody sends; see telemetry.log")
            continue
        if not row.fields.get("up"):
            down.append(f"{link.id}: {row.fields.get('reason')}")
        if row.fields.get("rows_unlike"):
            behind.append(f"{link.id}: {row.fields['rows_unlike']} rows {row.fields.get('trouble')}")
        waits_s = row.fields.get("missing_s")
        if isinstance(waits_s, int | float) and waits_s > link.backlog_s_max:
            count = row.fields.get("missing_rows")
            behind.append(f"{link.id}: {count} rows wait, the oldest for {waits_s / 60:.0f} min")
    return "; ".join(down), "; ".join(behind)
