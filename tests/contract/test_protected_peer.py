"""Our protected OPC UA side against node-opcua: every policy and mode, and what it refuses."""

import dataclasses
import signal
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio

from connectors.field import FieldIO
from connectors.opcua import certificates
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.site import PointMap, UaSecurity, UaSubscription
from tests.builders import T0
from tests.contract.node_plant import NodeUaPlant
from tests.contract.pki import CLIENT_URI, LONG, NOW, pair
from tests.contract.plants import START, URI, command, reset, site_of

ASKED = UaSubscription(publishing_s=0.2, sampling_s=0.05, keep_alive_s=0.4, queue=2)
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs_server]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plant() -> AsyncIterator[NodeUaPlant]:
    plant = NodeUaPlant()
    await plant.start()
    yield plant
    await plant.stop()


class Rig:
    def __init__(
        self,
        plant: NodeUaPlant,
        security: UaSecurity,
        told: UaSubscription | None = None,
        points: tuple[PointMap, ...] | None = None,
        at: datetime = T0,
    ) -> None:
        self.clock = VirtualClock(at)
        connection = dataclasses.replace(
            plant.connection, security=security, timeout_s=5.0 if told is None else 2.0, subscription=told
        )
        if points is not None:
            connection = dataclasses.replace(connection, points=points)
        self.reasons: list[str] = []
        self.io = FieldIO(
            site_of(connection),
            clock=self.clock,
            on_event=lambda at, kind, fields: self.reasons.append(str(fields.get("reason", "up"))),
        )

    async def until(self, name: str, value: float | None, within_s: float = 20.0) -> None:
        began_s = wall_s()
        while (found := (await self.read())[name]) != pytest.approx(value):
            assert wall_s() - began_s < within_s, (name, found, self.reasons)
            await wall_sleep(0.02)

    async def read(self) -> dict[str, float | None]:
        """What is read once the link has come up or said why it does not."""
        for _ in range(500):
            self.clock.advance(1.0)
            await self.io.read_all()
            if self.reasons:
                break
            await wall_sleep(0.02)
        self.clock.advance(1.0)
        readings = await self.io.read_all()
        return {r.point.removeprefix("dev."): r.value for r in readings}


@pytest.mark.parametrize("mode", ["SignAndEncrypt", "Sign"])
@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
async def test_every_policy_and_mode_reads_and_writes_and_leaves_no_session(plant, policy, mode):
    await reset(plant)
    rig = Rig(plant, plant.pki.security(policy, mode=mode))
    assert await rig.read() == pytest.approx(START), rig.reasons
    (result,) = await rig.io.write([command("dev.p_set_kw", -40.0)])
    assert result.outcome is WriteOutcome.CONFIRMED
    assert await plant.get("p_set_kw") == pytest.approx(-40.0)
    await rig.io.close()


async def test_user_of_no_name_or_with_a_wrong_password_refused_and_said(plant):
    (plant.pki.folder / "wrong").write_text("guess")
    (plant.pki.folder / "wrong").chmod(0o600)
    for security, who in (
        (plant.pki.security(password_file=str(plant.pki.folder / "wrong")), "(ems with the password of"),
        (plant.pki.security(user=None, password_file=None), "(anonymous)"),
    ):
        rig = Rig(plant, security)
        assert set((await rig.read()).values()) == {None}
        assert who in rig.reasons[0]
        assert "guess" not in rig.reasons[0]
        await rig.io.close()


async def test_our_certificate_unknown_to_the_server_said_with_the_file_to_trust(plant):
    der, key = certificates.make(CLIENT_URI, "edge", now=NOW - LONG, days=7300)
    stranger = plant.pki.folder / "stranger.der"
    certificates.store(stranger, der, mode=0o644)
    certificates.store(stranger.with_suffix(".key"), key, mode=0o600)
    own = {"certificate": str(stranger), "key": str(stranger.with_suffix(".key"))}
    rig = Rig(plant, plant.pki.security(**own))
    assert set((await rig.read()).values()) == {None}
    assert f"put {stranger} into its list of trusted clients" in rig.reasons[0]
    await rig.io.close()


async def test_certificate_of_the_server_that_nobody_trusts_refused_with_both_its_prints(plant, tmp_path):
    before = await plant.ask("sessions")
    rig = Rig(plant, plant.pki.security(trusted=str(tmp_path)))
    assert set((await rig.read()).values()) == {None}
    for part in (
        certificates.fingerprint(plant.own),
        certificates.thumbprint(plant.own),
        "certificate fetch",
    ):
        assert part in rig.reasons[0]
    assert await plant.ask("sessions") <= before
    await rig.io.close()


async def test_certificate_of_the_server_that_has_expired_refused_though_it_is_trusted(plant):
    rig = Rig(plant, plant.pki.security(), at=NOW + 0.6 * LONG)
    assert set((await rig.read()).values()) == {None}
    assert f"{certificates.fingerprint(plant.own)}) expired on" in rig.reasons[0]
    await rig.io.close()


async def test_channel_renewed_many_times_under_a_session_values_go_on(plant, monkeypatch):
    """An hour is over in a second: keys are changed while requests are on the way."""
    monkeypatch.setattr("connectors.opcua.client.CHANNEL_MS", 800)
    rig = Rig(plant, plant.pki.security())
    for _ in range(15):
        assert await rig.read() == pytest.approx(START | {"p_set_kw": await plant.get("p_set_kw")})
        await wall_sleep(0.1)
    assert rig.reasons == ["up"]
    await rig.io.close()


@pytest_asyncio.fixture(loop_scope="module")
async def told(plant) -> AsyncIterator[Rig]:
    """A rig that is told changes."""
    await reset(plant)
    rig = Rig(plant, plant.pki.security(), ASKED)
    assert await rig.read() == pytest.approx(START), rig.reasons
    yield rig
    await rig.io.close()


