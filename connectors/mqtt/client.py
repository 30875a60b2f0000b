"""MQTT link: a thread of its own listens, the edge looks at what it has heard. Nothing is ever written."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from paho.mqtt.client import MQTTMessage

from connectors.expiry import Expiry
from connectors.link import Latest, LinkError, PointValue, WriteReply, as_decided
from connectors.mqtt.book import Book, Message
from connectors.mqtt.session import STEP_S, Session
from connectors.point_map import PointCodec
from connectors.wire_log import QUIET
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.site import Connection, MqttBroker

# A flood must not take the processor from the edge: what comes faster waits in the network and at the broker.
RATE_PER_S, BURST = 2000.0, 500.0
READ_ONLY = WriteReply(WriteOutcome.NOT_SENT, "MQTT carries no setpoints")


class _Listener:
    """One session and the thread that drives it."""

    def __init__(
        self, session: Session, topics: Sequence[str], settled: Callable[[Exception | None], None]
    ) -> None:
        self.session = session
        self.error: Exception | None = None
        self.came = 0  # messages, in the thread
        self._topics, self._settled = topics, settled
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Let the thread end by itself."""
        self._closing.set()

    def join(self, timeout_s: float) -> None:
        """Wait for that [s wall]."""
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and self.error is None

    def _run(self) -> None:
        try:
            self.session.open()
            self.session.subscribe(self._topics)
            self._settled(None)
            room, at_s = BURST, wall_s()
            while not self._closing.is_set():
                came = self.came
                self.session.pump(STEP_S)
                now_s = wall_s()
                room = min(BURST, room + RATE_PER_S * (now_s - at_s)) - (self.came - came)
                at_s = now_s
                if room < 0.0:
                    self._closing.wait(-room / RATE_PER_S)
        except MemoryError:
            self.error = LinkError("nobody listens any more: memory has run out")
            self._settled(self.error)
            raise
        except Exception as error:  # noqa: BLE001  raised where the device is connected or read
            self.error = error
            self.session.tap.noted(str(error))
            self._settled(error)
        finally:
            self.session.close()


class MqttLink:
    """One connection to a broker.

    Parameters
    ----------
    codecs : its points; each address is a topic.
    broker : its files are whole paths.
    timeout_s : to connect, and for each answer that is waited for [s wall].
    now : aware time.
    """

    def __init__(
        self,
        connection: Connection,
        codecs: Sequence[PointCodec],
        *,
        broker: MqttBroker,
        host: str,
        port: int,
        timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._broker, self._host, self._port = broker, host, port
        self._timeout_s, self._now = timeout_s, now
        self._book = Book(codecs, broker.payload_bytes_max)
        self._listener: _Listener | None = None
        self.expiries: tuple[Expiry, ...] = ()
        self.tap = QUIET

    @property
    def connected(self) -> bool:
        return self._listener is not None and self._listener.alive

    async def connect(self) -> None:
        await self.disconnect()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Exception | None] = loop.create_future()

        def settled(error: Exception | None) -> None:
            def tell() -> None:
                if not done.done():
                    done.set_result(error)

            if not loop.is_closed():
                loop.call_soon_threadsafe(tell)

        session = Session(
            self._broker,
            self._host,
            self._port,
            timeout_s=self._timeout_s,
            now=self._now,
            on_message=self._take,
        )
        session.tap = self.tap
        listener = _Listener(session, self._book.topics, settled)
        self._listener = listener
        listener.start()
        error = await done
        self.expiries = tuple(session.expiries)
        if error is not None:
            self._listener = None
            raise error

    def _take(self, message: MQTTMessage) -> None:
        """In the listener's thread."""
        if self._listener is not None:
            self._listener.came += 1
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        told = Message(topic, bytes(message.payload), message.retain, message.dup)
        self._book.take(told, self._now(), wall_s())

    async def identify(self) -> dict[str, str | None]:
        return {}

    async def read(self) -> dict[str, PointValue]:
        listener = self._listener
        if listener is None:
            raise LinkError("not connected")
        if listener.error is not None:
            raise listener.error
        return self._book.values(self._now(), wall_s())

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return [READ_ONLY] * len(values)

    async def disconnect(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            await asyncio.to_thread(listener.join, self._timeout_s)

    @property
    def counts(self) -> dict[str, int]:
        """What became of the messages since the start."""
        return self._book.counted()
