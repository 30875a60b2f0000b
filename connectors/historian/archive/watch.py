"""How the long-term store does, as the edge sees it: looked at by a thread, since a disk may be slow."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from connectors.historian.archive.keeper import AUDIT_RATIO_MAX, archive_status
from ems.records import JsonValue, StatusRow

LOOK_S = 15.0
SILENT_S = 900.0  # its keeper tells once a minute
BEHIND_S_MAX = 36 * 3600.0  # a day is packed when it is over
KEPT_MIN = timedelta(days=14)  # readings in full that the disk should have room for
GIVEN_UP = "historian.readings.given_up"
PACKED = "historian.audit.packed"
Tell = Callable[[str, Mapping[str, JsonValue]], None]


class ArchiveWatch:
    """Reads the status of the store now and then.

    Parameters
    ----------
    folder : that of the store; None: there is none, and nothing is done.
    now : record time.
    event : told when readings were given up to make room, and where the chain of audit files ends: an event
        leaves the machine with every link, and with it what proves that nobody wrote the past anew.
    """

    def __init__(self, folder: Path | None, *, now: Callable[[], datetime], event: Tell) -> None:
        self._folder, self._now, self._event = folder, now, event
        self._began = now()
        self._given_up: JsonValue = None
        self._head: JsonValue = None
        self.trouble = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archive watch", daemon=True)
        if folder is not None:
            self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def look(self, row: StatusRow | None) -> None:
        """Take in what the store says of itself."""
        self.trouble = trouble(row, self._now(), self._began)
        given_up = None if row is None else row.fields.get("given_up")
        if row is not None and self._given_up is not None and given_up != self._given_up:
            since = row.fields.get("readings_since")
            self._event(GIVEN_UP, {"segments_ever": given_up, "readings_since": since})
        self._given_up = given_up if given_up is not None else self._given_up
        head = None if row is None else row.fields.get("audit_sha256")
        if row is not None and head is not None and head != self._head:
            self._head = head
            self._event(PACKED, {"file": row.fields.get("audit_file"), "sha256": head})

    def _run(self) -> None:
        while self._folder is not None and not self._closing.wait(LOOK_S):
            self.look(archive_status(self._folder))


def trouble(row: StatusRow | None, now: datetime, began: datetime) -> str:
    """What is wrong with the store; an empty text where all is well.

    Parameters
    ----------
    row : what its keeper said last.
    began : nothing is missed so soon after this.
    """
    if row is None or (now - row.at).total_seconds() > SILENT_S:
        late = (now - began).total_seconds() > SILENT_S
        return "nobody keeps the long-term store; see archive.log" if late else ""
    if row.fields.get("trouble"):
        return f"the long-term store: {row.fields['trouble']}"
    behind_s, since = row.fields.get("behind_s"), row.fields.get("readings_since")
    if isinstance(behind_s, int | float) and behind_s > BEHIND_S_MAX:
        return f"the long-term store is {behind_s / 3600:.0f} h behind"
    share = row.fields.get("audit_share")
    if isinstance(share, int | float) and share > AUDIT_RATIO_MAX:
        return f"audit files take {share:.0%} of historian.disk_gb, and are not given up"
    if row.fields.get("given_up") and isinstance(since, str):
        kept = now - datetime.fromisoformat(since)
        if kept < KEPT_MIN:
            return f"the long-term store has room for {kept.days} days of readings only"
    return ""
