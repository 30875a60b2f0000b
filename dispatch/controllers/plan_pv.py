"""PV beside the grid where the plan curtails it, or where export costs: it serves the load, and no export.

Where the plan curtails PV, PV is what was marginal: a deviation of load or sun goes to PV as far as there is
sun. Its limit is what measured load and the batteries take, as the plan has them, and the planned export; the
planned power of PV itself is no limit. Where nothing is curtailed and export costs nothing there is no wish.
"""

from datetime import datetime

from dispatch.controllers.plan_check import stored_change_kwh
from dispatch.vocabulary import Context, PvWish
from ems.commands import Cause
from ems.plan import Plan

SPILL_KW = 5.0  # less PV that is left unused is noise of the plan
SPILL_RATIO = 0.02  # of what is available: the same
NOISE_SOC = 0.002  # a charge so little behind the planned one may be noise of its reading
CATCH_UP_H = 1.0 / 12.0  # sun to spare brings a battery back to its planned charge in about this time
FREE_PER_KWH = 1e-9  # money; a price as near to zero is none


def planned_now(context: Context) -> datetime:
    """The time by which a plan is followed: without one that is known no plan is chosen."""
    assert context.now is not None
    return context.now


def export_price(context: Context) -> float:
    """What a kWh exported now earns, as told, else by the tariff; negative where it costs [money per kWh]."""
    told, now = context.prices, planned_now(context)
    quarter = None if told is None else told.quarter(now)
    if told is None or quarter is None:
        return context.site.tariff.export_price(now)
    return told.export_per_kwh[quarter]


def export_costs(context: Context) -> bool:
    """Whether a kWh exported now costs money."""
    return export_price(context) < -FREE_PER_KWH


def no_paid_export(context: Context) -> PvWish | None:
    """The wish of who decides without a plan: no PV beyond load and batteries while export costs."""
    if not export_costs(context):
        return None
    c = context.condition
    return PvWish(
        export_kw=0.0,
        bess_kw={b: -x.p_charge_kw_max for b, x in c.bess.items() if x.available},
        cause=Cause.RULES,
        reason=f"export costs {-export_price(context):.3f} a kWh: PV gives what load and batteries take",
    )


def pv_wish(context: Context, plan: Plan, allowance_kw: float) -> PvWish | None:
    """What the plan's intent lets PV give; None: no less than there is.

    Parameters
    ----------
    allowance_kw : import that its caps and the demand peak allow now.
    """
    k, bias_kw = context.step, context.site.grid.poi_bias_kw
    curtailed_kw, costs = _curtailed_kw(plan, k), export_costs(context)
    if curtailed_kw <= 0.0 and not costs:
        return None
    grid_kw = plan.grid_p_kw[k]
    export_kw = -grid_kw if grid_kw < -1.5 * bias_kw else 0.0
    why = f"the plan leaves {curtailed_kw:.0f} kW of PV unused"
    if curtailed_kw <= 0.0:
        why = f"export costs {-export_price(context):.3f} a kWh"
    elif grid_kw > 1.5 * bias_kw and plan.import_per_kwh[k] < -FREE_PER_KWH:  # import that is paid for
        export_kw = -max(0.0, min(grid_kw, allowance_kw))
    return PvWish(
        export_kw=export_kw,
        bess_kw=_beside(context, plan, curtails=curtailed_kw > 0.0),
        cause=Cause.PLAN,
        reason=f"{why}: it gives what load and batteries take, {export_kw:+.0f} kW exported",
    )


def _curtailed_kw(plan: Plan, step: int) -> float:
    """PV the plan clearly throws away in a step [kW]; 0 where it uses what it expects."""
    available_kw = sum(series[step] for series in plan.pv_available_kw.values())
    left_kw = available_kw - sum(series[step] for series in plan.pv_p_kw.values())
    return left_kw if left_kw > max(SPILL_KW, SPILL_RATIO * available_kw) else 0.0


def _beside(context: Context, plan: Plan, *, curtails: bool) -> dict[str, float]:
    """What each battery that follows is meant to give beside PV; charging, what it may take [kW].

    As planned where the grid was marginal or exported to. Where the battery balances the POI: no discharge
    that PV can spare it, charging as planned and back to the planned charge; all it can take where the plan
    leaves no PV unused.
    """
    k, known = context.step, context.condition.bess
    planned = {b: p[k] for b, p in plan.bess_p_kw.items() if known[b].available}
    if abs(plan.grid_p_kw[k]) > 1.5 * context.site.grid.poi_bias_kw:
        return planned
    if sum(planned.values()) > 1.0:
        return dict.fromkeys(planned, 0.0)
    if not curtails:
        return {b: -known[b].p_charge_kw_max for b in planned}
    out = {}
    for b in context.site.bess:
        if b.id in planned:
            behind_soc = max(0.0, planned_soc(context, plan, b.id) - NOISE_SOC - known[b.id].soc)
            out[b.id] = min(0.0, planned[b.id]) - behind_soc * b.battery.energy_kwh / CATCH_UP_H
    return out


def planned_soc(context: Context, plan: Plan, bess: str) -> float:
    """Charge the plan has at this moment, linear inside the step."""
    k, soc = context.step, plan.bess_soc_end[bess]
    if k == 0:
        battery = next(b.battery for b in context.site.bess if b.id == bess)
        hours = plan.grid.step_s[0] / 3600.0
        before = (
            soc[0] - stored_change_kwh(battery, plan.bess_p_kw[bess][0], soc[0], hours) / battery.energy_kwh
        )
    else:
        before = soc[k - 1]
    begins_s = float(sum(plan.grid.step_s[:k]))
    into = ((planned_now(context) - plan.grid.start).total_seconds() - begins_s) / plan.grid.step_s[k]
    return before + max(0.0, min(1.0, into)) * (soc[k] - before)
