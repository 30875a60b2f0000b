"""Certificates for tests: those of servers, good and bad, and the folders a client finds its own in."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.opcua import certificates
from ems.site import UaSecurity

NOW = dt.datetime.now(dt.UTC)
LONG = dt.timedelta(days=3650)
CLIENT_URI = "urn:test:ems"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        return certificates.der(self.certificate)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def pair(
    uri: str,
    *hosts: str,
    begins: dt.datetime = NOW - LONG,
    ends: dt.datetime = NOW + LONG,
    key: rsa.RSAPrivateKey | None = None,
    bits: int = 2048,
) -> Pair:
    """A self-signed certificate of an application, valid for ten years to either side by default."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits) if key is None else key
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, uri)])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .serial_number(x509.random_serial_number())
        .public_key(public)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


@dataclass(slots=True)
class ClientPki:
    """The folder of a client, as a site engineer leaves it: own.der, own.key, password, trusted/."""

    folder: Path

    @classmethod
    def made(cls, folder: Path, *trusted: Pair) -> "ClientPki":
        pki = cls(folder)
        der, key = certificates.make(CLIENT_URI, "edge", now=NOW - LONG, days=7300)
        certificates.store(folder / "own.der", der, mode=0o644)
        certificates.store(folder / "own.key", key, mode=0o600)
        certificates.store(folder / "password", b"secret\n", mode=0o600)
        (folder / "trusted").mkdir()
        for i, one in enumerate(trusted):
            pki.trust(one, f"server{i}.der")
        return pki

    def trust(self, one: Pair, name: str) -> None:
        (self.folder / "trusted" / name).write_bytes(one.der if name.endswith("der") else one.pem)

    def security(self, policy: str = "Basic256Sha256", **changes: str | None) -> UaSecurity:
        given: dict[str, str | None] = {
            "certificate": str(self.folder / "own.der"),
            "key": str(self.folder / "own.key"),
            "trusted": str(self.folder / "trusted"),
            "user": "ems",
            "password_file": str(self.folder / "password"),
        }
        return UaSecurity(policy=policy, **{**given, **changes})  # type: ignore[arg-type]
