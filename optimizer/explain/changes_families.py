"""What a site may ask for beside its physics, taken away: one entry for each constraint family.

Care of batteries and gensets, the interconnection, further parts of the tariff, deferrable work, permitted
sources. Each is a key of the site file that is absent by default; the change makes it absent again.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from ems.assets import BatteryParams, BessParams, GridParams, LowLoad, Rating
from ems.deferrable import DeferrableParams
from ems.explanation import ReasonCode
from ems.site import Site
from ems.tariff import DemandCharge, Tariff
from optimizer.explain.posed import Change, Posed, with_genset, with_site
from optimizer.problem import DeferrableStart, PlanningProblem

PLENTY_H, PLENTY_RATIO = 1e5, 10.0
LIMIT, PRICE, RESERVE = ReasonCode.LIMIT, ReasonCode.PRICE, ReasonCode.RESERVE


def family_changes(posed: Posed, p: PlanningProblem) -> Iterator[Change]:
    """Everything of this kind that the site asks for."""
    site = posed.site
    for i, unit in enumerate(site.bess):
        yield from _battery(i, unit)
    for i in range(len(site.gensets)):
        yield from _care(site, i)
    yield from _interconnection(site)
    yield from _tariff(site)
    yield from _contracts(site)
    for i, device in enumerate(site.deferrables):
        yield _any_time(i, device)
    if site.sources is not None:
        yield Change(
            key="sources", code=LIMIT, words="without the table of permitted sources",
            apply=with_site(lambda s: replace(s, sources=None)),
        )  # fmt: skip


def with_bess(i: int, edit: Callable[[BatteryParams], BatteryParams]) -> Callable[[Posed], Posed]:
    """A change of one battery."""

    def one(b: BessParams) -> BessParams:
        return replace(b, battery=edit(b.battery))

    return with_site(lambda s: replace(s, bess=tuple(one(b) if k == i else b for k, b in enumerate(s.bess))))


def _battery(i: int, unit: BessParams) -> Iterator[Change]:
    b, who = unit.battery, unit.id
    entries: tuple[tuple[str, bool, ReasonCode, str, Callable[[BatteryParams], BatteryParams]], ...] = (
        ("soc_reserve", bool(b.soc_reserve), RESERVE, f"with nothing of {who} held back for outages",
         lambda x: replace(x, soc_reserve=())),
        ("resting", b.resting is not None, PRICE, f"if {who} could rest full at no price",
         lambda x: replace(x, resting=None)),
        ("warranty", b.warranty is not None, LIMIT, f"without the warranty limits of {who}",
         lambda x: replace(x, warranty=None)),
        ("full_charge", b.full_charge is not None, LIMIT, f"without the calibration charge of {who}",
         lambda x: replace(x, full_charge=None)),
        ("derating", bool(b.derating), LIMIT, f"without the temperature limits of {who}",
         lambda x: replace(x, derating=())),
    )  # fmt: skip
    for key, there, code, words, edit in entries:
        if there:
            yield Change(key=f"bess.{who}.battery.{key}", code=code, words=words, apply=with_bess(i, edit))


def _care(site: Site, i: int) -> Iterator[Change]:
    g = site.gensets[i]
    care = g.low_load
    if care is not None:
        yield Change(
            key=f"gensets.{g.id}.low_load", code=LIMIT, words=f"without limits on low load of {g.id}",
            apply=with_genset(i, lambda x: replace(x, low_load=no_care(care))),
            frees=i,
        )  # fmt: skip

    rating, exercise = g.rating, g.exercise
    if rating is not None:
        yield Change(
            key=f"gensets.{g.id}.rating", code=LIMIT, words=f"without the limits of the rating of {g.id}",
            apply=with_genset(i, lambda x: replace(x, rating=no_rating(rating))), frees=i,
        )  # fmt: skip
    if exercise is not None:
        yield Change(
            key=f"gensets.{g.id}.exercise", code=LIMIT, words=f"without exercise runs of {g.id}",
            apply=with_genset(i, lambda x: replace(x, exercise=replace(exercise, every_h=PLENTY_H))), frees=i,
        )  # fmt: skip
    if g.balance_per_h is not None and g.balance_per_h > 0.0:
        yield Change(
            key=f"gensets.{g.id}.balance_per_h", code=PRICE,
            words=f"with the running hours of {g.id} not balanced",
            apply=with_genset(i, lambda x: replace(x, balance_per_h=0.0)), frees=i,
        )  # fmt: skip


def no_rating(x: Rating) -> Rating:
    """Means and hours that nothing reaches."""
    mean = None if x.mean_ratio_max is None else PLENTY_RATIO
    hours = None if x.year_h_max is None else PLENTY_H
    return replace(x, mean_ratio_max=mean, year_h_max=hours)


def no_care(x: LowLoad) -> LowLoad:
    """Low load at no price and with plenty of everything, so that what the model counts stays the same."""
    budget = None if x.budget_h is None else PLENTY_H
    burn_off = None if x.burn_off is None else replace(x.burn_off, after_h=PLENTY_H)
    return replace(x, price_per_kwh=0.0, budget_h=budget, burn_off=burn_off)


def _interconnection(site: Site) -> Iterator[Change]:
    g = site.grid
    v = g.reactive
    entries: list[tuple[str, bool, str, Callable[[GridParams], GridParams]]] = [
        ("caps", bool(g.caps), "without lower caps at their times", lambda x: replace(x, caps=())),
        ("transformer", g.transformer is not None, "without the limit of the transformer",
         lambda x: replace(x, transformer=None)),
        ("ramp_kw_s", g.ramp_kw_s is not None, "without the ramp limit of the interconnection",
         lambda x: replace(x, ramp_kw_s=None)),
        ("flapping", g.flapping is not None, "if mains that come back were counted on at once",
         lambda x: replace(x, flapping=None)),
        ("strength", g.strength is not None, "without the short-circuit ratio that inverters need",
         lambda x: replace(x, strength=None)),
        ("reactive", v is not None, "without the voltage band, no reactive power planned",
         lambda x: replace(x, reactive=None)),
    ]  # fmt: skip
    for key, there, words, edit in entries:
        if there:
            yield Change(key=f"grid.{key}", code=LIMIT, words=words, apply=with_site(partial(_grid, edit)))


def _grid(edit: Callable[[GridParams], GridParams], site: Site) -> Site:
    return replace(site, grid=edit(site.grid))


def _tariff(site: Site) -> Iterator[Change]:
    t = site.tariff
    for i, charge in enumerate(t.demand_charges):
        yield Change(
            key=f"tariff.demand_charges[{i}]", code=PRICE, words=f"without the demand charge {charge.name}",
            apply=with_site(partial(_with_tariff, partial(_no_charge, charge))),
        )  # fmt: skip
    if t.energy_blocks:
        yield Change(
            key="tariff.energy_blocks", code=PRICE, words="without energy blocks",
            apply=with_site(partial(_with_tariff, lambda x: replace(x, energy_blocks=()))),
        )  # fmt: skip
    if t.power_factor is not None:
        yield Change(
            key="tariff.power_factor", code=PRICE, words="without power factor charge",
            apply=with_site(partial(_with_tariff, lambda x: replace(x, power_factor=None))),
        )  # fmt: skip


def _contracts(site: Site) -> Iterator[Change]:
    t, c = site.tariff, site.tariff.contracts
    entries: list[tuple[str, str, Callable[[Tariff], Tariff]]] = []
    if t.minimum_per_month > 0.0:
        words = f"without the minimum of {t.minimum_per_month:.7g} {site.currency} a month"
        entries.append(("minimum_per_month", words, lambda x: replace(x, minimum_per_month=0.0)))
    if t.export_credit is not None:
        words = "if export were paid for and not credited"
        entries.append(("export_credit", words, lambda x: replace(x, export_credit=None)))
    for field, what, names in (
        ("coincident_peaks", "the charge on coincident peaks", [x.name for x in c.coincident_peaks]),
        ("energy", "the energy contract", [x.name for x in c.energy]),
        ("events", "the demand-response event", [x.id for x in c.events]),
    ):
        entries += [
            (f"contracts.{field}[{i}]", f"without {what} {name}", partial(_one_less, field, i))
            for i, name in enumerate(names)
        ]
    for key, words, edit in entries:
        yield Change(
            key=f"tariff.{key}", code=PRICE, words=words, apply=with_site(partial(_with_tariff, edit))
        )


def _one_less(field: str, i: int, t: Tariff) -> Tariff:
    rest = tuple(x for k, x in enumerate(getattr(t.contracts, field)) if k != i)
    return replace(t, contracts=replace(t.contracts, **{field: rest}))


def _no_charge(charge: DemandCharge, t: Tariff) -> Tariff:
    free = replace(charge, per_kw=0.0, excess_per_kw=0.0)
    return replace(t, demand_charges=tuple(free if c == charge else c for c in t.demand_charges))


def _with_tariff(edit: Callable[[Tariff], Tariff], site: Site) -> Site:
    return replace(site, tariff=edit(site.tariff))


def _any_time(i: int, device: DeferrableParams) -> Change:
    return Change(
        key=f"deferrables.{device.id}",
        code=LIMIT,
        words=f"with {device.id} free to do its work at any time of the horizon",
        adjust=lambda q: replace(
            q, deferrables=tuple(free_work(x) if k == i else x for k, x in enumerate(q.deferrables))
        ),
    )


def free_work(x: DeferrableStart) -> DeferrableStart:
    """All work open from the first step and due by the last one."""
    last = np.arange(len(x.share)) == len(x.share) - 1
    return replace(
        x,
        share=np.ones_like(x.share),
        due_kwh=np.where(last, x.due_kwh, 0.0),
        opened_kwh=np.full_like(x.opened_kwh, x.opened_kwh[-1]),
        ends=last,
    )
