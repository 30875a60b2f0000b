"""Our controlled station over a fake edge, on a free port; and clients of three kinds.

`Scada` is made of c104 (lib60870-C), `hat_client.py` of hat-drivers; `Raw` sends whatever bytes it likes.
"""

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.iec104.asdu import Cause, Type, single
from connectors.iec104.frames import (
    Frame,
    Function,
    Numbered,
    Supervisory,
    Unnumbered,
    first_frame,
    packed,
)
from connectors.northbound.iec104_server import Iec104Serving
from connectors.northbound.records import Refused
from ems.clock import SystemClock
from ems.iec104 import Iec104Times
from ems.northbound import Door, WriteRights
from ems.northbound_iec104 import Iec104Command, Iec104Row, Iec104Server
from ems.site import Site
from tests.contract.northbound_peer import PLAIN_WRITES, with_limit
from tests.unit.connectors.northbound_fake import Plant

PEERS = Path(__file__).parent / "scada104"
STATION = 7
TIMES = Iec104Times()
PATIENCE_S = 30.0
LINE_S = 0.1  # what a controlling station's line takes, one way
OLD = "Quality set: { NonTopical | Invalid }, is_good: False"  # as c104 says it
ROWS = (
    Iec104Row(point="server.fresh", address=1, kind="single_point"),
    Iec104Row(point="server.events_lost", address=3, kind="single_point"),
    Iec104Row(point="grid1.p_kw", address=11, deadband=1.0),
    Iec104Row(point="grid1.breaker_closed", address=12, kind="double_point"),
    Iec104Row(point="pv1.p_kw", address=13),
    Iec104Row(point="bess1.soc", address=14, kind="normalized"),
    Iec104Row(point="grid1.v_pu", address=15, kind="scaled", scale=0.001),
    Iec104Row(point="grid1.import_kwh", address=16, kind="counter", scale=0.5),
    Iec104Row(point="limit.dso", address=21),
    Iec104Row(point="answer.dso", address=22),
)
COMMANDS = (Iec104Command(limit="dso", address=31),)
VALUES = {
    "grid1__p_kw": 123.5, "grid1__breaker_closed": 1.0, "pv1__p_kw": None, "bess1__soc": 0.5,
    "grid1__v_pu": 1.002, "grid1__import_kwh": 1234.5,
}  # fmt: skip
FIELDS = {"limits_told_kw": {"dso": 300.0}, "cycle_s": 200.0}


@asynccontextmanager
async def serving(
    site: Site,
    directory: Path,
    *,
    writes: WriteRights | None = PLAIN_WRITES,
    rows: tuple[Iec104Row, ...] = ROWS,
    commands: tuple[Iec104Command, ...] = COMMANDS,
    times: Iec104Times = TIMES,
    events_max: int = 100,
    local_time: bool = False,
    time_tags: bool = True,
    **door: Any,
) -> AsyncIterator[tuple[int, Plant]]:
    """(port, plant) of a station that is up; `plant.serving` is it."""
    clock = SystemClock()
    plant = Plant(directory, clock)
    server = Iec104Server(
        id="scada", door=Door(host="127.0.0.1", port=0, **door), station=STATION, rows=rows,
        commands=commands, times=times, writes=writes, events_max=events_max, local_time=local_time,
        time_tags=time_tags,
    )  # fmt: skip
    made = Iec104Serving(
        with_limit(site), server, plant.board, plant.door, plant.records, folder=directory, clock=clock
    )
    plant.cycle(**VALUES, fields=FIELDS)
    plant.serving = made
    await made.start()
    try:
        yield made.port, plant
        made.status()  # raises what is a bug
    finally:
        await made.close()
        plant.close()


def moved(plant: Plant, **values: float | None) -> None:
    """The edge records another cycle, in which these values are others."""
    plant.cycle(**(VALUES | values), fields=FIELDS)


def refused_last(plant: Plant) -> Refused:
    """The newest that was refused."""
    assert plant.records.last is not None
    return plant.records.last


def edge_rules(plant: Plant, *, done: bool = True) -> str:
    """The edge takes the one request that waits, and answers it; what was asked, in words."""
    (one,) = plant.desk.collect()
    kind = "authority.request.done" if done else "authority.request.refused"
    plant.event(kind, request_id=one.request.id, text="", code="refused")
    plant.door.hear(plant.answers())
    return f"{one.request.ask} {one.request.session}"


