"""A Modbus server over an image and a door: reads are answered from memory, writes are told to the edge."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from connectors.modbus.served import (
    DEVICE_BUSY,
    DEVICE_FAILURE,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    NOBODY_THERE,
    BadFrame,
    Frame,
    Read,
    Write,
    answer,
    exception,
    first_frame,
)
from connectors.northbound.client import Client
from connectors.northbound.door import Code, DeskDoor
from connectors.northbound.doorway import Doorway
from connectors.northbound.guard import Budget
from connectors.northbound.image import Board, Image
from connectors.northbound.listener import Served
from connectors.northbound.records import Records
from connectors.northbound.registers import RegisterMap, Registers, rows_of
from ems.clock import Clock
from ems.northbound import ModbusServer
from ems.records import JsonValue
from ems.site import Site

FRAME_S = 5.0  # a request that has begun is over by then
BUFFERED_MAX = 16384  # bytes of replies that a client has not taken
EXCEPTIONS = {  # what a client is answered where a write is refused
    Code.NOT_WRITABLE: ILLEGAL_ADDRESS,
    Code.NOT_ALLOWED: ILLEGAL_FUNCTION,
    Code.OUT_OF_BOUNDS: ILLEGAL_VALUE,
    Code.TOO_OFTEN: DEVICE_BUSY,
    Code.EDGE_AWAY: DEVICE_FAILURE,
    Code.TAKEN: 0,
}


class ModbusFace:
    """What all connections of one server show and hear.

    Parameters
    ----------
    server : its unit and rights.
    map : its registers.
    identity : what it says of itself (function 43).
    now : aware record time, for ages.
    """

    def __init__(
        self,
        server: ModbusServer,
        map: RegisterMap,
        board: Board,
        door: DeskDoor,
        *,
        now: Callable[[], datetime],
        identity: Sequence[str],
    ) -> None:
        self._server, self._map, self._board, self._door, self._now = server, map, board, door, now
        self._identity = identity
        self._registers: Registers | None = None
        self._of: tuple[Image, dict[str, int]] | None = None
        self.reads = self.writes = 0

    def reply(self, client: Client, frame: Frame) -> bytes:
        """The whole answer to a frame."""
        if frame.unit != self._server.unit_id:
            return exception(frame, NOBODY_THERE)
        return answer(frame, self._read, lambda write: self._write(client, write), self._identity)

    def _read(self, asked: Read) -> bytes | int:
        self.reads += 1
        found = self._current().read(asked.table, asked.address, asked.count)
        return ILLEGAL_ADDRESS if found is None else found

    def _current(self) -> Registers:
        """Made anew with each image, and when the edge has answered a write."""
        image, answers = self._board.now(), {k: int(v) for k, v in self._door.answers.items()}
        if self._registers is None or self._of is None or self._of[0] is not image or self._of[1] != answers:
            self._of = image, answers
            self._registers = self._map.registers(image, answers, self._now())
        return self._registers

    def _write(self, client: Client, asked: Write) -> int:
        self.writes += 1
        told = self._map.limit_at(asked.address, asked.words)
        if told is None:
            last = asked.address + len(asked.words) - 1
            what = f"holding {asked.address} to {last}"
            why = "exactly the registers of one limit may be written, and nothing else"
            return EXCEPTIONS[self._door.refuse(client, what, why).code]
        return EXCEPTIONS[self._door.tell(client, self._server.writes, *told).code]


class ModbusConnection(Served):
    """One client. It may send what it likes: it costs a bounded buffer and its share of requests.

    Parameters
    ----------
    budget : requests it may have served; what is more waits in the client's own socket.
    leave : called once when it is over.
    """

    def __init__(
        self,
        face: ModbusFace,
        records: Records,
        *,
        budget: Budget,
        idle_s: float,
        leave: Callable[[], None],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._face, self._records, self._budget, self._leave = face, records, budget, leave
        self._idle_s, self._monotonic_s = idle_s, monotonic_s
        self._transport: asyncio.Transport | None = None
        self._client: Client | None = None
        self._received = bytearray()
        self._last_s = monotonic_s()  # of the last whole request
        self._begun_s: float | None = None  # when a request that is not whole began
        self._waiting = self._full = False

    def begin(self, client: Client) -> None:
        self._client, self._last_s = client, self._monotonic_s()
        self._serve()

    def overdue(self, now_s: float) -> str:
        if self._begun_s is not None and now_s - self._begun_s > FRAME_S:
            return f"a request was not whole after {FRAME_S:g} s"
        if now_s - self._last_s > self._idle_s:
            return f"nothing was asked for {self._idle_s:g} s"
        return ""

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=BUFFERED_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._leave()

    def pause_writing(self) -> None:
        self._full = True
        self._pause()

    def resume_writing(self) -> None:
        self._full = False
        self._serve()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._serve()

    def _serve(self) -> None:
        """Answer what is whole, as far as the budget goes; the rest waits, and the client with it."""
        if self._waiting or self._client is None:
            return
        while self._transport is not None and not self._full:
            try:
                found = first_frame(self._received)
            except BadFrame as error:
                self._records.refused(self._client, "request", "malformed", str(error))
                self.end()
                return
            if found is None:
                self._partly()
                self._transport.resume_reading()
                return
            wait_s = self._budget.spend()
            if wait_s > 0.0:
                self._waiting = True
                self._pause()
                asyncio.get_running_loop().call_later(wait_s, self._go_on)
                return
            frame, size = found
            del self._received[:size]
            self._begun_s, self._last_s = None, self._monotonic_s()
            self._transport.write(self._face.reply(self._client, frame))

    def _go_on(self) -> None:
        self._waiting = False
        self._serve()

    def _partly(self) -> None:
        if not self._received:
            self._begun_s = None
        elif self._begun_s is None:
            self._begun_s = self._monotonic_s()

    def _pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()


def _identity(site: Site, map: RegisterMap) -> tuple[str, ...]:
    """Vendor, product code, revision; no address of a vendor; product, model (the map), and whose plant."""
    product = "hybrid-ems"
    return product, product, version(product), "", "EMS of a hybrid plant", f"map {map.id:04x}", site.name


class ModbusServing:
    """One Modbus server of a site, from listening to the end.

    Parameters
    ----------
    folder : that the certificates' files are relative to.
    """

    def __init__(
        self,
        site: Site,
        server: ModbusServer,
        board: Board,
        door: DeskDoor,
        records: Records,
        *,
        folder: Path,
        clock: Clock,
    ) -> None:
        self.name = server.id
        self.map = RegisterMap(rows_of(site, server))
        self._face = ModbusFace(
            server, self.map, board, door, now=clock.now, identity=_identity(site, self.map)
        )
        made = clock.monotonic_s

        def connection(leave: Callable[[], None]) -> ModbusConnection:
            return ModbusConnection(
                self._face,
                records,
                budget=Budget(server.door.requests_per_s, made),
                idle_s=server.door.idle_s,
                leave=leave,
                monotonic_s=made,
            )

        self._doorway = Doorway(server.id, server.door, records, make=connection, folder=folder, clock=clock)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._doorway.port

    async def start(self) -> None:
        """Listen. Raises EmsError where the address or port cannot be had now."""
        self._doorway.start()

    def status(self) -> dict[str, JsonValue]:
        """How it does; raises what is a bug."""
        return {**self._doorway.status(), "reads": self._face.reads, "writes": self._face.writes}

    async def close(self) -> None:
        """End every connection."""
        await self._doorway.close()
