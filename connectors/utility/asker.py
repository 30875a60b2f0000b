"""Requests to a server of a utility, one in flight: each answer has a time and a length, no redirect counts.

Answers are parsed by h11, as those of devices that speak HTTP are (docs/decisions/0015-http-answers.md).
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping

from connectors.http_json.answer import Answer
from connectors.http_json.session import Gone, Request, Session
from connectors.link import LinkError
from connectors.tls import words_of
from ems.errors import EmsError
from ems.utility import host_and_port

AGENT = "hybrid-ems"
RETRY_S_MAX = 900.0
SHOWN_MAX = 80


class NoAnswer(EmsError):
    """A request has no answer that counts; says why.

    `status` is that of HTTP, 0: there was none. `retry_s`: it asks not to be asked before.
    """

    def __init__(self, why: str, status: int = 0, retry_s: float = 0.0) -> None:
        super().__init__(why)
        self.status, self.retry_s = status, retry_s


class Untrusted(NoAnswer):
    """Somebody else is there, or our own credentials cannot be used."""


class NotServed(NoAnswer):
    """The server answers, but not for us: it does not know us, or as somebody else."""


class NotBelieved(EmsError):
    """What came is no document of the standard, or none that is believed; says why."""


class LetGo(NoAnswer):
    """The server had closed the connection before the request came."""


async def dialled(
    host: str, port: int, context: ssl.SSLContext, name: str, ca: str
) -> tuple[Session, asyncio.Transport]:
    """A connection to whoever is there, by TLS.

    Parameters
    ----------
    name : host in the server's certificate.
    ca : who signed it, for a person.

    Raises
    ------
    Untrusted : the certificate is not one that counts.
    NoAnswer : nobody is there.
    """
    session, where = Session(), host_and_port(host, port)
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: session, host, port, ssl=context, server_hostname=name
        )
    except (ssl.SSLError, ssl.CertificateError) as error:
        raise Untrusted(words_of(error, where, ca)) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoAnswer(f"cannot connect to {where}: {why}") from None
    return session, transport


class Asker:
    """Requests to one host.

    Parameters
    ----------
    where : host and port, as in a URL.
    dial : a new connection to somebody who is trusted. Raises NoAnswer.
    media : the types of documents that are wanted; what is sent is of the first.
    bytes_max : a longer body is refused.
    """

    def __init__(
        self,
        where: str,
        dial: Callable[[], Awaitable[Session]],
        *,
        media: tuple[str, ...],
        timeout_s: float,
        bytes_max: int,
    ) -> None:
        self._where, self._dial, self._media = where, dial, media
        self._timeout_s, self._bytes_max = timeout_s, bytes_max
        self._session: Session | None = None
        self.asked = 0  # requests since the start

    async def get(self, path: str, *, secret: bytes = b"") -> Answer:
        """A document, status 200. Asked once more where the connection was let go meanwhile.

        Parameters
        ----------
        secret : a header with who we are, and its line end.

        Raises
        ------
        NoAnswer : another status, no answer, or one of another type.
        """
        try:
            answer = await self.ask("GET", path, secret=secret)
        except LetGo:
            answer = await self.ask("GET", path, secret=secret)
        if answer.status != 200:
            raise refused("GET", path, answer)
        kind = answer.headers.get("content-type", self._media[0]).partition(";")[0].strip().lower()
        if kind not in self._media:
            raise NoAnswer(f"GET {path}: found {kind[:40]}; allowed: {self._media[0]}")
        if (packed := answer.headers.get("content-encoding", "identity").lower()) != "identity":
            raise NoAnswer(f"GET {path}: its answer is packed ({packed[:40]}), which was not asked for")
        return answer

    async def send(self, method: str, path: str, body: bytes, *, kind: str = "") -> Answer:
        """Have the server take something. Raises NoAnswer."""
        answer = await self.ask(method, path, body, kind=kind)
        if answer.status not in (200, 201, 204):
            raise refused(method, path, answer)
        return answer

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, secret: bytes = b"", kind: str = ""
    ) -> Answer:
        """One request and its answer, whatever its status. Raises NoAnswer."""
        self.asked += 1
        shown = path.partition("?")[0]
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._session is None or self._session.broken:
                    self._session = await self._dial()
                head = self._head(method, path, body, kind or self._media[0])
                return await self._session.ask(Request(head, secret, body), self._bytes_max)
        except TimeoutError:
            self.close()
            raise NoAnswer(f"{method} {shown}: no whole answer within {self._timeout_s:g} s") from None
        except Gone:
            self.close()
            raise LetGo(f"{method} {shown}: the server had let the connection go") from None
        except LinkError as error:
            self.close()
            raise NoAnswer(f"{method} {shown}: {error}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection."""
        if self._session is not None:
            self._session.drop("closed")
            self._session = None

    def _head(self, method: str, path: str, body: bytes, kind: str) -> bytes:
        headers: Mapping[str, str] = {
            "Host": self._where,
            "Accept": self._media[0],
            "User-Agent": AGENT,
            **({"Content-Type": kind, "Content-Length": str(len(body))} if body else {}),
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, ""]).encode("ascii")


def refused(method: str, path: str, answer: Answer) -> NoAnswer:
    """Another status than was hoped for; a redirect is one of them."""
    where = answer.headers.get("location", "")
    moved = f", moved to {where[:SHOWN_MAX]!r}, which is not followed" if 300 <= answer.status < 400 else ""
    told = answer.headers.get("retry-after", "")
    retry_s = min(float(told), RETRY_S_MAX) if told.isascii() and told.isdigit() else 0.0
    why = f"{method} {path.partition('?')[0]}: it answers {answer.status}{moved}"
    return NoAnswer(why, answer.status, retry_s)
