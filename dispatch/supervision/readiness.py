"""Nothing is written before enough is known: the grid mode, and each device seen whole, after a start.

The gate refuses what is stale from cycle to cycle; this holds back the very first writes, protective ones as
well: before anything is known, there is nothing to protect with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from ems.commands import Cause, Proposal
from ems.site import GridMode
from ems.telemetry import Snapshot

PLANT = "plant"  # the grid mode has been known


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What has been seen whole at least once since the start: the plant, and assets by id."""

    seen: frozenset[str]

    def admitted(self, proposals: Sequence[Proposal], *, held_safe: bool) -> list[Proposal]:
        """Proposals that may go on to the gate.

        Held safe, the safe table is written whatever is known; so is what an open emergency stop demands.
        """
        if held_safe:
            return list(proposals)
        stop = Cause.EMERGENCY_STOP
        return [p for p in proposals if p.cause is stop or self.knows((p.point.partition(".")[0],))]

    def knows(self, assets: Iterable[str]) -> bool:
        """Whether enough has been seen to write to one of these: its own values, and what the plant is."""
        return PLANT in self.seen and not self.seen.isdisjoint(assets)


def readiness(layout: Layout, seen: frozenset[str], observed: Observed, snapshot: Snapshot) -> Readiness:
    """Add what this snapshot shows whole: limits, charge and state of a device, all of them good."""
    good = snapshot.good.keys()
    whole = {
        a
        for a in layout.kinds.keys() - seen
        if good >= set(layout.needed[a]) and not good.isdisjoint(layout.reads[a])
    }
    if observed.condition.grid_mode is not GridMode.UNKNOWN:
        whole.add(PLANT)
    return Readiness(seen=seen | whole)
