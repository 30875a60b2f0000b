"""Who is there: our certificate, the server's, and the user, settled before anything is read or written.

The server's certificate is believed because a person put it into the folder `trusted`, byte for byte. Issuers
and revocation lists are not looked at: what is not in the folder is refused, whoever signed it.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.expiry import Expiry
from connectors.link import LinkError, Refused, Untrusted
from connectors.opcua import certificates
from connectors.opcua.certificates import CertificateError
from ems.site import Connection, UaSecurity

POLICIES: dict[str, type[security_policies.SecurityPolicy]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
SAFE = frozenset(p.URI for p in POLICIES.values())
BINARY = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
# What servers answer to a client certificate they do not like (OPC 10000-4, 6.1.3), and to a user.
_OUR_CERTIFICATE = frozenset(
    {
        StatusCodes.BadSecurityChecksFailed,
        StatusCodes.BadCertificateUntrusted,
        StatusCodes.BadCertificateInvalid,
        StatusCodes.BadCertificateTimeInvalid,
        StatusCodes.BadCertificateUriInvalid,
        StatusCodes.BadCertificateUseNotAllowed,
    }
)
_OUR_USER = frozenset(
    {
        StatusCodes.BadIdentityTokenInvalid,
        StatusCodes.BadIdentityTokenRejected,
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadUserSignatureInvalid,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What was read from the files of one connection."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    user_certificate: x509.Certificate | None
    user_key: rsa.RSAPrivateKey | None
    password: str | None
    trusted: tuple[tuple[Path, x509.Certificate], ...]
    unreadable: tuple[Path, ...]  # files of `trusted` that look like certificates and are none


class SafeClient(Client):
    """asyncua's client, which never shows a password to the network or to a policy that is broken."""

    def server_policy(self, token_type: ua.UserTokenType) -> ua.UserTokenPolicy:
        """The server's way to take a user, of those that are safe on this channel. Raises UaError."""
        offered = [p for p in self._policy_ids if p.TokenType == token_type]
        if token_type == ua.UserTokenType.Anonymous:
            return super().server_policy(token_type)
        for policy in offered:
            uri = policy.SecurityPolicyUri or self.security_policy.URI
            encrypted = self.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt
            plain = uri == security_policies.SecurityPolicyNone.URI
            if uri in SAFE or (plain and encrypted and token_type == ua.UserTokenType.UserName):
                return ua.UserTokenPolicy(
                    PolicyId=policy.PolicyId, TokenType=token_type, SecurityPolicyUri=uri
                )
        names = ", ".join(_short(p.SecurityPolicyUri or "") for p in offered)
        raise UaError(f"the server takes no {token_type.name} safely here (it offers {names or 'none'})")


def located(security: UaSecurity, folder: Path) -> UaSecurity:
    """The same with whole paths: files are relative to the folder of the site file."""

    def whole(name: str | None) -> str | None:
        return None if name is None else str((folder / name).absolute())

    return replace(
        security,
        certificate=str((folder / security.certificate).absolute()),
        key=str((folder / security.key).absolute()),
        trusted=str((folder / security.trusted).absolute()),
        password_file=whole(security.password_file),
        user_certificate=whole(security.user_certificate),
        user_key=whole(security.user_key),
    )


def read_credentials(security: UaSecurity) -> Credentials:
    """Everything a connection needs from files and environment. Blocks. Raises CertificateError."""
    certificate = certificates.read_certificate(Path(security.certificate))
    key = certificates.read_key(Path(security.key))
    if key.public_key() != certificate.public_key():
        raise CertificateError(f"{security.key} is not the key of {security.certificate}")
    if not certificates.uris(certificate):
        raise CertificateError(f"{security.certificate} has no application URI (ems certificate make)")
    user_certificate = user_key = None
    if security.user_certificate is not None and security.user_key is not None:
        user_certificate = certificates.read_certificate(Path(security.user_certificate))
        user_key = certificates.read_key(Path(security.user_key))
    found: list[tuple[Path, x509.Certificate]] = []
    unreadable: list[Path] = []
    for path in _files(Path(security.trusted)):
        try:
            found.append((path, certificates.read_certificate(path)))
        except CertificateError:
            unreadable.append(path)
    return Credentials(
        certificate=certificate,
        key=key,
        user_certificate=user_certificate,
        user_key=user_key,
        password=_password(security),
        trusted=tuple(found),
        unreadable=tuple(unreadable),
    )


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in certificates.SUFFIXES)
    except FileNotFoundError:
        return []  # nobody is trusted yet
    except OSError as error:
        raise CertificateError(f"the folder {folder} cannot be read: {error.strerror}") from None


