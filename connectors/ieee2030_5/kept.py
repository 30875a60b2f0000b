"""What is known of a server, over a restart: its events, answers that are due, the last contact."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from connectors.ieee2030_5.events import Event, Reply
from connectors.ieee2030_5.told import Program
from connectors.json_codec import dumps, loads
from connectors.stores.kept_file import keep, kept
from ems.errors import BadValue

BODY = "state"


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


def file_of(directory: Path, server: str) -> Path:
    """Where it is kept."""
    return directory / f"utility-{server}.json"


def write(file: Path, known: Known) -> None:
    """Replace what was kept. Raises OSError: the disk does not take it; what was kept is as it was."""
    keep(file, {BODY: dumps(known)})


def read(file: Path) -> Known | None:
    """What was kept last; None: nothing ever was. Raises BadValue: it is not what was written."""
    body = kept(file)
    if body is None:
        return None
    text = body.get(BODY)
    if not isinstance(text, str):
        raise BadValue(f"{file.name}: not what was written")
    return loads(Known, text)
