"""Packs what is no longer recent into segments. A kill or a loss of power at any point costs nothing.

Each step: write the segment beside, sync, rename, sync the folder; read it back and compare count and hash
with what was read from the historian; put it into the ledger; only then confirm that the readings may leave
the historian's file. A file that the ledger does not know is put there at the next start, if it is whole.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import structlog

from connectors.historian.archive.confirmed import Chunk, chunks_of, keep_chunks, kept_chunks
from connectors.historian.archive.ledger import RAW, Catalogue, Entry, LedgerWriter
from connectors.historian.archive.segment import Head, Segment, Writer
from connectors.historian.archive.source import Block, by_point, open_recent
from connectors.sqlite_file import WriterLock, from_ms, to_ms
from connectors.stores.kept_file import put_whole
from ems.errors import BadValue

log = structlog.get_logger()

SPANS_MS = (86_400_000, 3_600_000, 600_000)  # of a segment of readings: the longest with not too many rows
ROWS_MAX = 1_000_000
HOUR_MS = 3_600_000
CHUNKS_MAX = 20_000  # confirmed and not taken out yet: nothing more is packed meanwhile
HOURS_LOOKED_AT = 24  # of the oldest readings: what is confirmed leaves, what came late remains


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """[start, end) in ms since 1970 UTC."""

    start_ms: int
    end_ms: int


class Store:
    """The folder of the long-term store, for its one writer.

    Raises
    ------
    StoreError : another process writes it. OSError : the disk does not take it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = WriterLock(folder / "store")
        try:
            self.ledger = LedgerWriter(folder)
            self._adopt()
        except BaseException:
            self._lock.release()
            raise

    @property
    def catalogue(self) -> Catalogue:
        """What there is."""
        return self.ledger.catalogue

    def put(self, writer: Writer, *, instead_of: Sequence[Entry] = ()) -> Entry:
        """Store a segment, and have it in the ledger.

        Raises
        ------
        BadValue : what was read back is not what was written; it is in no ledger.
        """
        head, raw = writer.finish()
        path = self._free(head)
        put_whole(path, raw, mode=0o644)
        entry = Entry(file=path.name, head=head, size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        check(path, entry)
        self.ledger.add(entry, instead_of=tuple(e.file for e in instead_of))
        for old in instead_of:
            (self.folder / old.file).unlink(missing_ok=True)
        return entry

    def drop(self, entry: Entry, *, now: datetime, why: str) -> None:
        """Give a segment up: first it is written down, then the file goes."""
        self.ledger.drop(entry, at=now.isoformat(), why=why)
        (self.folder / entry.file).unlink(missing_ok=True)

    def close(self) -> None:
        """Let the next writer in."""
        self.ledger.close()
        self._lock.release()

    def _free(self, head: Head) -> Path:
        """A name that no segment ever had: those of one span are numbered as they come."""
        known = self.catalogue
        begin = f"{head.kind}-{from_ms(head.start_ms):%Y%m%dT%H%M%SZ}-{(head.end_ms - head.start_ms) // 1000}"
        n = 0
        taken = known.segments.keys() | known.dropped.keys() | known.replaced
        while f"{begin}-{n}.zip" in taken:
            n += 1
        return self.folder / f"{begin}-{n}.zip"

    def _adopt(self) -> None:
        """Files that the ledger does not know: whole ones are taken, those given up are removed."""
        known = self.catalogue
        for draft in self.folder.glob(".*.new"):  # of a write that was cut short
            draft.unlink()
        for path in sorted(self.folder.glob("*.zip")):
            if path.name in known.segments:
                continue
            if path.name in known.dropped or path.name in known.replaced:
                path.unlink()
                continue
            try:
                with Segment(path) as segment:
                    head, whole = segment.head, segment.verified()
            except BadValue as error:
                log.error("archive.segment.unreadable", file=path.name, why=str(error))
                continue
            if not whole:
                log.error("archive.segment.unreadable", file=path.name, why="its hash is wrong")
                continue
            raw = path.read_bytes()
            older = [e.file for e in known.segments.values() if e.head.kind == head.kind != RAW
                     and e.head.start_ms == head.start_ms]  # fmt: skip
            entry = Entry(
                file=path.name, head=head, size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest()
            )
            self.ledger.add(entry, instead_of=tuple(older))
            log.info("archive.segment.adopted", file=path.name, rows=head.rows)


def check(path: Path, entry: Entry) -> None:
    """Read a segment back from the disk and compare it with what it is to be.

    Raises
    ------
    BadValue : it is not that.
    """
    if hashlib.sha256(from_disk(path)).hexdigest() != entry.sha256:
        raise BadValue(f"{path.name}: its bytes are not what was written")
    with Segment(path) as segment:
        if segment.head != entry.head or not segment.verified():
            raise BadValue(f"{path.name}: its rows are not what was written")


def from_disk(path: Path) -> bytes:
    """The bytes of a file, asked from the disk and not from memory as far as the kernel lets us."""
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return stream.read()


class Compactor:
    """Moves readings that are no longer recent from the historian's file into segments.

    Parameters
    ----------
    history : the historian's file, which is only read.
    store : where segments go.
    recent : readings younger than this stay where they are.
    """

    def __init__(self, history: Path, store: Store, *, recent: timedelta) -> None:
        self._store, self._recent_ms = store, recent // timedelta(milliseconds=1)
        self._file, self._recent = open_recent(history)
        self._chunks = kept_chunks(store.folder)
        self.moved = self.conflicts = 0  # readings packed; those whose place in time was taken already

    def step(self, now: datetime) -> bool:
        """Pack one span, if one is over; whether there may be more.

        Raises
        ------
        StoreError, OSError : the historian cannot be read, or the disk takes nothing; try again later.
        BadValue : what came back from the disk was not what was written.
        """
        horizon_ms = to_ms(now) - self._recent_ms
        self._forget_trimmed()
        span = self._next(horizon_ms) if len(self._chunks) < CHUNKS_MAX else None
        if span is None:
            span = self._left_behind(horizon_ms)
        if span is None:
            return False
        self._pack(span)
        return True

    def open_ms(self, now: datetime) -> int:
        """Before this nothing is left to be packed but what comes late."""
        horizon_ms = to_ms(now) - self._recent_ms
        first = self._recent.first_ms(self._store.catalogue.watermark_ms)
        return horizon_ms if first is None else min(first, horizon_ms)

    def close(self) -> None:
        """Close the historian's file."""
        self._file.close()

    def _next(self, horizon_ms: int) -> Span | None:
        """The oldest span with readings that were never packed, if it is over."""
        watermark_ms = self._store.catalogue.watermark_ms
        first = self._recent.first_ms(watermark_ms)
        if first is None or first >= horizon_ms:
            return None
        hour = first - first % HOUR_MS
        rows, _ = self._recent.sums(hour, hour + HOUR_MS)
        length = next((s for s in SPANS_MS if rows * s <= ROWS_MAX * HOUR_MS), SPANS_MS[-1])
        begin = first - first % length
        start = begin if watermark_ms is None else max(begin, watermark_ms)
        return Span(start_ms=start, end_ms=begin + length) if begin + length <= horizon_ms else None

    def _left_behind(self, horizon_ms: int) -> Span | None:
        """The oldest hour before the watermark with readings that are not confirmed as they are now.

        They came late, or a loss of power came between packing and confirming, or the clock was ahead for
        so long that the watermark is: then an hour is packed when it is over, as ever.
        """
        watermark_ms = self._store.catalogue.watermark_ms
        since = None
        for _ in range(HOURS_LOOKED_AT):
            first = self._recent.first_ms(since)
            if first is None or watermark_ms is None or first >= watermark_ms:
                return None
            start = first - first % HOUR_MS
            span = Span(start_ms=start, end_ms=min(start + HOUR_MS, watermark_ms))
            if span.end_ms > horizon_ms:
                return None
            if not (self._is_confirmed(span) or self._is_confirmed(span)):  # one was just taken out between
                return span
            since = span.end_ms
        return None

    def _is_confirmed(self, span: Span) -> bool:
        self._forget_trimmed()
        mine = [c for c in self._chunks if span.start_ms <= c[0] < span.end_ms]
        return self._recent.sums(span.start_ms, span.end_ms) == (
            sum(c[2] for c in mine),
            sum(c[3] for c in mine),
        )

    def _pack(self, span: Span) -> None:
        block = self._recent.block(span.start_ms, span.end_ms)
        new = self._new_rows(block, span)
        if len(new):
            writer = Writer(RAW, span.start_ms, span.end_ms)
            for point, table in by_point(new, self._recent.names()).items():
                writer.add(point, table)
            self._store.put(writer)
            self.moved += len(new)
        kept = [c for c in self._chunks if not span.start_ms <= c[0] < span.end_ms]
        self._confirm(sorted([*kept, *chunks_of(block)]))

    def _new_rows(self, block: Block, span: Span) -> Block:
        """Those readings of a block that no segment holds; what was there first stays."""
        overlapping = self._store.catalogue.overlapping(RAW, span.start_ms, span.end_ms)
        new = np.ones(len(block), dtype=bool)
        names = self._recent.names() if overlapping else {}
        for entry in overlapping:
            with Segment(self._store.folder / entry.file) as segment:
                for point_id in np.unique(block[:, 1]):
                    mine = np.flatnonzero(block[:, 1] == point_id)
                    table = segment.table(names[int(point_id)])
                    if table is None:
                        continue
                    there = np.isin(block[mine, 0], table["at_ms"])
                    new[mine[there]] = False
                    known = np.searchsorted(table["at_ms"], block[mine[there], 0])
                    same = np.nan_to_num(table["value"][known]) == np.nan_to_num(block[mine[there], 2])
                    self.conflicts += int((~same).sum())
        return block[new]

    def _confirm(self, chunks: list[Chunk]) -> None:
        if chunks != self._chunks:
            keep_chunks(self._store.folder, chunks)
            self._chunks = chunks

    def _forget_trimmed(self) -> None:
        """Chunks that have left the historian's file need not be named any more."""
        first = self._recent.first_ms()
        left = [] if first is None else [c for c in self._chunks if c[1] >= first]
        self._confirm(left)
