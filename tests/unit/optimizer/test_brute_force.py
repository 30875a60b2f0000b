"""Tiny random plants: every commitment enumerated, its dispatch solved by another solver's hand-written LP.

The reference shares nothing with the formulation but the problem: fuel as lines under an epigraph instead of
pieces, no commitment variables, minimum times checked by walking through the hours.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from ems.site import GridMode
from optimizer.prices import ladder
from plant_models.battery import drawn_per_kwh
from tests.unit.optimizer.posing import (
    EXACT,
    PLAIN,
    Pose,
    feeder,
    ideal_bess,
    objective,
    outage,
    small_genset,
    small_site,
)

STEPS = 3


@dataclass(frozen=True)
class Instance:
    pose: Pose
    value: float  # of stored energy at the end
    reserve: bool


def instance(seed: int) -> Instance:
    rng = np.random.default_rng(seed)
    gensets = []
    for k in range(2):
        top = float(rng.integers(40, 120))
        slopes = np.sort(rng.uniform(0.2, 0.35, 2))
        idle = float(rng.uniform(2.0, 8.0))
        gensets.append(
            small_genset(
                f"gen{k + 1}",
                p_rated_kw=top,
                p_min_kw=0.3 * top,
                fuel_kw=(0.0, 0.6 * top, top),
                fuel_l_h=(
                    idle,
                    idle + 0.6 * top * slopes[0],
                    idle + 0.6 * top * slopes[0] + 0.4 * top * slopes[1],
                ),
                start_cost=float(rng.uniform(0.0, 20.0)),
                running_cost_per_h=float(rng.uniform(0.0, 3.0)),
                min_up_s=3600.0 * float(rng.integers(0, 4)),
                min_down_s=3600.0 * float(rng.integers(0, 4)),
                warm_up_s=float(rng.choice([0.0, 60.0])),
            )
        )
    bess = [
        ideal_bess(
            energy_kwh=float(rng.uniform(40.0, 150.0)), soc_min=0.1, soc_max=0.9,
            eta_charge=0.93, eta_discharge=0.95,
            p_charge_kw_max=float(rng.uniform(20.0, 60.0)), p_discharge_kw_max=float(rng.uniform(20.0, 60.0)),
            wear_per_kwh=0.02,
        )
    ]  # fmt: skip
    bess = bess if rng.random() < 0.75 else []
    site = small_site(
        bess=bess,
        gensets=gensets,
        feeders=[feeder("a", 20.0, tier=1), feeder("b", 1.5), feeder("c", 0.6, tier=3)],
        import_kw=float(rng.uniform(20.0, 120.0)),
        export_kw=float(rng.choice([0.0, 40.0])),
        demand_per_kw=float(rng.choice([0.0, 0.4])),
        diesel_per_l=1.2,
    )
    now = {
        g.id: {"on_load": bool(rng.random() < 0.4), "age_s": 3600.0 * float(rng.integers(0, 3))}
        for g in gensets
    }
    lost = [t for t in range(1, STEPS) if rng.random() < 0.4]
    pose = Pose(
        site=site,
        load_kw={f: rng.uniform(5.0, 60.0, STEPS).tolist() for f in ("a", "b", "c")},
        import_per_kwh=rng.uniform(0.05, 0.5, STEPS).tolist(),
        export_per_kwh=0.03,
        steps=STEPS,
        soc=float(rng.uniform(0.15, 0.85)),
        outages=tuple(outage(t, t) for t in lost),
        mode=GridMode.GRID_TIED if rng.random() < 0.8 else GridMode.ISLANDED,
        gensets_now=now,
        peak_kw=float(rng.choice([0.0, 30.0])),
    )
    return Instance(pose=pose, value=float(rng.uniform(0.0, 0.3)), reserve=bool(rng.random() < 0.5))


def permitted(pose: Pose, on: np.ndarray) -> bool:
    """Walk through the hours: minimum times against the age in each state."""
    for g, unit in enumerate(pose.site.gensets):
        now = pose.gensets_now[unit.id]
        state, age_s = now["on_load"], now["age_s"]
        for t in range(STEPS):
            if bool(on[g, t]) != state:
                if age_s < (unit.min_up_s if state else unit.min_down_s) - 1e-6:
                    return False
                state, age_s = not state, 0.0
            age_s += 3600.0
    return True


class Reference:
    """Dispatch of one commitment, minimised by scipy."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.bounds: list[tuple[float, float | None]] = []
        self.upper: list[tuple[dict[int, float], float]] = []
        self.equal: list[tuple[dict[int, float], float]] = []

    def var(self, cost: float = 0.0, high: float | None = None, low: float = 0.0) -> int:
        self.cost.append(cost)
        self.bounds.append((low, high))
        return len(self.cost) - 1

    def solve(self) -> float:
        def dense(rows: list[tuple[dict[int, float], float]]) -> tuple[Any, Any]:
            a = np.zeros((len(rows), len(self.cost)))
            for i, (row, _) in enumerate(rows):
                for j, x in row.items():
                    a[i, j] += x
            return (a, [b for _, b in rows]) if rows else (None, None)

        a_ub, b_ub = dense(self.upper)
        a_eq, b_eq = dense(self.equal)
        result = linprog(self.cost, a_ub, b_ub, a_eq, b_eq, self.bounds, method="highs")
        return float(result.fun) if result.status == 0 else np.inf


