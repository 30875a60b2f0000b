"""What stands before every route: allowed hosts, no bodies, no writes, headers that keep a browser honest."""

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import error_answer

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
READ_METHODS = ("GET",)
TARGET_BYTES_MAX = 4096


def host_of(header: str) -> str:
    """The host of a Host header without its port; `[::1]:8080` gives `::1`."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


class Guard:
    """Refuses requests before anything of them is read.

    A wrong Host is a page in some browser trying its luck through DNS rebinding. No route takes a body, so
    one that is announced is refused unread.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str], headers: dict[str, str]) -> None:
        self._app = app
        self._hosts = frozenset(h.lower() for h in allowed_hosts)
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, send_with_headers)
            return
        status, reason = refused
        answer = error_answer(status, reason)
        answer.headers["connection"] = "close"
        if status == 405:
            answer.headers["allow"] = ", ".join(READ_METHODS)
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or host_of(hosts[0]) not in self._hosts:
            return 400, "the Host header does not name this service"
        if scope["method"] not in READ_METHODS:
            return 405, "this service is read-only"
        if "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0":
            return 413, "no request of this service has a body"
        if len(scope["raw_path"]) + len(scope["query_string"]) > TARGET_BYTES_MAX:
            return 414, f"the request target is longer than {TARGET_BYTES_MAX} bytes"
        return None
