"""What is known of a server, over a restart: its events, answers that are due, the last contact."""

from dataclasses import dataclass
from datetime import datetime

from connectors.ieee2030_5.events import Event, Reply
from connectors.ieee2030_5.told import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All of it."""

    where: str  # host and port of the server
    lfdi: str  # ours, when it was told
    at: datetime | None = None  # of the last whole answer, our clock; None: there was none
    ahead_s: float = 0.0  # clock of the server less ours
    events: tuple[Event, ...] = ()
    programs: tuple[Program, ...] = ()
    replies: tuple[Reply, ...] = ()
