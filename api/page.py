"""The operator page: one file, no asset from anywhere else."""

import base64
import hashlib
from importlib.resources import files

_WEB = files("api") / "web"
_STYLE = (_WEB / "page.css").read_text(encoding="utf-8")
_SCRIPT = (_WEB / "page.js").read_text(encoding="utf-8")
PAGE = (
    (_WEB / "page.html")
    .read_text(encoding="utf-8")
    .replace("/*STYLE*/", _STYLE)
    .replace("/*SCRIPT*/", _SCRIPT)
)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def content_security_policy() -> str:
    """Only our own inline script may run and only our own routes may be asked."""
    return (
        f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
