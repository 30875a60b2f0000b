"""Protected OPC UA connections: a server that is not the one we trust gets neither a password nor a write."""

import asyncio
import dataclasses
import datetime as dt
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server

from cli.edge_records import ending
from cli.main import main
from cli.writing_permit import kept_copy
from connectors.device import REFUSED_PAUSE_S
from connectors.field import FieldIO
from connectors.opcua import certificates
from ems.clock import VirtualClock, wall_sleep
from ems.commands import WriteOutcome
from ems.site import UaSecurity
from ems.site_schema import load_site
from ems.telemetry import Quality, Reading
from tests.contract.pki import LONG, NOW, ClientPki, Pair, pair
from tests.contract.plants import START, OpcUaPlant, command, site_of

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.scenario(
        29,
        left="a certificate that ends during a session: it is told thirty days before, "
        "and asked for at the next connection",
    ),
]
URI = "urn:test:server"
GOOD = Path(__file__).parents[1] / "unit" / "ems" / "broken_sites"
DAY = dt.timedelta(days=1)
FULL, SIGNED = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt, ua.SecurityPolicyType.Basic256Sha256_Sign


class Users:
    """Counts who came, with which password."""

    def __init__(self) -> None:
        self.seen: list[tuple[str | None, str | None]] = []

    def get_user(self, iserver, username=None, password=None, certificate=None):
        self.seen.append((username, password))
        good = (username, password) == ("ems", "secret")
        return User(role=UserRole.Admin, name="ems") if good else None


class ProtectedPlant(OpcUaPlant):
    """A server that takes nobody without its policy, user and password."""

    def __init__(self, own: Pair) -> None:
        super().__init__()
        self.own, self.users = own, Users()

    async def prepare(self, server: Server) -> None:
        await server.set_application_uri(URI)
        server.iserver.certificate, server.iserver.private_key = self.own.certificate, self.own.key
        server.set_security_policy([FULL, SIGNED])
        server.set_identity_tokens([ua.UserNameIdentityToken])
        server.iserver.user_manager = self.users  # type: ignore[assignment]

    async def exchange(self, own: Pair) -> None:
        """Another key and certificate from now on; whoever is connected is cut off."""
        server, self.own = self.server, own
        assert server is not None
        server.iserver.certificate, server.iserver.private_key = own.certificate, own.key
        server.iserver.endpoints.clear()
        server._policies.clear()
        await server._setup_server_nodes()
        assert server.bserver is not None
        server.bserver.set_policies(server._policies)
        for client in list(server.bserver.clients):
            assert client.transport is not None
            client.transport.abort()

    def show(self, certificate: bytes) -> None:
        """Show this certificate to whoever asks for endpoints; its key stays what it was."""
        assert self.server is not None
        for endpoint in self.server.iserver.endpoints:
            endpoint.ServerCertificate = certificate


class Rig:
    def __init__(
        self,
        plant: OpcUaPlant,
        security: UaSecurity | None,
        at: dt.datetime = NOW,
        timeout_s: float = 4.0,
        folder: Path = Path(),
    ) -> None:
        self.clock = VirtualClock(at)
        self.reasons: list[str] = []
        self.connection = dataclasses.replace(plant.connection, security=security, timeout_s=timeout_s)
        self.io = FieldIO(
            site_of(self.connection),
            clock=self.clock,
            folder=folder,
            on_event=lambda at, kind, fields: self.reasons.append(str(fields.get("reason", "up"))),
        )

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point: r for r in await self.io.read_all()}

    async def settled(self) -> dict[str, Reading]:
        """What is read once the link has come up or said why it does not."""
        readings = await self.read()
        for _ in range(500):
            if self.reasons:
                return await self.read()
            await wall_sleep(0.02)
            readings = await self.read()
        raise AssertionError(f"neither up nor down: {readings}")

    async def refused(self) -> str:
        """Why there is no connection; nothing is believed and nothing is written meanwhile."""
        readings = await self.settled()
        assert {(r.value, r.quality) for r in readings.values()} == {(None, Quality.COMM_FAILED)}
        (result,) = await self.io.write([command("dev.p_set_kw", 55.0)])
        assert result.outcome is WriteOutcome.NOT_SENT
        return self.reasons[0]

    async def good(self) -> bool:
        readings = await self.settled()
        return {p.removeprefix("dev."): r.value for p, r in readings.items()} == pytest.approx(START)


@pytest.fixture(scope="module")
def own() -> Pair:
    return pair(URI, "127.0.0.1", "plant.example")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plant(own) -> AsyncIterator[ProtectedPlant]:
    plant = ProtectedPlant(own)
    await plant.start()
    yield plant
    await plant.stop()


@pytest.fixture(scope="module")
def template(own, tmp_path_factory) -> Path:
    return ClientPki.made(tmp_path_factory.mktemp("pki") / "client", own).folder


@pytest.fixture
def pki(template, tmp_path, plant, own) -> ClientPki:
    plant.show(own.der)
    plant.users.seen.clear()
    shutil.copytree(template, tmp_path / "client")
    return ClientPki(tmp_path / "client")


