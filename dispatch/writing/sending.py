"""Sending what was decided: the last line, the intent, the write and its outcome, command by command."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dispatch.layout import Layout
from dispatch.state import EdgeState, Written
from dispatch.writing.last_line import NOTHING_NEW, Line, Newest, last_line, line_now
from ems.clock import Clock
from ems.commands import Bound, Command, Refusal, WriteOutcome
from ems.ports import DeviceIO, Recorder
from ems.site import GridMode
from ems.telemetry import Reading, Snapshot

Arrived = Callable[[Sequence[Reading]], Snapshot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a decision was made on: what was written before it, the grid mode, the protections' bounds."""

    before: Mapping[str, Written]
    mode: GridMode
    bounds: Mapping[str, Sequence[Bound]]


class Sender:
    """Sends the commands of a tick, each once; those of one device in order, the devices side by side.

    Parameters
    ----------
    newest : what has arrived since the last cycle, asked for just before each write; None: nothing arrives
        between two cycles.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        clock: Clock,
        io: DeviceIO,
        recorder: Recorder,
        newest: Callable[[], Newest] | None,
    ) -> None:
        self._layout = layout
        self._clock = clock
        self._io = io
        self._recorder = recorder
        self._newest = newest
        self._line: Line | None = None

    async def send(
        self,
        commands: Sequence[Command],
        decided: Decided,
        state: Callable[[], EdgeState],
        arrived: Arrived,
    ) -> Mapping[str, Written]:
        """What is written to each point from now on; what is not confirmed is written again soon.

        Parameters
        ----------
        state : of the edge at this moment; it may be held safe while commands are on their way.
        arrived : takes in what has arrived meanwhile, and latches.
        """
        sent: dict[str, Written | None] = {}
        self._line = None

        async def one_by_one(queue: Sequence[Command]) -> None:
            for command in queue:
                sent[command.point] = await self._send_one(command, decided, state, arrived)

        if _has_loop():
            queues: dict[str, list[Command]] = {}
            for command in commands:
                queues.setdefault(self._layout.device(command.point), []).append(command)
            done = await asyncio.gather(*map(one_by_one, queues.values()), return_exceptions=True)
            for broken in done:
                if broken is not None:
                    raise broken
        else:
            await one_by_one(commands)
        written = {p: w for p, w in state().written.items() if p not in sent}
        return written | {p: w for p, w in sent.items() if w is not None}

    async def _send_one(
        self, command: Command, decided: Decided, state: Callable[[], EdgeState], arrived: Arrived
    ) -> Written | None:
        """Last line, intent, write, outcome: what is written to the point from now on."""
        last = decided.before.get(command.point)
        passed = last_line(self._line_now(decided, state(), arrived), command, last)
        if isinstance(passed, Refusal):
            self._recorder.refusal(passed)
            return None if last is None else replace(last, known=False)
        self._recorder.intent(passed)
        (result,) = await self._io.write([passed])
        self._recorder.outcome(result)
        confirmed = result.outcome is WriteOutcome.CONFIRMED
        return Written(value=passed.value, at_s=passed.decided_s, known=confirmed)

    def _line_now(self, decided: Decided, state: EdgeState, arrived: Arrived) -> Line:
        """The line as it is at this moment; drawn again only where something has arrived or grown old."""
        newest = NOTHING_NEW if self._newest is None else self._newest()
        now_s, known = self._clock.monotonic_s(), self._line
        if known is None or not known.holds(newest, state, now_s):
            snapshot = arrived(newest.readings)
            known = line_now(self._layout, state, snapshot, decided.mode, decided.bounds)
            self._line = known
        return known


def _has_loop() -> bool:
    """A virtual run has no event loop: there one command is sent after the other."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
