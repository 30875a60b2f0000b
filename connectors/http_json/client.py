"""HTTP link: the paths of a map are asked for one after the other, their documents read. Nothing is written.

Asked over asyncio, answers parsed by h11: why is in docs/decisions/0015-http-answers.md.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from connectors.expiry import Expiry
from connectors.http_json.answer import Answer
from connectors.http_json.secure import Credentials, peer_expiry, read_credentials, unlike_pinned
from connectors.http_json.session import Gone, Oversized, Request, Session
from connectors.json_document import Malformed, at_pointer, is_good, parsed, raw_value, stamp
from connectors.link import Latest, LinkError, PointValue, Refused, Untrusted, WriteReply, as_decided
from connectors.opcua.certificates import CertificateError
from connectors.plain_text import plain
from connectors.point_map import PointCodec
from connectors.tls import words_of
from connectors.wire_log import QUIET
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.http_json import PORT, PORT_TLS, HttpJson
from ems.site import Connection, IdentityField
from ems.telemetry import Quality

AGENT = "hybrid-ems"
WORDS_MAX = 120  # characters of what a device says, in a reason
RETRY_S_MAX = 60.0  # a device that asks for longer is asked again after this all the same
IDENTITY_S = 30.0  # a connection that was made again in between: who is there is asked at most so often
READ_ONLY = WriteReply(WriteOutcome.NOT_SENT, "http_json is read only")
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)


class _NoValue(Exception):
    """One path has no document that can be read; the connection is sound."""


@dataclass(slots=True)
class Counts:
    """What became of the requests."""

    answers: int = 0
    reconnects: int = 0  # the device closes the connection, which it may
    statuses: int = 0  # answers of another status than 200
    malformed: int = 0  # answers of another kind than JSON, or no such JSON
    oversized: int = 0
    unasked_bytes: int = 0


class HttpJsonLink:
    """One connection to a device.

    Parameters
    ----------
    codecs : its points; each address is the path of a request.
    http : its files are whole paths.
    timeout_s : of a request with all it needs: a connection, TLS, and the whole answer [s wall].
    now : aware time.
    """

    def __init__(
        self,
        connection: Connection,
        codecs: Sequence[PointCodec],
        *,
        http: HttpJson,
        host: str,
        port: int,
        timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._http, self._host, self._port = http, host, port
        self._timeout_s, self._now = timeout_s, now
        self._identity: tuple[IdentityField, ...] = connection.identity
        self._of_path: dict[str, list[PointCodec]] = {}
        for codec in codecs:
            self._of_path.setdefault(codec.point.address, []).append(codec)
        self.tap = QUIET
        self.expiries: tuple[Expiry, ...] = ()
        self.refused: dict[str, str] = {}  # point -> why it has no value
        self._credentials: Credentials | None = None
        self._session: Session | None = None
        self._not_before_s = 0.0  # it asked to be left alone until then, wall
        self._why_not = ""
        self._told: dict[str, str | None] = {}  # who it was, when it was asked last
        self._told_s = 0.0  # wall
        self._is_new = False  # the connection was made again since
        self._counts = Counts()

    @property
    def where(self) -> str:
        """Host and port, for a person."""
        return f"{self._host}:{self._port}"

    @property
    def connected(self) -> bool:
        return self._credentials is not None

    @property
    def counts(self) -> dict[str, int]:
        """What became of the requests since the start."""
        return asdict(self._counts)

    async def connect(self) -> None:
        await self.disconnect()
        if (left_s := self._not_before_s - wall_s()) > 0.0:
            raise LinkError(f"{self._why_not}; it is not asked for another {left_s:.0f} s")
        try:
            self._credentials = read_credentials(self._http, self._now())
            async with asyncio.timeout(self._timeout_s):
                await self._open(self._credentials)
        except CertificateError as error:
            await self.disconnect()
            raise Untrusted(str(error)) from None
        except TimeoutError:
            await self.disconnect()
            raise LinkError(f"cannot connect to {self.where} in {self._timeout_s:g} s") from None
        except BaseException:
            await self.disconnect()
            raise
        self._is_new = False

    async def _open(self, credentials: Credentials) -> Session:
        """A fresh connection to somebody who is trusted. Raises LinkError."""
        self._drop("made anew")
        session, loop = Session(self.tap), asyncio.get_running_loop()
        self._session = session
        name = None if credentials.context is None else self._http.server_name or self._host
        try:
            transport, _ = await loop.create_connection(
                lambda: session, self._host, self._port, ssl=credentials.context, server_hostname=name
            )
        except ssl.SSLError as error:
            raise Untrusted(words_of(error, self.where, self._authorities())) from None
        except (OSError, ValueError) as error:  # the last: a host name that is none
            raise LinkError(f"cannot connect to {self.where}: {_words(error)}") from None
        if fault := unlike_pinned(credentials, session.certificate):
            self._drop(fault)
            raise Untrusted(f"{self.where}: {fault}")
        peer = peer_expiry(self.where, transport.get_extra_info("ssl_object"))
        self.expiries = (*credentials.expiries, *peer)
        self._is_new = True
        return session

    def _authorities(self) -> str:
        return self._http.ca if self._http.protection == "authority" else "that of the operating system"

    async def identify(self) -> dict[str, str | None]:
        told: dict[str, str | None] = {}
        documents: dict[str, Any] = {}
        for field in self._identity:
            try:
                if field.address not in documents:
                    documents[field.address] = await self._document(field.address)
            except _NoValue as error:
                self._drop(str(error))
                raise LinkError(f"identity: GET {field.address}: {error}") from None
            told[field.name] = text_at(documents[field.address], field.pointer or "")
        self._told, self._told_s, self._is_new = told, wall_s(), False
        return told

    async def document(self, path: str) -> Any:
        """What one path answers. Raises LinkError, whatever is wrong with it."""
        try:
            return await self._document(path)
        except _NoValue as error:
            raise LinkError(f"GET {path}: {error}") from None

    async def read(self) -> dict[str, PointValue]:
        self.refused = {}
        out: dict[str, PointValue] = {}
        asked_s: dict[str, float] = {}  # by point, when its document was asked for, wall time
        for path, codecs in self._of_path.items():
            asked_s |= dict.fromkeys((c.point.point for c in codecs), wall_s())
            try:
                document = await self._document(path)
            except _NoValue as error:
                out |= {c.point.point: self._refuse(c, f"GET {path}: {error}") for c in codecs}
                continue
            out |= {c.point.point: self._value(c, document) for c in codecs}
        await self._same_device()
        now_s = wall_s()
        return {point: value._replace(age_s=now_s - asked_s[point]) for point, value in out.items()}

    async def _same_device(self) -> None:
        """Who is there, where the connection was made again since that was asked. Raises LinkError."""
        if self._identity and self._is_new and wall_s() - self._told_s >= IDENTITY_S:
            before = self._told
            if await self.identify() != before:
                self._drop("another device")
                raise LinkError("another device answers than before")

    async def _document(self, path: str) -> Any:
        """What a path answers. Raises _NoValue, and LinkError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask(path)
        except Oversized as error:
            self._counts.oversized += 1
            raise _NoValue(str(error)) from None
        except TimeoutError:
            self._drop("no whole answer in time")
            raise LinkError(f"GET {path}: no whole answer within {self._timeout_s:g} s") from None
        except (Untrusted, asyncio.CancelledError):
            self._drop("given up")
            raise
        except LinkError as error:
            self._drop(str(error))
            raise LinkError(f"GET {path}: {error}") from None
        self._counts.answers += 1
        self._look_at(path, answer)
        try:
            document = parsed(answer.body)
            if not isinstance(document, dict | list):  # a number that was cut short would look like another
                raise Malformed("neither an object nor a list")
        except Malformed as error:
            self._counts.malformed += 1
            raise _NoValue(f"no JSON that can be believed: {error}") from None
        return document

    async def _ask(self, path: str) -> Answer:
        """One GET; a second one where the device had closed the connection before it. Raises LinkError."""
        if self._credentials is None:
            raise LinkError("not connected")
        request = self._request(path, self._credentials.header)
        while True:
            session, is_used = self._session, True
            if session is None or session.broken:
                self._counts.reconnects += 1
                session, is_used = await self._open(self._credentials), False
            try:
                return await session.ask(request, self._http.answer_bytes_max)
            except Gone:
                if not is_used:
                    raise
            finally:
                self._counts.unasked_bytes += session.unasked
                session.unasked = 0

    def _request(self, path: str, secret: bytes) -> Request:
        host = f"[{self._host}]" if ":" in self._host else self._host
        usual = PORT_TLS if self._http.is_protected else PORT
        host = host if self._port == usual else f"{host}:{self._port}"
        lines = (
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            f"User-Agent: {AGENT}",
            f"Accept: {self._http.content_type}",
            "Accept-Encoding: identity",
            "Connection: keep-alive\r\n",
        )
        return Request("\r\n".join(lines).encode("ascii", "replace"), secret)

    def _look_at(self, path: str, answer: Answer) -> None:
        """Refuse an answer that is no document. Raises _NoValue; LinkError where it is not to be asked."""
        if answer.status != 200:
            self._counts.statuses += 1
            said = f"it answers {answer.status} {plain(answer.reason, WORDS_MAX)}".rstrip()
            if answer.status in (401, 407):
                self._drop(said)
                raise Refused(f"GET {path}: {said}: it does not believe who we are")
            if answer.status in (429, 503) and (wait_s := _retry_s(answer.headers.get("retry-after"))):
                self._not_before_s, self._why_not = wall_s() + wait_s, said
                self._drop(said)
                raise LinkError(f"GET {path}: {said}; it is not asked for {wait_s:g} s")
            moved = answer.headers.get("location") if 300 <= answer.status < 400 else None
            if moved is not None:
                said = f"{said}, moved to {plain(moved, WORDS_MAX)}: name that in the map, nobody is followed"
            raise _NoValue(said)
        packed = answer.headers.get("content-encoding", "identity").lower()
        kind, _, more = answer.headers.get("content-type", "").partition(";")
        kind = kind.strip().lower()
        wanted = self._http.content_type
        charset = _CHARSET.search(more)
        why = ""
        if packed != "identity":
            why = f"its answer is packed ({plain(packed, WORDS_MAX)}), which was not asked for"
        elif kind != wanted and not (wanted == "application/json" and kind.endswith("+json")):
            why = f"it answers {plain(kind, WORDS_MAX) or 'no content type'}, not {wanted}"
        elif charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
            why = f"it answers in {plain(charset[1], WORDS_MAX)}, not UTF-8"
        if why:
            self._counts.malformed += 1
            raise _NoValue(why)

    def _value(self, codec: PointCodec, document: Any) -> PointValue:
        try:
            told, raw = stamp(document, codec), raw_value(document, codec)
        except Malformed as error:
            return self._refuse(codec, str(error).partition(": ")[2])
        if raw is None:
            return self._refuse(codec, "it tells null", told)
        if not is_good(document, codec):
            return self._refuse(codec, "its quality is not one of `good`", told)
        number, quality = codec.from_raw(raw)
        if number is None and quality is Quality.DEVICE_BAD:
            return self._refuse(codec, f"{raw:g} is none of its codes", told)
        if told is not None and quality is Quality.GOOD:
            old_s = (self._now() - told).total_seconds()
            if old_s > codec.point.age_s_max:
                self.refused[codec.point.point] = f"its own time says that it is {old_s:.0f} s old"
                quality = Quality.STALE
        return PointValue(number, quality, told)

    def _refuse(self, codec: PointCodec, why: str, told: datetime | None = None) -> PointValue:
        self.refused[codec.point.point] = why
        return PointValue(None, Quality.DEVICE_BAD, told)

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return [READ_ONLY] * len(values)

    async def disconnect(self) -> None:
        self._drop("closed")
        self._credentials = None

    def _drop(self, reason: str) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.drop(reason)


def text_at(document: Any, pointer: str) -> str | None:
    """What a device says it is; None where it says nothing that is a text or a whole number."""
    found = at_pointer(document, pointer)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) and 0 < len(found) <= 200 and found.isprintable() else None


def _retry_s(told: str | None) -> float:
    """How long it is not to be asked [s]; a date is left to our own times."""
    if told is None or not (told.isascii() and told.isdigit()):
        return 0.0
    return min(float(told), RETRY_S_MAX)


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
