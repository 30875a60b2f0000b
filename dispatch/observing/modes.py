"""Which grid mode the bus is in: two of three witnesses (POI breaker, mains voltage, PCS state) decide."""

from dataclasses import dataclass

from ems.poi import Supervision
from ems.site import GridMode

READ_S = 1.0  # a transfer that is over is read within a cycle, and within so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the witnesses say; None where one has no good reading."""

    breaker_closed: bool | None
    mains_ok: bool | None  # voltage of every phase and frequency inside their bands
    bus_alive: bool | None
    forming: bool | None  # a BESS says it forms the bus; None: no BESS answers
    genset_on_load: bool
    phase_lost: bool = False  # one phase is gone while another is there
    carries_on: bool = False  # a source that can form is ready: a dead bus may be no more than its transfer

    @property
    def carried(self) -> bool:
        """Whether a source of the site says that it carries the bus."""
        return self.forming is True or self.genset_on_load


def unanimous(e: Evidence) -> bool:
    """All witnesses answer and say that the grid carries the bus."""
    return e.breaker_closed is True and e.mains_ok is True and e.bus_alive is True and e.forming is False


def judge(e: Evidence) -> GridMode:
    """The mode the evidence of one snapshot points to; UNKNOWN when it is missing or contradicts itself."""
    if e.bus_alive is False:
        return GridMode.BLACK
    if e.breaker_closed is False:
        return _breaker_open(e)
    if e.breaker_closed is True:
        return _breaker_closed(e)
    if e.forming is True and e.mains_ok is not True:
        return GridMode.ISLANDED
    if e.forming is False and e.mains_ok is True and e.bus_alive:
        return GridMode.GRID_TIED
    return GridMode.UNKNOWN


def _breaker_open(e: Evidence) -> GridMode:
    if e.forming or e.genset_on_load:
        return GridMode.ISLANDED
    if e.mains_ok is True and e.forming is False and e.bus_alive:
        return GridMode.UNKNOWN  # nobody of ours carries a live bus: the contact must be wrong
    return GridMode.ISLANDED if e.bus_alive else GridMode.UNKNOWN


def _breaker_closed(e: Evidence) -> GridMode:
    if e.mains_ok is True:
        return GridMode.UNKNOWN if e.forming is True else GridMode.GRID_TIED
    if e.mains_ok is False:
        return GridMode.ISLANDED if e.forming is True else GridMode.UNKNOWN
    return GridMode.GRID_TIED if e.forming is False and e.bus_alive else GridMode.UNKNOWN


def still_islanded(e: Evidence) -> bool:
    """Whether an island that was believed goes on: its source carries it, and the breaker is not read.

    Witnesses that are silent end no island; one that contradicts does. Good mains alone close no breaker.
    """
    return e.breaker_closed is None and e.bus_alive is not False and e.carried


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """The believed mode and the one that is trying to replace it."""

    mode: GridMode
    since_s: float
    candidate: GridMode
    candidate_since_s: float
    held: bool = False  # the mode became unknown after it was known: it stays so for a while


def confirm(
    rules: Supervision,
    state: ModeState,
    seen: GridMode,
    now_s: float,
    dt_s: float,
    at_once: bool,
    transfer_s: float = 0.0,
) -> ModeState:
    """Believe `seen` once it has lasted its confirmation time.

    With long steps one sighting counts for half the coming step: a decision that will stand for minutes is
    not made on a mode known to be wrong. `at_once`: the first sighting after a start, or all witnesses agree.
    Evidence that was lost and comes back is trusted only after the hold of `rules`; a lost grid always is.
    A dead bus is not believed before a source that is ready has had `transfer_s` to take it over, and a cycle
    to say so; the mode it was in is over at once.
    """
    if seen is state.mode:
        return ModeState(
            mode=seen, since_s=state.since_s, candidate=seen, candidate_since_s=now_s, held=state.held
        )
    since_s = state.candidate_since_s if seen is state.candidate else now_s
    half_s = dt_s / 2.0
    over_s = transfer_s + min(dt_s, READ_S)
    if seen is GridMode.BLACK and transfer_s > 0.0 and now_s - since_s + half_s < over_s:
        known = state.mode is not GridMode.UNKNOWN
        return ModeState(
            mode=GridMode.UNKNOWN,
            since_s=now_s if known else state.since_s,
            candidate=seen,
            candidate_since_s=since_s,
            held=state.held,
        )
    if state.held and seen is GridMode.GRID_TIED:
        settled = now_s - since_s + half_s >= rules.settled_s
        believed = settled and now_s - state.since_s + half_s >= rules.unknown_hold_s
    else:
        believed = at_once or now_s - since_s + half_s >= confirm_s(rules, seen)
    if not believed:
        return ModeState(
            mode=state.mode, since_s=state.since_s, candidate=seen, candidate_since_s=since_s, held=state.held
        )
    held = seen is GridMode.UNKNOWN and state.mode is not GridMode.UNKNOWN
    return ModeState(mode=seen, since_s=now_s, candidate=seen, candidate_since_s=since_s, held=held)


def confirm_s(rules: Supervision, mode: GridMode) -> float:
    """How long a mode must be seen before it is believed [s]."""
    match mode:
        case GridMode.ISLANDED:
            return rules.confirm_islanded_s
        case GridMode.BLACK:
            return rules.confirm_black_s
        case GridMode.GRID_TIED:
            return rules.confirm_tied_s
        case GridMode.UNKNOWN:
            return rules.confirm_unknown_s
