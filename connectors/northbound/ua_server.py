"""An OPC UA server over an image and a door: nodes are filled from memory, writes are told to the edge."""

import asyncio
import socket
from collections.abc import Callable
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.expiry import EXPIRY_DAYS, Expiry, ending
from connectors.northbound.client import Client
from connectors.northbound.door import Code, DeskDoor
from connectors.northbound.guard import Budget
from connectors.northbound.image import Board
from connectors.northbound.listener import Listener
from connectors.northbound.records import Records
from connectors.northbound.ua_connection import UaConnection
from connectors.northbound.ua_guard import Allowed, GuardedServer, GuardedSession
from connectors.northbound.ua_people import People, Programs
from connectors.northbound.ua_space import Space
from connectors.opcua import certificates
from connectors.opcua.certificates import CertificateError
from connectors.opcua.values import aware
from ems.clock import Clock, wall_sleep
from ems.northbound_names import ua_namespace
from ems.northbound_ua import OpcUaServer, UaServerFiles, UaUser
from ems.records import JsonValue
from ems.site import Site

LOOK_S = 0.25  # so often the nodes are held against the newest image
STAMP_S_MAX = 60.0  # a write that was made longer ago, or later, by the client's clock is of another time
NUMBERS = frozenset(
    getattr(ua.VariantType, t)
    for t in ("SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double")
)
STATUS = {  # what a client is answered to a write
    Code.TAKEN: StatusCodes.GoodCompletesAsynchronously,
    Code.NOT_WRITABLE: StatusCodes.BadNotWritable,
    Code.NOT_ALLOWED: StatusCodes.BadUserAccessDenied,
    Code.OUT_OF_BOUNDS: StatusCodes.BadOutOfRange,
    Code.TOO_OFTEN: StatusCodes.BadTooManyOperations,
    Code.EDGE_AWAY: StatusCodes.BadNoCommunication,
}


class UaFace:
    """What all sessions of one server ask and tell.

    Parameters
    ----------
    folder : that files are relative to.
    """

    def __init__(
        self, server: OpcUaServer, door: DeskDoor, records: Records, *, folder: Path, clock: Clock
    ) -> None:
        self.server, self._door, self._records, self._now = server, door, records, clock.now
        self._people = People(server.users, folder, now=clock.now, monotonic_s=clock.monotonic_s)
        trusted = None if server.files is None else folder / server.files.trusted
        self._programs = None if trusted is None else Programs(trusted, now=clock.now)
        self.limits: dict[ua.NodeId, str] = {}
        self.reads = self.writes = 0

    def program_refusal(self, der: bytes | None) -> str:
        """Why a program with this certificate may not come in; "": it may."""
        return "there is no list of programs" if self._programs is None else self._programs.refusal(der)

    def user(self, session: GuardedSession, name: str | None, password: str | None) -> UaUser | None:
        """Who has this password; None: nobody, which is recorded."""
        return self._found(session, self._people.by_password(name, password, session.address))

    def user_of(self, session: GuardedSession, der: bytes) -> UaUser | None:
        """Who has proved to own this certificate; None: nobody, which is recorded."""
        return self._found(session, self._people.by_certificate(der))

    def _found(self, session: GuardedSession, found: tuple[UaUser | None, str]) -> UaUser | None:
        user, why = found
        if user is None:
            self.refused(session, session.address, "session", why)
        return user

    def refused(self, session: GuardedSession | None, address: str, what: str, why: str) -> None:
        """Record it."""
        client = Client(server=self.server.id, address=address) if session is None else self.client(session)
        self._records.refused(client, what, "not_let_in" if what != "message" else "malformed", why)

    def count_read(self) -> None:
        """Somebody reads."""
        self.reads += 1

    def client(self, session: GuardedSession) -> Client:
        """Who uses a session, as the door knows clients: the user counts, the program is told beside."""
        person = session.person
        program = ""
        if session.program:
            program = certificates.parse(session.program).subject.rfc4514_string()[:100]
        who = f"user {person.name} of {program}" if person is not None else program
        return Client(
            server=self.server.id,
            address=session.address,
            name=who,
            common_name="" if person is None else person.name,
            role="" if person is None else person.role,
            protected=person is not None and not self.server.is_open,
        )

    def write(self, session: GuardedSession, value: ua.WriteValue) -> int:
        """Status of a value that a client writes. Nothing but a declared bound goes any further."""
        self.writes += 1
        client, what = self.client(session), str(value.NodeId.Identifier)[:100]
        limit = self.limits.get(value.NodeId)
        if limit is None or value.AttributeId != AttributeIds.Value or value.IndexRange:
            why = "only values of the limits that the site file names may be written, whole"
            return STATUS[self._door.refuse(client, what, why).code]
        data = value.Value
        number = None if data.Value is None else data.Value.Value
        kind = None if data.Value is None else data.Value.VariantType
        if kind not in NUMBERS or not isinstance(number, int | float):
            self._door.refuse(client, what, f"{kind} is no number", Code.OUT_OF_BOUNDS)
            return StatusCodes.BadTypeMismatch
        if data.StatusCode is not None and not data.StatusCode.is_good():
            self._door.refuse(client, what, "its own status is not good", Code.OUT_OF_BOUNDS)
            return StatusCodes.BadWriteNotSupported
        made = aware(data.SourceTimestamp)
        if made is not None and abs((self._now() - made).total_seconds()) > STAMP_S_MAX:
            why = f"stamped {made:%Y-%m-%d %H:%M:%S} UTC, not within {STAMP_S_MAX:g} s of now"
            self._door.refuse(client, what, why, Code.OUT_OF_BOUNDS)
            return StatusCodes.BadInvalidTimestamp
        return STATUS[self._door.tell(client, self.server.writes, limit, float(number)).code]


