"""One connection to a controlled station: started, interrogated, heard. Whatever is not right ends it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from connectors.iec104.asdu import Asdu, Cause, Type, asdu_of, single
from connectors.iec104.frames import BadFrame, Function, Unnumbered, first_frame
from connectors.iec104.link import AskingLink
from connectors.link import LinkError, NotSent
from connectors.wire_log import QUIET, Tap
from ems.clock import wall_s
from ems.iec104 import Iec104

TICK_S = 0.5
FRAME_S = 5.0  # a frame that has begun is over by then
FRAMES_MAX = 1000  # in a second
REFUSALS = {
    Cause.UNKNOWN_TYPE: "it does not know this type (44)",
    Cause.UNKNOWN_CAUSE: "it does not know this cause (45)",
    Cause.UNKNOWN_STATION: "it has another common address (46)",
    Cause.UNKNOWN_OBJECT: "it does not know this object (47)",
}


@dataclass(slots=True)
class _Asked:
    """An interrogation that is being answered."""

    type: Type
    over: "asyncio.Future[None]"
    is_confirmed: bool = False


class Session(asyncio.Protocol):
    """One connection; one interrogation at a time.

    Parameters
    ----------
    timeout_s : until it has started, and of an interrogation with its whole answer [s wall].
    heard : told each ASDU of the station that is no answer to a request. It may raise BadFrame.
    tap : told every byte.
    """

    def __init__(
        self, station: Iec104, *, timeout_s: float, heard: Callable[[Asdu], None], tap: Tap = QUIET
    ) -> None:
        self._station, self._timeout_s, self._heard, self._tap = station, timeout_s, heard, tap
        self._link = AskingLink(station.times, wall_s())
        self._transport: asyncio.Transport | None = None
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked: _Asked | None = None
        self._received = bytearray()
        self._begun_s: float | None = None  # when a frame that is not whole began
        self._frames, self._frames_s = 0, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.broken = "not connected"  # "": it is connected
        self.others = 0  # ASDUs of other stations
        self.certificate: bytes | None = None  # of the device, DER

    async def start(self) -> None:
        """Have data flow. Raises LinkError."""
        if self.broken:
            raise NotSent(self.broken)
        self._link.start()
        self._flush()
        await self._within(self._started, "it does not start (STARTDT)")

    async def ask(self, kind: Type, qualifier: int) -> None:
        """Interrogate, and wait until everything was told. Raises NotSent and LinkError."""
        if self.broken:
            raise NotSent(self.broken)
        assert self._asked is None, "one at a time"
        asked = self._asked = _Asked(kind, asyncio.get_running_loop().create_future())
        own = self._station
        request = single(kind, Cause.ACTIVATION, own.station, 0, bytes((qualifier,)), own.originator)
        if not self._link.room:
            self.drop("it confirms nothing")
            raise LinkError(self.broken)
        self._link.send(request, wall_s())
        self._flush()
        try:
            await self._within(asked.over, f"{kind.words} was not answered")
        finally:
            self._asked = None

    async def _within(self, future: "asyncio.Future[None]", what: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await future
        except TimeoutError:
            self.drop(f"{what} in {self._timeout_s:g} s")
            raise LinkError(self.broken) from None
        except asyncio.CancelledError:
            self.drop("request cancelled")
            raise

    def drop(self, reason: str) -> None:
        """End the connection now, unsent bytes included; whoever waits is told `reason`."""
        self.broken = self.broken or reason
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
        if transport is not None:
            transport.abort()
            self._tap.noted(reason)
        for future in (self._started, *(() if self._asked is None else (self._asked.over,))):
            if not future.done():
                future.set_exception(LinkError(self.broken))
                future.exception()  # perhaps nobody waits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.broken = transport, ""
        tls = transport.get_extra_info("ssl_object")
        self.certificate = None if tls is None else tls.getpeercert(binary_form=True)
        self._tap.noted("connected")
        self._tick()

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop("connection lost")

    def data_received(self, data: bytes) -> None:
        self._tap.received(data)
        self._received += data
        try:
            while not self.broken and (found := first_frame(self._received)) is not None:
                frame, size = found
                del self._received[:size]
                self._begun_s = None
                self._count()
                asdu = self._link.take(frame, wall_s())
                if frame == Unnumbered(Function.STARTDT_CON) and not self._started.done():
                    self._started.set_result(None)
                if asdu is not None:
                    self._take(asdu_of(asdu))
        except (BadFrame, LinkError) as error:
            self.drop(str(error))
            return
        if self._received and self._begun_s is None:
            self._begun_s = wall_s()
        self._flush()

    def _count(self) -> None:
        """Raises LinkError where too much comes."""
        now_s = wall_s()
        if now_s - self._frames_s >= 1.0:
            self._frames, self._frames_s = 0, now_s
        self._frames += 1
        if self._frames > FRAMES_MAX:
            raise LinkError(f"more than {FRAMES_MAX} frames in a second")

    def _take(self, asdu: Asdu) -> None:
        """One ASDU. Raises BadFrame and LinkError."""
        if asdu.station != self._station.station and asdu.cause != Cause.UNKNOWN_STATION:
            self.others += 1
            return
        if asdu.type not in (Type.C_IC_NA, Type.C_CI_NA):
            self._heard(asdu)
            return
        asked = self._asked
        if asked is None or asked.type != asdu.type or asked.over.done():
            raise LinkError(f"an answer to nothing that was asked: {asdu.words}")
        if asdu.cause in REFUSALS or asdu.negative:
            why = REFUSALS.get(Cause(asdu.cause), "") if asdu.cause in REFUSALS else "negative confirmation"
            raise LinkError(f"it refuses {asked.type.words}: {why}")
        match asdu.cause:
            case Cause.ACTIVATION_CON if not asked.is_confirmed:
                asked.is_confirmed = True
            case Cause.ACTIVATION_END if asked.is_confirmed:
                asked.over.set_result(None)
            case _:
                raise LinkError(f"an answer out of order: {asdu.words}")

    def _tick(self) -> None:
        now_s = wall_s()
        why = self._link.tick(now_s)
        if self._begun_s is not None and now_s - self._begun_s > FRAME_S:
            why = f"a frame was not whole after {FRAME_S:g} s"
        if why:
            self.drop(why)
            return
        self._flush()
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _flush(self) -> None:
        out = self._link.drain()
        if out and self._transport is not None:
            self._transport.write(out)
            self._tap.sent(out)
