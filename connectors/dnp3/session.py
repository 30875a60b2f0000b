"""One DNP3 connection: one request in flight, its answer of one or more fragments checked, nothing repeated.

Source: IEEE 1815-2012, clauses 4 (application layer), 8, 9, and 13 (over TCP: the link confirms nothing).
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from connectors.dnp3 import frame as link
from connectors.dnp3.objects import MalformedObjects, Told, told_by
from connectors.dnp3.segments import Assembler, MalformedSegment, Segmenter
from connectors.link import LinkError, NotSent
from connectors.recorded import Receipt
from connectors.wire_log import QUIET, Tap
from ems.clock import wall_s, wall_sleep

FIR, FIN, CON, UNS, NUMBER = 0x80, 0x40, 0x20, 0x10, 0x0F
CONFIRM, READ, WRITE, SELECT, OPERATE, DIRECT_OPERATE = 0, 1, 2, 3, 4, 5
DISABLE_UNSOLICITED, RECORD_TIME, RESPONSE, UNSOLICITED = 21, 24, 129, 130
FRAGMENTS_MAX = 64  # of one answer
UNASKED_MAX = 400  # frames in a second that nobody asked for
# After a confirmation, wall time. While it is sending itself, opendnp3 keeps one fragment: a request right
# behind a confirmation takes its place, and is answered when that was waited for in vain, after 5 s.
CONFIRM_PAUSE_S = 0.02

STORE_WAIT_S = 0.25  # for the events of one fragment to be on the disk, before what follows is given up, wall

CLASS_EVENTS, NEED_TIME, LOCAL, TROUBLE, RESTART = 0x0E, 0x10, 0x20, 0x40, 0x80  # IIN1
NO_FUNCTION, NO_OBJECT, BAD_PARAMETER, OVERFLOW = 0x0100, 0x0200, 0x0400, 0x0800  # IIN2, above it
EXECUTING, CORRUPT = 0x1000, 0x2000
REFUSALS = {
    NO_FUNCTION: "function not supported (IIN2.0)",
    NO_OBJECT: "object unknown (IIN2.1)",
    BAD_PARAMETER: "parameter error (IIN2.2)",
    EXECUTING: "already executing (IIN2.4)",
}
FAULTS = {TROUBLE: "device trouble (IIN1.6)", CORRUPT: "configuration corrupt (IIN2.5)"}


def refusal(indications: int) -> str:
    """Why the outstation did not do what was asked; "": it did."""
    return ", ".join(text for bit, text in REFUSALS.items() if indications & bit)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    indications: int  # IIN1, and IIN2 above it; of all fragments
    told: tuple[Told, ...]  # with `decode`
    objects: bytes  # as they came
    is_cut: bool = False  # the rest was not waited for: events of it could not be stored in time


@dataclass(slots=True)
class _Waiting:
    """An answer that is coming."""

    number: int  # of its next fragment
    decode: bool
    whole: "asyncio.Future[Answer]"
    deadline: asyncio.Timeout
    fragments: int = 0
    held_s: float = 0.0  # that it was kept waiting for the disk [s wall]
    indications: int = 0
    told: list[Told] = field(default_factory=list)
    objects: list[bytes] = field(default_factory=list)


OnUnsolicited = Callable[[Iterable[Told], int], None]
OnEvents = Callable[[Sequence[Told], int], Receipt]
Ask = Callable[[int, bytes], Coroutine[None, None, Answer]]


class Session(asyncio.Protocol):
    """One connection. Whatever is not the right answer in time ends it, so that nothing late is ever matched.

    Parameters
    ----------
    master, outstation : link addresses, ours and the one that is spoken to.
    timeout_s : deadline of a request with its whole answer, wall time [s].
    number : of the last request of the connection before, whose late answer a gateway may still pass on.
    heard : told what comes unsolicited, and its indications; None: it is left to another master.
    keep : takes the events of a fragment, and its indications; they are confirmed once they are stored.
    confirmed : told when a fragment with events was.
    tap : told every byte.
    """

    def __init__(
        self,
        *,
        master: int,
        outstation: int,
        timeout_s: float,
        number: int,
        heard: OnUnsolicited | None,
        keep: OnEvents = lambda told, indications: Receipt(is_stored=True),
        confirmed: Callable[[], None] = lambda: None,
        tap: Tap = QUIET,
    ) -> None:
        self._master, self._outstation, self._tap = master, outstation, tap
        self._timeout_s, self._heard, self._keep, self._confirmed = timeout_s, heard, keep, confirmed
        self._owed: asyncio.Event | None = None  # set with a confirmation that is still possible
        self.number = number
        self.broken = "not connected"  # "": it is connected
        self.others = 0  # frames of or to somebody else, and answers of the link
        self.unsolicited = 0  # fragments
        self._transport: asyncio.Transport | None = None
        self._turn = asyncio.Lock()
        self._deframer, self._assembler, self._segmenter = link.Deframer(), Assembler(), Segmenter()
        self._waiting: _Waiting | None = None
        self._unasked, self._unasked_s = 0, -math.inf
        self._confirmed_s = -math.inf  # when the last confirmation was sent, wall

    async def ask(self, function: int, objects: bytes, *, decode: bool = False) -> Answer:
        """Send a request and wait for its answer. Raises NotSent and LinkError."""
        async with self._turn:
            await self.settle()
            await self._pause()
            return await self._exchange(function, objects, decode)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Ask]:
        """Requests with none of another task between them."""
        async with self._turn:
            await self._pause()
            yield self._exchange

    async def settle(self) -> None:
        """Let events that were just read be stored and confirmed, before a request has them told again."""
        if self._owed is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STORE_WAIT_S):
                    await self._owed.wait()

    async def _pause(self) -> None:
        """Let a confirmation arrive before anything else does."""
        if (left_s := self._confirmed_s + CONFIRM_PAUSE_S - wall_s()) > 0.0:
            await wall_sleep(left_s)

    async def _exchange(self, function: int, objects: bytes, decode: bool = False) -> Answer:
        if self.broken:
            raise NotSent(self.broken)
        self.number = (self.number + 1) & NUMBER
        self._owed = None  # the next request takes the place of a confirmation
        whole: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(self.number, decode, whole, asyncio.timeout(self._timeout_s))
        self._waiting = waiting
        try:
            self._send(bytes([FIR | FIN | self.number, function]) + objects)
            async with waiting.deadline:
                return await waiting.whole
        except TimeoutError:
            self.drop(f"no answer in {self._timeout_s:g} s")
            raise LinkError(self.broken) from None
        except asyncio.CancelledError:
            self.drop("request cancelled")
            raise
        finally:
            if not waiting.whole.cancel() and not waiting.whole.cancelled():
                waiting.whole.exception()  # it came while nobody waited any more
            self._waiting = None

    def drop(self, reason: str) -> None:
        """End the connection now, unsent bytes included; a request in flight ends with `reason`."""
        self.broken = self.broken or reason
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._tap.noted(reason)
        if self._waiting is not None and not self._waiting.whole.done():
            self._waiting.whole.set_exception(LinkError(self.broken))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.broken = transport, ""
        self._tap.noted("connected")

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop("connection lost")

    def data_received(self, data: bytes) -> None:
        self._tap.received(data)
        try:
            for one in self._deframer.feed(data):
                self._frame(one)
                if self.broken:
                    return
        except (link.MalformedFrame, MalformedSegment, MalformedObjects, LinkError) as error:
            self.drop(str(error))

    def _frame(self, one: link.Frame) -> None:
        mine = (one.destination, one.source) == (self._master, self._outstation)
        if not mine or one.control & link.FROM_MASTER or not one.is_primary:
            self.others += 1
            self._not_asked_for()
            return
        match one.function:
            case link.DATA:
                if (fragment := self._assembler.add(one.data)) is not None:
                    self._take(fragment)
            case link.LINK_STATUS:
                self._not_asked_for()
                self._answer_link(link.STATUS_OF_LINK)
            case link.RESET_LINK | link.TEST_LINK:
                self._not_asked_for()
                self._answer_link(link.ACK)
            case link.CONFIRMED_DATA:
                raise LinkError("it wants frames confirmed by the link: not over TCP; switch that off there")
            case other:
                raise LinkError(f"a frame with the link function {other}")

    def _not_asked_for(self) -> None:
        """Raises LinkError where too much comes."""
        now_s = wall_s()
        if now_s - self._unasked_s >= 1.0:
            self._unasked, self._unasked_s = 0, now_s
        self._unasked += 1
        if self._unasked > UNASKED_MAX:
            raise LinkError(f"more than {UNASKED_MAX} frames in a second that nobody asked for")

    def _take(self, fragment: bytes) -> None:
        """One fragment. Raises LinkError and MalformedObjects."""
        if len(fragment) < 4:
            raise LinkError(f"a fragment of {len(fragment)} bytes")
        control, function = fragment[0], fragment[1]
        indications = int.from_bytes(fragment[2:4], "little")
        if function == UNSOLICITED:
            self._not_asked_for()
            if control & (FIR | FIN | UNS) != FIR | FIN | UNS:
                raise LinkError("an unsolicited response in parts")
            told = list(told_by(fragment[4:]))
            self.unsolicited += 1
            if self._heard is None:
                return
            self._heard(told, indications)
            receipt = self._kept(told, indications)
            if control & CON and receipt is None:
                self._confirm(UNS | control & NUMBER)
            elif control & CON and receipt is not None and not receipt.is_refused:
                receipt.then(lambda: self._confirm(UNS | control & NUMBER, events=True))
            return
        if function != RESPONSE or control & UNS:
            raise LinkError(f"function {function}, where a response was to come")
        self._part(control, indications, fragment[4:])

    def _part(self, control: int, indications: int, objects: bytes) -> None:
        waiting = self._waiting
        if waiting is None or waiting.whole.done():
            raise LinkError("an answer to nothing that was asked")
        if control & NUMBER != waiting.number:
            raise LinkError(f"an answer to request {control & NUMBER}, and {waiting.number} was asked")
        if bool(control & FIR) is not (waiting.fragments == 0):
            raise LinkError("fragments of an answer out of order")
        waiting.fragments += 1
        if waiting.fragments > FRAGMENTS_MAX:
            raise LinkError(f"an answer of more than {FRAGMENTS_MAX} fragments")
        told = list(told_by(objects)) if waiting.decode else []
        waiting.told += told
        waiting.indications |= indications
        waiting.objects.append(objects)
        waiting.number = (waiting.number + 1) & NUMBER
        receipt = self._kept(told, waiting.indications)
        if control & CON:
            self._confirm_stored(waiting, control & NUMBER, receipt, is_last=bool(control & FIN))
        if control & FIN:
            self._end(waiting, control & NUMBER)

    def _kept(self, told: Sequence[Told], indications: int) -> Receipt | None:
        """Of the events of a fragment; None: it has none."""
        events = [one for one in told if one.is_event]
        return self._keep(events, indications) if events else None

    def _end(self, waiting: _Waiting, number: int, *, is_cut: bool = False) -> None:
        self.number = number
        if not waiting.whole.done():
            told = tuple(waiting.told)
            waiting.whole.set_result(Answer(waiting.indications, told, b"".join(waiting.objects), is_cut))

    def _confirm_stored(
        self, waiting: _Waiting, number: int, receipt: Receipt | None, *, is_last: bool
    ) -> None:
        """Confirm a fragment once its events are stored.

        The last one may be confirmed until the next request goes out. One before it is waited for, and not
        for long: a disk that is slow or full keeps nobody from the values that are read after the events.
        """
        if receipt is None or receipt.is_stored:
            self._confirm(number, events=receipt is not None)
            return
        if receipt.is_refused:
            if not is_last:
                self._end(waiting, number, is_cut=True)
            return
        owed = self._owed = asyncio.Event()
        loop = asyncio.get_running_loop()
        began_s, room_s = loop.time(), min(STORE_WAIT_S, self._timeout_s - waiting.held_s)
        timer = None if is_last else loop.call_later(max(0.0, room_s), lambda: cut())

        def cut() -> None:
            if self._owed is owed:
                self._owed = None
                self._end(waiting, number, is_cut=True)

        def stored() -> None:
            if timer is not None:
                timer.cancel()
            if self._owed is not owed or self.broken:
                return
            self._owed = None
            owed.set()
            self._confirm(number, events=True)
            held_s = loop.time() - began_s
            if not is_last and (when := waiting.deadline.when()) is not None:
                waiting.held_s += held_s
                waiting.deadline.reschedule(when + held_s)

        receipt.then(stored)

    def _confirm(self, number: int, *, events: bool = False) -> None:
        if self.broken:
            return
        self._send(bytes([FIR | FIN | number, CONFIRM]))
        self._confirmed_s = wall_s()
        if events:
            self._confirmed()

    def _answer_link(self, function: int) -> None:
        self._write(link.encode(link.FROM_MASTER | function, self._outstation, self._master))

    def _send(self, fragment: bytes) -> None:
        self._write(b"".join(self._frames(fragment)))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None, "the caller has looked"
        self._transport.write(data)
        self._tap.sent(data)

    def _frames(self, fragment: bytes) -> Iterator[bytes]:
        control = link.FROM_MASTER | link.PRIMARY | link.DATA
        for segment in self._segmenter.cut(fragment):
            yield link.encode(control, self._outstation, self._master, segment)
