"""A hand-written Modbus TCP device: registers by table, and a count of every function that was asked for."""

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

TABLES = {3: "holding", 4: "input"}
WRITES = frozenset({5, 6, 15, 16, 22, 23})


class RegisterDevice:
    """Answers functions 3, 4, 6 and 16 for one unit; a register it does not have is exception 2.

    Parameters
    ----------
    unit : the others get no answer at all, as behind a serial gateway.
    """

    def __init__(self, unit: int = 1) -> None:
        self.unit = unit
        self.registers: dict[str, dict[int, int]] = {"holding": {}, "input": {}}
        self.device_id: dict[int, str] = {}  # of function 43/14; empty: exception 1
        self.functions: Counter[int] = Counter()
        self.arrived_s: list[float] = []  # of each request
        self.in_flight_max = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    @property
    def writes(self) -> int:
        return sum(n for code, n in self.functions.items() if code in WRITES)

    def put(self, table: str, address: int, words: Sequence[int]) -> None:
        self.registers[table] |= {address + i: word for i, word in enumerate(words)}

    def put_text(self, table: str, address: int, text: str, length: int) -> None:
        raw = text.encode("ascii").ljust(2 * length, b"\0")
        self.put(table, address, struct.unpack(f">{length}H", raw))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                head = await reader.readexactly(7)
                body = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                self.functions[body[0]] += 1
                self.arrived_s.append(asyncio.get_running_loop().time())
                if head[6] != self.unit:
                    continue
                pdu = self._answer(body)
                writer.write(head[:4] + struct.pack(">HB", len(pdu) + 1, head[6]) + pdu)
                await writer.drain()

    def _answer(self, body: bytes) -> bytes:
        function = body[0]
        if function == 43:
            return self._identification(body)
        if function not in (*TABLES, 6, 16):
            return bytes((function | 0x80, 1))
        address, count = struct.unpack(">HH", body[1:5])
        table = self.registers[TABLES.get(function, "holding")]
        span = [address] if function == 6 else range(address, address + count)
        if any(a not in table for a in span):
            return bytes((function | 0x80, 2))
        if function in TABLES:
            return struct.pack(f">BB{count}H", function, 2 * count, *(table[a] for a in span))
        words = [count] if function == 6 else struct.unpack(f">{count}H", body[6:])
        table.update(zip(span, words, strict=True))
        return body[:5]

    def _identification(self, body: bytes) -> bytes:
        if not self.device_id:
            return bytes((0xAB, 1))
        items = b"".join(bytes((i, len(t))) + t.encode() for i, t in self.device_id.items())
        return bytes((43, 14, body[2], 1, 0, 0, len(self.device_id))) + items
