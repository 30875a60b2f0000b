"""Grid outages as announced, versioned with their time of issue: what was known when can be replayed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageNotice:
    """One announced window without mains, [start, end). A later notice with the same id replaces it."""

    id: str
    issued_at: datetime
    start: datetime
    end: datetime
    cancelled: bool = False
    source: str = "utility"


def known_outages(notices: Sequence[OutageNotice], at: datetime | None) -> tuple[OutageNotice, ...]:
    """Outages as known at `at`: the latest version of each notice issued by then, without cancelled ones.

    Where nobody knows what time it is (None), every notice has been issued.
    """
    latest: dict[str, OutageNotice] = {}
    for notice in sorted(notices, key=lambda n: n.issued_at):
        if at is None or notice.issued_at <= at:
            latest[notice.id] = notice
    return tuple(sorted((n for n in latest.values() if not n.cancelled), key=lambda n: n.start))
