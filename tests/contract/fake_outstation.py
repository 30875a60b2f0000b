"""A hand-driven DNP3 outstation that answers rightly, wrongly, late, in drips, or not at all."""

import asyncio
import contextlib
import random
import struct
from collections.abc import Callable

from connectors.dnp3 import frame as link
from connectors.dnp3 import session as dnp
from connectors.dnp3.client import CLASS_0, EVENTS
from connectors.dnp3.objects import MalformedObjects, told_by
from connectors.dnp3.segments import FIN, FIR, Assembler, Segmenter
from ems.clock import wall_sleep
from tests.contract.plants import free_port

MASTER, OUTSTATION = 1, 10
FIRST, LAST, CONFIRM, UNASKED = dnp.FIR, dnp.FIN, dnp.CON, dnp.UNS
COMMANDS = (dnp.SELECT, dnp.OPERATE, dnp.DIRECT_OPERATE)


def floats(*values: float, flags: int = 1, start: int = 0) -> bytes:
    """Analog inputs as g30v5."""
    head = struct.pack("<BBBBB", 30, 5, 0, start, start + len(values) - 1)
    return head + b"".join(struct.pack("<Bf", flags, v) for v in values)


def integers(*values: int, group: int = 30, flags: int = 1, start: int = 0) -> bytes:
    """Analog inputs, or outputs, as variation 1."""
    head = struct.pack("<BBBBB", group, 1, 0, start, start + len(values) - 1)
    return head + b"".join(struct.pack("<Bi", flags, v) for v in values)


def binaries(*values: bool, group: int = 1, flags: int = 1) -> bytes:
    """Binary inputs or outputs as variation 2."""
    return struct.pack("<BBBBB", group, 2, 0, 0, len(values) - 1) + bytes(flags | 0x80 * v for v in values)


def setpoints(*values: float) -> bytes:
    """Analog output status as g40v3."""
    head = struct.pack("<BBBBB", 40, 3, 0, 0, len(values) - 1)
    return head + b"".join(struct.pack("<Bf", 1, v) for v in values)


