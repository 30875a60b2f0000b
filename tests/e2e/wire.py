"""A TCP proxy that counts Modbus requests by function code, and a world that counts what reaches a device."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sim.scenario import Scenario
from sim.world import World
from sim.writes import WriteVerdict

WRITES = frozenset({5, 6, 15, 16, 22, 23})
HEADER = 7  # transaction, protocol, length, unit


@dataclass(slots=True)
class ModbusProxy:
    """Passes everything on to a port of this machine, and counts the function codes of the requests."""

    target_port: int
    port: int = 0
    codes: Counter[int] = field(default_factory=Counter)
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
        return sum(n for code, n in self.codes.items() if code in WRITES)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            back = asyncio.create_task(_copy(far_reader, writer))
            try:
                while True:
                    head = await reader.readexactly(HEADER)
                    body = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                    self.codes[body[0]] += 1
                    far_writer.write(head + body)
                    await far_writer.drain()
            finally:
                far_writer.close()
                back.cancel()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()


class CountingWorld(World):
    """A plant that remembers every write that arrived at a device, over whichever protocol, taken or not."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.arrived: list[tuple[str, float, WriteVerdict]] = []

    def write(self, point: str, value: float) -> WriteVerdict:
        verdict = super().write(point, value)
        self.arrived.append((point, value, verdict))
        return verdict
