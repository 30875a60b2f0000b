"""Coils and discrete inputs: read in few requests, written one by one, on TCP and on a serial line."""

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.field import FieldIO
from ems.clock import VirtualClock
from ems.commands import WriteOutcome
from ems.site import Connection, PointMap, SerialLine
from ems.site import Protocol as Wire
from ems.telemetry import Quality
from sim.rig_scenario import rig_scenario
from sim.servers import PlantServers
from sim.world import World
from tests.builders import T0, site
from tests.contract.cable import Cable
from tests.contract.plants import command, connection, free_port, site_of
from tests.contract.test_independent_peers import run, slave  # noqa: F401  a fixture

CLOSED = {f"dev.in{i}": float(i % 3 == 0) for i in (0, 1, 3, 8, 9, 15, 16, 27, 39)}  # libmodbus_slave.c


def bit(point: str, table: str, address: int, *, inverted: bool = False) -> PointMap:
    return PointMap(
        point=point,
        address=str(address),
        table=table,
        data_type="bit",
        byte_order="big",
        word_order="big",
        scale=1.0,
        offset=1.0 if inverted else 0.0,
        sign=-1 if inverted else 1,
        unit="",
        low=0.0,
        high=1.0,
        age_s_max=3.0,
        writable=table == "coil",
    )


def bits(port: int, *more: PointMap, wire: Wire = Wire.MODBUS_TCP) -> Connection:
    inputs = [bit(point, "discrete", int(point[6:])) for point in CLOSED]
    outputs = [bit("dev.run", "coil", 17), bit("dev.stop", "coil", 18, inverted=True)]
    return dataclasses.replace(connection("dev", wire, port), points=(*inputs, *outputs, *more))


@contextmanager
def device(program: Path, *arguments: str) -> Iterator[None]:
    process = subprocess.Popen([str(program), *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield
    finally:
        process.kill()
        process.communicate()


async def goes_through(io: FieldIO, clock: VirtualClock) -> None:
    """Every input is read as it is, each coil takes what it is told, and no other."""

    async def read() -> dict[str, float | None]:
        clock.advance(1.0)
        return {r.point: r.value for r in await io.read_all()}

    assert await read() == CLOSED | {"dev.run": 0.0, "dev.stop": 1.0}
    for run_on, stop in ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.0, 1.0)):
        results = await io.write([command("dev.run", run_on, 1), command("dev.stop", stop, 2)])
        assert {r.outcome for r in results} == {WriteOutcome.CONFIRMED}
        assert await read() == CLOSED | {"dev.run": run_on, "dev.stop": stop}
    (half,) = await io.write([command("dev.run", 0.5)])
    assert half.outcome is WriteOutcome.NOT_SENT
    assert "neither 0 nor 1" in half.detail


@pytest.mark.needs_server
async def test_libmodbus_bits_are_read_and_written(slave):  # noqa: F811
    port, clock = free_port(), VirtualClock(T0)
    with device(slave, str(port)):
        io = FieldIO(site_of(bits(port)), clock=clock)
        try:
            await goes_through(io, clock)
        finally:
            await io.close()


@pytest.mark.needs_server
async def test_libmodbus_bits_on_a_serial_line(slave):  # noqa: F811
    cable, clock = Cable(), VirtualClock(T0)
    line = SerialLine(device=cable.port, baud=19200, parity="none", stop_bits=1)
    with device(slave, cable.plug(), "1"):
        base = bits(0, wire=Wire.MODBUS_RTU)
        io = FieldIO(site_of(dataclasses.replace(base, host="", serial=line, timeout_s=0.5)), clock=clock)
        try:
            await goes_through(io, clock)
        finally:
            await io.close()
            cable.close()


@pytest.mark.needs_server
async def test_libmodbus_a_bit_that_is_not_there_is_bad_and_costs_the_others_nothing(slave):  # noqa: F811
    port, clock = free_port(), VirtualClock(T0)
    with device(slave, str(port)):
        io = FieldIO(site_of(bits(port, bit("dev.none", "discrete", 40))), clock=clock)
        try:
            readings = {}
            for _ in range(3):  # the first refusal may have been for holes in the request
                clock.advance(1.0)
                readings = {r.point: r for r in await io.read_all()}
            assert readings["dev.none"].quality is Quality.DEVICE_BAD
            assert "discrete bits" in io.why_unread("dev.none")
            assert {p: readings[p].value for p in ("dev.run", "dev.in0")} == {"dev.run": 0.0, "dev.in0": 1.0}
        finally:
            await io.close()


@pytest.fixture
def world() -> World:
    plant = site()
    load_kw = {f.id: 50.0 for f in plant.feeders}
    return World(
        rig_scenario(plant, load_kw=load_kw, pv_kw=0.0, mains=(), faults=(), start=T0, horizon_s=60.0)
    )


@pytest.mark.needs_server
async def test_mbpoll_sees_the_bits_of_a_simulated_plant_and_sets_a_coil(require_program, world):
    """The breaker is a discrete input there, a start request a coil; what the world is, the bits are."""
    mbpoll, port = require_program("mbpoll"), free_port()
    genset = world.site.gensets[0].id
    rows = (
        bit(f"{world.site.grid.id}.breaker_closed", "discrete", 21),
        bit(f"{genset}.run_request", "coil", 5),
    )
    link = dataclasses.replace(connection(genset, Wire.MODBUS_TCP, port), points=rows)
    async with PlantServers(world, [link]):
        common = ("-0", "-m", "tcp", "-p", str(port), "-a", "1", "-q", "-1", "-c", "1")
        told = await run(mbpoll, *common, "-r", "21", "-t", "1", "127.0.0.1")
        assert re.search(r"\[21\]:\s+1", told), told
        assert re.search(r"\[5\]:\s+0", await run(mbpoll, *common, "-r", "5", "-t", "0", "127.0.0.1"))
        await run(mbpoll, *common[:-3], "-r", "5", "-t", "0", "127.0.0.1", "1")
        assert re.search(r"\[5\]:\s+1", await run(mbpoll, *common, "-r", "5", "-t", "0", "127.0.0.1"))
    assert world.readings()[f"{genset}.run_request"] == 1.0
