"""Reactive parameters of converters: chosen rarely, from the plan or from a curve over mean active power.

A converter takes one of three (`ReactiveTakes`): kvar; a power factor, whose sign is that of the kvar; or the
index of one of its stored curves of reactive power over voltage, the one that gives the kvar most nearly at
the voltage of now. A curve that is in force stays while no other is nearer by 5 % of the rating.

This is no voltage loop. Between two choices the setpoint stands still, whatever the voltage does; the
converter regulates by itself. Beside the grid alone: in an island the forming source holds the voltage, and
the others get the value that the site file says is safe there.
"""

import math
from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balancing_memory import ReactivePace
from dispatch.vocabulary import REACTIVE, Target, Targets
from dispatch.writing.safe_table import safe_value
from ems.commands import Cause
from ems.frozen import replace
from ems.invariants import clamp
from ems.reactive import ReactiveControl, ReactiveTakes
from ems.site import GridMode

LITTLE_RATIO = 0.05  # of the rating: less active power has no factor; a curve nearer by less is not taken


def reactive(
    layout: Layout,
    before: Mapping[str, ReactivePace],
    observed: Observed,
    wishes: Targets,
    times: tuple[float, float],
) -> tuple[Mapping[str, ReactivePace], dict[str, Mapping[str, Target]]]:
    """What to remember, and the parameters of this cycle by field of `Targets`.

    Parameters
    ----------
    wishes : kvar that a plan wants; what a person wants of the parameter itself stands, where it is one.
    times : now and length of the cycle [s].
    """
    paces: dict[str, ReactivePace] = {}
    out: dict[str, Mapping[str, Target]] = {}
    for group, takes in REACTIVE:
        own = {a: c for a, c in layout.reactive.items() if c.takes is takes}
        told = getattr(wishes, group)
        out[group] = _of_one_kind(layout, own, before, observed, (told, wishes.q_kvar), times, paces)
    return paces, out


def _of_one_kind(
    layout: Layout,
    controls: Mapping[str, ReactiveControl],
    before: Mapping[str, ReactivePace],
    observed: Observed,
    wishes: tuple[Mapping[str, Target], Mapping[str, Target]],
    times: tuple[float, float],
    paces: dict[str, ReactivePace],
) -> dict[str, Target]:
    """Targets of the converters that take the same parameter; what is remembered of each goes to `paces`."""
    targets: dict[str, Target] = {}
    told, planned = wishes
    for asset, control in controls.items():
        person, known = told.get(asset), before.get(asset)
        wish = planned.get(asset)
        if person is not None and person.cause is Cause.OPERATOR:
            targets[asset] = replace(person, value=permitted(control, person.value))
        elif observed.condition.grid_mode is GridMode.GRID_TIED:
            paces[asset] = pace = _paced(layout, control, asset, known, observed, wish, times)
            targets[asset] = Target(value=pace.value, cause=pace.cause, reason=pace.why)
        else:
            if known is not None:  # what it gave before says nothing of what it will give beside the grid
                paces[asset] = replace(known, mean_kw=0.0, passed_s=0.0)
            targets |= _away_from_grid(layout, asset, control, observed)
    return targets


def permitted(control: ReactiveControl, value: float) -> float:
    """The parameter next to `value` that the converter can be given."""
    if control.takes is ReactiveTakes.POWER_FACTOR:
        return math.copysign(clamp(abs(value), control.pf_min, 1.0), value)
    if control.takes is ReactiveTakes.CURVE:
        return float(min((c.index for c in control.curves), key=lambda i: abs(i - value)))
    return value


def parameter(
    control: ReactiveControl,
    q_kvar: float,
    mean_kw: float,
    s_kva: float,
    v_pu: float | None,
    now: float | None,
) -> float:
    """The converter's parameter that gives `q_kvar` most nearly, in the unit of its point.

    Parameters
    ----------
    mean_kw : its active power, from which a power factor follows; with next to none of it the factor is 1.
    v_pu : measured at the POI; None: nominal.
    now : the parameter that is in force; None: none was chosen yet.
    """
    if control.takes is ReactiveTakes.POWER_FACTOR:
        if abs(mean_kw) < LITTLE_RATIO * s_kva:
            return 1.0
        return permitted(control, math.copysign(abs(mean_kw) / math.hypot(mean_kw, q_kvar), q_kvar))
    if control.takes is ReactiveTakes.CURVE:
        at_pu = 1.0 if v_pu is None else v_pu
        off_kvar = {c.index: abs(c.q_kvar(at_pu) - q_kvar) for c in control.curves}
        best = min(off_kvar, key=lambda i: off_kvar[i])
        stays = now is not None and off_kvar.get(int(now), math.inf) <= off_kvar[best] + LITTLE_RATIO * s_kva
        return now if stays and now is not None else float(best)
    return q_kvar


def _away_from_grid(
    layout: Layout, asset: str, control: ReactiveControl, observed: Observed
) -> dict[str, Target]:
    mode = observed.condition.grid_mode
    value = safe_value(layout.setpoints[f"{asset}.{control.takes}"].safety, mode)
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
        known = _inside(layout, control, asset, known, p_kw)
        return ReactivePace(
            q_kvar=known.q_kvar,
            value=known.value,
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
    q_kvar = clamp(q_kvar, *_room_kvar(layout, asset, mean_kw))
    in_force = None if known is None else known.value
    value = parameter(control, q_kvar, mean_kw, s_kva, observed.condition.grid_v_pu, in_force)
    chosen = ReactivePace(q_kvar=q_kvar, value=value, why=why, cause=cause, chosen_s=now_s)
    return _inside(layout, control, asset, chosen, p_kw)


def _room_kvar(layout: Layout, asset: str, p_kw: float) -> tuple[float, float]:
    """What active power leaves of a converter's polygon, else of its circle [kvar]."""
    own = layout.capability.get(asset)
    if own is not None:
        return own.q_range_kvar(p_kw)
    s_kva = layout.reactive_kva[asset]
    room_kvar = math.sqrt(max(0.0, s_kva * s_kva - p_kw * p_kw))
    return -room_kvar, room_kvar


def _inside(
    layout: Layout, control: ReactiveControl, asset: str, pace: ReactivePace, p_kw: float
) -> ReactivePace:
    """Kvar that the maker's polygon has no room for beside the power of now are given back at once.

    They stay so until the next choice: power that goes to and fro takes nothing to and fro with it.
    """
    if asset not in layout.capability or control.takes is not ReactiveTakes.KVAR:
        return pace
    q_kvar = clamp(pace.q_kvar, *_room_kvar(layout, asset, p_kw))
    if q_kvar == pace.q_kvar:
        return pace
    why = f"{pace.why}; {pace.q_kvar:.0f} kvar beside {p_kw:+.0f} kW are outside the converter's capability"
    return replace(pace, q_kvar=q_kvar, value=q_kvar, why=why)


def _power_kw(observed: Observed, asset: str) -> float:
    bess = observed.condition.bess.get(asset)
    return observed.condition.pv_kw[asset] if bess is None else bess.p_kw
