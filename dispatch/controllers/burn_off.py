"""Hot runs without a plan: a genset that ran too long at low load gets load until it has burnt clean.

The load comes from batteries that charge, and from what the others leave to it. Beside the grid a set that is
due is started for it, one at a time, outside quiet hours and where load and batteries take its power. In an
island only a set that runs anyway is loaded: none is started for this, no feeder is touched, no PV limited.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from zoneinfo import ZoneInfo

from dispatch.observing.duty import burn_off_due
from dispatch.protections.balance import Store, balanced
from dispatch.vocabulary import Context, Target, Targets
from ems.assets import BurnOff, GensetParams
from ems.commands import Cause
from ems.site import GridMode

ABOVE_RATIO = 0.02  # of the rating, above the load that counts: readings have noise
LONGEST = 2.0  # times its length beside the grid: then it is given up
AGAIN_S = 3600.0  # and not tried again before
USEFUL_RATIO = 0.999  # of the load it takes: less does not count, and would burn fuel for nothing


def with_burn_off(
    context: Context, wishes: Targets, stores_of: Callable[[Context], Mapping[str, Store]]
) -> Targets:
    """The wishes of rules with the hot run that is due. `stores_of`: asked where one is."""
    for g in context.site.gensets:
        hot = None if g.low_load is None else g.low_load.burn_off
        c = context.condition.gensets[g.id]
        if hot is None or not c.available or not burn_off_due(g, c.duty):
            continue
        stores = stores_of(context)
        if context.condition.grid_mode is GridMode.ISLANDED:
            if c.on_load:
                return _islanded(context, wishes, stores, g, hot)
        elif _runs(context, wishes, stores, g, hot):
            run = {**wishes.genset_run, g.id: _rule(1.0, _why(g, hot))}
            loads = wishes.genset_p_kw
            if c.on_load:
                loads = {**loads, g.id: _rule(_load_kw(g, hot), _why(g, hot))}
            return replace(wishes, genset_run=run, genset_p_kw=loads)
    return wishes


def _runs(
    context: Context, wishes: Targets, stores: Mapping[str, Store], params: GensetParams, hot: BurnOff
) -> bool:
    """Whether the set begins its run beside the grid now, or goes on with it."""
    c = context.condition.gensets[params.id]
    others = [g for g, t in wishes.genset_run.items() if t.value >= 0.5 and g != params.id]
    if c.on_load:
        return c.age_s <= LONGEST * hot.for_h * 3600.0
    if c.starting or others:
        return c.starting
    now, zone = context.now, ZoneInfo(context.site.timezone)
    quiet = any(now is None or q.holds(now.astimezone(zone)) for q in params.quiet)
    return not quiet and c.age_s >= AGAIN_S and _room_kw(context, stores, hot) >= _load_kw(params, hot)


def _room_kw(context: Context, stores: Mapping[str, Store], hot: BurnOff) -> float:
    """What load and batteries take all along, so that nothing of it goes out over the export cap [kW]."""
    charge_kw = 0.0
    for b in context.site.bess:
        if b.id in stores:
            left_kwh = max(0.0, b.battery.soc_max - stores[b.id].soc) * b.battery.energy_kwh
            charge_kw += min(stores[b.id].charge_kw, left_kwh / hot.for_h)
    return context.power.net_kw + charge_kw - context.site.grid.poi_bias_kw


def _islanded(
    context: Context, wishes: Targets, stores: Mapping[str, Store], params: GensetParams, hot: BurnOff
) -> Targets:
    """The set at the load of a hot run, where batteries take what the others do not need."""
    charge_kw, least_kw = _charge_kw(context, params, hot)
    why = _why(params, hot)
    if charge_kw > 0.0 and sum(s.charge_kw for s in stores.values()) < USEFUL_RATIO * least_kw:
        return wishes
    run = {**wishes.genset_run, params.id: _rule(1.0, why)}
    wishes = replace(wishes, genset_run=run)
    if context.condition.forming in context.condition.bess:
        return replace(
            wishes, genset_p_kw={**wishes.genset_p_kw, params.id: _rule(_load_kw(params, hot), why)}
        )
    if charge_kw <= 0.0:
        return wishes
    shares = balanced(-charge_kw, stores)
    return replace(wishes, bess_p_kw={**wishes.bess_p_kw, **{b: _rule(v, why) for b, v in shares.items()}})


def _charge_kw(context: Context, params: GensetParams, hot: BurnOff) -> tuple[float, float]:
    """What batteries must take in an island for the load of a hot run, and what is enough for it [kW].

    Gensets that form share by their ratings: with this one at its load the others are at as much of theirs.
    Where a battery forms, they stay where they are. A run that goes on needs no more than the load that
    counts, so that the noise of readings does not end and begin it again.
    """
    c = context.condition
    others = [g for g in context.site.gensets if c.gensets[g.id].on_load and g.id != params.id]
    shared = c.forming not in c.bess
    wanted_kw, counts_kw = _load_kw(params, hot), hot.above_ratio * params.p_rated_kw
    per_kw = 1.0 + (sum(g.p_rated_kw for g in others) / params.p_rated_kw if shared else 0.0)
    held_kw = 0.0 if shared else sum(c.gensets[g.id].p_kw for g in others)
    charge_kw = per_kw * wanted_kw + held_kw - context.power.net_kw
    goes_on = c.gensets[params.id].p_kw >= counts_kw
    return charge_kw, charge_kw - (per_kw * max(0.0, wanted_kw - counts_kw) if goes_on else 0.0)


def _load_kw(params: GensetParams, hot: BurnOff) -> float:
    ratio = min(1.0, hot.above_ratio + ABOVE_RATIO)
    return max(params.p_min_kw, ratio * params.p_rated_kw)


def _why(params: GensetParams, hot: BurnOff) -> str:
    return f"hot run: {params.id} was at low load for more than {hot.after_h:g} h"


def _rule(value: float, why: str) -> Target:
    return Target(value=value, cause=Cause.RULES, reason=why)
