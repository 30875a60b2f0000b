"""Lock-step plant time over loopback sockets: it moves when every live participant has reached its next wait.

The keeper wakes participants in the order of their phase, one after the other, so that at each time the plant
has moved before the edge looks, and the edge has acted before the planner looks. The same seed gives the same
run, however fast or slow the processes are. One JSON object a line each way:

    participant: {"hello": name, "phase": n, "follow": bool}    {"wait": until_s, "n": n}
    keeper:      {"start": iso, "now_s": t}    {"wake": t, "n": n}    {"stop": reason}

`n` counts the wake-ups of a participant: a wait that crossed a wake-up on the wire is not the next one.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ems.clock import wall_s, wall_sleep
from ems.errors import EmsError

HOST = "127.0.0.1"
EPSILON_S = 1e-6
JSON = dict[str, object]


class ClockStoppedError(EmsError):
    """Plant time has ended; whoever waits for it should close down in good order."""


@dataclass(slots=True, kw_only=True)
class _Member:
    name: str
    phase: int
    follow: bool
    writer: asyncio.StreamWriter
    until_s: float | None = None  # None: awake
    wakes: int = 0
    waiting: asyncio.Event = field(default_factory=asyncio.Event)  # also set when it is gone
    gone: bool = False

    def send(self, message: JSON) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperStats:
    """What a keeper has counted so far."""

    now_s: float
    steps: int
    dropped: tuple[str, ...]  # participants whose connection broke, in order
    stalled: tuple[str, ...]  # participants dropped because they did not come back within `stall_s_max`


class TimeKeeper:
    """Keeps plant time for the processes of a demo or test.

    Parameters
    ----------
    start : plant time at 0 s.
    end_s : time stops here by itself, everybody is told; None: only `stop` ends it [s].
    expected : names that must have registered before time moves at all.
    rate_max : plant seconds per wall second that are not exceeded; None: as fast as they can.
    stall_s_max : a participant that stays awake longer than this in wall time is dropped [s].
    progress : called with the plant time each time it moves [s].
    """

    def __init__(
        self,
        start: datetime,
        *,
        end_s: float | None = None,
        expected: Sequence[str] = (),
        rate_max: float | None = None,
        stall_s_max: float = 300.0,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.start = start.astimezone(UTC)
        self.now_s = 0.0
        self.port = 0
        self._end_s = end_s
        self._rate_max = rate_max
        self._stall_s_max = stall_s_max
        self._progress = progress
        self._members: dict[str, _Member] = {}
        self._admit_s: dict[str, float] = dict.fromkeys(expected, 0.0)
        self._changed = asyncio.Event()
        self._running = asyncio.Event()
        self._running.set()
        self._stop_reason: str | None = None
        self._server: asyncio.Server | None = None
        self._steps = 0
        self._dropped: list[str] = []
        self._stalled: list[str] = []

    async def open(self, port: int = 0) -> int:
        """Listen on the loopback interface; gives the port."""
        self._server = await asyncio.start_server(self._serve, HOST, port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    async def run(self) -> KeeperStats:
        """Move time until the end or `stop`; then tell everybody and close."""
        try:
            while self._stop_reason is None:
                await self._until_all_wait()
                await self._running.wait()
                if not self._ended():
                    await self._step()
        finally:
            await self._close()
        return self.stats()

    def stats(self) -> KeeperStats:
        """Counts so far."""
        return KeeperStats(
            now_s=self.now_s, steps=self._steps, dropped=tuple(self._dropped), stalled=tuple(self._stalled)
        )

    def pause(self) -> None:
        """Let time stand still after the present step."""
        self._running.clear()

    def resume(self) -> None:
        """Let time move again."""
        self._running.set()

    def stop(self, reason: str = "stopped") -> None:
        """End time; every participant's wait raises `ClockStoppedError`."""
        if self._stop_reason is None:
            self._stop_reason = reason
        self._running.set()
        self._changed.set()

    def expect(self, name: str, at_s: float) -> None:
        """Admit the participant of this name at exactly this plant time, and let time wait there for it.

        So a process that was killed on purpose comes back at a stated plant time, however long its restart
        takes on this machine, and the run stays reproducible.
        """
        self._admit_s[name] = max(at_s, self.now_s)
        self._changed.set()

    def participants(self) -> tuple[str, ...]:
        """Names of the live participants."""
        return tuple(sorted(self._members))

    def _ended(self) -> bool:
        if self._end_s is not None and self.now_s >= self._end_s - EPSILON_S:
            self.stop("end")
        return self._stop_reason is not None

    async def _until_all_wait(self) -> None:
        """Return when time may move: everybody waits and nobody is overdue for admission."""
        while self._stop_reason is None:
            self._changed.clear()
            awake = [m for m in self._members.values() if not m.waiting.is_set()]
            if awake:
                await self._settled(awake)
                continue
            due = [n for n, t in self._admit_s.items() if t <= self.now_s + EPSILON_S]
            if self._ended() or (self._members and not due):
                return
            await self._changed.wait()

    async def _settled(self, members: list[_Member]) -> None:
        """Wait until these have reached their next wait; drop those that never do."""
        for member in members:
            try:
                async with asyncio.timeout(self._stall_s_max):
                    await member.waiting.wait()
            except TimeoutError:
                self._stalled.append(member.name)
                member.writer.close()
                self._forget(member)

    async def _step(self) -> None:
        waits = [m.until_s for m in self._members.values() if m.until_s is not None]
        limits = [*waits, *self._admit_s.values()]
        if self._end_s is not None:
            limits.append(self._end_s)
        before_s, began_s = self.now_s, wall_s()
        self.now_s = max(self.now_s, min(limits))
        self._steps += 1
        if self._progress is not None:
            self._progress(self.now_s)
        for phase in sorted({m.phase for m in self._members.values()}):
            due = [m for m in self._members.values() if m.phase == phase and self._is_due(m)]
            for member in sorted(due, key=lambda m: m.name):
                self._wake(member)
                await self._settled([member])
        if self._rate_max is not None:
            spare_s = (self.now_s - before_s) / self._rate_max - (wall_s() - began_s)
            await wall_sleep(max(0.0, spare_s))

    def _is_due(self, member: _Member) -> bool:
        if member.until_s is None:
            return False
        return member.follow or member.until_s <= self.now_s + EPSILON_S

    def _wake(self, member: _Member) -> None:
        member.until_s = None
        member.waiting.clear()
        member.wakes += 1
        member.send({"wake": self.now_s, "n": member.wakes})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        member: _Member | None = None
        try:
            hello = json.loads(await reader.readline())
            name = str(hello["hello"])
            await self._admission(name)
            member = _Member(
                name=name, phase=int(hello["phase"]), follow=bool(hello.get("follow")), writer=writer
            )
            old = self._members.get(name)
            if old is not None:
                self._forget(old)
            self._members[name] = member
            member.send({"start": self.start.isoformat(), "now_s": self.now_s})
            self._changed.set()
            while line := await reader.readline():
                message = json.loads(line)
                if int(message["n"]) == member.wakes:
                    member.until_s = float(message["wait"])
                    member.waiting.set()
        except (ConnectionError, ValueError, KeyError, TypeError):
            pass  # a participant that breaks off, or does not speak this protocol, is dropped below
        finally:
            if member is not None and not member.gone:
                self._dropped.append(member.name)
                self._forget(member)
            writer.close()

    async def _admission(self, name: str) -> None:
        """Hold a participant that is expected at a later plant time until then."""
        while self._admit_s.get(name, self.now_s) > self.now_s + EPSILON_S and self._stop_reason is None:
            await wall_sleep(0.002)
        self._admit_s.pop(name, None)

    def _forget(self, member: _Member) -> None:
        member.gone = True
        member.waiting.set()
        if self._members.get(member.name) is member:
            del self._members[member.name]
        self._changed.set()

    async def _close(self) -> None:
        reason = self._stop_reason if self._stop_reason is not None else "keeper failed"
        self._stop_reason = reason
        for member in list(self._members.values()):
            member.gone = True
            with contextlib.suppress(ConnectionError):
                member.send({"stop": reason})
                await member.writer.drain()
            member.writer.close()
        self._members.clear()
        if self._server is not None:
            self._server.close()


