"""Which rows are sent next: the newest at once, and what is missing from the oldest on. No wire.

Two lanes share one link. `live` follows the newest rows; where they come faster than they are taken it jumps
to the newest, and what it leaves out is for `late`, which fills the gaps of the ledger from the oldest on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from connectors.historian.spool import Head, Span, Spool
from connectors.telemetry.ledger import Ledger, Opening, Spans

LIVE_ROWS = 200  # so many of the newest rows are sent first
BLOCK_ROWS = 1000  # of a block whose count and hash are told when it is whole
SAVE_S = 1.0  # between two commits of the ledger, a second of rows sent twice after a power cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Rows that go next, or that went, and of which historian they are."""

    store: str
    opened_ms: int
    span: Span
    late: bool

    def until(self, last: int) -> "Claim":
        """The same up to a number: no more fits into one message."""
        return replace(self, span=replace(self.span, last=last))

    def since(self, first: int) -> "Claim":
        """The same from a number on."""
        return replace(self, span=replace(self.span, first=first))


class Outbox:
    """What one link has still to send of one historian.

    Parameters
    ----------
    link : its name.
    """

    def __init__(self, link: str, spool: Spool, ledger: Ledger) -> None:
        self._link, self._of = link, ledger.receiver(link)  # the link, and its name in the ledger
        self._spool, self._ledger = spool, ledger
        self.store: str | None = None
        self._heads: dict[int, Head] = {}
        self._delivered: dict[Opening, Spans] = {}
        self._on_way: dict[Opening, Spans] = {}  # delivered, or sent and not acknowledged
        self._unsaved: set[Opening] = set()
        self._touched: set[tuple[int, int]] = set()  # blocks in which rows have arrived
        self._live = (0, 0)  # boot and the newest number that the live lane has sent, or left out

    def look(self) -> None:
        """See what is new. Raises StoreError."""
        store = self._spool.store()
        if store != self.store:
            self.store = store
            self._delivered = {} if store is None else self._ledger.delivered(self._of, store)
            self._on_way = {o: Spans(iter(s)) for o, s in self._delivered.items()}
            self._unsaved.clear()
            self._live = (0, 0)
        self._heads = {} if store is None else self._spool.heads()

    def receiver(self, name: str) -> None:
        """Who receives: what another one of the same link has got counts for nothing. Raises StoreError."""
        link = f"{self._link}/{name}"
        if link != self._of:
            self.save()
            self._of, self.store = link, None
            self.look()

    def start_over(self) -> None:
        """A new connection: whatever was not acknowledged is to be sent, the newest rows first."""
        self._on_way = {o: Spans(iter(s)) for o, s in self._delivered.items()}
        self._live = (0, 0)

    def live(self, rows_max: int) -> Claim | None:
        """The next of the newest rows; None where all are sent."""
        if not self._heads:
            return None
        boot = max(self._heads)
        head = self._heads[boot].last
        sent = self._live[1] if self._live[0] == boot else 0
        begin = max(sent, head - LIVE_ROWS) + 1
        gap = next(((a, b) for a, b in self._spans(boot).gaps(head) if b >= begin), None)
        if gap is None:
            self._live = (boot, head)
            return None
        first = max(begin, gap[0])
        return self._claim(Span(boot=boot, first=first, last=min(gap[1], first + rows_max - 1)), late=False)

    def late(self, rows_max: int) -> Claim | None:
        """The oldest rows that are missing."""
        for boot, head in self._heads.items():
            last = head.last
            if boot == max(self._heads):  # what is newer is for the other lane
                last = self._live[1] if self._live[0] == boot else 0
            for first, end in self._spans(boot).gaps(last):
                span = Span(boot=boot, first=first, last=min(end, first + rows_max - 1))
                return self._claim(span, late=True)
        return None

    def missing_spans(self) -> Iterator[Span]:
        """Spans that neither were delivered nor are on their way, from the oldest on."""
        for boot, head in self._heads.items():
            for first, last in self._spans(boot).gaps(head.last):
                yield Span(boot=boot, first=first, last=last)

    def count_missing(self, span: Span) -> int:
        """How many rows of a span are not delivered."""
        of = self._delivered.get((span.boot, self._heads[span.boot].opened_ms), Spans())
        return of.count(span.last) - of.count(span.first - 1)

    def sent(self, claim: Claim) -> None:
        """It is on its way: neither lane sends it again."""
        self._mark(self._on_way, claim)
        if not claim.late:
            self._live = (claim.span.boot, claim.span.last)

    def arrived(self, claim: Claim) -> None:
        """Whoever receives has it."""
        if claim.store == self.store:
            span = claim.span
            self._mark(self._delivered, claim)
            self._unsaved.add((span.boot, claim.opened_ms))
            blocks = range((span.first - 1) // BLOCK_ROWS, (span.last - 1) // BLOCK_ROWS + 1)
            self._touched.update((span.boot, block) for block in blocks)

    def again(self, span: Span) -> int:
        """Whoever receives has not got these: they are missing. How many of them were thought delivered."""
        if span.boot not in self._heads:
            return 0
        head = self._heads[span.boot]
        last = min(span.last, head.last)
        opening = (span.boot, head.opened_ms)
        known = self._delivered.setdefault(opening, Spans())
        before = known.count(head.last)
        for spans in (known, self._on_way.setdefault(opening, Spans())):
            spans.remove(span.first, last)
        self._unsaved.add(opening)
        return known.count(head.last) - before

    def claim_of(self, span: Span) -> Claim:
        """A span of this historian, as it is known to whoever receives."""
        return self._claim(span, late=True)

    @property
    def heads(self) -> Mapping[int, Head]:
        """Boot -> how far it goes."""
        return self._heads

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
        done = self._ledger.keep(self._of, self.store, kept)
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

    def _claim(self, span: Span, *, late: bool) -> Claim:
        assert self.store is not None, "rows are numbered"
        return Claim(store=self.store, opened_ms=self._heads[span.boot].opened_ms, span=span, late=late)

    def _mark(self, where: dict[Opening, Spans], claim: Claim) -> None:
        where.setdefault((claim.span.boot, claim.opened_ms), Spans()).add(claim.span.first, claim.span.last)
