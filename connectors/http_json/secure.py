"""Who a device is, and who we are there: TLS contexts, what is checked after the handshake, credentials."""

import base64
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from connectors.expiry import Expiry
from connectors.opcua.certificates import CertificateError, der, out_of_date, read_certificate
from connectors.passwords import password_of
from ems.http_json import HttpJson


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection needs from files and environment."""

    context: ssl.SSLContext | None  # None: plain
    pinned: bytes  # DER; b"": any certificate that its authority has signed
    header: bytes  # with who we are, and its line end; b"": none
    expiries: tuple[Expiry, ...]


def located(http: HttpJson, folder: Path) -> HttpJson:
    """The same with whole paths: files are relative to the folder of the site file."""

    def whole(name: str | None) -> str | None:
        return None if name is None else str((folder / name).absolute())

    return replace(
        http,
        ca=str((folder / http.ca).absolute()),
        certificate=str((folder / http.certificate).absolute()),
        password_file=whole(http.password_file),
        token_file=whole(http.token_file),
    )


def read_credentials(http: HttpJson, now: datetime) -> Credentials:
    """Everything a connection needs. Blocks for as long as reading files takes.

    Parameters
    ----------
    http : its files are whole paths.
    now : aware time, to compare the validity of certificates with.

    Raises
    ------
    CertificateError : a file or variable is missing, open to others, or not what it should be.
    """
    header = _header(http)
    if not http.is_protected:
        return Credentials(None, b"", header, ())
    if http.protection == "system":
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return Credentials(context, b"", header, ())
    name = http.ca if http.protection == "authority" else http.certificate
    what = f"the authority {name}" if http.protection == "authority" else f"the certificate {name}"
    certificate = read_certificate(Path(name))
    if late := out_of_date(certificate, now):
        raise CertificateError(f"{what} {late}")
    expiries = (Expiry(what, certificate.not_valid_after_utc),)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if http.protection == "pinned":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # `unlike_pinned` compares every byte before anything is sent
        return Credentials(context, der(certificate), header, expiries)
    try:
        context.load_verify_locations(cafile=name)
    except (ssl.SSLError, OSError) as error:
        raise CertificateError(f"{name} holds no authorities, in PEM: {error}") from None
    return Credentials(context, b"", header, expiries)


def unlike_pinned(credentials: Credentials, shown: bytes) -> str:
    """Why the certificate that was shown is not the one that is pinned; "": it is, or none is pinned."""
    if not credentials.pinned or shown == credentials.pinned:
        return ""
    return "it shows another certificate than the one that is pinned"


def peer_expiry(where: str, transport_ssl: object) -> Iterator[Expiry]:
    """When the certificate that a device has shown, and that was verified, ends."""
    if isinstance(transport_ssl, ssl.SSLObject):
        ends = (transport_ssl.getpeercert() or {}).get("notAfter")
        if isinstance(ends, str):
            at = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)
            yield Expiry(f"the certificate of {where}", at)


def _header(http: HttpJson) -> bytes:
    """The header with who we are. Raises CertificateError."""
    if http.user is not None:
        password = password_of(http.user, http.password_env, http.password_file)
        pair = base64.b64encode(f"{http.user}:{password or ''}".encode()).decode()
        return f"Authorization: Basic {pair}\r\n".encode()
    if http.token_env is None and http.token_file is None:
        return b""
    if http.token_file is None:
        token = password_of("the token", http.token_env, None)
    else:
        token = password_of("the token", None, http.token_file)
    if not token or not token.isascii() or not token.isprintable():
        raise CertificateError("its token is empty, or holds what no header may hold")
    return f"{http.auth_header}: {f'{http.auth_scheme} {token}'.strip()}\r\n".encode()