class LockstepClock:
    """`ems.clock.Clock` of one process in lock-step time.

    A process may wait in several tasks at once; the keeper hears of the earliest wait when as many tasks
    wait again as the last wake-up released. Other tasks of the process must not outlive that moment with work
    that the next phase relies on: `before_wait` is the place to flush it.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        before_wait: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.before_wait = before_wait
        self._reader, self._writer = reader, writer
        self._start = datetime.fromtimestamp(0, UTC)
        self._now_s = 0.0
        self._awake, self._wakes = 1, 0
        self._sleepers: list[tuple[float, bool, asyncio.Future[None]]] = []
        self._stop_reason: str | None = None
        self._listener: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        port: int,
        name: str,
        phase: int,
        *,
        follow: bool = False,
        before_wait: Callable[[], Awaitable[None]] | None = None,
    ) -> "LockstepClock":
        """Register with the keeper on this loopback port and take over its present time.

        Raises
        ------
        ClockStoppedError : the keeper has ended.
        ConnectionError : nobody listens there.
        """
        reader, writer = await asyncio.open_connection(HOST, port)
        clock = cls(reader, writer, before_wait=before_wait)
        clock._send({"hello": name, "phase": phase, "follow": follow})
        line = await reader.readline()
        welcome = json.loads(line) if line else {"stop": "keeper closed the connection"}
        if "stop" in welcome:
            writer.close()
            raise ClockStoppedError(str(welcome["stop"]))
        clock._start = datetime.fromisoformat(welcome["start"])
        clock._now_s = float(welcome["now_s"])
        clock._listener = asyncio.create_task(clock._listen(), name=f"lockstep {name}")
        return clock

    @property
    def stopped(self) -> bool:
        """Whether plant time has ended."""
        return self._stop_reason is not None

    def now(self) -> datetime:
        """Plant time as of the last wake-up."""
        return self._start + timedelta(seconds=self._now_s)

    def monotonic_s(self) -> float:
        """Seconds of plant time since the keeper's start [s]."""
        return self._now_s

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait in plant time.

        Raises
        ------
        ClockStoppedError : plant time has ended.
        """
        if monotonic_s > self._now_s + EPSILON_S or self.stopped:
            await self._sleep(monotonic_s, follow=False)

    async def turn(self) -> None:
        """Wait for our turn at the present time: at the start it must not matter which process was first.

        Raises
        ------
        ClockStoppedError : plant time has ended.
        """
        await self._sleep(self._now_s, follow=False)

    async def follow(self, monotonic_s: float) -> float:
        """Wait until time moves at all, at the latest until `monotonic_s`; gives the new time [s].

        Only for a participant that registered with `follow` (the plant).
        """
        await self._sleep(monotonic_s, follow=True)
        return self._now_s

    async def close(self) -> None:
        """Leave; time goes on without this process."""
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _sleep(self, until_s: float, *, follow: bool) -> None:
        if self._stop_reason is not None:
            raise ClockStoppedError(self._stop_reason)
        sleeper = (until_s, follow, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        self._awake -= 1
        try:
            if self._awake <= 0:
                if self.before_wait is not None:
                    await self.before_wait()
                self._send_wait()
            await sleeper[2]
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    async def _listen(self) -> None:
        reason = "keeper is gone"
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await self._reader.readline():
                message = json.loads(line)
                if "stop" in message:
                    reason = str(message["stop"])
                    break
                self._wakes = int(message["n"])
                self._release(float(message["wake"]))
        self._stop_reason = reason
        for _, _, future in self._sleepers:
            if not future.done():
                future.set_exception(ClockStoppedError(reason))

    def _release(self, now_s: float) -> None:
        self._now_s = now_s
        due = [s for s in self._sleepers if s[1] or s[0] <= now_s + EPSILON_S]
        self._awake = max(1, len(due))
        for sleeper in due:
            self._sleepers.remove(sleeper)
            if not sleeper[2].done():
                sleeper[2].set_result(None)
        if not due and self._sleepers:  # whom it was meant for has been cancelled meanwhile
            self._send_wait()

    def _send_wait(self) -> None:
        if self._sleepers:
            self._send({"wait": min(s[0] for s in self._sleepers), "n": self._wakes})

    def _send(self, message: JSON) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")
