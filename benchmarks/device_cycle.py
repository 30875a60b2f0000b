"""CPU of one control cycle's device traffic, against a floor: the bare libraries sending the same requests.

Four Modbus TCP and two OPC UA devices in a process of their own; only the client's CPU is counted.

python benchmarks/device_cycle.py
"""

import asyncio
import contextlib
import dataclasses
import platform
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from pymodbus.client import AsyncModbusTcpClient

from connectors.field import FieldIO
from ems.clock import VirtualClock
from ems.site import Connection, Protocol
from tests.builders import T0
from tests.contract.plants import ModbusPlant, OpcUaPlant, command, free_port, site_of

MODBUS, OPC_UA, CYCLES = 4, 2, 300


async def serve(ports: list[int]) -> None:
    """Run all devices until killed."""
    for i, port in enumerate(ports):
        plant = ModbusPlant(f"d{i}", port) if i < MODBUS else OpcUaPlant(f"d{i}", port)
        await plant.start()
    print("listening", flush=True)
    await asyncio.Event().wait()


async def cpu_ms(cycle: Callable[[], Awaitable[object]]) -> float:
    """CPU of this process per cycle [ms], best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for _ in range(CYCLES):
            await cycle()
        best = min(best, (time.process_time() - start) / CYCLES * 1e3)
    return best


async def bare(connections: list[Connection]) -> float:
    """The same reads without a check, a codec, a quality or a time stamp."""
    modbus, sessions = [], []
    for c in connections:
        if c.protocol is Protocol.MODBUS_TCP:
            m = AsyncModbusTcpClient(c.host, port=c.port, retries=0)
            await m.connect()
            modbus.append(m)
        else:
            s = Client(f"opc.tcp://{c.host}:{c.port}{c.endpoint}")
            await s.connect()
            index = await s.get_namespace_index("urn:test:plant")
            nodes = [
                ua.ReadValueId(
                    NodeId=ua.NodeId.from_string(f"ns={index};s={p.point}"), AttributeId=AttributeIds.Value
                )
                for p in c.points
            ]
            sessions.append((s, ua.ReadParameters(NodesToRead=nodes)))

    async def cycle() -> None:
        reads = [m.read_holding_registers(0, count=14) for m in modbus]
        await asyncio.gather(*reads, *(s.uaclient.session.read(p) for s, p in sessions))

    try:
        return await cpu_ms(cycle)
    finally:
        for m in modbus:
            m.close()
        for s, _ in sessions:
            with contextlib.suppress(OSError):
                await s.disconnect()


async def ours(connections: list[Connection]) -> tuple[float, float]:
    """CPU of read_all, and of read_all and two writes to each device [ms]."""
    clock = VirtualClock(T0)
    io = FieldIO(site_of(*connections), clock=clock)
    names = [c.points[0].point.partition(".")[0] for c in connections]
    commands = [command(f"{name}.{p}", 1.0) for name in names for p in ("p_set_kw", "p_limit_kw")]

    async def read() -> None:
        clock.advance(1.0)
        readings = await io.read_all()
        assert all(r.is_good for r in readings), [r for r in readings if not r.is_good]

    async def read_and_write() -> None:
        await read()
        results = await io.write(commands)
        assert all(r.outcome.value == "confirmed" for r in results)

    try:
        return await cpu_ms(read), await cpu_ms(read_and_write)
    finally:
        await io.close()


def main() -> None:
    ports = [free_port() for _ in range(MODBUS + OPC_UA)]
    server = subprocess.Popen(
        [sys.executable, __file__, *map(str, ports)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        made = [
            ModbusPlant(f"d{i}", p).connection if i < MODBUS else OpcUaPlant(f"d{i}", p).connection
            for i, p in enumerate(ports)
        ]
        connections = [dataclasses.replace(c, timeout_s=2.0) for c in made]
        floor = asyncio.run(bare(connections))
        read, both = asyncio.run(ours(connections))
    finally:
        server.kill()
        server.communicate()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("pymodbus", "asyncua"))
    print(f"Python {platform.python_version()}, {platform.machine()}, {libraries}; client CPU per cycle of")
    print(f"{MODBUS} Modbus TCP and {OPC_UA} OPC UA devices with {len(connections[0].points)} points each")
    print(f"{'floor: bare libraries, same reads':40s} {floor:6.2f} ms")
    print(f"{'FieldIO.read_all':40s} {read:6.2f} ms  {read / floor:5.2f} x floor")
    print(f"{'FieldIO.read_all and 12 writes':40s} {both:6.2f} ms  {both / floor:5.2f} x floor")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve([int(p) for p in sys.argv[1:]]))
    else:
        main()
