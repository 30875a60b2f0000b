"""Records to a folder: files of each hour or day once it is over, the newest and the oldest missing."""

from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from connectors.files.periods import Period, period_of
from connectors.files.tables import Place
from connectors.files.writing import FileSet
from connectors.historian.spool import Record, Span
from connectors.link import LinkError, Refused
from connectors.sqlite_file import from_ms, to_ms
from connectors.telemetry.outbox import Claim
from connectors.telemetry.wire import Desk
from ems.links import ExportLink
from ems.points import POINTS, split_point_id
from ems.site import Site

READ_ROWS = 500
IDLE_S = 1.0


class FilesWire:
    """One folder.

    Parameters
    ----------
    folder : that a relative folder of the link is in.
    """

    def __init__(self, link: ExportLink, site: Site, desk: Desk, folder: Path) -> None:
        self._link, self._site, self._desk = link, site, desk
        self._folder = folder / link.folder
        self._zone = ZoneInfo(site.timezone if link.clock == "plant" else "UTC")
        h = site.hierarchy
        about = {
            "organisation": h.organisation,
            "portfolio": h.portfolio,
            "plant": h.plant,
            "clock": link.clock,
        }
        self._files = FileSet(
            folder=self._folder, plant=h.plant, about=about, form=link.format, places=self._place
        )
        self._places: dict[str, Place] = {}
        self._newest_turn = True

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._folder)

    def open(self) -> None:
        """See that the folder is there. Raises LinkError."""
        self._there()
        if self._link.format == "parquet":
            try:
                import connectors.files.parquet  # noqa: F401
            except ImportError as error:
                why = "Parquet is written by the package pyarrow, which cannot be loaded"
                raise Refused(f"{why} ({error}): pip install 'hybrid-ems[parquet]'") from None

    def turn(self) -> None:
        """Write the files of one period, or wait. Raises LinkError, StoreError."""
        self._there()
        period = self._next()
        if period is None:
            self._desk.outbox.whole_blocks()  # nobody is told of those here
            self._desk.closing.wait(IDLE_S)
            return
        claims = self._claims(period)
        rows = self._files.write(period, claims, lambda: self._records(claims))
        figures = self._desk.figures
        for claim in claims:
            before = self._desk.outbox.count_missing(claim.span)
            self._desk.outbox.sent(claim)
            self._desk.outbox.arrived(claim)
            figures.rows_delivered += before
            figures.rows_late += 0 if self._newest_turn else before
        self._desk.counts.update(file_sets=1, file_rows=rows)
        self._newest_turn = not self._newest_turn

    def close(self) -> None:
        """There is nothing to drop."""

    def _there(self) -> None:
        """Not made by us: a stick that is away must not be mistaken for the disk that it hangs on."""
        if not self._folder.is_dir():
            raise LinkError(f"{self._folder} is not there")
        if self._link.mounted and not any(p.is_mount() for p in (self._folder, *self._folder.parents[:-1])):
            raise LinkError(f"nothing is mounted at {self._folder}")

    def _next(self) -> Period | None:
        """The newest period that is over and is not whole in files, and in every second turn the oldest."""
        spans = list(self._desk.outbox.missing_spans())
        over = self._desk.now() - timedelta(seconds=self._link.settle_s)
        now = self._period(to_ms(over.astimezone(UTC)))
        for span in reversed(spans) if self._newest_turn else spans:
            first, last = self._time(span.boot, span.first), self._time(span.boot, span.last)
            if first >= to_ms(now.start):
                continue
            return self._period(min(last, to_ms(now.start) - 1) if self._newest_turn else first)
        return None

    def _period(self, at_ms: int) -> Period:
        return period_of(from_ms(at_ms), self._link.every, self._zone)

    def _time(self, boot: int, seq: int) -> int:
        return self._desk.spool.time_of(boot, seq, self._desk.outbox.heads[boot])

    def _claims(self, period: Period) -> list[Claim]:
        """What of each opening is in a period, whether it was written before or not."""
        outbox, out = self._desk.outbox, []
        for boot, head in outbox.heads.items():
            first = self._desk.spool.first_since(boot, to_ms(period.start), head)
            end = self._desk.spool.first_since(boot, to_ms(period.end), head)
            if first < end:
                out.append(outbox.claim_of(Span(boot=boot, first=first, last=end - 1)))
        return out

    def _records(self, claims: Sequence[Claim]) -> Iterator[tuple[int, Sequence[Record]]]:
        for claim in claims:
            span = claim.span
            for first in range(span.first, span.last + 1, READ_ROWS):
                if self._desk.closing.is_set():
                    raise LinkError("the process ends")
                last = min(span.last, first + READ_ROWS - 1)
                yield span.boot, self._desk.spool.records(Span(boot=span.boot, first=first, last=last))

    def _place(self, name: str) -> Place:
        """Where a point is by the site file; empty where that does not know it."""
        if name not in self._places:
            asset, point = split_point_id(name)
            kind = self._site.asset_kinds().get(asset)
            unit = next((s.unit for s in (POINTS[kind] if kind is not None else ()) if s.name == point), "")
            subsystem = self._site.hierarchy.subsystem_of.get(asset, "")
            self._places[name] = Place(subsystem=subsystem, asset=asset, point=point, unit=unit)
        return self._places[name]