class FakeOutstation:
    """Holds `static` and `events`; what it answers goes through `spoil` and the like, and by `mode`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mode = "ok"
        self.static = [floats(11.5, -22.25), integers(3, start=4), binaries(False, True), setpoints(44.0)]
        self.static.append(binaries(False, group=10))
        self.events: list[bytes] = []  # until they are confirmed
        self.indications = 0
        self.fragments = 1  # of an answer to a reading
        self.spoils: tuple[int, ...] = (dnp.READ,)  # functions whose answers go through it
        self.spoil: Callable[[bytes], bytes] = bytes  # of an answer's last fragment
        self.spoil_segments: Callable[[list[bytes]], list[bytes]] = list
        self.spoil_bytes: Callable[[bytes], bytes] = bytes
        self.before = b""  # bytes that are sent in front of the next answer
        self.status = 0
        self.echo: Callable[[bytes], bytes] = bytes
        self.late_s, self.drip_s = 0.3, 0.02
        self.asked: list[tuple[int, int, bytes]] = []  # number, function, objects
        self.confirmed: list[int] = []  # control bytes
        self.links: list[int] = []  # functions of frames that carry no data
        self.connections = 0
        self._segmenter = Segmenter()
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def commanded(self) -> list[tuple[int, bytes]]:
        """Every command that came: function and objects."""
        return [(function, objects) for _, function, objects in self.asked if function in COMMANDS]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def say(self, data: bytes) -> None:
        """Bytes that nobody asked for."""
        assert self._writer is not None
        self._writer.write(data)

    def unsolicited(
        self, objects: bytes, number: int = 3, control: int = FIRST | LAST | CONFIRM | UNASKED
    ) -> None:
        head = struct.pack("<BBH", control | number, dnp.UNSOLICITED, self.indications)
        self.say(self.framed(head + objects))

    def framed(self, fragment: bytes) -> bytes:
        """A fragment as it goes over the wire."""
        segments = self.spoil_segments(list(self._segmenter.cut(fragment)))
        return b"".join(link.encode(link.PRIMARY | link.DATA, MASTER, OUTSTATION, s) for s in segments)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writer = writer
        frames, whole = link.Deframer(), Assembler()
        waiting: list[bytes] = []
        with contextlib.suppress(OSError, asyncio.CancelledError, StopAsyncIteration):
            while data := await reader.read(4096):
                for one in frames.feed(data):
                    if not one.is_primary or one.function != link.DATA:
                        self.links.append(one.control)
                        continue
                    assert (one.destination, one.source, one.control) == (OUTSTATION, MASTER, 0xC4)
                    if (fragment := whole.add(one.data)) is None:
                        continue
                    if fragment[1] == dnp.CONFIRM:
                        self.confirmed.append(fragment[0])
                        if not fragment[0] & UNASKED:
                            self.events = self.events if waiting else []
                            await self._send(writer, waiting)
                        continue
                    waiting = self._answer(fragment)
                    await self._send(writer, waiting)
        self._tasks.discard(task)
        writer.close()

    async def _send(self, writer: asyncio.StreamWriter, waiting: list[bytes]) -> None:
        """The next fragment of an answer; the last goes by `mode`."""
        if not waiting:
            return
        fragment, last = waiting.pop(0), not waiting
        spoiling = last and self.asked[-1][1] in self.spoils
        if not spoiling:
            writer.write(self.framed(fragment))
            return
        if self.mode == "silent":
            return
        data = self.before + self.spoil_bytes(self.framed(self.spoil(fragment)))
        self.before = b""
        if self.mode == "late":
            await wall_sleep(self.late_s)
        if self.mode == "hang up in the middle":
            writer.write(data[:12])
            await writer.drain()
            raise StopAsyncIteration
        if self.mode == "drip":
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await wall_sleep(self.drip_s)
            return
        writer.write(data)

    def _answer(self, fragment: bytes) -> list[bytes]:
        """Fragments of the right answer."""
        control, function, objects = fragment[0], fragment[1], fragment[2:]
        number = control & 0x0F
        assert control & 0xF0 == FIRST | LAST
        self.asked.append((number, function, objects))
        if function == dnp.WRITE and objects[:2] == bytes([80, 1]):
            self.indications &= ~dnp.RESTART
        blocks: list[bytes] = []
        if function == dnp.READ and objects[:1] != b"\0":
            whole = CLASS_0 in objects or any(bytes([30, v, 1]) in objects for v in (1, 5))
            events = self.events if EVENTS in objects else []
            blocks = [*events, *(b for b in self.static if whole or b[:1] in (b"\x0a", b"\x28"))]
        if function in COMMANDS:
            echo = self.echo(objects[:-1] + bytes([self.status]))
            blocks = [echo] if echo else []
        count = min(self.fragments, max(1, len(blocks))) if function == dnp.READ else 1
        parts = [b"".join(blocks[i::count]) for i in range(count)]
        out = []
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            flags = (FIRST if i == 0 else 0) | (LAST if last else 0)
            flags |= CONFIRM if not last or (self.events and EVENTS in objects) else 0
            head = struct.pack("<BBH", flags | (number + i & 0x0F), dnp.RESPONSE, self.indications)
            out.append(head + part)
        return out


def spoiled(rng: random.Random, fragment: bytes) -> bytes:
    """What a broken outstation might send inside of frames that are right: bytes lost or added.

    Never other objects that are laid out right to the last byte: a wrong number in the right form, its CRC
    made anew, cannot be told from a right one by anybody.
    """
    while True:
        out = _cut(rng, fragment)
        if out[:4] != fragment[:4]:
            return out  # its sequence number, function or indications are gone
        try:
            list(told_by(out[4:]))
        except MalformedObjects:
            return out


def _cut(rng: random.Random, fragment: bytes) -> bytes:
    at, length = rng.randrange(len(fragment)), rng.randint(1, 12)
    match rng.randrange(4):
        case 0:
            return fragment[:at]
        case 1:
            return fragment[:at] + fragment[at + length :]
        case 2:
            return fragment[:at] + rng.randbytes(length) + fragment[at:]
    return rng.randbytes(rng.randint(1, 200))


def torn(rng: random.Random, data: bytes) -> bytes:
    """What a broken line might make of bytes: up to five bits or a burst of two bytes, lost or added ones.

    The CRC of DNP3 finds every one of the first two in a block.
    """
    at, out = rng.randrange(len(data)), bytearray(data)
    match rng.randrange(5):
        case 0:
            for _ in range(rng.randint(1, 5)):
                out[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            out[at] ^= rng.randrange(1, 256)
        case 2:
            del out[at : at + rng.randint(1, 12)]
        case 3:
            out[at:at] = rng.randbytes(rng.randint(1, 12))
        case _:
            return rng.randbytes(rng.randint(1, 300))
    return bytes(out)


def segments_lost(rng: random.Random, segments: list[bytes]) -> list[bytes]:
    """Segments that are doubled, lost, out of order or numbered wrongly."""
    out = list(segments)
    at = rng.randrange(len(out))
    match rng.randrange(4):
        case 0:
            out.insert(at, out[at])
        case 1:
            del out[at]
        case 2:
            out.reverse()
        case _:
            out[at] = bytes([out[at][0] ^ rng.choice((FIN, FIR, 1, 7))]) + out[at][1:]
    return out