@pytest_asyncio.fixture(loop_scope="module")
async def rigs(plant) -> AsyncIterator[object]:
    made: list[Rig] = []

    def make(security: UaSecurity | None, at: dt.datetime = NOW, timeout_s: float = 4.0) -> Rig:
        made.append(Rig(plant, security, at, timeout_s))
        return made[-1]

    yield make
    for rig in made:
        await rig.io.close()


@pytest.mark.parametrize("mode", ["SignAndEncrypt", "Sign"])
async def test_server_that_is_trusted_is_read_and_written(rigs, pki, plant, mode):
    rig = rigs(pki.security(mode=mode))
    assert await rig.good()
    (result,) = await rig.io.write([command("dev.p_set_kw", 40.0)])
    assert result.outcome is WriteOutcome.CONFIRMED
    assert await plant.get("p_set_kw") == pytest.approx(40.0)
    await plant.put("p_set_kw", 0.0)
    assert set(plant.users.seen) == {("ems", "secret")}


async def test_server_under_another_name_is_taken_where_the_site_file_says_so(rigs, pki):
    assert await rigs(pki.security(server_name="plant.example")).good()


DATES = {
    "expired": (NOW - LONG, NOW - DAY, "expired on"),
    "not valid yet": (NOW + DAY, NOW + LONG, "is not valid before"),
}


@pytest.mark.parametrize("which", [*DATES, "another uri", "another host", "short key"])
async def test_certificate_that_is_not_as_it_must_be_refused_though_it_is_in_the_folder(
    rigs, pki, plant, own, which
):
    match which:
        case "another uri":
            other, why = pair("urn:somebody:else", "127.0.0.1", key=own.key), "made out to urn:somebody:else"
        case "another host":
            other, why = pair(URI, "10.9.8.7", key=own.key), "made out to 10.9.8.7, not to 127.0.0.1"
        case "short key":
            other, why = pair(URI, "127.0.0.1", bits=1024), "RSA of 2048 bits or more"
        case _:
            begins, ends, why = DATES[which]
            other = pair(URI, "127.0.0.1", key=own.key, begins=begins, ends=ends)
    pki.trust(other, "other.pem")
    plant.show(other.der)
    reason = await rigs(pki.security()).refused()
    assert why in reason
    assert "other.pem" in reason  # the file
    assert certificates.fingerprint(other.certificate) in reason
    assert plant.users.seen == []


async def test_certificate_nobody_put_into_the_folder_refused_with_its_fingerprint_and_what_to_do(
    rigs, pki, plant
):
    stranger = pair(URI, "127.0.0.1")
    plant.show(stranger.der)
    (pki.folder / "trusted" / "broken.pem").write_bytes(b"no certificate")
    reason = await rigs(pki.security()).refused()
    assert f"not in {pki.folder / 'trusted'} (broken.pem cannot be read)" in reason
    assert certificates.fingerprint(stranger.certificate) in reason
    assert "ems certificate fetch" in reason
    assert plant.users.seen == []


async def test_copy_of_the_right_certificate_without_its_key_gets_nothing(rigs, pki, plant, own):
    """Anybody can show a certificate; only its owner can answer what is encrypted for it."""
    other = pair(URI, "127.0.0.1")
    pki.trust(other, "other.der")
    plant.show(other.der)
    await rigs(pki.security(), timeout_s=1.0).refused()
    assert plant.users.seen == []


async def test_certificate_exchanged_between_two_connections_refused_until_it_is_trusted(
    rigs, pki, plant, own
):
    rig = rigs(pki.security())
    assert await rig.good()
    plant.users.seen.clear()
    await plant.exchange(pair(URI, "127.0.0.1"))
    try:
        for _ in range(500):
            await rig.read()
            assert (await rig.io.write([command("dev.p_set_kw", 55.0)]))[0].outcome is WriteOutcome.NOT_SENT
            if "is not in" in rig.reasons[-1]:  # told of its own, beside that the line was lost
                break
            await wall_sleep(0.02)
        assert certificates.fingerprint(plant.own.certificate) in rig.reasons[-1]
        assert rig.io.links()["dev_link"]["reason"] == rig.reasons[-1]
        assert plant.users.seen == []
        pki.trust(plant.own, "new.der")
        assert await rigs(pki.security()).good()
    finally:
        await plant.exchange(own)


async def test_password_that_is_wrong_said_once_and_not_tried_again_at_once(rigs, pki, plant):
    (pki.folder / "password").write_text("guess")
    rig = rigs(pki.security())
    reason = await rig.refused()
    assert "refuses the user (ems with the password of" in reason
    assert "guess" not in reason
    await wall_sleep(0.5)
    assert plant.users.seen == [("ems", "guess")]
    assert REFUSED_PAUSE_S >= 30.0


async def test_password_from_the_environment(rigs, pki, monkeypatch):
    named = pki.security(password_file=None, password_env="EMS_TEST_PASSWORD")
    assert "no variable EMS_TEST_PASSWORD" in await rigs(named).refused()
    monkeypatch.setenv("EMS_TEST_PASSWORD", "secret")
    assert await rigs(named).good()


