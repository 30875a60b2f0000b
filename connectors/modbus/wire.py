"""The wire of one Modbus TCP connection: one request in flight, every byte of its answer checked, no retry.

Why not the client of a library: docs/decisions/0005-own-modbus-transport.md.
"""

import asyncio
import math
import struct

from connectors.link import Late, LinkError, NotSent
from connectors.modbus.frames import MalformedReply, is_complete
from connectors.wire_log import QUIET, Tap
from ems.clock import wall_s, wall_sleep

_HEAD = struct.Struct(">HHH")  # transaction id, protocol id 0, length
TRANSACTIONS = 65535


class Wire(asyncio.Protocol):
    """One connection. Whatever is not the right answer in time ends it, so that nothing late is ever matched.

    Parameters
    ----------
    timeout_s : deadline of the whole answer to a request, from the moment it is sent, wall time [s].
    transaction : last transaction id of the connection before, whose late answers may still come through a
        gateway.
    tap : told every byte.
    pause_s : from the end of an answer to the next request, wall time [s].
    """

    def __init__(
        self, timeout_s: float, transaction: int = 0, tap: Tap = QUIET, pause_s: float = 0.0
    ) -> None:
        self._timeout_s, self._tap, self._pause_s = timeout_s, tap, pause_s
        self._free_s = -math.inf  # wall time before which nothing is sent
        self._transport: asyncio.Transport | None = None
        self._turn = asyncio.Lock()
        self.transaction = transaction  # of the last request
        self._sent = b""  # request in flight
        self._received = b""  # of its answer, so far
        self._answer: asyncio.Future[bytes] | None = None
        self._deadline_s = 0.0  # of the request in flight, wall time
        self._watching = False  # a timer looks at the deadline

    @property
    def connected(self) -> bool:
        """Whether requests may be sent."""
        return self._transport is not None

    async def exchange(self, body: bytes, until_s: float = math.inf, late: Late | None = None) -> bytes:
        """Send unit id and PDU, give the whole checked answer.

        Requests wait for each other in order of their calls. At `until_s` [s wall] it is too late to send.
        `late` gives the body as it may be sent when its turn has come; it may raise, and nothing is sent.

        Raises
        ------
        NotSent : nothing was sent: the connection is down, or it was too late.
        LinkError : it was sent, and what became of it is not known; the connection is dropped.
        """
        async with self._turn:
            now_s = wall_s()
            if now_s < min(self._free_s, until_s):
                await wall_sleep(min(self._free_s, until_s) - now_s)
                now_s = wall_s()
            if self._transport is None:
                raise NotSent("not connected")
            if now_s >= until_s:
                raise NotSent("the cycle was over before it could be sent")
            body = body if late is None else late()
            self.transaction = self.transaction % TRANSACTIONS + 1
            self._sent = _HEAD.pack(self.transaction, 0, len(body)) + body
            self._received = b""
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._answer, self._deadline_s = answer, now_s + self._timeout_s
            if not self._watching:
                self._watch(self._timeout_s)
            self._transport.write(self._sent)
            self._tap.sent(self._sent)
            try:
                return await answer
            except asyncio.CancelledError:
                self.drop("request cancelled")
                raise
            finally:
                self._answer = None
                if self._pause_s > 0.0:
                    self._free_s = wall_s() + self._pause_s

    def drop(self, reason: str) -> None:
        """End the connection now, unsent bytes included; a request in flight ends with `reason`."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._tap.noted(reason)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LinkError(reason))

    def _watch(self, wait_s: float) -> None:
        """Look at the deadline in `wait_s`: one timer for many requests, as most are answered at once."""
        self._watching = True
        asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        self._watching = False
        if self._answer is None or self._transport is None:
            return
        left_s = self._deadline_s - wall_s()
        if left_s > 0.0:
            self._watch(left_s)
        else:
            self.drop("no answer in time")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._tap.noted("connected")

    def connection_lost(self, exc: Exception | None) -> None:
        alert = getattr(exc, "reason", None)  # of TLS: a certificate is refused only after the handshake
        self.drop(f"connection lost: {alert}" if alert else "connection lost")

    def data_received(self, data: bytes) -> None:
        self._tap.received(data)
        answer = self._answer
        if answer is None or answer.done():
            self.drop("bytes that nobody asked for")
            return
        received = self._received + data if self._received else data
        try:
            complete = is_complete(self._sent, received)
        except MalformedReply as error:
            self.drop(str(error))
            return
        if complete:
            answer.set_result(received)
        else:
            self._received = received
