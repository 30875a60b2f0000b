"""A controlled station of IEC 60870-5-104 on a socket: connections, frames, and the clock that moves them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from connectors.iec104.frames import BadFrame, first_frame
from connectors.northbound.client import Client
from connectors.northbound.door import DeskDoor
from connectors.northbound.doorway import Doorway
from connectors.northbound.guard import Budget
from connectors.northbound.iec104_session import Session
from connectors.northbound.iec104_station import Station
from connectors.northbound.image import Board
from connectors.northbound.listener import Served
from connectors.northbound.records import Records
from ems.clock import Clock, wall_sleep
from ems.northbound_iec104 import Iec104Server
from ems.records import JsonValue
from ems.site import Site

FRAME_S = 5.0  # a frame that has begun is over by then
BUFFERED_MAX = 16384  # bytes that a client has not taken
LOOK_S = 0.25  # so often the list is held against the newest image


class Iec104Connection(Served):
    """One client. It may send what it likes: it costs a bounded buffer and its share of frames.

    Parameters
    ----------
    budget : frames it may have served; what is more waits in the client's own socket.
    among : the connections that are served, this one among them while it is.
    leave : called once when it is over.
    """

    def __init__(
        self,
        station: Station,
        records: Records,
        *,
        budget: Budget,
        among: set["Iec104Connection"],
        leave: Callable[[], None],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._station, self._records, self._budget = station, records, budget
        self._among, self._leave, self._monotonic_s = among, leave, monotonic_s
        self._transport: asyncio.Transport | None = None
        self._client: Client | None = None
        self._session: Session | None = None
        self._received = bytearray()
        self._begun_s: float | None = None  # when a frame that is not whole began
        self._full_s: float | None = None  # since when the client takes nothing
        self._waiting = False

    def begin(self, client: Client) -> None:
        self._client, self._session = client, Session(self._station, client, self._monotonic_s())
        self._among.add(self)
        self._serve()

    def overdue(self, now_s: float) -> str:
        if self._begun_s is not None and now_s - self._begun_s > FRAME_S:
            return f"a frame was not whole after {FRAME_S:g} s"
        if self._full_s is not None and now_s - self._full_s > FRAME_S:
            return f"it has taken nothing for {FRAME_S:g} s"
        return ""

    def end(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=BUFFERED_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._session is not None:
            self._session.over()
        self._among.discard(self)
        self._leave()

    def pause_writing(self) -> None:
        self._full_s = self._monotonic_s()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full_s = None
        self._serve()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._serve()

    def flush(self) -> None:
        """Send what is to be sent, and end where it is due."""
        if self._session is None or self._transport is None or self._full_s is not None:
            return
        assert self._client is not None
        out = self._session.outgoing(self._monotonic_s())
        if out:
            self._transport.write(out)
        if self._session.why:
            self._records.refused(self._client, "connection", "ended", self._session.why)
            self.end()

    def _serve(self) -> None:
        """Take what is whole, as far as the budget goes; the rest waits, and the client with it."""
        if self._waiting or self._session is None:
            return
        while self._transport is not None and self._full_s is None:
            try:
                found = first_frame(self._received)
                if found is None:
                    self._partly()
                    self._transport.resume_reading()
                    return
                if (wait_s := self._budget.spend()) > 0.0:
                    self._waiting = True
                    self._transport.pause_reading()
                    asyncio.get_running_loop().call_later(wait_s, self._go_on)
                    return
                frame, size = found
                del self._received[:size]
                self._begun_s = None
                self._session.take(frame, self._monotonic_s())
            except BadFrame as error:
                assert self._client is not None
                self._records.refused(self._client, "frame", "malformed", str(error))
                self.end()
                return
            self.flush()

    def _go_on(self) -> None:
        self._waiting = False
        self._serve()

    def _partly(self) -> None:
        if not self._received:
            self._begun_s = None
        elif self._begun_s is None:
            self._begun_s = self._monotonic_s()


class Iec104Serving:
    """One controlled station of a site, from listening to the end.

    Parameters
    ----------
    folder : that the certificates' files are relative to.
    """

    def __init__(
        self,
        site: Site,
        server: Iec104Server,
        board: Board,
        door: DeskDoor,
        records: Records,
        *,
        folder: Path,
        clock: Clock,
    ) -> None:
        self.name = server.id
        self.station = Station(site, server, board, door, records, now=clock.now)
        monotonic_s = clock.monotonic_s
        self._connections: set[Iec104Connection] = set()
        self._task: asyncio.Task[None] | None = None

        def connection(leave: Callable[[], None]) -> Iec104Connection:
            return Iec104Connection(
                self.station,
                records,
                budget=Budget(server.door.requests_per_s, monotonic_s),
                among=self._connections,
                leave=leave,
                monotonic_s=monotonic_s,
            )

        self._doorway = Doorway(server.id, server.door, records, make=connection, folder=folder, clock=clock)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._doorway.port

    async def start(self) -> None:
        """Listen. Raises EmsError where the address or port cannot be had now."""
        self.station.refresh()
        self._doorway.start()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        """Hold the list against the newest image, and let each connection send what is due."""
        while True:
            self.station.refresh()
            for connection in list(self._connections):
                connection.flush()
            await wall_sleep(LOOK_S)

    def status(self) -> dict[str, JsonValue]:
        """How it does; raises what is a bug."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        return {
            **self._doorway.status(),
            "started": self.station.started,
            "events_lost": self.station.lost,
            "reads": self.station.reads,
            "writes": self.station.writes,
        }

    async def close(self) -> None:
        """End every connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._doorway.close()
