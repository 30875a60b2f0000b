"""Which plan, and which of its steps, may be followed now: expiry, grid mode, forming source, units."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dispatch.controllers.plan_check import EARLY_MAX_S, PLAN_AGE_MAX, check_charge, check_plan
from dispatch.state import PlanMemory
from dispatch.vocabulary import Event, event
from ems.condition import PlantCondition
from ems.frozen import replace
from ems.plan import Plan, PlanLabel
from ems.site import GridMode, Site
from ems.telemetry import UtcState

ASK_AGAIN_S = 60.0  # while no plan can be followed, a new one is asked for so often
EDGE_GRACE_S = 300.0  # around a planned change of grid mode the neighbouring step may be followed


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The plan to follow, or why there is none."""

    plan: Plan | None
    step: int
    refused: str | None
    replan: bool
    events: tuple[Event, ...]


NO_UTC = Choice(plan=None, step=0, refused="it is not known what time it is", replan=False, events=())


def choose(
    site: Site,
    memory: PlanMemory,
    offered: Plan | None,
    condition: PlantCondition,
    monotonic_s: float,
    dt_s: float,
) -> tuple[PlanMemory, Choice]:
    """Check a newly offered plan, then see whether the accepted one fits the plant as it is now.

    A plan that fits no longer is dropped for good, within this cycle, and another one is asked for.
    """
    if condition.utc is UtcState.INVALID:
        return memory, NO_UTC
    memory, events = _offer(site, memory, offered, condition)
    plan = memory.accepted
    why, step, drop = _fit(site, plan, condition, dt_s)
    if why is None:
        return memory, Choice(plan=plan, step=step, refused=memory.refusal, replan=False, events=events)
    if drop and plan is not None:
        events = (*events, event("plan.dropped", plan_id=plan.plan_id, reason=why))
        memory = replace(memory, accepted=None, refusal=why)
    ask = drop or monotonic_s - memory.asked_s >= ASK_AGAIN_S
    if ask:
        memory = replace(memory, asked_s=monotonic_s)
    refused = memory.refusal if plan is None and memory.refusal is not None else why
    return memory, Choice(plan=None, step=0, refused=refused, replan=ask, events=events)


def _offer(
    site: Site, memory: PlanMemory, offered: Plan | None, condition: PlantCondition
) -> tuple[PlanMemory, tuple[Event, ...]]:
    if offered is None or offered.plan_id == memory.checked_id:
        return memory, ()
    if offered.label is PlanLabel.RULES:
        note = "the planner found no plan: rules"
        memory = replace(memory, checked_id=offered.plan_id, refusal=note, accepted=None)
        return memory, (_event("plan.refused", offered, note),)
    problems = check_plan(site, offered, condition.at, memory.highest_seq)
    if not problems:
        soc = {b: c.soc for b, c in condition.bess.items()}
        problems = check_charge(site, offered, soc, condition.at)
    if problems:
        memory = replace(memory, checked_id=offered.plan_id, refusal=problems[0])
        return memory, (_event("plan.refused", offered, *problems[:5]),)
    memory = replace(
        memory, accepted=offered, checked_id=offered.plan_id, refusal=None, highest_seq=offered.seq
    )
    return memory, (_event("plan.accepted", offered),)


def _event(kind: str, plan: Plan, *reasons: str) -> Event:
    return event(kind, plan_id=plan.plan_id, seq=plan.seq, label=plan.label.value, reasons=list(reasons))


def _fit(
    site: Site, plan: Plan | None, condition: PlantCondition, dt_s: float
) -> tuple[str | None, int, bool]:
    """(why not or None, step, whether to drop the plan for good)."""
    if plan is None:
        return "no plan", 0, False
    now = condition.at
    if now >= plan.valid_until or now - plan.issued_at > PLAN_AGE_MAX:
        return f"plan {plan.plan_id} has expired", 0, True
    if now >= plan.integral_until:
        return f"plan {plan.plan_id} is only an opinion from here on", 0, True
    step = _step(plan, now)
    if step is None:
        return f"plan {plan.plan_id} does not cover this time", 0, True
    mode = condition.grid_mode
    if mode is GridMode.UNKNOWN:
        return "the grid mode is unknown", 0, False
    fitting = _step_for_mode(site, plan, step, condition, dt_s)
    if fitting is None:
        return f"plan {plan.plan_id} assumes {plan.grid_mode[step]}, the plant is {mode}", 0, True
    if mode is GridMode.ISLANDED and condition.forming != plan.forming[fitting]:
        if condition.forming is None:
            return "nobody says who forms the island", 0, False
        why = f"plan {plan.plan_id} assumes {plan.forming[fitting]} forms, it is {condition.forming}"
        return why, 0, True
    gone = _unavailable(plan, fitting, condition)
    if gone:
        return f"plan {plan.plan_id} uses {', '.join(gone)}, not available", 0, True
    return None, fitting, False


def _step(plan: Plan, now: datetime) -> int | None:
    if plan.grid.start - timedelta(seconds=EARLY_MAX_S) <= now < plan.grid.start:
        return 0
    return plan.grid.index_at(now)


def _step_for_mode(site: Site, plan: Plan, step: int, condition: PlantCondition, dt_s: float) -> int | None:
    """`step` if made for the present mode, else its neighbour across a planned change of mode."""
    mode = condition.grid_mode
    if plan.grid_mode[step] is mode:
        return step
    offset_s = (condition.at - plan.grid.start).total_seconds()
    begins_s = float(sum(plan.grid.step_s[:step]))
    grace_s = EDGE_GRACE_S + dt_s
    late_s = grace_s + (site.grid.reconnect_dwell_s if mode is GridMode.ISLANDED else 0.0)
    if step > 0 and plan.grid_mode[step - 1] is mode and offset_s - begins_s <= late_s:
        return step - 1
    left_s = begins_s + plan.grid.step_s[step] - offset_s
    if step + 1 < len(plan.grid) and plan.grid_mode[step + 1] is mode and left_s <= grace_s:
        return step + 1
    return None


def _unavailable(plan: Plan, step: int, condition: PlantCondition) -> Sequence[str]:
    gone = [g for g in plan.available_units(step) if not condition.gensets[g].available]
    gone += [b for b, p in plan.bess_p_kw.items() if not condition.bess[b].available and abs(p[step]) > 1.0]
    return gone
