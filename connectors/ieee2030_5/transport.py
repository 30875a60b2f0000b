"""Asks a server of IEEE 2030.5 over TLS with a certificate on both sides; one request in flight.

No redirect is followed, wherever it leads; an answer has a time and a length. Answers are parsed by h11, as
those of other devices that speak HTTP are (docs/decisions/0015-http-answers.md).
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from connectors.expiry import Expiry
from connectors.http_json.answer import Answer
from connectors.http_json.session import Gone, Request, Session
from connectors.ieee2030_5.documents import BYTES_MAX
from connectors.ieee2030_5.identity import identity_of_der
from connectors.link import LinkError
from connectors.opcua.certificates import CertificateError
from connectors.tls import CIPHERS, Contexts, expiry_of, located, peer_of, weakness, words_of
from ems.errors import EmsError
from ems.utility import UtilityServer

AGENT = "hybrid-ems"
MEDIA = "application/sep+xml"
RETRY_S_MAX = 900.0
# The suite of the standard (6.7) and, before it, the same with a whole tag. OpenSSL counts the short tag
# as 64 bits, which it offers on level 0 alone; the leaf certificate is held to our own measure all the same.
CIPHERS_CCM8 = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"
)


class NoAnswer(EmsError):
    """A request has no answer that counts; says why.

    `status` is that of HTTP, 0: there was none. `retry_s`: it asks not to be asked before.
    """

    def __init__(self, why: str, status: int = 0, retry_s: float = 0.0) -> None:
        super().__init__(why)
        self.status, self.retry_s = status, retry_s


class Untrusted(NoAnswer):
    """Somebody else is there, or our own certificate cannot be used."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is there, proved by its certificate."""

    name: str
    common_name: str
    lfdi: str
    cipher: str


class Transport:
    """Requests to one server.

    Parameters
    ----------
    folder : files of the site are relative to it.
    now : aware time.
    """

    def __init__(self, server: UtilityServer, folder: Path, *, now: Callable[[], datetime]) -> None:
        self._server = server
        ciphers = CIPHERS_CCM8 if server.ccm8 else CIPHERS
        self.files = located(server.tls, folder)
        self._contexts = Contexts(self.files, server=False, now=now, ciphers=ciphers)
        self._session: Session | None = None
        self._peer_expiry: tuple[Expiry, ...] = ()
        self.peer: Peer | None = None
        self.asked = 0  # requests since the start

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """When certificates of both sides end."""
        return (*self._contexts.expiries, *self._peer_expiry)

    async def get(self, path: str) -> bytes:
        """A document. Asked once more where the connection was let go meanwhile. Raises NoAnswer."""
        try:
            answer = await self._ask("GET", path, b"")
        except _LetGo:
            answer = await self._ask("GET", path, b"")
        if answer.status != 200:
            raise _refused("GET", path, answer)
        kind = answer.headers.get("content-type", MEDIA).partition(";")[0].strip().lower()
        if kind not in (MEDIA, "application/xml", "text/xml"):
            raise NoAnswer(f"GET {path}: found {kind[:40]}; allowed: {MEDIA}")
        return answer.body

    async def put(self, path: str, body: bytes) -> None:
        """Replace a resource. Raises NoAnswer."""
        answer = await self._ask("PUT", path, body)
        if answer.status not in (200, 201, 204):
            raise _refused("PUT", path, answer)

    async def post(self, path: str, body: bytes) -> str:
        """Add a resource; where the server says that it is now, "": it does not say. Raises NoAnswer."""
        answer = await self._ask("POST", path, body)
        if answer.status not in (200, 201, 204):
            raise _refused("POST", path, answer)
        return answer.headers.get("location", "")

    def close(self) -> None:
        """End the connection."""
        if self._session is not None:
            self._session.drop("closed")
            self._session = None

    async def _ask(self, method: str, path: str, body: bytes) -> Answer:
        timeout_s = self._server.timeout_s
        self.asked += 1
        try:
            async with asyncio.timeout(timeout_s):
                session = await self._connected()
                return await session.ask(Request(self._head(method, path, body), b"", body), BYTES_MAX)
        except TimeoutError:
            self.close()
            raise NoAnswer(f"{method} {path}: no whole answer within {timeout_s:g} s") from None
        except Gone:
            self.close()
            raise _LetGo(f"{method} {path}: the server had let the connection go") from None
        except LinkError as error:
            self.close()
            raise NoAnswer(f"{method} {path}: {error}") from None
        except BaseException:
            self.close()
            raise

    def _head(self, method: str, path: str, body: bytes) -> bytes:
        headers: Mapping[str, str] = {
            "Host": self._server.where,
            "Accept": MEDIA,
            "User-Agent": AGENT,
            **({"Content-Type": MEDIA, "Content-Length": str(len(body))} if body else {}),
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, ""]).encode("ascii")

    async def _connected(self) -> Session:
        """The connection of before, or a new one to somebody who is trusted. Raises NoAnswer."""
        if self._session is not None and not self._session.broken:
            return self._session
        server, session = self._server, Session()
        try:
            context = await asyncio.to_thread(self._contexts.current)
        except CertificateError as error:
            raise Untrusted(str(error)) from None
        context.check_hostname = server.server_lfdi is None
        name = server.tls.server_name or server.host
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(
                lambda: session, server.host, server.port, ssl=context, server_hostname=name
            )
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise Untrusted(words_of(error, server.where, self.files.ca)) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise NoAnswer(f"cannot connect to {server.where}: {why}") from None
        try:
            self.peer = self._proved(session.certificate, transport.get_extra_info("cipher"))
            self._peer_expiry = (expiry_of(f"the certificate of {server.where}", session.certificate),)
        except (Untrusted, ValueError) as error:  # the latter: what it shows cannot be read
            session.drop("not trusted")
            raise Untrusted(f"{server.where}: {error}") from None
        self._session = session
        return session

    def _proved(self, der: bytes, cipher: Any) -> Peer:
        """Who is there. Raises Untrusted."""
        certificate = x509.load_der_x509_certificate(der)
        if why := weakness(certificate):
            raise Untrusted(f"its certificate {why}")
        lfdi, wanted = identity_of_der(der).lfdi, self._server.server_lfdi
        if wanted is not None and lfdi != wanted:
            raise Untrusted(f"its LFDI is {lfdi}; allowed: {wanted} (server_lfdi)")
        told = peer_of(der)
        return Peer(told.subject or "a certificate without a name", told.common_name, lfdi, str(cipher[0]))


class _LetGo(NoAnswer):
    """The server had closed the connection before the request came."""


def _refused(method: str, path: str, answer: Answer) -> NoAnswer:
    """Another status than was hoped for; a redirect is one of them."""
    where = answer.headers.get("location", "")
    moved = f", moved to {where[:80]!r}, which is not followed" if 300 <= answer.status < 400 else ""
    told = answer.headers.get("retry-after", "")
    retry_s = min(float(told), RETRY_S_MAX) if told.isascii() and told.isdigit() else 0.0
    return NoAnswer(f"{method} {path}: it answers {answer.status}{moved}", answer.status, retry_s)
