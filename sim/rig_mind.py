"""The mind of a rig, which knows its last answers: a twin that sees what its original saw asks them of it."""

from collections.abc import Mapping, Sequence

from dispatch.cycle import EdgeSetup
from dispatch.layout import Layout
from dispatch.state import EdgeState
from dispatch.supervision.mind import Mind
from dispatch.vocabulary import Decisions, TickInput
from dispatch.writing.last_line import Line
from ems.commands import Bound
from ems.site import GridMode
from ems.telemetry import Snapshot

Asked = tuple[object, ...]


class RigMind(Mind):
    """Thinks for itself, but for what another edge of the same setup was asked in the same words last.

    The core is a function of what it is asked. Until a fault changes what is read, done or asked, the twin
    without it is asked the very same, which is most of the time; to compare costs a tenth of thinking.

    Parameters
    ----------
    original : the mind of the rig that a twin was forked from, which steps first; None: this is no twin.
    """

    def __init__(self, original: "RigMind | None" = None) -> None:
        self._original = original
        self._decided: tuple[Asked, tuple[EdgeState, Decisions]] | None = None
        self._drawn: tuple[Asked, Line] | None = None

    def decide(self, setup: EdgeSetup, state: EdgeState, given: TickInput) -> tuple[EdgeState, Decisions]:
        """One tick."""
        asked = (given, state)
        known = None if self._original is None else self._original._decided
        if known is None or known[0] != asked:
            known = (asked, super().decide(setup, state, given))
        self._decided = known
        return known[1]

    def line(
        self,
        layout: Layout,
        state: EdgeState,
        snapshot: Snapshot,
        decided_in: GridMode,
        bounds: Mapping[str, Sequence[Bound]],
    ) -> Line:
        """What commands are held against just before they are sent."""
        asked = (snapshot, state, decided_in, bounds)
        known = None if self._original is None else self._original._drawn
        if known is None or known[0] != asked:
            known = (asked, super().line(layout, state, snapshot, decided_in, bounds))
        self._drawn = known
        return known[1]
