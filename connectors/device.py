"""The task that drives one device: connect, poll when asked or just before a tick, drop, connect again."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from connectors.driver_fault import DriverFault, FaultLog, guarded
from connectors.identity import Told, unlike_before, unlike_map
from connectors.link import (
    DeviceLink,
    Diagnosing,
    Latest,
    LinkError,
    NotSent,
    PointValue,
    Refused,
    Untrusted,
    WriteReply,
    as_decided,
)
from connectors.point_map import PointCodec
from connectors.readings import reading
from ems.clock import Clock, wall_s, wall_sleep
from ems.commands import Command, WriteOutcome
from ems.ports import LastWord
from ems.records import JsonValue
from ems.site import Connection
from ems.telemetry import Quality, Reading

REFUSED_PAUSE_S = 30.0  # before a user that was refused is tried again, wall time
BACK_OFF_S = 0.05  # first pause between two attempts to connect, wall time; each is twice as long
# A poll starts so long before its tick: its smoothed length, four mean deviations of it, and a margin.
# The weights are those of a retransmission timer (RFC 6298, section 2): one slow poll is soon forgotten.
MEAN_RATIO, DEVIATION_RATIO, DEVIATIONS, MARGIN_S = 0.125, 0.25, 4.0, 0.002
LEAD_RATIO_MAX = 0.8  # of the poll interval: a device that needs longer is read across the tick
DUE_RATIO = 0.9  # of the poll interval must have passed
OnEvent = Callable[[datetime, str, dict[str, JsonValue]], None]


class Health(Enum):
    """State of one device's connection."""

    FRESH = "fresh"  # the first connection is still being made
    UP = "up"  # connected, and a whole poll was answered since
    DOWN = "down"


@dataclass(slots=True)
class Counters:
    """What happened on one connection since the start."""

    polls: int = 0
    failures: int = 0
    connects: int = 0
    writes: int = 0
    unknown_writes: int = 0
    late_polls: int = 0  # still unanswered when the next one was due; that one was left out
    late_writes: int = 0  # still unanswered when the cycle was over


