"""The ladder: who decides, from the best rung down to none. `LADDER` is the table of docs/ladder.md."""

from dataclasses import dataclass
from datetime import datetime

from dispatch.controllers.plan_check import PLAN_AGE_MAX
from dispatch.state import EdgeState
from dispatch.vocabulary import Event, LadderStatus, Source, event


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung, as documented: what decides, when it is entered and left, and how fast."""

    source: Source
    title: str
    decides: str
    entered: str
    left: str
    within_s: float  # from the cause to the first cycle on this rung, at cycles of 1 s
    lasts_s_max: float | None  # None: as long as its cause
    writes: str
    heartbeat: str


LADDER: tuple[Rung, ...] = (
    Rung(
        source=Source.PLAN,
        title="optimal",
        decides="the accepted plan, corrected inside each interval",
        entered="a checked plan fits the time, grid mode, forming source and units; its planner lives",
        left="see the rungs below",
        within_s=1.0,
        lasts_s_max=None,
        writes="plan, protections",
        heartbeat="counts",
    ),
    Rung(
        source=Source.LAST_PLAN,
        title="last plan",
        decides="the last accepted plan, while it still fits",
        entered="its planner is dead, or it is a shifted plan, or it is older than `fresh_s` (90 min)",
        left="a new plan, or at 2 h of age, at its expiry, or on any mismatch",
        within_s=1.0,
        lasts_s_max=PLAN_AGE_MAX.total_seconds(),
        writes="plan, protections",
        heartbeat="counts",
    ),
    Rung(
        source=Source.RULES,
        title="rules",
        decides="state of charge bands and genset hysteresis",
        entered="no plan, or it expired, was refused, or assumes another grid mode, forming source or unit",
        left="a plan that fits",
        within_s=1.0,
        lasts_s_max=None,
        writes="rules, protections",
        heartbeat="counts",
    ),
    Rung(
        source=Source.HOLD_SAFE,
        title="hold safe",
        decides="the safe value of each actuator; in an island the forming source is untouched",
        entered="the grid mode is unknown, all devices are silent, or (latched) an invariant broke",
        left="the grid mode is known again; latched: a person releases the edge",
        within_s=2.0,
        lasts_s_max=None,
        writes="safe values, protections",
        heartbeat="counts; latched, or nothing known yet after a start: stands still",
    ),
    Rung(
        source=Source.RELEASED,
        title="released",
        decides="every device by itself, as the site file says under `silence`",
        entered="a person asks, and the simulated plant stays alive and inside its limits without us",
        left="a person takes it back, or the plant would no longer stay alive without us",
        within_s=1.0,
        lasts_s_max=None,
        writes="nothing",
        heartbeat="stands still",
    ),
)
HEADINGS = ("Rung", "Who decides", "Entered when", "Left when", "Within", "At most", "Writes", "Heartbeat")


def ladder_rows() -> list[dict[str, str]]:
    """The table in words, best rung first."""
    return [
        {
            "rung": r.source.value,
            "title": r.title,
            "decides": r.decides,
            "entered": r.entered,
            "left": r.left,
            "within": f"{r.within_s:g} s",
            "at_most": "–" if r.lasts_s_max is None else f"{r.lasts_s_max / 3600.0:g} h",
            "writes": r.writes,
            "heartbeat": r.heartbeat,
        }
        for r in LADDER
    ]


def ladder_table() -> list[str]:
    """The table as Markdown, line by line."""
    rows = [(f"`{r['rung']}` ({r['title']})", *list(r.values())[2:]) for r in ladder_rows()]
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def rung_now(
    state: EdgeState, rung: Source, at: datetime, refused: str | None, planner_alive: bool
) -> tuple[LadderStatus, list[Event]]:
    """The status of the ladder in this cycle, and an event when another rung decides than before.

    Parameters
    ----------
    refused : why no plan is followed.
    """
    reason = _reason(rung, state.held_safe, refused, planner_alive)
    if state.source == rung.value and state.source_since is not None:
        return LadderStatus(rung=rung, since=state.source_since, reason=reason), []
    told = event("edge.source.changed", before=state.source, now=rung.value, reason=reason)
    return LadderStatus(rung=rung, since=at, reason=reason), [told]


def _reason(rung: Source, held_safe: bool, refused: str | None, planner_alive: bool) -> str:
    """Why this rung decides and no better one."""
    match rung:
        case Source.PLAN:
            return "the plan fits the plant as it is"
        case Source.LAST_PLAN:
            return "the planner is late" if planner_alive else "the planner does not live"
        case Source.RULES:
            return "the controller follows rules" if refused is None else refused
        case Source.HOLD_SAFE:
            return "held safe until a person releases it" if held_safe else "the grid mode is unknown"
        case Source.RELEASED:
            return "a person asked, and the plant lives without us"


def step_of(rung: Source) -> int:
    """0 for the best rung, 4 for the last: a number for metrics."""
    return [r.source for r in LADDER].index(rung)
