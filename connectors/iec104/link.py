"""The order of frames on one connection, as either side keeps it: numbers, windows, times. Pure.

Source: IEC 60870-5-104:2006, 5.1 to 5.5 and 9.6: k frames at most without a confirmation; t1 for whatever
must be confirmed, t2 until we confirm, t3 until a quiet connection is tested.
"""

from collections import deque
from enum import Enum

from connectors.iec104.frames import (
    MODULUS,
    BadFrame,
    Frame,
    Function,
    Numbered,
    Supervisory,
    Unnumbered,
    packed,
)
from ems.iec104 import Iec104Times


class State(Enum):
    """Whether data may flow."""

    STOPPED = "stopped"
    STARTED = "started"
    STOPPING = "stopping"  # asked to stop, while frames of ours are not confirmed


class Link:
    """One connection, as a controlled station keeps it. What it has to say gathers in `drain`.

    Parameters
    ----------
    now_s : monotonic [s], as everywhere here.
    """

    def __init__(self, times: Iec104Times, now_s: float) -> None:
        self._times = times
        self._sent = self._received = 0  # V(S), V(R)
        self._confirmed = self._told = 0  # N(R) that came last, and that went last
        self._flying: deque[float] = deque()  # when each frame went that is not confirmed
        self._owed_s: float | None = None  # since when a frame that came is not confirmed
        self._heard_s = now_s
        self._tested_s: float | None = None  # since when a test of ours is not answered
        self._out = bytearray()
        self.state = State.STOPPED
        self.delivered = 0  # frames of ours that were confirmed, ever

    @property
    def room(self) -> int:
        """How many numbered frames may be sent now."""
        return self._times.k - len(self._flying) if self.state is State.STARTED else 0

    def drain(self) -> bytes:
        """What is to be sent now, once."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def send(self, asdu: bytes, now_s: float) -> None:
        """Send data; there must be room."""
        assert self.room > 0
        self._put(Numbered(self._sent, self._received, asdu))
        self._sent = (self._sent + 1) % MODULUS
        self._told, self._owed_s = self._received, None
        self._flying.append(now_s)

    def take(self, frame: Frame, now_s: float) -> bytes | None:
        """A frame that came; the ASDU in it, if any.

        Raises
        ------
        BadFrame : its numbers are not those that could come now, or it must not come now.
        """
        self._heard_s = now_s
        match frame:
            case Unnumbered(function):
                self._function(function)
                return None
            case Supervisory(received):
                self._confirm(received)
                return None
        if self.state is not State.STARTED:
            raise BadFrame("data on a connection that is not started")
        if frame.sent != self._received:
            raise BadFrame(f"frame {frame.sent} where {self._received} had to come")
        self._confirm(frame.received)
        self._received = (self._received + 1) % MODULUS
        if self._owed_s is None:
            self._owed_s = now_s
        if (self._received - self._told) % MODULUS >= self._times.w:
            self._acknowledge()
        return frame.asdu

    def tick(self, now_s: float) -> str:
        """Do what is due; why the connection must end, "": it need not."""
        times = self._times
        if self._flying and now_s - self._flying[0] > times.t1_s:
            return f"a frame was not confirmed for {times.t1_s:g} s (t1)"
        if self._tested_s is not None and now_s - self._tested_s > times.t1_s:
            return f"a test was not answered for {times.t1_s:g} s (t1)"
        if self._owed_s is not None and now_s - self._owed_s >= times.t2_s:
            self._acknowledge()
        if self._tested_s is None and now_s - self._heard_s >= times.t3_s:
            self._put(Unnumbered(Function.TESTFR_ACT))
            self._tested_s = now_s
        return ""

    def _function(self, function: Function) -> None:
        match function:
            case Function.STARTDT_ACT:
                self.state = State.STARTED
                self._put(Unnumbered(Function.STARTDT_CON))
            case Function.STOPDT_ACT:
                self.state = State.STOPPING
                if self._owed_s is not None:
                    self._acknowledge()
                self._stopped()
            case Function.TESTFR_ACT:
                self._put(Unnumbered(Function.TESTFR_CON))
            case Function.TESTFR_CON:
                self._tested_s = None
            case _:
                raise BadFrame(f"{function.name.lower()}: nothing of it was asked")

    def _confirm(self, received: int) -> None:
        count = (received - self._confirmed) % MODULUS
        if count > len(self._flying):
            raise BadFrame(f"confirms frame {received}; {len(self._flying)} wait from {self._confirmed} on")
        for _ in range(count):
            self._flying.popleft()
        self._confirmed = received
        self.delivered += count
        self._stopped()

    def _stopped(self) -> None:
        """Stopping is over once everything is confirmed."""
        if self.state is State.STOPPING and not self._flying:
            self.state = State.STOPPED
            self._put(Unnumbered(Function.STOPDT_CON))

    def _acknowledge(self) -> None:
        self._put(Supervisory(self._received))
        self._told, self._owed_s = self._received, None

    def _put(self, frame: Frame) -> None:
        self._out += packed(frame)


class AskingLink(Link):
    """The same, as a controlling station keeps it: it starts the flow of data."""

    def start(self) -> None:
        """Ask the station to send."""
        self._put(Unnumbered(Function.STARTDT_ACT))

    def _function(self, function: Function) -> None:
        match function:
            case Function.STARTDT_CON if self.state is State.STOPPED:
                self.state = State.STARTED
            case Function.STARTDT_ACT | Function.STOPDT_ACT | Function.STARTDT_CON | Function.STOPDT_CON:
                raise BadFrame(f"{function.name.lower()}: not now, and not from a controlled station")
            case _:
                super()._function(function)
