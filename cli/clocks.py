"""Which time a process lives in: the machine's, or plant time in lock-step."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from cli.process_config import ProcessConfig
from ems.clock import Clock, SystemClock, wall_sleep
from ems.ports import HistoryReader
from sim.clock import LockstepClock

PLANT_PHASE, EDGE_PHASE, PLANNER_PHASE = 0, 1, 2
_TRIES = 50


async def open_clock(
    config: ProcessConfig, name: str, phase: int, before_wait: Callable[[], Awaitable[None]] | None = None
) -> Clock:
    """The clock of a process; in lock-step it is our turn for the first time when this returns.

    Raises
    ------
    ConnectionError : the keeper cannot be reached.
    ClockStoppedError : plant time has ended already.
    """
    if config.keeper_port is None:
        return SystemClock()
    follow = phase == PLANT_PHASE
    for _ in range(_TRIES):
        try:
            clock = await LockstepClock.connect(
                config.keeper_port, name, phase, follow=follow, before_wait=before_wait
            )
        except ConnectionRefusedError:
            await wall_sleep(0.1)
            continue
        if not follow:
            await clock.turn()
        return clock
    raise ConnectionError(f"no time keeper answers on port {config.keeper_port}")


class StatusClock:
    """Plant time as the edge last reported it, for a reader that must not take part in lock-step."""

    def __init__(self, reader: HistoryReader) -> None:
        self._reader = reader

    def now(self) -> datetime:
        """Time of the edge's newest status row; the epoch before there is one."""
        row = self._reader.statuses().get("edge")
        return datetime.fromtimestamp(0, UTC) if row is None else row.at

    def monotonic_s(self) -> float:
        """Seconds since the epoch in plant time [s]."""
        return self.now().timestamp()

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until the edge has reported that time."""
        while self.monotonic_s() < monotonic_s:
            await wall_sleep(0.2)