class Raw:
    """One connection of a client that keeps to no rule, but can count."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.sent = self.received = 0
        self._bytes = bytearray()

    @classmethod
    async def to(cls, port: int, *, start: bool = True, **tls: Any) -> "Raw":
        made = cls(*await asyncio.open_connection("127.0.0.1", port, **tls))
        if start:
            made.function(Function.STARTDT_ACT)
            assert await made.frame() == Unnumbered(Function.STARTDT_CON)
        return made

    def function(self, function: Function) -> None:
        self.writer.write(packed(Unnumbered(function)))

    def confirm(self) -> None:
        """Say that everything has come that was read."""
        self.writer.write(packed(Supervisory(self.received)))

    def send(self, asdu: bytes) -> None:
        self.writer.write(packed(Numbered(self.sent, self.received, asdu)))
        self.sent += 1

    async def frame(self) -> Frame:
        """The next frame; EOFError where the connection has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while (found := first_frame(self._bytes)) is None:
                more = await self.reader.read(4096)
                if not more:
                    raise EOFError
                self._bytes += more
        del self._bytes[: found[1]]
        if isinstance(found[0], Numbered):
            assert found[0].sent == self.received
            self.received += 1
        return found[0]

    async def asdu(self, cause: Cause | None = None) -> bytes:
        """The next ASDU, or the next one with a cause; whatever is read is confirmed."""
        while True:
            frame = await self.frame()
            if isinstance(frame, Numbered):
                self.confirm()
                if cause is None or frame.asdu[2] & 0x3F == cause:
                    return frame.asdu

    async def ended(self) -> bool:
        """Whether the server has ended it, by now or within some seconds."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                await self.frame()
        return True

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def setpoint(
    value: float, *, select: bool = False, address: int = 31, station: int = STATION,
    cause: int = Cause.ACTIVATION, qualifier: int = 0, kind: Type = Type.C_SE_NC, originator: int = 3,
    tail: bytes = b"",
) -> bytes:  # fmt: skip
    content = struct.pack("<f", value) + bytes((qualifier | (0x80 if select else 0),)) + tail
    return single(kind, cause, station, address, content, originator)


def interrogation(
    qualifier: int = 20, *, kind: Type = Type.C_IC_NA, station: int = STATION, cause: int = Cause.ACTIVATION,
    address: int = 0,
) -> bytes:  # fmt: skip
    return single(kind, cause, station, address, bytes((qualifier,)), 3)


class Line:
    """A connection to a port, on which whatever that port says takes LINE_S.

    c104 2.2.1 needs it: it sends a command and waits for the answer afterwards, without asking whether it
    has come already, so that an answer within the same millisecond is sometimes none.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._carrying: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """The port of its other end."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._carrying:
                task.cancel()
            await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        for task in (self._carry(reader, far_writer, 0.0), self._carry(far_reader, writer, LINE_S)):
            self._carrying.add(asyncio.create_task(task))

    @staticmethod
    async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        try:
            while data := await reader.read(4096):
                await asyncio.sleep(delay_s)
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()


class Scada:
    """A controlling station of another make in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines = contextlib.AsyncExitStack()
        self.heard: list[dict[str, Any]] = []

    @classmethod
    @asynccontextmanager
    async def up(cls, program: str = "c104_client.py", *arguments: str) -> AsyncIterator["Scada"]:
        python = PEERS / ".venv" / "bin" / "python"
        if not python.is_file():
            pytest.skip(f"c104 and hat-drivers are not installed (see .ci/run: {PEERS / '.venv'})")
        process = await asyncio.create_subprocess_exec(
            str(python), str(PEERS / program), *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        made = cls(process)
        try:
            assert await made._line() == "ready"
            yield made
        finally:
            process.kill()
            await process.wait()
            await made._lines.aclose()

    async def _line(self) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return json.loads(await self._process.stdout.readline())

    async def ask(self, do: str, **keys: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **keys}).encode() + b"\n")
        return await self._line()

    async def connect(self, port: int, **keys: Any) -> None:
        """Connect c104 and start, points by their types with time; over once it has heard that we began."""
        port = await self._lines.enter_async_context(Line(port).open())
        keys = {"points": {str(r.address): TIMED[r.kind] for r in ROWS}, "commands": {}, **keys}
        assert await self.ask("connect", port=port, station=STATION, **keys)
        await self.until(how="initialized", station=STATION)

    async def until(self, count: int = 1, **wanted: Any) -> list[dict[str, Any]]:
        """What has arrived that looks like this, once it is so much."""
        end = time.monotonic() + PATIENCE_S
        while True:
            self.heard += await self.ask("heard")
            found = [h for h in self.heard if all(h.get(k) == v for k, v in wanted.items())]
            if len(found) >= count:
                return found
            assert time.monotonic() < end, f"{wanted} in {self.heard}"
            await asyncio.sleep(0.05)


TIMED = {
    "float": "M_ME_TF_1", "scaled": "M_ME_TE_1", "normalized": "M_ME_TD_1", "single_point": "M_SP_TB_1",
    "double_point": "M_DP_TB_1", "counter": "M_IT_TB_1",
}  # fmt: skip
