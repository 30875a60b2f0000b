"""A driver that raises what nobody expects is that device down: the others are read and written as before."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import structlog.testing

from cli.edge_records import undriven
from connectors import field
from connectors.bacnet.client import BacnetLink
from connectors.dlms.client import DlmsLink
from connectors.dnp3.client import Dnp3Link
from connectors.driver_fault import LOG_EVERY_S, TEXT_MAX, DriverFault, FaultLog, guarded, words
from connectors.field import FieldIO
from connectors.http_json.client import HttpJsonLink
from connectors.iec104.client import Iec104Link
from connectors.iec61850.client import Iec61850Link
from connectors.iec61850.goose_link import GooseLink
from connectors.j1939.link import J1939Link
from connectors.link import Latest, LinkError, NotSent, PointValue, WriteReply, as_decided
from connectors.listening import Listener
from connectors.modbus.bus import Bus
from connectors.modbus.client import ModbusLink
from connectors.modbus.rtu_link import RtuLink
from connectors.mqtt import client as mqtt
from connectors.mqtt.client import MqttLink
from connectors.opcua.client import OpcUaLink
from connectors.point_map import PointCodec
from connectors.sunspec.link import SunSpecLink
from connectors.wire_log import QUIET
from ems.clock import VirtualClock, wall_sleep
from ems.commands import Command, WriteOutcome
from ems.site import Protocol
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.plants import command, connection, site_of

LINKS: list[type] = [
    ModbusLink, RtuLink, OpcUaLink, SunSpecLink, Dnp3Link, Iec104Link, BacnetLink, DlmsLink, MqttLink,
    HttpJsonLink, Iec61850Link, GooseLink, J1939Link,
]  # fmt: skip
CAME_BACK = 200  # looks at a device that is to come back, 10 ms apart


class Stand:
    """What a link does, up to the moment in which it raises."""

    def __init__(self) -> None:
        self.up, self.raises, self.value = False, dict[str, BaseException](), 1.0
        self.reads = self.disconnects = 0
        self.written: list[float] = []
        self.answer: Callable[[dict[str, PointValue]], Any] = lambda values: values
        self.replied: Callable[[list[WriteReply]], Any] = lambda replies: replies
        self.points: Sequence[str] = ()

    def meet(self, what: str) -> None:
        if what in self.raises:
            raise self.raises[what]

    @property
    def connected(self) -> bool:
        return self.up

    async def connect(self) -> None:
        self.meet("connect")
        self.up = True

    async def identify(self) -> dict[str, str | None]:
        return {}

    async def read(self) -> Any:
        if not self.up:
            raise NotSent("not connected")
        self.meet("read")
        self.reads += 1
        return self.answer({p: PointValue(self.value, Quality.GOOD, None) for p in self.points})

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> Any:
        replies = []
        for codec, value in values:
            try:
                self.written.append(latest(codec, value))
            except NotSent as why:
                replies.append(WriteReply(WriteOutcome.NOT_SENT, str(why)))
            else:
                replies.append(WriteReply(WriteOutcome.CONFIRMED, ""))
        self.meet("write")
        return self.replied(replies)

    async def disconnect(self) -> None:
        self.disconnects += 1
        self.up = False
        self.meet("disconnect")


def standing_in(link: type) -> Stand:
    """An object of a protocol's own class that does what `Stand` does."""
    told: dict[str, Any] = {"counts": {}, "faults": (), "expiries": ()}
    own = {name: value for name, value in told.items() if hasattr(link, name)}
    made: Stand = type(link.__name__, (Stand, link), own)()
    return made


