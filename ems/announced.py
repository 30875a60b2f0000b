"""Announced outages of inputs: the newest issue of each, and which of them are planned with."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from ems.inputs import AnnouncedOutage, Certainty, InputKind, InputParams, InputVersion
from ems.outage import OutageNotice
from ems.ports import InputKnowledge

BACK, AHEAD = timedelta(days=40), timedelta(days=500)
ISSUES_MAX = 5000  # of announcements: an old one may be of a day that is still to come
ENDED_AGO = timedelta(days=1)  # outages that ended no longer ago may overrun
_SURE = list(Certainty)


def announced(inputs: Sequence[InputParams], knowledge: InputKnowledge, at: datetime) -> list[OutageNotice]:
    """Announced outages that are sure enough to count, as known at `at`, those of the last day included."""
    of = (p for p in inputs if p.kind is InputKind.OUTAGES)
    return [notice for params in of for notice, _ in counting(params, knowledge, at)]


class AnnouncedOutages:
    """Announced outages as known at the start of a quarter of an hour, asked for anew in each."""

    def __init__(
        self, inputs: Sequence[InputParams], knowledge: InputKnowledge, now: Callable[[], datetime]
    ) -> None:
        self._inputs = tuple(p for p in inputs if p.kind is InputKind.OUTAGES)
        self._knowledge, self._now = knowledge, now
        self._known: tuple[datetime, list[OutageNotice]] | None = None

    def __call__(self) -> Sequence[OutageNotice]:
        """Those that are sure enough to count."""
        if not self._inputs:
            return ()
        now = self._now()
        at = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
        if self._known is None or self._known[0] != at:
            self._known = at, announced(self._inputs, self._knowledge, at)
        return self._known[1]


def counting(
    params: InputParams, knowledge: InputKnowledge, at: datetime
) -> Iterator[tuple[OutageNotice, InputVersion]]:
    """Those of one input that are planned with, and the version that told each."""
    for outage, version in told_outages(params, knowledge, at):
        if planned_with(params, outage) and outage.issued_at <= at:
            yield outage.notice(params.id), version


def planned_with(params: InputParams, outage: AnnouncedOutage) -> bool:
    """Whether it is sure enough, and not cancelled."""
    return not outage.cancelled and _SURE.index(outage.certainty) <= _SURE.index(params.certainty_min)


def _issued(outage: AnnouncedOutage, version: InputVersion) -> datetime:
    """No later than its version: that was put back where a clock was ahead."""
    return min(outage.issued_at, version.issued_at)


def told_outages(
    params: InputParams, knowledge: InputKnowledge, at: datetime
) -> Iterator[tuple[AnnouncedOutage, InputVersion]]:
    """The newest issue of each outage that ended no longer than a day ago, and the version that told it."""
    known = list(knowledge.known(params.id, at, at - BACK, at + AHEAD, ISSUES_MAX))
    newest: dict[str, tuple[AnnouncedOutage, InputVersion]] = {}
    for version in known[:1] if params.complete else reversed(known):
        for outage in version.outages:
            before = newest.get(outage.id)
            if before is None or _issued(*before) <= _issued(outage, version):
                newest[outage.id] = (outage, version)
    for outage, version in sorted(newest.values(), key=lambda found: (found[0].start, found[0].id)):
        if outage.end > at - ENDED_AGO:
            yield outage, version
