"""The telemetry process: sends what the edge has recorded where the site file says; nobody waits."""

import os
import sys
from datetime import UTC
from pathlib import Path

from cli.link_wires import wire_of
from cli.priorities import TELEMETRY_NICE
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from connectors.telemetry.ledger import Ledger
from connectors.telemetry.sender import Sender
from connectors.telemetry.watch import PREFIX
from ems.clock import SystemClock, wall_sleep
from ems.records import StatusRow
from ems.site_schema import load_site

STATUS_S = 1.0
CLOSE_S = 5.0


async def serve(config: ProcessConfig) -> None:
    """Compose the links of a site and run them."""
    site = load_site(config.site)
    clock = SystemClock()
    ledger = Ledger(config.telemetry)
    folder = config.site.parent if config.site_folder is None else config.site_folder
    directory = config.telemetry.parent
    senders = [
        Sender(link.id, config.history, ledger, wire_of(link, site, folder, directory), now=clock.now)
        for link in site.links
    ]
    for sender in senders:
        sender.start()
    try:
        while True:
            for sender in senders:
                if sender.bug is not None:
                    raise sender.bug
                name = PREFIX + sender.link
                at = clock.now().astimezone(UTC)
                ledger.status(StatusRow(process=name, pid=os.getpid(), at=at, fields=sender.row()))
            await wall_sleep(STATUS_S)
    finally:
        for sender in senders:
            sender.close(CLOSE_S)
        ledger.close()


if __name__ == "__main__":
    os.nice(TELEMETRY_NICE)
    run_until_stopped(serve(read_config(Path(sys.argv[1]))))
