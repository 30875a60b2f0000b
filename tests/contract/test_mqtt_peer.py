"""Our MQTT inputs against Mosquitto and its clients: certificates, losses, and what a broker may do wrong."""

import asyncio
import contextlib
import json
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho

from connectors.field import FieldIO
from connectors.link import LinkError, Refused
from connectors.mqtt import session as mqtt
from connectors.wire_log import TapOf, quiet
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.json_place import JsonPlace
from ems.site import Connection, MqttBroker, PointMap
from ems.site import Protocol as Wire
from ems.telemetry import Quality, Reading
from tests.contract.mosquitto import Mosquitto, make_pki
from tests.contract.pki import NOW
from tests.contract.plants import command, free_port, site_of
from tests.contract.wire_kept import Kept

AT = NOW + timedelta(hours=2)  # the certificates are made meanwhile, which may be long after this is imported
BAD = (None, Quality.DEVICE_BAD)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory, require_program) -> Path:
    require_program("openssl")
    return make_pki(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def other_pki(tmp_path_factory: pytest.TempPathFactory, require_program) -> Path:
    """Of somebody else's authority."""
    require_program("openssl")
    return make_pki(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory, pki: Path, require_program) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path_factory.mktemp("broker"), pki, require_program("mosquitto"))
    require_program("mosquitto_pub")
    yield broker.start()
    broker.kill()


def point(name: str, topic: str, **payload: Any) -> PointMap:
    return PointMap(
        point=name, address=topic, table="topic", data_type="number", byte_order="big", word_order="big",
        scale=1.0, offset=0.0, sign=1, unit="kW", low=-500.0, high=500.0, age_s_max=5.0, writable=False,
        payload=JsonPlace(**payload),
    )  # fmt: skip


PLAIN = point("dev.p_kw", "plant/p")
USER = {"protection": "password", "user": "ems"}
STAMPED = point("dev.q_kvar", "plant/doc", value="/q", time="/t")


class Rig:
    """One connection, read as the edge reads it."""

    def __init__(
        self, broker: MqttBroker, port: int, *points: PointMap, timeout_s: float = 2.0, tap_of: TapOf = quiet
    ) -> None:
        self.clock = VirtualClock(AT)
        self.reasons: list[str] = []
        connection = Connection(
            id="dev_link", protocol=Wire.MQTT, host="127.0.0.1", port=port, unit_id=1, endpoint="",
            poll_s=1.0, timeout_s=timeout_s, watchdog_point=None, mqtt=broker,
            points=points or (PLAIN, STAMPED),
        )  # fmt: skip
        self.io = FieldIO(
            site_of(connection), clock=self.clock, on_event=self._event, back_off_s_max=0.05, tap_of=tap_of
        )

    def _event(self, at: object, kind: str, fields: dict[str, Any]) -> None:
        self.reasons.append(str(fields.get("reason", "up")))

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point: r for r in await self.io.read_all()}

    async def until(self, name: str, value: float | None, quality: Quality, within_s: float = 10.0) -> None:
        began_s = wall_s()
        while ((r := (await self.read())[name]).value, r.quality) != (value, quality):
            assert wall_s() - began_s < within_s, (r, self.reasons, self.io.links())
            await wall_sleep(0.02)

    async def up(self) -> None:
        began_s = wall_s()
        while "up" not in self.reasons:
            assert wall_s() - began_s < 10.0, self.reasons
            await self.read()
            await wall_sleep(0.02)

    async def refused(self) -> str:
        """Why it does not come up."""
        while not self.reasons:
            await self.read()
            await wall_sleep(0.02)
        return self.reasons[0]

    def counts(self) -> dict[str, Any]:
        return self.io.links()["dev_link"]


@pytest.fixture
async def rigs() -> AsyncIterator[list[Rig]]:
    made: list[Rig] = []
    yield made
    for rig in made:
        await rig.io.close()


pytestmark = [pytest.mark.needs_server, pytest.mark.scenario(30)]


