"""The northbound process: shows the plant to others, and tells the edge what they may tell; nobody waits."""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import structlog

from cli.priorities import NORTHBOUND_NICE
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from connectors.historian.live import LiveHistory
from connectors.northbound.door import DeskDoor, without_role
from connectors.northbound.iec104_server import Iec104Serving
from connectors.northbound.image import Board
from connectors.northbound.modbus_server import ModbusServing
from connectors.northbound.records import Records
from connectors.sqlite_file import StoreError
from connectors.stores.drop_folder import owner_name
from ems.clock import SystemClock, wall_sleep
from ems.errors import EmsError
from ems.northbound_names import servers
from ems.records import EventRecord, JsonValue, StatusRow
from ems.site import Site
from ems.site_schema import load_site

log = structlog.get_logger()

PERIOD_S_MAX = 1.0
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


async def serve(config: ProcessConfig) -> None:
    """Compose the servers of a site and run them."""
    site, clock = load_site(config.site), SystemClock()
    folder = config.site.parent if config.site_folder is None else config.site_folder
    reader = LiveHistory(config.directory)
    records = Records(config.northbound, now=clock.now)
    board = Board(reader, now=clock.now, monotonic_s=clock.monotonic_s)
    shut = without_role(site.control, owner_name(os.geteuid()))
    door = DeskDoor(config.directory, board, records, monotonic_s=clock.monotonic_s, shut=shut)
    if shut and any(s.writes for s in servers(site)):
        log.warning("northbound.door.shut", why=shut)
    servings: list[Serving] = [
        ModbusServing(site, s, board, door, records, folder=folder, clock=clock) for s in site.modbus_servers
    ]
    if site.opcua_servers:  # asyncua is loaded only where it is used
        from connectors.northbound.ua_server import UaServing

        servings += [
            UaServing(site, s, board, door, records, folder=folder, clock=clock) for s in site.opcua_servers
        ]
    servings += [
        Iec104Serving(site, s, board, door, records, folder=folder, clock=clock) for s in site.iec104_servers
    ]
    house = House(site, reader, board, door, records, servings, clock)
    try:
        while True:
            await house.step()
            await wall_sleep(min(PERIOD_S_MAX, 0.5 * config.cycle_s))
    finally:
        for serving in servings:
            await serving.close()
        records.close()


class House:
    """What is done again and again around the servers; each step may wait for a disk, the servers do not."""

    def __init__(
        self,
        site: Site,
        reader: LiveHistory,
        board: Board,
        door: DeskDoor,
        records: Records,
        servings: Sequence[Serving],
        clock: SystemClock,
    ) -> None:
        self._site, self._reader, self._board, self._door = site, reader, board, door
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
                log.error("northbound.server.down", server=serving.name, why=str(error))
            self._down[serving.name] = str(error)
            return
        self._down[serving.name] = ""
        self._started.add(serving.name)
        log.info("northbound.server.up", server=serving.name)

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


if __name__ == "__main__":
    os.nice(NORTHBOUND_NICE)
    run_until_stopped(serve(read_config(Path(sys.argv[1]))))
