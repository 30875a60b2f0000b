"""The server's deadlines and its one address, over real sockets on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from api.app import create_app
from api.server import ServerOptions, listen, serve
from ems.clock import wall_s
from ems.errors import EmsError
from tests.builders import site
from tests.unit.api.fakes import FakePlans, clock, full_history, plan


@asynccontextmanager
async def running(**options) -> AsyncIterator[int]:
    app = create_app(site=site(), history=full_history(), plans=FakePlans([plan()]), clock=clock())
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(app, ServerOptions(port=0, **options), ready=port.set_result))
    try:
        yield await asyncio.wait_for(port, 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(port: int, text: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def test_serve_answers_and_stops_cleanly():
    async with running() as port:
        answer = await ask(port, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"server:" not in answer.lower()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await ask(port, "GET /health HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("first", ["", "GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: "])
async def test_serve_slow_request_is_cut(first):
    """A header that trickles in kept a connection open for ever."""
    async with running(request_s=0.4) as port:
        began = wall_s()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first.encode())
        cut = False
        for _ in range(40):
            try:
                writer.write(b"a" if first else b"")
                cut = await asyncio.wait_for(reader.read(100), 0.1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                cut = True
            break
        assert cut
        assert wall_s() - began < 3.0
        writer.close()


async def test_serve_trickled_second_request_of_a_connection_is_cut_too():
    async with running(request_s=0.4, keep_alive_s=30) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"}")
        assert b"live" in head
        writer.write(b"GET /health HTTP/1.1\r\nX")
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 3.0) == b""
        writer.close()


async def test_serve_keep_alive_many_requests_within_deadline_is_not_cut():
    async with running(request_s=0.5) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(6):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"live" in await reader.readuntil(b"}")
            await asyncio.sleep(0.15)
        writer.close()


async def test_serve_huge_header_is_refused():
    async with running() as port:
        answer = await ask(port, "GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + "a" * 100_000)
        assert answer.startswith(b"HTTP/1.1 400") or answer == b""


async def test_serve_big_body_is_refused_before_it_is_sent():
    async with running() as port:
        answer = await ask(
            port, "GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000000\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 413")


def test_listen_port_in_use_is_a_clear_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EmsError, match=f"127.0.0.1 port {port} .*choose another port"):
            listen(ServerOptions(port=port))


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("0.0.0.0", 0, "loopback"),
        ("192.168.1.5", 0, "loopback"),
        ("localhost", 0, "address"),
        ("127.0.0.1", 99999, "cannot listen"),
    ],
)
def test_listen_other_addresses_are_refused(host, port, words):
    with pytest.raises(EmsError, match=words):
        listen(ServerOptions(host=host, port=port))
