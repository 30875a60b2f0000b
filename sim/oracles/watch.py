"""Runs every oracle at every write and after every tick, counts evaluations, keeps violations."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ems.site import Site
from sim.oracles.base import Oracle, TickSeen, Violation, WriteSeen
from sim.oracles.served import LoadIsServed
from sim.oracles.ticks import (
    DecisionsOnFreshValues,
    EnergyBalance,
    GensetTimes,
    HeartbeatOfTheLoop,
    IslandHasReserve,
    TrueSoc,
)
from sim.oracles.writes import (
    FiniteAndWhitelisted,
    InsideLimits,
    IntentAndOutcome,
    MayWrite,
    RampKept,
    SequenceGrows,
)

ORACLES: tuple[type[Oracle], ...] = (
    InsideLimits,
    MayWrite,
    FiniteAndWhitelisted,
    RampKept,
    IntentAndOutcome,
    DecisionsOnFreshValues,
    IslandHasReserve,
    HeartbeatOfTheLoop,
    SequenceGrows,
    TrueSoc,
    GensetTimes,
    EnergyBalance,
    LoadIsServed,
)
KEPT_MAX = 1000


class Watch:
    """All oracles over one run."""

    def __init__(self, site: Site, oracles: Sequence[type[Oracle]] = ORACLES) -> None:
        self._oracles = [o(site) for o in oracles]
        self._at_writes = [o for o in self._oracles if type(o).on_write is not Oracle.on_write]
        self._at_ticks = [o for o in self._oracles if type(o).on_tick is not Oracle.on_tick]
        self.evaluations: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()  # did not hold while a fault made it unknowable
        self.violations: list[Violation] = []

    def write(self, w: WriteSeen) -> None:
        """Judge one write."""
        for o in self._at_writes:
            self._judge(o.id, w.t_s, o.on_write(w), ())

    def tick(self, t: TickSeen, blind: Iterable[str] = ()) -> None:
        """Judge one tick; `blind` names oracles whose truth the edge cannot know now."""
        for o in self._at_ticks:
            self._judge(o.id, t.t_s, o.on_tick(t), blind)

    def broke(self, t_s: float, what: str) -> None:
        """The edge raised: an invariant of its own did not hold."""
        self.violations.append(Violation(t_s=t_s, oracle="tick", evidence=what))

    def _judge(self, oracle: str, t_s: float, evidence: str | None, blind: Iterable[str]) -> None:
        self.evaluations[oracle] += 1
        if evidence is None:
            return
        if oracle in blind:
            self.excused[oracle] += 1
        elif len(self.violations) < KEPT_MAX:
            self.violations.append(Violation(t_s=t_s, oracle=oracle, evidence=evidence))
