"""A violation that was planted is found by the count, at the meter, at the device and in the table."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from pymodbus.client import AsyncModbusTcpClient

from cli.day import choose_ports
from cli.result_table import compare, result_rows
from connectors.point_map import point_codecs
from dispatch.supervision.watched import WatchedIO
from ems.commands import Command, WriteResult
from sim.direct_io import WorldIO
from sim.harness import ControllerName, Run, SimulateOptions
from sim.result import RunResult
from sim.servers import PlantServers
from sim.steps import DEMO_STEPS
from sim.world import COMMAND_OUT_OF_BOUNDS, World
from tests.e2e.days import around_outage

pytestmark = pytest.mark.timeout(300)
NIGHT = around_outage(start=(5, 0), end=(5, 30))  # 190 kW of load and no sun, under a cap of 400 kW


class BrokenDriver(WorldIO):
    """A device driver that makes full charging of whatever the edge sends to the battery."""

    def _write(self, command: Command) -> WriteResult:
        if command.point == "bess1.p_set_kw":
            command = replace(command, value=-550.0)
        return super()._write(command)


class WildDriver(WorldIO):
    """A device driver that charges the battery beyond the authority; the register would hold it."""

    setpoint_kw = -590.0

    def _write(self, command: Command) -> WriteResult:
        if command.point == "bess1.p_set_kw":
            command = replace(command, value=self.setpoint_kw)
        return super()._write(command)


def run_with(driver: type[WorldIO]) -> RunResult:
    """The rules through half an hour of a night, over a driver."""
    run = Run(NIGHT, ControllerName.RULES, SimulateOptions(steps=DEMO_STEPS))
    edge, io = run.runtime, driver(run.world, run.clock)
    edge._io, edge._sender._io = io, WatchedIO(io, edge.setup.layout, edge.invariants)
    return run.go()


def counted(result: RunResult) -> float:
    """What the table prints as the number of physics steps in violation."""
    rows = result_rows(compare(NIGHT.site, [result]))
    (value,) = next(r.values for r in rows if r.label == "Physics steps in violation")
    assert value is not None
    return value


def test_violation_count_of_a_sound_run_is_zero():
    assert counted(run_with(WorldIO)) == 0


def test_violation_import_over_the_cap_is_counted_and_timed():
    result = run_with(BrokenDriver)
    assert counted(result) >= 10
    assert result.counters.violations["import_over_cap"] >= 10
    assert result.violation_s["import_over_cap"] > 1000.0
    assert result.violation_max["import_over_cap"] > 250.0
    assert result.counters.violations["import_over_cap_interval"] >= 1


def test_violation_command_out_of_bounds_is_counted_and_refused():
    result = run_with(WildDriver)
    assert result.counters.violations[COMMAND_OUT_OF_BOUNDS] >= 10
    assert result.violation_max[COMMAND_OUT_OF_BOUNDS] == 590.0
    assert result.counters.bess_charge_kwh["bess1"] < 10.0
    assert counted(result) >= 10


class UnfitDriver(WildDriver):
    """A device driver that forgets the decimal point: more than the register holds."""

    setpoint_kw = -5500.0


def test_violation_command_that_does_not_fit_its_register_is_never_sent():
    result = run_with(UnfitDriver)
    assert COMMAND_OUT_OF_BOUNDS not in result.counters.violations
    assert any("not_sent" in note for note in result.notes), result.notes
    assert result.counters.bess_charge_kwh["bess1"] < 10.0


@dataclass(slots=True, kw_only=True)
class Pcs:
    """The simulated PCS on a real socket."""

    world: World
    port: int


@pytest.fixture
async def pcs() -> AsyncIterator[Pcs]:
    world = World(NIGHT)
    world.advance(60.0)
    connection = next(c for c in NIGHT.site.connections if c.id == "pcs")
    ports, _ = choose_ports(NIGHT.site, 0, free=True)
    async with PlantServers(world, [connection], addresses={"pcs": ("127.0.0.1", ports["pcs"])}):
        yield Pcs(world=world, port=ports["pcs"])


@pytest.mark.parametrize(("value_kw", "code", "count"), [(-400.0, None, 0), (-590.0, 3, 1), (580.0, 3, 1)])
async def test_violation_write_at_the_device_itself_is_counted(
    pcs: Pcs, value_kw: float, code: int | None, count: int
):
    """A client that is not ours writes inside and outside 550 kW: 'illegal data value', and counted."""
    connection = next(c for c in NIGHT.site.connections if c.id == "pcs")
    codec = point_codecs(connection)["bess1.p_set_kw"]
    client = AsyncModbusTcpClient("127.0.0.1", port=pcs.port, retries=0)
    assert await client.connect()
    reply = await client.write_registers(codec.address, codec.encode(value_kw), device_id=connection.unit_id)
    client.close()
    assert reply.isError() is (code is not None)
    if code is not None:
        assert reply.exception_code == code
    assert pcs.world.counters().violations.get(COMMAND_OUT_OF_BOUNDS, 0) == count
    before_kwh = pcs.world.counters().violations.get("import_over_cap", 0)
    pcs.world.advance(120.0)
    over = pcs.world.counters().violations.get("import_over_cap", 0) - before_kwh
    assert (over > 0) is (code is None)
