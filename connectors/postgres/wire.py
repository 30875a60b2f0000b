"""Records to a PostgreSQL database: delivered is what the database itself counts and hashes as we do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from connectors.historian.spool import Span
from connectors.link import Refused
from connectors.postgres.digest import digest
from connectors.postgres.session import Session, TooSlow, Unfit
from connectors.postgres.tables import Tables
from connectors.sqlite_file import to_ms
from connectors.telemetry.ledger import Spans
from connectors.telemetry.outbox import Claim
from connectors.telemetry.wire import Allowance, Desk
from ems.clock import wall_s
from ems.links import DatabaseLink
from ems.site import Site

log = structlog.get_logger()

READINGS_MAX = 20_000  # of one batch
RECORDS_MAX = 1000
IDLE_S = 0.3
CHECK_S = 5.0  # between two blocks that are counted again while nothing else is to do
CHECKED_MS = 14 * 86_400_000  # what is older may be thinned or removed there
ASK_S = 10.0
AGAIN_S = 600.0  # what was set aside is tried again
ASIDE_MAX = 1000  # more than so many rows is no matter of single rows


@dataclass(slots=True)
class Pace:
    """How much is sent at once: less where the server is slow. It outlives a connection."""

    readings_max: float = READINGS_MAX
    readings_per_record: float = 50.0  # smoothed

    @property
    def records(self) -> int:
        """About so many records are one batch."""
        return int(max(1, min(RECORDS_MAX, self.readings_max / max(1.0, self.readings_per_record))))

    def done(self, records: int, readings: int) -> None:
        """A batch was taken in time."""
        self.readings_per_record += 0.2 * (readings / records - self.readings_per_record)
        self.readings_max = min(READINGS_MAX, 1.25 * self.readings_max)

    def slow(self, readings: int) -> None:
        """A batch was not."""
        self.readings_max = max(1.0, min(self.readings_max, readings) / 2)


class PostgresWire:
    """One session with a database.

    Parameters
    ----------
    folder : that files named in the site file are relative to.
    pace : of the link.
    """

    def __init__(self, link: DatabaseLink, site: Site, desk: Desk, folder: Path, pace: Pace) -> None:
        self._link, self._desk, self._pace = link, desk, pace
        self._session = Session(link, folder, f"ems-{site.name}-{link.id}")
        self._tables = Tables(self._session, link.schema, site, link.timeout_s)
        self._allowance = Allowance(link.backfill_per_s)
        self._aside_s = self._asked_s = self._checked_s = wall_s()
        self._checked = (0, 0)  # the block that was counted again last

    @property
    def where(self) -> str:
        """The database."""
        return self._session.where

    def open(self) -> None:
        """Connect, and find out what of what was delivered is not there. Raises LinkError, StoreError."""
        self._session.open()
        self._desk.outbox.receiver(self._tables.open())
        self._desk.outbox.start_over()
        self._nothing_aside()
        self._lost()

    def turn(self) -> None:
        """The newest rows, then some of those that are late. Raises LinkError, StoreError."""
        outbox = self._desk.outbox
        sent = self._send(outbox.live)
        if self._allowance.is_left:
            sent = self._send(outbox.late) or sent
        for block in outbox.whole_blocks():
            self._tables.tell(outbox.claim_of(block), digest(self._desk.spool.records(block)))
        if self._desk.figures.rows_unlike and wall_s() - self._aside_s > AGAIN_S:
            self._nothing_aside()
            outbox.start_over()
        if wall_s() - self._asked_s > ASK_S and outbox.store is not None:
            self._asked_s = wall_s()
            self._desk.wanted.extend(self._tables.resends(outbox.store))
        if not sent:
            self._check_one()
            self._desk.closing.wait(IDLE_S)

    def close(self) -> None:
        """Drop it."""
        self._session.close()

    def _send(self, lane: Callable[[int], Claim | None]) -> bool:
        claim = lane(self._pace.records)
        if claim is None:
            return False
        self._put(claim)
        return True

    def _put(self, claim: Claim) -> None:
        """Store and confirm; what the database does not take is found by halves, and set aside."""
        outbox, span = self._desk.outbox, claim.span
        records = self._desk.spool.records(span)
        sent = digest(records)
        outbox.sent(claim)
        try:
            self._tables.put(claim, records)
            same = self._tables.digest(claim) == sent
            why = "they are not there as they were sent"
        except TooSlow:
            self._pace.slow(sent.readings)
            raise
        except Unfit as error:
            same, why = False, str(error)
        if same:
            self._delivered(claim, sent.readings)
        elif span.count > 1:
            middle = (span.first + span.last) // 2
            self._put(claim.until(middle))
            self._put(claim.since(middle + 1))
        else:
            self._set_aside(claim, why)

    def _delivered(self, claim: Claim, readings: int) -> None:
        count, figures = claim.span.count, self._desk.figures
        self._desk.outbox.arrived(claim)
        self._pace.done(count, readings)
        self._desk.counts.update(batches=1, readings_delivered=readings)
        figures.rows_delivered += count
        if claim.late:
            figures.rows_late += count
            self._allowance.use(readings)

    def _set_aside(self, claim: Claim, why: str) -> None:
        figures, span = self._desk.figures, claim.span
        if not figures.rows_unlike:
            figures.trouble = f"from number {span.first} of boot {span.boot} on: {why}"
            log.warning("telemetry.rows.unlike", link=self._link.id, boot=span.boot, seq=span.first, why=why)
        figures.rows_unlike += 1
        if figures.rows_unlike > ASIDE_MAX:
            raise Refused(f"{figures.rows_unlike} rows, {figures.trouble}")

    def _nothing_aside(self) -> None:
        self._aside_s = wall_s()
        self._desk.figures.rows_unlike, self._desk.figures.trouble = 0, ""

    def _lost(self) -> None:
        """Rows of the last days that were delivered and are not there: a database put back from a copy."""
        outbox, spool = self._desk.outbox, self._desk.spool
        if outbox.store is None:
            return
        since_ms = to_ms(self._desk.now()) - CHECKED_MS
        for boot, head in outbox.heads.items():
            first = spool.first_since(boot, since_ms, head)
            if first > head.last:
                continue
            there = Spans(iter([(1, first - 1)] if first > 1 else []))
            for a, b in self._tables.stored(outbox.store, boot, head, first):
                there.add(a, b)
            for a, b in there.gaps(head.last):
                self._desk.figures.rows_resent += outbox.again(Span(boot=boot, first=a, last=b))

    def _check_one(self) -> None:
        """Count and hash one block of the last days again; what is not right there is sent again."""
        outbox = self._desk.outbox
        if outbox.store is None or wall_s() - self._checked_s < CHECK_S:
            return
        self._checked_s = wall_s()
        found = self._tables.told(outbox.store, self._checked)
        if found is None:
            self._checked = (0, 0)
            return
        self._checked, span, told = found
        at_ms = self._desk.spool.at_ms(span.boot, span.last)
        if span.boot not in outbox.heads or at_ms is None or at_ms < to_ms(self._desk.now()) - CHECKED_MS:
            return
        self._desk.counts.update(blocks_checked=1)
        if self._tables.digest(outbox.claim_of(span)) != told:
            self._desk.figures.rows_resent += outbox.again(span)
