"""What a contract holds beside prices by the hour: money of the month, take-or-pay, demand response.

Minimum charge and credit for export, with the prices x_t, y_t of the tariff (a month's bill is made of them):

    top_m     >=  floor_m - sum of D_t x_t import_t over month m,         top_m >= 0, cost top_m
    credit_m + excess_m  =  earned_m + sum of D_t y_t export_t,           excess_m >= 0
    credit_m  <=  spent_m + sum of D_t x_t import_t + what blocks add     earns credit_m + ratio excess_m

Take-or-pay, by contract c and the two periods k a window can touch:

    taken_c,0,t + taken_c,1,t  =  import_t, or the power used of a PV plant    0 outside the period
    short_c,k  >=  floor_c,k - sum of D_t taken_c,k,t                          cost price * short

The floors are the minimum's share by time elapsed at the end of the window, less what the month or period has
seen so far: a window is held to the pace of the period, as a period billed in part is. Demand response e:

    import_t  =  inside_e,t + outside_e,t               the one 0 outside the event, the other in it
    dE_e + sum of D_t inside_e,t  <=  (B H - so far) + M (1 - z_e),    0 <= dE_e <= C H z_e

dE is what the event counts as delivered [kWh], H its hours as the grid has them, B the baseline, C the
commitment; z is 0 where the import stays above the baseline, which then costs the whole penalty and no more.

Source: the bill, ems.contracts and ems.charges; minimum and net metering as in REopt
(electric_utility_constraints.jl).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.contracts import IMPORT
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SHOWN_KWH = 0.5
EVENT_SPARE_H = 2.0  # a step at its edge may lie outside an event and count as in it


def add(m: Model, s: Structure) -> None:
    """The elements that the tariff has."""
    tariff = s.site.tariff
    if tariff.minimum_per_month > 0.0:
        short, floor = m.var("minimum_short_cost", 2), m.par("minimum_floor", 2)
        m.rows("minimum", (2,), lambda j: short[j] >= floor[j] - _spent(m, s, j))
    if tariff.export_credit is not None:
        _add_credit(m, s)
    if tariff.contracts.energy:
        _add_energy(m, s)
    if tariff.contracts.events:
        _add_events(m, s)


def _spent(m: Model, s: Structure, month: int) -> Expr:
    """Energy charge of a month's steps [money], blocks included."""
    out = sum(
        float(s.step_h[t] * s.money.import_per_kwh[t]) * m["import_kw"][t]
        for t in range(s.steps)
        if s.money.month[t] == month
    )
    for k, block in enumerate(s.site.tariff.energy_blocks):
        out = out + block.add_per_kwh * m["block_kwh"][month, k]
    return out


def _add_credit(m: Model, s: Structure) -> None:
    credit, excess = m.var("export_credit_cost", 2), m.var("export_excess_cost", 2)
    earned, spent = m.par("export_earned", 2), m.par("energy_spent", 2)
    steps = range(s.steps)

    def value(j: int) -> Expr:
        return sum(
            float(s.step_h[t] * s.money.export_per_kwh[t]) * m["export_kw"][t]
            for t in steps
            if s.money.month[t] == j
        )

    m.rows("export_value", (2,), lambda j: credit[j] + excess[j] - value(j) == earned[j])
    m.rows("export_credit", (2,), lambda j: credit[j] - _spent(m, s, j) <= spent[j])


def _add_energy(m: Model, s: Structure) -> None:
    energy = s.site.tariff.contracts.energy
    plant = {v.id: i for i, v in enumerate(s.site.pv)}
    taken, short = m.var("taken_kw", len(energy), 2, s.steps), m.var("take_short_kwh", len(energy), 2)
    floor = m.par("take_floor_kwh", len(energy), 2)

    def source(c: int, t: int) -> Expr:
        key = energy[c].source
        return m["import_kw"][t] if key == IMPORT else m["pv_kw"][plant[key], t]

    m.rows("taken", (len(energy), s.steps), lambda c, t: source(c, t) == taken[c, 0, t] + taken[c, 1, t])
    m.rows(
        "take_or_pay",
        (len(energy), 2),
        lambda c, k: (
            short[c, k] + sum(float(s.step_h[t]) * taken[c, k, t] for t in range(s.steps)) >= floor[c, k]
        ),
    )


