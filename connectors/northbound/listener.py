"""Takes connections in for one server: guarded before the handshake, watched until they end.

Sockets are accepted here and not by asyncio's server, which would count a client only once its TLS handshake
is over: half-open ones could be as many as the kernel has room for.
"""

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine

import structlog

from connectors.northbound.client import Client
from connectors.northbound.guard import Guard, plain_address
from connectors.northbound.records import Records
from connectors.opcua.certificates import CertificateError
from connectors.tls import Contexts, peer_of
from ems.clock import wall_sleep
from ems.errors import EmsError
from ems.northbound import Door

log = structlog.get_logger()

BACKLOG = 32
HANDSHAKE_S = 5.0
SWEEP_S = 0.5
PAUSE_S = 1.0  # where the machine has no descriptor left for a connection


class Served(asyncio.Protocol, ABC):
    """One connection. Bytes may come before `begin`: they wait for it."""

    @abstractmethod
    def begin(self, client: Client) -> None:
        """It is known who is there: requests may be answered."""

    @abstractmethod
    def overdue(self, now_s: float) -> str:
        """Why it must be ended now; "": it need not."""

    @abstractmethod
    def end(self) -> None:
        """End it, unsent bytes included."""


class Listener:
    """One listening socket and its connections.

    Parameters
    ----------
    name : of the server.
    make : makes the protocol of a connection, which calls what it is handed when the connection is lost.
    contexts : TLS; None: plain.
    """

    def __init__(
        self,
        name: str,
        door: Door,
        records: Records,
        *,
        make: Callable[[Callable[[], None]], Served],
        contexts: Contexts | None,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._name, self._door, self._records = name, door, records
        self._make, self._contexts, self._monotonic_s = make, contexts, monotonic_s
        self._guard = Guard(door)
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._served: set[Served] = set()
        self.accepted = 0
        self.trouble = ""  # why nobody can be let in now

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return self._guard.open

    @property
    def port(self) -> int:
        """Where it listens. 0 in the site file's place is for tests."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Listen. Raises EmsError where the address or port cannot be had."""
        family = socket.AF_INET6 if ":" in self._door.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setblocking(False)
            listening.bind((self._door.host, self._door.port))
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            where = f"{self._door.host}:{self._door.port}"
            raise EmsError(f"northbound {self._name}: cannot listen on {where}: {error.strerror}") from None
        self._socket = listening
        self._spawn(self._accept(listening))
        self._spawn(self._sweep())

    async def close(self) -> None:
        """End every connection and the listening."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for served in list(self._served):
            served.end()
        if self._socket is not None:
            self._socket.close()

    def raise_bugs(self) -> None:
        """A task of ours ends by being cancelled alone; anything else is a bug."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, place = await loop.sock_accept(listening)
            except OSError as error:  # no descriptor left, or gone again before it was taken
                log.warning("northbound.accept.failed", server=self._name, error=str(error))
                await wall_sleep(PAUSE_S)
                continue
            self.accepted += 1
            address = plain_address(str(place[0]))
            why = self._guard.enter(address)
            if why:
                connection.close()
                self._records.refused(self._client(address), "connection", "not_let_in", why)
                continue
            self._spawn(self._let_in(connection, address))

    async def _let_in(self, connection: socket.socket, address: str) -> None:
        """From an accepted socket to a connection that is served; whatever fails is recorded."""
        gone = False

        def leave() -> None:
            nonlocal gone
            if not gone:
                gone = True
                self._guard.leave(address)
                self._served.discard(served)

        served = self._make(leave)
        try:
            client = await self._shaken(connection, served, address)
        except Exception as error:  # whatever a stranger's certificate brings about ends its connection alone
            if not isinstance(error, EmsError | OSError | ValueError):
                log.exception("northbound.handshake.failed", server=self._name, address=address)
            leave()
            served.end()
            why = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
            why = why or f"it ended the handshake ({type(error).__name__})"
            self._records.refused(self._client(address), "connection", "no_handshake", str(why))
        except asyncio.CancelledError:
            leave()
            connection.close()
            raise
        else:
            if not gone:
                self._served.add(served)
                served.begin(client)

    async def _shaken(self, connection: socket.socket, served: Served, address: str) -> Client:
        """Who is there, after the handshake where there is one."""
        context = None
        if self._contexts is not None:
            try:
                context = await asyncio.to_thread(self._contexts.current)
            except CertificateError as error:
                self.trouble = str(error)
                connection.close()
                raise
            self.trouble = ""
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: served,
            connection,
            ssl=context,
            ssl_handshake_timeout=None if context is None else HANDSHAKE_S,
        )
        return _proved(self._client(address), transport.get_extra_info("ssl_object"))

    def _client(self, address: str) -> Client:
        return Client(server=self._name, address=address)

    async def _sweep(self) -> None:
        """End what is idle, or sends a request in drops. One look at all of them, and no timer for each."""
        while True:
            now_s = self._monotonic_s()
            for served in list(self._served):
                if served.overdue(now_s):
                    served.end()
            await wall_sleep(SWEEP_S)


def _proved(client: Client, tls: ssl.SSLObject | None) -> Client:
    """The same client with what its certificate says. Raises ValueError where that cannot be read."""
    if tls is None:
        return client
    der = tls.getpeercert(binary_form=True)
    if der is None:
        raise ValueError("it has shown no certificate")
    peer = peer_of(der)
    return Client(
        server=client.server,
        address=client.address,
        name=peer.subject or "a certificate without a name",
        common_name=peer.common_name,
        role=peer.role,
        protected=True,
    )