class UaServing:
    """One OPC UA server of a site, from listening to the end.

    Parameters
    ----------
    folder : that the files of certificates and passwords are relative to.
    """

    def __init__(
        self,
        site: Site,
        server: OpcUaServer,
        board: Board,
        door: DeskDoor,
        records: Records,
        *,
        folder: Path,
        clock: Clock,
    ) -> None:
        self.name = server.id
        self._site, self._server, self._board, self._door = site, server, board, door
        self._folder, self._now = folder, clock.now
        self.face = UaFace(server, door, records, folder=folder, clock=clock)
        self._iserver: GuardedServer | None = None
        self._space: Space | None = None
        self._policies: list[Any] = []
        self._connections: list[Any] = []
        self._closing: list[asyncio.Task[Any]] = []
        self._task: asyncio.Task[None] | None = None
        self._expiries: tuple[Expiry, ...] = ()

        def connection(leave: Callable[[], None]) -> UaConnection:
            assert self._iserver is not None
            budget = Budget(server.door.requests_per_s, clock.monotonic_s)
            return UaConnection(
                self._iserver,
                self._policies,
                self._connections,
                self._closing,
                budget=budget,
                leave=leave,
                monotonic_s=clock.monotonic_s,
            )

        self._listener = Listener(
            server.id, server.door, records, make=connection, contexts=None, monotonic_s=clock.monotonic_s
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

    async def start(self) -> None:
        """Make the nodes, and listen.

        Raises
        ------
        EmsError : a certificate cannot be used, or the address or port cannot be had now.
        """
        if self._iserver is None:
            self._iserver = await self._made()
        self._listener.start()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def _made(self) -> GuardedServer:
        own = await asyncio.to_thread(self._own)  # before the nodes, which cost a second
        iserver = GuardedServer(self.face)
        outer = Server(iserver=iserver)
        outer.name = f"hybrid-ems {self._site.name}"
        outer.manufacturer_name, outer.product_uri = "hybrid-ems", "urn:hybrid-ems"
        await outer.init()
        name = outer.name
        await outer.set_build_info(
            outer.product_uri, "hybrid-ems", name, version("hybrid-ems"), "", self._now().replace(tzinfo=None)
        )
        outer.set_endpoint(self._url())
        await self._protected(outer, own)
        index = await outer.register_namespace(ua_namespace(self._site))
        told = () if self._server.writes is None else self._server.writes.limits
        self._space = Space(iserver, self._site, index, told)
        await self._space.build()
        self.face.limits = self._space.limits
        await outer._setup_server_nodes()
        self._policies = list(outer._policies)
        await iserver.start()
        return iserver

    def _own(self) -> tuple[x509.Certificate, rsa.RSAPrivateKey] | None:
        """Our certificate and key; None where there are none. Blocks. Raises CertificateError."""
        if self._server.files is None:
            return None
        files = located(self._server.files, self._folder)
        certificate = certificates.read_certificate(Path(files.certificate))
        key = certificates.read_key(Path(files.key))
        if key.public_key() != certificate.public_key():
            raise CertificateError(f"{files.key} is not the key of {files.certificate}")
        if late := certificates.out_of_date(certificate, self._now()):
            raise CertificateError(f"{files.certificate} {late}: see ems certificate make")
        if not certificates.uris(certificate):
            raise CertificateError(f"{files.certificate} has no application URI: see ems certificate make")
        self._expiries = (Expiry(f"our certificate {files.certificate}", certificate.not_valid_after_utc),)
        return certificate, key

    async def _protected(self, outer: Server, own: tuple[x509.Certificate, rsa.RSAPrivateKey] | None) -> None:
        """Policies, certificate and kinds of users."""
        server = self._server
        if own is None:
            outer.set_security_policy([ua.SecurityPolicyType.NoSecurity], permission_ruleset=Allowed())  # type: ignore[arg-type]
            outer.set_identity_tokens([ua.AnonymousIdentityToken])
            return
        certificate, key = own
        await outer.set_application_uri(certificates.uris(certificate)[0])
        outer.iserver.certificate, outer.iserver.private_key = certificate, key
        kinds = [getattr(ua.SecurityPolicyType, f"{p}_{server.mode}") for p in server.policies]
        outer.set_security_policy(kinds, permission_ruleset=Allowed())  # type: ignore[arg-type]
        tokens: list[type] = []
        if any(u.certificate is None for u in server.users):
            tokens.append(ua.UserNameIdentityToken)
        if any(u.certificate is not None for u in server.users):
            tokens.append(ua.X509IdentityToken)
        if server.anonymous:
            tokens.append(ua.AnonymousIdentityToken)
        outer.set_identity_tokens(tokens)

    def _url(self) -> str:
        door = self._server.door
        host = socket.gethostname() if ip_address(door.host).is_unspecified else door.host
        return f"opc.tcp://{f'[{host}]' if ':' in host else host}:{door.port}{self._server.endpoint}"

    async def _follow(self) -> None:
        """Hold the nodes against the newest image, and clear up behind connections that are over."""
        assert self._space is not None
        while True:
            await self._space.show(self._board.now(), {k: int(v) for k, v in self._door.answers.items()})
            over = [t for t in self._closing if t.done()]
            self._closing[:] = [t for t in self._closing if not t.done()]
            await asyncio.gather(*over, return_exceptions=True)
            await wall_sleep(LOOK_S)

    def status(self) -> dict[str, JsonValue]:
        """How it does; raises what is a bug."""
        self._listener.raise_bugs()
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        return {
            "connections": self._listener.open,
            "accepted": self._listener.accepted,
            "sessions": 0 if self._iserver is None else self._iserver.sessions,
            "reads": self.face.reads,
            "writes": self.face.writes,
            "trouble": self._listener.trouble,
            "certificates": "; ".join(ending(self._expiries, self._now(), EXPIRY_DAYS)),
        }

    async def close(self) -> None:
        """End every connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._listener.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._iserver is not None:
            await self._iserver.stop()


def located(files: UaServerFiles, folder: Path) -> UaServerFiles:
    """The same with whole paths: files are relative to the folder of the site file."""
    return UaServerFiles(
        certificate=str((folder / files.certificate).absolute()),
        key=str((folder / files.key).absolute()),
        trusted=str((folder / files.trusted).absolute()),
    )