async def told(mosquitto: Mosquitto, topic: str, payload: str | bytes, *more: str) -> None:
    await asyncio.to_thread(mosquitto.publish, topic, payload, *more)


async def test_what_mosquitto_pub_says_is_read_and_nothing_is_written(mosquitto: Mosquitto, rigs):
    rig = Rig(mosquitto.broker(), mosquitto.tls)
    rigs.append(rig)
    await rig.up()
    assert (await rig.read())["dev.p_kw"].quality is Quality.COMM_FAILED
    await told(mosquitto, "plant/p", "12.5")
    at = rig.clock.now()
    await told(mosquitto, "plant/doc", json.dumps({"q": 7, "t": at.isoformat()}))
    await rig.until("dev.p_kw", 12.5, Quality.GOOD)
    await rig.until("dev.q_kvar", 7.0, Quality.GOOD)
    assert (await rig.read())["dev.q_kvar"].source_time == at
    await told(mosquitto, "plant/p", "no number")
    await rig.until("dev.p_kw", *BAD)
    (result,) = await rig.io.write([command("dev.p_kw", 1.0)])
    assert result.outcome is WriteOutcome.NOT_SENT


async def test_retained_is_as_old_as_it_says_or_ignored(mosquitto: Mosquitto, rigs):
    old = json.dumps({"q": 1, "t": (AT - timedelta(hours=1)).isoformat()})
    await told(mosquitto, "plant/doc", old, "-r")
    await told(mosquitto, "plant/p", "99", "-r")
    rig = Rig(mosquitto.broker(), mosquitto.tls)
    rigs.append(rig)
    await rig.until("dev.q_kvar", 1.0, Quality.STALE)
    assert (await rig.read())["dev.p_kw"].value is None
    assert rig.counts()["retained"] == 1
    for topic in ("plant/doc", "plant/p"):
        await told(mosquitto, topic, "", "-r", "-n")


async def test_megabyte_never_reaches_us_and_costs_nothing(mosquitto: Mosquitto, rigs):
    rig = Rig(mosquitto.broker(payload_bytes_max=100), mosquitto.tls)
    rigs.append(rig)
    await rig.up()
    await told(mosquitto, "plant/p", b"1" * 1_000_000)
    await told(mosquitto, "plant/p", b"1" * 101)  # the broker lets topic and properties pass beside it
    await told(mosquitto, "plant/p", "5")
    await rig.until("dev.p_kw", 5.0, Quality.GOOD)
    assert rig.counts()["oversized"] == 1
    assert rig.counts()["connects"] == 1


async def test_broker_that_dies_is_told_and_found_again(tmp_path, pki, require_program, rigs):
    broker = Mosquitto(tmp_path / "b", pki, require_program("mosquitto")).start()
    try:
        rig = Rig(broker.broker(), broker.tls)
        rigs.append(rig)
        await rig.up()
        await told(broker, "plant/p", "3")
        await rig.until("dev.p_kw", 3.0, Quality.GOOD)
        broker.kill()
        await rig.until("dev.p_kw", None, Quality.COMM_FAILED)
        await asyncio.to_thread(broker.start)
        rig.reasons.clear()
        await rig.up()
        await told(broker, "plant/p", "4")
        await rig.until("dev.p_kw", 4.0, Quality.GOOD)
    finally:
        broker.kill()


async def test_what_the_broker_kept_for_us_is_judged_by_its_time(mosquitto: Mosquitto, rigs):
    broker = mosquitto.broker("ems-kept", session_expiry_s=60)
    first = Rig(broker, mosquitto.tls, STAMPED)
    rigs.append(first)
    await first.up()
    await first.io.close()
    for value, age_s in ((1, 600.0), (2, 300.0), (3, 60.0)):
        stamp = (AT - timedelta(seconds=age_s)).isoformat()
        await told(mosquitto, "plant/doc", json.dumps({"q": value, "t": stamp}))
    again = Rig(broker, mosquitto.tls, STAMPED)
    rigs.append(again)
    await again.until("dev.q_kvar", 3.0, Quality.STALE)
    assert again.counts()["messages"] == 3


