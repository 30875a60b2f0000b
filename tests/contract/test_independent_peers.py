"""Our Modbus side against programs that share no code with it: mbpoll as client, libmodbus as device."""

import asyncio
import dataclasses
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.field import FieldIO
from ems.clock import VirtualClock, wall_sleep
from ems.commands import WriteOutcome
from ems.site import Protocol as Wire
from ems.site import SerialLine
from tests.builders import T0
from tests.contract.cable import Cable
from tests.contract.plants import ModbusPlant, command, connection, free_port, site_of


@pytest.fixture
async def plant() -> AsyncIterator[ModbusPlant]:
    plant = ModbusPlant()
    await plant.start()
    yield plant
    await plant.stop()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(T0)


@pytest.fixture
async def io(plant, clock) -> AsyncIterator[FieldIO]:
    io = FieldIO(site_of(plant.connection), clock=clock)
    await io.read_all()
    yield io
    await io.close()


async def run(*arguments: str) -> str:
    """Run a program without blocking the server that lives in this loop."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    text = out.decode()
    assert process.returncode == 0, text
    return text


def values(text: str) -> dict[int, float]:
    """`[10]:   65136 (-400)` -> {10: -400.0}."""
    found = {}
    for address, first, signed in re.findall(
        r"^\[(\d+)\]:\s+(-?[\d.e+]+)(?: \((-?\d+)\))?", text, re.MULTILINE
    ):
        found[int(address)] = float(signed or first)
    return found


@pytest.mark.needs_server
async def test_mbpoll_reads_what_was_written(require_program, plant, io):
    mbpoll = require_program("mbpoll")
    results = await io.write([command("dev.p_set_kw", 40.0, 1), command("dev.run_request", 1.0, 2)])
    assert {r.outcome for r in results} == {WriteOutcome.CONFIRMED}
    common = ("-0", "-m", "tcp", "-p", str(plant.connection.port), "-a", "1", "-1", "-q", "-o", "10")
    text = await run(mbpoll, *common, "-r", "10", "-c", "2", "-t", "4", "127.0.0.1")
    assert values(text) == {10: -400.0, 11: 1.0}  # counts of 0.1 kW, charging positive on the device
    await io.write([command("dev.p_limit_kw", 333.25, 3)])
    text = await run(mbpoll, *common, "-B", "-r", "12", "-c", "1", "-t", "4:float", "127.0.0.1")
    assert values(text) == {12: 333.25}


@pytest.mark.needs_server
async def test_mbpoll_writes_and_the_client_reads_it(require_program, plant, io, clock):
    mbpoll = require_program("mbpoll")
    common = ("-0", "-m", "tcp", "-p", str(plant.connection.port), "-a", "1", "-q")
    await run(mbpoll, *common, "-r", "2", "-t", "4", "127.0.0.1", "875")
    await run(mbpoll, *common, "-r", "0", "-t", "4:float", "--", "127.0.0.1", "-12.5")  # low word first
    clock.advance(1.0)
    readings = {r.point: r.value for r in await io.read_all()}
    assert readings["dev.soc"] == pytest.approx(0.875)
    assert readings["dev.p_kw"] == -12.5


@pytest.fixture(scope="module")
def slave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libmodbus compiled into a device; skipped where there is no compiler or no libmodbus."""
    compiler = shutil.which("cc")
    config = shutil.which("pkg-config")
    if compiler is None or config is None:
        pytest.skip("no C compiler or no pkg-config")
    flags = subprocess.run([config, "--cflags", "--libs", "libmodbus"], capture_output=True, text=True)
    if flags.returncode != 0:
        pytest.skip("libmodbus is not installed")
    program = tmp_path_factory.mktemp("peer") / "slave"
    source = Path(__file__).with_name("libmodbus_slave.c")
    subprocess.run([compiler, str(source), "-o", str(program), *flags.stdout.split()], check=True)
    return program


@pytest.mark.needs_server
async def test_client_against_libmodbus_reads_writes_and_outlives_a_frozen_device(slave):
    """A write to a frozen device is unknown; thawed it carries the write out, and we read that back."""
    port = free_port()
    process = subprocess.Popen([str(slave), str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    clock = VirtualClock(T0)
    io = FieldIO(site_of(connection("dev", Wire.MODBUS_TCP, port, 0.2)), clock=clock)

    async def read() -> dict[str, float | None]:
        clock.advance(1.0)
        return {r.point: r.value for r in await io.read_all()}

    try:
        assert await read() == dict.fromkeys(await read(), 0.0)
        for value in (-123.4, 500.0, -500.0):
            results = await io.write([command("dev.p_set_kw", value, 1), command("dev.p_limit_kw", 250.5, 2)])
            assert {r.outcome for r in results} == {WriteOutcome.CONFIRMED}
            readings = await read()
            assert readings["dev.p_set_kw"] == pytest.approx(value)
            assert readings["dev.p_limit_kw"] == 250.5
        process.send_signal(signal.SIGSTOP)
        (result,) = await io.write([command("dev.p_set_kw", 77.0)])
        assert result.outcome is WriteOutcome.UNKNOWN
        process.send_signal(signal.SIGCONT)
        readings = await read()
        for _ in range(200):
            if readings["dev.p_set_kw"] is not None:
                break
            await wall_sleep(0.02)
            readings = await read()
        assert readings["dev.p_set_kw"] == pytest.approx(77.0)
    finally:
        await io.close()
        process.kill()
        process.communicate()


@pytest.mark.needs_server
async def test_two_libmodbus_units_on_one_serial_line_read_written_and_one_dies(slave):
    """The dead one costs the living one some of its time and none of its values."""
    cable, clock, processes = Cable(), VirtualClock(T0), {}
    connections = []
    for unit, name in ((1, "a"), (2, "b")):
        command_line = [str(slave), cable.plug(), str(unit)]
        processes[name] = subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True)
        stdout = processes[name].stdout
        assert stdout is not None
        assert stdout.readline() == "listening\n"
        line = SerialLine(device=cable.port, baud=19200, parity="none", stop_bits=1)
        base = connection(name, Wire.MODBUS_RTU, 0, 0.5)
        connections.append(dataclasses.replace(base, host="", serial=line, unit_id=unit))
    io = FieldIO(site_of(*connections), clock=clock)

    async def read() -> dict[str, float | None]:
        clock.advance(1.0)
        return {r.point: r.value for r in await io.read_all()}

    try:
        assert set((await read()).values()) == {0.0}
        commands = [
            command("a.p_set_kw", -123.4),
            command("b.p_set_kw", 77.0),
            command("b.p_limit_kw", 250.5),
        ]
        results = await io.write(commands)
        assert {r.outcome for r in results} == {WriteOutcome.CONFIRMED}
        readings = await read()
        assert readings["a.p_set_kw"] == pytest.approx(-123.4)
        assert readings["b.p_set_kw"] == pytest.approx(77.0)
        assert readings["b.p_limit_kw"] == 250.5
        processes["b"].kill()
        for _ in range(3):
            readings = await read()
            assert readings["a.p_set_kw"] == pytest.approx(-123.4)
        assert readings["b.p_set_kw"] is None
        links = io.links()
        assert (links["a_link"]["failures"], links["b_link"]["health"]) == (0, "down")
    finally:
        await io.close()
        cable.close()
        for process in processes.values():
            process.kill()
            process.communicate()
