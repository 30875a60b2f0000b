"""Sending what was decided: the last line, the intent, the write and its outcome, command by command.

Devices that wait for their turn on a wire ask the last line again when it has come (`dispatch.writing.turn`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from dispatch.layout import Layout
from dispatch.state import NEVER_S, EdgeState, Written
from dispatch.writing.last_line import NOTHING_NEW, Line, Newest, last_line, line_now
from dispatch.writing.outcomes import after_write
from dispatch.writing.turn import Turn
from ems.clock import Clock
from ems.commands import Bound, Cause, Command, Refusal, WriteOutcome, WriteResult
from ems.frozen import replace
from ems.ports import DeviceIO, Recorder, TurnIO
from ems.site import GridMode
from ems.telemetry import Reading, Snapshot

Arrived = Callable[[Sequence[Reading]], Snapshot]
Draw = Callable[[Layout, EdgeState, Snapshot, GridMode, Mapping[str, Sequence[Bound]]], Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a decision was made on: what was written before it, the grid mode, the protections' bounds."""

    before: Mapping[str, Written]
    mode: GridMode
    bounds: Mapping[str, Sequence[Bound]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What every point stands at after the writes, and what raised on the way."""

    written: Mapping[str, Written]
    unconfirmed: tuple[str, ...] = ()  # points that were written to and did not say so
    broken: tuple[Exception, ...] = ()


class Sender:
    """Sends the commands of a tick, each once; those of one device in order, the devices side by side.

    Parameters
    ----------
    newest : what has arrived since the last cycle, asked for just before each write; None: nothing arrives
        between two cycles.
    line : draws the line that commands are held against.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        clock: Clock,
        io: DeviceIO,
        recorder: Recorder,
        newest: Callable[[], Newest] | None,
        line: Draw = line_now,
    ) -> None:
        self._layout = layout
        self._clock = clock
        self._io = io
        self._recorder = recorder
        self._newest = newest
        self._line: Line | None = None
        self._draw = line

    async def send(
        self,
        commands: Sequence[Command],
        decided: Decided,
        state: Callable[[], EdgeState],
        arrived: Arrived,
    ) -> Sent:
        """What is written to each point from now on; what is not confirmed is written again soon.

        Nothing that raises on the way of one command keeps the others from being sent.

        Parameters
        ----------
        state : of the edge at this moment; it may be held safe while commands are on their way.
        arrived : takes in what has arrived meanwhile, and latches.
        """
        sent: dict[str, Written | None] = {}
        broken: list[Exception] = []
        self._line = None

        async def one_by_one(queue: Sequence[Command]) -> None:
            for command in queue:
                before = decided.before.get(command.point)
                try:
                    passed, before = self._passed(command, decided, state(), arrived, broken)

                    def again(command: Command) -> Command | Refusal:
                        return self._passed(command, decided, state(), arrived, broken)[0]

                    sent[command.point] = await self._send_one(passed, before, again, broken)
                except Exception as what:  # noqa: BLE001  raised again when every device has its commands
                    broken.append(what)
                    sent[command.point] = after_write(command, WriteOutcome.UNKNOWN, before)

        queues: dict[str, list[Command]] = {}
        for command in commands:
            queues.setdefault(self._layout.device(command.point), []).append(command)
        if has_loop():
            await asyncio.gather(*map(one_by_one, queues.values()))
        else:
            await one_by_one(commands)
        written = {p: w for p, w in state().written.items() if p not in sent}
        written |= {p: w for p, w in sent.items() if w is not None}
        left = tuple(p for p, w in sent.items() if w is not None and w.wanted is not None)
        return Sent(written=written, unconfirmed=left, broken=tuple(broken))

    def _passed(
        self, command: Command, decided: Decided, state: EdgeState, arrived: Arrived, broken: list[Exception]
    ) -> tuple[Command | Refusal, Written | None]:
        """(what the last line makes of a command, what its setpoint stood at).

        Where the line itself cannot be drawn, the safe table passes as it was decided, and nothing else does.
        """
        try:
            line = self._line_now(decided, state, arrived)
            last = line.stood(command.point, decided.before)
            return last_line(line, command, last), last
        except Exception as what:
            if not _safe(command):
                raise
            broken.append(what)
            return command, decided.before.get(command.point)

    async def _send_one(
        self,
        passed: Command | Refusal,
        last: Written | None,
        again: Callable[[Command], Command | Refusal],
        broken: list[Exception],
    ) -> Written | None:
        """Intent, write, outcome: what is written to the point from now on.

        Where devices wait for their turn, `again` is asked then, and the intent follows it.
        """
        if isinstance(passed, Refusal):
            return self._refused(passed, last)
        if not isinstance(self._io, TurnIO):
            self._note(lambda: self._recorder.intent(passed), passed, broken)
            return self._sent(
                passed, await self._written(self._io.write([passed]), passed, broken), last, broken
            )
        turn = Turn(
            lambda: again(passed),
            lambda now: self._note(lambda: self._recorder.intent(now), now, broken),
        )
        try:
            result = await self._written(self._io.write_in_turn([passed], turn.last_word), passed, broken)
        finally:
            turn.end()
        if turn.raised is not None:
            raise turn.raised
        if isinstance(turn.said, Refusal):
            return self._refused(turn.said, last)
        if turn.said is None:  # its turn has not come, and none comes any more
            self._note(lambda: self._recorder.intent(passed), passed, broken)
        return self._sent(passed if turn.said is None else turn.said, result, last, broken)

    async def _written(
        self, writing: Awaitable[Sequence[WriteResult]], command: Command, broken: list[Exception]
    ) -> WriteResult:
        """What became of a write; unknown where it raised."""
        try:
            (result,) = await writing
        except Exception as what:  # noqa: BLE001  raised again when every device has its commands
            broken.append(what)
            detail = f"{type(what).__name__}: {what}"
            return WriteResult(
                command=command, outcome=WriteOutcome.UNKNOWN, detail=detail, finished_at=self._clock.now()
            )
        return result

    def _refused(self, refusal: Refusal, last: Written | None) -> Written | None:
        self._recorder.refusal(refusal)
        return None if last is None or last.at_s <= NEVER_S else replace(last, known=False)

    def _sent(
        self, command: Command, result: WriteResult, last: Written | None, broken: list[Exception]
    ) -> Written:
        """Record the outcome of a command, as it was sent."""
        told = replace(result, command=command)
        self._note(lambda: self._recorder.outcome(told), command, broken)
        return after_write(command, told.outcome, last)

    def _note(self, record: Callable[[], None], command: Command, broken: list[Exception]) -> None:
        """Record; a recorder that raises keeps the safe table from nobody."""
        try:
            record()
        except Exception as what:
            if not _safe(command):
                raise
            broken.append(what)

    def _line_now(self, decided: Decided, state: EdgeState, arrived: Arrived) -> Line:
        """The line as it is at this moment; drawn again only where something has arrived or grown old."""
        newest = NOTHING_NEW if self._newest is None else self._newest()
        now_s, known = self._clock.monotonic_s(), self._line
        if known is None or not known.holds(newest, state, now_s):
            snapshot = arrived(newest.readings)
            known = self._draw(self._layout, state, snapshot, decided.mode, decided.bounds)
            self._line = known
        return known


def _safe(command: Command) -> bool:
    """What makes the plant safe is sent whatever else breaks."""
    return command.cause in (Cause.SAFE_TABLE, Cause.EMERGENCY_STOP)


def has_loop() -> bool:
    """A virtual run has no event loop: there one command is sent after the other."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
