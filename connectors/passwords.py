"""Where a password is told: never in the site file."""

import os
from pathlib import Path

from connectors.opcua.certificates import CertificateError, read_secret


def password_of(user: str, env: str | None, file: str | None) -> str | None:
    """The password of a user elsewhere; None where neither place is named.

    Parameters
    ----------
    env : variable of the environment that holds it.
    file : or the whole path of a file that its owner alone may read.

    Raises
    ------
    CertificateError : it is not there, or others may read it.
    """
    if env is not None:
        if (text := os.environ.get(env)) is None:
            raise CertificateError(
                f"the password of {user} is not there: no variable {env} in the environment"
            )
        return text
    if file is None:
        return None
    try:
        return read_secret(Path(file)).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CertificateError(f"{file} is not UTF-8 text") from None
