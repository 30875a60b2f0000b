"""One BACnet/IP device: one request in flight, its answer checked; a datagram stands for itself.

A question that was lost is asked once more within its deadline; a command never is. Whatever is not the right
answer in time ends the session, and the next one has a socket of its own.
"""

import asyncio
import math
import socket
from dataclasses import dataclass
from typing import cast

from connectors.bacnet import apdu
from connectors.bacnet.apdu import Denied, MalformedMessage, Message, Route
from connectors.bacnet.tags import MalformedTags
from connectors.link import Late, LinkError, NotSent
from connectors.wire_log import QUIET, Tap
from ems.clock import wall_s, wall_sleep

INVOKES = 256
UNASKED_MAX = 400  # datagrams in a second that nobody asked for


@dataclass(slots=True)
class Counts:
    """What happened on the wire since the start."""

    requests: int = 0
    repeated: int = 0  # questions that were asked once more
    others: int = 0  # datagrams that answer nothing that is asked now
    malformed: int = 0  # that are no BACnet message


class Session(asyncio.DatagramProtocol):
    """A socket of our own that one device may answer to.

    Parameters
    ----------
    timeout_s : deadline of a request with its answer, wall time [s].
    route : of a device behind a router; None: it is asked itself.
    pause_s : left between an answer and the next request [s].
    counts : added to.
    invoke : of the last request of the session before, whose late answer may still come.
    tap : told every byte.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        route: Route | None,
        pause_s: float,
        counts: Counts,
        invoke: int,
        tap: Tap = QUIET,
    ) -> None:
        self._timeout_s, self._route, self._pause_s, self._tap = timeout_s, route, pause_s, tap
        self.counts, self.invoke = counts, invoke
        self.broken = "not connected"  # "": it is open
        self._transport: asyncio.DatagramTransport | None = None
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[Message] | None = None
        self._free_s = -math.inf  # before which nothing is asked, wall
        self._unasked, self._unasked_s = 0, -math.inf

    async def open(self, host: str, port: int, bind: str) -> None:
        """Open the socket; nothing is sent. Raises OSError."""
        ours: tuple[str, int] | None = None
        if bind:
            own, _, own_port = bind.partition(":")
            ours = own, int(own_port) if own_port else 0
        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=ours, remote_addr=(host, port), family=socket.AF_INET
        )

    async def ask(self, service: int, data: bytes, *, once: bool = False, late: Late | None = None) -> bytes:
        """Send a request and wait for its answer: what is acknowledged, empty where nothing is told.

        `late` gives the data as they may be sent when its turn has come; it may raise, and nothing is sent.

        Raises
        ------
        Denied : the device does not do it, and why.
        NotSent, LinkError : it could not be sent; there is no answer, or not the right one.
        """
        async with self._turn:
            if (left_s := self._free_s - wall_s()) > 0.0:
                await wall_sleep(left_s)
            data = data if late is None else late()
            try:
                return self._acknowledged(await self._exchange(service, data, once), service)
            except MalformedTags as error:
                self.drop(str(error))
                raise LinkError(str(error)) from None
            finally:
                self._free_s = wall_s() + self._pause_s

    def _acknowledged(self, told: Message, service: int) -> bytes:
        if told.kind in (apdu.ERROR, apdu.REJECT, apdu.ABORT):
            if told.kind == apdu.ERROR and told.service != service:
                raise MalformedTags(f"an error of service {told.service}, and {service} asked")
            raise apdu.denial(told)
        wanted = apdu.SIMPLE_ACK if service == apdu.WRITE_PROPERTY else apdu.COMPLEX_ACK
        if told.segmented:
            raise MalformedTags("an answer in segments, which was not allowed")
        if (told.kind, told.service) != (wanted, service):
            raise MalformedTags(f"an acknowledgement of service {told.service}, and {service} was asked")
        return told.data

    async def _exchange(self, service: int, data: bytes, once: bool) -> Message:
        if self.broken or self._transport is None:
            raise NotSent(self.broken)
        self.invoke = (self.invoke + 1) % INVOKES
        self.counts.requests += 1
        datagram = apdu.request(self.invoke, service, data, self._route)
        self._answer = answer = asyncio.get_running_loop().create_future()
        tries = 1 if once else 2
        try:
            for number in range(tries):
                self.counts.repeated += number
                self._send(datagram)
                done, _ = await asyncio.wait([answer], timeout=self._timeout_s / tries)
                if done:
                    told: Message = answer.result()
                    return told
            self.drop(f"no answer in {self._timeout_s:g} s")
            raise LinkError(self.broken)
        except asyncio.CancelledError:
            self.drop("request cancelled")
            raise
        finally:
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # it came while nobody waited any more
            self._answer = None

    def _send(self, datagram: bytes) -> None:
        if self._transport is None:
            raise LinkError(self.broken)
        self._transport.sendto(datagram)
        self._tap.sent(datagram)

    def drop(self, reason: str) -> None:
        """Close the socket now; a request in flight ends with `reason`."""
        self.broken = self.broken or reason
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._tap.noted(reason)
        self._fail(LinkError(self.broken))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.broken = cast(asyncio.DatagramTransport, transport), ""
        self._tap.noted("connected")

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop("connection lost")

    def error_received(self, exc: Exception) -> None:
        """Nobody is there, says the host or a router of the network."""
        self.drop(exc.strerror or str(exc) if isinstance(exc, OSError) else str(exc))

    def datagram_received(self, data: bytes, addr: object) -> None:
        """One datagram of the device."""
        self._tap.received(data)
        try:
            told = apdu.message_of(data, self._route)
        except MalformedMessage:
            self.counts.malformed += 1
            self._not_asked_for()
        except Denied as error:
            self._fail(LinkError(str(error)))
        else:
            waiting = self._answer is not None and not self._answer.done()
            if told is not None and waiting and told.invoke == self.invoke and self._answer is not None:
                self._answer.set_result(told)
            else:
                self.counts.others += 1
                self._not_asked_for()

    def _not_asked_for(self) -> None:
        now_s = wall_s()
        if now_s - self._unasked_s >= 1.0:
            self._unasked, self._unasked_s = 0, now_s
        self._unasked += 1
        if self._unasked > UNASKED_MAX:
            self.drop(f"more than {UNASKED_MAX} datagrams in a second that nobody asked for")
