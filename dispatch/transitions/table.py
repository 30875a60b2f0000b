"""The transition function of IEEE 2030.7 as a table: steps, guards, limits. `transitions` walks through it.

T1 planned islanding, T2 unplanned islanding, T3 reconnection, T4 black start; between them the two steady
states, connected (SS1) and islanded (SS2), share one step: the grid mode tells them apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ems.poi import TransitionPolicy
from ems.site import GridMode


class Step(StrEnum):
    """Where the plant is between or inside transitions."""

    STEADY = "steady"
    BALANCING = "balancing"
    OPENING = "opening"
    SETTLING = "settling"
    DWELL = "dwell"
    CLOSING = "closing"
    RAMPING = "ramping"
    DEAD = "dead"
    STARTING = "starting"
    ENERGISED = "energised"
    RESTORING = "restoring"


TRANSITION = {
    Step.STEADY: "",
    Step.BALANCING: "T1",
    Step.OPENING: "T1",
    Step.SETTLING: "T2",
    Step.DWELL: "T3",
    Step.CLOSING: "T3",
    Step.RAMPING: "T3",
    Step.DEAD: "T4",
    Step.STARTING: "T4",
    Step.ENERGISED: "T4",
    Step.RESTORING: "T4",
}
BLOCKED = frozenset((Step.DEAD, Step.STARTING, Step.ENERGISED))  # PV and followers give and take nothing
STEERED = frozenset((Step.BALANCING, Step.OPENING))  # power at the POI is brought to zero


@dataclass(frozen=True, kw_only=True)
class TransitionMemory:
    """Where the plant is between grid modes. Times are edge monotonic [s]."""

    step: Step = Step.STEADY
    since_s: float = 0.0
    planned_since_s: float = 0.0
    near_since_s: float | None = None  # next to no power at the POI since
    given_up: bool = False  # a planned islanding: not tried again before its order is withdrawn
    late: bool = False  # the synchronising device did not close in time
    last_mode: GridMode = GridMode.UNKNOWN  # that was known
    dead_since_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What guards look at, in one cycle. Times are since the present step began [s]."""

    mode: GridMode
    was_tied: bool  # the last mode that was known
    ordered: bool  # a planned islanding is asked for and was not given up
    able: bool  # somebody could form the island and carry it
    mains_ok: bool
    dwell_over: bool
    in_step_s: float
    in_planned_s: float  # since the first step of a planned islanding
    balanced: bool  # power at the POI has been next to none for long enough
    near: bool  # it is next to none now
    confirmed: bool  # the bus has been dead long enough to be believed
    ramped: bool  # power at the POI is free again after reconnection
    helpless: bool  # nobody is left that could bring a dead bus back
    restored: bool  # every feeder the edge holds open is back, or nothing changed for long
    policy: TransitionPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """From one step to another. The first rule of a step that holds is taken; `why` is what is recorded."""

    at: Step
    to: Step
    why: str
    holds: Callable[[Facts], bool]
    failed: bool = False  # the transition was given up


def _islanded(f: Facts) -> bool:
    return f.mode is GridMode.ISLANDED


def _tied(f: Facts) -> bool:
    return f.mode is GridMode.GRID_TIED


def _dead(f: Facts) -> bool:
    return f.mode is GridMode.BLACK


def _unknown(f: Facts) -> bool:
    return f.mode is GridMode.UNKNOWN


def _back(f: Facts) -> bool:
    return _islanded(f) and f.mains_ok and not f.ordered


def _away(f: Facts) -> bool:
    return _islanded(f) and not (f.mains_ok and not f.ordered)


def _r(at: Step, to: Step, why: str, holds: Callable[[Facts], bool]) -> Rule:
    return Rule(at=at, to=to, why=why, holds=holds)


def _f(at: Step, to: Step, why: str, holds: Callable[[Facts], bool]) -> Rule:
    """A rule by which a transition is given up."""
    return Rule(at=at, to=to, why=why, holds=holds, failed=True)


