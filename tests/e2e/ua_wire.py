"""A TCP proxy that counts OPC UA requests by service, on a connection without encryption."""

import asyncio
import contextlib
import struct
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

# Ids of the binary encodings, OPC UA part 6 (1.05), annex A: NodeIds.csv.
READ, WRITE, CALL = 631, 673, 712
HEADER = 8  # "MSG", chunk type, size


@dataclass(slots=True)
class UaProxy:
    """Passes everything on to a port of this machine, and counts the services that are asked for."""

    target_port: int
    port: int = 0
    services: Counter[int] = field(default_factory=Counter)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def writes(self) -> int:
        return self.services[WRITE] + self.services[CALL]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            back = asyncio.create_task(_copy(far_reader, writer))
            begins = True  # the next chunk begins a message
            try:
                while True:
                    head = await reader.readexactly(HEADER)
                    body = await reader.readexactly(struct.unpack("<I", head[4:])[0] - HEADER)
                    if head[:3] == b"MSG" and begins:
                        self.services[_service(body)] += 1
                    begins = head[3:4] != b"C"
                    far_writer.write(head + body)
                    await far_writer.drain()
            finally:
                far_writer.close()
                back.cancel()
        writer.close()


def _service(body: bytes) -> int:
    """Type id of a request: after channel, token, sequence and request id, a node id in one of two forms."""
    at = 16
    if body[at] == 0:  # two bytes
        return body[at + 1]
    assert body[at] == 1, f"a type id of form {body[at]}"
    return int(struct.unpack("<H", body[at + 2 : at + 4])[0])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