async def test_last_will_says_that_we_are_gone(mosquitto: Mosquitto, rigs):
    broker = mosquitto.broker("ems-will", status_topic="plant/ems")
    with mosquitto.subscriber("plant/ems", count=3) as listening:
        rig = Rig(broker, mosquitto.tls)
        await rig.up()
        await rig.io.close()
        rough = mqtt.Session(broker, "127.0.0.1", mosquitto.tls, timeout_s=2.0, now=rig.clock.now)
        rough.open()
        assert rough._client is not None
        rough._client.socket().close()  # type: ignore[union-attr]  # no goodbye
        out, _ = await asyncio.to_thread(listening.communicate, timeout=10)
    assert out.split("\n")[:3] == ["plant/ems online", "plant/ems offline", "plant/ems online"]
    with mosquitto.subscriber("plant/ems", count=1) as listening:
        out, _ = await asyncio.to_thread(listening.communicate, timeout=10)
    assert out == "plant/ems offline\n"


@pytest.mark.parametrize(
    ("changes", "listener", "told_why"),
    [
        ({"certificate": "other/own.pem", "key": "other/own.key"}, "tls", "refuses our certificate"),
        ({"protection": "anonymous"}, "tls", "refuses our certificate"),
        ({"ca": "other/ca.pem"}, "tls", "is not believed: self-signed certificate in certificate chain"),
        ({"server_name": "elsewhere.example"}, "tls", "not valid for 'elsewhere.example'"),
        ({"key": "other/own.key"}, "tls", "is not the key of"),
        ({"key": "none.key"}, "tls", "cannot be read"),
        ({"protection": "plain"}, "tls", "127.0.0.1"),
        ({}, "plain", "127.0.0.1"),
        ({"protection": "password", "user": "ems", "password_file": "wrong"}, "password", "Not authorized"),
        (
            {"protection": "password", "user": "ems", "password_file": "open"},
            "password",
            "others may read it",
        ),
        ({"protection": "anonymous"}, "password", "Not authorized"),
    ],
)
async def test_wrong_certificates_and_passwords_are_refused_on_both_sides(
    mosquitto: Mosquitto, pki, other_pki, tmp_path, rigs, changes, listener, told_why
):
    shutil.copytree(other_pki, tmp_path / "other")
    for name, mode in (("wrong", 0o600), ("open", 0o644)):
        (tmp_path / name).write_text("guess\n")
        (tmp_path / name).chmod(mode)
    files = {
        k: str(tmp_path / v) if k in ("certificate", "key", "ca", "password_file") else v
        for k, v in changes.items()
    }
    rig = Rig(mosquitto.broker("ems-wrong", **files), getattr(mosquitto, listener))
    rigs.append(rig)
    assert told_why in await rig.refused()
    assert "up" not in rig.reasons
    assert (await rig.read())["dev.p_kw"].quality is Quality.COMM_FAILED


async def test_user_with_password_is_let_in_where_the_site_file_says_so(mosquitto: Mosquitto, tmp_path, rigs):
    (tmp_path / "pw").write_text("secret\n")
    (tmp_path / "pw").chmod(0o600)
    broker = mosquitto.broker("ems-pw", protection="password", user="ems", password_file=str(tmp_path / "pw"))
    rig = Rig(broker, mosquitto.password)
    rigs.append(rig)
    await rig.up()
    assert rig.counts()["connects"] == 1


