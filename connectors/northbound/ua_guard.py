"""asyncua's server, held to what a stranger may cost: every service that is not named here is refused.

asyncua 2.1 by itself lets a channel without protection create a session whatever policies are set, does not
hold the certificate of a channel against a list, hands out tokens that can be guessed, lets one session touch
the subscriptions of another, and bounds neither buffers nor rates. Each of these is closed here.
"""

import logging
import math
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto import uacrypto
from asyncua.crypto.permission_rules import PermissionRuleset, User
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession, SessionState
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary
from cryptography.exceptions import InvalidSignature

from connectors.opcua import certificates
from ems.northbound_ua import OpcUaServer, UaUser

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # what clients do wrong is in our own records


def _binary(*names: str) -> frozenset[ua.NodeId]:
    return frozenset(ua.NodeId(getattr(ObjectIds, f"{n}Request_Encoding_DefaultBinary")) for n in names)


DISCOVERY = _binary("GetEndpoints", "FindServers")
CREATE, ACTIVATE = _binary("CreateSession"), _binary("ActivateSession")
ENDING = _binary("CloseSession", "CloseSecureChannel")
WORK = _binary(
    "Read", "Write", "Browse", "TranslateBrowsePathsToNodeIds", "CreateSubscription", "ModifySubscription",
    "SetPublishingMode", "DeleteSubscriptions", "Publish", "Republish", "CreateMonitoredItems",
    "ModifyMonitoredItems", "SetMonitoringMode", "DeleteMonitoredItems", "RegisterNodes", "UnregisterNodes",
)  # fmt: skip
NONE_URI = "http://opcfoundation.org/UA/SecurityPolicy#None"
OAEP = "http://www.w3.org/2001/04/xmlenc#rsa-oaep"
OAEP_256 = "http://opcfoundation.org/UA/security/rsa-oaep-sha2-256"
SHA256, PSS_256 = (
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "http://opcfoundation.org/UA/security/rsa-pss-sha2-256",
)
MIN_PUBLISH_MS, MAX_PUBLISH_MS = 100.0, 60_000.0
QUEUE_MAX, UNACKED_MAX, LIFETIME_COUNT, KEEP_ALIVE_COUNT = 10, 50, 3000, 1000
OPERATIONS_MAX, BROWSED_MAX = 1000, 100  # nodes in one request
SESSION_S_MIN, SESSION_S_MAX, ACTIVATION_S = 10.0, 600.0, 15.0


class NotLetIn(ServiceError):
    """Whoever it is has been refused, and that is recorded already."""


class Face(Protocol):
    """What sessions ask of the server they are of."""

    server: OpcUaServer

    def program_refusal(self, der: bytes | None) -> str:
        """Why a program with this certificate may not come in; "": it may."""
        ...

    def user(self, session: "GuardedSession", name: str | None, password: str | None) -> UaUser | None:
        """Who has this password; None: nobody, which is recorded."""
        ...

    def user_of(self, session: "GuardedSession", der: bytes) -> UaUser | None:
        """Who has proved to own this certificate; None: nobody, which is recorded."""
        ...

    def refused(self, session: "GuardedSession | None", address: str, what: str, why: str) -> None:
        """Record it."""
        ...

    def write(self, session: "GuardedSession", value: ua.WriteValue) -> int:
        """Status of a value that a client writes."""
        ...

    def count_read(self) -> None:
        """Somebody reads."""
        ...


class Allowed(PermissionRuleset):
    """Services that a session may use at all; what a write does is judged value by value."""

    def check_validity(self, user: User, action_type: ua.NodeId, body: Any) -> bool:
        """Whether a service may be used."""
        return action_type in WORK


