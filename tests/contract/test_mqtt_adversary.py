"""A broker that sends what no sound one does: spoilt packets, documents that are none.

Nothing of it crashes anything, and nothing of it is believed.
"""

import json
import random
import re
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from paho.mqtt.client import MQTTMessage

from connectors.link import LinkError
from connectors.mqtt.book import Book, Message
from connectors.mqtt.session import Session
from connectors.point_map import PointCodec
from connectors.raw_types import MQTT_TYPES
from ems.clock import VirtualClock
from ems.site import MqttBroker
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.test_mqtt_peer import PLAIN, STAMPED

pytestmark = pytest.mark.scenario(26)
CONNACK, SUBACK, PUBLISH = 0x20, 0x90, 0x30
BATCH = 200  # packets on one connection, before one that may end it
BYTES_MAX = 1000
NUMBER = re.compile(
    rb"[ \t\n\r]*(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)[ \t\n\r]*"
)  # RFC 8259


def length(n: int) -> bytes:
    """A variable byte integer (MQTT 5.0, 1.5.5)."""
    out = bytearray()
    while True:
        n, low = divmod(n, 128)
        out.append(low | (0x80 if n else 0))
        if not n:
            return bytes(out)


def packet(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + length(len(body)) + body


def publish(topic: bytes, payload: bytes, *, flags: int = 0, properties: bytes = b"\0") -> bytes:
    return packet(PUBLISH | flags, len(topic).to_bytes(2, "big") + topic + properties + payload)


def spoilt(rng: random.Random, text: bytes) -> bytes:
    """Bits turned, bytes lost, doubled, cut off, or something else altogether."""
    out = bytearray(text)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + rng.randrange(1, 4)]
            case 2:
                out[at:at] = rng.randbytes(rng.randrange(1, 4))
            case 3:
                del out[at:]
            case 4:
                out += out[:at]
            case _:
                out = bytearray(rng.randbytes(rng.randrange(40)))
    return bytes(out)


PLAIN_TEXTS = (b"12.5", b"-499", b"1e2", b" 0 ", b"7.25e+1", b"500.0")
NONE_AT_ALL = (
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e999", b"true", b"null", b'"12.5"', b"[12.5]", b"12,5",
    b"0x10", b"1_000", b"+5", b".5", b"5.", b"01", b"", b" ", b"\xef\xbb\xbf12.5", b"12.5\x00", b"12.5 12.5",
    b"9" * 400, b"[" * 900,
    b"\xff\xfe1\x002\x00", "١٢".encode(), b"-", b"1e", b"{}", b"501", b"-500.1", b"1" * 1001,
)  # fmt: skip


def plain_meaning(payload: bytes) -> float | None:
    """What the plain topic means by the standard and the map, written without the code that is tested."""
    found = NUMBER.fullmatch(payload)
    if found is None or len(payload) > BYTES_MAX:
        return None
    number = float(found[1])
    return number if -500.0 <= number <= 500.0 else None


def document(rng: random.Random, at_s: float) -> tuple[bytes, float | None]:
    """A document with value and time, or what looks like one; what it means."""
    q = rng.choice((1.5, -20, 499.99, 0))
    t = (T0 + timedelta(seconds=at_s)).isoformat()
    good = json.dumps({"q": q, "t": t})
    wrong = (
        f'{{"q": {q}}}', f'{{"t": "{t}"}}', f'{{"q": {q}, "q": {q}, "t": "{t}"}}',
        good[:-1], good + "}", good * 2,
        f'{{"q": "{q}", "t": "{t}"}}', f'{{"q": true, "t": "{t}"}}', f'{{"q": [{q}], "t": "{t}"}}',
        f'{{"q": NaN, "t": "{t}"}}', f'{{"q": 1e999, "t": "{t}"}}', f'{{"q": 500.5, "t": "{t}"}}',
        f'{{"q": {q}, "t": 12}}', f'{{"q": {q}, "t": "{t[:19]}"}}', f'{{"q": {q}, "t": "yesterday"}}',
        f'[{{"q": {q}, "t": "{t}"}}]', f'{{"Q": {q}, "t": "{t}"}}',
    )  # fmt: skip
    if rng.random() < 0.3:
        return good.encode(), float(q)
    return rng.choice(wrong).encode(), None


