"""Devices that tell their values as JSON over HTTP: how one is reached, and which paths can be asked for."""

import re
from dataclasses import dataclass

PORT, PORT_TLS = 80, 443
PATH_BYTES_MAX = 1024
_PATH = re.compile(r"/(?!/)[A-Za-z0-9\-._~!$&'()*+,;=:@%/?\[\]]*|/")  # RFC 3986, 3.3 and 3.4


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpJson:
    """How a device is reached and who we are there. No secrets; files as the site file says."""

    protection: str = "authority"  # authority | pinned | system | plain
    ca: str = ""  # PEM: who signed the certificate of the device
    certificate: str = ""  # that of the device itself, DER or PEM, where it is pinned
    server_name: str | None = None  # host its certificate is made out to, where that is not `host`
    user: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    token_env: str | None = None
    token_file: str | None = None
    auth_header: str = "Authorization"  # of the token
    auth_scheme: str = "Bearer"  # in front of the token
    content_type: str = "application/json"  # what it calls its answers
    answer_bytes_max: int = 65536

    @property
    def is_protected(self) -> bool:
        """Whether what is said is encrypted and the device is known by its certificate."""
        return self.protection != "plain"


def path_fault(path: object) -> str:
    """What the path of a request must be, where this is none; "": it is one."""
    if not isinstance(path, str) or not path.startswith("/"):
        return "the path of a request, such as /api/status?scope=system"
    if len(path) > PATH_BYTES_MAX:
        return f"a path of {PATH_BYTES_MAX} characters at most"
    if _PATH.fullmatch(path) is None:
        return "letters, digits and -._~!$&'()*+,;=:@%/?[] alone, one / first; others as %20"
    return ""