class GuardedServer(InternalServer):
    """asyncua's inner server with our sessions and users."""

    def __init__(self, face: Face) -> None:
        super().__init__(user_manager=_Nobody())  # type: ignore[arg-type]  # it has the one method
        self.face = face
        server = face.server
        self.max_connections = server.door.connections_max
        self.max_subscriptions = server.subscriptions_max * server.sessions_max
        self.max_unacked_messages_per_subscription = UNACKED_MAX
        self.max_monitored_item_queue_size = QUEUE_MAX
        self.max_lifetime_count, self.max_keep_alive_count = LIFETIME_COUNT, KEEP_ALIVE_COUNT
        self.min_session_timeout_ms, self.max_session_timeout_ms = 1e3 * SESSION_S_MIN, 1e3 * SESSION_S_MAX
        self.match_discovery_source_ip = False

    @property
    def sessions(self) -> int:
        """Sessions there are now."""
        return len(self._external_sessions)

    def create_session(self, name: Any, user: User | None = None, external: bool = False) -> InternalSession:
        """A session for whoever has proved their program; bounded in number."""
        if self.sessions >= self.face.server.sessions_max:
            raise ServiceError(StatusCodes.BadTooManySessions)
        return GuardedSession(self, str(name[0]) if isinstance(name, tuple) else str(name))


class _Nobody:
    """Users are settled by `GuardedSession`; asyncua itself lets nobody in."""

    def get_user(self, iserver: Any, **_: Any) -> None:
        """Nobody."""


