"""A device that answers HTTP with whatever bytes a test has in mind, on a real socket."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from cli.free_ports import free_ports

GOOD = b'{"ok": true, "p": 11.5, "n": 7, "on": true, "mode": "grid", "t": 1772366400, "id": "SN1"}'
Act = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes = GOOD, status: str = "200 OK", *headers: str, kind: str = "application/json") -> bytes:
    """A sound answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    if kind:
        lines.append(f"Content-Type: {kind}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """The same in chunks."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + end


class FakeHttp:
    """Each request is answered by `act`, or with the bytes in `answers`, by its path."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.answers: dict[str, bytes] = {}
        self.usual = http()
        self.act: Act | None = None
        self.asked: list[bytes] = []  # requests as they came
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(request)
                path = request.split(b" ")[1].decode()
                if self.act is not None:
                    await self.act(path, reader, writer)
                else:
                    writer.write(self.answers.get(path, self.usual))
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.transport.abort()

    def close_all(self) -> None:
        """Every connection, while nothing is asked."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def stop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
