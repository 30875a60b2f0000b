"""Where a server over TCP lets clients in: its socket, its certificates, and how both do."""

from collections.abc import Callable
from pathlib import Path

from connectors.expiry import EXPIRY_DAYS, ending
from connectors.northbound.listener import Listener, Served
from connectors.northbound.records import Records
from connectors.opcua.certificates import CertificateError
from connectors.tls import Contexts, located
from ems.clock import Clock
from ems.northbound import Door
from ems.records import JsonValue


class Doorway:
    """The way in to one server, with TLS where its door has it.

    Parameters
    ----------
    name : of the server.
    make : makes the protocol of a connection, which calls what it is handed when the connection is lost.
    folder : that the certificates' files are relative to.
    """

    def __init__(
        self,
        name: str,
        door: Door,
        records: Records,
        *,
        make: Callable[[Callable[[], None]], Served],
        folder: Path,
        clock: Clock,
    ) -> None:
        self._now = clock.now
        files = door.tls
        self._contexts = (
            None if files is None else Contexts(located(files, folder), server=True, now=clock.now)
        )
        self._listener = Listener(
            name, door, records, make=make, contexts=self._contexts, monotonic_s=clock.monotonic_s
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

    def start(self) -> None:
        """Listen. Raises EmsError where the address or port cannot be had now."""
        self._listener.start()
        if self._contexts is not None:
            try:
                self._contexts.current()
            except CertificateError as error:
                self._listener.trouble = str(error)

    def status(self) -> dict[str, JsonValue]:
        """How it does; raises what is a bug."""
        self._listener.raise_bugs()
        expiries = () if self._contexts is None else self._contexts.expiries
        return {
            "connections": self._listener.open,
            "accepted": self._listener.accepted,
            "trouble": self._listener.trouble,
            "certificates": "; ".join(ending(expiries, self._now(), EXPIRY_DAYS)),
        }

    async def close(self) -> None:
        """End every connection."""
        await self._listener.close()