class Field:
    """A device of some protocol that will meet the unexpected, and one that never does."""

    def __init__(self, link: type, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ill, self.well = standing_in(link), standing_in(ModbusLink)
        links = {"ill_link": self.ill, "well_link": self.well}

        def linked(connection, codecs, *_):
            links[connection.id].points = tuple(codecs)
            return links[connection.id], None

        monkeypatch.setattr(field, "_over_tcp", linked)
        self.clock, self.events = VirtualClock(T0), list[str]()
        site = site_of(*(connection(name, Protocol.MODBUS_TCP, 1) for name in ("ill", "well")))
        self.io = FieldIO(
            site, clock=self.clock, back_off_s_max=0.05,
            on_event=lambda at, kind, fields: self.events.append(f"{kind} {fields['device']}"),
        )  # fmt: skip

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point: r for r in await self.io.read_all()}

    async def write(self, value: float) -> list[tuple[WriteOutcome, str]]:
        results = await self.io.write([command("ill.p_set_kw", value), command("well.p_set_kw", value)])
        return [(r.outcome, r.detail) for r in results]

    async def until_good(self) -> dict[str, Reading]:
        for _ in range(CAME_BACK):
            if (readings := await self.read())["ill.soc"].is_good:
                return readings
            await wall_sleep(0.01)
        raise AssertionError("it never came back")

    def is_read(self, readings: dict[str, Reading]) -> bool:
        """The other device was polled in this very cycle."""
        reading = readings["well.soc"]
        return reading.is_good and reading.arrived_s == self.clock.monotonic_s()


@pytest.fixture(params=LINKS, ids=lambda link: link.__name__)
async def both(request, monkeypatch) -> AsyncIterator[Field]:
    made = Field(request.param, monkeypatch)
    readings = await made.read()
    assert all(r.is_good for r in readings.values())
    yield made
    await made.io.close()


@pytest.fixture
async def one(monkeypatch) -> AsyncIterator[Field]:
    made = Field(ModbusLink, monkeypatch)
    await made.read()
    yield made
    await made.io.close()


async def test_driver_fault_is_that_device_down_and_no_other(both):
    """A KeyError in the read of one link used to break the cycle: held safe, and no island balanced."""
    both.ill.raises["read"] = KeyError("serial number")
    readings = await both.read()
    ill = [r for p, r in readings.items() if p.startswith("ill.")]
    assert {(r.quality, r.value) for r in ill} == {(Quality.COMM_FAILED, None)}
    assert both.is_read(readings)
    (not_sent, why), well = await both.write(7.0)
    assert (not_sent, well[0]) == (WriteOutcome.NOT_SENT, WriteOutcome.CONFIRMED)
    assert (both.ill.written, both.well.written) == ([], [7.0])
    assert "KeyError in the driver: 'serial number'" in why
    (alarm,) = undriven(both.io.driver_faults())
    assert (alarm.code, alarm.asset) == ("device.driver.fault", "ill_link")
    assert alarm.text == "ill_link: KeyError in the driver: 'serial number'"
    assert both.ill.disconnects > 0
    assert "device.link.down ill_link" in both.events
    del both.ill.raises["read"]
    assert both.is_read(await both.until_good())
    both.io.driver_faults()
    assert both.io.driver_faults() == {}
    assert [outcome for outcome, _ in await both.write(8.0)] == [WriteOutcome.CONFIRMED] * 2


async def test_write_that_raises_is_unknown_and_read_back_before_anything_else_is_written(both):
    both.ill.raises["write"] = AttributeError("no such member")
    began, reads = both.ill.disconnects, both.ill.reads
    (unknown, why), (well, _) = await both.write(7.0)
    assert (unknown, well) == (WriteOutcome.UNKNOWN, WriteOutcome.CONFIRMED)
    assert "AttributeError in the driver" in why
    assert both.ill.disconnects > began
    assert both.io.links()["ill_link"]["unknown_writes"] == 1
    del both.ill.raises["write"]
    (at_once, _), (well, _) = await both.write(8.0)
    assert (at_once, well) == (WriteOutcome.NOT_SENT, WriteOutcome.CONFIRMED)
    await both.until_good()
    assert both.ill.reads > reads
    assert both.io.driver_faults() == {"ill_link": why}, "told once, however soon it is over"
    assert both.io.driver_faults() == {}
    assert (await both.write(9.0))[0][0] is WriteOutcome.CONFIRMED
    assert (both.ill.written, both.well.written) == ([7.0, 9.0], [7.0, 8.0, 9.0])


