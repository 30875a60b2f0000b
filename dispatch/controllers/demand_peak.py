"""Demand peaks that the last plan reckoned with, kept for the rules: they hold them when no plan is followed.

A peak counts while its charge is in force and its billing month lasts. Of a month that has only begun nobody
knows yet which peak is worth holding: there is no target before a plan of that month was followed.
"""

from collections.abc import Iterator
from datetime import datetime

from dispatch.vocabulary import Context, PeakTargets
from ems.plan import Plan
from ems.tariff import MAIN_CHARGE, DemandCharge, Tariff


def planned_peaks(tariff: Tariff, known: PeakTargets, plan: Plan, now: datetime) -> PeakTargets:
    """The targets of a plan that is followed, by demand charge [kW]; `known` again while they are these.

    A further charge has the highest import limit of the steps in which it counts; where the plan has none of
    them, what was known of it in the same month stays.
    """
    month = tariff.month(now)
    if (known.month, known.plan_id) == (month, plan.plan_id):
        return known
    if tariff.month(plan.grid.start) != month:  # made for the month before
        return PeakTargets(month=month, plan_id=plan.plan_id)
    targets = dict(known.by_charge_kw) if known.month == month else {}
    if tariff.demand_charge_per_kw > 0.0:
        targets[MAIN_CHARGE] = plan.peak_import_kw
    limits = zip(plan.grid.starts(), plan.import_limit_kw, strict=False) if tariff.demand_charges else ()
    found: dict[str, float] = {}
    for start, limit_kw in limits:
        for charge in _priced(tariff, start) if tariff.month(start) == month else ():
            if charge.name != MAIN_CHARGE:
                found[charge.name] = max(limit_kw, found.get(charge.name, 0.0))
    return PeakTargets(month=month, plan_id=plan.plan_id, by_charge_kw=targets | found)


def held_peak_kw(context: Context) -> float | None:
    """Import that raises no demand charge in force now above what the last plan reckoned with [kW].

    A peak of this month that is higher is paid for already. None: no charge is in force, no plan of this
    billing month was followed, or nobody knows which month it is.
    """
    tariff, c, known, now = context.site.tariff, context.condition, context.memory.peaks, context.now
    if now is None or not known.by_charge_kw or known.month != tariff.month(now):
        return None
    held = []
    for charge in _priced(tariff, now):
        target_kw = known.by_charge_kw.get(charge.name)
        if target_kw is None:
            continue
        paid_kw = c.peak_import_kw if charge.name == MAIN_CHARGE else c.charge_peaks_kw.get(charge.name, 0.0)
        held.append(target_kw if charge.apparent else max(target_kw, paid_kw))  # kVA are no kW
    return min(held, default=None)


def _priced(tariff: Tariff, when: datetime) -> Iterator[DemandCharge]:
    """Demand charges that count at an aware time and cost something."""
    return (c for c in tariff.charges_at(when) if c.per_kw > 0.0 or c.excess_per_kw > 0.0)
