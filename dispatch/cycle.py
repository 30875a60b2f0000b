"""One control cycle: state and image in, decisions and the next state out. Synchronous and pure."""

from dataclasses import dataclass

from dispatch.state import EdgeState
from dispatch.vocabulary import Controller, Decisions, TickInput
from ems.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSetup:
    """What never changes while the edge runs."""

    site: Site
    controller: Controller
    shadow: bool


def tick(setup: EdgeSetup, state: EdgeState, given: TickInput) -> tuple[EdgeState, Decisions]:
    """Decide what to write for the next `given.dt_s` seconds.

    Raises
    ------
    InvariantBroken : something that cannot be true was seen; the shell must write the safe table.
    """
    raise NotImplementedError
