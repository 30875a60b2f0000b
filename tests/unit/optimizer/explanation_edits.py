"""What the words of a reason say is done to a problem here, by code of the tests' own."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ems.explanation import Reason
from optimizer.explain import Posed
from optimizer.intake import planning_problem
from optimizer.problem import PlanningProblem

if TYPE_CHECKING:
    from tests.unit.optimizer.explanation_check import Checker

NUMBER = r"-?\d+(?:\.\d+)?"


def near(said: float, true: float) -> bool:
    """A printed number: whole from 10 on, tenths below."""
    return abs(abs(said) - abs(true)) <= (0.0501 if abs(true) < 10.0 else 0.501)


def edited(c: "Checker", r: Reason) -> PlanningProblem | None:
    """The problem with what the words of a reason say; None where they cannot be read."""
    words = r.change
    for pattern, edit in EDITS.items():
        m = re.fullmatch(pattern.replace("N", f"({NUMBER})"), words)
        if m:
            return edit(c, r, *m.groups())
    return None


def again(c: "Checker", posed: Posed) -> PlanningProblem:
    """The arrays of a changed site; what is derived from prices, and what is stored now, stays."""
    new = planning_problem(posed.site, posed.condition, posed.forecast, posed.options)
    bess = tuple(replace(b, stored_kwh=a.stored_kwh) for b, a in zip(new.bess, c.p.bess, strict=True))
    return replace(
        new, bess=bess, months=c.p.months, terminal_per_kwh=c.p.terminal_per_kwh, integral=c.p.integral,
        exclusive=c.p.exclusive, shed_whole=c.p.shed_whole,
    )  # fmt: skip


def with_site(c: "Checker", **changes: Any) -> PlanningProblem:
    return again(c, replace(c.posed, site=replace(c.posed.site, **changes)))


def battery(c: "Checker", unit: str, **changes: Any) -> PlanningProblem:
    units = tuple(
        replace(b, battery=replace(b.battery, **changes)) if b.id == unit else b for b in c.posed.site.bess
    )
    return with_site(c, bess=units)


def genset(c: "Checker", unit: str, **changes: Any) -> PlanningProblem:
    units = tuple(replace(g, **changes) if g.id == unit else g for g in c.posed.site.gensets)
    return with_site(c, gensets=units)


def stronger(c: "Checker", ratio: float, unit: str) -> PlanningProblem:
    site, now = c.posed.site, c.posed.condition.bess[unit]
    b = next(b for b in site.bess if b.id == unit)
    more = replace(
        b,
        pcs=replace(b.pcs, s_kva=b.pcs.s_kva * ratio),
        battery=replace(
            b.battery,
            p_charge_kw_max=b.battery.p_charge_kw_max * ratio,
            p_discharge_kw_max=b.battery.p_discharge_kw_max * ratio,
            loss_charge_pu=b.battery.loss_charge_pu * ratio,
            loss_discharge_pu=b.battery.loss_discharge_pu * ratio,
        ),
    )
    live = replace(
        now, p_charge_kw_max=now.p_charge_kw_max * ratio, p_discharge_kw_max=now.p_discharge_kw_max * ratio
    )
    return again(
        c,
        replace(
            c.posed,
            site=replace(site, bess=tuple(more if x.id == unit else x for x in site.bess)),
            condition=replace(c.posed.condition, bess={**c.posed.condition.bess, unit: live}),
        ),
    )


def larger(c: "Checker", unit: str, more: float) -> PlanningProblem:
    site, now = c.posed.site, c.posed.condition.bess[unit]
    b = next(b.battery for b in site.bess if b.id == unit)
    share, new = b.energy_kwh / (b.energy_kwh + more), b.energy_kwh + more
    grown = replace(
        b, energy_kwh=new, soc_min=b.soc_min * share, soc_taper_low=b.soc_taper_low * share,
        soc_max=1.0 - (1.0 - b.soc_max) * share, soc_taper_high=1.0 - (1.0 - b.soc_taper_high) * share,
    )  # fmt: skip
    units = tuple(replace(x, battery=grown) if x.id == unit else x for x in site.bess)
    turns = tuple(x * share for x in now.turns_soc)
    live = {**c.posed.condition.bess, unit: replace(now, soc=now.soc * share, turns_soc=turns)}
    return again(
        c,
        replace(c.posed, site=replace(site, bess=units), condition=replace(c.posed.condition, bess=live)),
    )


def lower(c: "Checker", unit: str, to: float) -> PlanningProblem:
    b = next(b.battery for b in c.posed.site.bess if b.id == unit)
    return battery(c, unit, soc_min=to, soc_taper_low=max(to, b.soc_taper_low - (b.soc_min - to)))


def price(c: "Checker", r: Reason, to: float, now: float, span: str) -> PlanningProblem | None:
    m = re.fullmatch(r"forecast.import_per_kwh\[(\d+):(\d+)\]", r.key)
    assert m
    a, z = int(m[1]), int(m[2])
    starts = [*c.plan.grid.starts(), c.plan.grid.end]
    if span != c.span(starts[a], starts[z]) or np.abs(c.p.import_per_kwh[a:z] - now).max() > 1e-6:
        return None
    new = c.p.import_per_kwh.copy()
    new[a:z] = to
    return replace(c.p, import_per_kwh=new)


def no_demand(c: "Checker", rate: float, base: float, peak: float) -> PlanningProblem | None:
    here = c.p.months[0]
    said = abs(rate - here.rate_per_kw) < 1e-4 * rate and near(base, here.base_kw)
    if not said or not near(peak, c.plan.peak_import_kw):
        return None
    following = c.p.months[1]
    return replace(c.p, months=(replace(here, rate_per_kw=0.0), replace(following, rate_per_kw=0.0)))


def in_island(c: "Checker", steps: Sequence[int], top: str, much: str) -> bool:
    """What loads less PV take in steps without mains."""
    net = (c.p.load_kw.sum(axis=0) - c.p.pv_kw.sum(axis=0))[list(steps)]
    return near(float(top), net.max()) and near(float(much), float(net @ c.p.step_h[list(steps)]))


def no_outage(c: "Checker", r: Reason, span: str, top: str, much: str) -> PlanningProblem | None:
    name = r.key.removeprefix("outages.")
    notices = (*c.posed.site.outages, *c.posed.forecast.outages)
    if all(c.span(o.start, o.end) != span for o in notices if o.id == name):
        return None
    notice = next(o for o in notices if o.id == name)
    edges = [*c.plan.grid.starts(), c.plan.grid.end]
    away = [
        t
        for t in np.flatnonzero(~c.p.grid_available).tolist()
        if edges[t] < notice.end and edges[t + 1] > notice.start
    ]
    if not in_island(c, away, top, much):
        return None
    keep = tuple(o for o in c.posed.forecast.outages if o.id != name)
    at_site = tuple(o for o in c.posed.site.outages if o.id != name)
    posed = replace(c.posed, forecast=replace(c.posed.forecast, outages=keep))
    return again(c, replace(posed, site=replace(c.posed.site, outages=at_site)))


def mains_now(c: "Checker", when: str, top: str, much: str) -> PlanningProblem | None:
    starts = c.plan.grid.starts()
    back = next(
        (t for t, s in enumerate(starts) if s.astimezone(c.zone).strftime("%a %H:%M") == when), len(starts)
    )
    known = c.p.grid_available.copy()
    known[:back] = True
    kept = [o for o in (*c.posed.site.outages, *c.posed.forecast.outages) if o.start > c.posed.condition.at]
    for o in kept:
        for t in range(back):
            known[t] &= not (starts[t] < o.end and o.start < [*starts, c.plan.grid.end][t + 1])
    if not in_island(c, np.flatnonzero(known & ~c.p.grid_available).tolist(), top, much):
        return None
    return replace(c.p, grid_available=known)


def begins(c: "Checker", unit: str, **changes: Any) -> PlanningProblem:
    """A genset that starts otherwise."""
    i = [g.id for g in c.posed.site.gensets].index(unit)
    units = tuple(replace(x, **changes) if k == i else x for k, x in enumerate(c.p.gensets))
    return replace(c.p, gensets=units)


def no_maintenance(c: "Checker", unit: str, span: str) -> PlanningProblem | None:
    windows = c.posed.site.maintenance
    keep = tuple(w for w in windows if w.asset != unit or c.span(w.start, w.end) != span)
    return None if len(keep) == len(windows) else with_site(c, maintenance=keep)


def grid(c: "Checker", **changes: Any) -> PlanningProblem:
    return with_site(c, grid=replace(c.posed.site.grid, **changes))


def tariff(c: "Checker", **changes: Any) -> PlanningProblem:
    return with_site(c, tariff=replace(c.posed.site.tariff, **changes))


def low_load(c: "Checker", unit: str) -> PlanningProblem:
    """Free, with a budget and an interval that never end."""
    old = next(g.low_load for g in c.posed.site.gensets if g.id == unit)
    assert old is not None
    budget = old.budget_h if old.budget_h is None else 1e5
    burn = old.burn_off if old.burn_off is None else replace(old.burn_off, after_h=1e5)
    return genset(c, unit, low_load=replace(old, price_per_kwh=0.0, budget_h=budget, burn_off=burn))


def no_rating(c: "Checker", unit: str) -> PlanningProblem:
    old = next(g.rating for g in c.posed.site.gensets if g.id == unit)
    assert old is not None
    mean = old.mean_ratio_max if old.mean_ratio_max is None else 10.0
    return genset(
        c, unit, rating=replace(old, mean_ratio_max=mean, year_h_max=None if old.year_h_max is None else 1e5)
    )


def no_exercise(c: "Checker", unit: str) -> PlanningProblem:
    old = next(g.exercise for g in c.posed.site.gensets if g.id == unit)
    assert old is not None
    return genset(c, unit, exercise=replace(old, every_h=1e5))


def no_contract(c: "Checker", field: str, name: str) -> PlanningProblem | None:
    contracts = c.posed.site.tariff.contracts
    old = getattr(contracts, field)
    rest = tuple(x for x in old if (x.id if field == "events" else x.name) != name)
    return None if len(rest) == len(old) else tariff(c, contracts=replace(contracts, **{field: rest}))


def no_charge(c: "Checker", name: str) -> PlanningProblem | None:
    charges = c.posed.site.tariff.demand_charges
    if all(x.name != name for x in charges):
        return None
    free = [replace(x, per_kw=0.0, excess_per_kw=0.0) if x.name == name else x for x in charges]
    return tariff(c, demand_charges=tuple(free))


def any_time(c: "Checker", unit: str) -> PlanningProblem:
    """The work of a device open from the first step, due at the end of the last."""
    i, T = [d.id for d in c.posed.site.deferrables].index(unit), c.p.steps
    old = c.p.deferrables[i]
    due, ends = np.zeros(T), np.zeros(T, dtype=bool)
    due[-1], ends[-1] = old.due_kwh[-1], True
    opened = np.full(T, old.opened_kwh[-1])
    new = replace(old, share=np.ones(T), due_kwh=due, opened_kwh=opened, ends=ends)
    return replace(c.p, deferrables=tuple(new if k == i else x for k, x in enumerate(c.p.deferrables)))


def reserve(c: "Checker", said: str | None = None, **changes: Any) -> PlanningProblem | None:
    """Without something to be held ready, if the site asks for what is said."""
    policy = c.posed.site.reserve
    for name in changes:
        now = getattr(policy, name)
        told = " or ".join(now) if isinstance(now, tuple) else float(now)
        if said is not None and (told != said if isinstance(told, str) else not near(told, float(said))):
            return None
    return with_site(c, reserve=replace(policy, **changes))


EDITS: dict[str, Callable[..., PlanningProblem | None]] = {
    r"without demand charge \(N \w+/kW in this window above N kW, planned peak N kW\)": lambda c, r, *n: (
        no_demand(c, *(float(x) for x in n))
    ),
    r"if cycles of (\S+) did not wear": lambda c, r, unit: battery(c, unit, cycle_life=None),
    r"with nothing of (\S+) held back for outages": lambda c, r, unit: battery(c, unit, soc_reserve=()),
    r"if (\S+) could rest full at no price": lambda c, r, unit: battery(c, unit, resting=None),
    r"without the warranty limits of (\S+)": lambda c, r, unit: battery(c, unit, warranty=None),
    r"without the calibration charge of (\S+)": lambda c, r, unit: battery(c, unit, full_charge=None),
    r"without the temperature limits of (\S+)": lambda c, r, unit: battery(c, unit, derating=()),
    r"without limits on low load of (\S+)": lambda c, r, unit: low_load(c, unit),
    r"without the limits of the rating of (\S+)": lambda c, r, unit: no_rating(c, unit),
    r"without exercise runs of (\S+)": lambda c, r, unit: no_exercise(c, unit),
    r"with the running hours of (\S+) not balanced": lambda c, r, unit: genset(c, unit, balance_per_h=0.0),
    r"without lower caps at their times": lambda c, r: grid(c, caps=()),
    r"without the limit of the transformer": lambda c, r: grid(c, transformer=None),
    r"without the ramp limit of the interconnection": lambda c, r: grid(c, ramp_kw_s=None),
    r"if mains that come back were counted on at once": lambda c, r: grid(c, flapping=None),
    r"without the short-circuit ratio that inverters need": lambda c, r: grid(c, strength=None),
    r"without the voltage band, no reactive power planned": lambda c, r: grid(c, reactive=None),
    r"without the demand charge (.+)": lambda c, r, name: no_charge(c, name),
    r"without the minimum of N \w+ a month": lambda c, r, now: tariff(c, minimum_per_month=0.0),
    r"if export were paid for and not credited": lambda c, r: tariff(c, export_credit=None),
    r"without the charge on coincident peaks (.+)": lambda c, r, name: no_contract(
        c, "coincident_peaks", name
    ),
    r"without the energy contract (.+)": lambda c, r, name: no_contract(c, "energy", name),
    r"without the demand-response event (.+)": lambda c, r, name: no_contract(c, "events", name),
    r"without energy blocks": lambda c, r: tariff(c, energy_blocks=()),
    r"without power factor charge": lambda c, r: tariff(c, power_factor=None),
    r"without the table of permitted sources": lambda c, r: with_site(c, sources=None),
    r"with (\S+) free to do its work at any time of the horizon": lambda c, r, unit: any_time(c, unit),
    r"without cover beside the grid for the loss of a (.*)": lambda c, r, what: reserve(
        c, what, n_minus_1_tied=()
    ),
    r"without cover for a drop of N% of the PV": lambda c, r, n: reserve(
        c, str(float(n) / 100.0), pv_drop_ratio=0.0
    ),
    r"without N h of fuel to be kept": lambda c, r, n: reserve(c, n, fuel_h=0.0),
    r"with (\S+) available": lambda c, r, unit: begins(c, unit, available=True, ready_h=0.0, age_h=1e3),
    r"with (\S+) on load without start delay": lambda c, r, unit: begins(c, unit, ready_h=0.0),
    r"without the maintenance of (\S+) (.*)": lambda c, r, unit, span: no_maintenance(c, unit, span),
    r"without the quiet hours of (\S+)": lambda c, r, unit: genset(c, unit, quiet=()),
    r"with (\S+) free to start more than N times a day": lambda c, r, unit, n: genset(
        c, unit, starts_per_day_max=None
    ),
    r"with starts of (\S+) at no cost instead of N \w+": lambda c, r, unit, now: genset(
        c, unit, start_cost=0.0, cold_start_cost=None, start_types=()
    ),
    r"without reserve for N% of the load": lambda c, r, n: reserve(c, str(float(n) / 100.0), load_ratio=0.0),
    r"without reserve for N% of the PV": lambda c, r, n: reserve(c, str(float(n) / 100.0), pv_ratio=0.0),
    r"without reserve that lasts for N failed starts": lambda c, r, n: reserve(c, n, failed_starts=0),
    r"without cover for the loss of a (.*)": lambda c, r, what: reserve(c, what, n_minus_1=()),
    r"without cover for a motor start of N kW": lambda c, r, n: reserve(c, n, motor_start_kw=0.0),
    r"without cover for a load trip of N kW": lambda c, r, n: reserve(c, n, load_trip_kw=0.0),
    r"without an outage of N h to be survived": lambda c, r, n: reserve(c, n, survive_h=0.0),
    r"without gensets on load for N times the load": lambda c, r, n: reserve(c, n, running_ratio=0.0),
    r"without reserve to be held": lambda c, r: with_site(
        c, reserve=replace(c.posed.site.reserve, shortfall_per_kwh=0.0)
    ),
    r"if energy left in the end were worth nothing": lambda c, r: replace(
        c.p, terminal_per_kwh=np.zeros_like(c.p.terminal_per_kwh)
    ),
    r"if (\S+) did not wear": lambda c, r, unit: battery(c, unit, wear_per_kwh=0.0),
    r"with import at N \w+/kWh instead of N \w+/kWh from (.*)": lambda c, r, to, now, span: price(
        c, r, float(to), float(now), span
    ),
    r"with an import cap of N kW instead of N kW": lambda c, r, to, now: with_site(
        c, grid=replace(c.posed.site.grid, p_import_kw_max=float(to))
    ),
    r"with an export cap of N kW instead of N kW": lambda c, r, to, now: with_site(
        c, grid=replace(c.posed.site.grid, p_export_kw_max=float(to))
    ),
    r"with N times the power of (\S+), N kW": lambda c, r, ratio, unit, to: stronger(c, float(ratio), unit),
    r"with N instead of N kWh of (\S+), and no more stored now": lambda c, r, to, now, unit: larger(
        c, unit, float(to) - float(now)
    ),
    r"with (\S+) down to N% instead of N% of its energy": lambda c, r, unit, to, now: lower(
        c, unit, float(to) / 100.0
    ),
    r"with a minimum load of (\S+) of N kW instead of N kW": lambda c, r, unit, to, now: genset(
        c, unit, p_min_kw=float(to)
    ),
    r"with no (\S+) min up time instead of N min": lambda c, r, unit, now: genset(c, unit, min_up_s=0.0),
    r"with no (\S+) min down time instead of N min": lambda c, r, unit, now: genset(c, unit, min_down_s=0.0),
    r"with diesel at N \w+/L instead of N \w+/L": lambda c, r, to, now: with_site(c, diesel_per_l=float(to)),
    r"without the outage (.*) \(load less PV up to N kW, N kWh\)": no_outage,
    r"with mains from now on, not only from (.*) \(load less PV up to N kW, N kWh\)": lambda c, r, *said: (
        mains_now(c, *said)
    ),
}
