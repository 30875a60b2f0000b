"""What runs around servers of any protocol: a look at the plant, answers of the edge, status rows."""

import asyncio
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from connectors.historian.live import LiveHistory
from connectors.northbound.door import DeskDoor
from connectors.northbound.image import Board
from connectors.northbound.records import Records
from connectors.sqlite_file import StoreError
from ems.clock import SystemClock
from ems.errors import EmsError
from ems.records import EventRecord, JsonValue, StatusRow

log = structlog.get_logger()

TELL_S = 5.0  # so often at least the status rows are stored
ASKED = timedelta(minutes=1)  # how far back answers of the edge are looked for
AHEAD = timedelta(days=1)
EVENTS_MAX = 200
ANSWERS = ("authority.request.", "request.file.")


class Serving(Protocol):
    """One server of any protocol."""

    name: str

    async def start(self) -> None:
        """Listen. Raises EmsError where it cannot now."""
        ...

    def status(self) -> dict[str, JsonValue]:
        """How it does. Raises what is a bug."""
        ...

    async def close(self) -> None:
        """End every connection."""
        ...


class House:
    """What is done again and again around the servers; each step may wait for a disk, the servers do not.

    Parameters
    ----------
    kind : of the process, for its log.
    """

    def __init__(
        self,
        kind: str,
        reader: LiveHistory,
        board: Board,
        door: DeskDoor,
        records: Records,
        servings: Sequence[Serving],
        clock: SystemClock,
    ) -> None:
        self._kind, self._reader, self._board, self._door = kind, reader, board, door
        self._records, self._clock = records, clock
        self._servings, self._down = list(servings), {s.name: "" for s in servings}
        self._started: set[str] = set()
        self._told: list[tuple[JsonValue, JsonValue]] = []
        self._told_s = 0.0

    async def step(self) -> None:
        """Look, listen where that was not possible before, hear the edge's answers, tell how it goes."""
        await asyncio.to_thread(self._board.look)
        for serving in self._servings:
            if serving.name not in self._started:
                await self._start(serving)
        if self._door.waiting:
            self._door.hear(await asyncio.to_thread(self._answers))
        rows = [self._row(s) for s in self._servings]
        await asyncio.to_thread(self._records.flush, rows if self._due(rows) else [])

    def _due(self, rows: Sequence[StatusRow]) -> bool:
        """Whether the rows are worth a write to the disk: something has changed, or a while has passed."""
        now_s, state = self._clock.monotonic_s(), [(r.fields["up"], r.fields["trouble"]) for r in rows]
        if state == self._told and now_s - self._told_s < TELL_S:
            return False
        self._told, self._told_s = state, now_s
        return True

    async def _start(self, serving: Serving) -> None:
        try:
            await serving.start()
        except EmsError as error:
            if self._down[serving.name] != str(error):
                log.error(f"{self._kind}.server.down", server=serving.name, why=str(error))
            self._down[serving.name] = str(error)
            return
        self._down[serving.name] = ""
        self._started.add(serving.name)
        log.info(f"{self._kind}.server.up", server=serving.name)

    def _answers(self) -> list[EventRecord]:
        now = self._clock.now()
        try:
            return [e for a in ANSWERS for e in self._reader.events(now - ASKED, now + AHEAD, a, EVENTS_MAX)]
        except StoreError:
            return []  # asked again in the next step; the door gives up by itself

    def _row(self, serving: Serving) -> StatusRow:
        image, last = self._board.now(), self._records.last
        own = serving.status() if serving.name in self._started else {}
        trouble = self._down[serving.name] or own.get("trouble")
        fields: dict[str, JsonValue] = {
            **own,
            "up": serving.name in self._started and not trouble,
            "trouble": trouble,
            "door": self._door.shut or "open",
            "image": image.why or "fresh",
            "beat": image.beat,
            "taken": self._door.taken,
            "refused": self._records.count,
            "last_refused": "" if last is None else f"{last.what} by {last.client.words}: {last.why}",
        }
        stranger = self._records.stranger
        if stranger is not None:
            fields["stranger_at"] = stranger.at.isoformat()
            fields["stranger"] = f"{stranger.what} by {stranger.client.words}: {stranger.why}"
        return StatusRow(process=serving.name, pid=os.getpid(), at=self._clock.now(), fields=fields)