def _add_events(m: Model, s: Structure) -> None:
    events = s.site.tariff.contracts.events
    E, T = len(events), s.steps
    inside, outside = m.var("event_import_kw", E, T), m.var("event_free_kw", E, T)
    delivered, joined, room = m.var("event_kwh", E), m.var("event_joined", E), m.par("event_room_kwh", E)
    hours = [e.hours + EVENT_SPARE_H for e in events]
    most = [s.site.grid.p_import_kw_max * hours[e] for e in range(E)]
    m.rows("event_import", (E, T), lambda e, t: m["import_kw"][t] == inside[e, t] + outside[e, t])
    m.rows(
        "event_baseline",
        (E,),
        lambda e: (
            delivered[e]
            + sum(float(s.step_h[t]) * inside[e, t] for t in range(T))
            - most[e] * (1 - joined[e])
            <= room[e]
        ),
    )
    m.rows("event_commitment", (E,), lambda e: delivered[e] <= events[e].committed_kw * hours[e] * joined[e])


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Floors, what is sunk, prices."""
    c, tariff = p.contracts, s.site.tariff
    if tariff.minimum_per_month > 0.0:
        n.par("minimum_floor", np.array(c.minimum_floor_cost))
        n.bound("minimum_short_cost", 0.0, np.inf)
        n.price("minimum", "minimum_short_cost", 1.0)
    if (credit := tariff.export_credit) is not None:
        earned, spent = np.array(c.export_earned_cost), np.array(c.energy_spent_cost)
        n.par("export_earned", earned)
        n.par("energy_spent", spent)
        n.bound("export_credit_cost", -np.inf, np.inf)
        n.bound("export_excess_cost", 0.0, np.inf)
        n.price("export_credit", "export_credit_cost", -1.0)
        n.price("export_credit", "export_excess_cost", -credit.excess_ratio)
        n.constant["export_credit"] = sum(credit.worth(e, x) for e, x in zip(earned, spent, strict=True))
    if tariff.contracts.energy:
        most = max([s.site.grid.p_import_kw_max, *(v.p_ac_kw for v in s.site.pv)])
        n.bound("taken_kw", 0.0, np.where(c.take_steps, most, 0.0))
        n.par("take_floor_kwh", c.take_floor_kwh)
        n.bound("take_short_kwh", 0.0, np.inf)
        per_kwh = np.array([[[x.per_kwh]] for x in tariff.contracts.energy])
        short = np.array([[x.shortfall_per_kwh] for x in tariff.contracts.energy])
        n.price("energy_contracts", "taken_kw", per_kwh * s.step_h)
        n.price("take_or_pay", "take_short_kwh", short)
    if tariff.contracts.events:
        _event_numbers(n, p, s)


def _event_numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    events, c, most = s.site.tariff.contracts.events, p.contracts, s.site.grid.p_import_kw_max
    length = np.array([e.hours for e in events])
    paid = np.array([(e.per_kw + e.penalty_per_kw) / e.hours for e in events])
    committed = np.array([e.committed_kw for e in events])
    penalty = np.array([e.penalty_per_kw for e in events])
    n.bound("event_import_kw", 0.0, np.where(c.event_steps, most, 0.0))
    n.bound("event_free_kw", 0.0, np.where(c.event_steps, 0.0, most))
    n.bound("event_kwh", 0.0, committed * c.event_h)
    n.bound("event_joined", 0.0, (c.event_h > 0.0).astype(np.float64))
    n.whole("event_joined", np.ones(len(events), dtype=np.bool_))
    n.par("event_room_kwh", c.event_room_kwh)
    n.price("demand_response", "event_kwh", -paid)
    n.constant["demand_response"] = float((penalty * committed * c.event_h / length).sum())


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Energy behind the pace of a minimum, events that are not delivered in full."""
    if "take_short_kwh" in v:
        for contract, row in zip(s.site.tariff.contracts.energy, v["take_short_kwh"], strict=True):
            if (kwh := float(row.sum())) > SHOWN_KWH:
                yield f"contract {contract.name}: {kwh:.0f} kWh behind the pace of its minimum take"
    if "event_kwh" in v:
        for e, event in enumerate(s.site.tariff.contracts.events):
            hours = float(p.contracts.event_h[e])
            missing = event.committed_kw - float(v["event_kwh"][e]) / hours if hours > 0.0 else 0.0
            if missing > 0.05:
                yield f"event {event.id}: {missing:.1f} of {event.committed_kw:g} kW are not delivered"
