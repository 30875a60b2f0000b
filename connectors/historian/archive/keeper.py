"""Keeps the long-term store of a running plant, and says in one small file how it does."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from connectors.historian.archive.compactor import Compactor, Store
from connectors.historian.archive.ledger import RAW, LedgerReader
from connectors.historian.archive.scrub import Scrubber
from connectors.historian.archive.upkeep import make_room, roll_up
from connectors.historian.archive.wear import WearAccount, family, in_five_years_tb, per_day_bytes, written
from connectors.historian.audit.ledger import AUDIT
from connectors.historian.audit.packer import AuditStore, Packer, remove_old
from connectors.sqlite_file import StoreError, from_ms, to_ms
from connectors.stores.kept_file import keep, kept
from ems.errors import BadValue
from ems.records import JsonValue, StatusRow
from ems.site import HistorianParams

log = structlog.get_logger()

STATUS = "status.json"
NAME = "archive"  # of the status row
WEAR_DAYS = 7  # of the latest, from which bytes a day are told
GB = 1e9
AUDIT_RATIO_MAX = 0.5  # of the disk's budget, which audit files may take before somebody is told


class Keeper:
    """One step after the other, none of which raises for a disk that fails.

    Parameters
    ----------
    history : the historian's file.
    folder : that of the store.
    params : how much is kept where.
    now : record time.
    """

    def __init__(
        self, history: Path, folder: Path, params: HistorianParams, *, now: Callable[[], datetime]
    ) -> None:
        self._history, self._folder, self._params, self._now = history, folder, params, now
        self._store: Store | None = None
        self._compactor: Compactor | None = None
        self._audit: AuditStore | None = None
        self._packer: Packer | None = None
        self._wear = WearAccount()
        self._scrubber = Scrubber(folder)
        self.trouble = ""

    def step(self) -> bool:
        """Pack, roll up, make room, look at an old file, tell; whether there is more to do at once."""
        now, busy, troubles = self._now(), False, []
        for work in (self._keep_audit, self._keep_readings):  # neither stands still with the other
            try:
                busy = work(now) or busy
            except (StoreError, OSError, BadValue) as error:
                troubles.append(str(error) or type(error).__name__)
        if not busy and self._store is not None and self._audit is not None:
            self._scrubber.step(now, self._store.catalogue, self._audit.catalogue)
        self._told("; ".join(dict.fromkeys([*troubles, *filter(None, [self._scrubber.trouble])])))
        if not busy:
            self._tell(now)
        return busy and not troubles

    def close(self) -> None:
        """Let the next one in."""
        for one in (self._packer, self._audit, self._compactor, self._store):
            if one is not None:
                one.close()

    def _keep_audit(self, now: datetime) -> bool:
        if self._audit is None or self._packer is None:
            self._audit = AuditStore(self._folder / AUDIT)
            recent = timedelta(hours=self._params.audit_recent_h)
            self._packer = Packer(self._history, self._audit, recent=recent)
        days = self._params.audit_keep_days
        for old in remove_old(self._audit, None if days is None else timedelta(days=days), now):
            log.warning("archive.audit.removed", file=old.file, rows=old.head.count)
        return self._packer.step(now)

    def _keep_readings(self, now: datetime) -> bool:
        if self._store is None or self._compactor is None:
            self._store = Store(self._folder)
            recent = timedelta(hours=self._params.recent_h)
            self._compactor = Compactor(self._history, self._store, recent=recent)
        busy = self._compactor.step(now) or roll_up(self._store, self._compactor.open_ms(now))
        disk = self._params.disk_gb * GB  # audit files are not given up: readings are, down to half of it
        audit_bytes = 0 if self._audit is None else self._audit.catalogue.size_bytes
        for entry in make_room(self._store, int(max(disk - audit_bytes, AUDIT_RATIO_MAX * disk)), now):
            log.warning("archive.segment.given_up", file=entry.file, rows=entry.head.rows)
        self._wear.look(now, {p: w for p in family(os.getppid()) if (w := written(p)) is not None})
        while self._wear.days:
            self._store.ledger.day(self._wear.days.pop(0))
        return busy

    def _told(self, trouble: str) -> None:
        """A fault is logged once when it comes and once when it goes."""
        if trouble and not self.trouble:
            log.error("archive.store.failing", why=trouble)
        elif self.trouble and not trouble:
            log.info("archive.store.recovered")
        self.trouble = trouble

    def _tell(self, now: datetime) -> None:
        try:
            fields = {**self._figures(now), "trouble": self.trouble}
            keep(self._folder / STATUS, {"at": now.isoformat(), "pid": os.getpid(), "fields": fields})
        except (OSError, StoreError) as error:  # then the age of the file tells it
            self._told(str(error))

    def _figures(self, now: datetime) -> dict[str, JsonValue]:
        if self._store is None or self._compactor is None:
            return {}
        known = self._store.catalogue
        raw = known.of(RAW)
        horizon_ms = to_ms(now) - round(self._params.recent_h * 3.6e6)
        a_day = per_day_bytes([*known.days[-WEAR_DAYS:], self._wear.account()])
        return {
            "segments": len(known.segments),
            "size_bytes": sum(e.size_bytes for e in known.segments.values()),
            "packed": self._compactor.moved,
            "conflicts": self._compactor.conflicts,
            "behind_s": (horizon_ms - self._compactor.open_ms(now)) / 1000.0,
            "readings_since": from_ms(raw[0].head.start_ms).isoformat() if raw else None,
            "given_up": len(known.dropped),
            **self._audit_figures(),
            "written_bytes_per_day": None if a_day is None else round(a_day),
            "written_tb_in_5_years": None if a_day is None else round(in_five_years_tb(a_day), 3),
            "flash_tb": self._params.flash_tb,
        }

    def _audit_figures(self) -> dict[str, JsonValue]:
        if self._audit is None or self._packer is None:
            return {}
        known = self._audit.catalogue
        return {
            "audit_files": len(known.files),
            "audit_bytes": known.size_bytes,
            "audit_packed": self._packer.moved,
            "audit_removed": len(known.removed),
            "audit_file": None if known.newest is None else known.newest.file,
            "audit_sha256": None if known.newest is None else known.newest.sha256,
            "audit_share": known.size_bytes / (self._params.disk_gb * GB),
        }


def archive_status(folder: Path) -> StatusRow | None:
    """How a store does, as its keeper said last; None where none ever did."""
    try:
        body = kept(folder / STATUS)
    except BadValue:
        return None
    match body:
        case {"at": str(at), "pid": int(pid), "fields": dict(fields)}:
            return StatusRow(process=NAME, pid=pid, at=datetime.fromisoformat(at), fields=fields)
        case _:
            return None


def statuses(folder: Path) -> Mapping[str, StatusRow]:
    """The status row of a store, by name; none where nobody keeps it."""
    row = archive_status(folder)
    return {} if row is None else {row.process: row}


def size_bytes(folder: Path) -> int:
    """How much the segments of a store take. Raises OSError."""
    return sum(e.size_bytes for e in LedgerReader(folder).catalogue().segments.values())