class GuardedSession(InternalSession):
    """One session: its token cannot be guessed, it touches its own subscriptions alone.

    Parameters
    ----------
    address : of the client.
    """

    iserver: GuardedServer

    def __init__(self, iserver: GuardedServer, address: str) -> None:
        super().__init__(iserver, iserver.aspace, iserver.subscription_service, address, external=False)
        self.external, self.address = True, address
        self.auth_token = ua.NodeId(ua.ByteString(secrets.token_bytes(32)), ua.Int16(0))
        iserver.register_external_session(self)
        self.person: UaUser | None = None
        self.program: bytes | None = None  # certificate of the channel it was made on
        self.mode = ua.MessageSecurityMode.None_

    def activate_session(
        self, params: ua.ActivateSessionParameters, peer_certificate: bytes | None
    ) -> ua.ActivateSessionResult:
        """Settle who uses the session; again whenever its user changes."""
        if self.state == SessionState.Closed:
            raise ServiceError(StatusCodes.BadSessionIdInvalid)
        self.person = self._person(params)
        self.user = User(name=None if self.person is None else self.person.name)
        self.nonce = secrets.token_bytes(32)
        self.state = SessionState.Activated
        self.touch()
        self._start_timeout_watchdog()
        return ua.ActivateSessionResult(
            ServerNonce=self.nonce, Results=[ua.StatusCode() for _ in params.ClientSoftwareCertificates or []]
        )

    def _person(self, params: ua.ActivateSessionParameters) -> UaUser | None:
        token, face = params.UserIdentityToken, self.iserver.face
        if isinstance(token, ua.UserNameIdentityToken) and not face.server.is_open:
            found = face.user(self, *self._password(token))
        elif isinstance(token, ua.X509IdentityToken) and not face.server.is_open:
            found = face.user_of(self, self._owned(token, params.UserTokenSignature))
        elif isinstance(token, ua.UserNameIdentityToken | ua.X509IdentityToken | ua.IssuedIdentityToken):
            raise ServiceError(StatusCodes.BadIdentityTokenRejected)
        elif face.server.anonymous or face.server.is_open:
            return None
        else:
            face.refused(self, self.address, "session", "nobody may come in without saying who they are")
            raise ServiceError(StatusCodes.BadIdentityTokenRejected)
        if found is None:
            raise ServiceError(StatusCodes.BadUserAccessDenied)
        return found

    def _password(self, token: ua.UserNameIdentityToken) -> tuple[str, str]:
        """Name and password; the padding that gives passwords away (RSA 1.5) is not taken."""
        raw, key = token.Password or b"", self.iserver.private_key
        if not token.EncryptionAlgorithm:
            if self.mode != ua.MessageSecurityMode.SignAndEncrypt:
                raise ServiceError(StatusCodes.BadIdentityTokenRejected)
            return str(token.UserName), raw.decode()
        if token.EncryptionAlgorithm not in (OAEP, OAEP_256):
            raise ServiceError(StatusCodes.BadIdentityTokenRejected)
        opened: Any = uacrypto
        sha1 = token.EncryptionAlgorithm == OAEP
        try:
            plain = opened.decrypt_rsa_oaep(key, raw) if sha1 else opened.decrypt_rsa_oaep_sha256(key, raw)
        except ValueError:
            raise ServiceError(StatusCodes.BadIdentityTokenInvalid) from None
        nonce = self.nonce or b""
        length = int.from_bytes(plain[:4], "little")
        if length != len(plain) - 4 or not nonce or plain[-len(nonce) :] != nonce:
            raise ServiceError(StatusCodes.BadIdentityTokenInvalid)  # of another session: sent again
        return str(token.UserName), plain[4 : len(plain) - len(nonce)].decode()

    def _owned(self, token: ua.X509IdentityToken, signature: ua.SignatureData) -> bytes:
        """The certificate of a user who has proved to have its key."""
        if signature.Algorithm not in (SHA256, PSS_256):
            raise ServiceError(StatusCodes.BadIdentityTokenRejected)
        crypto: Any = uacrypto
        verify = crypto.verify_sha256 if signature.Algorithm == SHA256 else crypto.verify_pss_sha256
        der = bytes(token.CertificateData or b"")
        challenge = certificates.der(self.iserver.certificate) + (self.nonce or b"")
        try:
            verify(certificates.parse(der), challenge, signature.Signature)
        except (ValueError, TypeError, InvalidSignature):
            raise ServiceError(StatusCodes.BadUserSignatureInvalid) from None
        return der

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Values and attributes, a bounded number at a time."""
        _few(params.NodesToRead)
        self.iserver.face.count_read()
        return self.iserver.attribute_service.read(params)

    async def write(self, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Each value is judged by itself; none goes into a node."""
        _few(params.NodesToWrite)
        write = self.iserver.face.write
        return [ua.StatusCode(ua.UInt32(write(self, v))) for v in params.NodesToWrite]

    async def browse(self, params: ua.BrowseParameters) -> list[ua.BrowseResult]:
        """References of nodes, a bounded number at a time."""
        _few(params.NodesToBrowse, BROWSED_MAX)
        return await super().browse(params)

    async def translate_browsepaths_to_nodeids(
        self, params: list[ua.BrowsePath]
    ) -> list[ua.BrowsePathResult]:
        """Nodes at the end of paths, a bounded number at a time."""
        _few(params, BROWSED_MAX)
        return await super().translate_browsepaths_to_nodeids(params)

    async def create_subscription(
        self, params: ua.CreateSubscriptionParameters, callback: Any, request_callback: Any = None
    ) -> ua.CreateSubscriptionResult:
        """A subscription that neither floods nor outlives its session."""
        if len(self._own()) >= self.iserver.face.server.subscriptions_max:
            raise ServiceError(StatusCodes.BadTooManySubscriptions)
        asked_ms = float(params.RequestedPublishingInterval)
        asked_ms = asked_ms if math.isfinite(asked_ms) else MIN_PUBLISH_MS
        params.RequestedPublishingInterval = min(MAX_PUBLISH_MS, max(MIN_PUBLISH_MS, asked_ms))
        return await super().create_subscription(params, callback, request_callback)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """Items of an own subscription, in a bounded number, each with a short queue."""
        self._mine([params.SubscriptionId])
        _few(params.ItemsToCreate)
        there = sum(len(s.monitored_item_srv._monitored_items) for s in self._own().values())
        if there + len(params.ItemsToCreate) > self.iserver.face.server.items_max:
            raise ServiceError(StatusCodes.BadTooManyMonitoredItems)
        return await super().create_monitored_items(params)

    async def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """The same items with other parameters; queues stay short."""
        self._mine([params.SubscriptionId])
        _few(params.ItemsToModify)
        for item in params.ItemsToModify:
            asked = item.RequestedParameters
            asked.QueueSize = ua.UInt32(min(QUEUE_MAX, max(1, int(asked.QueueSize))))
        return await super().modify_monitored_items(params)

    async def set_monitoring_mode(self, params: ua.SetMonitoringModeParameters) -> list[ua.StatusCode]:
        """Of own items."""
        self._mine([params.SubscriptionId])
        return await super().set_monitoring_mode(params)

    async def set_publishing_mode(self, params: ua.SetPublishingModeParameters) -> list[ua.StatusCode]:
        """Of own subscriptions."""
        self._mine(params.SubscriptionIds)
        return await super().set_publishing_mode(params)

    async def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> list[ua.StatusCode]:
        """Own items."""
        self._mine([params.SubscriptionId])
        return await super().delete_monitored_items(params)

    async def delete_subscriptions(self, ids: list[int]) -> list[ua.StatusCode]:
        """Own subscriptions."""
        self._mine(ids)
        return await super().delete_subscriptions(ids)

    def republish(self, params: ua.RepublishParameters) -> ua.NotificationMessage:
        """A message of an own subscription."""
        self._mine([params.SubscriptionId])
        return super().republish(params)

    def publish(self, acks: Iterable[ua.SubscriptionAcknowledgement] | None = None) -> Any:
        """Ask for messages; what others have received is not ours to acknowledge."""
        own = self._own()
        return super().publish([a for a in acks or () if int(a.SubscriptionId) in own])

    def _own(self) -> dict[int, Any]:
        every = self.subscription_service.subscriptions
        return {int(i): s for i, s in every.items() if s.session_id == self.session_id}

    def _mine(self, ids: Sequence[int]) -> None:
        own = self._own()
        if any(int(i) not in own for i in ids):
            raise ServiceError(StatusCodes.BadSubscriptionIdInvalid)


