"""What a battery's warranty allows: energy in a day and in a year, C-rates, the mean state of charge.

    used_t >= used_t-1 + D_t d_t - fresh_t - over_t,     used_t >= D_t d_t - over_t,     used_t <= most
    fresh_t = 0 but in the first step of a day (a year), where it is free
    used_T <= room + ahead                                        an even share of what is left of the year
    sum c_t <= r E + fast_t,     discharge alike                  C-rates
    (sum_t D_t e_t) / (sum_t D_t) <= room E + high                mean state of charge of the year

used_t is what has been discharged since the day (the year) began, the use before the plan counted in; a new
day begins at nothing again, `fresh` is free then. All of it is contract and therefore soft: `over`, `ahead`
and `high` are kWh, `fast` is kW. An even share is what is left of the year by the share of its rest that the
window is; going ahead of it has the site's price, none unless said otherwise.

Source: the terms are the contract's. A counter with resets keeps the calendar out of the matrix, which is
laid out once for every hour of the day.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.assets import BatteryParams
from ems.battery_terms import Warranty
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.formulations.battery import flow
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SHOWN_KWH = 0.05
SPANS = ("day", "year")


def covered(s: Structure) -> list[tuple[int, BatteryParams, Warranty]]:
    """Batteries with a warranty, with their place among all."""
    units = [(b, x.battery, x.battery.warranty) for b, x in enumerate(s.site.bess)]
    return [(b, p, w) for b, p, w in units if w is not None]


def spans(w: Warranty) -> list[tuple[str, float]]:
    """Spans of time with a limit on what is discharged [kWh]."""
    limits = zip(SPANS, (w.day_kwh_max, w.year_kwh_max), strict=True)
    return [(span, most) for span, most in limits if most is not None]


def rates(p: BatteryParams, w: Warranty) -> list[tuple[int, str, float]]:
    """Power limits by C-rate: (0 charge or 1 discharge, variable, limit [kW])."""
    found = ((0, "charge_kw", w.charge_per_h_max), (1, "discharge_kw", w.discharge_per_h_max))
    return [(way, name, rate * p.energy_kwh) for way, name, rate in found if rate is not None]


def add(m: Model, s: Structure) -> None:
    """used_day_kwh_b, fresh_day_kwh_b, over_day_kwh_b (T,), alike of the year; ahead, fast, high."""
    for b, p, w in covered(s):
        for span, _ in spans(w):
            _add_counter(m, s, b, span)
        if w.year_kwh_max is not None and w.pace_per_kwh > 0.0:
            ahead, room = m.var(f"ahead_kwh_{b}", 1), m.par(f"pace_room_kwh_{b}", 1)
            used = m[f"used_year_kwh_{b}"]
            m.rows(
                f"pace_{b}",
                (1,),
                lambda k, used=used, ahead=ahead, room=room: used[s.steps - 1] - ahead[k] <= room[k],
            )
        if rates(p, w):
            fast = m.var(f"fast_kw_{b}", 2, s.steps)
            for way, name, most in rates(p, w):
                m.rows(
                    f"c_rate_{b}_{way}",
                    (s.steps,),
                    lambda t, b=b, way=way, name=name, most=most, fast=fast: (
                        flow(m, name, b, t) - fast[way, t] <= most
                    ),
                )
        if w.mean_soc_max is not None:
            high, mean = m.var(f"mean_over_kwh_{b}", 1), m.par(f"mean_room_kwh_{b}", 1)
            stored, hours = m["stored_kwh"], float(s.step_h.sum())
            m.rows(
                f"mean_soc_{b}",
                (1,),
                lambda k, b=b, high=high, mean=mean, stored=stored, hours=hours: (
                    sum(float(s.step_h[t] / hours) * stored[b, t] for t in range(s.steps)) - high[k]
                    <= mean[k]
                ),
            )


def _add_counter(m: Model, s: Structure, b: int, span: str) -> None:
    used, fresh = m.var(f"used_{span}_kwh_{b}", s.steps), m.var(f"fresh_{span}_kwh_{b}", s.steps)
    over, before = m.var(f"over_{span}_kwh_{b}", s.steps), m.par(f"used_{span}_before_kwh_{b}", 1)

    def counts(t: int) -> Expr:
        last = used[t - 1] if t else before[0]
        return used[t] - last - float(s.step_h[t]) * flow(m, "discharge_kw", b, t) + fresh[t] + over[t] >= 0.0

    def own(t: int) -> Expr:
        return used[t] - float(s.step_h[t]) * flow(m, "discharge_kw", b, t) + over[t] >= 0.0

    m.rows(f"counts_{span}_{b}", (s.steps,), counts)
    m.rows(f"counts_own_{span}_{b}", (s.steps,), own)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Use before the plan, where days and years begin, limits and prices."""
    price = ladder(s.site).battery_care_per_kwh
    for b, params, w in covered(s):
        care = p.bess[b].care
        begins = {"day": (care.day_begins, care.day_used_kwh), "year": (care.year_begins, care.year_used_kwh)}
        for span, most in spans(w):
            first, used_kwh = begins[span]
            n.par(f"used_{span}_before_kwh_{b}", min(most, used_kwh))
            n.bound(f"used_{span}_kwh_{b}", 0.0, most)
            n.bound(f"fresh_{span}_kwh_{b}", 0.0, np.where(first, np.inf, 0.0))
            n.bound(f"over_{span}_kwh_{b}", 0.0, np.inf)
            n.price("battery_warranty", f"over_{span}_kwh_{b}", price)
        if f"ahead_kwh_{b}" in n.shapes:
            most = np.inf if w.year_kwh_max is None else w.year_kwh_max
            n.par(f"pace_room_kwh_{b}", min(care.pace_room_kwh, most))
            n.bound(f"ahead_kwh_{b}", 0.0, np.inf)
            n.price("battery_warranty", f"ahead_kwh_{b}", w.pace_per_kwh)
        if f"fast_kw_{b}" in n.shapes:
            n.bound(f"fast_kw_{b}", 0.0, np.inf)
            n.price("battery_warranty", f"fast_kw_{b}", price * s.step_h)
        if w.mean_soc_max is not None:
            n.par(f"mean_room_kwh_{b}", care.mean_room_soc * params.energy_kwh)
            n.bound(f"mean_over_kwh_{b}", 0.0, np.inf)
            n.price("battery_warranty", f"mean_over_kwh_{b}", price)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Terms of the warranty that are not kept."""
    for b, params, w in covered(s):
        name = s.site.bess[b].id
        for span, most in spans(w):
            over = float(v[f"over_{span}_kwh_{b}"].sum())
            if over > SHOWN_KWH:
                yield f"{name}: {over:.1f} kWh discharged beyond the {most:g} kWh a {span} of its warranty"
        for way, _, most in rates(params, w):
            word = ("charged", "discharged")[way]
            yield from missed_kw(
                p, f"{name}: {word} faster than the {most:g} kW of its warranty", v[f"fast_kw_{b}"][way]
            )
        if w.mean_soc_max is not None and (high := float(v[f"mean_over_kwh_{b}"][0])) > SHOWN_KWH:
            yield (
                f"{name}: mean state of charge {100.0 * high / params.energy_kwh:.1f} points above what its "
                f"warranty leaves for this window"
            )
