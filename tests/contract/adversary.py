"""A hand-written Modbus device that answers wrongly, late, slowly, in drips or not at all."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

from ems.clock import wall_sleep
from ems.site import PointMap
from tests.contract.plants import free_port

Send = Callable[[bytes], Awaitable[None]]


def frame(tid: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


class Adversary:
    """A hand-written Modbus server with registers 100 to 103 that can be told to misbehave."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mode = "ok"
        self.registers = {100: 11, 101: 22, 102: 33, 103: 44}
        self.requests: list[tuple[int, int]] = []
        self.asked_s: list[float] = []  # when each of them came, by the clock of the loop
        self.connections = 0
        self.delay_s = 0.0  # of "slow"
        self.drip_s = 0.05
        self.late_s = 0.375
        self._plugs: list[socket.socket] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def swallow_connects(self) -> None:
        """From now on nobody gets a connection, nor a refusal: the queue of waiting ones is full for good."""
        if self._server is not None:
            self._server.close()
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plug.bind(("127.0.0.1", self.port))
        plug.listen(0)
        self._plugs = [plug]
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))
            self._plugs.append(one)

    async def plug_in(self) -> None:
        """Undo `swallow_connects`."""
        for one in self._plugs:
            one.close()
        self._plugs = []
        await self.start()

    def reset_all(self) -> None:
        """Send a RST on every connection."""
        for writer in self._writers:
            line = writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        for one in self._plugs:
            one.close()
        if self._server is not None:
            self._server.close()
        for task in self._late:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            while True:
                tid, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                self.requests.append((pdu[0], int.from_bytes(pdu[1:3], "big")))
                self.asked_s.append(asyncio.get_running_loop().time())
                if self.mode == "hang_up":
                    break
                if self.mode == "reset":
                    self.reset_all()
                    break
                try:
                    await self._answer(send, tid, unit, pdu)
                except KeyError:  # no such register
                    await send(frame(tid, unit, bytes([pdu[0] | 0x80, 2])))
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _right(self, pdu: bytes) -> bytes:
        """The right answer; a write is carried out."""
        function, address, count = pdu[0], *struct.unpack(">HH", pdu[1:5])
        if function in (3, 4):
            return struct.pack(
                f">BB{count}H", function, 2 * count, *(self.registers[address + i] for i in range(count))
            )
        if function == 6:
            self.registers[address] = count
            return pdu
        for i in range(count):
            self.registers[address + i] = int.from_bytes(pdu[6 + 2 * i : 8 + 2 * i], "big")
        return pdu[:5]

    async def _answer(self, send: Send, tid: int, unit: int, pdu: bytes) -> None:
        right, function = self._right(pdu), pdu[0]
        wrong7 = struct.pack(">4H", 7, 7, 7, 7)
        match self.mode:
            case "slow":
                await wall_sleep(self.delay_s)
                await send(frame(tid, unit, right))
            case "ok":
                await send(frame(tid, unit, right))
            case "wrong transaction id":
                await send(frame(tid ^ 0x55, unit, right))
            case "transaction id 0":
                await send(frame(0, unit, right))
            case "wrong protocol id":
                await send(struct.pack(">HHHB", tid, 1, len(right) + 1, unit) + right)
            case "wrong unit id":
                await send(frame(tid, unit + 3, right))
            case "too few registers":
                await send(frame(tid, unit, bytes([function, 4]) + wrong7[:4]))
            case "too many registers":
                await send(frame(tid, unit, bytes([function, 18]) + wrong7 + wrong7 + b"\0\7"))
            case "wrong function code":
                await send(frame(tid, unit, bytes([4, 8]) + wrong7))
            case "wrong byte count":
                await send(frame(tid, unit, bytes([function, 200]) + wrong7))
            case "odd byte count":
                await send(frame(tid, unit, bytes([function, 7]) + wrong7[:7]))
            case "byte count shorter than the data":
                await send(frame(tid, unit, bytes([function, 8]) + wrong7 + b"\0\7"))
            case "garbage":
                await send(b"\xff" * 300)
            case "a second answer behind the first":
                await send(frame(tid, unit, right) + frame(tid + 1, unit, bytes([function, 8]) + wrong7))
            case "drip":
                for byte in frame(tid, unit, right):
                    await send(bytes([byte]))
                    await wall_sleep(self.drip_s)
            case "late":
                task = asyncio.create_task(self._send_later(send, frame(tid, unit, right)))
                self._late.add(task)
            case "busy":
                await send(frame(tid, unit, bytes([function | 0x80, 6])))
            case "gateway":
                await send(frame(tid, unit, bytes([function | 0x80, 11])))
            case "wrong echo":
                await send(frame(tid, unit, pdu[:3] + struct.pack(">H", 0x7777)))
            case "echo of another address":
                await send(frame(tid, unit, pdu[:1] + struct.pack(">H", 999) + pdu[3:5]))
            case "silent":
                pass

    async def _send_later(self, send: Send, data: bytes) -> None:
        await wall_sleep(self.late_s)
        await send(data)


def map_row(name: str, address: int, writable: bool = False) -> PointMap:
    return PointMap(
        point=f"dev.{name}",
        address=str(address),
        table="holding",
        data_type="u16",
        byte_order="big",
        word_order="big",
        scale=1.0,
        offset=0.0,
        sign=1,
        unit="kW",
        low=0.0,
        high=60000.0,
        age_s_max=3.0,
        writable=writable,
    )


ROWS = (map_row("a", 100), map_row("b", 101), map_row("c", 102), map_row("set", 103, writable=True))
RIGHT = {"dev.a": 11.0, "dev.b": 22.0, "dev.c": 33.0, "dev.set": 44.0}
