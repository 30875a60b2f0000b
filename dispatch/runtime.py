"""The asynchronous shell around the tick: read, latch, decide, record, write, record. `pacing` says when."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from dispatch.alarms.memory import remembered as alarms_known
from dispatch.authority.ruling import standing_of
from dispatch.authority.stage import restored
from dispatch.cycle import EdgeSetup, safe_commands
from dispatch.observing.process_image import ProcessImage
from dispatch.observing.utc import EARLIEST, doubt_of, going_on_from, record_time
from dispatch.pacing import Pace
from dispatch.restart import control_known, remembered, requests_known
from dispatch.state import EdgeState, Written
from dispatch.supervision.invariants_now import Cycle, InvariantsNow
from dispatch.supervision.mind import CORE, Mind
from dispatch.supervision.safe_stop import (
    SAFE_RETRY_S,
    SAFE_TRIES,
    bare_safe_commands,
    bare_snapshot,
    tried,
)
from dispatch.supervision.watched import WatchedRecorder, watched_io
from dispatch.vocabulary import Alarm, Controller, Decisions, TickInput
from dispatch.writing.last_line import Newest
from dispatch.writing.sending import Decided, Sender, Sent, has_loop
from ems.alarms import AlarmAction, AlarmBook
from ems.clock import Clock, wall_sleep
from ems.commands import Bound, Command, Proposal
from ems.condition import PlantCondition
from ems.frozen import replace
from ems.outage import OutageNotice
from ems.ports import DeviceIO, PlanSource, Recorder
from ems.prices import DayPrices
from ems.records import JsonValue
from ems.release import ReleaseWish
from ems.requests import Received, Standing
from ems.site import GridMode, Site
from ems.telemetry import UNKNOWN, Reading, Snapshot, UtcState

T = TypeVar("T")
ALARMS_EVERY_S = 15.0  # texts and values of standing alarms are recorded so often


class EdgeRuntime:
    """The edge of one site, built alike by the service and by the simulator.

    Parameters
    ----------
    epoch : number of this start of the edge, growing with every restart.
    notices : every announced outage known to the caller; each counts from its `issued_at`. None: the site's.
        May be a callable when notices arrive while the edge runs. The POI breaker is opened ahead of these.
    announced : further outages, told by inputs: rules keep a reserve for them, no breaker listens to them.
        Asked in each cycle and answered at once; without valid time, what it said before counts.
    planner_alive : told by whoever supervises the planner; only changes the label of what is followed.
    known : the last condition in the historian: the demand meters go on from it in the same local month,
        what gensets and batteries have been through always.
    held_safe : come up held safe, as after a broken invariant.
    synchronised : what the source of UTC says of itself; None: nobody says anything.
    expecting : told when the next tick is due [s edge monotonic], so that devices are read just before it;
        infinity: there is none, and the writes that follow have all the time they need.
    known_alarms : the alarms of the edge before: acknowledgements and shelves outlive a restart.
    standing : what authority kept from before: modes, limits, held safe; never comes up looser.
    keep : told what must outlive a restart, in each cycle before its writes; must not wait for a disk.
    newest : what has arrived since the last cycle, asked for just before each write; None: nothing arrives
        between two cycles.
    strangers : connections whose device is not the one that may be written to, and why.
    beside : alarms of what lies beside the cycle, such as files that cannot be written.
    mind : what decides; a rig hands in one that remembers.
    earliest : a clock before it was never set; a simulated one may tell any year.
    prices : those of the local day as known at a time, for rules; answered at once; None: the tariff's.
    """

    def __init__(  # noqa: PLR0913  the composition root wires every port once
        self,
        site: Site,
        *,
        clock: Clock,
        device_io: DeviceIO,
        plans: PlanSource,
        recorder: Recorder,
        controller: Controller,
        shadow: bool,
        epoch: int,
        notices: Sequence[OutageNotice] | Callable[[], Sequence[OutageNotice]] | None = None,
        planner_alive: Callable[[], bool] | None = None,
        known: PlantCondition | None = None,
        held_safe: bool = False,
        expecting: Callable[[float], None] = lambda at_s: None,
        known_alarms: AlarmBook | None = None,
        standing: Standing | None = None,
        synchronised: Callable[[], bool | None] = lambda: None,
        newest: Callable[[], Newest] | None = None,
        keep: Callable[[Standing], None] = lambda standing: None,
        strangers: Callable[[], Mapping[str, str]] = dict,
        beside: Callable[[], Sequence[Alarm]] = tuple,
        mind: Mind = CORE,
        earliest: datetime = EARLIEST,
        prices: Callable[[datetime], DayPrices | None] = lambda now: None,
        announced: Callable[[], Sequence[OutageNotice]] = tuple,
    ) -> None:
        self.setup = EdgeSetup(site=site, controller=controller, shadow=shadow)
        now, now_s = clock.now(), clock.monotonic_s()
        self.state = EdgeState(
            epoch=epoch,
            held_safe=held_safe or (standing is not None and standing.held_safe),
            observer=remembered(self.setup.layout, known, now, now_s),
            control=control_known(self.setup.layout, known, now),
            requests=requests_known(known, now, now_s),
            alarms=alarms_known(known_alarms, now, now_s),
            authority=restored(site.control, standing, now_s),
        )
        self.release: ReleaseWish | None = None  # a person's standing wish, authenticated
        self.alarm_actions: list[AlarmAction] = []  # what people asked since the last cycle, authenticated
        self.received: list[Received] = []  # what people and services asked since then, authenticated
        self._keep, self._alarms_s = keep, -math.inf  # when the alarms were recorded last
        self.last: Decisions | None = None
        self._clock, self._io = clock, device_io
        self._plans, self._recorder = plans, recorder
        self._notices = site.outages if notices is None else notices
        self._planner_alive, self._prices = planner_alive, prices
        self.pace, layout = Pace(due_s=clock.monotonic_s()), self.setup.layout
        self._image = ProcessImage.of(layout)
        self.invariants = InvariantsNow(layout, shadow=shadow)
        watched = watched_io(device_io, layout, self.invariants)
        record = WatchedRecorder(recorder, self.invariants)
        self._sender = Sender(layout, clock=clock, io=watched, recorder=record, newest=newest, line=mind.line)
        self._expecting, self._strangers, self._beside = expecting, strangers, beside
        self.untouched: frozenset[str] = frozenset()  # assets that nobody has agreed to being written
        self._stopped, self._mind, self.synchronised = False, mind, synchronised
        self._utc, self._utc_state, self._earliest = going_on_from(known), UtcState.VALID, earliest
        self._doubt, self._announced, self._told = UNKNOWN, announced, tuple[OutageNotice, ...]()
        self._seen: Snapshot | None = None  # by this cycle, as it was latched

    async def cycle(
        self,
        dt_s: float,
        proposals: Sequence[Proposal] = (),
        *,
        received: Sequence[Received] = (),
        overrun: bool = False,
    ) -> Decisions:
        """Read, latch, tick, record, write: one cycle whose decisions will stand for `dt_s` [s].

        `received` are requests of people and services; `overrun` says that the grid of cycles was not kept
        before this one.

        Raises
        ------
        Exception : whatever the tick raised, after the safe table was written and the edge latched held safe.
        """
        try:
            return await self._cycle(dt_s, proposals, received, overrun)
        except Exception as broken:
            what = {"what": f"{type(broken).__name__}: {broken}"}
            tried(lambda: self._recorder.event(self._clock.now(), "edge.invariant.broken", what), [])
            standing = standing_of(self.state.authority, held_safe=True)
            tried(lambda: self._keep(standing), [])  # also over a restart
            await self.safe_stop(f"broken invariant: {broken}")
            raise

    async def _cycle(
        self, dt_s: float, proposals: Sequence[Proposal], received: Sequence[Received], overrun: bool
    ) -> Decisions:
        self._image.update(await self._io.read_all())
        latched = self._latched()
        snapshot = self.invariants.admitted(latched)
        self._seen = snapshot if snapshot is latched else None
        self._recorder.readings(snapshot)
        notices = self._notices() if callable(self._notices) else self._notices
        given = TickInput(
            snapshot=snapshot,
            plan=self._plans.current(),
            outages=tuple(notices),
            announced=self._told_outages(snapshot),
            dt_s=dt_s,
            planner_alive=True if self._planner_alive is None else self._planner_alive(),
            proposals=tuple(proposals),
            overrun=overrun,
            alarm_actions=tuple(self.alarm_actions),
            release=self.release,
            received=(*self.received, *received),
            found=(*self.invariants.alarms(), *self._beside()),
            strangers=self._strangers(),
            untouched=self.untouched,
            prices=self._prices(snapshot.at),
        )
        self.alarm_actions.clear()
        self.received.clear()
        before = self.state
        after, decisions = self._mind.decide(self.setup, before, given)
        self.invariants.decided(
            Cycle(snapshot=snapshot, before=before, after=after, decisions=decisions, dt_s=dt_s)
        )
        self.state, self.last = after, decisions
        if decisions.standing is not None:
            self._keep(decisions.standing)
        self._record(decisions)
        sent = await self._send(decisions.commands, after.stood, decisions.mode, decisions.bounds)
        if sent.broken:
            raise sent.broken[0]
        self.invariants.sent()
        return decisions

    def _latched(self) -> Snapshot:
        """The process image now, with record time that is kept over and never twice the same."""
        now_s, known = self._clock.monotonic_s(), self.synchronised()
        self._utc, at, utc = record_time(self._utc, self._clock.now(), now_s, known, self._earliest)
        if utc is not self._utc_state:
            fields = {"before": self._utc_state.value, "now": utc.value, "synchronised": known}
            self._recorder.event(at, "utc.state.changed", fields)
            self._utc_state = utc
        self._doubt = UNKNOWN
        if utc is UtcState.INVALID:
            self._doubt = doubt_of(self._utc, self._clock.now(), at, self._earliest)
        return self._image.latch(at, now_s, utc, self._doubt, self._utc.relied_at)

    def _told_outages(self, snapshot: Snapshot) -> tuple[OutageNotice, ...]:
        """Outages told by inputs; while nobody knows what time it is, those that were told before."""
        if snapshot.calendar is not None or not self._told:
            self._told = tuple(self._announced())
        return self._told

    async def safe_stop(self, reason: str = "the edge is stopping") -> None:
        """Write the safe table of the present grid mode through the gate, once, and latch held safe.

        Whatever raises on the way: then the table of what the last cycle knew is written. What a device does
        not confirm is written to it again, `SAFE_TRIES` times in all.
        """
        if self._stopped:
            return
        broken: list[Exception] = []
        tried(lambda: self._expecting(math.inf), broken)
        snapshot = tried(self._latched, broken)
        if snapshot is None:
            snapshot = bare_snapshot(self.last, self._clock.now(), self._clock.monotonic_s())
        seen, before = snapshot, self.state.written
        decided = tried(lambda: safe_commands(self.setup, self.state, seen, reason), broken)
        if decided is None:
            layout = self.setup.layout
            commands = bare_safe_commands(layout, self.state, self.last, snapshot, reason)
            self.state = replace(self.state, held_safe=True, seq=self.state.seq + len(commands))
            commands = () if self.setup.shadow else commands
        else:
            self.state, commands = decided
        fields: dict[str, JsonValue] = {"reason": reason, "commands": len(commands)}
        tried(lambda: self._recorder.event(seen.at, "edge.safe_table.written", fields), broken)
        left = await self._until_safe(commands, before, broken)
        self._stopped = True
        if left or broken:
            failed: dict[str, JsonValue] = {
                "unconfirmed": [c.point for c in left],
                "raised": [f"{type(b).__name__}: {b}" for b in broken],
            }
            tried(lambda: self._recorder.event(seen.at, "edge.safe_table.incomplete", failed), broken)

    async def _until_safe(
        self, commands: Sequence[Command], before: Mapping[str, Written], broken: list[Exception]
    ) -> Sequence[Command]:
        """Send the safe table until every device has confirmed its part; what is left unconfirmed."""
        for again in range(SAFE_TRIES):
            if again > 0:
                if has_loop():
                    await wall_sleep(SAFE_RETRY_S)
                first = self.state.seq + 1
                commands = [replace(c, seq=first + i) for i, c in enumerate(commands)]
                self.state = replace(self.state, seq=self.state.seq + len(commands))
            sent = await self._send(commands, before, self.state.observer.mode, {})
            broken += sent.broken
            commands = [c for c in commands if c.point in sent.unconfirmed]
            if not commands:
                break
        return commands

    async def run(
        self,
        period: Callable[[Decisions | None], float],
        stop: Callable[[], bool],
        told: Callable[[Decisions, float], None] = lambda decisions, dt_s: None,
    ) -> None:
        """Cycle until `stop()`; `period(last decisions)` gives the length of the next cycle [s].

        `told(decisions, length)` is called when a cycle is over and before the wait for the next one.

        The safe table is written on the way out, whatever the reason (stop, cancellation, broken invariant).
        Cycles are due on a grid; one that took too long makes the next one late, and slots that passed
        meanwhile are skipped (`dispatch.pacing`).
        """
        reason = "the edge was asked to stop"
        try:
            self.pace.due_s = self._clock.monotonic_s()
            while not stop():
                began_s, dt_s = self._clock.monotonic_s(), period(self.last)
                overrun = self.pace.begin(began_s, dt_s)
                self._expecting(self.pace.due_s + dt_s)
                told(await _whole(self.cycle(dt_s, overrun=overrun)), dt_s)
                await self._clock.sleep_until(self.pace.end(began_s, self._clock.monotonic_s(), dt_s))
        except BaseException as cause:
            reason = f"the edge was interrupted: {type(cause).__name__}"
            raise
        finally:
            await _whole(self.safe_stop(reason))

    def _record(self, decisions: Decisions) -> None:
        """Condition, refusals and events of a tick; intents follow one by one before their writes."""
        self._recorder.condition(decisions.condition)
        for refusal in decisions.refusals:
            self._recorder.refusal(refusal)
        for event in decisions.events:
            self._recorder.event(decisions.at, event.kind, event.fields)
        self._record_alarms(decisions)

    def _record_alarms(self, decisions: Decisions) -> None:
        """The alarms whenever one of them moves, and their texts and values now and then."""
        now_s = self._clock.monotonic_s()
        moved = any(e.kind.startswith("alarm.") for e in decisions.events)
        stale = bool(decisions.alarm_book.entries) and now_s - self._alarms_s >= ALARMS_EVERY_S
        if moved or stale or self._alarms_s < 0.0:
            self._alarms_s = now_s
            self._recorder.alarms(decisions.alarm_book)

    def _arrived(self, readings: Sequence[Reading]) -> Snapshot:
        """The image with what has arrived between two cycles."""
        now, now_s, seen = self._clock.now(), self._clock.monotonic_s(), self._seen
        asked = (now, now_s, self._utc_state)
        if not readings and seen is not None and (seen.at, seen.monotonic_s, seen.utc) == asked:
            return seen  # on a virtual clock no time has passed since the cycle latched
        self._seen = None
        self._image.update(readings)
        image = self._image.latch(now, now_s, self._utc_state, self._doubt, self._utc.relied_at)
        return self.invariants.admitted(image)

    async def _send(
        self,
        commands: Sequence[Command],
        before: Mapping[str, Written],
        mode: GridMode,
        bounds: Mapping[str, Sequence[Bound]],
    ) -> Sent:
        """Send what was decided, and remember what became of it."""
        if not commands:
            return Sent(written=self.state.written)
        decided = Decided(before=before, mode=mode, bounds=bounds)
        sent = await self._sender.send(commands, decided, lambda: self.state, self._arrived)
        self.state = replace(self.state, written=sent.written)
        return sent


async def _whole(work: Coroutine[object, object, T]) -> T:
    """Let work end before cancellations count: a write cut short takes its device's link with it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        task.exception()  # what broke was recorded by the cycle itself
        raise
