"""Serve an app on loopback with the deadlines that uvicorn itself does not have.

uvicorn waits for ever for a request whose header trickles in, and for a client that never reads its answer.
Here a connection has `request_s` to deliver a whole request and `answer_s` to take the answer, or it is cut.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ems.clock import wall_sleep
from ems.errors import EmsError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where to listen and how patient to be."""

    host: str = "127.0.0.1"
    port: int = 8080
    request_s: float = 10.0
    answer_s: float = 30.0
    keep_alive_s: int = 5
    connections_max: int = 64
    header_bytes_max: int = 16_384


def deadline_protocol(options: ServerOptions) -> type[H11Protocol]:
    """An h11 protocol that cuts slow connections."""

    class DeadlineProtocol(H11Protocol):
        """Each exchange is watched by one small task."""

        _watch: asyncio.Task[None] | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._start(options.request_s)

        def data_received(self, data: bytes) -> None:
            waiting = self.conn.their_state is not h11.DONE
            super().data_received(data)
            if waiting and self.conn.their_state is h11.DONE:
                self._start(options.answer_s)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            done = self.conn.their_state is h11.DONE
            self._start(options.answer_s if done else options.request_s)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _start(self, seconds: float) -> None:
            self._stop()
            self._watch = self.loop.create_task(self._cut_after(seconds))

        def _stop(self) -> None:
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None

        async def _cut_after(self, seconds: float) -> None:
            await wall_sleep(seconds)
            self.transport.abort()

    return DeadlineProtocol


def listen(options: ServerOptions) -> socket.socket:
    """A bound socket.

    Raises
    ------
    EmsError : the host is not loopback, or the port is in use or may not be used.
    """
    try:
        address = ipaddress.ip_address(options.host)
    except ValueError:
        raise EmsError(f"the API listens on an address, not on a name: {options.host!r}") from None
    if not address.is_loopback:
        raise EmsError(f"the API listens on loopback only, not on {options.host}: it has no authentication")
    sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((options.host, options.port))
        sock.listen(64)
    except (OSError, OverflowError) as error:
        sock.close()
        raise EmsError(
            f"the API cannot listen on {options.host} port {options.port} ({error}); "
            "another program may use it: choose another port"
        ) from error
    return sock


def make_server(app: FastAPI, options: ServerOptions) -> uvicorn.Server:
    """A uvicorn server that is not started yet."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=deadline_protocol(options),
            ws="none",
            lifespan="off",
            loop="asyncio",
            access_log=False,
            log_level="warning",
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=options.keep_alive_s,
            timeout_graceful_shutdown=2,
            limit_concurrency=options.connections_max,
            h11_max_incomplete_event_size=options.header_bytes_max,
        )
    )


async def serve(app: FastAPI, options: ServerOptions, *, ready: Callable[[int], None] | None = None) -> None:
    """Serve until cancelled or signalled; `ready` is told the port once connections are accepted.

    Raises
    ------
    EmsError : see `listen`.
    """
    sock = listen(options)
    port: Any = sock.getsockname()[1]
    server = make_server(app, options)
    task = asyncio.ensure_future(server.serve(sockets=[sock]))
    try:
        while not server.started and not task.done():
            await wall_sleep(0.01)
        if ready is not None and server.started:
            ready(int(port))
        await asyncio.shield(task)
    except asyncio.CancelledError:
        server.should_exit = True
        await task
        raise
    finally:
        sock.close()
