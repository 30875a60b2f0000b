"""The commissioning record as it grows: each entry is on the disk before the next one is made."""

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path

from connectors.stores.commissioning import appended, identities_of, read_record, write_record
from connectors.stores.permit import binds, device_of, file_hashes, rows_of, sections
from dispatch.commissioning.rows import PointRow
from ems.clock import Clock
from ems.records import JsonValue
from ems.site import Site


class RecordBook:
    """The record of a site, opened to be continued.

    Parameters
    ----------
    path : the file; begun where there is none.
    user : who commissions, as the operating system says.

    Raises
    ------
    ConfigError : there is a file and it is no whole, unchanged record.
    """

    def __init__(self, path: Path, site: Site, site_file: Path, *, user: str, clock: Clock) -> None:
        self._path, self._site, self._user, self._clock = path, site, user, clock
        self.record = read_record(path) if path.exists() else ()
        now: dict[str, JsonValue] = dict(sections(site))
        heads = [e for e in self.record if e.kind == "site"]
        if not heads or heads[-1].data.get("sections") != now or heads[-1].data.get("name") != site.name:
            files: dict[str, JsonValue] = dict(file_hashes(site_file))
            self._add("site", {"name": site.name, "sections": now, "files": files})

    def held(self) -> dict[str, str]:
        """Points whose row still holds, with what it says."""
        out = {}
        for point, e in rows_of(self.record, self._site).items():
            if e.kind == "accept" or e.data.get("verdict") == "pass":
                out[point] = str(e.data.get("why", e.data.get("text", "")))
        return out

    def identities(self, told: Mapping[str, Mapping[str, str | None]]) -> None:
        """What each device says it is, where it is not what was recorded."""
        known = identities_of(self.record)
        for connection, fields in told.items():
            now: dict[str, JsonValue] = {k: v for k, v in fields.items() if v is not None}
            if now and known.get(connection) != now:
                self._add("identity", {"connection": connection, "told": now})

    def row(self, row: PointRow) -> None:
        """What was found out about one point."""
        found = {"verdict": row.verdict.value, "shown": row.shown, "text": row.text}
        self._add("row", self._bound(row.point) | found)

    def accept(self, point: str, why: str) -> None:
        """A point that somebody vouches for by hand."""
        self._add("accept", self._bound(point) | {"why": why})

    def _bound(self, point: str) -> dict[str, JsonValue]:
        told: dict[str, JsonValue] = dict(identities_of(self.record).get(device_of(self._site, point), {}))
        return {"point": point, "binds": binds(self._site, point, sections(self._site)), "device": told}

    def _add(self, kind: str, data: Mapping[str, JsonValue]) -> None:
        at = self._clock.now().astimezone(UTC).isoformat(timespec="seconds")
        self.record = appended(self.record, at=at, user=self._user, kind=kind, data=data)
        write_record(self._path, self.record)
