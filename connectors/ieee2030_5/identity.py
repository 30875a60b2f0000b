"""Who we are to a server of IEEE 2030.5: the LFDI and SFDI of our certificate (IEEE 2030.5-2018, 6.3)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from connectors.tls import read_chain

LFDI_DIGITS = 40
SFDI_BITS_DIGITS = 9  # 36 bits


@dataclass(frozen=True, slots=True)
class Identity:
    """As the engineer registers the plant."""

    lfdi: str  # 40 hexadecimal digits, capitals
    sfdi: int


def identity_of(certificate: Path) -> Identity:
    """Of the first certificate in a PEM file. Raises CertificateError."""
    return identity_of_der(read_chain(certificate)[0].public_bytes(Encoding.DER))


def identity_of_der(der: bytes) -> Identity:
    """The first 160 bits of its SHA-256; of these the first 36 as a decimal, and a digit for the sum."""
    lfdi = hashlib.sha256(der).hexdigest()[:LFDI_DIGITS].upper()
    base = int(lfdi[:SFDI_BITS_DIGITS], 16)
    return Identity(lfdi, base * 10 + (-sum(int(d) for d in str(base))) % 10)


def grouped(lfdi: str) -> str:
    """For a person, who compares it."""
    return "-".join(lfdi[i : i + 4] for i in range(0, len(lfdi), 4))
