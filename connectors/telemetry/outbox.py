"""Which rows are sent next: the newest at once, and what is missing from the oldest on. No wire.

Two lanes share one link. `live` follows the newest rows; where they come faster than they are taken it jumps
to the newest, and what it leaves out is for `late`, which fills the gaps of the ledger from the oldest on.
"""

from dataclasses import dataclass

from connectors.historian.spool import Head, Span, Spool
from connectors.telemetry.ledger import Ledger, Opening, Spans

LIVE_ROWS = 200  # so many of the newest rows are sent first
PAGE_ROWS = 200  # read at once, at most
SMOOTHING_RATIO = 0.2
BLOCK_ROWS = 1000  # of a block whose count and hash are told when it is whole
SAVE_S = 1.0  # between two commits of the ledger, a second of rows sent twice after a power cut


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one message, as JSON texts, and how they are known."""

    store: str
    opened_ms: int
    span: Span
    late: bool
    lines: tuple[str, ...]
    is_last: bool  # of its span: one row may take several messages

    @property
    def payload(self) -> bytes:
        """A line about the message, then one for each row: JSON lines."""
        s = self.span
        head = (
            f'{{"v":1,"store":"{self.store}","boot":{s.boot},"opened_ms":{self.opened_ms},"first":{s.first},'
            f'"last":{s.last},"late":{"true" if self.late else "false"}}}'
        )
        return "\n".join((head, *self.lines, "")).encode()


class Outbox:
    """What one link has still to send of one historian.

    Parameters
    ----------
    link : its name in the ledger.
    bytes_max : rows of one message are no longer than this together, unless it is one value alone.
    """

    def __init__(self, link: str, spool: Spool, ledger: Ledger, *, bytes_max: int) -> None:
        self._link, self._spool, self._ledger, self._bytes_max = link, spool, ledger, bytes_max
        self.store: str | None = None
        self._heads: dict[int, Head] = {}
        self._delivered: dict[Opening, Spans] = {}
        self._on_way: dict[Opening, Spans] = {}  # delivered, or sent and not acknowledged
        self._unsaved: set[Opening] = set()
        self._row_bytes = 100.0  # smoothed: no more rows are read than fit into a message
        self._touched: set[tuple[int, int]] = set()  # blocks in which rows have arrived
        self._live = (0, 0)  # boot and the newest number that the live lane has sent, or left out

    def look(self) -> None:
        """See what is new. Raises StoreError."""
        store = self._spool.store()
        if store != self.store:
            self.store = store
            self._delivered = {} if store is None else self._ledger.delivered(self._link, store)
            self._on_way = {o: Spans(iter(s)) for o, s in self._delivered.items()}
            self._unsaved.clear()
            self._live = (0, 0)
        self._heads = {} if store is None else self._spool.heads()

    def start_over(self) -> None:
        """A new connection: whatever was not acknowledged is to be sent, the newest rows first."""
        self._on_way = {o: Spans(iter(s)) for o, s in self._delivered.items()}
        self._live = (0, 0)

    def live(self) -> list[Page]:
        """The next of the newest rows; none where all are sent."""
        if not self._heads:
            return []
        boot = max(self._heads)
        head = self._heads[boot].last
        sent = self._live[1] if self._live[0] == boot else 0
        begin = max(sent, head - LIVE_ROWS) + 1
        gap = next(((a, b) for a, b in self._spans(boot).gaps(head) if b >= begin), None)
        if gap is None:
            self._live = (boot, head)
            return []
        pages = self._pages(boot, max(begin, gap[0]), gap[1], late=False)
        self._live = (boot, pages[-1].span.last)
        return pages

    def late(self) -> list[Page]:
        """The oldest rows that are missing."""
        for boot, head in self._heads.items():
            last = head.last
            if boot == max(self._heads):  # what is newer is for the other lane
                last = self._live[1] if self._live[0] == boot else 0
            for first, end in self._spans(boot).gaps(last):
                return self._pages(boot, first, end, late=True)
        return []

    def sent(self, page: Page) -> None:
        """It is on its way: neither lane sends it again."""
        self._mark(self._on_way, page)

    def arrived(self, page: Page) -> None:
        """The broker has it."""
        if page.store == self.store:
            self._mark(self._delivered, page)
            self._unsaved.add((page.span.boot, page.opened_ms))
            blocks = range((page.span.first - 1) // BLOCK_ROWS, (page.span.last - 1) // BLOCK_ROWS + 1)
            self._touched.update((page.span.boot, block) for block in blocks)

    def again(self, span: Span) -> int:
        """Whoever receives has not got these: they are missing. How many there are."""
        if span.boot not in self._heads:
            return 0
        head = self._heads[span.boot]
        last = min(span.last, head.last)
        opening = (span.boot, head.opened_ms)
        for spans in (self._delivered, self._on_way):
            spans.setdefault(opening, Spans()).remove(span.first, last)
        self._unsaved.add(opening)
        return max(0, last - span.first + 1)

    def opened_ms(self, boot: int) -> int:
        """When the file was opened for this boot [ms since 1970 UTC]."""
        return self._heads[boot].opened_ms

    def whole_blocks(self) -> list[Span]:
        """Blocks of `BLOCK_ROWS` rows that have become whole with what arrived since the last call."""
        touched, self._touched = self._touched, set()
        out = []
        for boot, block in sorted(touched):
            if boot not in self._heads:
                continue
            of = self._delivered.get((boot, self._heads[boot].opened_ms), Spans())
            span = Span(boot=boot, first=block * BLOCK_ROWS + 1, last=(block + 1) * BLOCK_ROWS)
            if of.covers(span.first, span.last):
                out.append(span)
        return out

    def save(self) -> bool:
        """Commit what was delivered; False where the disk does not take it now: it is tried again."""
        if self.store is None or not self._unsaved:
            return True
        kept = {o: self._delivered.get(o, Spans()) for o in self._unsaved}
        done = self._ledger.keep(self._link, self.store, kept)
        if done:
            self._unsaved.clear()
        return done

    def missing(self) -> tuple[int, int | None]:
        """How many rows are not delivered, and when the oldest of them was recorded [ms since 1970 UTC]."""
        count, oldest = 0, None
        for boot, head in self._heads.items():
            of = self._delivered.get((boot, head.opened_ms), Spans())
            count += of.count(head.last)
            if oldest is None:
                first = next(of.gaps(head.last), None)
                oldest = None if first is None else self._spool.at_ms(boot, first[0])
        return count, oldest

    def gaps(self) -> int:
        """How many spans of rows are missing."""
        return sum(
            sum(1 for _ in self._delivered.get((b, h.opened_ms), Spans()).gaps(h.last))
            for b, h in self._heads.items()
        )

    def _spans(self, boot: int) -> Spans:
        return self._on_way.setdefault((boot, self._heads[boot].opened_ms), Spans())

    def _mark(self, where: dict[Opening, Spans], page: Page) -> None:
        where.setdefault((page.span.boot, page.opened_ms), Spans()).add(page.span.first, page.span.last)

    def _pages(self, boot: int, first: int, last: int, *, late: bool) -> list[Page]:
        """One message of the first rows of a gap; several where the first row alone is too long for one."""
        assert self.store is not None, "rows are numbered"
        rows = min(PAGE_ROWS, int(self._bytes_max / self._row_bytes) + 1)
        asked = Span(boot=boot, first=first, last=min(last, first + rows - 1))
        opened_ms, store = self._heads[boot].opened_ms, self.store
        texts: list[str] = []
        end, size = first - 1, 0
        for record in self._spool.records(asked):
            lines = record.lines(self._bytes_max)
            length = sum(len(line.encode()) + 1 for line in lines)
            self._row_bytes += SMOOTHING_RATIO * (length - self._row_bytes)
            if texts and size + length > self._bytes_max:
                break
            end, size = record.seq, size + length
            if len(lines) > 1:
                one = Span(boot=boot, first=first, last=end)
                ends = len(lines) - 1
                return [Page(store, opened_ms, one, late, (line,), i == ends) for i, line in enumerate(lines)]
            texts += lines
        span = Span(boot=boot, first=first, last=end)
        return [Page(store, opened_ms, span, late, tuple(texts), True)]
