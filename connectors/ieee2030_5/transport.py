"""Asks a server of IEEE 2030.5 over TLS with a certificate on both sides."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from connectors.expiry import Expiry
from connectors.http_json.session import Session
from connectors.ieee2030_5.documents import BYTES_MAX
from connectors.ieee2030_5.identity import identity_of_der
from connectors.opcua.certificates import CertificateError
from connectors.tls import CIPHERS, Contexts, expiry_of, located, peer_of, weakness
from connectors.utility.asker import Asker, Untrusted, dialled
from ems.utility import Sep2Server

MEDIA = "application/sep+xml"
# The suite of the standard (6.7) and, before it, the same with a whole tag. OpenSSL counts the short tag
# as 64 bits, which it offers on level 0 alone; the leaf certificate is held to our own measure all the same.
CIPHERS_CCM8 = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"
)


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

    def __init__(self, server: Sep2Server, folder: Path, *, now: Callable[[], datetime]) -> None:
        self._server = server
        ciphers = CIPHERS_CCM8 if server.ccm8 else CIPHERS
        self.files = located(server.tls, folder)
        self._contexts = Contexts(self.files, server=False, now=now, ciphers=ciphers)
        self._asker = Asker(
            server.where,
            self._connected,
            media=(MEDIA, "application/xml", "text/xml"),
            timeout_s=server.timeout_s,
            bytes_max=BYTES_MAX,
        )
        self._peer_expiry: tuple[Expiry, ...] = ()
        self.peer: Peer | None = None

    @property
    def asked(self) -> int:
        """Requests since the start."""
        return self._asker.asked

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """When certificates of both sides end."""
        return (*self._contexts.expiries, *self._peer_expiry)

    async def get(self, path: str) -> bytes:
        """A document. Raises NoAnswer."""
        return (await self._asker.get(path)).body

    async def put(self, path: str, body: bytes) -> None:
        """Replace a resource. Raises NoAnswer."""
        await self._asker.send("PUT", path, body)

    async def post(self, path: str, body: bytes) -> str:
        """Add a resource; where the server says that it is now, "": it does not say. Raises NoAnswer."""
        answer = await self._asker.send("POST", path, body)
        return answer.headers.get("location", "")

    def close(self) -> None:
        """End the connection."""
        self._asker.close()

    async def _connected(self) -> Session:
        """A new connection to somebody who is trusted. Raises NoAnswer."""
        server = self._server
        try:
            context = await asyncio.to_thread(self._contexts.current)
        except CertificateError as error:
            raise Untrusted(str(error)) from None
        context.check_hostname = server.server_lfdi is None
        name = server.tls.server_name or server.host
        session, transport = await dialled(server.host, server.port, context, name, self.files.ca)
        try:
            self.peer = self._proved(session.certificate, transport.get_extra_info("cipher"))
            self._peer_expiry = (expiry_of(f"the certificate of {server.where}", session.certificate),)
        except (Untrusted, ValueError) as error:  # the latter: what it shows cannot be read
            session.drop("not trusted")
            raise Untrusted(f"{server.where}: {error}") from None
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
