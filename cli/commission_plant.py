"""`ems commission SITE`: the plant itself, over the wire, one agreed step at a time."""

import asyncio
import math
import os
import pwd
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cli.commission_record import RecordBook
from connectors.field import FieldIO
from connectors.historian.sqlite import SqliteRecorder
from connectors.map_doubts import doubts, signedness
from connectors.sqlite_file import WriterLock
from dispatch.commissioning.rows import PointRow, Verdict
from dispatch.commissioning.session import Session, Turn
from dispatch.controllers.build import rules_of
from dispatch.runtime import EdgeRuntime
from dispatch.writing.last_line import Newest
from ems.clock import Clock, SystemClock
from ems.commands import WriteOutcome, WriteResult
from ems.control import ControlMode, Role
from ems.errors import EmsError
from ems.plan import Plan
from ems.requests import Ask, Received, Request, Standing
from ems.site import Site
from ems.telemetry import Snapshot

HOME_S = 60.0  # after Ctrl-C a step has so long to go back
TTL_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be commissioned, by whom, and where it is written down.

    Parameters
    ----------
    agreed : setpoints that may be moved, in this order.
    accepted : points that somebody vouches for by hand, with why.
    """

    site: Site
    site_file: Path
    directory: Path
    record_file: Path
    cycle_s: float
    user: str
    agreed: Sequence[str]
    accepted: Mapping[str, str]
    tell: Callable[[PointRow | str], None]


def engineer(site: Site) -> str:
    """Who runs this, as the operating system says.

    Raises
    ------
    EmsError : the site file does not name them an engineer.
    """
    user = pwd.getpwuid(os.getuid()).pw_name
    roles = site.control.users.get(user, frozenset())
    if Role.ENGINEER not in roles:
        found = ", ".join(sorted(r.value for r in roles)) if roles else "no role"
        raise EmsError(f"control.users.{user}: found {found}; allowed: engineer, to commission a plant")
    return user


class _NoPlans:
    """Nobody plans while a plant is commissioned."""

    def current(self) -> Plan | None:
        """None."""
        return None

    def producer_alive(self) -> bool:
        """No."""
        return False


class _Ear(SqliteRecorder):
    """The historian, and what a commissioning needs of it: the newest snapshot, and writes not taken."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path, clock=clock)
        self.snapshot: Snapshot | None = None
        self.not_taken: dict[str, str] = {}

    def readings(self, snapshot: Snapshot) -> None:
        """Store and keep it."""
        self.snapshot = snapshot
        super().readings(snapshot)

    def outcome(self, result: WriteResult) -> None:
        """Store it, and keep what was not confirmed."""
        if result.outcome is not WriteOutcome.CONFIRMED:
            self.not_taken[result.command.point] = f"{result.outcome}: {result.detail}"
        super().outcome(result)