def _password(security: UaSecurity) -> str | None:
    if security.password_env is not None:
        if (text := os.environ.get(security.password_env)) is None:
            why = f"the password of {security.user} is not there: no variable {security.password_env}"
            raise CertificateError(f"{why} in the environment")
        return text
    if security.password_file is None:
        return None
    path = Path(security.password_file)
    try:
        return certificates.read_secret(path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CertificateError(f"{path} is not UTF-8 text") from None


async def fetch(client: Client, security: UaSecurity) -> tuple[x509.Certificate, str]:
    """What the server says its certificate and its URI are, over a channel that proves nothing.

    Raises
    ------
    Untrusted : it offers no endpoint of this policy and mode, or no certificate.
    """
    endpoints = await client.connect_and_get_server_endpoints()
    wanted = POLICIES[security.policy].URI
    for e in endpoints:
        binary = e.TransportProfileUri in (None, "", BINARY)
        if binary and e.SecurityPolicyUri == wanted and e.SecurityMode.name == security.mode:
            try:
                return certificates.parse(e.ServerCertificate or b""), str(e.Server.ApplicationUri)
            except ValueError as error:
                raise Untrusted(f"the server shows no readable certificate: {error}") from None
    offered = sorted({f"{_short(e.SecurityPolicyUri)}/{e.SecurityMode.name.rstrip('_')}" for e in endpoints})
    raise Untrusted(f"the server offers no {security.policy}/{security.mode}; it offers {', '.join(offered)}")


async def ask(connection: Connection, security: UaSecurity) -> tuple[x509.Certificate, str]:
    """What the server of a connection says its certificate and its URI are. Raises LinkError."""
    url = url_of(connection.endpoint, connection.host, connection.port)
    client = Client(url, timeout=connection.timeout_s)
    try:
        return await fetch(client, security)
    except (OSError, TimeoutError, UaError) as error:
        raise LinkError(f"{url} does not answer: {type(error).__name__}: {error}") from None


def url_of(endpoint: str, host: str, port: int) -> str:
    """Where an OPC UA server listens."""
    return f"opc.tcp://{host}:{port}/{endpoint.removeprefix('/')}"


async def protect(
    client: SafeClient,
    discovery: Client,
    security: UaSecurity,
    *,
    host: str,
    now: Callable[[], datetime],
    noted: list[Expiry],
) -> None:
    """Prepare a client for a protected session with the server it was told to trust.

    Parameters
    ----------
    discovery : a second client to the same server, which asks it for its certificate.
    host : where it is called.
    now : aware time, to compare validity with.
    noted : takes up when which certificate ends, also where one is refused.

    Raises
    ------
    Untrusted : files, certificates or secrets are not as they must be; nothing was sent but a question.
    """
    try:
        own = await asyncio.to_thread(read_credentials, security)
    except CertificateError as error:
        raise Untrusted(str(error)) from None
    mine = [(security.certificate, own.certificate), (security.user_certificate, own.user_certificate)]
    for name, certificate in mine:
        if certificate is not None:
            noted.append(Expiry(f"our certificate {name}", certificate.not_valid_after_utc))
            if late := certificates.out_of_date(certificate, now()):
                raise Untrusted(f"our certificate {name} {late}: see ems certificate make")
    server, uri = await fetch(discovery, security)
    path = _believed(server, own, security)
    noted.append(Expiry(f"the server's certificate {path}", server.not_valid_after_utc))
    called = security.server_name if security.server_name is not None else host
    _refuse(certificates.unfit(server, now=now(), uri=uri, host=called), path, server)

    async def confirm(shown: x509.Certificate, description: ua.ApplicationDescription) -> None:
        """The same over the channel that is proved."""
        told = str(description.ApplicationUri)
        _refuse(certificates.unfit(shown, now=now(), uri=told, host=called), path, shown)

    client.certificate_validator = confirm
    client.application_uri = certificates.uris(own.certificate)[0]
    mode = ua.MessageSecurityMode[security.mode]
    policy = POLICIES[security.policy](server, own.certificate, own.key, mode)
    client.security_policy = policy  # type: ignore[assignment]  # its own set_security does the same
    client.uaclient.set_security(policy)
    if own.user_certificate is not None:
        client.user_certificate, client.user_private_key = own.user_certificate, own.user_key
    elif security.user is not None:
        client.set_user(security.user)
        client.set_password(own.password or "")


def _believed(server: x509.Certificate, own: Credentials, security: UaSecurity) -> Path:
    for path, certificate in own.trusted:
        if certificate == server:
            return path
    unread = f" ({', '.join(p.name for p in own.unreadable)} cannot be read)" if own.unreadable else ""
    raise Untrusted(
        f"the server's certificate is not in {security.trusted}{unread}: {server.subject.rfc4514_string()}, "
        f"SHA-256 {certificates.fingerprint(server)}, SHA-1 {certificates.thumbprint(server)}. If the device "
        "shows the same fingerprint, trust it: ems certificate fetch SITE CONNECTION --trust FINGERPRINT; "
        "if not, somebody is in between"
    )


def _refuse(why: str, path: Path, certificate: x509.Certificate) -> None:
    if why:
        print_ = certificates.fingerprint(certificate)
        raise Untrusted(f"the server's certificate {path} (SHA-256 {print_}) {why}")


def explained(error: BaseException, security: UaSecurity | None) -> Untrusted | None:
    """What a server's refusal of us means, and what to do; None where it is something else."""
    code = getattr(error, "code", None)
    if code in _OUR_USER:
        who = "anonymous" if security is None or not _named(security) else " ".join(_named(security))
        return Refused(f"the server refuses the user ({who}): {_words(error)}")
    if security is None or not security.is_on:
        return None
    # asyncua loses the code of a refusal that comes as the answer to opening the channel: its assert fails.
    if code not in _OUR_CERTIFICATE and not isinstance(error, AssertionError):
        return None
    return Untrusted(
        f"the server refuses our certificate: put {security.certificate} into its list of trusted clients "
        f"(ems certificate show {security.certificate} prints its fingerprint): {_words(error)}"
    )


def _named(security: UaSecurity) -> Sequence[str]:
    """Who we say we are, and where the secret is, without the secret."""
    if security.user_certificate is not None:
        return (security.user_certificate,)
    where = security.password_env or security.password_file
    return () if security.user is None else (security.user, f"with the password of {where}")


def _short(uri: str) -> str:
    return uri.rpartition("#")[2] or "no policy"


def _words(error: BaseException) -> str:
    return type(error).__name__ if isinstance(error, UaError) else "it gives no reason"