async def test_connect_that_raises_is_tried_again_with_pauses(both):
    both.ill.raises |= {"read": LinkError("hung up"), "connect": IndexError("short")}
    assert both.is_read(await both.read())
    for _ in range(CAME_BACK):
        if both.io.driver_faults():
            break
        await wall_sleep(0.01)
        assert both.is_read(await both.read())
    assert both.io.driver_faults() == {"ill_link": "IndexError in the driver: short"}
    both.ill.raises.clear()
    assert both.is_read(await both.until_good())


@pytest.mark.parametrize(
    "odd",
    [lambda values: None, lambda values: dict.fromkeys(values, 3.0), lambda values: list(values)],
    ids=["nothing", "no quality", "no names"],
)
async def test_answer_of_another_shape_is_a_fault_of_the_driver_too(one, odd):
    one.ill.answer = odd
    readings = await one.read()
    assert readings["ill.soc"].quality is Quality.COMM_FAILED
    assert one.is_read(readings)
    one.ill.answer = lambda values: values
    await one.until_good()


@pytest.mark.parametrize(
    "odd", [lambda replies: [], lambda replies: None, lambda replies: [None]], ids=["none", "nothing", "odd"]
)
async def test_replies_of_another_shape_leave_every_write_unknown(one, odd):
    one.ill.replied = odd
    (unknown, _), (well, _) = await one.write(7.0)
    assert (unknown, well) == (WriteOutcome.UNKNOWN, WriteOutcome.CONFIRMED)
    assert one.io.driver_faults().keys() == {"ill_link"}


async def test_poll_that_was_on_its_way_when_a_write_raised_is_not_believed(one):
    """Else the device would be up again on a connection that is to be dropped."""
    go = asyncio.Event()
    read = one.ill.read

    async def slow() -> Any:
        values = await read()
        await go.wait()
        return values

    one.ill.read = slow
    polling = asyncio.create_task(one.read())
    await wall_sleep(0.02)
    one.ill.raises["write"] = KeyError("x")
    assert (await one.write(7.0))[0][0] is WriteOutcome.UNKNOWN
    one.ill.read = read
    connects = one.io.links()["ill_link"]["connects"]
    go.set()
    assert not (await polling)["ill.soc"].is_good
    await one.until_good()
    assert one.io.links()["ill_link"]["connects"] == connects + 1


async def test_link_that_cannot_even_be_dropped_is_made_anew(one):
    one.ill.raises |= {"write": KeyError("x"), "disconnect": RuntimeError("already closed")}
    assert (await one.write(7.0))[0][0] is WriteOutcome.UNKNOWN
    connects = one.io.links()["ill_link"]["connects"]
    one.ill.raises.clear()
    await one.until_good()
    assert one.io.links()["ill_link"]["connects"] == connects + 1


async def test_memory_that_has_run_out_is_no_matter_of_one_device(one):
    one.ill.raises["read"] = MemoryError()
    with pytest.raises(MemoryError):
        await one.read()


async def test_recorder_that_raises_breaks_the_cycle_as_ever(monkeypatch):
    """It is told of events by the task of a device, and is none of its."""
    made = Field(ModbusLink, monkeypatch)
    made.events = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        await made.read()
    await made.io.close()


async def test_task_that_is_cancelled_ends(one):
    one.ill.raises["read"] = asyncio.CancelledError()
    await one.read()
    assert one.io.driver_faults() == {}


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, MemoryError])
def test_guard_lets_pass_what_ends_a_task_or_the_process(ends):
    with pytest.raises(ends), guarded():
        raise ends


def test_guard_lets_memory_pass_in_a_group_and_links_as_they_are():
    with pytest.raises(ExceptionGroup), guarded():
        raise ExceptionGroup("several", [KeyError("x"), MemoryError()])
    with pytest.raises(NotSent), guarded():
        raise NotSent("too late")
    with pytest.raises(DriverFault), guarded():
        raise ExceptionGroup("several", [KeyError("x")])


