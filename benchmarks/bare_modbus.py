"""The floor: a bare asyncio Modbus TCP client that asks the same of the same devices and checks nothing."""

import asyncio
import struct
from collections.abc import Sequence
from typing import Any

Request = tuple[int, int, int]  # function code, address, count or value


class Bare(asyncio.Protocol):
    """One connection; one request in flight; a reply is whatever arrives."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._answer: asyncio.Future[bytes] | None = None
        self._buffer = b""
        self._tid = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        if len(buffer) < 6 or len(buffer) < 6 + int.from_bytes(buffer[4:6], "big"):
            self._buffer = buffer
            return
        self._buffer = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(buffer)

    async def ask(self, request: Request) -> bytes:
        """Send a request and wait for its reply, for ever if need be."""
        self._tid = self._tid % 65535 + 1
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(struct.pack(">HHHBBHH", self._tid, 0, 6, 1, *request))
        return await self._answer


async def connect(ports: Sequence[int]) -> list[Bare]:
    """A connection to each port of this machine."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Bare, "127.0.0.1", port))[1] for port in ports]


async def reads(client: Bare, requests: Sequence[Request]) -> None:
    """A device's reads, one after the other."""
    for request in requests:
        await client.ask(request)


async def cycle(clients: Sequence[Bare], polls: Sequence[Sequence[Request]], beat: Sequence[Request]) -> None:
    """Read every device, then write every device."""
    await asyncio.gather(*(reads(c, p) for c, p in zip(clients, polls, strict=True)))
    await asyncio.gather(*(c.ask(b) for c, b in zip(clients, beat, strict=True)))
