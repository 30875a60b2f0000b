"""The plant process of demos and tests: physics behind real Modbus TCP and OPC UA servers."""

import contextlib
import math
import sys
from pathlib import Path

from cli.clocks import PLANT_PHASE, open_clock
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from ems.clock import Clock, wall_sleep
from ems.site_schema import load_site
from sim.clock import ClockStoppedError
from sim.scenario import Scenario, load_scenario
from sim.servers import PlantServers, serve_plant, write_checkpoint
from sim.steps import DEMO_STEPS, StepPolicy
from sim.world import World, WorldOptions

FOLLOW_S = 10.0  # in lock-step: longest step where nobody asks for an earlier time [s]
REAL_TIME_S = 0.1  # in real time: how often the world moves [s]
LINGER_S = 30.0  # wall time the devices answer on after the end, for the edge's safe values


def demo_world_options(scenario: Scenario) -> WorldOptions:
    """Second by second around each change of the mains, in physics and in the trace."""
    return WorldOptions(fine=StepPolicy.of(scenario, DEMO_STEPS).windows(), trace_s=60.0)


def open_world(config: ProcessConfig) -> World:
    """The world of a run: as it was checkpointed, else at the start of its scenario."""
    if config.scenario is None:
        raise ValueError("a plant process needs a scenario")
    scenario = load_scenario(config.scenario, load_site(config.site))
    options = demo_world_options(scenario)
    if config.world.is_file():
        return World.restore(scenario, config.world.read_bytes(), options=options)
    return World(scenario, options=options)


async def serve(config: ProcessConfig) -> None:
    """Serve the plant until plant time ends; its last state is what a demo counts."""
    world = open_world(config)
    site = world.site
    addresses = {c.id: (c.host, config.ports.get(c.id, c.port)) for c in site.connections}
    async with PlantServers(world, site.connections, addresses=addresses) as servers:
        clock = await open_clock(config, "plant", PLANT_PHASE)
        period_s = REAL_TIME_S if config.keeper_port is None else FOLLOW_S
        if config.keeper_port is None:
            world.advance(max(world.now_s, world.scenario.offset_s(clock.now())))
        try:
            await serve_plant(world, clock, servers, period_s=lambda _: period_s, checkpoint=config.world)
            await _linger(clock)
        finally:
            write_checkpoint(world, config.world)


async def _linger(clock: Clock) -> None:
    """Answer on, so that the edge's last cycle and its safe values find the devices; we are ended last."""
    with contextlib.suppress(ClockStoppedError):
        await clock.sleep_until(math.inf)
    await wall_sleep(LINGER_S)


if __name__ == "__main__":
    run_until_stopped(serve(read_config(Path(sys.argv[1]))))
