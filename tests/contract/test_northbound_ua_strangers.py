"""What a stranger, or a client that keeps to no rule, gets from our OPC UA server, and at what cost."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from connectors.northbound.ua_connection import CHUNK_MAX
from connectors.opcua import certificates
from ems.clock import wall_sleep
from tests.contract.northbound_ua_peer import laid_out, serving
from tests.contract.pki import Pair, pair

pytestmark = pytest.mark.asyncio(loop_scope="module")
FAR = 600.0
NOW_THERE = ua.NodeId.from_string("i=2258")


class Rig:
    def __init__(self, up: Any, own: Pair, server: Any, stranger: Pair) -> None:
        self.serving, self.plant = up
        self.own, self.server, self.stranger = own, server, stranger

    @property
    def last(self) -> str:
        last = self.plant.records.last
        return "" if last is None else last.why

    def client(self, who: Pair | None = None, user: str | None = "scada") -> Client:
        client = Client(f"opc.tcp://127.0.0.1:{self.serving.port}/ems", timeout=10, watchdog_intervall=1e6)
        client.application_uri = "urn:test:client"
        who = self.own if who is None else who
        mode = ua.MessageSecurityMode.SignAndEncrypt
        made: Any = SecurityPolicyBasic256Sha256
        policy = made(self.server, who.certificate, who.key, mode)
        client.security_policy = policy
        client.uaclient.set_security(policy)
        if user is not None:
            client.set_user(user)
            client.set_password("look")
        return client

    def plain(self) -> Client:
        client = Client(f"opc.tcp://127.0.0.1:{self.serving.port}/ems", timeout=10, watchdog_intervall=1e6)
        client.set_user("scada")
        client.set_password("look")
        return client

    async def ended(self, reader: asyncio.StreamReader) -> bool:
        async with asyncio.timeout(20.0):
            try:
                while await reader.read(4096):
                    pass
            except OSError:
                pass
            return True


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig(demo, tmp_path_factory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("ua")
    own, stranger = pair("urn:test:client", "edge"), pair("urn:test:client", "edge")
    files = laid_out(folder, {"client": own}, {"eve": pair("urn:test:eve")})
    (folder / "trusted" / "client.der").write_bytes(own.der)
    server = certificates.read_certificate(folder / "server.der")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connectors.northbound.image.FRESH_S_MIN", FAR)
        more: dict[str, Any] = {"sessions_max": 2, "subscriptions_max": 2, "items_max": 5}
        async with serving(demo, folder, tmp_path_factory.mktemp("run"), files, **more) as up:
            yield Rig(up, own, server, stranger)


async def told(work: Any, code: int) -> None:
    with pytest.raises(UaStatusCodeError) as caught:
        await work
    assert caught.value.code == code, caught.value


async def test_channel_without_protection_is_for_questions_alone(rig):
    """asyncua's own server makes a session on such a channel, whatever policies it was told."""
    client = rig.plain()
    await client.connect_socket()
    try:
        await client.send_hello()
        await client.open_secure_channel()
        endpoints = await client.get_endpoints()
        assert {e.SecurityMode for e in endpoints} == {ua.MessageSecurityMode.SignAndEncrypt}
        await told(client.create_session(), StatusCodes.BadSecurityModeInsufficient)
        assert "without protection" in rig.last
        register = client.uaclient.register_server(ua.RegisteredServer())
        await told(register, StatusCodes.BadServiceUnsupported)
    finally:
        client.disconnect_socket()


async def test_certificate_of_the_channel_is_what_is_believed_not_what_a_request_shows(rig):
    client = rig.client(rig.stranger)
    with pytest.raises((UaError, OSError, TimeoutError, AssertionError)):
        await client.connect()
    client.disconnect_socket()
    assert "its certificate is not in" in rig.last


async def test_known_program_shows_another_certificate_in_its_session_and_gets_none(rig):
    client = rig.client()
    await client.connect_socket()
    try:
        await client.send_hello()
        await client.open_secure_channel()
        params = ua.CreateSessionParameters(
            ClientNonce=b"n" * 32, ClientCertificate=rig.stranger.der, RequestedSessionTimeout=20_000.0
        )
        session = client.uaclient.session
        await told(session.create_session(params), StatusCodes.BadCertificateInvalid)
        params.ClientCertificate = rig.own.der
        params.ClientDescription.ApplicationUri = "urn:somebody:else"
        await told(session.create_session(params), StatusCodes.BadCertificateUriInvalid)
    finally:
        client.disconnect_socket()


async def test_nobody_comes_in_without_saying_who_they_are(rig):
    client = rig.client(user=None)
    with pytest.raises((UaError, OSError, TimeoutError)):
        await client.connect()
    client.disconnect_socket()
    assert "without saying who they are" in rig.last


