"""X.509 certificates of OPC UA applications: made, read, shown, and held against what they must say.

What one must hold: OPC 10000-6 (1.05), 6.2.2: the application's URI and its hosts are in the subject
alternative name; RSA of 2048 bits or more with every policy that is offered here (OPC 10000-7).
"""

import os
import stat
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ems.errors import EmsError

KEY_BITS_MIN = 2048
DAY = timedelta(days=1)
PRIVATE = stat.S_IRWXG | stat.S_IRWXO  # what a secret's mode must not have
SUFFIXES = (".der", ".crt", ".cer", ".pem")


class CertificateError(EmsError):
    """A file of certificates or secrets that cannot be used as it is; says which, why, and what to do."""


def make(
    application_uri: str,
    host: str,
    *,
    now: datetime,
    days: int,
    name: str = "hybrid-ems",
    addresses: Sequence[str] = (),
    server: bool = False,
) -> tuple[bytes, bytes]:
    """A new key and its self-signed certificate for a client, or for a server.

    Parameters
    ----------
    application_uri : who we say we are in every session; servers compare it with the certificate.
    host : name of this machine.
    now, days : it is valid from a day before `now`, as clocks differ, for so many days.
    name : common name, what people see in a server's list.
    addresses : of a server, beside its host.
    server : whether it is for one.

    Returns
    -------
    The certificate (DER) and the key (PEM, PKCS 8, not encrypted).
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS_MIN)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(application_uri), x509.DNSName(host)]
    names += [x509.IPAddress(ip_address(a)) for a in addresses]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .serial_number(x509.random_serial_number())
        .public_key(public)
        .not_valid_before(now - DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([*uses, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return der(certificate), secret


def store(path: Path, content: bytes, *, mode: int) -> None:
    """Write a new file with this mode from its first byte on. Raises FileExistsError where there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)  # whatever the umask takes away
        file.write(content)
        file.flush()
        os.fsync(handle)


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a file, DER or PEM. Raises CertificateError."""
    raw = _bytes(path)
    try:
        return parse(raw)
    except ValueError as error:
        raise CertificateError(f"{path} holds no certificate, in DER or PEM: {error}") from None


def parse(raw: bytes) -> x509.Certificate:
    """A certificate from DER, PEM, or the first of a chain in DER. Raises ValueError."""
    if raw.lstrip().startswith(b"-----"):
        return x509.load_pem_x509_certificate(raw)
    return x509.load_der_x509_certificate(raw[: _first_length(raw)])


def _first_length(raw: bytes) -> int:
    """Bytes of the first element of a chain: tag, length in one of the long forms, content."""
    if len(raw) < 4 or raw[0] != 0x30 or raw[1] < 0x81 or raw[1] > 0x84:
        return len(raw)
    count = raw[1] & 0x7F
    return 2 + count + int.from_bytes(raw[2 : 2 + count], "big")


def read_key(path: Path) -> rsa.RSAPrivateKey:
    """The RSA key in a PEM file that its owner alone may read. Raises CertificateError."""
    raw = read_secret(path)
    try:
        key = serialization.load_pem_private_key(raw, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{path} holds no usable key, PEM without a password: {error}") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < KEY_BITS_MIN:
        raise CertificateError(f"{path} holds another key than RSA of {KEY_BITS_MIN} bits or more")
    return key


def read_secret(path: Path) -> bytes:
    """A file that its owner alone may read. Raises CertificateError."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None
    if mode & PRIVATE:
        raise CertificateError(f"{path} has mode {mode:04o}: others may read it; allowed: 0600 (chmod 600)")
    return _bytes(path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None


def der(certificate: x509.Certificate) -> bytes:
    """Its bytes."""
    return certificate.public_bytes(serialization.Encoding.DER)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over its bytes, in pairs of hexadecimal digits with colons between."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 over its bytes: the name under which most OPC UA servers show a certificate."""
    return certificate.fingerprint(hashes.SHA1()).hex(":").upper()  # noqa: S303  a name, no protection


def uris(certificate: x509.Certificate) -> list[str]:
    """URIs of the application it is made out to."""
    names = _names(certificate)
    return [] if names is None else list(names.get_values_for_type(x509.UniformResourceIdentifier))


def hosts(certificate: x509.Certificate) -> list[str]:
    """Names and addresses of the hosts it is made out to."""
    names = _names(certificate)
    if names is None:
        return []
    addresses = [str(a) for a in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def out_of_date(certificate: x509.Certificate, now: datetime) -> str:
    """Why it is not valid now; empty: it is."""
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def unfit(certificate: x509.Certificate, *, now: datetime, uri: str, host: str) -> str:
    """Why the certificate of a server is not the one to expect; empty: it is.

    Parameters
    ----------
    now : aware time.
    uri : of the application, as the server tells it.
    host : name or address under which it is called.
    """
    if late := out_of_date(certificate, now):
        return f"{late}: have the server make a new one, or set the clock that is wrong"
    if uri not in uris(certificate):
        return f"is made out to {_list(uris(certificate))}, the server says that it is {uri}"
    if host.lower() not in [h.lower() for h in hosts(certificate)]:
        return f"is made out to {_list(hosts(certificate))}, not to {host} (`server_name` says another host)"
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < KEY_BITS_MIN:
        return f"has another key than RSA of {KEY_BITS_MIN} bits or more"
    return ""


def _list(names: list[str]) -> str:
    return ", ".join(names) if names else "nobody"


def shown(certificate: x509.Certificate) -> list[str]:
    """What a person compares, one line each."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return [
        f"subject      {certificate.subject.rfc4514_string()}",
        f"application  {_list(uris(certificate))}",
        f"hosts        {_list(hosts(certificate))}",
        f"valid        {begins:%Y-%m-%d} to {ends:%Y-%m-%d}",
        f"SHA-256      {fingerprint(certificate)}",
        f"SHA-1        {thumbprint(certificate)}",
    ]
