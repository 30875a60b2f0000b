"""J1939 link: a thread of its own listens, the edge looks at what it has heard. Nothing is ever sent."""

import asyncio
from collections.abc import Sequence

from connectors.j1939.engine import Engine
from connectors.j1939.wire import Frame, Slcan, SocketCan, captured, wire_of
from connectors.link import Latest, LinkError, PointValue, WriteReply, as_decided
from connectors.listening import STEP_S, Listener
from connectors.point_map import PointCodec
from connectors.wire_log import QUIET
from ems.clock import wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.j1939 import Can

LOOK_S = 0.02
RATE_PER_S, BURST = 4000.0, 1000.0  # a full bus of 500 kbit/s
READ_ONLY = WriteReply(WriteOutcome.NOT_SENT, "J1939 is listened to alone")


class J1939Link:
    """One sender on a CAN bus.

    Parameters
    ----------
    can : the bus, and who is listened to.
    codecs : its points; each address is a place in a parameter group.
    timeout_s : how long a connect waits for the first message [s wall].
    """

    def __init__(self, can: Can, codecs: Sequence[PointCodec], *, timeout_s: float) -> None:
        self._can, self._timeout_s = can, timeout_s
        self._engine = Engine(can, codecs)
        self._wire: Slcan | SocketCan | None = None
        self._listener: Listener[Frame] | None = None
        self._malformed = self._dropped = 0  # of wires before
        self.tap = QUIET
        self.refused: dict[str, str] = {}

    @property
    def connected(self) -> bool:
        return self._listener is not None and self._listener.alive

    @property
    def faults(self) -> tuple[str, ...]:
        return self._engine.faults

    async def connect(self) -> None:
        """Listen, and wait for a first message. An ear that is open stays so."""
        if self._listener is None or not self._listener.alive:
            await self.disconnect()
            wire = wire_of(self._can)
            wire.open()
            self._wire = wire
            self.tap.noted(f"listening on {self._can.where}")
            self._listener = Listener(wire, self._heard, rate_per_s=RATE_PER_S, burst=BURST)
            self._listener.start()
        until_s = wall_s() + self._timeout_s
        while (silence := self._silence()) and wall_s() < until_s:
            await wall_sleep(LOOK_S)
        if silence:
            raise LinkError(silence)

    def _heard(self, frame: Frame, at_s: float) -> None:
        """In the thread that listens. On the tap a frame is as SocketCAN frames stand in captures."""
        if self.tap.on:
            self.tap.received(captured(frame))
        self._engine.take(frame, at_s)

    def _silence(self) -> str:
        """Why nothing at all is known; "": something is. Raises LinkError."""
        if self._listener is None:
            raise LinkError("not connected")
        self._listener.check()
        if self._engine.lives(wall_s()):
            return ""
        others = self._engine.counts.others
        heard = f"; {others} messages of others were" if others else ""
        return f"nothing of source {self._can.source} is heard on {self._can.where}{heard}"

    async def identify(self) -> dict[str, str | None]:
        return {}

    async def read(self) -> dict[str, PointValue]:
        if silence := self._silence():
            raise LinkError(silence)
        now_s = wall_s()
        self._engine.forget_faults(now_s)
        told = self._engine.values(now_s)
        self.refused = {point: why for point, (_, why) in told.items() if why}
        return {point: value for point, (value, _) in told.items()}

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return [READ_ONLY] * len(values)

    async def disconnect(self) -> None:
        listener, self._listener = self._listener, None
        wire, self._wire = self._wire, None
        if listener is not None and wire is not None:
            self.tap.noted("listening no more" if listener.error is None else str(listener.error))
            self._malformed, self._dropped = self._malformed + wire.malformed, self._dropped + wire.dropped
            listener.close()
            await asyncio.to_thread(listener.join, self._timeout_s + STEP_S)

    @property
    def counts(self) -> dict[str, int]:
        """What became of the frames since the start."""
        wire = self._wire
        return {
            **self._engine.counted(),
            "malformed": self._malformed + (0 if wire is None else wire.malformed),
            "dropped": self._dropped + (0 if wire is None else wire.dropped),
            "active_faults": len(self._engine.faults),
        }
