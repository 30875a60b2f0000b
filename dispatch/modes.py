"""Which grid mode the bus is in: two of three witnesses (POI breaker, mains voltage, PCS state) decide."""

from dataclasses import dataclass

from ems.site import GridMode

# A mode must be seen so long before it is believed. Losing the grid is believed at once: the plan made for
# the grid must be gone within one cycle. Having it back is believed at once when all three witnesses say so.
CONFIRM_S = {
    GridMode.ISLANDED: 0.0,
    GridMode.BLACK: 0.0,
    GridMode.GRID_TIED: 2.0,
    GridMode.UNKNOWN: 1.5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the witnesses say; None where one has no good reading."""

    breaker_closed: bool | None
    mains_ok: bool | None  # voltage inside the usable band
    bus_alive: bool | None
    forming: bool | None  # a BESS says it forms the bus; None: no BESS answers
    genset_on_load: bool


def unanimous(e: Evidence) -> bool:
    """All witnesses answer and say that the grid carries the bus."""
    return e.breaker_closed is True and e.mains_ok is True and e.bus_alive is True and e.forming is False


def judge(e: Evidence) -> GridMode:
    """The mode the evidence of one snapshot points to; UNKNOWN when it is missing or contradicts itself."""
    if e.bus_alive is False:
        return GridMode.BLACK
    if e.breaker_closed is False:
        return GridMode.ISLANDED if e.bus_alive or e.forming or e.genset_on_load else GridMode.UNKNOWN
    if e.breaker_closed is True:
        return _breaker_closed(e)
    if e.forming is True and e.mains_ok is not True:
        return GridMode.ISLANDED
    if e.forming is False and e.mains_ok is True and e.bus_alive:
        return GridMode.GRID_TIED
    return GridMode.UNKNOWN


def _breaker_closed(e: Evidence) -> GridMode:
    if e.mains_ok is True:
        return GridMode.UNKNOWN if e.forming is True else GridMode.GRID_TIED
    if e.mains_ok is False:
        return GridMode.ISLANDED if e.forming is True else GridMode.UNKNOWN
    return GridMode.GRID_TIED if e.forming is False and e.bus_alive else GridMode.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """The believed mode and the one that is trying to replace it."""

    mode: GridMode
    since_s: float
    candidate: GridMode
    candidate_since_s: float


def confirm(state: ModeState, seen: GridMode, now_s: float, dt_s: float, at_once: bool) -> ModeState:
    """Believe `seen` once it has lasted its confirmation time.

    With long steps one sighting counts for half the coming step: a decision that will stand for minutes is
    not made on a mode known to be wrong. `at_once`: the first sighting after a start, or all witnesses agree.
    """
    if seen is state.mode:
        return ModeState(mode=seen, since_s=state.since_s, candidate=seen, candidate_since_s=now_s)
    since_s = state.candidate_since_s if seen is state.candidate else now_s
    if at_once or now_s - since_s + dt_s / 2.0 >= CONFIRM_S[seen]:
        return ModeState(mode=seen, since_s=now_s, candidate=seen, candidate_since_s=since_s)
    return ModeState(mode=state.mode, since_s=state.since_s, candidate=seen, candidate_since_s=since_s)
