"""Our protected OPC UA side against node-opcua: every policy and mode, and what it refuses."""

import dataclasses
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from connectors.field import FieldIO
from connectors.opcua import certificates
from ems.clock import VirtualClock, wall_sleep
from ems.commands import WriteOutcome
from ems.site import UaSecurity
from tests.builders import T0
from tests.contract.node_plant import NodeUaPlant
from tests.contract.pki import CLIENT_URI, LONG, NOW
from tests.contract.plants import START, command, reset, site_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs_server]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plant() -> AsyncIterator[NodeUaPlant]:
    plant = NodeUaPlant()
    await plant.start()
    yield plant
    await plant.stop()


class Rig:
    def __init__(self, plant: NodeUaPlant, security: UaSecurity) -> None:
        self.clock = VirtualClock(T0)
        connection = dataclasses.replace(plant.connection, security=security, timeout_s=5.0)
        self.reasons: list[str] = []
        self.io = FieldIO(
            site_of(connection),
            clock=self.clock,
            on_event=lambda at, kind, fields: self.reasons.append(str(fields.get("reason", "up"))),
        )

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


async def test_channel_renewed_many_times_under_a_session_values_go_on(plant, monkeypatch):
    """An hour is over in a second: keys are changed while requests are on the way."""
    monkeypatch.setattr("connectors.opcua.client.CHANNEL_MS", 800)
    rig = Rig(plant, plant.pki.security())
    for _ in range(15):
        assert await rig.read() == pytest.approx(START | {"p_set_kw": await plant.get("p_set_kw")})
        await wall_sleep(0.1)
    assert rig.reasons == ["up"]
    await rig.io.close()
