"""Our OPC UA server: what node-opcua, which shares no code with it, sees and may do; what strangers get."""

import asyncio
import dataclasses
import datetime as dt
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from connectors.field import FieldIO
from connectors.northbound.ua_connection import CHUNK_MAX
from connectors.opcua import certificates
from ems.clock import VirtualClock, wall_sleep
from ems.errors import EmsError
from ems.northbound_names import ua_namespace
from ems.requests import TellLimit
from ems.site import Protocol, UaSecurity
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.northbound_ua_peer import NodeClient, laid_out, serving
from tests.contract.pki import NOW, Pair, pair
from tests.contract.plants import connection, site_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOW_THERE = ua.NodeId.from_string("i=2258")
FEW: dict[str, Any] = {"sessions_max": 2, "subscriptions_max": 2, "items_max": 5}


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
async def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Files, and a client."""
    folder = tmp_path_factory.mktemp("ua")
    programs = {n: pair(f"urn:test:{n}", "edge") for n in ("client", "stranger")}
    programs["late"] = pair("urn:test:late", "edge", ends=NOW - dt.timedelta(days=1))
    programs["double"] = pair("urn:test:client", "edge")
    files = laid_out(folder, programs, {"eve": pair("urn:test:eve"), "mallory": pair("urn:test:mallory")})
    for name in ("client", "late"):
        (folder / "trusted" / f"{name}.der").write_bytes(programs[name].der)
    return folder, files


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(place) -> AsyncIterator[NodeClient]:
    client = await NodeClient.made(place[0])
    yield client
    await client.end()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def up(demo, place, tmp_path_factory) -> AsyncIterator[Any]:
    folder, files = place
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connectors.northbound.image.FRESH_S_MIN", 600.0)  # on a busy machine
        async with serving(demo, folder, tmp_path_factory.mktemp("run"), files, **FEW) as both:
            yield both


@pytest.fixture
def rig(up, place) -> Rig:
    folder = place[0]

    def of(name: str) -> Pair:
        certificate = certificates.read_certificate(folder / f"{name}.pem")
        return Pair(certificate, certificates.read_key(folder / f"{name}.key"))

    return Rig(up, of("client"), certificates.read_certificate(folder / "server.der"), of("double"))


@pytest.mark.needs_server
async def test_plant_is_found_by_its_hierarchy_with_units_quality_and_time(node, up, demo):
    serving, _ = up
    assert await node.connect(serving.port) is True
    index = (await node.ask("namespaces")).index(ua_namespace(demo))
    h = demo.hierarchy
    way = [h.organisation, h.portfolio, h.plant, h.subsystem_of["grid1"], "grid1", "p_kw"]
    path = "".join(f"/{index}:{step}" for step in way)
    assert await node.ask("find", path=path) == f"ns={index};s=grid1.p_kw"
    grid, pv, never = (f"ns={index};s={n}" for n in ("grid1.p_kw", "pv1.p_kw", "bess1.soc"))
    found = await node.ask("read", ids=[grid, pv, never])
    assert (found[0]["value"], found[0]["status"]) == (123.5, "Good")
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(found[0]["at"])
    assert abs(age) < dt.timedelta(minutes=5)
    assert [f["status"] for f in found[1:]] == ["BadNoCommunication"] * 2
    assert await node.ask("unit", id=grid) == {"id": 4937556, "name": "kW"}
    await node.ask("close")


@pytest.mark.needs_server
async def test_changes_are_told_and_an_edge_that_stands_still_is_seen(node, up, demo, monkeypatch):
    serving, plant = up
    await node.connect(serving.port, user="scada:look")
    index = (await node.ask("namespaces")).index(ua_namespace(demo))
    grid = f"ns={index};s=grid1.p_kw"
    assert await node.ask("subscribe", ids=[grid]) == 100  # asked for 50 ms
    plant.cycle(grid1__p_kw=124.5)
    await node.until_told(grid, 124.5)
    real = plant.board._monotonic_s
    monkeypatch.setattr(plant.board, "_monotonic_s", lambda: real() + 700.0)
    await node.until_told(grid, 124.5, "UncertainLastUsableValue")
    monkeypatch.undo()
    plant.cycle(grid1__p_kw=125.5)
    await node.until_told(grid, 125.5)
    await node.ask("close")


@pytest.mark.needs_server
@pytest.mark.parametrize("user", ["dso:tell", "eve"])
async def test_declared_bound_is_told_to_the_edge_by_a_user_with_the_role(node, up, demo, user):
    serving, plant = up
    assert await node.connect(serving.port, user=user) is True
    index = (await node.ask("namespaces")).index(ua_namespace(demo))
    limit = f"ns={index};s=limit.dso"
    assert await node.ask("write", id=limit, value=200.5) == "GoodCompletesAsynchronously"
    (one,) = plant.desk.collect()
    assert one.request.ask == TellLimit(limit="dso", value_kw=200.5)
    assert one.request.session.startswith(f"scada: user {user.partition(':')[0]} of CN=urn:test:client, role")
    plant.event("authority.request.done", request_id=one.request.id, text="limit dso 200.5 kW")
    plant.cycle(grid1__p_kw=1.0, fields={"limits_told_kw": {"dso": 200.5}})
    plant.door.hear(plant.answers())
    await node.ask("subscribe", ids=[limit, f"ns={index};s=answer.dso"])
    await node.until_told(limit, 200.5)
    await node.until_told(f"ns={index};s=answer.dso", 2.0)
    await node.ask("close")


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("scada:look", {"value": 200.0}, "BadUserAccessDenied", "has neither a role"),
    ("dso:tell", {"value": -1.0}, "BadOutOfRange", "allowed: 0 kW or more"),
    ("dso:tell", {"value": "much", "type": "String"}, "BadTypeMismatch", "is no number"),
    ("dso:tell", {"value": 1.0, "at": "2020-01-01T00:00:00Z"}, "BadInvalidTimestamp", "stamped 2020-01-01"),
    ("dso:tell", {"value": 1.0, "name": "grid1.p_kw"}, "BadNotWritable", "only values of the limits"),
    ("dso:tell", {"value": 1.0, "name": "cap.import_kw"}, "BadNotWritable", "only values of the limits"),
    ("dso:tell", {"value": "x", "type": "String", "attribute": 4}, "BadNotWritable", "only values"),
]


@pytest.mark.needs_server
async def test_anything_else_is_refused_and_recorded(node, up, demo):
    serving, plant = up
    for user, write, status, why in REFUSED:
        await node.connect(serving.port, user=user)
        index = (await node.ask("namespaces")).index(ua_namespace(demo))
        target = f"ns={index};s={write.get('name', 'limit.dso')}"
        asked = {k: v for k, v in write.items() if k != "name"}
        assert await node.ask("write", id=target, **asked) == status, write
        assert why in plant.records.last.why, write
        await node.ask("close")
    assert plant.desk.collect() == []


@pytest.mark.needs_server
async def test_methods_cannot_be_called(node, up):
    await node.connect(up[0].port)
    assert "BadServiceUnsupported" in str(await node.ask("call"))
    await node.ask("close")


NOT_LET_IN = [
    ("stranger", "dso:tell", "is not in"),
    ("late", "dso:tell", "expired on"),
    ("client", "dso:guess", "another password than that of dso"),
    ("client", "nobody:tell", "there is no user 'nobody'"),
    ("client", "mallory", "the user's certificate is nobody's here"),
]


@pytest.mark.needs_server
@pytest.mark.parametrize(("program", "user", "why"), NOT_LET_IN)
async def test_whoever_is_not_known_is_not_let_in_and_recorded(node, up, program, user, why):
    serving, plant = up
    answer = await node.connect(serving.port, program, user)
    assert "error" in answer
    assert why in plant.records.last.why, answer
    await node.ask("close")


@pytest.mark.needs_server
async def test_server_said_to_be_open_shows_and_takes_nothing(node, demo, place, tmp_path):
    folder: Path = place[0]
    more = {"policies": ("None",), "users": (), "writes": None}
    async with serving(demo, folder, tmp_path, None, **more) as (server, plant):
        await node.connect(server.port, user=None, mode="None", policy="None")
        index = (await node.ask("namespaces")).index(ua_namespace(demo))
        (grid,) = await node.ask("read", ids=[f"ns={index};s=grid1.p_kw"])
        assert grid["value"] == 123.5
        assert await node.ask("write", id=f"ns={index};s=limit.dso", value=1.0) == "BadNotWritable"
        assert plant.desk.collect() == []
        await node.ask("close")


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
        assert {r.RevisedQueueSize for r in await session.create_monitored_items(items)} == {10}
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
        struct.pack("<4sI6I", b"HELF", 32, 0, 100, 65535, 0, 0, 2**32 - 1),
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
    rig.serving.face._people._failures.clear()


BROKEN = [
    ({"certificate": "none.der"}, "none.der cannot be read"),
    ({"key": "client.key"}, "is not the key of"),
    ({"certificate": "late.pem", "key": "late.key"}, "late.pem expired on"),
]


async def test_server_whose_certificate_cannot_be_used_says_which_and_why(demo, place, tmp_path):
    folder, files = place
    for i, (changes, why) in enumerate(BROKEN):
        bad = dataclasses.replace(files, **changes)
        with pytest.raises(EmsError, match=why):
            async with serving(demo, folder, tmp_path / str(i), bad):
                raise AssertionError("it is up")


@pytest.mark.soak
@pytest.mark.needs_server
@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_every_policy_mode_and_kind_of_user_writes_its_bound(node, demo, place, tmp_path, mode):
    folder, files = place
    async with serving(demo, folder, tmp_path, files, mode=mode) as (server, plant):
        for policy in ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"):
            for user in ("dso:tell", "eve"):
                assert await node.connect(server.port, user=user, mode=mode, policy=policy) is True
                plant.cycle(grid1__p_kw=1.0)
                index = (await node.ask("namespaces")).index(ua_namespace(demo))
                answer = await node.ask("write", id=f"ns={index};s=limit.dso", value=10.0)
                assert answer == "GoodCompletesAsynchronously", (policy, user)
                assert len(plant.desk.collect()) == 1
                await node.ask("close")


async def test_another_ems_of_ours_reads_it_by_browse_path(up, demo, place, tmp_path):
    """Our client and our server: points of one plant in another, with what is stale as bad."""
    folder, _ = place
    h = demo.hierarchy
    way = "/".join((h.organisation, h.portfolio, h.plant, h.subsystem_of["grid1"], "grid1", "p_kw"))
    plain = connection("dev", Protocol.OPC_UA, up[0].port, timeout_s=10.0)
    (row,) = (p for p in plain.points if p.point == "dev.p_kw")
    row = dataclasses.replace(
        row, address=f"nsu={ua_namespace(demo)};path={way}", data_type="Double", scale=1.0, sign=1
    )
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "server.der").write_bytes((folder / "server.der").read_bytes())
    security = UaSecurity(
        policy="Basic256Sha256", certificate=str(folder / "client.pem"), key=str(folder / "client.key"),
        trusted=str(tmp_path / "trusted"), user="scada", password_file=str(folder / "scada.password"),
    )  # fmt: skip
    reader = dataclasses.replace(plain, endpoint="/ems", points=(row,), security=security)
    up[1].cycle(grid1__p_kw=77.5)
    clock = VirtualClock(T0)
    io = FieldIO(site_of(reader), clock=clock)
    async with asyncio.timeout(20.0):
        while (found := (await io.read_all())[0]).value != 77.5:  # the nodes follow within moments
            clock.advance(1.0)
            await wall_sleep(0.05)
    await io.close()
    assert found.quality is Quality.GOOD
