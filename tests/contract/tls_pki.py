"""Authorities and certificates for Modbus/TCP Security: good ones, and each way of being bad."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.tls import ROLE
from ems.northbound import TlsFiles

NOW = dt.datetime.now(dt.UTC)
YEAR = dt.timedelta(days=365)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


NAMES = x509.ObjectIdentifier("2.5.29.17")  # alternative names of the subject


@dataclass(frozen=True, slots=True)
class Party:
    """Where one side finds its certificate and key."""

    certificate: Path
    key: Path

    def files(self, ca: Path, server_name: str | None = None, revoked: Path | None = None) -> TlsFiles:
        return TlsFiles(
            ca=str(ca),
            certificate=str(self.certificate),
            key=str(self.key),
            server_name=server_name,
            revoked=None if revoked is None else str(revoked),
        )


class Authority:
    """Signs certificates, each into two files of its folder."""

    def __init__(self, folder: Path, name: str = "Plant CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / "ca.pem"
        own = (
            self._builder(name, self.key.public_key(), NOW - YEAR, NOW + 10 * YEAR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def revokes(self, *parties: Party, ends: dt.datetime = NOW + 5 * YEAR) -> Path:
        """The list of certificates that do not count any more."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(_name(self.name))
        builder = builder.last_update(NOW - YEAR).next_update(ends)
        for party in parties:
            serial = x509.load_pem_x509_certificate(party.certificate.read_bytes()).serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - YEAR)
            builder = builder.add_revoked_certificate(one.build())
        file = self.folder / "revoked.pem"
        file.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return file

    def _builder(self, cn: str, public: Any, begins: dt.datetime, ends: dt.datetime):
        return (
            x509.CertificateBuilder()
            .subject_name(_name(cn))
            .issuer_name(_name(self.name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )

    def signs(
        self,
        cn: str,
        *,
        role: str | bytes | None = None,
        hosts: tuple[str, ...] = (),
        key: Any = None,
        begins: dt.datetime = NOW - YEAR,
        ends: dt.datetime = NOW + 5 * YEAR,
        usage: tuple[x509.ObjectIdentifier, ...] = (
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ),
        names: bytes | None = None,
        file: str = "",
    ) -> Party:
        """A certificate made out to a common name; `role` as text, or as the bytes of the extension.

        `names` are the bytes of its alternative names, whatever they are.
        """
        key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        builder = self._builder(cn, key.public_key(), begins, ends).add_extension(
            x509.ExtendedKeyUsage(list(usage)), critical=False
        )
        if hosts:
            made_out = x509.SubjectAlternativeName([_host(h) for h in hosts])
            builder = builder.add_extension(made_out, critical=False)
        if names is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(NAMES, names), critical=False)
        if role is not None:
            raw = role if isinstance(role, bytes) else bytes((0x0C, len(role.encode()))) + role.encode()
            builder = builder.add_extension(x509.UnrecognizedExtension(ROLE, raw), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        party = Party(self.folder / f"{file or cn}.pem", self.folder / f"{file or cn}.key")
        party.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        party.key.touch(mode=0o600)
        party.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return party


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def client_context(ca: Path, party: Party | None) -> ssl.SSLContext:
    """Of a client that is not ours, which takes whatever is still possible."""
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    context.set_ciphers("ALL:@SECLEVEL=0")
    if party is not None:
        context.load_cert_chain(party.certificate, party.key)
    return context
