"""GOOSE link: a thread of its own listens, the edge looks at what it has heard. Nothing is ever sent."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.iec61850.goose_frame import Malformed, header_of, message_of
from connectors.iec61850.goose_stream import Stream
from connectors.iec61850.goose_wire import Wire
from connectors.link import Latest, LinkError, PointValue, WriteReply, as_decided
from connectors.listening import STEP_S, Listener
from connectors.point_map import PointCodec
from connectors.wire_log import QUIET
from ems.clock import wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.goose import Goose

LOOK_S = 0.02
# A flood must not take the processor from the edge: what comes faster is dropped by the kernel, and counted.
RATE_PER_S, BURST = 1000.0, 500.0
READ_ONLY = WriteReply(WriteOutcome.NOT_SENT, "GOOSE is listened to alone")


def address_of(text: str) -> bytes:
    """The bytes of a MAC address."""
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


@dataclass(slots=True)
class Ear:
    """Sorts frames to the control blocks they belong to."""

    streams: Sequence[Stream]
    malformed: int = 0  # under a wanted APPID and address, and not built as a message is
    others: int = 0  # of other APPIDs, addresses or control blocks
    _wanted: dict[tuple[bytes, int], dict[str, Stream]] = field(init=False)

    def __post_init__(self) -> None:
        self._wanted = {}
        for stream in self.streams:
            block = stream.block
            place = self._wanted.setdefault((address_of(block.destination), block.app_id), {})
            place[block.control_block] = stream

    def take(self, frame: bytes, at_s: float) -> None:
        """A frame has come; `at_s` on the wall clock that does not jump [s]. Never raises."""
        try:
            header = header_of(frame)
            there = self._wanted.get((header.destination, header.app_id))
            if there is None:
                self.others += 1
                return
            message = message_of(frame, header)
        except Malformed:
            self.malformed += 1
            return
        stream = there.get(message.control_block)
        if stream is None:
            self.others += 1
            return
        stream.take(message, at_s)


class GooseLink:
    """One publisher, or several of one device.

    Parameters
    ----------
    goose : where is listened, and to what.
    codecs : its points; each address is a member of one of the data sets.
    timeout_s : how long a connect waits for the first message [s wall].
    """

    def __init__(self, goose: Goose, codecs: Sequence[PointCodec], *, timeout_s: float) -> None:
        self._goose, self._codecs, self._timeout_s = goose, tuple(codecs), timeout_s
        self._wire: Wire | None = None
        self._listener: Listener[bytes] | None = None
        self._streams = [Stream(block, codecs) for block in goose.blocks]
        self._ear = Ear(self._streams)
        self._dropped = 0  # by sockets before
        self.tap = QUIET
        self.refused: dict[str, str] = {}

    @property
    def connected(self) -> bool:
        return self._listener is not None and self._listener.alive

    async def connect(self) -> None:
        """Listen, and wait for a first message. An ear that is open stays so: it must not miss one."""
        if self._listener is None or not self._listener.alive:
            await self.disconnect()
            wire = Wire(
                self._goose.interface,
                [address_of(b.destination) for b in self._goose.blocks],
                [b.app_id for b in self._goose.blocks],
            )
            wire.open()
            self._wire = wire
            self.tap.noted(f"listening on {self._goose.interface}")
            self._listener = Listener(wire, self._heard, rate_per_s=RATE_PER_S, burst=BURST)
            self._listener.start()
        until_s = wall_s() + self._timeout_s
        while (silence := self._silence()) and wall_s() < until_s:
            await wall_sleep(LOOK_S)
        if silence:
            raise LinkError(silence)

    def _heard(self, frame: bytes, at_s: float) -> None:
        """In the thread that listens: whole Ethernet frames, as the kernel passes them on."""
        self.tap.received(frame)
        self._ear.take(frame, at_s)

    def _silence(self) -> str:
        """Why nothing at all is known; "": something is. Raises LinkError."""
        listener, wire, now_s = self._listener, self._wire, wall_s()
        if listener is None or wire is None:
            raise LinkError("not connected")
        listener.check()
        if any(stream.lives(now_s) for stream in self._streams):
            return ""
        said = [stream.silence(now_s) for stream in self._streams]
        return "; ".join([*filter(None, [wire.trouble]), *said])

    async def identify(self) -> dict[str, str | None]:
        return {}

    async def read(self) -> dict[str, PointValue]:
        if silence := self._silence():
            raise LinkError(silence)
        now_s, out = wall_s(), {}
        self.refused = {}
        for stream in self._streams:
            for point, (value, why) in stream.values(now_s).items():
                out[point] = value
                if why:
                    self.refused[point] = why
        return out

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return [READ_ONLY] * len(values)

    async def disconnect(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self.tap.noted("listening no more" if listener.error is None else str(listener.error))
            self._dropped += 0 if self._wire is None else self._wire.dropped
            self._wire = None
            listener.close()
            await asyncio.to_thread(listener.join, self._timeout_s + STEP_S)

    @property
    def counts(self) -> dict[str, int]:
        """What became of the frames since the start."""
        total: Counter[str] = Counter()
        for stream in self._streams:
            total.update(stream.counted())
        dropped = self._dropped + (0 if self._wire is None else self._wire.dropped)
        now_s = wall_s()
        return {
            **{name: total[name] for name in self._streams[0].counted()},
            "malformed": self._ear.malformed,
            "others": self._ear.others,
            "dropped": dropped,
            "blocks_silent": sum(not stream.lives(now_s) for stream in self._streams),
        }