@pytest.mark.parametrize("name", ["own.key", "password"])
async def test_secret_that_others_may_read_refused(rigs, pki, plant, name):
    (pki.folder / name).chmod(0o640)
    reason = await rigs(pki.security()).refused()
    assert f"{pki.folder / name} has mode 0640" in reason
    assert plant.users.seen == []


async def test_own_files_missing_or_not_a_pair_named(rigs, pki, own):
    (pki.folder / "own.key").write_bytes(own.key_pem)
    assert "is not the key of" in await rigs(pki.security()).refused()
    (pki.folder / "own.der").unlink()
    assert f"{pki.folder / 'own.der'} cannot be read" in await rigs(pki.security()).refused()


async def test_policy_the_server_does_not_offer_told_with_what_it_offers(rigs, pki):
    reason = await rigs(pki.security("Aes256Sha256RsaPss")).refused()
    assert "offers no Aes256Sha256RsaPss/SignAndEncrypt; it offers Basic256Sha256/Sign" in reason


async def test_certificate_that_ends_within_thirty_days_is_told(rigs, pki, own):
    ends = own.certificate.not_valid_after_utc
    early, late = rigs(pki.security(), ends - 31 * DAY), rigs(pki.security(), ends - 29 * DAY)
    assert await early.good()
    assert await late.good()
    assert early.io.expiring() == {}
    (alarm,) = ending(late.io.expiring())
    assert (alarm.code, alarm.asset) == ("device.certificate.expires", "dev_link")
    assert f"server0.der ends on {ends:%Y-%m-%d}" in alarm.text


async def test_own_certificate_that_has_expired_told_and_nothing_is_asked(rigs, pki):
    ends = certificates.read_certificate(pki.folder / "own.der").not_valid_after_utc
    rig = rigs(pki.security(), ends + DAY)
    assert "our certificate" in (reason := await rig.refused())
    assert "expired on" in reason
    assert "has expired" in rig.io.expiring()["dev_link"]


async def test_site_engineer_makes_trusts_and_connects_by_the_commands_of_the_documentation(
    plant, own, tmp_path, capsys, monkeypatch
):
    plant.show(own.der)
    site_file = tmp_path / "site.yaml"
    shutil.copytree(GOOD / "maps", tmp_path / "maps")
    more = "    security: {policy: Basic256Sha256, user: ems, password_env: METER}\n"
    text = (GOOD / "good.yaml").read_text()
    site_file.write_text(text.replace("    port: 48401\n", f"    port: {plant.connection.port}\n{more}"))

    async def ems(*arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, ["certificate", *arguments])
        told = capsys.readouterr()
        return code, told.out + told.err

    code, said = await ems("make", str(site_file))
    key, made = tmp_path / "pki" / "own.key", tmp_path / "pki" / "own.der"
    ours = certificates.read_certificate(made)
    assert (code, key.stat().st_mode & 0o777) == (0, 0o600)
    assert certificates.fingerprint(ours) in said
    assert certificates.thumbprint(ours) in said
    assert certificates.uris(ours) == [f"urn:{socket.gethostname()}:hybrid-ems:{load_site(site_file).name}"]
    before = key.read_bytes()
    code, said = await ems("make", str(site_file))
    assert (code, "is there already" in said, key.read_bytes()) == (2, True, before)
    assert (await ems("make", str(site_file), "--into", str(tmp_path / "next")))[0] == 0
    assert (tmp_path / "next" / "own.key").read_bytes() != before
    code, said = await ems("show", str(made))
    assert (code, certificates.fingerprint(ours) in said) == (0, True)

    trusted = tmp_path / "pki" / "trusted"
    code, said = await ems("fetch", str(site_file), "meter")
    assert (code, trusted.exists()) == (0, False)
    assert certificates.fingerprint(own.certificate) in said
    code, said = await ems("fetch", str(site_file), "meter", "--trust", "00:11")
    assert (code, trusted.exists()) == (2, False)
    shown_there = certificates.thumbprint(own.certificate).replace(":", " ").lower()
    assert (await ems("fetch", str(site_file), "meter", "--trust", shown_there))[0] == 0
    (file,) = trusted.iterdir()
    assert file.read_bytes() == own.der
    code, said = await ems("fetch", str(site_file), "mter")
    assert (code, "allowed: meter" in said) == (2, True)

    # A run has a copy of the site of its own; the files stay where they are.
    in_force = load_site(kept_copy(site_file, tmp_path / "data"))
    (connection,) = (c for c in in_force.connections if c.id == "meter")
    monkeypatch.setenv("METER", "secret")
    rig = Rig(plant, connection.security, folder=tmp_path)
    assert await rig.good()
    await rig.io.close()


async def test_plain_listener_that_is_no_server_is_a_lost_link(pki):
    """What answers nothing at all costs the time-out and no more."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        device = OpcUaPlant(port=silent.getsockname()[1])
        rig = Rig(device, pki.security(), timeout_s=0.5)
        async with asyncio.timeout(20.0):
            assert "cannot connect" in await rig.refused()
        await rig.io.close()
