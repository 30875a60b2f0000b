"""One connection to a device: one request in flight, and nothing on it that was not asked for."""

import asyncio
import ssl
from dataclasses import dataclass

from connectors.http_json.answer import Answer, MalformedAnswer, Parser, TooLong
from connectors.link import LinkError
from connectors.wire_log import QUIET, Tap


class Gone(LinkError):
    """The device had closed the connection before the request came; it may be asked again on another one."""


class Oversized(LinkError):
    """The answer is longer than it may be; the connection is dropped."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as it is sent and as it may be shown."""

    head: bytes
    secret: bytes  # header with who we are; b"": none
    body: bytes = b""

    @property
    def sent(self) -> bytes:
        """All of it."""
        return self.head + self.secret + b"\r\n" + self.body

    @property
    def shown(self) -> bytes:
        """The same, as long, without the secret."""
        name, colon, value = self.secret.partition(b":")
        stars = b"*" * len(value.rstrip(b"\r\n"))
        return self.head + name + colon + stars + value[-2:] + b"\r\n" + self.body


class Session(asyncio.Protocol):
    """From connecting to the first error.

    Parameters
    ----------
    tap : told every byte, but not who we are.
    """

    def __init__(self, tap: Tap = QUIET) -> None:
        self._tap = tap
        self.broken = "not connected"  # "": it may be used
        self.unasked = 0  # bytes that came while nothing was asked
        self._transport: asyncio.Transport | None = None
        self._parser: Parser | None = None
        self._whole: asyncio.Future[Answer] | None = None
        self._asked = 0

    @property
    def certificate(self) -> bytes:
        """What the device has shown, DER; b"": nothing."""
        known = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        shown = known.getpeercert(binary_form=True) if isinstance(known, ssl.SSLObject) else None
        return shown or b""

    async def ask(self, request: Request, body_bytes_max: int) -> Answer:
        """Send a request and wait for its whole answer; the caller ends what takes too long.

        Raises
        ------
        Gone : on a connection that was used before, and not one byte came.
        Oversized : a longer body than that.
        LinkError : no sound answer.
        """
        if self.broken or self._transport is None:
            raise LinkError(self.broken or "not connected")
        parser, whole = Parser(body_bytes_max), asyncio.get_running_loop().create_future()
        self._parser, self._whole = parser, whole
        self._asked += 1
        self._transport.write(request.sent)
        self._tap.sent(request.shown)
        try:
            answer: Answer = await whole
        except asyncio.CancelledError:
            self.drop("the request was given up")
            raise
        finally:
            self._parser = self._whole = None
        if not answer.keeps:
            self.drop("closed after its answer")
        return answer

    def drop(self, reason: str) -> None:
        """End the connection now; a request in flight ends with `reason`."""
        self._fail(LinkError(reason))

    def _fail(self, error: LinkError) -> None:
        self.broken = self.broken or str(error)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._tap.noted(str(error))
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.broken = transport, ""
        self._tap.noted("connected")

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._tap.received(data)
        parser, whole = self._parser, self._whole
        if parser is None or whole is None or whole.done():
            self.unasked += len(data)
            self.drop("it tells what nobody asked for")
            return
        try:
            answer = parser.feed(data)
        except TooLong as error:
            self._fail(Oversized(str(error)))
        except MalformedAnswer as error:
            self._fail(LinkError(str(error)))
        else:
            self._take(parser, answer)

    def _take(self, parser: Parser, answer: Answer | None) -> None:
        if answer is None or self._whole is None or self._whole.done():
            return
        if parser.rest:
            self.unasked += parser.rest
            self._fail(LinkError(f"its answer is {parser.rest} bytes longer than it says"))
            return
        self._whole.set_result(answer)

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)

    def _ended(self, exc: Exception | None) -> None:
        parser, whole = self._parser, self._whole
        if parser is not None and whole is not None and not whole.done():
            if parser.is_empty:
                kind = Gone if self._asked > 1 else LinkError
                self._fail(kind("it closes the connection without an answer"))
                return
            try:
                if exc is not None:
                    raise MalformedAnswer(f"its answer breaks off: {exc}")
                answer = parser.end()
                if answer is not None:
                    whole.set_result(answer)
            except MalformedAnswer as error:
                self._fail(LinkError(str(error)))
                return
        self.drop("the device has closed the connection")
