"""Inputs for tests: parameters, files and a server of this machine."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ems.input_rules import house_provider
from ems.inputs import InputKind, InputParams
from ems.site import Site
from ems.site_schema import load_site

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DEMO = Path(__file__).resolve().parents[3] / "sites" / "demo"


def params(kind: str = "price", **changes: Any) -> InputParams:
    made = InputParams(
        id="one", kind=InputKind(kind), provider=house_provider(InputKind(kind)), folder="inbox"
    )
    return replace(made, **changes)


def site_with(tmp_path: Path, text: str, currency: str = "USD") -> Site:
    """The demo site with inputs, read through the door."""
    (tmp_path / "maps").symlink_to(DEMO / "maps")
    file = tmp_path / "site.yaml"
    file.write_text((DEMO / "site.yaml").read_text().replace("USD", currency) + "\ninputs:\n" + text)
    return load_site(file)


@dataclass(slots=True)
class Server:
    """What a server of this machine answers with, and what it was asked."""

    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None


def reply(
    handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(pki: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A server at a free port; `pki`: its certificate and key."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append({k.lower(): v for k, v in self.headers.items()} | {"path": self.path})
            state.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if pki is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pki)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"http{'s' if pki else ''}://localhost:{server.server_port}/v1/data?key=1"
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