async def test_sessions_subscriptions_items_and_paces_are_bounded_and_others_are_not_touched(rig):
    first, second = rig.client(), rig.client()
    await first.connect()
    await second.connect()
    try:
        third = rig.client()
        with pytest.raises((UaError, OSError, TimeoutError)):
            await third.connect()
        third.disconnect_socket()
        fast = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=0.001, RequestedLifetimeCount=2**31, RequestedMaxKeepAliveCount=2**31
        )
        session = first.uaclient.session
        made = await session.create_subscription(fast, lambda result: None)
        assert (made.RevisedPublishingInterval, made.RevisedLifetimeCount) == (100.0, 3000)
        await session.create_subscription(fast, lambda result: None)
        await told(session.create_subscription(fast, lambda r: None), StatusCodes.BadTooManySubscriptions)
        items = ua.CreateMonitoredItemsParameters(
            SubscriptionId=made.SubscriptionId,
            ItemsToCreate=[
                ua.MonitoredItemCreateRequest(
                    ItemToMonitor=ua.ReadValueId(NodeId=NOW_THERE, AttributeId=AttributeIds.Value),
                    RequestedParameters=ua.MonitoringParameters(QueueSize=2**31),
                )
                for _ in range(6)
            ],
        )
        await told(session.create_monitored_items(items), StatusCodes.BadTooManyMonitoredItems)
        items.ItemsToCreate = items.ItemsToCreate[:5]
        assert {r.RevisedQueueSize for r in await session.create_monitored_items(items)} == {100}
        other = second.uaclient.session
        taken = other.delete_subscriptions([made.SubscriptionId])
        await told(taken, StatusCodes.BadSubscriptionIdInvalid)
        hub = [ua.BrowseDescription(NodeId=NOW_THERE)] * 101
        await told(other.browse(ua.BrowseParameters(NodesToBrowse=hub)), StatusCodes.BadTooManyOperations)
        many = ua.ReadParameters(NodesToRead=[ua.ReadValueId(NodeId=NOW_THERE)] * 1001)
        await told(other.read(many), StatusCodes.BadTooManyOperations)
        await told(other.browse_next(ua.BrowseNextParameters()), StatusCodes.BadServiceUnsupported)
    finally:
        await first.disconnect()
        await second.disconnect()


async def test_sessions_go_with_their_connection(rig):
    for _ in range(5):
        client = rig.client()
        await client.connect()
        assert client.uaclient.protocol is not None
        client.uaclient.protocol.transport.abort()
        client.disconnect_socket()
        async with asyncio.timeout(20.0):
            while rig.serving.status()["sessions"]:
                await wall_sleep(0.02)


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("<4sI", b"HELF", CHUNK_MAX + 1),
        struct.pack("<4sI", b"HELF", 2**32 - 1) + b"x" * 1000,
        struct.pack("<4sI", b"HELF", 4),
        struct.pack("<4sI", b"OPNF", 40) + b"\xff" * 32,
        struct.pack("<4sI6I", b"HELF", 32, 0, 65535, 100, 0, 0, 2**32 - 1),
        b"GET / HTTP/1.1\r\nHost: plant\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_message_end_the_connection(rig, sent):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.serving.port)
    writer.write(sent)
    assert await rig.ended(reader)
    writer.transport.abort()


async def test_message_in_more_chunks_than_may_be_ends_the_connection(rig):
    """Chunks that never come to an end cost the memory of one message, and no more (asyncua issue 1962)."""
    client = rig.plain()
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    assert client.uaclient.protocol is not None
    connection, transport = client.uaclient.protocol._connection, client.uaclient.protocol.transport
    for number in range(40):
        body = struct.pack("<II", connection._sequence_number + number + 1, 9) + b"x" * 60_000
        head = struct.pack("<II", connection.security_token.ChannelId, connection.security_token.TokenId)
        transport.write(b"MSGC" + struct.pack("<I", 8 + len(head) + len(body)) + head + body)
    async with asyncio.timeout(20.0):
        while not transport.is_closing():
            await wall_sleep(0.02)
    client.disconnect_socket()


async def test_connection_that_makes_no_session_is_ended(rig, monkeypatch):
    monkeypatch.setattr("connectors.northbound.ua_connection.ACTIVATION_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.serving.port)
    assert await rig.ended(reader)
    writer.transport.abort()


async def test_wrong_passwords_are_counted_and_then_not_even_looked_at(rig):
    for _ in range(6):
        client = rig.client(user="dso")
        with pytest.raises((UaError, OSError, TimeoutError)):
            await client.connect()
        client.disconnect_socket()
        await wall_sleep(0.05)
    assert "wrong passwords came from this address" in rig.last