_DEAD_FROM = tuple(s for s in Step if s not in (Step.STEADY, Step.DEAD, Step.STARTING))
_UNKNOWN_FROM = (Step.BALANCING, Step.OPENING, Step.SETTLING, Step.DWELL, Step.CLOSING, Step.RAMPING)
_CARRIED = "a source of the site carries the bus"
_MAINS = "the mains carry the bus"
_CLOSED = "the POI breaker has closed"
_NOT_USABLE = "the mains are not usable, or the island is ordered"
_WITHDRAWN = "the order was withdrawn"
_LATE = "not done in time"
RULES: tuple[Rule, ...] = (
    _r(Step.STEADY, Step.DEAD, "the bus is dead", _dead),
    *(_f(s, Step.DEAD, "the bus is dead", _dead) for s in _DEAD_FROM),
    *(_f(s, Step.STEADY, "the grid mode is unknown", _unknown) for s in _UNKNOWN_FROM),
    _r(Step.STEADY, Step.SETTLING, "the grid is lost", lambda f: _islanded(f) and f.was_tied),
    _r(Step.STEADY, Step.BALANCING, "islanding is ordered", lambda f: _tied(f) and f.ordered and f.able),
    _r(Step.STEADY, Step.DWELL, "the mains are usable", _back),
    # T1 planned islanding
    _r(Step.BALANCING, Step.SETTLING, "the grid was lost meanwhile", _islanded),
    _f(Step.BALANCING, Step.STEADY, _WITHDRAWN, lambda f: not f.ordered),
    _f(Step.BALANCING, Step.STEADY, "nobody can carry the island any more", lambda f: not f.able),
    _f(Step.BALANCING, Step.STEADY, _LATE, lambda f: f.in_planned_s >= f.policy.planned_s_max),
    _r(Step.BALANCING, Step.OPENING, "next to no power at the POI for long enough", lambda f: f.balanced),
    _r(Step.OPENING, Step.SETTLING, "the POI breaker has opened", _islanded),
    _f(Step.OPENING, Step.STEADY, _WITHDRAWN, lambda f: not f.ordered),
    _f(Step.OPENING, Step.STEADY, _LATE, lambda f: f.in_planned_s >= f.policy.planned_s_max),
    _f(Step.OPENING, Step.STEADY, "the breaker did not open", lambda f: f.in_step_s >= f.policy.open_s_max),
    _r(Step.OPENING, Step.BALANCING, "power at the POI again", lambda f: not f.near),
    # T2 unplanned islanding
    _r(Step.SETTLING, Step.RAMPING, _CLOSED, _tied),
    _r(Step.SETTLING, Step.STEADY, "the island is stable", lambda f: f.in_step_s >= f.policy.stable_s),
    # T3 reconnection
    _r(Step.DWELL, Step.RAMPING, _CLOSED, _tied),
    _f(Step.DWELL, Step.STEADY, _NOT_USABLE, _away),
    _r(Step.DWELL, Step.CLOSING, "the mains have been good for the dwell", lambda f: f.dwell_over),
    _r(Step.CLOSING, Step.RAMPING, _CLOSED, _tied),
    _f(Step.CLOSING, Step.STEADY, _NOT_USABLE, _away),
    _f(Step.CLOSING, Step.DWELL, "nobody closed", lambda f: f.in_step_s >= f.policy.close_s_max),
    _f(Step.RAMPING, Step.SETTLING, "the grid is lost", _islanded),
    _r(Step.RAMPING, Step.STEADY, "power at the POI is free again", lambda f: f.ramped),
    # T4 black start
    _r(Step.DEAD, Step.RAMPING, _MAINS, _tied),
    _r(Step.DEAD, Step.ENERGISED, _CARRIED, _islanded),
    _r(Step.DEAD, Step.STARTING, "dead for long enough", lambda f: f.confirmed and not f.helpless),
    _r(Step.STARTING, Step.RAMPING, _MAINS, _tied),
    _r(Step.STARTING, Step.ENERGISED, _CARRIED, _islanded),
    _f(Step.STARTING, Step.DEAD, "nobody is left to bring the bus back", lambda f: f.helpless),
    _r(Step.ENERGISED, Step.RAMPING, _MAINS, _tied),
    _r(Step.ENERGISED, Step.RESTORING, "the bus is stable", lambda f: f.in_step_s >= f.policy.stable_s),
    _r(Step.RESTORING, Step.RAMPING, _MAINS, _tied),
    _r(Step.RESTORING, Step.STEADY, "the feeders are back", lambda f: f.restored),
)


def next_rule(step: Step, facts: Facts) -> Rule | None:
    """The first rule of a step that holds; None: stay."""
    return next((r for r in RULES if r.at is step and r.holds(facts)), None)
