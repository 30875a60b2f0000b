"""The archive process: moves what is no longer recent to the long-term store; nobody waits for it."""

import asyncio
import os
import sys
from pathlib import Path

from cli.priorities import ARCHIVE_NICE
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from connectors.historian.archive.keeper import Keeper
from ems.clock import SystemClock, wall_sleep

BUSY_S = 0.5  # between two steps while there is more to do: the disk is for others too
IDLE_S = 60.0


async def serve(config: ProcessConfig) -> None:
    """Keep the store of a plant."""
    keeper = Keeper(config.history, config.archive, config.historian, now=SystemClock().now)
    try:
        while True:
            busy = await asyncio.to_thread(keeper.step)
            await wall_sleep(BUSY_S if busy else IDLE_S)
    finally:
        keeper.close()


if __name__ == "__main__":
    os.nice(ARCHIVE_NICE)
    run_until_stopped(serve(read_config(Path(sys.argv[1]))))
