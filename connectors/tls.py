"""TLS with a certificate on both sides, for Modbus: what is offered, who is there, when it ends.

Source: MODBUS/TCP Security Protocol Specification (MB-TCP-Security, v36, 2021): mutual authentication, TLS
1.2 or later, port 802, role of a client as a UTF-8 string under 1.3.6.1.4.1.50316.802.1 in its certificate
(R-21, R-22). Key exchanges without forward secrecy and CBC ciphers are not offered, whoever asks for them.
"""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from connectors.expiry import Expiry
from connectors.opcua.certificates import KEY_BITS_MIN, CertificateError, out_of_date, read_secret
from connectors.plain_text import plain
from ems.northbound import TlsFiles

ROLE = ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
UTF8_STRING = 0x0C
TEXT_MAX = 120
CURVE_BITS_MIN = 256
# Forward secrecy and authenticated encryption; level 2 refuses RSA below 2048 bits and SHA-1 signatures.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who a certificate says is there."""

    subject: str
    common_name: str  # "": none, or several
    role: str  # "": none


def located(files: TlsFiles, folder: Path) -> TlsFiles:
    """The same with whole paths: files are relative to the folder of the site file."""

    def whole(name: str) -> str:
        return str((folder / name).absolute())

    revoked = None if files.revoked is None else whole(files.revoked)
    return replace(
        files,
        ca=whole(files.ca),
        certificate=whole(files.certificate),
        key=whole(files.key),
        revoked=revoked,
    )


class Contexts:
    """TLS contexts from files, made anew when one of the files has changed.

    Parameters
    ----------
    files : whole paths.
    server : whether we are the server.
    now : aware time, to compare the validity of our own certificate with.
    ciphers : of TLS 1.2, as OpenSSL names them.
    """

    def __init__(
        self, files: TlsFiles, *, server: bool, now: Callable[[], datetime], ciphers: str = CIPHERS
    ) -> None:
        self._files, self._server, self._now, self._ciphers = files, server, now, ciphers
        self._made: tuple[tuple[int, ...], ssl.SSLContext] | None = None
        self.expiries: tuple[Expiry, ...] = ()

    def current(self) -> ssl.SSLContext:
        """The context for a connection that begins now.

        Raises
        ------
        CertificateError : a file is not there, others may read the key, or a certificate is not good enough.
        """
        stamp = tuple(self._stamps())
        if self._made is None or self._made[0] != stamp:
            ours, theirs = read_chain(Path(self._files.certificate)), read_chain(Path(self._files.ca))
            if late := out_of_date(ours[0], self._now()):
                raise CertificateError(f"{self._files.certificate} {late}")
            if weak := weakness(ours[0]):
                raise CertificateError(f"{self._files.certificate} {weak}")
            self.expiries = tuple(_expiries("our certificate", ours[:1])) + tuple(
                _expiries("the certificate of an authority", theirs)
            )
            if self._files.revoked is not None:
                self.expiries += tuple(_list_expiry(Path(self._files.revoked)))
            self._made = stamp, self._context()
        return self._made[1]

    def _stamps(self) -> Iterator[int]:
        revoked = () if self._files.revoked is None else (self._files.revoked,)
        for name in (self._files.ca, self._files.certificate, self._files.key, *revoked):
            try:
                yield Path(name).stat().st_mtime_ns
            except OSError as error:
                raise CertificateError(f"{name} cannot be read: {error.strerror}") from None

    def _context(self) -> ssl.SSLContext:
        read_secret(Path(self._files.key))  # refuses one that others may read
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self._server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(self._ciphers)
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        if self._server:
            context.num_tickets = 0  # whoever comes back shows the certificate again
        try:
            context.load_cert_chain(self._files.certificate, self._files.key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise CertificateError(
                f"{self._files.key} is not the key of {self._files.certificate}, or cannot be used: {error}"
            ) from None
        try:
            context.load_verify_locations(cafile=self._files.ca)
        except (ssl.SSLError, OSError) as error:
            raise CertificateError(f"{self._files.ca} holds no authorities, in PEM: {error}") from None
        if self._files.revoked is not None:
            context.load_verify_locations(cafile=self._files.revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context


def _no_password() -> bytes:
    raise ValueError("it is encrypted; keep it without a password, with mode 0600")


def read_chain(path: Path) -> list[x509.Certificate]:
    """Every certificate in a PEM file. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CertificateError(f"{path} holds no certificate, in PEM: {error}") from None


def _list_expiry(path: Path) -> Iterator[Expiry]:
    """When a list of revoked certificates ends: after that nobody of its authority is believed."""
    try:
        crl = x509.load_pem_x509_crl(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CertificateError(f"{path} holds no list of revoked certificates, in PEM: {error}") from None
    if crl.next_update_utc is not None:
        yield Expiry("the list of revoked certificates", crl.next_update_utc)


def weakness(certificate: x509.Certificate) -> str:
    """Why a certificate is no longer good enough, whoever signed it; "": it is."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < KEY_BITS_MIN:
            return f"has an RSA key of {key.key_size} bits; allowed: {KEY_BITS_MIN} or more"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.key_size < CURVE_BITS_MIN:
            return f"has a key on a curve of {key.key_size} bits; allowed: {CURVE_BITS_MIN} or more"
    else:
        return "has another key than RSA or an elliptic curve"
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        return f"is signed with {certificate.signature_hash_algorithm.name}; allowed: SHA-256 or better"
    return ""


def expiry_of(what: str, der: bytes) -> Expiry:
    """When the certificate that somebody has shown ends."""
    return Expiry(what, x509.load_der_x509_certificate(der).not_valid_after_utc)


def _expiries(what: str, certificates: list[x509.Certificate]) -> Iterator[Expiry]:
    for certificate in certificates:
        yield Expiry(f"{what} ({_shown(certificate.subject)})", certificate.not_valid_after_utc)


def peer_of(der: bytes) -> Peer:
    """Who the certificate of a peer, already verified, says is there."""
    certificate = x509.load_der_x509_certificate(der)
    named = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(named[0].value) if len(named) == 1 else ""
    return Peer(_shown(certificate.subject), name, role_of(certificate))


def role_of(certificate: x509.Certificate) -> str:
    """The role in a client's certificate; "": none, or none that can be read."""
    try:
        raw = certificate.extensions.get_extension_for_oid(ROLE).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return ""  # one of its extensions cannot be read: nothing it says counts
    return _utf8(raw.value) if isinstance(raw, x509.UnrecognizedExtension) else ""


def _utf8(raw: bytes) -> str:
    """A DER UTF8String of less than 128 bytes."""
    if len(raw) < 3 or raw[0] != UTF8_STRING or raw[1] != len(raw) - 2 or raw[1] > 127:
        return ""
    try:
        text = raw[2:].decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _shown(name: x509.Name) -> str:
    return plain(name.rfc4514_string(), TEXT_MAX)


def words_of(error: BaseException, where: str, ca: str) -> str:
    """What went wrong with TLS, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {where} is not believed: {error.verify_message} (ca is {ca})"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {where}: {error.reason or error}"
    return f"no TLS with {where}: {str(error) or type(error).__name__}"