def test_words_are_one_line_of_bounded_length():
    assert words(ValueError("two\nlines")) == "ValueError in the driver: two lines"
    assert words(KeyError()) == "KeyError in the driver"
    assert len(words(ValueError("x" * 10_000))) < TEXT_MAX + 40


def test_tracebacks_one_of_each_kind_and_again_after_a_while(monkeypatch):
    now_s = [1000.0]
    monkeypatch.setattr("connectors.driver_fault.wall_s", lambda: now_s[0])
    log = FaultLog("pcs")

    def met(error: Exception) -> int:
        with structlog.testing.capture_logs() as logged:
            try:
                with guarded():
                    raise error
            except DriverFault as fault:
                log.told(fault)
        assert all(e["exc_info"] is error and e["device"] == "pcs" for e in logged)
        return len(logged)

    assert [met(KeyError("a")), met(KeyError("b")), met(IndexError("c"))] == [1, 0, 1]
    now_s[0] += LOG_EVERY_S
    assert met(KeyError("d")) == 1


async def test_bus_whose_answer_cannot_be_understood_is_silent_and_open_to_its_other_units(monkeypatch):
    """A late answer must not be taken for the next unit's, and the line is not that of one unit alone."""

    class Line:
        def write(self, data: bytes) -> None:
            asyncio.get_running_loop().call_soon(bus.data_received, b"\x01")

        def abort(self) -> None:
            raise AssertionError("the line is closed")

    async def opened(receiver: asyncio.Protocol) -> Line:
        return Line()

    def odd(sent: bytes, received: bytes) -> bytes:
        raise KeyError("function")

    bus = Bus("line", opened, 0.0)
    await bus.connect(1, 0.05)
    await wall_sleep(0.06)
    monkeypatch.setattr("connectors.modbus.bus.answer", odd)
    with pytest.raises(KeyError):
        await bus.exchange(bytes.fromhex("010300640001"), 0.5)
    assert (bus.is_open, bus._silence_s) == (True, 0.5)
    with pytest.raises(NotSent, match="before the bus was free"):
        await bus.exchange(bytes.fromhex("020300640001"), 0.05, until_s=bus._free_s - 0.01)


class Hearing:
    """A wire whose first frame is not understood."""

    closed = False

    def frames(self, wait_s: float):
        yield b"frame", 0.0

    def close(self) -> None:
        self.closed = True


def test_listener_whose_thread_met_the_unexpected_raises_it_where_it_is_read():
    def take(frame: bytes, at_s: float) -> None:
        raise KeyError("data set")

    wire = Hearing()
    listener = Listener(wire, take, rate_per_s=1.0, burst=1.0)
    listener.start()
    listener.join(5.0)
    with pytest.raises(KeyError):
        listener.check()
    assert (listener.alive, wire.closed) == (False, True)


def test_mqtt_thread_that_met_the_unexpected_ends_the_wait_for_the_broker():
    """It used to be waited for without end: the device never came back."""

    class Session:
        tap = QUIET

        closed = False

        def open(self) -> None:
            raise KeyError("reason code")

        def close(self) -> None:
            self.closed = True

    session: Any = Session()
    settled: list[Exception | None] = []
    listener = mqtt._Listener(session, [], settled.append)
    listener.start()
    listener.join(5.0)
    assert [type(e) for e in settled] == [KeyError]
    assert (listener.alive, session.closed) == (False, True)


async def test_last_look_that_raises_is_no_fault_of_a_driver_and_sends_nothing(one: Field):
    """It belongs to the decision: the cycle breaks, and no device is taken for down."""

    def last_word(_: Command) -> Command | None:
        raise KeyError("a bug of ours")

    with pytest.raises(KeyError, match="a bug of ours"):
        await one.io.write_in_turn([command("ill.p_set_kw", 7.0)], last_word)
    assert one.ill.written == []
    assert one.ill.up
    assert all(r.is_good for r in (await one.read()).values())
    assert (await one.write(8.0))[0][0] is WriteOutcome.CONFIRMED
