"""Rows as messages: JSON lines, as many as may be in one."""

import hashlib
import json
from dataclasses import dataclass

from connectors.historian.spool import Spool
from connectors.telemetry.outbox import Claim

PAGE_ROWS = 200  # read at once, at most
SMOOTHING_RATIO = 0.2


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one message, as JSON texts, and how they are known."""

    claim: Claim
    lines: tuple[str, ...]
    is_last: bool  # of its claim: one row may take several messages

    @property
    def payload(self) -> bytes:
        """A line about the message, then one for each row: JSON lines."""
        c, s = self.claim, self.claim.span
        head = (
            f'{{"v":1,"store":"{c.store}","boot":{s.boot},"opened_ms":{c.opened_ms},"first":{s.first},'
            f'"last":{s.last},"late":{"true" if c.late else "false"}}}'
        )
        return "\n".join((head, *self.lines, "")).encode()


class Messages:
    """Cuts what goes next into messages.

    Parameters
    ----------
    bytes_max : rows of one message are no longer than this together, unless it is one value alone.
    """

    def __init__(self, spool: Spool, bytes_max: int) -> None:
        self._spool, self._bytes_max = spool, bytes_max
        self._row_bytes = 100.0  # smoothed: no more rows are read than fit into a message

    @property
    def rows_max(self) -> int:
        """About so many rows fit into a message."""
        return min(PAGE_ROWS, int(self._bytes_max / self._row_bytes) + 1)

    def pages(self, claim: Claim) -> list[Page]:
        """One message of the first rows of a claim; several where the first row alone is too long for one."""
        texts: list[str] = []
        end, size = claim.span.first - 1, 0
        for record in self._spool.records(claim.span):
            lines = record.lines(self._bytes_max)
            length = sum(len(line.encode()) + 1 for line in lines)
            self._row_bytes += SMOOTHING_RATIO * (length - self._row_bytes)
            if texts and size + length > self._bytes_max:
                break
            end, size = record.seq, size + length
            if len(lines) > 1:
                one, ends = claim.until(end), len(lines) - 1
                return [Page(one, (line,), i == ends) for i, line in enumerate(lines)]
            texts += lines
        return [Page(claim.until(end), tuple(texts), True)]

    def digest(self, claim: Claim) -> bytes:
        """Count and hash of rows, as they are sent."""
        lines = [x for r in self._spool.records(claim.span) for x in r.lines(self._bytes_max)]
        told = {
            "v": 1,
            "store": claim.store,
            "boot": claim.span.boot,
            "opened_ms": claim.opened_ms,
            "first": claim.span.first,
            "last": claim.span.last,
            "lines": len(lines),
            "sha256": hashlib.sha256("".join(f"{x}\n" for x in lines).encode()).hexdigest(),
        }
        return json.dumps(told, separators=(",", ":")).encode()
