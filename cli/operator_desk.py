"""The person's side of the request desk: hand in, wait for the edge's answer, take back what nobody heard."""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from connectors.stores.drop_folder import drop_file
from connectors.stores.request_desk import FOLDER, SUFFIX
from connectors.stores.request_text import TEXT_MAX, text_of
from ems.clock import wall_s, wall_sleep
from ems.errors import EmsError
from ems.ports import HistoryReader
from ems.records import EventRecord, JsonValue, StatusRow
from ems.requests import Ask, Request

ANSWER_S = 5.0  # wall time to wait for the edge's answer, beside two of its cycles
LOOK_S = 0.05
TTL_S = 10.0
DONE, REFUSED, UNREADABLE = "authority.request.done", "authority.request.refused", "request.file.refused"
LOOK_BACK, LOOK_AHEAD = timedelta(seconds=5.0), timedelta(days=1.0)
EVENTS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a request. `fields` are those of the edge's answer; None: there was none."""

    done: bool
    fields: Mapping[str, JsonValue] | None
    withdrawn: bool = False

    def text(self, key: str) -> str | None:
        """A field of the answer."""
        value = None if self.fields is None else self.fields.get(key)
        return None if value is None else str(value)


def edge_row(reader: HistoryReader, directory: Path) -> StatusRow:
    """What the edge of a folder last told of itself.

    Raises
    ------
    EmsError : none has run there.
    """
    row = reader.statuses().get("edge")
    if row is None:
        raise EmsError(f"{directory}: no edge has run in this folder; --dir is that of `ems run`")
    return row


def ask_edge(reader: HistoryReader, directory: Path, ask: Ask, *, why: str, session: str) -> Outcome:
    """Hand a request in and wait.

    Raises
    ------
    EmsError : it could not be handed in.
    """
    if len(why) > TEXT_MAX or not why.isprintable():
        raise EmsError(f"--why: found {len(why)} letters; allowed: at most {TEXT_MAX}, on one line")
    row = edge_row(reader, directory)
    epoch, cycle_s = row.fields.get("epoch"), row.fields.get("cycle_s")
    if not isinstance(epoch, int):
        raise EmsError(f"{directory}: its edge takes no requests; it is of another version")
    request = Request(id=uuid.uuid4().hex, session=session, epoch=epoch, ttl_s=TTL_S, reason=why, ask=ask)
    file = _hand_in(directory / FOLDER, request)
    wait_s = ANSWER_S + 2.0 * (cycle_s if isinstance(cycle_s, float | int) else 1.0)
    try:
        answer = asyncio.run(_wait(lambda: _answer(reader, request.id, row.at), wait_s))
    except KeyboardInterrupt:
        file.unlink(missing_ok=True)  # whoever gives up has not asked, unless the edge was quicker
        raise
    if answer is None:
        try:
            file.unlink()
        except OSError:
            return Outcome(done=False, fields=None)
        return Outcome(done=False, fields=None, withdrawn=True)
    return Outcome(done=answer.kind == DONE, fields=answer.fields)


def _hand_in(folder: Path, request: Request) -> Path:
    try:
        return drop_file(folder, f"{request.id}{SUFFIX}", text_of(request))
    except FileNotFoundError:
        raise EmsError(f"{folder}: there is no desk; has the edge of this folder ever run?") from None
    except PermissionError:
        raise EmsError(f"{folder}: not for you; allowed: members of its group{_group(folder)}") from None
    except OSError as error:
        raise EmsError(f"{folder}: {error.strerror}") from None


def _group(folder: Path) -> str:
    try:
        return f", {folder.group()}"
    except (OSError, KeyError):
        return ""


def _answer(reader: HistoryReader, request_id: str, since: datetime) -> EventRecord | None:
    """The event that says what became of it, in the edge's own time."""
    start, end = since - LOOK_BACK, since + LOOK_AHEAD
    for family in ("authority.request.", "request.file."):
        for event in reader.events(start, end, family, EVENTS_MAX):
            known = event.kind in (DONE, REFUSED, UNREADABLE)
            if known and event.fields.get("request_id") == request_id:
                return event
    return None


async def _wait(look: Callable[[], EventRecord | None], seconds: float) -> EventRecord | None:
    until_s = wall_s() + seconds
    while wall_s() < until_s:
        found = look()
        if found is not None:
            return found
        await wall_sleep(LOOK_S)
    return look()
