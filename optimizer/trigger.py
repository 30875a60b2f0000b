"""When a new plan is wanted: on schedule, and at once when the plant is no longer what the plan assumed."""

from datetime import datetime, timedelta

from ems.condition import PlantCondition
from ems.plan import Plan
from ems.site import GridMode

LOOK_S = 10.0  # how often a planner looks whether the plant has changed
_SETTLED = (GridMode.GRID_TIED, GridMode.ISLANDED)


def replan_reason(
    last: Plan | None,
    condition: PlantCondition,
    now: datetime,
    *,
    followed: bool,
    replan_s: float,
    spacing_s: float,
) -> str | None:
    """Why a plan should be made now, or None.

    Parameters
    ----------
    last : the plan published last, of whatever label.
    followed : whether the edge follows a plan at present.
    replan_s : age at which a plan is renewed [s].
    spacing_s : shortest time between two plans made out of turn [s].
    """
    if last is None:
        return "no plan yet"
    age_s = (now - last.issued_at).total_seconds()
    if age_s >= replan_s:
        return "renewal"
    if age_s < spacing_s:
        return None
    step = last.grid.index_at(now)
    if step is None:
        return "the plan does not cover the present"
    if condition.grid_mode in _SETTLED and condition.grid_mode is not last.grid_mode[step]:
        return f"the plan assumes {last.grid_mode[step]}, the plant is {condition.grid_mode}"
    missing = [g for g in last.available_units(step) if not condition.gensets[g].available]
    if missing:
        return f"planned gensets are not available: {', '.join(missing)}"
    return None if followed else "the edge follows no plan"


def next_renewal(now: datetime, replan_s: float) -> datetime:
    """The next multiple of `replan_s` after `now`, counted from the UTC day."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    count = (now - midnight).total_seconds() // replan_s + 1
    return midnight + timedelta(seconds=count * replan_s)


def next_look(now: datetime, replan_s: float) -> datetime:
    """When a planner that has just looked or published looks again: soon, and never past a renewal."""
    return min(next_renewal(now, replan_s), now + timedelta(seconds=LOOK_S))
