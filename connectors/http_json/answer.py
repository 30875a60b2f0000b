"""An answer of HTTP/1.1 from the bytes of its connection, parsed by h11. No I/O.

h11 keeps to RFC 9112. Where that leaves a choice that a wrong length could hide behind, more is refused here:
a length and chunks, headers that contradict each other, answers longer than they may be.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import h11

HEAD_BYTES_MAX = 16384  # of the status line and all headers
HEADERS_MAX = 100
WIRE_RATIO = 8  # bytes on the wire for one of a body, which may come in very small chunks
INTERIM_MAX = 3  # answers of status 1xx before the one that counts
ONCE = {"content-type", "content-encoding", "transfer-encoding", "content-length"}


class MalformedAnswer(Exception):
    """What comes is no answer of HTTP, or is cut short."""


class TooLong(MalformedAnswer):
    """The answer is longer than it may be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    reason: str
    headers: dict[str, str]  # lower-case name -> value
    body: bytes
    keeps: bool  # the connection may be used again


class Parser:
    """Takes the bytes of the answer to one GET as they come.

    Parameters
    ----------
    body_bytes_max : a longer body is refused as soon as that is known.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self._bytes_max = body_bytes_max
        self._wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._wire.send(h11.Request(method="GET", target="/", headers=[("Host", "device")]))
        self._wire.send(h11.EndOfMessage())  # so that it knows what is answered; the session sends its own
        self._head: h11.Response | None = None
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._interim = self._taken = 0

    @property
    def is_empty(self) -> bool:
        """Not one byte has come."""
        return self._taken == 0

    @property
    def rest(self) -> int:
        """Bytes behind the answer."""
        return len(self._wire.trailing_data[0])

    def feed(self, data: bytes) -> Answer | None:
        """More bytes have come; the answer where it is whole now. Raises MalformedAnswer."""
        self._taken += len(data)
        self._wire.receive_data(data)
        answer = self._advance()
        if answer is None and self._taken > HEAD_BYTES_MAX + WIRE_RATIO * self._bytes_max:
            raise TooLong(f"its answer is longer than {self._bytes_max} bytes, most of it no body")
        return answer

    def end(self) -> Answer | None:
        """Nothing comes any more. Raises MalformedAnswer: it is cut short."""
        self._wire.receive_data(b"")
        try:
            return self._advance()
        except MalformedAnswer:
            raise MalformedAnswer(f"its answer breaks off after {self._taken} bytes") from None

    def _advance(self) -> Answer | None:
        while True:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                raise MalformedAnswer(f"no sound HTTP: {error}") from None
            match event:
                case h11.InformationalResponse():
                    self._interim += 1
                    if self._interim > INTERIM_MAX:
                        raise MalformedAnswer(f"more than {INTERIM_MAX} answers of status 1xx")
                case h11.Response():
                    self._head, self._headers = event, _headers(event.headers)
                    self._refuse_over(int(self._headers.get("content-length", 0)))
                case h11.Data():
                    self._body += event.data
                    self._refuse_over(len(self._body))
                case h11.EndOfMessage():
                    return self._whole()
                case h11.NEED_DATA:
                    return None
                case _:
                    raise MalformedAnswer("it says nothing more")

    def _whole(self) -> Answer:
        assert self._head is not None, "an answer ends after it has begun"
        keeps = self._wire.their_state is h11.DONE
        reason = bytes(self._head.reason).decode("latin-1")
        return Answer(self._head.status_code, reason, self._headers, bytes(self._body), keeps)

    def _refuse_over(self, size: int) -> None:
        if size > self._bytes_max:
            raise TooLong(f"its answer is longer than {self._bytes_max} bytes")


def _headers(told: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Raises MalformedAnswer: too many, or two that contradict each other."""
    rows = [(name.decode("ascii"), value.decode("latin-1")) for name, value in told]
    if len(rows) > HEADERS_MAX:
        raise MalformedAnswer(f"more than {HEADERS_MAX} headers")
    if sum(len(name) + len(value) + 4 for name, value in rows) > HEAD_BYTES_MAX:
        raise MalformedAnswer(f"headers of more than {HEAD_BYTES_MAX} bytes")
    out: dict[str, str] = {}
    for name, value in rows:
        before = out.setdefault(name, value)
        if before != value:
            if name in ONCE:
                raise MalformedAnswer(f"two headers {name} that contradict each other")
            out[name] = f"{before}, {value}"
    if "transfer-encoding" in out and "content-length" in out:
        raise MalformedAnswer("both a length and a transfer coding")
    return out
