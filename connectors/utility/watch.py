"""How the servers of a utility do, as the edge sees it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from connectors.status_watch import SILENT_S, StatusWatch
from ems.records import StatusRow

TOLD_S = 600.0  # so long something that was refused is told


@dataclass(frozen=True, slots=True)
class UtilitySeen:
    """What a person should know; empty texts where all is well."""

    lost: str = ""
    clock: str = ""
    ending: str = ""  # certificates
    refused: str = ""  # the newest


def watch(servers: Sequence[str], path: Path, *, now: Callable[[], datetime]) -> StatusWatch[UtilitySeen]:
    """A watch over the servers of a site file by name; with none nothing is done."""
    return StatusWatch(
        path if servers else None,
        name="utility watch",
        now=now,
        look=partial(look, tuple(servers)),
        failing=lambda why: UtilitySeen(lost=why),
        seen=UtilitySeen(),
    )


def look(
    servers: Sequence[str], rows: Mapping[str, StatusRow], now: datetime, began: datetime
) -> UtilitySeen:
    """What of the servers is to be told.

    Parameters
    ----------
    rows : status rows by name of the server.
    began : rows are not missed so soon after this.
    """
    lost, clock, ending, refused = [], [], [], list[str]()
    for name in servers:
        row = rows.get(name)
        if row is None or (now - row.at).total_seconds() > SILENT_S:
            if (now - began).total_seconds() > SILENT_S:
                lost.append(f"{name}: nobody asks it; see utility.log")
            continue
        told = row.fields
        if not told.get("up"):
            lost.append(f"{name}: {told.get('trouble')}")
        elif told.get("door") != "open":
            lost.append(f"{name}: {told.get('door')}")
        if told.get("clock"):
            clock.append(f"{name}: {told['clock']}")
        if told.get("certificates"):
            ending.append(f"{name}: {told['certificates']}")
        at = told.get("refused_at")
        if isinstance(at, str) and (now - datetime.fromisoformat(at)).total_seconds() < TOLD_S:
            refused.append(f"{name}: {told.get('refused_why')}")
    return UtilitySeen("; ".join(lost), "; ".join(clock), "; ".join(ending), "; ".join(refused))
