"""Reactive setpoints of converters: chosen rarely, from the plan or from a curve over mean active power.

This is no voltage loop. Between two choices the setpoint stands still, whatever the voltage does; the
converter regulates by itself. Beside the grid alone: in an island the forming source holds the voltage, and
the others get the value that the site file says is safe there.
"""

import math
from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balancing_memory import ReactivePace
from dispatch.vocabulary import Target
from dispatch.writing.safe_table import safe_value
from ems.commands import Cause
from ems.frozen import replace
from ems.invariants import clamp
from ems.reactive import ReactiveControl
from ems.site import GridMode


def reactive(
    layout: Layout,
    before: Mapping[str, ReactivePace],
    observed: Observed,
    wishes: Mapping[str, Target],
    times: tuple[float, float],
) -> tuple[Mapping[str, ReactivePace], Mapping[str, Target]]:
    """Setpoints of this cycle, and what to remember.

    Parameters
    ----------
    wishes : what a plan or a person wants; a person's stands as it is.
    times : now and length of the cycle [s].
    """
    paces, targets = {}, {}
    for asset, control in layout.reactive.items():
        wish, known = wishes.get(asset), before.get(asset)
        if wish is not None and wish.cause is Cause.OPERATOR:
            targets[asset] = wish
        elif observed.condition.grid_mode is GridMode.GRID_TIED:
            paces[asset] = pace = _paced(layout, control, asset, known, observed, wish, times)
            targets[asset] = Target(value=pace.q_kvar, cause=pace.cause, reason=pace.why)
        else:
            if known is not None:  # what it gave before says nothing of what it will give beside the grid
                paces[asset] = replace(known, mean_kw=0.0, passed_s=0.0)
            targets |= _away_from_grid(layout, asset, observed)
    return paces, targets


def _away_from_grid(layout: Layout, asset: str, observed: Observed) -> dict[str, Target]:
    mode = observed.condition.grid_mode
    value = safe_value(layout.setpoints[f"{asset}.q_set_kvar"].safety, mode)
    if value is None or mode is not GridMode.ISLANDED or asset == observed.condition.forming:
        return {}
    reason = "in an island the forming source holds the voltage"
    return {asset: Target(value=value, cause=Cause.RULES, reason=reason)}


def _paced(
    layout: Layout,
    control: ReactiveControl,
    asset: str,
    known: ReactivePace | None,
    observed: Observed,
    wish: Target | None,
    times: tuple[float, float],
) -> ReactivePace:
    now_s, dt_s = times
    p_kw = _power_kw(observed, asset)
    if known is not None and now_s - known.chosen_s < control.every_s - 1e-6:
        return ReactivePace(
            q_kvar=known.q_kvar,
            why=known.why,
            cause=known.cause,
            chosen_s=known.chosen_s,
            mean_kw=known.mean_kw + (p_kw - known.mean_kw) * dt_s / (known.passed_s + dt_s),
            passed_s=known.passed_s + dt_s,
        )
    mean_kw = p_kw if known is None or known.passed_s <= 0.0 else known.mean_kw
    if control.follow_plan and wish is not None:
        q_kvar, why, cause = wish.value, wish.reason, Cause.PLAN
    else:
        q_kvar, why = control.q_kvar(mean_kw), f"{mean_kw:+.0f} kW in the mean of {control.every_s:.0f} s"
        cause = Cause.RULES
    s_kva = layout.reactive_kva[asset]
    room_kvar = math.sqrt(max(0.0, s_kva * s_kva - mean_kw * mean_kw))
    q_kvar = clamp(q_kvar, -room_kvar, room_kvar)
    return ReactivePace(q_kvar=q_kvar, why=why, cause=cause, chosen_s=now_s)


def _power_kw(observed: Observed, asset: str) -> float:
    bess = observed.condition.bess.get(asset)
    return observed.condition.pv_kw[asset] if bess is None else bess.p_kw
