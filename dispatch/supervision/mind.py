"""What the shell asks the pure core: a decision for each tick, and a line before each write."""

from collections.abc import Mapping, Sequence

from dispatch.cycle import EdgeSetup, tick
from dispatch.layout import Layout
from dispatch.state import EdgeState
from dispatch.vocabulary import Decisions, TickInput
from dispatch.writing.last_line import Line, line_now
from ems.commands import Bound
from ems.site import GridMode
from ems.telemetry import Snapshot


class Mind:
    """The core as it is: the same question has the same answer, and nothing is remembered here."""

    def decide(self, setup: EdgeSetup, state: EdgeState, given: TickInput) -> tuple[EdgeState, Decisions]:
        """One tick.

        Raises
        ------
        InvariantBroken : something that cannot be true was seen.
        """
        return tick(setup, state, given)

    def line(
        self,
        layout: Layout,
        state: EdgeState,
        snapshot: Snapshot,
        decided_in: GridMode,
        bounds: Mapping[str, Sequence[Bound]],
    ) -> Line:
        """What commands are held against just before they are sent."""
        return line_now(layout, state, snapshot, decided_in, bounds)


CORE = Mind()
