"""Our OPC UA server under what nearly is OPC UA: whole sessions with bytes changed, taken out and put in."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from connectors.opcua import certificates
from ems.clock import wall_sleep
from tests.contract.northbound_ua_peer import laid_out, serving
from tests.contract.pki import Pair, pair

pytestmark = pytest.mark.soak
CASES, SEED = 600, 7
GROWTH_MB_MAX = 20.0


def spoilt(sent: list[bytes], rng: random.Random) -> bytes:
    """Some of the chunks of a session, with a few bytes other than they were."""
    data = bytearray(b"".join(sent[: rng.randint(1, len(sent))]))
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, way = rng.randrange(len(data)), rng.random()
        if way < 0.6:
            data[at] = rng.randrange(256)
        elif way < 0.75 and len(data) > 16:
            del data[at : at + rng.randint(1, 8)]
        elif way < 0.9:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            data[at : at + 4] = b"\xff\xff\xff\xff"
    return bytes(data)


async def heard(client: Client, work: Callable[[], Any]) -> list[bytes]:
    """What a client sends while it works."""
    await client.connect_socket()
    protocol = client.uaclient.protocol
    assert protocol is not None
    assert protocol.transport is not None
    sent: list[bytes] = []
    real: Any = protocol.transport.write

    def write(data: bytes) -> None:
        sent.append(bytes(data))
        real(data)

    protocol.transport.write = write  # type: ignore[method-assign,assignment]
    await client.send_hello()
    await client.open_secure_channel()
    await work()
    client.disconnect_socket()
    return sent


def memory_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.timeout(300)
async def test_nothing_that_nearly_is_a_session_stops_it_or_stays_in_memory(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("connectors.northbound.ua_connection.ACTIVATION_S", 1.0)
    folder = tmp_path / "files"
    program = pair("urn:test:client", "edge")
    files = laid_out(folder, {"client": program}, {"eve": pair("urn:test:eve")})
    (folder / "trusted" / "client.der").write_bytes(program.der)
    own = certificates.read_certificate(folder / "server.der")
    async with serving(demo, folder, tmp_path / "run", files) as (server, plant):
        url = f"opc.tcp://127.0.0.1:{server.port}/ems"
        plain = Client(url, timeout=10)
        sessions = [await heard(plain, plain.get_endpoints), await heard(*with_user(url, own, program))]
        rng, before = random.Random(SEED), memory_mb()
        for _ in range(CASES):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(spoilt(rng.choice(sessions), rng))
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.05):
                    await reader.read(65536)
            writer.transport.abort()
        async with asyncio.timeout(20.0):
            while server.status()["connections"] or server.status()["sessions"]:
                await wall_sleep(0.05)
        assert memory_mb() - before < GROWTH_MB_MAX
        assert plant.desk.collect() == []
        assert len(await heard(*with_user(url, own, program))) >= 4, "it serves as before"


def with_user(url: str, own: Any, program: Pair) -> tuple[Client, Callable[[], Any]]:
    """A client that is let in, and all that it does there."""
    client = Client(url, timeout=10, watchdog_intervall=1e6)
    client.application_uri = "urn:test:client"
    made: Any = SecurityPolicyBasic256Sha256
    mode = ua.MessageSecurityMode.SignAndEncrypt
    client.security_policy = made(own, program.certificate, program.key, mode)
    client.uaclient.set_security(client.security_policy)
    client.set_user("dso")
    client.set_password("tell")

    async def work() -> None:
        await client.create_session()
        await client.activate_session(username="dso", password="tell")
        await client.get_node("i=2258").read_value()

    return client, work
