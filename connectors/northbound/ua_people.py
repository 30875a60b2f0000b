"""Who may come in to an OPC UA server: programs by their certificate, users by password or certificate.

A certificate is believed because a person put it into a folder, byte for byte, as our client believes
servers.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.northbound.password_hash import matches
from connectors.opcua import certificates
from connectors.opcua.certificates import CertificateError
from connectors.passwords import password_of
from ems.northbound_ua import UaUser

FAILURES_MAX, FAILURES_S = 5, 60.0  # wrong passwords from one address, and for how long they count
ADDRESSES_MAX = 256
DER_MAX = 8192


class Programs:
    """Certificates of client programs in a folder.

    Parameters
    ----------
    now : aware time, to compare validity with.
    """

    def __init__(self, folder: Path, *, now: Callable[[], datetime]) -> None:
        self._folder, self._now = folder, now

    def refusal(self, der: bytes | None) -> str:
        """Why a program with this certificate may not come in; "": it may."""
        if not der:
            return "it has shown no certificate"
        try:
            shown = certificates.parse(der[:DER_MAX])
        except ValueError:
            return "its certificate cannot be read"
        try:
            known = any(c == shown for c in self._known())
        except OSError as error:
            return f"the folder {self._folder} cannot be read: {error.strerror}"
        who = f"{shown.subject.rfc4514_string()[:100]}, SHA-1 {certificates.thumbprint(shown)}"
        if not known:
            return f"its certificate is not in {self._folder}: {who}"
        if late := certificates.out_of_date(shown, self._now()):
            return f"its certificate {late}: {who}"
        key = shown.public_key()
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size < certificates.KEY_BITS_MIN:
            return f"its key is another than RSA of {certificates.KEY_BITS_MIN} bits or more: {who}"
        return ""

    def _known(self) -> list[x509.Certificate]:
        found = []
        for path in sorted(self._folder.iterdir()):
            if path.suffix.lower() in certificates.SUFFIXES:
                try:
                    found.append(certificates.read_certificate(path))
                except CertificateError:
                    continue  # told when the server starts, by `unreadable`
        return found


class People:
    """Users of a server. Secrets are read anew whenever somebody comes, and kept nowhere.

    Parameters
    ----------
    folder : that files are relative to.
    monotonic_s : seconds that only grow [s].
    """

    def __init__(
        self,
        users: Sequence[UaUser],
        folder: Path,
        *,
        now: Callable[[], datetime],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._users, self._folder, self._now, self._monotonic_s = users, folder, now, monotonic_s
        self._failures: dict[str, tuple[int, float]] = {}  # by address: how many, since when

    def by_password(self, name: str | None, password: str | None, address: str) -> tuple[UaUser | None, str]:
        """Who this is, or why it is nobody.

        Notes
        -----
        Whether a user is unknown or the password is wrong is told to our own records and not to the client.
        """
        if self._too_often(address):
            return None, f"{FAILURES_MAX} wrong passwords came from this address within {FAILURES_S:g} s"
        user = next((u for u in self._users if u.name == name and u.certificate is None), None)
        if user is None:
            self._failed(address)
            return None, f"there is no user {str(name)[:40]!r} with a password"
        file = None if user.password_file is None else str(self._folder / user.password_file)
        try:
            kept = password_of(user.name, user.password_env, file)
            right = bool(kept and password) and matches(str(kept), str(password))
        except CertificateError as error:
            return None, str(error)
        if not right:
            self._failed(address)
            return None, f"another password than that of {user.name}"
        return user, ""

    def by_certificate(self, der: bytes) -> tuple[UaUser | None, str]:
        """Who has proved to own this certificate, or why that is nobody."""
        try:
            shown = certificates.parse(der[:DER_MAX])
        except ValueError:
            return None, "the user's certificate cannot be read"
        for user in self._users:
            if user.certificate is None:
                continue
            try:
                own = certificates.read_certificate(self._folder / user.certificate)
            except CertificateError as error:
                return None, str(error)
            if own == shown:
                late = certificates.out_of_date(shown, self._now())
                return (None, f"the certificate of {user.name} {late}") if late else (user, "")
        return None, f"the user's certificate is nobody's here: SHA-1 {certificates.thumbprint(shown)}"

    def _too_often(self, address: str) -> bool:
        count, since_s = self._failures.get(address, (0, 0.0))
        if self._monotonic_s() - since_s > FAILURES_S:
            self._failures.pop(address, None)
            return False
        return count >= FAILURES_MAX

    def _failed(self, address: str) -> None:
        count, since_s = self._failures.pop(address, (0, self._monotonic_s()))
        self._failures[address] = count + 1, since_s
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.pop(next(iter(self._failures)))
