"""The utility process: asks servers of a utility for bounds, and tells them to the edge."""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from random import SystemRandom

import structlog

from cli.house import House
from cli.priorities import UTILITY_NICE
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from connectors.historian.live import LiveHistory
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.northbound.door import DeskDoor, without_role
from connectors.northbound.image import Board
from connectors.northbound.records import Records
from connectors.stores.drop_folder import owner_name
from connectors.utility.session import Around, UtilitySession
from ems.clock import SystemClock, wall_sleep
from ems.records import Bucket
from ems.site_schema import load_site
from ems.utility import Sep2Server, UtilityServer, VtnServer

log = structlog.get_logger()

PERIOD_S_MAX = 1.0
MINUTE_S = 60


async def serve(config: ProcessConfig) -> None:
    """Compose the sessions of a site and run them."""
    site, clock = load_site(config.site), SystemClock()
    folder = config.site.parent if config.site_folder is None else config.site_folder
    reader = LiveHistory(config.directory)
    records = Records(config.utility, now=clock.now)
    board = Board(reader, now=clock.now, monotonic_s=clock.monotonic_s)
    shut = without_role(site.control, owner_name(os.geteuid()))
    door = DeskDoor(config.directory, board, records, monotonic_s=clock.monotonic_s, shut=shut)
    if shut:
        log.warning("utility.door.shut", why=shut)
    around = Around(
        site=site,
        board=board,
        door=door,
        records=records,
        directory=config.directory,
        folder=folder,
        clock=clock,
        means=partial(_means, config.history, f"{site.grid.id}.p_kw"),
    )
    sessions = [session_of(server, around) for server in site.utilities]
    house = House("utility", reader, board, door, records, sessions, clock)
    try:
        while True:
            await house.step()
            for session in sessions:
                session.step()
            await wall_sleep(min(PERIOD_S_MAX, 0.5 * config.cycle_s))
    finally:
        for session in sessions:
            await session.close()
        records.close()


def _means(history: Path, point: str, start: datetime, end: datetime) -> Sequence[Bucket]:
    """Means of a point by the minute; a reader of its own, for whichever thread asks."""
    reader = SqliteHistoryReader(history)
    try:
        return reader.buckets(point, start, end, MINUTE_S)
    finally:
        reader.close()


def session_of(server: UtilityServer, around: Around) -> UtilitySession:
    """The session that speaks its protocol; the packages of another are not loaded."""
    if isinstance(server, Sep2Server):
        from connectors.ieee2030_5.session import Sep2Session

        return Sep2Session(server, around, random=SystemRandom())
    from connectors.openadr3.session import VtnSession

    assert isinstance(server, VtnServer), "there are two protocols"
    return VtnSession(server, around)


if __name__ == "__main__":
    os.nice(UTILITY_NICE)
    run_until_stopped(serve(read_config(Path(sys.argv[1]))))
