"""Exercise runs without a plan: beside a healthy grid, in their hours, one set at a time.

A set that has had no run like it for so long is asked to run, with its base load, until the edge has counted
the run or it has taken twice its time. Where nobody could take that load it waits, and stays told as due.
While nobody knows what time it is none begins; one that has its load goes on to its end.
"""

from zoneinfo import ZoneInfo

from dispatch.observing.duty import exercise_asked
from dispatch.protections.balance import charge_room_kw
from dispatch.vocabulary import Context, Target, Targets
from ems.assets import Exercise, GensetParams
from ems.commands import Cause
from ems.frozen import replace

ABOVE_RATIO = 0.02  # of the rating, above the load that counts: readings have noise
LONGEST = 2.0  # times its length: then it is given up
AGAIN_S = 3600.0  # and not tried again before


def with_exercise(context: Context, wishes: Targets) -> Targets:
    """The wishes of rules beside the grid, with the exercise run that is due."""
    if any(t.value >= 0.5 for t in wishes.genset_run.values()):
        return wishes  # a set runs for a better reason
    for g in context.site.gensets:
        if g.exercise is None or not _runs(context, g, g.exercise):
            continue
        why = f"exercise run: {g.id} has had none for {g.exercise.every_h / 24.0:g} days"
        run = {**wishes.genset_run, g.id: _rule(1.0, why)}
        loads = wishes.genset_p_kw
        if context.condition.gensets[g.id].on_load:
            loads = {**loads, g.id: _rule(_load_kw(g, g.exercise), why)}
        return replace(wishes, genset_run=run, genset_p_kw=loads)
    return wishes


def _runs(context: Context, params: GensetParams, exercise: Exercise) -> bool:
    """Whether the set begins its run now, or goes on with it."""
    c, now = context.condition.gensets[params.id], context.now
    if not exercise_asked(params, context.condition) or not c.available:
        return False
    if c.on_load and (now is not None or c.duty.exercising_h > 0.0):
        return c.age_s <= LONGEST * exercise.for_h * 3600.0
    if now is None:
        return False
    if c.starting:
        return True
    local = now.astimezone(ZoneInfo(context.site.timezone))
    quiet = any(q.holds(local) for q in params.quiet)
    return exercise.holds(local) and not quiet and c.age_s >= AGAIN_S and _room(context, params, exercise)


def _room(context: Context, params: GensetParams, exercise: Exercise) -> bool:
    """Whether load and batteries take it, so that nothing of it goes out over the export cap."""
    charge_kw = sum(
        charge_room_kw(b.battery, context.condition.bess[b.id], b.battery.soc_max, exercise.for_h * 3600.0)
        for b in context.site.bess
    )
    return context.power.net_kw + charge_kw >= _load_kw(params, exercise) + context.site.grid.poi_bias_kw


def _load_kw(params: GensetParams, exercise: Exercise) -> float:
    ratio = min(1.0, exercise.load_ratio + ABOVE_RATIO)
    return max(params.p_min_kw, ratio * params.p_rated_kw)


def _rule(value: float, why: str) -> Target:
    return Target(value=value, cause=Cause.RULES, reason=why)
