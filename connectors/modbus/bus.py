"""A bus that several units share: one request in flight, and silence after whatever went wrong.

RTU frames carry no number. What keeps a late answer from being taken for the next one is that nobody is asked
anything before the line was silent for as long as an answer may take.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from connectors.link import Late, LinkError, NotSent
from connectors.modbus.frames import MalformedReply
from connectors.modbus.rtu import answer, crc, tcp_layout
from connectors.wire_log import Tap
from ems.clock import wall_s, wall_sleep

DEAD_SHARE = 0.1  # of the bus' time, at most, is spent on a unit that does not answer
MISSES_MAX = 3  # requests in a row without one byte: the line itself is opened anew
NOISY_RATIO = 10.0  # of the time-out: a line that is not silent by then is told as such


class Damaged(LinkError):
    """Bytes came that are no answer to the request; the line was made silent and may be used again."""


class Line(Protocol):
    """What bytes are sent on: a serial port or a TCP connection."""

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...


OpenLine = Callable[[asyncio.Protocol], Awaitable[Line]]


@dataclass(slots=True)
class Unit:
    """How one unit on the bus has answered lately."""

    misses: int = 0  # in a row
    resume_s: float = -math.inf  # wall time before which it is not asked


class Bus(asyncio.Protocol):
    """One line and its units.

    Parameters
    ----------
    name : for messages: the serial port, or host and port.
    open_line : opens it, with this object as the receiver; raises LinkError.
    gap_s : silence before each request [s].
    taps : of its units; each is told every byte of the line.
    """

    def __init__(self, name: str, open_line: OpenLine, gap_s: float) -> None:
        self.name = name
        self.taps: list[Tap] = []
        self.epoch = 0  # counts how often the line was opened
        self._open_line, self._gap_s = open_line, gap_s
        self._line: Line | None = None
        self._turn = asyncio.Lock()
        self._units: dict[int, Unit] = {}
        self._users: set[int] = set()
        self._misses = 0  # of all units in a row
        self._sent = b""  # request in flight, in the layout of Modbus TCP
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._silence_s = gap_s  # that is asked of the line before the next request
        self._free_s = -math.inf  # wall time at which it will have been silent for so long

    def keep_apart(self, pause_s: float) -> None:
        """One of its units needs so long between two requests on the line, whoever they are to [s wall]."""
        self._gap_s = max(self._gap_s, pause_s)

    @property
    def is_open(self) -> bool:
        """Whether requests may be sent."""
        return self._line is not None

    async def connect(self, unit: int, timeout_s: float) -> None:
        """Wait until it is this unit's turn to be tried, and have the line open. Raises LinkError."""
        self._users.add(unit)
        pause_s = self._units.setdefault(unit, Unit()).resume_s - wall_s()
        if pause_s > 0.0:
            await wall_sleep(pause_s)
        async with self._turn:
            if self._line is not None:
                return
            try:
                async with asyncio.timeout(timeout_s):
                    self._line = await self._open_line(self)
            except TimeoutError:
                raise LinkError(f"cannot connect to {self.name} in {timeout_s:g} s") from None
            self.epoch += 1
            self._misses = 0
            for tap in self.taps:
                tap.noted("connected")
            self._keep_silent(timeout_s)  # an answer to what was asked before may still come

    async def exchange(
        self, body: bytes, timeout_s: float, until_s: float = math.inf, late: Late | None = None
    ) -> bytes:
        """Send unit id and PDU, give the whole checked answer in the layout of Modbus TCP.

        `late` gives the body as it may be sent when its turn has come; it may raise, and nothing is sent.

        Raises
        ------
        NotSent : nothing was sent: the line is closed, never silent, or it was too late.
        Damaged : something else than the answer came; whether a write was carried out is not known.
        LinkError : no answer in time, or the line was lost; likewise.
        """
        async with self._turn:
            await self._be_silent(timeout_s, until_s)
            if self._line is None:
                raise NotSent(f"{self.name} is not open")
            body = body if late is None else late()
            self._sent, self._received = tcp_layout(body), b""
            self._answer = asyncio.get_running_loop().create_future()
            try:
                self._line.write(body + crc(body))
                for tap in self.taps:
                    tap.sent(body + crc(body))
                async with asyncio.timeout(timeout_s):
                    got = await self._answer
            except TimeoutError:
                self._keep_silent(timeout_s)
                self._missed(body[0], timeout_s)
                raise LinkError(self._words_of_silence(body[0])) from None
            except Damaged:
                self._keep_silent(timeout_s)
                self._missed(body[0], timeout_s)
                raise
            except BaseException:  # also what nobody expects: an answer may still come
                self._keep_silent(timeout_s)
                raise
            finally:
                self._answer = None
            self._keep_silent(self._gap_s)
            self._units[body[0]] = Unit()
            self._misses = 0
            return got

    def leave(self, unit: int) -> None:
        """A unit is not used any more; the last one closes the line."""
        self._users.discard(unit)
        if not self._users:
            self.close("closed")

    def close(self, reason: str) -> None:
        """Close the line now; a request in flight ends with `reason`."""
        line, self._line = self._line, None
        if line is not None:
            line.abort()
            for tap in self.taps:
                tap.noted(reason)
        self._fail(LinkError(reason))

    def data_received(self, data: bytes) -> None:
        for tap in self.taps:
            tap.received(data)
        self._free_s = wall_s() + self._silence_s
        if self._answer is None or self._answer.done():
            return  # nobody asked for it: it only makes the silence longer
        self._received += data
        try:
            whole = answer(self._sent, self._received)
        except MalformedReply as error:
            self._fail(Damaged(str(error)))
            return
        except Exception as error:  # noqa: BLE001  raised in the exchange: the line is that of other units too
            self._fail(error)
            return
        if whole is not None:
            self._answer.set_result(whole)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(f"{self.name} was lost: {exc}" if exc is not None else f"{self.name} was closed")

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _keep_silent(self, silence_s: float) -> None:
        self._silence_s = max(silence_s, self._gap_s)
        self._free_s = wall_s() + self._silence_s

    async def _be_silent(self, timeout_s: float, until_s: float) -> None:
        """Wait for the silence that is due; each byte that comes meanwhile starts it anew."""
        latest_s = wall_s() + NOISY_RATIO * max(timeout_s, self._silence_s)
        while (now_s := wall_s()) < self._free_s:
            if self._free_s > until_s:
                raise NotSent("the cycle was over before the bus was free")
            if now_s > latest_s:
                raise NotSent(f"{self.name} is never silent")
            await wall_sleep(self._free_s - now_s)
        if now_s >= until_s:
            raise NotSent("the cycle was over before it could be sent")

    def _missed(self, unit: int, timeout_s: float) -> None:
        """A unit cost the bus a time-out and a silence: the longer it goes on, the rarer it is asked."""
        state, lost_s = self._units.setdefault(unit, Unit()), 2.0 * timeout_s
        state.misses += 1
        ratio = min(2.0 ** (state.misses - 1), 1.0 / DEAD_SHARE - 1.0)
        state.resume_s = wall_s() + lost_s * ratio
        self._misses = 0 if self._received else self._misses + 1
        if self._misses >= MISSES_MAX * len(self._units):
            self.close(f"{self.name} gave no answer {self._misses} times")

    def _words_of_silence(self, unit: int) -> str:
        part = f", {len(self._received)} bytes of one" if self._received else ""
        return f"no answer in time from unit {unit}{part}"
