"""An answer of HTTP/1.1 from the bytes of its connection. No I/O; whatever is not sound is refused by name.

Source: RFC 9112 (message syntax), RFC 9110 (fields). Where they leave a choice that a wrong length could hide
behind, it is refused: two lengths, a length and chunks, folded lines, other codings than chunked.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass

HEAD_BYTES_MAX = 16384  # of the status line and all headers, of an answer and of those before it
HEADERS_MAX = 100
WIRE_RATIO = 8  # bytes on the wire for one of a body, which may come in very small chunks
INTERIM_MAX = 3  # answers of status 1xx before the one that counts
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(r"[0-9]{1,15}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


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
    """Takes the bytes of one answer as they come.

    Parameters
    ----------
    body_bytes_max : a longer body is refused as soon as that is known.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self._bytes_max = body_bytes_max
        self._buffer = bytearray()
        self._looked = 0  # so far there is no line end
        self._head_left = HEAD_BYTES_MAX
        self._closed = False
        self._taken = 0  # bytes, in all
        self._run = self._answer()
        next(self._run)

    @property
    def is_empty(self) -> bool:
        """Not one byte has come."""
        return self._taken == 0

    @property
    def rest(self) -> int:
        """Bytes behind the answer."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Answer | None:
        """More bytes have come; the answer where it is whole now. Raises MalformedAnswer."""
        self._taken += len(data)
        self._buffer += data
        answer = self._advance()
        if answer is None and self._taken > HEAD_BYTES_MAX + WIRE_RATIO * self._bytes_max:
            raise TooLong(f"its answer is longer than {self._bytes_max} bytes, most of it no body")
        return answer

    def end(self) -> Answer | None:
        """Nothing comes any more. Raises MalformedAnswer: it is cut short."""
        self._closed = True
        return self._advance()

    def _advance(self) -> Answer | None:
        try:
            next(self._run)
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        return None

    def _answer(self) -> Generator[None, None, Answer]:
        for _ in range(INTERIM_MAX + 1):
            line = yield from self._line()
            said = _STATUS.fullmatch(line)
            if said is None:
                raise MalformedAnswer(f"no HTTP/1.1: it begins with {_shown(line)}")
            status = int(said[2])
            headers = yield from self._headers()
            if status >= 200:
                break
            if status == 101:
                raise MalformedAnswer("it changes to another protocol, which nobody asked for")
        else:
            raise MalformedAnswer(f"more than {INTERIM_MAX} answers of status 1xx")
        asked = {word.strip().lower() for word in headers.get("connection", "").split(",")}
        keeps = "keep-alive" in asked if said[1] == b"0" else "close" not in asked
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is not None:
            body = yield from self._chunks(coding, length)
        elif status in (204, 304):
            body = b""
        elif length is not None:
            body = yield from self._known_length(length)
        else:
            keeps, body = False, (yield from self._until_closed())
        return Answer(status, (said[3] or b"").decode("latin-1"), headers, body, keeps)

    def _headers(self) -> Generator[None, None, dict[str, str]]:
        out: dict[str, str] = {}
        for _ in range(HEADERS_MAX + 1):
            line = yield from self._line()
            if not line:
                return out
            found = _HEADER.fullmatch(line)
            if found is None:
                raise MalformedAnswer(f"a header that is none: {_shown(line)}")
            name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1").strip()
            before = out.setdefault(name, value)
            if before != value:
                if name in ("content-length", "content-type", "transfer-encoding", "content-encoding"):
                    raise MalformedAnswer(f"two headers {name} that contradict each other")
                out[name] = f"{before}, {value}"
        raise MalformedAnswer(f"more than {HEADERS_MAX} headers")

    def _known_length(self, length: str) -> Generator[None, None, bytes]:
        if _LENGTH.fullmatch(length) is None:
            raise MalformedAnswer(f"a length that is none: {_shown(length.encode('latin-1'))}")
        self._refuse_over(int(length))
        return (yield from self._bytes(int(length)))

    def _chunks(self, coding: str, length: str | None) -> Generator[None, None, bytes]:
        if length is not None:
            raise MalformedAnswer("both a length and a transfer coding")
        if coding.lower() != "chunked":
            told = _shown(coding.encode("latin-1"))
            raise MalformedAnswer(f"a transfer coding that was not asked for: {told}")
        body = bytearray()
        while True:
            self._head_left = max(self._head_left, 1024)
            line = yield from self._line()
            found = _CHUNK.fullmatch(line)
            if found is None:
                raise MalformedAnswer(f"a chunk that is none: {_shown(line)}")
            size = int(found[1], 16)
            if size == 0:
                break
            self._refuse_over(len(body) + size)
            body += yield from self._bytes(size)
            end = yield from self._bytes(1)
            if end == b"\r":
                end = yield from self._bytes(1)
            if end != b"\n":
                raise MalformedAnswer(f"a chunk that is longer than its {size} bytes")
        yield from self._headers()
        return bytes(body)

    def _until_closed(self) -> Generator[None, None, bytes]:
        while not self._closed:
            self._refuse_over(len(self._buffer))
            yield
        body = bytes(self._buffer)
        self._buffer.clear()
        return body

    def _refuse_over(self, size: int) -> None:
        if size > self._bytes_max:
            raise TooLong(f"its answer is longer than {self._bytes_max} bytes")

    def _bytes(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < count:
            self._refuse_closed()
            yield
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._looked = 0
        return taken

    def _line(self) -> Generator[None, None, bytes]:
        """One line without its end, which is CR LF, or LF alone (RFC 9112, 2.2)."""
        while (end := self._buffer.find(b"\n", self._looked)) < 0:
            self._looked = len(self._buffer)
            if self._looked > self._head_left:
                raise MalformedAnswer(f"headers of more than {HEAD_BYTES_MAX} bytes")
            self._refuse_closed()
            yield
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._looked = 0
        self._head_left -= end + 1
        if self._head_left < 0:
            raise MalformedAnswer(f"headers of more than {HEAD_BYTES_MAX} bytes")
        return line

    def _refuse_closed(self) -> None:
        if self._closed:
            raise MalformedAnswer(f"its answer breaks off after {self._taken} bytes")


def _shown(raw: bytes) -> str:
    return repr(raw[:40].decode("latin-1"))
