"""An association with a meter: made, proved, read through, released. Source: IEC 62056-5-3."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from connectors.dlms import apdus, requests
from connectors.dlms.apdus import Agreed, Block, Denied, Exceptional, Result, Welcome
from connectors.dlms.cipher import Cipher
from connectors.dlms.counter import Counter
from connectors.dlms.data import OCTETS, Malformed
from connectors.dlms.requests import Asked
from connectors.dlms.session import Session
from connectors.link import LinkError, Refused, Untrusted
from connectors.opcua.certificates import CertificateError
from connectors.passwords import password_of
from connectors.wire_log import Tap
from ems.clock import wall_s
from ems.dlms import Dlms

CHALLENGE_BYTES = 16
PASSWORD_BYTES_MAX = 64
TOTAL_BYTES_MAX = 4_000_000  # of the blocks of one answer
LIST_MAX = 100  # attributes of one request
_HEAD_BYTES, _ROW_BYTES, _CIPHER_BYTES = 6, 10, 40  # of a request with a list, and what ciphering adds
_RELEASE_S = 0.5  # for the meter's word that it has let go
_OWN_TITLES = (8, 64)  # bytes of a challenge


class ListRefused(LinkError):
    """The meter answers no request with a list."""


def secret_of(settings: Dlms) -> bytes:
    """The password of low; empty otherwise. Raises Untrusted."""
    if settings.authentication != "low":
        return b""
    try:
        text = password_of("the meter", settings.password_env, settings.password_file)
    except CertificateError as error:
        raise Untrusted(str(error)) from None
    password = (text or "").encode()
    if not 1 <= len(password) <= PASSWORD_BYTES_MAX:
        raise Untrusted(f"a password of {len(password)} bytes; allowed: 1 to {PASSWORD_BYTES_MAX}")
    return password


class Association:
    """One at a time, since a meter takes one client.

    Parameters
    ----------
    settings : who is spoken to and how we are known; files as whole paths.
    timeout_s : of each request with its whole answer, all its blocks included [s wall].
    tap : told every byte.
    """

    def __init__(self, settings: Dlms, *, timeout_s: float, tap: Tap) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._secret = secret_of(settings)
        self._counter: Counter | None = None
        self._cipher: Cipher | None = None
        if settings.authentication == "gmac":
            assert settings.counter_file is not None, "the site schema wants it with gmac"
            self._counter = Counter(Path(settings.counter_file))
            self._cipher = Cipher(settings, self._counter)
        self.session = Session(client=settings.client, server=settings.server, hide=self._secret, tap=tap)
        self._agreed = Agreed(0, 0)
        self._invoke = 0
        self._stands = False
        self._merged = True  # it has refused no list

    @property
    def usable(self) -> bool:
        """Whether it stands."""
        return self._stands and not self.session.broken

    @property
    def takes_lists(self) -> bool:
        """Whether requests with a list were agreed."""
        return bool(self._agreed.conformance & apdus.MULTIPLE)

    @property
    def selects(self) -> bool:
        """Whether a part of an attribute may be asked for."""
        return bool(self._agreed.conformance & apdus.SELECTIVE)

    async def open(self, host: str, port: int) -> None:
        """Connect and associate. Raises LinkError, OSError and TimeoutError."""
        if self._counter is not None:
            await asyncio.to_thread(self._counter.draw)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            await loop.create_connection(lambda: self.session, host, port)
        try:
            await self._associate()
        except (Malformed, _Excepted) as error:
            raise LinkError(f"association: {error}") from None
        self._stands = True

    async def _associate(self) -> None:
        way, cipher = self._settings.authentication, self._cipher
        challenge = os.urandom(CHALLENGE_BYTES)
        if cipher is None:
            aarq = requests.associate(way, self._secret, b"")
        else:
            aarq = requests.associate(way, challenge, cipher.title, *cipher.initiate())
        welcome = apdus.welcome_of(_not_exceptional(await self._exchange(aarq)))
        if welcome.result:
            kind = Refused if welcome.diagnosis in apdus.OF_WHO_WE_ARE else LinkError
            raise kind(f"the meter refuses the association: {welcome.why}")
        wanted = apdus.PLAIN if cipher is None else apdus.CIPHERED
        if welcome.context != wanted:
            raise Malformed(f"application context {welcome.context}, where {wanted} was asked for")
        if cipher is None:
            if welcome.diagnosis == 14:
                raise Refused("the meter refuses the association: it wants high-level authentication")
            self._agree(welcome.information)
            return
        if welcome.mechanism != apdus.GMAC:
            raise Untrusted(f"the meter answers with authentication mechanism {welcome.mechanism}, not GMAC")
        await self._prove(cipher, welcome, challenge)

    async def _prove(self, cipher: Cipher, welcome: Welcome, challenge: bytes) -> None:
        """Passes 3 and 4: each side answers the other's challenge."""
        low, high = _OWN_TITLES
        if not low <= len(welcome.challenge) <= high or welcome.challenge == challenge:
            raise Malformed("a challenge that is none, or our own")
        cipher.meet(welcome.title)
        self._agree(cipher.welcome(welcome.information))
        cipher.general = bool(self._agreed.conformance & apdus.PROTECTION)
        invoke = self._next()
        answer = await self._ask(requests.reply_to_challenge(cipher.proof(welcome.challenge), invoke))
        told = apdus.action_response(answer, invoke)
        if isinstance(told, Denied):
            raise Refused("the meter refuses our proof: other keys, system title or client address")
        proof = told.value
        if told.tag != OCTETS or not isinstance(proof, bytes) or not cipher.is_proved(proof, challenge):
            raise Untrusted("the meter cannot prove that it has our keys")

    def _agree(self, information: bytes) -> None:
        self._agreed = apdus.agreed_of(information)
        if not self._agreed.conformance & apdus.GET:
            raise Malformed("GET was not agreed")

    async def get(self, asked: Sequence[Asked], *, merged: bool) -> list[Result]:
        """Each attribute: what it is, or why it is not told.

        Parameters
        ----------
        merged : with lists, as many attributes in one request as the meter takes.

        Raises
        ------
        ListRefused : it answers no lists; the association stands.
        LinkError : an answer cannot be believed; the connection is dropped.
        """
        size = self._list_size() if merged and self.takes_lists else 1
        results: list[Result] = []
        for start in range(0, len(asked), size):
            results += await self._get(list(asked[start : start + size]))
        return results

    async def get_all(self, asked: Sequence[Asked]) -> list[Result]:
        """The same, one by one where it answers no lists. Raises LinkError."""
        try:
            return await self.get(asked, merged=self._merged)
        except ListRefused:
            self._merged = False
            return await self.get(asked, merged=False)

    def _list_size(self) -> int:
        """How many attributes fit into a request that the meter takes."""
        most = self._agreed.request_bytes_max or RESPONSE_BYTES
        most -= _HEAD_BYTES + (0 if self._cipher is None else _CIPHER_BYTES)
        return max(1, min(LIST_MAX, most // _ROW_BYTES))

    async def _get(self, asked: list[Asked]) -> list[Result]:
        """One request with its whole answer, in one deadline."""
        until_s = wall_s() + self._timeout_s
        invoke, listed = self._next(), len(asked) if len(asked) > 1 else 0
        try:
            answer = await self._ask(requests.get(asked, invoke), until_s)
            told = apdus.get_response(answer, invoke, listed)
            if isinstance(told, Block):
                told = await self._blocks(told, invoke, listed, until_s)
        except Malformed as error:
            self.session.drop(str(error))
            raise LinkError(str(error)) from None
        except _Excepted as error:
            if error.is_over:
                self.session.drop(str(error))
                raise LinkError(str(error)) from None
            if listed:
                raise ListRefused(f"a request with a list: {error}") from None
            return [Denied(250, str(error))]
        if listed and len(told) == 1 and isinstance(told[0], Denied):
            raise ListRefused(f"a request with a list: {told[0].why}")
        return told

    async def _blocks(self, block: Block, invoke: int, listed: int, until_s: float) -> list[Result]:
        """The rest of a long answer, one block after the other. Raises Malformed."""
        parts, total, number = list[bytes](), 0, 1
        while True:
            if block.number != number:
                raise Malformed(f"block {block.number}, where block {number} was to come")
            if isinstance(block.data, Denied):
                return [block.data] * max(1, listed)
            parts.append(block.data)
            total += len(block.data)
            if total > TOTAL_BYTES_MAX:
                raise Malformed(f"an answer of more than {TOTAL_BYTES_MAX} bytes")
            if block.is_last:
                return apdus.results_of(b"".join(parts), listed)
            if not block.data:
                raise Malformed("an empty block that is not the last")
            answer = await self._ask(requests.get_next(number, invoke), until_s)
            more = apdus.get_response(answer, invoke, listed)
            number += 1
            if not isinstance(more, Block):
                if len(more) == 1 and isinstance(more[0], Denied):
                    return [more[0]] * max(1, listed)
                raise Malformed("no block, where one was to come")
            block = more

    def _next(self) -> int:
        self._invoke = (self._invoke + 1) & 0x0F
        return self._invoke

    async def _ask(self, apdu: bytes, until_s: float | None = None) -> bytes:
        """An xDLMS request and its answer, ciphered where that was agreed. Raises Malformed and _Excepted."""
        cipher = self._cipher
        if cipher is None:
            return _not_exceptional(await self._exchange(apdu, until_s))
        if self._counter is not None and self._counter.left < 2:
            await asyncio.to_thread(self._counter.draw)
        answer = await self._exchange(cipher.protect(apdu), until_s)
        return _not_exceptional(cipher.unprotect(_not_exceptional(answer)))

    async def _exchange(self, apdu: bytes, until_s: float | None = None) -> bytes:
        return await self.session.exchange(apdu, wall_s() + self._timeout_s if until_s is None else until_s)

    async def close(self) -> None:
        """Release it where it stands, and let the connection go."""
        try:
            if self.usable and self._cipher is None:
                await self._release(requests.release())
            elif self.usable and self._cipher is not None:
                if self._counter is not None and not self._counter.left:
                    await asyncio.to_thread(self._counter.draw)
                await self._release(requests.release(*self._cipher.initiate()))
        finally:
            self._stands = False
            self.session.drop("closed")
            if self._counter is not None:
                self._counter.give_back()

    async def _release(self, rlrq: bytes) -> None:
        try:
            await self.session.exchange(rlrq, wall_s() + min(_RELEASE_S, self._timeout_s))
        except LinkError:
            return  # it hears that the connection is over


RESPONSE_BYTES = requests.RESPONSE_BYTES_MAX


class _Excepted(LinkError):
    """The meter does not carry out a service."""

    def __init__(self, told: Exceptional) -> None:
        super().__init__(f"service not allowed: {told.why}" if told.is_over else told.why)
        self.is_over = told.is_over


def _not_exceptional(apdu: bytes) -> bytes:
    """The same. Raises _Excepted where the meter does not carry out what was asked."""
    told: Exceptional | None = apdus.exceptional(apdu)
    if told is not None and told.of_keys:
        raise Untrusted(f"the meter refuses what we encrypt: {told.why}")
    if told is not None:
        raise _Excepted(told)
    return apdu