class Device:
    """One device and the latest reading of each of its points.

    A new connection is believed only after a whole poll was answered: until then nothing is written, so that
    after a write of unknown outcome the device's own setpoints are read back first. What its driver raises
    unexpectedly is the end of the connection as well, and of nothing else.
    """

    def __init__(
        self,
        connection: Connection,
        codecs: dict[str, PointCodec],
        link: DeviceLink,
        *,
        clock: Clock,
        on_event: OnEvent,
        back_off_s_max: float,
    ) -> None:
        self.connection = connection
        self.health = Health.FRESH
        self.reason = ""  # why it is down
        self.counters = Counters()
        self._back_off_s_max = back_off_s_max
        self._codecs, self._link, self._clock, self._on_event = codecs, link, clock, on_event
        self._wanted = asyncio.Event()
        self._settled: asyncio.Future[None] | None = None
        self._polling = False
        self._polled_s = -1e18  # control time of the last poll's start
        self._tick_s = -math.inf  # control time of the tick that the last poll was for
        self._start_s = -math.inf  # control time before which the poll that is wanted does not start
        self._took_s = self._spread_s = 0.0  # smoothed length of a poll, and its mean deviation [s wall]
        self._readings: dict[str, Reading] = {}
        self._gone = clock.now(), clock.monotonic_s()  # since then nothing of before is known
        self.told: Told = {}  # what the device said it is, when it was connected last
        self.strange = ""  # why it is not the device that may be written to
        self._foreign = False  # not even the map is right: its values mean nothing
        self.commissioned: Mapping[str, str] | None = None  # what it said when it was commissioned
        # Active fault codes of the device; None: it is not one that tells them.
        self.faults: tuple[str, ...] | None = () if isinstance(link, Diagnosing) else None
        self._down_wall_s = 0.0
        self._untrusted = False  # it was told of this outage that somebody is not trusted
        self._ending = False
        self._dropped = False  # a write has ended the connection: what is still read on it is not believed
        self._faults_logged = FaultLog(connection.id)
        self._fault, self._fault_over = "", True  # what its driver raised; a whole poll was answered since

    def request_poll(self) -> asyncio.Future[None] | None:
        """Start a poll if one is due. What to wait for, or None when waiting is of no use."""
        if self.health is Health.DOWN:
            return None
        if self.health is Health.UP:
            late = self._polling  # since the last call: it is slow, its answer will be taken when it comes
            due = self._clock.monotonic_s() - self._polled_s >= DUE_RATIO * self.connection.poll_s
            self.counters.late_polls += late
            if late or not due:
                return None
            self._polling = True
            self._wanted.set()
        if self._settled is None or self._settled.done():
            self._settled = asyncio.get_running_loop().create_future()
        return self._settled

    def expect_tick(self, at_s: float) -> None:
        """Have a poll answered just before the tick at `at_s` [s control time], if one is due then.

        A slow device is read as often as it answers and never has two requests waiting; one that is down
        connects and polls by itself.
        """
        if self.health is not Health.UP or at_s - self._tick_s < DUE_RATIO * self.connection.poll_s:
            return
        if self._wanted.is_set():  # the poll for the tick before has not even begun
            self.counters.late_polls += 1
            return
        self._tick_s, self._start_s = at_s, at_s - self.lead_s
        self._wanted.set()

    @property
    def lead_s(self) -> float:
        """How long before a tick a poll starts so that its answer is there [s]."""
        lead_s = self._took_s + DEVIATIONS * self._spread_s + MARGIN_S
        return min(lead_s, LEAD_RATIO_MAX * self.connection.poll_s)

    def readings(self) -> list[Reading]:
        """Latest reading of each point; COMM_FAILED without a value while the device is not answering."""
        if self.health is Health.UP:
            return list(self._readings.values()) if not self._foreign else self._meaningless()
        return [reading(point, None, Quality.COMM_FAILED, *self._gone) for point in self._codecs]

    def driver_fault(self) -> str:
        """What its driver has raised unexpectedly: once at least, and until it answers a whole poll again."""
        told = self._fault
        if self._fault_over:
            self._fault = ""
        return told

    def _meaningless(self) -> list[Reading]:
        """Registers of a device that the map was not written for."""
        return [
            reading(r.point, None, Quality.DEVICE_BAD, r.source_time, r.arrived_s)
            for r in self._readings.values()
        ]

    async def write(
        self, commands: Sequence[Command], until_s: float = math.inf, last_word: LastWord | None = None
    ) -> list[WriteReply]:
        """Send each command once, in order; none any more from `until_s` on [s wall].

        `last_word` is asked when the wire is held; None: each is sent as it is.
        """
        if self.health is not Health.UP:
            detail = f"{self.connection.id} is not connected: {self.reason or 'connecting'}"
            return [WriteReply(WriteOutcome.NOT_SENT, detail)] * len(commands)
        if self.strange:
            detail = f"{self.connection.id} is not written to: {self.strange}"
            return [WriteReply(WriteOutcome.NOT_SENT, detail)] * len(commands)
        replies: list[WriteReply | None] = [None] * len(commands)
        sent: list[tuple[int, PointCodec, float]] = []
        for i, command in enumerate(commands):
            codec = self._codecs[command.point]
            if codec.point.writable:
                sent.append((i, codec, command.value))
            else:
                replies[i] = WriteReply(
                    WriteOutcome.NOT_SENT, f"{command.point} is read-only in the point map"
                )
        broken: DriverFault | None = None
        failed: list[Exception] = []
        latest = as_decided if last_word is None else latest_of(commands, last_word, failed)
        try:
            with guarded():
                answers = await self._link.write([(c, v) for _, c, v in sent], until_s, latest)
                told = [(i, WriteReply(*reply)) for (i, _, _), reply in zip(sent, answers, strict=True)]
        except DriverFault as fault:  # each of them may have been sent
            broken, told = fault, [(i, WriteReply(WriteOutcome.UNKNOWN, str(fault))) for i, _, _ in sent]
        for i, reply in told:
            replies[i] = reply
            self.counters.writes += reply.outcome is not WriteOutcome.NOT_SENT
            self.counters.unknown_writes += reply.outcome is WriteOutcome.UNKNOWN
        if broken is not None:
            self._dropped = True
            await self._lost(broken)
        elif not self._link.connected:
            self._fail("a write was not answered")
        if broken is not None or not self._link.connected:
            self._wanted.set()  # let the task connect again
        if failed:
            raise failed[0]
        return [r for r in replies if r is not None]

    def end(self, task: "asyncio.Task[None]") -> None:
        """End the task that runs this device, also where a library underneath loses the cancellation."""
        self._ending = True
        task.cancel()

    async def run(self) -> None:
        """Keep the device connected and polled until cancelled."""
        self._ending, pause_s = False, BACK_OFF_S
        try:
            while not self._ending:
                try:
                    self._dropped = False
                    with guarded():
                        await self._link.connect()
                    self.counters.connects += 1
                    await self._identify()
                    while not self._ending:
                        await self._poll()
                        pause_s = BACK_OFF_S
                        await self._wanted.wait()
                        if self._start_s > -math.inf:
                            await self._clock.sleep_until(self._start_s)
                except LinkError as error:
                    await self._lost(error)
                    if isinstance(error, Refused):
                        await wall_sleep(REFUSED_PAUSE_S)
                await wall_sleep(pause_s)
                pause_s = min(2.0 * pause_s, self._back_off_s_max)
        finally:
            await self._let_go()

    async def _lost(self, error: LinkError) -> None:
        """The connection is over; a driver that has raised something else has not ended it itself."""
        self._fail(str(error), untrusted=isinstance(error, Untrusted))
        if isinstance(error, DriverFault):
            if self._fault_over:  # the first is told: those after it may come of it
                self._fault, self._fault_over = str(error), False
            self._faults_logged.told(error)
            await self._let_go()

    async def _let_go(self) -> None:
        try:
            with guarded():
                await self._link.disconnect()
        except DriverFault as fault:
            self._faults_logged.told(fault)

    async def _identify(self) -> None:
        """Ask who is there, at every connection; told once when the answer changes from right to wrong."""
        fields = self.connection.identity
        with guarded():
            self.told = await self._link.identify() if fields else {}
            foreign = unlike_map(fields, self.told)
            strange = "; ".join([*foreign, *unlike_before(fields, self.told, self.commissioned)])
        if strange != self.strange:
            kind = "device.identity.wrong" if strange else "device.identity.right"
            at = self._clock.now().astimezone(UTC)
            self._on_event(at, kind, {"device": self.connection.id, "why": strange, **self.told})
        self._foreign, self.strange = bool(foreign), strange

    async def _poll(self) -> None:
        self._wanted.clear()
        self._polled_s, began_s = self._clock.monotonic_s(), wall_s()
        with guarded():
            values = await self._link.read()
            if self._dropped:
                raise LinkError(self.reason)
            took_s = wall_s() - began_s
            self._learn(took_s)
            now = self._clock.now()
            self._readings = self._stamped(values, now, took_s)
            faults = self._link.faults if isinstance(self._link, Diagnosing) else None
        self.counters.polls += 1
        self._fault_over = True
        self._diagnose(now, faults)
        if self.health is not Health.UP:
            down_s = wall_s() - self._down_wall_s if self.health is Health.DOWN else 0.0
            self.health, self.reason = Health.UP, ""
            self._on_event(
                now, "device.link.up", {"device": self.connection.id, "down_wall_s": round(down_s, 3)}
            )
        self._settle()

    def _stamped(self, values: Mapping[str, PointValue], now: datetime, took_s: float) -> dict[str, Reading]:
        """What a read of `took_s` [s wall] told, each value as old as it is since its device was asked.

        Of a read the time counts that it took on the edge's own clock: none where that waits for it.
        """
        now_s = self._clock.monotonic_s()
        read_s = now_s - self._polled_s
        known: dict[float | None, tuple[datetime, float]] = {}  # by age; all values of a request have one
        out: dict[str, Reading] = {}
        for point, (value, quality, told, age_s) in values.items():
            if age_s not in known:
                is_old = age_s is not None and age_s > took_s  # told by itself, before this read
                old_s = age_s if age_s is not None and (is_old or age_s < read_s) else read_s
                known[age_s] = now - timedelta(seconds=old_s), now_s - old_s
            at, arrived_s = known[age_s]
            out[point] = reading(point, value, quality, at if told is None else told, arrived_s)
        return out

    def _diagnose(self, now: datetime, faults: tuple[str, ...] | None) -> None:
        """Told when the active fault codes of a device become others."""
        if faults is None or faults == self.faults:
            return
        self.faults = faults
        self._on_event(now, "device.faults", {"device": self.connection.id, "faults": list(faults)})

    def _learn(self, took_s: float) -> None:
        if self._took_s == 0.0:
            self._took_s, self._spread_s = took_s, 0.5 * took_s
            return
        self._spread_s += DEVIATION_RATIO * (abs(took_s - self._took_s) - self._spread_s)
        self._took_s += MEAN_RATIO * (took_s - self._took_s)

    def _fail(self, reason: str, *, untrusted: bool = False) -> None:
        """Told when it goes down, and once more where it stays down because somebody is not trusted."""
        self.counters.failures += 1
        at, fields = self._clock.now().astimezone(UTC), {"device": self.connection.id, "reason": reason}
        self.reason, self._gone = reason, (self._clock.now(), self._clock.monotonic_s())
        if self.health is not Health.DOWN:
            self.health, self._untrusted = Health.DOWN, untrusted
            self._down_wall_s = wall_s()
            self._on_event(at, "device.link.down", {**fields})
        elif untrusted and not self._untrusted:
            self._untrusted = True
            self._on_event(at, "device.link.untrusted", {**fields})
        self._settle()

    def _settle(self) -> None:
        self._polling = False
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)


def latest_of(commands: Sequence[Command], last_word: LastWord, failed: list[Exception]) -> Latest:
    """What a link asks right before its bytes: the value of a command as it may be sent now, else NotSent.

    What `last_word` itself raises is kept in `failed`: it is no fault of a driver's.
    """
    known = {(c.point, c.value): c for c in commands}

    def latest(codec: PointCodec, value: float) -> float:
        try:
            word = last_word(known[codec.point.point, value])
        except Exception as error:
            failed.append(error)
            raise NotSent("the last look before it failed") from error
        if word is None:
            raise NotSent("what it was decided on has changed while it waited for its turn")
        return word.value

    return latest
