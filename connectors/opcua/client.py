"""OPC UA link: asyncua underneath, all points read at once or told by a subscription, nothing retried.

At once is one request, or as many as the server's limits make of it, one after the other.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from connectors.expiry import Expiry
from connectors.link import Latest, LinkError, PointValue, WriteReply, as_decided
from connectors.opcua import limits
from connectors.opcua.nodes import resolve
from connectors.opcua.security import SafeClient, explained, protect, url_of
from connectors.opcua.subscription import Book, subscribe
from connectors.opcua.tapped import tapped
from connectors.opcua.values import FAULTS, aware, point_value, sampled_value, text_of, words
from connectors.point_map import PointCodec
from connectors.wire_log import QUIET
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.site import Connection
from ems.telemetry import Quality
from ems.ua_path import is_path

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs every lost connection; we report links

NEVER_S = 1e6  # asyncua's own server watchdog: our polls see a dead server sooner
CHANNEL_MS = 3_600_000  # keys of a channel are changed after three quarters of it
SESSION_S_MIN, SESSION_POLLS = 30.0, 5.0  # how long a server keeps a session that is silent
CONNECT_ROUND_TRIPS = 6
DISCOVERY_ROUND_TRIPS = 4  # where the server is asked for its certificate first
LOOK_AGAIN_S = 10.0  # for the node of a browse path that leads nowhere, or whose node is gone
NAMESPACES = ua.NodeId.from_string("i=2255")  # Server.NamespaceArray
ABSENT = PointValue(None, Quality.DEVICE_BAD, None)  # of a browse path that leads nowhere
CUT_OFF = WriteReply(WriteOutcome.NOT_SENT, "the writes before it took too long, or the connection was lost")
TOO_LATE = WriteReply(WriteOutcome.NOT_SENT, "the cycle was over before it could be sent")


class OpcUaLink:
    """One OPC UA session.

    Parameters
    ----------
    connection : endpoint path and time-out of the device.
    codecs : its points; addresses are node ids or browse paths, name their namespaces by URI and are
        resolved once per session. A path that leads nowhere is bad, and followed again now and then.
    host, port : where it listens.
    timeout_s : deadline of each request, wall time [s]; the connect may take a few of them.
    now : aware time, to compare the validity of certificates with.
    """

    def __init__(
        self,
        connection: Connection,
        codecs: Sequence[PointCodec],
        *,
        host: str,
        port: int,
        timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._url = url_of(connection.endpoint, host, port)
        self.tap = QUIET
        self._timeout_s = timeout_s
        self._host, self._now = host, now
        self._security = connection.security
        self._session_s = max(SESSION_S_MIN, SESSION_POLLS * connection.poll_s)
        self.expiries: tuple[Expiry, ...] = ()  # of the certificates of the last attempt to connect
        self._codecs = tuple(codecs)
        self._identity = connection.identity
        self._sampled = connection.stamps_sampled
        self._namespaces: list[str] = []
        self._client: Client | None = None
        self._nodes: dict[str, ua.NodeId] = {}
        self._paths = {c.point.point: a for c in codecs if is_path(a := c.point.address)}
        self._looked_s = 0.0
        self._limits = limits.NONE_TOLD
        self._questions: list[ua.ReadValueId] = []
        self._asked = connection.subscription
        self._read: tuple[PointCodec, ...] = self._codecs  # read at each poll; the others are told
        self._book: Book | None = None
        self._counted = (0, 0)  # overflows and repeated messages of the subscriptions before
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        return self._client is not None

    @property
    def session(self) -> UaSession:
        """For other questions than those of a device. Raises LinkError where there is none."""
        return self._usable().uaclient.session

    @property
    def namespaces(self) -> tuple[str, ...]:
        """URIs of the server's namespaces by index, as read when the session was made."""
        return tuple(self._namespaces)

    @property
    def operation_limits(self) -> limits.Limits:
        """How many nodes the server takes in one request, as told when the session was made."""
        return self._limits

    async def connect(self) -> None:
        await self.disconnect()
        client = SafeClient(self._url, timeout=self._timeout_s, watchdog_intervall=NEVER_S)
        tapped(client, self.tap)
        client.secure_channel_timeout = CHANNEL_MS
        client.session_timeout = int(1000.0 * self._session_s)
        try:
            await self._protect(client)
            async with asyncio.timeout((CONNECT_ROUND_TRIPS + limits.ROUND_TRIPS) * self._timeout_s):
                await client.connect()
                self._namespaces = list(await client.get_namespace_array())
                self._limits = await limits.told(client.uaclient.session)
                self._nodes = await self._resolved(
                    client, {c.point.point: c.point.address for c in self._codecs}
                )
                self._looked_s = wall_s()
            await self._subscribe(client)
        except FAULTS as error:
            self._tear_down(client)
            told = explained(error, self._security)
            if told is not None:
                raise type(told)(f"cannot connect to {self._url}: {told}") from None
            raise LinkError(f"cannot connect to {self._url}: {words(error)}") from None
        except LinkError as error:
            self._tear_down(client)
            raise type(error)(f"cannot connect to {self._url}: {error}") from None
        except BaseException:
            self._tear_down(client)
            raise
        self._read = tuple(c for c in self._read if c.point.point in self._nodes)
        # The namespaces last: where they are the known ones, so were they in the requests before.
        nodes = [*(self._nodes[c.point.point] for c in self._read), NAMESPACES]
        self._questions = [limits.value_of(n) for n in nodes]
        self._client = client

    async def _resolved(self, client: Client, addresses: Mapping[str, str]) -> dict[str, ua.NodeId]:
        session = client.uaclient.session
        return await resolve(session, addresses, self._namespaces, paths_max=self._limits.paths_max)

    async def _subscribe(self, client: SafeClient) -> None:
        """Have the points that are only read told; what the server does not tell well is read.

        Setpoints are read, so that what is read back after a write is never from before it.
        """
        self._read, self._book = self._codecs, None
        if self._asked is None:
            return
        told = [c for c in self._codecs if not c.point.writable and c.point.point in self._nodes]
        nodes = [(c, self._nodes[c.point.point]) for c in told]
        if not nodes:
            return
        within_s = CONNECT_ROUND_TRIPS * self._timeout_s + 2.0 * self._asked.keep_alive_s
        async with asyncio.timeout(within_s):
            self._book = await subscribe(
                client,
                self._asked,
                nodes,
                items_max=self._limits.items_max,
                sampled=self._sampled,
                timeout_s=self._timeout_s,
                now_s=wall_s,
            )
        self._read = tuple(c for c in self._codecs if c.point.point not in self._book.values)

    async def _protect(self, client: SafeClient) -> None:
        """Settle who is there, where the site file asks for it."""
        if self._security is None or not self._security.is_on:
            return
        noted: list[Expiry] = []
        discovery = Client(self._url, timeout=self._timeout_s, watchdog_intervall=NEVER_S)
        try:
            async with asyncio.timeout(DISCOVERY_ROUND_TRIPS * self._timeout_s):
                await protect(client, discovery, self._security, host=self._host, now=self._now, noted=noted)
        finally:
            self._tear_down(discovery)
            if noted:
                self.expiries = tuple(noted)

    async def identify(self) -> dict[str, str | None]:
        if not self._identity:
            return {}
        client = self._usable()
        try:
            async with asyncio.timeout(self._timeout_s):
                nodes = await self._resolved(client, {f.name: f.address for f in self._identity})
                wanted = [limits.value_of(n) for n in nodes.values()]
                results = await limits.read(client.uaclient.session, wanted, self._limits.reads_max)
        except FAULTS as error:
            self._drop()
            raise LinkError(f"identity: {words(error)}") from None
        told = dict(zip(nodes, results, strict=True))
        return {f.name: text_of(told[f.name]) if f.name in told else None for f in self._identity}

    async def read(self) -> dict[str, PointValue]:
        client = self._usable()
        try:
            async with asyncio.timeout(self._timeout_s):
                results = await limits.read(client.uaclient.session, self._questions, self._limits.reads_max)
        except FAULTS as error:
            self._drop()
            raise LinkError(f"read: {words(error)}") from None
        *values, namespaces = results
        if namespaces.Value is None or namespaces.Value.Value != self._namespaces:
            self._drop()  # the indices our node ids were made with may mean others now
            raise LinkError("the namespaces of the server have changed")
        out = {
            codec.point.point: self._value(codec, value, aware(value.ServerTimestamp))
            for codec, value in zip(self._read, values, strict=True)
        }
        absent = {c.point.point: ABSENT for c in self._codecs if c.point.point not in self._nodes}
        raw = {c.point.point: v for c, v in zip(self._read, values, strict=True)}
        told = {} if self._book is None else self._told(self._book)
        if self._book is not None:
            raw |= self._book.values
        if absent or any(p in self._paths and _gone(v) for p, v in raw.items()):
            await self._look_again(client)
        return told | out | absent

    async def _look_again(self, client: Client) -> None:
        """Follow the browse paths anew. Raises LinkError where they lead elsewhere now than they did."""
        if wall_s() - self._looked_s < LOOK_AGAIN_S:
            return
        self._looked_s = wall_s()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._resolved(client, self._paths)
        except FAULTS as error:
            self._drop()
            raise LinkError(f"browse paths: {words(error)}") from None
        known = {p: n for p, n in self._nodes.items() if p in self._paths}
        if moved := sorted(p for p in self._paths if found.get(p) != known.get(p)):
            self._drop()
            raise LinkError(f"browse paths lead elsewhere now: {', '.join(moved[:5])}")

    def _told(self, book: Book) -> dict[str, PointValue]:
        """What the subscription told last, as old as its last proof. Raises LinkError where it is dead."""
        now_s = wall_s()
        try:
            book.check(now_s)
        except LinkError:
            self._drop()
            raise
        age_s, told = book.age_s(now_s), book.values
        return {
            c.point.point: self._value(c, told[c.point.point], book.served)._replace(age_s=age_s)
            for c in self._codecs
            if c.point.point in told
        }

    @property
    def counts(self) -> dict[str, int]:
        """What happened to its subscriptions since the start; empty where it is polled."""
        if self._asked is None:
            return {}
        overflows, repeated = self._counted
        if self._book is not None:
            overflows, repeated = overflows + self._book.overflows, repeated + self._book.repeated
        return {"queue_overflows": overflows, "repeated_messages": repeated}

    def _value(self, codec: PointCodec, result: ua.DataValue, served: datetime | None) -> PointValue:
        return sampled_value(codec, result, served) if self._sampled else point_value(codec, result)

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        ends_s = wall_s() + self._timeout_s  # of all requests together
        client = self._client
        replies: list[WriteReply] = []
        for some in limits.portions(values, self._limits.writes_max):
            if wall_s() >= until_s:
                replies += [TOO_LATE] * len(some)
            elif self._client is not client or wall_s() >= ends_s:
                replies += [CUT_OFF] * len(some)
            else:
                replies += await self._write_some(some, latest, ends_s)
        return replies

    async def _write_some(
        self, values: Sequence[tuple[PointCodec, float]], latest: Latest, ends_s: float
    ) -> list[WriteReply]:
        replies: list[WriteReply | None] = []
        wanted: list[ua.WriteValue] = []
        for codec, value in values:
            try:
                wanted.append(self._write_value(codec, latest(codec, value)))
                replies.append(None)
            except (BadValue, LinkError) as error:
                replies.append(WriteReply(WriteOutcome.NOT_SENT, str(error)))
        sent = iter(await self._send(wanted, ends_s)) if wanted else iter(())
        return [reply if reply is not None else next(sent) for reply in replies]

    async def disconnect(self) -> None:
        self._drop()
        if self._closing:
            await asyncio.wait(self._closing, timeout=self._timeout_s)

    async def _send(self, wanted: list[ua.WriteValue], ends_s: float) -> list[WriteReply]:
        try:
            client = self._usable()
        except LinkError as error:
            return [WriteReply(WriteOutcome.NOT_SENT, str(error))] * len(wanted)
        try:
            async with asyncio.timeout(ends_s - wall_s()):
                codes = await limits.write(client.uaclient.session, wanted, self._limits.writes_max)
        except limits.TooManyOperations as error:  # an answer, and none of them was carried out
            return [WriteReply(WriteOutcome.REJECTED, str(error))] * len(wanted)
        except FAULTS as error:
            self._drop()
            return [WriteReply(WriteOutcome.UNKNOWN, f"write: {words(error)}")] * len(wanted)
        return [
            WriteReply(WriteOutcome.CONFIRMED, "")
            if code.is_good()
            else WriteReply(WriteOutcome.REJECTED, code.name)
            for code in codes
        ]

    def _write_value(self, codec: PointCodec, value: float) -> ua.WriteValue:
        raw = codec.to_raw(value)
        node = self._nodes.get(codec.point.point)
        if node is None:
            why = "not connected" if self._client is None else f"no node at {codec.point.address}"
            raise LinkError(why)
        # Without time stamps: servers that set their own refuse a client's.
        data = ua.DataValue(Value=ua.Variant(raw, ua.VariantType[codec.raw.name]))
        return ua.WriteValue(NodeId=node, AttributeId=AttributeIds.Value, Value=data)

    def _usable(self) -> Client:
        if self._client is None:
            raise LinkError("not connected")
        return self._client

    def _drop(self) -> None:
        client, self._client = self._client, None
        if self._book is not None:
            self._counted = (self._counted[0] + self._book.overflows, self._counted[1] + self._book.repeated)
            self._book = None
        self._nodes = {}
        if client is not None:
            self._tear_down(client)

    def _tear_down(self, client: Client) -> None:
        """Drop the socket now, unsent bytes included, and let asyncua clear up behind us."""
        protocol = client.uaclient.protocol
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
        client.disconnect_socket()
        task = asyncio.get_running_loop().create_task(_clear_up(client, self._timeout_s))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _gone(result: ua.DataValue) -> bool:
    return result.StatusCode is not None and result.StatusCode.value == StatusCodes.BadNodeIdUnknown


async def _clear_up(client: Client, timeout_s: float) -> None:
    with contextlib.suppress(*FAULTS):
        async with asyncio.timeout(timeout_s):
            await client.disconnect()
