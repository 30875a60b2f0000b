"""Limits and prices of a site as things that can be changed, one at a time, named after their keys.

Setpoints are asked with small changes (a limit a tenth wider), which leave the rest of the plan as it is;
commitment is all or nothing and is asked with the limit gone.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from ems.assets import BatteryParams, BessParams, PcsParams
from ems.explanation import ReasonCode
from ems.outage import OutageNotice, known_outages
from ems.site import Site
from ems.timegrid import BoolArray, TimeGrid
from optimizer.explain.changes_families import family_changes, with_bess
from optimizer.explain.changes_gensets import calendar_limits, diesel, genset_limits, minimum_times
from optimizer.explain.changes_reserve import reserve_limits
from optimizer.explain.posed import Change, Posed, with_site
from optimizer.explain.words import Words, exactly_kw, kw, kwh
from optimizer.problem import PlanningProblem

WIDER_RATIO = 1.1
LIFTED_RATIO = 10.0
SAME_PRICE = 1e-9


def changes(posed: Posed, p: PlanningProblem, *, lifted: bool, burning: bool, peak_kw: float) -> list[Change]:
    """Everything that is asked about; limits a tenth wider, or lifted and minimum times gone.

    `peak_kw` is the plan's, of the present month.
    `burning`: a genset runs in the plan; else its limits and the price of fuel have no part in it.
    """
    site = posed.site
    out = [*outages(posed, p), *_prices(posed, p), *grid_limits(site, lifted)]
    for i in range(len(site.bess)):
        out += [*battery_limits(posed, i, lifted), *_wear(i, site.bess[i])]
    for i in range(len(site.gensets) if burning else 0):
        out += genset_limits(site, i)
        out += [*minimum_times(site, i), *calendar_limits(posed, p, i)] if lifted else ()
    return [*family_changes(posed, p), *policies(site, p, peak_kw), *out, *(diesel(site) if burning else ())]


def outages(posed: Posed, p: PlanningProblem) -> Iterator[Change]:
    """Each announced outage to come, and the island of now."""
    say, later = Words(posed.site), np.zeros(p.steps, dtype=np.bool_)
    for notice in known_outages((*posed.site.outages, *posed.forecast.outages), posed.forecast.issued_at):
        where = overlapped(p.grid, notice.start, notice.end)
        if notice.start <= posed.condition.at or not (where & p.islanded).any():
            continue
        later |= where
        yield Change(
            key=f"outages.{notice.id}",
            code=ReasonCode.OUTAGE,
            words=f"without the outage {say.span(notice.start, notice.end)} {_in_it(p, where & p.islanded)}",
            apply=_without(notice),
            span=_span(where & p.islanded),
        )
    here = p.islanded & ~later
    if here.any():
        last = int(np.flatnonzero(here)[-1])
        until = p.grid.starts()[last] + timedelta(seconds=p.grid.step_s[last])
        yield Change(
            key="grid.reconnect_dwell_s" if posed.condition.mains_good else "reserve.assumed_outage_h",
            code=ReasonCode.OUTAGE,
            words=f"with mains from now on, not only from {say.at(until)} {_in_it(p, here)}",
            span=_span(here),
            adjust=lambda q: replace(q, grid_available=q.grid_available | here),
        )


def _span(where: BoolArray) -> tuple[int, int]:
    steps = np.flatnonzero(where)
    return int(steps[0]), int(steps[-1])


def _in_it(p: PlanningProblem, where: BoolArray) -> str:
    """What the loads take meanwhile."""
    net = (p.load_kw.sum(axis=0) - p.pv_kw.sum(axis=0))[where]
    return f"(load less PV up to {kw(float(net.max()))}, {kwh(float(net @ p.step_h[where]))})"


def overlapped(grid: TimeGrid, start: datetime, end: datetime) -> BoolArray:
    """(T,) steps that a span of time touches."""
    start_s, end_s = (start - grid.start).total_seconds(), (end - grid.start).total_seconds()
    out: BoolArray = (grid.offset_s[:-1] < end_s - 1.0) & (grid.offset_s[1:] > start_s + 1.0)
    return out


def _without(notice: OutageNotice) -> Callable[[Posed], Posed]:
    def apply(x: Posed) -> Posed:
        site = x.site
        if any(o.id == notice.id for o in site.outages):
            site = replace(site, outages=tuple(o for o in site.outages if o.id != notice.id))
        others = tuple(o for o in x.forecast.outages if o.id != notice.id)
        return replace(x, site=site, forecast=replace(x.forecast, outages=others))

    return apply


def price_runs(prices: np.ndarray) -> list[tuple[int, int]]:
    """Runs of steps with one price: (first, last)."""
    edges = np.flatnonzero(np.abs(np.diff(prices)) > SAME_PRICE)
    firsts, lasts = [0, *(edges + 1).tolist()], [*edges.tolist(), len(prices) - 1]
    return list(zip(firsts, lasts, strict=True))


def _prices(posed: Posed, p: PlanningProblem) -> Iterator[Change]:
    """Each run of one import price: the dear ones as cheap as the cheapest, the cheapest a level dearer."""
    say, starts, price = Words(posed.site), p.grid.starts(), p.import_per_kwh
    levels = np.unique(np.round(price, 9))
    if len(levels) < 2 or len(price_runs(price)) > 40:
        return
    for first, last in price_runs(price):
        if not p.grid_available[first : last + 1].any():
            continue
        now = float(price[first])
        to = float(levels[1]) if now <= levels[0] + SAME_PRICE else float(levels[0])
        end = starts[last] + timedelta(seconds=p.grid.step_s[last])

        def adjust(q: PlanningProblem, a: int = first, z: int = last, to: float = to) -> PlanningProblem:
            new = q.import_per_kwh.copy()
            new[a : z + 1] = to
            return replace(q, import_per_kwh=new)

        yield Change(
            key=f"forecast.import_per_kwh[{first}:{last + 1}]",
            code=ReasonCode.PRICE,
            words=f"with import at {say.price(to)} instead of {say.price(now)} "
            f"from {say.span(starts[first], end)}",
            adjust=adjust,
            steps=(first, last),
        )


def grid_limits(site: Site, lifted: bool) -> Iterator[Change]:
    """Both caps of the interconnection; where nothing may be exported, a share of the import cap may."""
    ratio, g = LIFTED_RATIO if lifted else WIDER_RATIO, site.grid
    out = ratio * g.p_export_kw_max if g.p_export_kw_max > 0.0 else (ratio - 1.0) * g.p_import_kw_max
    for key, now, new in (
        ("p_import_kw_max", g.p_import_kw_max, ratio * g.p_import_kw_max),
        ("p_export_kw_max", g.p_export_kw_max, out),
    ):

        def edit(s: Site, key: str = key, new: float = new) -> Site:
            if key == "p_import_kw_max":
                return replace(s, grid=replace(s.grid, p_import_kw_max=new))
            return replace(s, grid=replace(s.grid, p_export_kw_max=new))

        yield Change(
            key=f"grid.{key}",
            code=ReasonCode.LIMIT,
            words=f"with an {key[2:8]} cap of {exactly_kw(new)} instead of {exactly_kw(now)}",
            apply=with_site(edit),
        )


def battery_limits(posed: Posed, i: int, lifted: bool) -> Iterator[Change]:
    """Power both ways, and both ends of the window of stored energy; nothing of a battery that is away."""
    unit = posed.site.bess[i]
    now, p = posed.condition.bess.get(unit.id), unit.battery
    if now is None or not now.available:
        return
    ratio, key = 2.0 if lifted else WIDER_RATIO, f"bess.{unit.id}.battery"
    yield Change(
        key=f"{key}.p_discharge_kw_max",
        code=ReasonCode.LIMIT,
        words=f"with {ratio:g} times the power of {unit.id}, {exactly_kw(ratio * p.p_discharge_kw_max)}",
        apply=_stronger(i, ratio),
    )
    more = (ratio - 1.0) * p.energy_kwh
    yield Change(
        key=f"{key}.energy_kwh",
        code=ReasonCode.LIMIT,
        words=f"with {p.energy_kwh + more:.7g} instead of {p.energy_kwh:.7g} kWh of {unit.id}, "
        "and no more stored now",
        apply=with_battery_room(i, more),
    )
    if p.soc_min > 0.0:
        to = 0.0 if lifted else max(0.0, p.soc_min - 0.1 * (p.soc_max - p.soc_min))
        less = p.soc_min - to
        yield Change(
            key=f"{key}.soc_min",
            code=ReasonCode.LIMIT,
            words=f"with {unit.id} down to {100.0 * to:.6g}% "
            f"instead of {100.0 * p.soc_min:.6g}% of its energy",
            apply=with_bess(
                i, lambda b: replace(b, soc_min=to, soc_taper_low=max(to, b.soc_taper_low - less))
            ),
        )


def _scaled(pcs: PcsParams, ratio: float) -> PcsParams:
    own = None if pcs.capability is None else pcs.capability.scaled(ratio)
    return replace(pcs, s_kva=ratio * pcs.s_kva, capability=own)


def _stronger(i: int, ratio: float) -> Callable[[Posed], Posed]:
    """Times the power, with the loss of a given power as it is."""

    def apply(x: Posed) -> Posed:
        b = x.site.bess[i]
        battery = replace(
            b.battery,
            p_charge_kw_max=ratio * b.battery.p_charge_kw_max,
            p_discharge_kw_max=ratio * b.battery.p_discharge_kw_max,
            loss_charge_pu=ratio * b.battery.loss_charge_pu,
            loss_discharge_pu=ratio * b.battery.loss_discharge_pu,
        )
        unit = replace(b, battery=battery, pcs=_scaled(b.pcs, ratio))
        now = x.condition.bess[b.id]
        live = replace(
            now,
            p_charge_kw_max=ratio * now.p_charge_kw_max,
            p_discharge_kw_max=ratio * now.p_discharge_kw_max,
        )
        bess = tuple(unit if k == i else other for k, other in enumerate(x.site.bess))
        return replace(
            x,
            site=replace(x.site, bess=bess),
            condition=replace(x.condition, bess={**x.condition.bess, b.id: live}),
        )

    return apply


def with_battery_room(i: int, more_kwh: float) -> Callable[[Posed], Posed]:
    """Room for more energy above the present window; what is stored stays."""

    def edit(b: BatteryParams) -> BatteryParams:
        old, new = b.energy_kwh, b.energy_kwh + more_kwh
        return replace(
            b,
            energy_kwh=new,
            soc_min=b.soc_min * old / new,
            soc_max=(b.soc_max * old + more_kwh) / new,
            soc_taper_low=b.soc_taper_low * old / new,
            soc_taper_high=(b.soc_taper_high * old + more_kwh) / new,
        )

    def apply(x: Posed) -> Posed:
        unit = x.site.bess[i]
        now, share = x.condition.bess[unit.id], unit.battery.energy_kwh / (unit.battery.energy_kwh + more_kwh)
        y = with_bess(i, edit)(x)
        turns = tuple(soc * share for soc in now.turns_soc)
        bess = {**x.condition.bess, unit.id: replace(now, soc=now.soc * share, turns_soc=turns)}
        return replace(y, condition=replace(x.condition, bess=bess))

    return apply


def _wear(i: int, unit: BessParams) -> Iterator[Change]:
    if unit.battery.wear_per_kwh > 0.0:
        yield Change(
            key=f"bess.{unit.id}.battery.wear_per_kwh",
            code=ReasonCode.PRICE,
            words=f"if {unit.id} did not wear",
            apply=with_bess(i, lambda b: replace(b, wear_per_kwh=0.0)),
        )
    if (life := unit.battery.cycle_life) is not None:
        free = replace(life, replacement_cost=0.0)
        yield Change(
            key=f"bess.{unit.id}.battery.cycle_life.replacement_cost",
            code=ReasonCode.PRICE,
            words=f"if cycles of {unit.id} did not wear",
            apply=with_bess(i, lambda b: replace(b, cycle_life=free)),
        )


def policies(site: Site, p: PlanningProblem, peak_kw: float) -> Iterator[Change]:
    """What no asset has: reserve, demand charge, value of what is left in the end."""
    if site.tariff.demand_charge_per_kw > 0.0:
        here = p.months[0]
        rate = f"{here.rate_per_kw:.5g} {site.currency}/kW in this window above {kw(here.base_kw)}"
        yield Change(
            key="tariff.demand_charge_per_kw",
            code=ReasonCode.PRICE,
            words=f"without demand charge ({rate}, planned peak {kw(peak_kw)})",
            apply=with_site(lambda s: replace(s, tariff=replace(s.tariff, demand_charge_per_kw=0.0))),
        )
    if site.reserve.shortfall_per_kwh > 0.0:
        yield from reserve_limits(site)
        yield Change(
            key="reserve",
            code=ReasonCode.RESERVE,
            words="without reserve to be held",
            apply=with_site(lambda s: replace(s, reserve=replace(s.reserve, shortfall_per_kwh=0.0))),
        )
    if site.bess:
        yield Change(
            key="terminal_per_kwh",
            code=ReasonCode.STORED_ENERGY,
            words="if energy left in the end were worth nothing",
            adjust=lambda q: replace(q, terminal_per_kwh=0.0 * q.terminal_per_kwh),
        )