@pytest.mark.parametrize("cut", [None, 3, 60], ids=["whole", "in threes", "torn once"])
async def test_wire_is_kept_as_it_is_inside_tls_and_the_password_as_stars(
    mosquitto: Mosquitto, tmp_path, rigs, monkeypatch, cut: int | None
):
    """Torn: the network takes so many bytes at a time, and no piece need hold the whole password."""
    (tmp_path / "pw").write_text("secret\n")
    (tmp_path / "pw").chmod(0o600)
    send = paho.Client._sock_send
    monkeypatch.setattr(paho.Client, "_sock_send", lambda self, buf: send(self, buf[:cut]))
    broker = mosquitto.broker("ems-pw", protection="password", user="ems", password_file=str(tmp_path / "pw"))
    kept = Kept(tmp_path / "wire", "dev_link")
    rig = Rig(broker, mosquitto.password, tap_of=kept.tap_of)
    rigs.append(rig)
    await rig.up()
    await told(mosquitto, "plant/p", "12.5")
    await rig.until("dev.p_kw", 12.5, Quality.GOOD)
    sent, heard = b"".join(kept.said("O")), b"".join(kept.said("I"))
    assert kept.lines()[0].endswith(f" connecting to 127.0.0.1:{mosquitto.password}")
    assert sent.startswith(b"******")
    assert not any(b"secret"[:n] in sent for n in (3, 4, 5, 6))
    assert b"MQTT" not in sent  # all of CONNECT is hidden, and nothing else
    assert b"plant/p" in sent  # what we asked for
    assert b"plant/p" in heard
    assert heard.endswith(b"12.5")


async def test_certificates_that_end_are_noted(mosquitto: Mosquitto, rigs):
    rig = Rig(mosquitto.broker(), mosquitto.tls)
    rigs.append(rig)
    await rig.up()
    assert rig.io.expiring() == {}
    rig.clock.advance(5 * 365.25 * 86400.0)
    text = rig.io.expiring()["dev_link"]
    assert "our certificate" in text
    assert "the certificate of 127.0.0.1" in text


CONNACK = bytes([0x20, 3, 0, 0, 0])
HOSTILE = {
    "200 MB announced": CONNACK + bytes([0x30, 0xFF, 0xFF, 0xFF, 0x5F]) + b"x" * 100_000,
    "length without end": CONNACK + bytes([0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
    "topic longer than its packet": CONNACK + bytes([0x30, 5, 0xFF, 0xFF, 1, 2, 3]),
    "empty packet": CONNACK + bytes([0x30, 0]),
    "properties that are none": CONNACK + bytes([0x32, 9, 0, 1, 97, 0, 1, 4, 0xEE, 0xEE, 0xEE]),
    "short acknowledgement": CONNACK + bytes([0x40, 1, 0]),
    "an unknown kind": CONNACK + bytes([0x00, 0]),
    "no protocol at all": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "silence": b"",
}


def ask(session: mqtt.Session) -> None:
    session.open()
    session.subscribe(["a"])


def test_topic_that_we_may_not_hear_is_told():
    """Mosquitto lets everybody ask for any topic, others do not."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(CONNACK + bytes([0x90, 5, 0, 1, 0, 0x01, 0x87]))
                peer.recv(1000)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        broker = MqttBroker(client_id="x", protection="plain")
        session = mqtt.Session(
            broker, "127.0.0.1", server.getsockname()[1], timeout_s=2.0, now=VirtualClock(AT).now
        )
        session.open()
        with pytest.raises(Refused, match="does not tell us b"):
            session.subscribe(["a", "b"])
        session.close()
        thread.join(5.0)


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE.keys())
def test_broker_that_talks_nonsense_is_a_lost_link_and_no_crash(said):
    """Not Mosquitto: what no sound broker sends."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1000)
                with contextlib.suppress(ConnectionError):
                    peer.sendall(said)
                peer.settimeout(5.0)
                with contextlib.suppress(ConnectionError):
                    while peer.recv(1000):
                        pass

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        broker = MqttBroker(client_id="x", protection="plain")
        session = mqtt.Session(
            broker, "127.0.0.1", server.getsockname()[1], timeout_s=0.3, now=VirtualClock(AT).now
        )
        with pytest.raises(LinkError):
            ask(session)
        session.close()
        thread.join(5.0)
        assert not thread.is_alive(), "the line is dropped"


def test_closed_port_is_a_lost_link():
    broker = MqttBroker(client_id="x", protection="plain")
    session = mqtt.Session(broker, "127.0.0.1", free_port(), timeout_s=0.3, now=VirtualClock(AT).now)
    with pytest.raises(LinkError, match="Connection refused"):
        session.open()
