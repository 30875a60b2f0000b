"""Events of a VTN that are meant for us, and which bound holds now. Pure.

What is gone from a list that came whole is deleted; what is changed counts as it is now. The lowest priority
goes first (a lower number is a higher priority, OpenAPI of 3.0.1); of one priority the tightest holds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from connectors.openadr3.reading import Reader, Wrong, id_of, program_of, targets_of
from connectors.openadr3.told import Event, Program, Window
from connectors.utility.ahead import AHEAD_S, Ahead, foreseen
from connectors.utility.asker import NotBelieved
from connectors.utility.bound import Bound
from ems.utility import VtnServer

WINDOWS_MAX = 5000  # to come, of all events: more are not looked at ahead
STEPS_MAX = 20_000  # of all events: each is looked at each second


@dataclass(frozen=True, slots=True)
class Ranked:
    """A bound of an event that runs."""

    priority: float  # inf: none
    kw: float
    event: Event
    window: Window

    def runs(self, at_s: float) -> bool:
        """Whether its window holds at a time [s since 1970 UTC]."""
        return self.window.start_s <= at_s and (self.window.end_s is None or at_s < self.window.end_s)


class Book:
    """All events of one VTN that are meant for us.

    Parameters
    ----------
    seed : of chance; of one plant always the same.
    currency : of prices.
    """

    def __init__(self, server: VtnServer, seed: str, currency: str) -> None:
        self._server, self.seed, self.currency = server, seed, currency
        tariff = "" if server.prices is None else server.prices.program
        self._reader = Reader([t.word for t in server.tellings], tariff, currency)
        self._ours = frozenset((*server.targets, server.ven_name)) - {""}
        self.programs: dict[str, Program] = {}
        self.events: dict[str, Event] = {}
        self.heard_s: dict[str, float] = {}  # by id of an event, when it was heard of first
        self._broken: dict[str, str] = {}  # by id of a program, why it is not believed
        self.others = 0  # events of the last answer that are meant for others
        self._told: set[tuple[str, str]] = set()  # what was refused, and why, in the answer before

    def take(self, programs: Sequence[Any], events: Sequence[Any], now_s: float) -> list[str]:
        """A whole answer of the VTN; what of it was refused since the one before, in words.

        Raises
        ------
        NotBelieved : an object that cannot be told from others; nothing of the answer counts.
        """
        try:
            ids = [id_of(raw) for raw in programs]
            by_id = {id_of(raw): raw for raw in events}
        except Wrong as wrong:
            raise NotBelieved(f"an object of its answer: {wrong}") from None
        if len(set(ids)) != len(programs) or len(by_id) != len(events):
            raise NotBelieved("an id comes twice in its answer")
        before = self.programs, self.others, self.heard_s
        self.others = 0
        self._read_programs(programs)
        kept: dict[str, Event] = {}
        said: set[tuple[str, str]] = set()
        self.heard_s = {i: self.heard_s.get(i, now_s) for i in by_id}
        for mine, raw in by_id.items():
            self._one(mine, raw, kept, said)
        if (count := sum(len(e.steps) for e in kept.values())) > STEPS_MAX:
            self.programs, self.others, self.heard_s = before
            raise NotBelieved(f"found {count} intervals in its events; allowed: {STEPS_MAX}")
        self.events = kept
        new, self._told = sorted(said - self._told), said
        return [f"event {mine}: {words}" for mine, words in new]

    def _read_programs(self, programs: Sequence[Any]) -> None:
        """Those that are sound; of one that is not, why: its events are not believed, those of others are."""
        self.programs, self._broken = {}, {}
        for raw in programs:
            try:
                program = program_of(raw)
            except Wrong as wrong:
                self._broken[id_of(raw)] = str(wrong)
            else:
                self.programs[program.id] = program

    def _one(
        self, mine: str, raw: Mapping[str, Any], kept: dict[str, Event], said: set[tuple[str, str]]
    ) -> None:
        """One event of an answer."""
        before = self.events.get(mine)
        try:
            program = self.programs.get(str(raw.get("programID")))
            if (why := self._broken.get(str(raw.get("programID")))) is not None:
                raise Wrong(f"its program: {why}")
            if not self._is_ours(raw, program):
                self.others += 1
                return
            event = self._reader.event(raw, program, self.heard_s[mine])
        except Wrong as wrong:
            stays = "" if before is None else "; it stays as it was told before"
            said.add((mine, f"{wrong}{stays}"))
            if before is not None:
                kept[mine] = before
            return
        kept[mine] = event
        if event.price_fault:
            said.add((mine, event.price_fault))
        if event.unmet:
            said.add((mine, f"{', '.join(event.unmet)}: nothing here can do that"))

    def _is_ours(self, raw: Mapping[str, Any], program: Program | None) -> bool:
        """Whether an event is of a program that counts, and meant for all or for us. Raises Wrong."""
        if self._server.programs and (program is None or program.name not in self._server.programs):
            return False
        targets = targets_of(raw)
        if targets is None and program is not None:
            targets = program.targets
        return targets is None or not self._ours.isdisjoint(targets)

    def bound(self, word: str, otherwise_kw: float | None, now_s: float) -> Bound | None:
        """What holds of a type of payload at a time [s since 1970 UTC]; None: nobody says."""
        running = (
            Ranked(_priority(e), w.kw[word], e, w)
            for e in self.events.values()
            for w in e.at(now_s, self.seed)
            if word in w.kw
        )
        return _holds(running, otherwise_kw)

    def ahead(self, word: str, otherwise_kw: float | None, now_s: float) -> tuple[Ahead, ...]:
        """What holds of a type of payload from now on, as far as it is told."""
        coming = (
            Ranked(_priority(e), w.kw[word], e, w)
            for e in self.events.values()
            for w in e.between(word, now_s, now_s + AHEAD_S, self.seed)
        )
        known = list(islice(coming, WINDOWS_MAX))
        edges_s = (s for r in known for s in (r.window.start_s, r.window.end_s) if s is not None)
        return foreseen(lambda at_s: _holds((r for r in known if r.runs(at_s)), otherwise_kw), edges_s, now_s)


def _priority(event: Event) -> float:
    return math.inf if event.priority is None else event.priority


def _holds(running: Iterable[Ranked], otherwise_kw: float | None) -> Bound | None:
    """What goes first of what runs, else what the site file says."""
    first = min(running, key=lambda r: (r.priority, r.kw), default=None)
    if first is not None:
        end_s = first.window.end_s
        until_s = None if end_s is None else math.ceil(end_s)
        return Bound(kw=first.kw, why=f"event {first.event.id}", until_s=until_s)
    if otherwise_kw is None:
        return None
    return Bound(kw=otherwise_kw, why="otherwise_kw of the site file")
