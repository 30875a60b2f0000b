"""Asks a VTN of OpenADR 3 over TLS, with a token that our id and secret are changed for (RFC 6749, 4.4).

The secret goes to the place that the site file names and to nobody else: no redirect is followed, and what
the VTN says of where tokens are to be had is not asked for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from connectors.expiry import Expiry
from connectors.http_json.answer import Answer
from connectors.http_json.secure import located, read_credentials, unlike_pinned
from connectors.http_json.session import Session
from connectors.json_document import Malformed, parsed
from connectors.opcua.certificates import CertificateError
from connectors.passwords import password_of
from connectors.tls import expiry_of, peer_of
from connectors.utility.asker import Asker, NoAnswer, NotBelieved, Untrusted, dialled, refused
from ems.utility import VtnServer, host_and_port

MEDIA = ("application/json", "application/problem+json")
FORM = "application/x-www-form-urlencoded"
BYTES_MAX, TOKEN_BYTES_MAX = 2_000_000, 65_536
TOKEN_LETTERS_MAX = 8192
EARLY_S = 30.0  # a token is changed for another one so long before it ends
UNAUTHORIZED = 401


class Transport:
    """Requests to one VTN, and to whoever gives tokens for it.

    Parameters
    ----------
    folder : files of the site are relative to it.
    now : aware time.
    monotonic_s : seconds that only grow [s].
    """

    def __init__(
        self,
        server: VtnServer,
        folder: Path,
        *,
        now: Callable[[], datetime],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._server, self._folder, self._now, self._monotonic_s = server, folder, now, monotonic_s
        self._http = located(server.http, folder)
        self._token, self._token_end_s = "", 0.0
        self._expiries: dict[str, tuple[Expiry, ...]] = {}
        self.peer = ""  # who is there, by its certificate
        self.ahead_s: float | None = None  # clock of the VTN less ours, by its last answer; None: not told
        self._vtn = self._asker(server.host, server.port, BYTES_MAX)
        self._issuer = self._asker(server.token_host, server.token_port, TOKEN_BYTES_MAX)

    def _asker(self, host: str, port: int, bytes_max: int) -> Asker:
        async def dial() -> Session:
            return await self._connected(host, port)

        where = host_and_port(host, port)
        return Asker(where, dial, media=MEDIA, timeout_s=self._server.timeout_s, bytes_max=bytes_max)

    @property
    def asked(self) -> int:
        """Requests since the start."""
        return self._vtn.asked + self._issuer.asked

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """When certificates of the other side end."""
        return tuple(dict.fromkeys(e for some in self._expiries.values() for e in some))

    def secret(self) -> str:
        """Our secret. Raises Untrusted: it is not there, or others may read it."""
        s = self._server
        file = None if s.secret_file is None else str(self._folder / s.secret_file)
        try:
            found = password_of(s.client_id, s.secret_env, file)
        except CertificateError as error:
            raise Untrusted(str(error)) from None
        if not found:
            raise Untrusted(f"the secret of {s.client_id} is empty")
        return found

    async def get(self, path: str) -> Any:
        """The document at a path, with its query.

        Raises
        ------
        NoAnswer : there is none.
        NotBelieved : it is no sound JSON.
        """

        async def ask() -> Answer:
            return await self._vtn.get(path, secret=self._header())

        answer = await self._known_there(ask)
        self._look_at_clock(answer)
        return _document(answer, path.partition("?")[0])

    async def post(self, what: str, body: bytes) -> None:
        """Add an object to one of its lists. Raises NoAnswer, NotBelieved."""
        path = f"{self._server.path.rstrip('/')}/{what}"

        async def ask() -> Answer:
            answer = await self._vtn.ask("POST", path, body, secret=self._header())
            if answer.status not in (200, 201):
                raise refused("POST", path, answer)
            return answer

        await self._known_there(ask)

    async def _known_there(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask with a token; with another one where it was forgotten there. Raises NoAnswer, NotBelieved."""
        if not self._token or self._monotonic_s() >= self._token_end_s:
            await self._renew()
        try:
            return await ask()
        except NoAnswer as error:
            if error.status != UNAUTHORIZED:
                raise
        await self._renew()
        return await ask()

    def close(self) -> None:
        """End both connections."""
        self._vtn.close()
        self._issuer.close()

    def _header(self) -> bytes:
        return f"Authorization: Bearer {self._token}\r\n".encode("ascii")

    async def _renew(self) -> None:
        """Another token. Raises NoAnswer, NotBelieved."""
        s, self._token = self._server, ""
        form = {
            "grant_type": "client_credentials",
            "client_id": s.client_id,
            "client_secret": await asyncio.to_thread(self.secret),
            **({"scope": s.scope} if s.scope else {}),
        }
        answer = await self._issuer.ask("POST", s.token_path, urlencode(form).encode("ascii"), kind=FORM)
        if answer.status != 200:
            error = refused("POST", s.token_path, answer)
            raise NoAnswer(
                f"no token for {s.client_id}: {error}{_told(answer)}", answer.status, error.retry_s
            )
        self._take(_document(answer, s.token_path))

    def _take(self, told: Any) -> None:
        """A token and how long it is good. Raises NotBelieved."""
        where = self._server.token_path
        found = told if isinstance(told, dict) else {}
        token, kind, lasts_s = found.get("access_token"), found.get("token_type"), found.get("expires_in")
        if not isinstance(token, str) or not 0 < len(token) <= TOKEN_LETTERS_MAX:
            raise NotBelieved(f"{where}: it gives no token")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise NotBelieved(f"{where}: its token holds what no header may hold")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise NotBelieved(f"{where}: it gives a token that is no Bearer token")
        if lasts_s is not None and (
            isinstance(lasts_s, bool) or not isinstance(lasts_s, int | float) or not 0 <= lasts_s <= 1e9
        ):
            raise NotBelieved(f"{where}: expires_in: found {str(lasts_s)[:20]}; allowed: seconds")
        good_s = 1e9 if lasts_s is None else float(lasts_s)
        self._token = token
        self._token_end_s = self._monotonic_s() + good_s - min(EARLY_S, 0.5 * good_s)

    def _look_at_clock(self, answer: Answer) -> None:
        """By how much its clock is off, where it tells it (RFC 9110, 6.6.1)."""
        try:
            told = parsedate_to_datetime(answer.headers.get("date", ""))
        except (ValueError, TypeError, IndexError, OverflowError):
            self.ahead_s = None
            return
        aware = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
        self.ahead_s = (aware - self._now()).total_seconds()

    async def _connected(self, host: str, port: int) -> Session:
        """A new connection to somebody who is trusted. Raises NoAnswer."""
        try:
            known = await asyncio.to_thread(read_credentials, self._http, self._now())
        except CertificateError as error:
            raise Untrusted(str(error)) from None
        assert known.context is not None, "there is no plain one"
        whose = self._http.ca or "that of the operating system"
        another = self._server.http.server_name if host == self._server.host else None
        name = host if another is None else another
        session, _ = await dialled(host, port, known.context, name, whose)
        where = host_and_port(host, port)
        try:
            if fault := unlike_pinned(known, session.certificate):
                raise Untrusted(f"{where}: {fault}")
            ends = expiry_of(f"the certificate of {where}", session.certificate)
            if host == self._server.host and port == self._server.port:
                self.peer = peer_of(session.certificate).subject or "a certificate without a name"
        except ValueError as error:  # what it shows cannot be read
            session.drop("not trusted")
            raise Untrusted(f"{where}: {error}") from None
        except Untrusted:
            session.drop("not trusted")
            raise
        self._expiries[where] = (*known.expiries, ends)
        return session


def _document(answer: Answer, where: str) -> Any:
    """Raises NotBelieved."""
    try:
        return parsed(answer.body)
    except Malformed as error:
        raise NotBelieved(f"{where}: no JSON that can be believed: {ascii(str(error))[1:-1][:120]}") from None


def _told(answer: Answer) -> str:
    """What it says of its refusal (RFC 6749, 5.2)."""
    try:
        told = parsed(answer.body)
    except Malformed:
        return ""
    error = told.get("error") if isinstance(told, dict) else None
    return f", {ascii(error)[:60]}" if isinstance(error, str) else ""