async def test_changes_are_told_bad_ones_too_and_what_stands_still_is_proved(told, plant):
    await plant.put("p_kw", -250.0)
    await told.until("p_kw", -250.0)
    await plant.put("soc", None)
    await told.until("soc", None)
    began_s = wall_s()
    while wall_s() - began_s < 1.5:
        assert (await told.read())["p_kw"] == -250.0
        await wall_sleep(0.05)
    assert told.reasons == ["up"]


async def test_setpoint_written_is_read_back_at_the_next_poll(told):
    for value in (12.0, -40.0):
        (result,) = await told.io.write([command("dev.p_set_kw", value)])
        assert result.outcome is WriteOutcome.CONFIRMED
        assert (await told.read())["p_set_kw"] == pytest.approx(value)


async def test_queue_that_overflows_is_counted_and_the_newest_value_stands(told, plant):
    for i in range(40):
        await plant.put("p_kw", float(i))
        await wall_sleep(0.02)
    await told.until("p_kw", 39.0)
    assert told.io.links()["dev_link"]["queue_overflows"] > 0
    assert told.reasons == ["up"]


@pytest.mark.parametrize("how", ["close_sessions", "delete_subscriptions"])
async def test_session_or_subscription_ended_by_the_server_is_noticed_and_made_anew(told, plant, how):
    assert await plant.ask(how) >= 1
    await told.until("p_kw", None)
    await plant.put("p_kw", 77.0)
    await told.until("p_kw", 77.0)
    assert told.reasons[0] == told.reasons[-1] == "up"


async def test_namespaces_renumbered_noticed_and_resolved_anew(told, plant):
    await plant.ask("namespace", uri=f"urn:later:{wall_s()}")
    await told.until("p_kw", None)
    (result,) = await told.io.write([command("dev.p_set_kw", 55.0)])
    assert result.outcome is WriteOutcome.NOT_SENT
    await told.until("p_kw", START["p_kw"])
    assert any("namespaces" in r for r in told.reasons)


async def test_server_that_freezes_is_lost_and_comes_back_with_what_it_holds_now(told, plant):
    plant.send(signal.SIGSTOP)
    await told.until("p_kw", None)
    plant.send(signal.SIGCONT)
    await plant.put("p_kw", 5.0)
    await told.until("p_kw", 5.0)


async def test_user_known_by_certificate_is_let_in_and_a_stranger_is_not(plant):
    await reset(plant)
    stranger = pair("urn:test:stranger", "edge")
    for who, one in (("user", plant.user), ("stranger", stranger)):
        (plant.pki.folder / f"{who}.pem").write_bytes(one.pem)
        (plant.pki.folder / f"{who}.key").write_bytes(one.key_pem)
        (plant.pki.folder / f"{who}.key").chmod(0o600)

    def as_user(who: str) -> UaSecurity:
        files = {
            k: str(plant.pki.folder / f"{who}.{e}")
            for k, e in (("user_certificate", "pem"), ("user_key", "key"))
        }
        security: UaSecurity = plant.pki.security(user=None, password_file=None, **files)
        return security

    rig = Rig(plant, as_user("user"))
    assert await rig.read() == pytest.approx(START), rig.reasons
    (result,) = await rig.io.write([command("dev.p_set_kw", -40.0)])
    assert result.outcome is WriteOutcome.CONFIRMED
    await rig.io.close()
    rig = Rig(plant, as_user("stranger"))
    assert set((await rig.read()).values()) == {None}
    assert f"refuses the user ({plant.pki.folder / 'stranger.pem'})" in rig.reasons[0]
    await rig.io.close()


PATH = f"nsu={URI};path=Plant&/1/{{{URI}:types}}Meter/"


async def test_points_found_by_browse_path_and_again_when_their_node_is_another(plant, monkeypatch):
    monkeypatch.setattr("connectors.opcua.client.LOOK_AGAIN_S", 0.1)
    await reset(plant)
    points = tuple(
        dataclasses.replace(p, address=f"{PATH}{p.point.removeprefix('dev.')}")
        for p in plant.connection.points
    )
    lost = dataclasses.replace(points[0], point="dev.lost", address=f"{PATH}absent")
    rig = Rig(plant, plant.pki.security(), points=(*points, lost))
    assert await rig.read() == pytest.approx(START | {"lost": None}), rig.reasons
    (result,) = await rig.io.write([command("dev.p_set_kw", -40.0)])
    assert result.outcome is WriteOutcome.CONFIRMED
    for i, identifier in enumerate(("s=moved", "s=dev.p_kw")):
        await plant.ask("move", name="p_kw", to=identifier)
        await rig.until("p_kw", None)
        await plant.put("p_kw", 100.0 + i)
        await rig.until("p_kw", 100.0 + i)
    assert any("browse paths lead elsewhere now: dev.p_kw" in r for r in rig.reasons)
    await rig.io.close()


async def test_server_restarted_with_other_indices_is_found_again_by_names(plant):
    """A restart renumbers the namespaces: the index of before is another's namespace now."""
    await reset(plant)
    rig = Rig(plant, plant.pki.security(), ASKED)
    assert await rig.read() == pytest.approx(START), rig.reasons
    plant.send(signal.SIGKILL)
    await rig.until("p_kw", None)
    plant.namespaces_before += 3
    await plant.start()
    await rig.until("p_kw", START["p_kw"])
    (result,) = await rig.io.write([command("dev.p_set_kw", -40.0)])
    assert result.outcome is WriteOutcome.CONFIRMED
    assert await plant.get("p_set_kw") == pytest.approx(-40.0)
    await plant.put("p_kw", 7.0)
    await rig.until("p_kw", 7.0)
    await rig.io.close()
