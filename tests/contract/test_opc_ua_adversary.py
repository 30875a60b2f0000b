"""A line to an OPC UA server that spoils what the server says: nothing crashes, nothing of it is believed.

Without protection the numbers inside a message have no checksum but TCP's, so only what frames and names them
is spoilt there; with it every bit may be.
"""

import asyncio
import contextlib
import dataclasses
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asyncua.server.internal_session import InternalSession

from connectors.link import LinkError
from connectors.opcua.client import OpcUaLink
from ems.clock import SystemClock
from ems.commands import WriteOutcome
from ems.site import UaSecurity
from ems.telemetry import Quality
from tests.contract.pki import ClientPki, pair
from tests.contract.plants import START, OpcUaPlant
from tests.contract.spoilt import until_an_eighth
from tests.e2e.test_opc_ua_protection import URI, ProtectedPlant

pytestmark = pytest.mark.scenario(26)
HEADER = 8  # "MSG", kind of chunk, size
FRAME = 24  # then channel, token, sequence and request number: all that names a message
WAYS = (
    "type", "chunk", "size", "channel", "token", "sequence", "request", "short", "long", "twice", "old",
    "late", "random", "cut", "error",
)  # fmt: skip
BITS, LATE = "bits", b""


class SpoilingLine:
    """Passes everything on; spoils a share of the chunks that the server sends once it is `armed`."""

    def __init__(self, target_port: int, seed: int, *, share: float, bits: bool) -> None:
        self.target_port, self.share, self.armed, self.port = target_port, share, False, 0
        self.rng, self.spoilt, self.bits = random.Random(seed), Counter[str](), bits
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        there = asyncio.create_task(_copy(reader, far_writer))
        last = held = b""
        try:
            while True:
                head = await far_reader.readexactly(HEADER)
                chunk = head + await far_reader.readexactly(struct.unpack("<I", head[4:])[0] - HEADER)
                said: bytes | None = chunk
                if self.armed and len(chunk) > FRAME and self.rng.random() < self.share:
                    said = self._spoil(chunk, last)
                if said is None:
                    return
                if said == LATE:
                    held += chunk
                else:
                    writer.write(said + held)
                    held = b""
                last = chunk
        finally:
            there.cancel()
            far_writer.transport.abort()

    def _spoil(self, chunk: bytes, last: bytes) -> bytes | None:
        """The chunk as it arrives; None: the line is cut instead."""
        rng = self.rng
        way = rng.choice((*WAYS, *([BITS] * 5 if self.bits else ())))
        self.spoilt[way] += 1
        out = bytearray(chunk)
        match way:
            case "type":
                out[:3] = rng.choice((b"OPN", b"ACK", b"CLO", b"XYZ", b"\0\0\0"))
            case "chunk":
                out[3:4] = rng.choice((b"C", b"A", b"X"))
            case "size":
                out[4:8] = struct.pack(
                    "<I", rng.choice((0, 7, 8, len(out) - 1, len(out) + 1, 2**31, 2**32 - 1))
                )
            case "channel" | "token" | "sequence" | "request":
                at = HEADER + 4 * ("channel", "token", "sequence", "request").index(way)
                was = struct.unpack_from("<I", out, at)[0]
                struct.pack_into("<I", out, at, rng.choice((was + 1, max(0, was - 1), 0, 2**32 - 1)) % 2**32)
            case "short":
                out = out[: rng.randrange(FRAME, len(out))]
                struct.pack_into("<I", out, 4, len(out))
            case "long":
                out += rng.randbytes(rng.randrange(1, 20))
                struct.pack_into("<I", out, 4, len(out))
            case "twice":
                return chunk + chunk
            case "old":
                return last or LATE
            case "late":
                return LATE
            case "random":
                out[HEADER:] = rng.randbytes(len(out) - HEADER)
            case "cut":
                return None
            case "error":
                out = bytearray(b"ERRF" + struct.pack("<IIi", 16, 0x80010000, -1))
            case _:
                for _ in range(rng.choice((1, 1, 2, 8))):
                    out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        return bytes(out)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """To the end, which is passed on."""
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclasses.dataclass(slots=True)
class Outcome:
    """Of so many polls."""

    believed: int = 0
    refused: int = 0
    confirmed: int = 0
    unknown: int = 0


