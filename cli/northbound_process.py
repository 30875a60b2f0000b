"""The northbound process: shows the plant to others, and tells the edge what they may tell; nobody waits."""

import os
import sys
from pathlib import Path

import structlog

from cli.house import House, Serving
from cli.priorities import NORTHBOUND_NICE
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from connectors.historian.live import LiveHistory
from connectors.northbound.door import DeskDoor, without_role
from connectors.northbound.iec104_server import Iec104Serving
from connectors.northbound.image import Board
from connectors.northbound.modbus_server import ModbusServing
from connectors.northbound.records import Records
from connectors.stores.drop_folder import owner_name
from ems.clock import SystemClock, wall_sleep
from ems.northbound_names import servers
from ems.site_schema import load_site

log = structlog.get_logger()

PERIOD_S_MAX = 1.0


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
    house = House("northbound", reader, board, door, records, servings, clock)
    try:
        while True:
            await house.step()
            await wall_sleep(min(PERIOD_S_MAX, 0.5 * config.cycle_s))
    finally:
        for serving in servings:
            await serving.close()
        records.close()


if __name__ == "__main__":
    os.nice(NORTHBOUND_NICE)
    run_until_stopped(serve(read_config(Path(sys.argv[1]))))