async def commission(task: Task) -> int:
    """Run it; 0: no row failed that is not accepted, 1: one did, 130: stopped by the engineer."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    task.directory.mkdir(parents=True, exist_ok=True)
    clock = SystemClock()
    book = RecordBook(task.record_file, task.site, task.site_file, user=task.user, clock=clock)
    edge = WriterLock(task.directory / "history.sqlite")  # no edge runs there meanwhile
    ear = _Ear(task.directory / "commissioning.sqlite", clock)  # nobody plans with what a test looks like
    io = FieldIO(
        task.site, clock=clock, on_event=ear.event, phased=True, folder=task.site_file.parent.absolute()
    )
    run = _Run(task, book, ear, io, clock)
    try:
        await run.go(stop)
    finally:
        await io.close()
        ear.close()
        edge.release()
    for point, why in task.accepted.items():
        book.accept(point, why)
        run.failed.discard(point)
        task.tell(f"{point}: accepted by hand by {task.user}: {why}")
    if stop.is_set():
        return 130
    return 1 if run.failed else 0


class _Run:
    """The edge of a site in test, and the session that asks it."""

    def __init__(self, task: Task, book: RecordBook, ear: _Ear, io: FieldIO, clock: Clock) -> None:
        self.failed: set[str] = set()
        self._task, self._book, self._ear, self._io, self._clock = task, book, ear, io, clock
        self._runtime = EdgeRuntime(
            task.site,
            clock=clock,
            device_io=io,
            plans=_NoPlans(),
            recorder=ear,
            controller=rules_of(task.site),
            shadow=False,
            epoch=ear.boot,
            standing=Standing(plant=ControlMode.TEST),
            expecting=io.expect_tick,
            newest=lambda: Newest(readings=io.newest()),
            strangers=io.strangers,
        )
        self._session: Session | None = None
        self._asked = 0

    async def go(self, stop: asyncio.Event) -> None:
        """Cycle until everything is judged and every setpoint stands where it stood."""
        self._session = session = Session(self._runtime.setup.layout, self._agreed())
        due_s, deadline_s = self._clock.monotonic_s(), math.inf
        asks: Sequence[Ask] = ()
        try:
            while not session.done and due_s < deadline_s:
                due_s = max(due_s + self._task.cycle_s, self._clock.monotonic_s())
                self._io.expect_tick(due_s)
                await self._clock.sleep_until(due_s)
                asks = (await self._cycle(session, asks)).asks
                if stop.is_set() and deadline_s == math.inf:
                    self._task.tell("stopping: what was moved goes back to where it stood")
                    session.stop("stopped by the engineer")
                    deadline_s = self._clock.monotonic_s() + HOME_S
        finally:
            astray = session.astray if session.done else session.probe is not None
            if astray:
                self._task.tell("a setpoint could not be brought back: its safe value is written")
                await self._runtime.safe_stop("a commissioning step could not be brought back")

    def _agreed(self) -> list[str]:
        """What is left to be probed; what was shown before, at this device and with this map, is not."""
        held = self._book.held()
        for point in self._task.agreed:
            if point in held:
                self._task.tell(f"{point}: shown before, not probed again: {held[point]}")
        return [p for p in self._task.agreed if p not in held]

    async def _cycle(self, session: Session, asks: Sequence[Ask]) -> Turn:
        self._runtime.untouched = session.untouched
        self._ear.not_taken.clear()
        decisions = await self._runtime.cycle(self._task.cycle_s, received=self._requests(asks))
        assert self._ear.snapshot is not None
        self._book.identities(self._io.identities())
        turn = session.step(decisions, self._ear.snapshot, self._ear.not_taken)
        for row in turn.rows:
            self._found(row)
        return turn

    def _requests(self, asks: Sequence[Ask]) -> list[Received]:
        out = []
        for ask in asks:
            self._asked += 1
            request = Request(
                id=f"c{self._asked}",
                session=f"commission {os.getpid()}",
                epoch=self._ear.boot,
                ttl_s=TTL_S,
                reason="commissioning",
                ask=ask,
            )
            now_s = self._clock.monotonic_s()
            out.append(Received(user=self._task.user, n=self._asked, seen_s=now_s, request=request))
        return out

    def _found(self, row: PointRow) -> None:
        """Write a row down, with which mistake in the map would explain it.

        What nothing bears out now, and was shown or taken over before, stands as it was: nothing speaks
        against it.
        """
        row = self._explained(row)
        if row.verdict is Verdict.NOT_SHOWN and row.shown == "nothing":
            held = self._book.held().get(row.point)
            if held is not None:
                self._task.tell(
                    f"{row.point}: shown or taken over before, and nothing speaks against it: {held}"
                )
                return
        self._book.row(row)
        if row.verdict is not Verdict.PASS:
            self.failed.add(row.point)
        self._task.tell(row)

    def _explained(self, row: PointRow) -> PointRow:
        connection = next(
            c for c in self._task.site.connections if any(m.point == row.point for m in c.points)
        )
        if row.verdict is Verdict.PASS:
            why = signedness(connection, row.point)
            return replace(row, verdict=Verdict.FAIL, text=f"{row.text}: {why}") if why else row
        snapshot = self._ear.snapshot
        reading = None if snapshot is None else snapshot.readings.get(row.point)
        if reading is None or reading.value is None:
            why = self._io.why_unread(row.point)
            return replace(row, text=f"{row.text}: {why}") if why else row
        found = doubts(connection, row.point, reading.value)
        return replace(row, text=f"{row.text} ({'; '.join(found)})") if found else row