class HostileBroker:
    """Lets everybody in, then tells what it was given, connection by connection."""

    def __init__(self) -> None:
        self.said = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            with peer:
                try:
                    peer.recv(1000)
                    peer.sendall(packet(CONNACK, b"\0\0\0"))
                    asked = peer.recv(1000)  # SUBSCRIBE: its identifier stands behind two bytes
                    peer.sendall(packet(SUBACK, asked[2:4] + b"\0\x01\x01") + self.said)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(4096):
                        pass
                except OSError:
                    pass

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5.0)


@pytest.fixture
def broker() -> Iterator[HostileBroker]:
    one = HostileBroker()
    yield one
    one.close()


class Listening:
    """Session and book of an MQTT link, held against what each message means."""

    def __init__(self, port: int) -> None:
        self.port, self.at_s, self.believed, self.refused = port, 0.0, 0, 0
        self.clock = VirtualClock(T0)
        self.expected: dict[bytes, float | None] = {}  # of documents
        self.book = self._new_book()

    def _new_book(self) -> Book:
        return Book([PointCodec(p, MQTT_TYPES["number"]) for p in (PLAIN, STAMPED)], BYTES_MAX)

    def hear(self, message: MQTTMessage) -> None:
        self.at_s += 0.01
        now = T0 + timedelta(seconds=self.at_s)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        payload = bytes(message.payload)
        self.book.take(Message(topic, payload, message.retain, message.dup), now, self.at_s)
        if topic == PLAIN.address and not message.retain and not message.dup:
            self._judge("dev.p_kw", plain_meaning(payload), payload)
        elif topic == STAMPED.address:
            self._judge("dev.q_kvar", self.expected.get(payload), payload)
            self.book = self._new_book()  # the next one is not older than this

    def _judge(self, point: str, meant: float | None, payload: bytes) -> None:
        value = self.book.values(T0 + timedelta(seconds=self.at_s), self.at_s)[point]
        if meant is None:
            assert value.quality is not Quality.GOOD, (payload, value)
            self.refused += 1
        else:
            assert value.quality is Quality.GOOD, payload
            assert value.value == pytest.approx(meant), payload
            self.believed += 1

    def until_it_ends(self) -> None:
        """Connect, listen until the broker ends it, or what it says does."""
        told = MqttBroker(client_id="x", protection="plain", payload_bytes_max=BYTES_MAX)
        session = Session(
            told, "127.0.0.1", self.port, timeout_s=5.0, now=self.clock.now, on_message=self.hear
        )
        try:
            session.open()
            session.subscribe([PLAIN.address, STAMPED.address])
            while True:
                session.pump(0.5)
        except LinkError:
            pass
        finally:
            session.close()


def batch(rng: random.Random, listening: Listening) -> bytes:
    """Packets that are sound with payloads that often are not, and at the end one that is no packet."""
    out = []
    for _ in range(BATCH):
        match rng.randrange(4):
            case 0:
                payload = rng.choice(PLAIN_TEXTS)
            case 1:
                payload = spoilt(rng, rng.choice(PLAIN_TEXTS))
            case 2:
                payload = rng.choice(NONE_AT_ALL)
            case _:
                payload, meant = document(rng, listening.at_s)
                listening.expected[payload] = meant
                out.append(publish(STAMPED.address.encode(), payload))
                continue
        out.append(publish(PLAIN.address.encode(), payload, flags=rng.choice((0, 0, 0, 0, 1))))
    last = publish(rng.choice((b"plant/p", b"\xff\xfe", b"", b"other")), rng.choice(PLAIN_TEXTS))
    end = packet(rng.randrange(256), rng.randbytes(rng.randrange(30))) if rng.random() < 0.3 else b""
    return b"".join(out) + spoilt(rng, last) + end


def noise(broker: HostileBroker, seed: int, count: int) -> Listening:
    rng, listening = random.Random(seed), Listening(broker.port)
    for _ in range(count // BATCH):
        listening.expected.clear()
        broker.said = batch(rng, listening)
        listening.until_it_ends()
    return listening


def test_spoilt_messages_never_crash_and_never_become_a_value(broker: HostileBroker):
    heard = noise(broker, seed=1883, count=6000)
    assert heard.believed > 1000
    assert heard.refused > 2000


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_spoilt_messages_soak(broker: HostileBroker, seed: int):
    heard = noise(broker, seed, count=100_000)
    assert heard.believed > 20_000
    assert heard.refused > 40_000
