"""Reads the files of the long-term store again and again: a rotten one is known before it is needed."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from connectors.historian.archive.compactor import check
from connectors.historian.archive.ledger import Catalogue
from connectors.historian.audit.ledger import AUDIT, AuditCatalogue
from connectors.historian.audit.packer import check as check_audit
from ems.errors import BadValue

log = structlog.get_logger()

EVERY_S = 600.0  # one file: a year of days, months and audit files comes round in eight days
NAMED = 3  # of those that are not what was written, in the text of the alarm


class Scrubber:
    """Compares a file with its hashes every ten minutes, in the order of their names, again and again.

    Parameters
    ----------
    folder : of the store; audit files are in a folder of their own in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: str | None = None
        self._looked_at: datetime | None = None
        self._bad: dict[str, str] = {}

    def step(self, now: datetime, known: Catalogue, audit: AuditCatalogue) -> None:
        """Look at the next file, if it is time; a clock that was put back is no reason to wait."""
        files = self._files(known, audit)
        self._bad = {name: why for name, why in self._bad.items() if name in files}
        if self._looked_at is not None and 0.0 <= (now - self._looked_at).total_seconds() < EVERY_S:
            return
        self._looked_at = now
        name = min((n for n in files if self._last is None or n > self._last), default=None)
        self._last = min(files, default=None) if name is None else name
        if self._last is not None:
            self._look(self._last, files[self._last])

    @property
    def trouble(self) -> str:
        """Which files are not what was written; an empty text where none is known to be."""
        if not self._bad:
            return ""
        names = sorted(self._bad)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"not what was written: {', '.join(names[:NAMED])}{more} (ems historian --verify)"

    def _files(self, known: Catalogue, audit: AuditCatalogue) -> Mapping[str, Callable[[], None]]:
        """How each file is compared, by its path in the store."""
        out = {e.file: partial(check, self._folder / e.file, e) for e in known.segments.values()}
        out |= {
            f"{AUDIT}/{e.file}": partial(check_audit, self._folder / AUDIT, e) for e in audit.files.values()
        }
        return out

    def _look(self, name: str, compare: Callable[[], None]) -> None:
        try:
            compare()
        except (BadValue, OSError) as error:
            if name not in self._bad:
                log.error("archive.file.rotten", file=name, why=str(error))
            self._bad[name] = str(error)
        else:
            self._bad.pop(name, None)
