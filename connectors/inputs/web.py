"""Asking a URL: with a limit of time for the whole answer, a limit of size, and a server known by its name.

No redirect is followed, no proxy of the environment is used, nothing packed is unpacked: what is asked is
what is in the site file, and a token goes nowhere else.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from connectors.opcua.certificates import CertificateError
from connectors.passwords import password_of
from ems.clock import wall_s
from ems.errors import EmsError
from ems.inputs import InputParams

BLOCK = 65536
AGENT = "hybrid-ems"
RETRY_S_MAX = 6 * 3600.0


class FetchError(EmsError):
    """The source was asked in vain; says why. `retry_s`: it asks not to be asked before."""

    def __init__(self, why: str, retry_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_s = retry_s


class Answer(NamedTuple):
    """What came. `body` is None where nothing has changed since the marks were given."""

    body: bytes | None
    etag: str | None
    modified: str | None


class Web:
    """Asks one input's URL again and again; remembers what the server marked its last answer with.

    Parameters
    ----------
    folder : files of the site are relative to it.
    """

    def __init__(self, params: InputParams, folder: Path) -> None:
        assert params.url is not None
        self._params, self._folder = params, folder
        self._parts = urlsplit(params.url)
        self._etag: str | None = None
        self._modified: str | None = None

    def ask(self) -> Answer:
        """Ask once.

        Raises
        ------
        FetchError : no answer in time, another status than 200 or 304, too long, or no trust in the server.
        """
        deadline_s = wall_s() + self._params.timeout_s
        headers, context = self._headers(), self._context()
        line = _Line()
        overdue = threading.Timer(self._params.timeout_s, line.cut)
        overdue.daemon = True
        overdue.start()
        try:
            connection = self._connected(line, context)
            connection.request("GET", self._target(), headers=headers)
            with contextlib.closing(connection.getresponse()) as response:
                answer = self._answer(response)
        except ssl.SSLCertVerificationError as error:
            raise FetchError(f"its certificate is not trusted: {error.verify_message}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # the last: a name that is none
            if wall_s() >= deadline_s - 0.05 or isinstance(error, TimeoutError):
                raise FetchError(f"no whole answer within {self._params.timeout_s:g} s") from None
            raise FetchError(_reason(error)) from None
        finally:
            overdue.cancel()
            line.close()
        return answer

    def believed(self, answer: Answer) -> None:
        """What came was taken: it is not wanted again. What is refused is asked for anew."""
        self._etag, self._modified = answer.etag, answer.modified

    def _context(self) -> ssl.SSLContext | None:
        if self._parts.scheme == "http":
            return None
        try:
            ca = None if self._params.ca is None else str(self._folder / self._params.ca)
            context = ssl.create_default_context(cafile=ca)
        except OSError as error:
            raise FetchError(f"{self._params.ca}: {error.strerror or error}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _connected(self, line: "_Line", context: ssl.SSLContext | None) -> http.client.HTTPConnection:
        """The line is at hand before the server says its first word, so that it can be cut at any time."""
        host = self._parts.hostname or ""
        port = self._parts.port or (80 if context is None else 443)
        line.held = socket.create_connection((host, port), self._params.timeout_s)
        if context is None:
            connection = http.client.HTTPConnection(host, port)
        else:
            secured = context.wrap_socket(line.held, server_hostname=host, do_handshake_on_connect=False)
            line.held = secured
            secured.do_handshake()
            connection = http.client.HTTPSConnection(host, port, context=context)
        connection.sock = line.held
        return connection

    def _target(self) -> str:
        query = f"?{self._parts.query}" if self._parts.query else ""
        return f"{self._parts.path or '/'}{query}"

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity", "Connection": "close"}
        if self._etag is not None:
            headers["If-None-Match"] = self._etag
        if self._modified is not None:
            headers["If-Modified-Since"] = self._modified
        p = self._params
        file = None if p.token_file is None else str(self._folder / p.token_file)
        try:
            token = password_of(f"input {p.id}", p.token_env, file)
        except CertificateError as error:
            raise FetchError(str(error)) from None
        if token is not None:
            if not token or not token.isascii() or not token.isprintable():
                raise FetchError("its token is empty, or holds what no header may hold")
            headers[p.auth_header] = f"{p.auth_scheme} {token}".strip()
        return headers

    def _answer(self, response: http.client.HTTPResponse) -> Answer:
        if response.status == 304:
            return Answer(None, self._etag, self._modified)
        if response.status != 200:
            where = response.getheader("Location")
            moved = f", moved to {where}: name that in the site file" if where else ""
            retry_s = _retry_s(response.getheader("Retry-After"))
            raise FetchError(f"it answers {response.status} {response.reason}{moved}", retry_s)
        packed = response.getheader("Content-Encoding", "identity")
        if packed != "identity":
            raise FetchError(f"its answer is packed ({packed}), which was not asked for")
        parts, size = list[bytes](), 0
        while block := response.read(BLOCK):
            parts.append(block)
            size += len(block)
            if size > self._params.bytes_max:
                raise FetchError(f"its answer is longer than {self._params.bytes_max} bytes")
        if response.length:
            raise http.client.IncompleteRead(b"".join(parts), response.length)
        return Answer(b"".join(parts), response.getheader("ETag"), response.getheader("Last-Modified"))


class _Line:
    """What leads to the server; cut by another thread where it drags its answer out."""

    held: socket.socket | None = None

    def cut(self) -> None:
        """End it, in whatever state it is."""
        if self.held is not None:
            with contextlib.suppress(OSError):  # it is gone already
                self.held.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give it back."""
        if self.held is not None:
            self.held.close()


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, socket.gaierror):
        return f"no such host: {error.strerror}"
    if isinstance(error, http.client.IncompleteRead):
        return f"its answer breaks off after {len(error.partial)} bytes"
    if isinstance(error, http.client.HTTPException):
        return f"it speaks no HTTP that is understood: {type(error).__name__}"
    return str(getattr(error, "strerror", None) or error)


def _retry_s(told: str | None) -> float | None:
    """Seconds, or nothing; a date is left to our own times."""
    if told is None or not (told.isascii() and told.isdigit()):
        return None
    return min(float(told), RETRY_S_MAX)