def _few(operations: Sequence[Any], most: int = OPERATIONS_MAX) -> None:
    if len(operations) > most:
        raise ServiceError(StatusCodes.BadTooManyOperations)


class GuardedProcessor(UaProcessor):
    """The messages of one connection: who may open a channel, and which services there are on it."""

    iserver: GuardedServer
    session: GuardedSession | None

    @property
    def _is_plain(self) -> bool:
        return bool(self._connection.security_policy.URI == NONE_URI)

    def open_secure_channel(self, algohdr: Any, seqhdr: Any, body: Any) -> None:
        """A channel for a program that is believed; one without protection is for questions alone."""
        if algohdr.SecurityPolicyURI != NONE_URI:
            why = self.iserver.face.program_refusal(algohdr.SenderCertificate)
            if self._connection.is_open() and not why:
                same = algohdr.SenderCertificate == self._connection.security_policy.peer_certificate
                why = "" if same else "another certificate than that of its channel"
            if why:
                self.iserver.face.refused(self.session, str(self.name[0]), "connection", why)
                raise NotLetIn(StatusCodes.BadSecurityChecksFailed)
        elif self._connection.is_open() and not self._is_plain:
            raise ServiceError(StatusCodes.BadSecurityPolicyRejected)
        super().open_secure_channel(algohdr, seqhdr, body)  # type: ignore[no-untyped-call]

    async def _process_message(self, typeid: ua.NodeId, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        if typeid in DISCOVERY or typeid in ENDING:
            return await self._done(typeid, requesthdr, seqhdr, body)
        if not (typeid in CREATE or typeid in ACTIVATE or typeid in WORK):
            raise ServiceError(StatusCodes.BadServiceUnsupported)
        if self._is_plain and not self.iserver.face.server.is_open:
            self.iserver.face.refused(None, str(self.name[0]), "session", "over a channel without protection")
            raise ServiceError(StatusCodes.BadSecurityModeInsufficient)
        if typeid in CREATE:
            self._may_create(body)
        elif self.session is None or self.session.auth_token != requesthdr.AuthenticationToken:
            raise ServiceError(StatusCodes.BadSessionIdInvalid)
        done = await self._done(typeid, requesthdr, seqhdr, body)
        if self.session is not None and typeid in CREATE:
            self.session.program = self._connection.security_policy.peer_certificate
            self.session.mode = self._connection.security_policy.Mode
        return done

    async def _done(self, *message: Any) -> Any:
        return await super()._process_message(*message)  # type: ignore[no-untyped-call]

    def _may_create(self, body: Any) -> None:
        """One session a connection, by the program whose channel it is."""
        if self.session is not None and self.session.state != SessionState.Closed:
            raise ServiceError(StatusCodes.BadTooManySessions)
        if self._is_plain:
            return
        params = struct_from_binary(ua.CreateSessionParameters, body.copy())
        shown = self._connection.security_policy.peer_certificate
        if not shown or params.ClientCertificate != shown:
            raise ServiceError(StatusCodes.BadCertificateInvalid)
        if str(params.ClientDescription.ApplicationUri) not in certificates.uris(certificates.parse(shown)):
            raise ServiceError(StatusCodes.BadCertificateUriInvalid)

    def _should_close_session_on_transport_loss(self) -> bool:
        return True  # nobody takes up a session of another connection
