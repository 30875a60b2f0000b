"""Record time from a wall clock that may be wrong: kept over by the monotonic clock, never twice the same.

Control never asks what time it is. Records, tariffs and plans do; a wall clock that jumps must neither double
a record's key nor have a plan followed at the wrong hour.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ems.condition import PlantCondition
from ems.frozen import replace
from ems.telemetry import UNKNOWN, Doubt, UtcState

STEP_S = 1.0  # a wall clock that moves more against the monotonic one from cycle to cycle was set
EARLIEST, LATEST = datetime(2025, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)  # else it was never set
AGREED_S = 10.0  # a new time that its source calls synchronised is believed after so long
UNCALLED_S = 600.0  # and one that nobody vouches for after so long
HOLDOVER_S = 4.0 * 3600.0  # an oscillator of 50 ppm is less than a second off by then
NEAR = timedelta(days=1)  # a clock that was right may be so far off: set by hand, or to local time
AWAY = timedelta(days=7)  # a machine without a clock of its own may have been without power for so long
APART = timedelta(milliseconds=1)  # of two records at least: the historian's keys are whole milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class UtcMemory:
    """What is known of the wall clock. Offsets are wall less monotonic time [s]."""

    trusted_s: float | None = None
    seen_s: float = 0.0
    steady_since_s: float = 0.0  # edge monotonic
    lost_since_s: float | None = None  # not synchronised since
    believed: bool = False  # the trusted offset gives valid times
    last_at: datetime | None = None  # given out
    last_s: float = -math.inf  # edge monotonic, when it was
    relied_at: datetime | None = None  # given out when it could last be relied on; None: never
    relied: bool = False  # in this run


def going_on_from(known: PlantCondition | None) -> UtcMemory:
    """What is known of time at a start of the edge; `known`: the last condition of the run before."""
    if known is None:
        return UtcMemory()
    return UtcMemory(relied_at=known.relied_at if known.calendar is None else known.calendar)


def record_time(
    memory: UtcMemory,
    wall: datetime,
    now_s: float,
    synchronised: bool | None,
    earliest: datetime = EARLIEST,
) -> tuple[UtcMemory, datetime, UtcState]:
    """Record time of this cycle, and how far it may be relied on.

    Parameters
    ----------
    wall : what the wall clock says.
    now_s : edge monotonic [s].
    synchronised : what the source of time says of itself; None: nobody says anything.
    earliest : a wall clock before it was never set.
    """
    offset_s, plausible = wall.timestamp() - now_s, earliest <= wall < LATEST
    steady_s = memory.steady_since_s
    if memory.trusted_s is None or abs(offset_s - memory.seen_s) > STEP_S:
        steady_s = now_s
    lost_s = (
        None if synchronised is not False else now_s if memory.lost_since_s is None else memory.lost_since_s
    )
    memory = replace(memory, seen_s=offset_s, steady_since_s=steady_s, lost_since_s=lost_s)
    if memory.trusted_s is None:
        memory = replace(memory, trusted_s=offset_s, believed=plausible and synchronised is not False)
    stepped = memory.trusted_s is not None and abs(offset_s - memory.trusted_s) > STEP_S
    if not stepped:  # drift and slewing are followed
        believed = memory.believed or (plausible and synchronised is True)
        memory = replace(memory, trusted_s=offset_s, believed=believed)
    elif plausible and now_s - steady_s >= _patience_s(memory, synchronised):
        memory, stepped = replace(memory, trusted_s=offset_s, believed=True), False
    memory, at, waits = _kept_over(memory, wall, offset_s, now_s)
    state = _state(memory, stepped or waits, now_s)
    if state is not UtcState.INVALID:
        memory = replace(memory, relied_at=at, relied=True)
    return memory, at, state


def doubt_of(memory: UtcMemory, wall: datetime, at: datetime, earliest: datetime = EARLIEST) -> Doubt:
    """Between which times it is, where record time cannot be relied on.

    Record time that could be relied on in this run has been kept over since: it is that time or the wall
    clock's, give or take a day. Else it is later than the last one that could, in an earlier run, and no
    more than a week later than that and the wall clock. Without an earlier run nobody knows.

    Parameters
    ----------
    at : record time as given out.
    earliest : a wall clock before it was never set, and says nothing.
    """
    told = [wall] if earliest <= wall < LATEST else []
    if memory.relied:
        return Doubt(earliest=min([at, *told]) - NEAR, latest=max([at, *told]) + NEAR)
    if memory.relied_at is None:
        return UNKNOWN
    return Doubt(earliest=memory.relied_at - NEAR, latest=max([memory.relied_at, *told]) + AWAY)


def _patience_s(memory: UtcMemory, synchronised: bool | None) -> float:
    if synchronised is False:
        return math.inf
    return AGREED_S if synchronised or not memory.believed else UNCALLED_S


def _kept_over(
    memory: UtcMemory, wall: datetime, offset_s: float, now_s: float
) -> tuple[UtcMemory, datetime, bool]:
    """Record time by the trusted offset, later than the one before: set back, it waits nearly still.

    While the wall clock is trusted its time is given out as it is, to the microsecond. Last: whether it
    waits, and so is wrong.
    """
    assert memory.trusted_s is not None
    at = true = wall + timedelta(milliseconds=round((memory.trusted_s - offset_s) * 1000.0))
    if memory.last_at is not None and at < memory.last_at + APART and now_s > memory.last_s:
        at = memory.last_at + APART
    return replace(memory, last_at=at, last_s=now_s), at, (at - true).total_seconds() > STEP_S


def _state(memory: UtcMemory, wrong: bool, now_s: float) -> UtcState:
    lost_s = 0.0 if memory.lost_since_s is None else now_s - memory.lost_since_s
    if wrong or not memory.believed or lost_s > HOLDOVER_S:
        return UtcState.INVALID
    return UtcState.VALID if memory.lost_since_s is None else UtcState.HOLDOVER
