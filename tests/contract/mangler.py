"""A line between client and device that spoils answers by a seeded hand: late, torn, of another request."""

import asyncio
import contextlib
import random
import struct

from ems.clock import wall_sleep

HEADER = 7
WAYS = (
    "late",
    "unit",
    "transaction",
    "short",
    "long",
    "count",
    "function",
    "exception",
    "silent",
    "cut",
    "old",
)


class Mangler:
    """Passes Modbus TCP on to a port of this machine; spoils an answer in so many.

    Parameters
    ----------
    target_port : the device.
    share : of the answers that are spoilt.
    late_s : how long after its request a late answer comes, wall time [s].
    """

    def __init__(self, target_port: int, seed: int, *, share: float, late_s: float) -> None:
        self.target_port, self.share, self.late_s = target_port, share, late_s
        self.rng, self.port, self.spoilt = random.Random(seed), 0, set[str]()
        self._last = b""
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        try:
            while True:
                far_writer.write(await _frame(reader))
                answer = await _frame(far_reader)
                spoilt = await self._spoil(answer) if self.rng.random() < self.share else answer
                self._last = answer
                if spoilt is None:
                    return
                writer.write(spoilt)
        finally:
            far_writer.close()

    async def _spoil(self, answer: bytes) -> bytes | None:
        """The answer as it arrives; None: the line is cut instead."""
        way = self.rng.choice(WAYS)
        self.spoilt.add(way)
        head, unit, pdu = answer[:4], answer[6], answer[7:]
        match way:
            case "late":
                await wall_sleep(self.late_s)
            case "unit":
                unit = (unit + 1) % 256
            case "transaction":
                head = struct.pack(">HH", struct.unpack(">H", head[:2])[0] ^ 1, 0)
            case "short":
                pdu = pdu[:-2]
            case "long":
                pdu += b"\x12\x34"
            case "count":
                pdu = pdu[:1] + bytes([(pdu[1] + 2) % 256]) + pdu[2:]
            case "function":
                pdu = bytes([pdu[0] ^ 7]) + pdu[1:]
            case "exception":
                pdu = bytes([pdu[0] | 0x80, self.rng.choice((1, 2, 4, 6, 11))])
            case "silent":
                return b""
            case "cut":
                return None
            case "old":  # the body of the answer before, under the number of this one
                pdu = self._last[7:] if self._last else pdu[:-2]
        return head + struct.pack(">HB", len(pdu) + 1, unit) + pdu


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(HEADER)
    return head + await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
