"""How our own servers do, as the edge sees it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from connectors.status_watch import SILENT_S, StatusWatch
from ems.records import StatusRow

TOLD_S = 600.0  # so long somebody who was refused is told


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person should know; empty texts where all is well."""

    down: str = ""
    ending: str = ""  # certificates
    strangers: str = ""  # the newest who was refused


def watch(servers: Sequence[str], path: Path, *, now: Callable[[], datetime]) -> StatusWatch[Seen]:
    """A watch over the servers of a site file by name; with none nothing is done.

    Parameters
    ----------
    path : the file of the process that serves.
    now : record time.
    """
    return StatusWatch(
        path if servers else None,
        name="northbound watch",
        now=now,
        look=partial(look, tuple(servers)),
        failing=lambda why: Seen(down=why),
        seen=Seen(),
    )


def look(servers: Sequence[str], rows: Mapping[str, StatusRow], now: datetime, began: datetime) -> Seen:
    """What of the servers is to be told.

    Parameters
    ----------
    rows : status rows by name of the server.
    began : rows are not missed so soon after this.
    """
    down, ending, strangers = [], [], dict[str, str]()
    for name in servers:
        row = rows.get(name)
        if row is None or (now - row.at).total_seconds() > SILENT_S:
            if (now - began).total_seconds() > SILENT_S:
                down.append(f"{name}: nobody serves; see northbound.log")
            continue
        if not row.fields.get("up"):
            down.append(f"{name}: {row.fields.get('trouble')}")
        if row.fields.get("certificates"):
            ending.append(f"{name}: {row.fields['certificates']}")
        at = row.fields.get("stranger_at")
        if isinstance(at, str) and at and (now - datetime.fromisoformat(at)).total_seconds() < TOLD_S:
            strangers[str(row.fields.get("stranger"))] = at  # the same one is told by all servers
    return Seen("; ".join(down), "; ".join(ending), "; ".join(strangers))
