"""The inputs process: looks at folders and asks URLs, keeps what comes, and says how each input does."""

import os
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import structlog

from cli.input_doubts import doubts_of
from cli.priorities import INPUTS_NICE
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.inputs.folder import DropFolder
from connectors.inputs.keeper import Keeper, feeds_of
from connectors.inputs.state import input_state
from connectors.inputs.store import InputReader, InputStore
from connectors.inputs.watch import OVERALL, PREFIX, input_row
from connectors.sqlite_file import StoreError
from ems.announced import announced
from ems.clock import SystemClock, wall_sleep
from ems.outage import OutageNotice, known_outages
from ems.outage_now import overrunning
from ems.records import JsonValue, StatusRow
from ems.site import Site
from ems.site_schema import load_site

log = structlog.get_logger()

STATUS_S = 5.0
CLOSE_S = 2.0
FORGET_S = 86400.0


class Teller:
    """Says every few seconds how each input does, and whether an announced outage overruns."""

    def __init__(self, config: ProcessConfig, site: Site, store: InputStore, keeper: Keeper) -> None:
        self._config, self._site, self._store, self._keeper = config, site, store, keeper
        self._reader = InputReader(config.directory)
        self._history = SqliteHistoryReader(config.history)
        self._forgotten: datetime | None = None

    def tell(self, now: datetime) -> None:
        """Once. What cannot be read or written now is left for the next time."""
        try:
            for feed in self._keeper.feeds:
                params = feed.params
                fields = input_row(
                    input_state(self._reader, params, now, now),
                    self._keeper.trouble.get(params.id, ""),
                    taken_away=isinstance(feed.source, DropFolder) and not feed.source.put_aside(),
                )
                self._status(PREFIX + params.id, now, fields)
            self._status(OVERALL, now, {"inputs": len(self._site.inputs), "overrun": self._overrun(now)})
            if self._forgotten is None or (now - self._forgotten).total_seconds() > FORGET_S:
                self._store.forget(now)
                self._forgotten = now
        except StoreError as error:  # the edge misses the row, and says so
            log.error("inputs.untold", why=str(error))

    def _status(self, name: str, now: datetime, fields: dict[str, JsonValue]) -> None:
        self._store.status(StatusRow(process=name, pid=os.getpid(), at=now, fields=fields))

    def _overrun(self, now: datetime) -> str:
        condition = self._history.condition()
        if condition is None:
            return ""
        told: list[OutageNotice] = [*self._site.outages, *self._config.notices]
        told += announced(self._site.inputs, self._reader, now)
        late = overrunning(known_outages(told, now), condition)
        return "" if late is None else f"{late.id} was announced until {late.end:%m-%d %H:%M} UTC"

    def close(self) -> None:
        """Close what was read."""
        self._reader.close()


async def serve(config: ProcessConfig) -> None:
    """Compose the inputs of a site and look after them."""
    site, clock = load_site(config.site), SystemClock()
    folder = config.site.parent if config.site_folder is None else config.site_folder
    with closing(InputStore(config.directory)) as store:
        feeds = feeds_of(site, store, folder, clock.now, lambda params: doubts_of(site, params))
        keeper = Keeper(feeds=feeds)
        teller = Teller(config, site, store, keeper)
        keeper.start()
        try:
            while keeper.bug is None:
                teller.tell(clock.now().astimezone(UTC))
                await wall_sleep(STATUS_S)
            raise keeper.bug
        finally:
            keeper.close(CLOSE_S)
            teller.close()


if __name__ == "__main__":
    os.nice(INPUTS_NICE)
    run_until_stopped(serve(read_config(Path(sys.argv[1]))))