def dispatch_cost(case: Instance, on: np.ndarray, there: np.ndarray) -> float:
    pose, site = case.pose, case.pose.site
    rungs, policy = ladder(site), site.reserve
    r = Reference()
    peak = r.var(site.tariff.demand_charge_per_kw, None, pose.peak_kw)
    fixed = -site.tariff.demand_charge_per_kw * pose.peak_kw
    price = np.asarray(pose.import_per_kwh)
    stored: list[int] = []
    for t in range(STEPS):
        bus: dict[int, float] = {}
        imported = r.var(price[t], site.grid.p_import_kw_max * there[t])
        exported = r.var(-0.03, site.grid.p_export_kw_max * there[t])
        bus |= {imported: 1.0, exported: -1.0, r.var(rungs.surplus_per_kwh): -1.0}
        r.upper.append(({imported: 1.0, peak: -1.0}, 0.0))
        up: dict[int, float] = {}
        down: dict[int, float] = {}
        spinning = rated = least = 0.0
        for g, unit in enumerate(site.gensets):
            if not on[g, t]:
                continue
            power, fuel = r.var(0.0, unit.p_rated_kw, unit.p_min_kw), r.var(site.diesel_per_l)
            for k in range(2):
                slope = (unit.fuel_l_h[k + 1] - unit.fuel_l_h[k]) / (unit.fuel_kw[k + 1] - unit.fuel_kw[k])
                r.upper.append(({power: slope, fuel: -1.0}, slope * unit.fuel_kw[k] - unit.fuel_l_h[k]))
            fixed += unit.running_cost_per_h
            was_on = on[g, t - 1] if t else pose.gensets_now[unit.id]["on_load"]
            fixed += 0.0 if was_on else unit.start_cost
            bus[power], up[power], down[power] = 1.0, -1.0, 1.0
            rated, least, spinning = (
                rated + unit.p_rated_kw,
                least + unit.p_min_kw,
                spinning + unit.p_rated_kw,
            )
        dead = not there[t] and not site.bess and not on[:, t].any()
        shed: dict[int, float] = {}
        for f in site.feeders:
            load = pose.load_kw[f.id][t]
            cut = r.var(f.voll_per_kwh, load, load if dead else 0.0)
            bus[cut], shed[cut] = 1.0, 1.0
        total = sum(pose.load_kw[f.id][t] for f in site.feeders)
        short, short_down = r.var(rungs.reserve_per_kwh), r.var(rungs.reserve_down_per_kwh)
        held_up, held_down = {short: 1.0}, {short_down: 1.0}
        for pack in site.bess:
            p = pack.battery
            charge, discharge = r.var(0.0, p.p_charge_kw_max), r.var(p.wear_per_kwh, p.p_discharge_kw_max)
            level = r.var(0.0, p.soc_max * p.energy_kwh, p.soc_min * p.energy_kwh)
            r.upper.append(({charge: 1 / p.p_charge_kw_max, discharge: 1 / p.p_discharge_kw_max}, 1.0))
            before = {stored[-1]: -1.0} if stored else {}
            first = 0.0 if stored else pose.soc * p.energy_kwh
            r.equal.append(
                ({level: 1.0, **before, charge: -p.eta_charge, discharge: 1 / p.eta_discharge}, first)
            )
            stored.append(level)
            bus |= {charge: -1.0, discharge: 1.0}
            held, fall = r.var(), r.var()
            hold_h = policy_hold_h(pose)
            r.upper.append(({held: hold_h * drawn_per_kwh(p), level: -1.0}, -p.soc_min * p.energy_kwh))
            r.upper.append(({fall: hold_h, level: 1.0}, p.soc_max * p.energy_kwh))
            r.upper.append(({fall: 1.0, discharge: -1.0, charge: 1.0}, p.p_charge_kw_max))
            now = {} if there[t] else {discharge: 1.0, charge: -1.0}
            r.upper.append(({held: 1.0, **now}, p.p_discharge_kw_max))
            held_up[held], held_down[fall] = 1.0, 1.0
        r.equal.append((bus, total))
        if case.reserve and not there[t]:
            row = {**up, **held_up, **dict.fromkeys(shed, policy.load_ratio)}
            r.upper.append(({j: -x for j, x in row.items()}, spinning - policy.load_ratio * total))
            row = {**down, **held_down, **dict.fromkeys(shed, policy.load_ratio)}
            r.upper.append(({j: -x for j, x in row.items()}, -least - policy.load_ratio * total))
        if case.reserve and there[t]:
            forming = sum(pack.battery.p_discharge_kw_max for pack in site.bess)
            taken_over = max(pose.load_kw["a"][t], min(total, forming))
            r.upper.append(({j: -x for j, x in held_up.items()}, rated - taken_over))
    if stored:
        r.cost[stored[-1]] -= case.value
        fixed += case.value * pose.soc * site.bess[0].battery.energy_kwh
    return r.solve() + fixed


def policy_hold_h(pose: Pose) -> float:
    delay_s = max(g.crank_s + g.warm_up_s + g.synchronise_s for g in pose.site.gensets)
    return max(10.0, delay_s * (pose.site.reserve.failed_starts + 1)) / 3600.0


@pytest.mark.parametrize("block", range(25))
def test_plan_costs_what_the_best_enumerated_commitment_costs(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        case = instance(seed)
        pose = case.pose
        there = np.ones(STEPS)
        there[[int((o.start - pose.at).total_seconds() // 3600) for o in pose.outages]] = 0.0
        if pose.mode is GridMode.ISLANDED:
            there[:] = 0.0
        options = replace(
            EXACT,
            terminal_per_kwh=(case.value,) * 3,
            formulation=replace(PLAIN, reserve=case.reserve),
        )
        best = min(
            dispatch_cost(case, on, there)
            for bits in product((0, 1), repeat=2 * STEPS)
            if permitted(pose, on := np.array(bits).reshape(2, STEPS))
        )
        assert objective(pose.plan(options)) == pytest.approx(best, abs=1e-5, rel=1e-6), f"seed {seed}"
