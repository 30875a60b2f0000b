"""Passwords of those who come to us, kept as what cannot be turned back: scrypt (RFC 7914)."""

import hashlib
import hmac
import secrets

from connectors.opcua.certificates import CertificateError

MARK = "scrypt"
COST, BLOCK, LANES = 2**14, 8, 1  # 16 MB and some 50 ms for each guess
COST_MAX, BLOCK_MAX, LANES_MAX = 2**16, 16, 4
MEMORY_MAX = 256 * 1024 * 1024
SALT, LENGTH = 16, 32


def hashed(password: str) -> str:
    """What to write down instead of a password."""
    salt = secrets.token_bytes(SALT)
    made = _scrypt(password, salt, COST, BLOCK, LANES)
    return f"{MARK}:{COST}:{BLOCK}:{LANES}:{salt.hex()}:{made.hex()}"


def matches(kept: str, password: str) -> bool:
    """Whether this is the password that is kept, in clear or as `hashed` writes it.

    Raises
    ------
    CertificateError : it begins as such a line and is none.
    """
    if not kept.startswith(f"{MARK}:"):
        return hmac.compare_digest(kept.encode(), password.encode())
    try:
        _, cost, block, lanes, salt, wanted = kept.split(":")
        numbers = int(cost), int(block), int(lanes)
        if not all(0 < n <= most for n, most in zip(numbers, (COST_MAX, BLOCK_MAX, LANES_MAX), strict=True)):
            raise ValueError(numbers)
        made = _scrypt(password, bytes.fromhex(salt), *numbers)
        return hmac.compare_digest(made, bytes.fromhex(wanted))
    except ValueError:
        allowed = "a line that `ems northbound password` has written"
        raise CertificateError(
            f"the password kept begins with {MARK}: and is no such line; allowed: {allowed}"
        ) from None


def _scrypt(password: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=lanes, maxmem=MEMORY_MAX, dklen=LENGTH
    )