async def survive(
    plant: OpcUaPlant, line: SpoilingLine, count: int, security: UaSecurity | None = None
) -> Outcome:
    """Read a value that is another one each time, and write one; whatever is believed must be right."""
    connection = dataclasses.replace(plant.connection, security=security)
    codecs = list(plant.codecs.values())
    link = OpcUaLink(
        connection, codecs, host="127.0.0.1", port=line.port, timeout_s=0.15, now=SystemClock().now
    )
    out, setpoint = Outcome(), plant.codecs["dev.p_set_kw"]
    for i in range(count):
        value = float(i % 400)
        await plant.put("p_kw", value)
        try:
            if not link.connected:
                line.armed = line.rng.random() < 0.2  # most of the time it gets as far as a poll
                await link.connect()
            line.armed = True
            values = await link.read()
        except LinkError:
            out.refused += 1
            continue
        good = {p.removeprefix("dev."): v.value for p, v in values.items() if v.quality is Quality.GOOD}
        right = {**START, "p_kw": value, "p_set_kw": good.get("p_set_kw")}
        assert good == pytest.approx({k: right[k] for k in good}), i
        out.believed += "p_kw" in good
        wish = float(i % 50)
        (reply,) = await link.write([(setpoint, wish)], float("inf"))
        if reply.outcome is WriteOutcome.CONFIRMED:
            out.confirmed += 1
            assert await plant.get("p_set_kw") == pytest.approx(wish)
        out.unknown += reply.outcome is WriteOutcome.UNKNOWN
    line.armed = False
    await link.disconnect()
    await link.connect()
    values = await link.read()
    assert values["dev.p_limit_kw"].value == START["p_limit_kw"], "it reads as before"
    await link.disconnect()
    return out


@pytest.fixture(autouse=True)
def patient_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose line was cut stay with this server for ever, and it has a limit to them."""
    monkeypatch.setattr(InternalSession, "max_connections", 1_000_000)


@pytest.fixture
async def plant() -> AsyncIterator[OpcUaPlant]:
    one = OpcUaPlant()
    await one.start()
    yield one
    await one.stop()


async def unprotected(
    plant: OpcUaPlant, seed: int, count: int, share: float = 0.15
) -> tuple[Outcome, SpoilingLine]:
    line = SpoilingLine(plant.connection.port, seed, share=share, bits=False)
    await line.start()
    try:
        return await survive(plant, line, count), line
    finally:
        await line.stop()


async def test_spoilt_frames_never_crash_and_never_become_a_value(plant):
    out, line = await unprotected(plant, seed=4840, count=150)
    assert min(out.believed, out.refused, out.confirmed) > 10, out
    assert len(line.spoilt) > 10


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_spoilt_frames_soak(seed):
    """An eighth of a million spoilt frames."""

    async def some(own: int) -> int:
        plant = OpcUaPlant()
        await plant.start()
        out, line = await unprotected(plant, own, count=3000, share=0.4)
        await plant.stop()
        assert min(out.believed, out.refused, out.confirmed) > 100, out
        assert set(line.spoilt) == set(WAYS)
        return sum(line.spoilt.values())

    until_an_eighth(some, seed)


async def protected(folder: Path, seed: int, count: int, mode: str) -> tuple[Outcome, SpoilingLine]:
    own = pair(URI, "127.0.0.1")
    plant, pki = ProtectedPlant(own), ClientPki.made(folder / "client", own)
    await plant.start()
    line = SpoilingLine(plant.connection.port, seed, share=0.15, bits=True)
    await line.start()
    try:
        return await survive(plant, line, count, pki.security(mode=mode)), line
    finally:
        await line.stop()
        await plant.stop()


@pytest.mark.parametrize("mode", ["SignAndEncrypt", "Sign"])
async def test_any_bit_of_a_protected_message_that_is_spoilt_is_noticed(tmp_path, mode):
    out, line = await protected(tmp_path, seed=4843, count=40, mode=mode)
    assert min(out.believed, out.refused, out.confirmed) > 2, out
    assert line.spoilt[BITS] > 2


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["SignAndEncrypt", "Sign"])
async def test_protected_messages_soak(tmp_path, mode):
    out, line = await protected(tmp_path, seed=1, count=3000, mode=mode)
    assert min(out.believed, out.refused, out.confirmed) > 200, out
    assert set(line.spoilt) == {*WAYS, BITS}
