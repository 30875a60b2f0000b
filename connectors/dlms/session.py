"""One TCP connection to a meter: one APDU out, one in, each in its wrapper (IEC 62056-4-7)."""

import asyncio
import struct

from connectors.dlms.apdus import NOTIFICATIONS
from connectors.link import LinkError, NotSent
from connectors.wire_log import QUIET, Tap
from ems.clock import wall_s

_WRAPPER = struct.Struct(">HHHH")  # version, from, to, length
VERSION = 1
UNASKED_MAX = 100  # notifications of one connection; a meter that pushes more is no meter for us


class Session(asyncio.Protocol):
    """Whatever is not the right answer in time ends it, so that nothing late is ever matched.

    Parameters
    ----------
    client, server : wrapper ports, ours and that of the logical device.
    hide : bytes that are not shown to the tap: a password.
    tap : told every byte.
    """

    def __init__(self, *, client: int, server: int, hide: bytes = b"", tap: Tap = QUIET) -> None:
        self._client, self._server, self._hide, self._tap = client, server, hide, tap
        self.broken = "not connected"  # "": it is connected
        self.unsolicited = 0
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: asyncio.Future[bytes] | None = None

    async def exchange(self, apdu: bytes, until_s: float) -> bytes:
        """Send an APDU, and wait for the one that answers it until then [s wall]. Raises LinkError."""
        if self.broken:
            raise NotSent(self.broken)
        assert self._waiting is None, "one request at a time"
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting = waiting
        try:
            self._send(apdu)
            async with asyncio.timeout(max(0.0, until_s - wall_s())):
                return await waiting
        except TimeoutError:
            self.drop("no whole answer in time")
            raise LinkError(self.broken) from None
        except asyncio.CancelledError:
            self.drop("request cancelled")
            raise
        finally:
            if not waiting.cancel() and not waiting.cancelled():
                waiting.exception()  # it came while nobody waited any more
            self._waiting = None

    def drop(self, reason: str) -> None:
        """End the connection now, unsent bytes included; a request in flight ends with `reason`."""
        self.broken = self.broken or reason
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._tap.noted(reason)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(LinkError(self.broken))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.broken = transport, ""
        self._tap.noted("connected")

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop("connection lost")

    def data_received(self, data: bytes) -> None:
        self._tap.received(data)
        self._buffer += data
        try:
            while not self.broken and self._frame():
                pass
        except LinkError as error:
            self.drop(str(error))

    def _frame(self) -> bool:
        """Take one whole frame from the buffer; False where there is none. Raises LinkError."""
        if len(self._buffer) < _WRAPPER.size:
            return False
        version, source, destination, length = _WRAPPER.unpack_from(self._buffer)
        if version != VERSION:
            raise LinkError(f"no DLMS wrapper: {bytes(self._buffer[:2]).hex()}")
        if (source, destination) != (self._server, self._client):
            raise LinkError(f"a frame from {source} to {destination}, and not from the meter to us")
        if not length:
            raise LinkError("an empty frame")
        if len(self._buffer) < _WRAPPER.size + length:
            return False
        apdu = bytes(self._buffer[_WRAPPER.size : _WRAPPER.size + length])
        del self._buffer[: _WRAPPER.size + length]
        self._take(apdu)
        return True

    def _take(self, apdu: bytes) -> None:
        if apdu[0] in NOTIFICATIONS:
            self.unsolicited += 1
            if self.unsolicited > UNASKED_MAX:
                raise LinkError(f"more than {UNASKED_MAX} notifications that nobody asked for")
            return
        if self._waiting is None or self._waiting.done():
            raise LinkError("an answer to nothing that was asked")
        self._waiting.set_result(apdu)

    def _send(self, apdu: bytes) -> None:
        assert self._transport is not None, "the caller has looked"
        data = _WRAPPER.pack(VERSION, self._client, self._server, len(apdu)) + apdu
        self._transport.write(data)
        self._tap.sent(data.replace(self._hide, b"*" * len(self._hide)) if self._hide else data)
