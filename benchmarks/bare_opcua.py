"""OPC UA servers in a process of their own, and asyncua by itself reading and writing them."""

import asyncio
import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds

from ems.site import Connection, PointMap, Protocol
from tests.contract.plants import free_port

URI = "urn:benchmark:nodes"
Clocked = Callable[[int, Callable[[], Awaitable[object]]], Awaitable[tuple[Any, float]]]


def name_of(server: int, node: int) -> str:
    """Point and node id of a value."""
    return f"u{server}.v{node}"


async def serve(ports: Sequence[int], nodes: int) -> None:
    """Run servers until killed."""
    for i, port in enumerate(ports):
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
        index = await server.register_namespace(URI)
        for k in range(nodes):
            node = await server.nodes.objects.add_variable(
                ua.NodeId(name_of(i, k), index), name_of(i, k), 1.5, ua.VariantType.Double
            )
            await node.set_writable()
        await server.start()
    print("listening", flush=True)
    await asyncio.Event().wait()


def connection(server: int, port: int, nodes: int) -> Connection:
    """What our side is told of one server; its first value is a setpoint."""
    row = PointMap(
        point="",
        address="",
        table="node",
        data_type="Double",
        byte_order="big",
        word_order="big",
        scale=1.0,
        offset=0.0,
        sign=1,
        unit="",
        low=-1e6,
        high=1e6,
        age_s_max=3.0,
        writable=False,
    )
    points = tuple(
        dataclasses.replace(
            row, point=name_of(server, k), address=f"nsu={URI};s={name_of(server, k)}", writable=k == 0
        )
        for k in range(nodes)
    )
    return Connection(
        id=f"u{server}",
        protocol=Protocol.OPC_UA,
        host="127.0.0.1",
        port=port,
        unit_id=1,
        endpoint="/plant",
        poll_s=1.0,
        timeout_s=5.0,
        watchdog_point=None,
        points=points,
    )


@contextlib.contextmanager
def servers(count: int, nodes: int) -> Iterator[tuple[list[Connection], int]]:
    """Start servers of so many nodes each: their connections, and the nodes of all."""
    ports = [free_port() for _ in range(count)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare_opcua", json.dumps(ports), str(nodes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield [connection(i, p, nodes) for i, p in enumerate(ports)], count * nodes
    finally:
        process.kill()
        process.communicate()


async def measure(connections: Sequence[Connection], cycles: int, clocked: Clocked) -> tuple[Any, float]:
    """The same reads and writes without a check, a codec, a quality or a time stamp."""
    sessions = []
    for c in connections:
        client = Client(f"opc.tcp://{c.host}:{c.port}{c.endpoint}", timeout=5.0)
        await client.connect()
        index = await client.get_namespace_index(URI)
        ids = [ua.NodeId(p.point, index) for p in c.points]
        wanted = [ua.ReadValueId(NodeId=i, AttributeId=AttributeIds.Value) for i in ids]
        value = ua.DataValue(Value=ua.Variant(1.0, ua.VariantType.Double))
        write = ua.WriteValue(NodeId=ids[0], AttributeId=AttributeIds.Value, Value=value)
        sessions.append(
            (client, ua.ReadParameters(NodesToRead=wanted), ua.WriteParameters(NodesToWrite=[write]))
        )

    async def cycle() -> None:
        await asyncio.gather(*(c.uaclient.session.read(r) for c, r, _ in sessions))
        await asyncio.gather(*(c.uaclient.session.write(w) for c, _, w in sessions))

    try:
        return await clocked(cycles, cycle)
    finally:
        for client, _, _ in sessions:
            with contextlib.suppress(OSError, TimeoutError):
                await client.disconnect()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1]), int(sys.argv[2])))
