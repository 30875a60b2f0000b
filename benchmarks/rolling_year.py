"""A plant-year of hourly plans in closed loop: bill, bound of the year, share of the saving captured, time.

    python -m benchmarks.rolling_year --data FOLDER [--sites sdge fpl energy cambridge weak]
        [--rules remaining elapsed full target known] [--every 1] [--hours 8760] [--window 48] [--head 6]
        [--keep FOLDER]

Inputs are perfect inside the window of 48 h (`--window`) and nothing is known beyond it: what a rule knows of
the month comes from the past (`HistoryForecaster` on the measured months before) and from the peak so far.
`known` is the mark: the target is the bound's own peak of the month. The plant is stepped by `plant_models`,
planned by the production `Planner`, billed by `ems.kpi.settle`, and held against the linear program of the
whole year (`optimizer.bound`) with the same physics (benchmarks/year_sites.py). Commitment of gensets is
whole for `--head` hours and relaxed beyond, outages or not: the next plan comes in an hour. A genset that the
plan has on load next is asked for by its start sequence earlier, as the edge does it. With `--keep` every run
is saved now and then and goes on from there.
"""

import argparse
import importlib.metadata
import pickle
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.year_sites import FPL, SDGE, cambridge, ucsd, weak
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.kpi import settle, stored_value_per_kwh
from ems.outage import known_outages
from ems.plan import Plan
from ems.points import GensetState
from ems.site import GridMode, Site
from ems.timegrid import TimeGrid
from forecasting.history import HistoryForecaster
from optimizer import Planner, PlannerOptions
from optimizer.bound import Bound
from optimizer.formulation import Formulation
from optimizer.options import DemandWeight
from optimizer.outlook import MonthOutlook, OutlookKeeper
from optimizer.solve import Session
from plant_models.plant import PlantFlows, PlantInput, PlantState, initial_state, step
from sim.meter import Meter
from sim.perfect import PerfectForecaster
from sim.period import bound_of
from sim.scenario import Scenario

HOUR_S = 3600.0
STARTING = {GensetState.CRANKING, GensetState.WARM_UP, GensetState.SYNCHRONISING}
CURTAILED_KW = 1e-3
ASKED_EARLIER_S = 15.0  # than a start takes, as by the edge
SAVED_EVERY = 500
HEAD = (
    "| rule | cost | saving captured | of demand | energy | demand | over the bound | "
    "CPU: all, plan p50 / p95 / max, outside the solver | plans |\n|---|---|---|---|---|---|---|---|---|"
)

# ---- the plant ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Carried:
    """Everything that a run consists of between two hours."""

    hour: int
    plant: PlantState
    meter: Meter
    ages_s: dict[str, float]  # of each genset in its state on or off load
    on: dict[str, bool]
    last: Plan | None = None
    outlook: object = None
    plan_cpu_s: list[float] = field(default_factory=list)
    solve_cpu_s: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    rescues: Counter[str] = field(default_factory=Counter)


def begin(scenario: Scenario) -> Carried:
    site = scenario.site
    stored = {b.id: scenario.soc_start * b.battery.energy_kwh for b in site.bess}
    return Carried(
        hour=0,
        plant=initial_state(site, scenario.soc_start),
        meter=Meter(site=site, t0_epoch_s=scenario.start.timestamp(), stored_start_kwh=stored),
        ages_s={g.id: 1e6 for g in site.gensets},
        on={g.id: False for g in site.gensets},
    )


def condition(scenario: Scenario, c: Carried) -> PlantCondition:
    """What an edge would tell the planner at the start of an hour."""
    site, at = scenario.site, scenario.at(HOUR_S * c.hour)
    month = site.tariff.month(at)
    tied = _mains(scenario, c.hour)  # perfect information: what the next hour brings
    bess = {
        b.id: BessCondition(
            available=True,
            soc=c.plant.bess[b.id].stored_kwh / b.battery.energy_kwh,
            p_kw=0.0,
            p_charge_kw_max=b.battery.p_charge_kw_max,
            p_discharge_kw_max=b.battery.p_discharge_kw_max,
        )
        for b in site.bess
    }
    gensets = {
        g.id: GensetCondition(
            available=True, on_load=c.on[g.id], starting=c.plant.gensets[g.id].phase in STARTING,
            ready_in_s=0.0, age_s=c.ages_s[g.id], p_kw=c.plant.gensets[g.id].p_kw, fuel_l=None,
            starts_today=0,
        )
        for g in site.gensets
    }  # fmt: skip
    peaks = c.meter.peak_kw
    return PlantCondition(
        at=at,
        grid_mode=GridMode.GRID_TIED if tied else GridMode.ISLANDED,
        forming=site.grid.id if tied else c.plant.forming,
        bess=bess,
        gensets=gensets,
        pv_kw={},
        feeder_kw={},
        feeder_closed={f.id: c.plant.feeders[f.id].closed for f in site.feeders},
        grid_p_kw=0.0,
        peak_import_kw=peaks.get(month, 0.0),
        interval_import_kwh=0.0,
        interval_elapsed_s=0.0,
        charge_peaks_kw={x.name: peaks.get(f"{month} {x.name}", 0.0) for x in site.tariff.demand_charges},
    )


def _mains(scenario: Scenario, hour: int) -> bool:
    at = scenario.at(HOUR_S * hour)
    return not any(e.start <= at < e.end for e in scenario.mains)


def live_through(scenario: Scenario, c: Carried, plan: Plan) -> None:
    """One hour of physics under the plan's steps in it."""
    t_s, end_s = HOUR_S * c.hour, HOUR_S * (c.hour + 1)
    while t_s < end_s - 1e-6:
        at = scenario.at(t_s)
        k = plan.grid.index_at(at)
        assert k is not None, "a plan reaches farther than the next one"
        ends_s = (plan.grid.start - scenario.start).total_seconds() + float(plan.grid.offset_s[k + 1])
        asked = _asked_for(scenario.site, plan, k, ends_s - t_s)
        dt_s = min([end_s - t_s, ends_s - t_s, *(s for s in asked.values() if s > 0.0)])
        soon = {g for g, s in asked.items() if s <= 0.0}
        grid = TimeGrid(start=at, step_s=(dt_s,))
        c.plant, flows = step(scenario.site, c.plant, _inputs(scenario, plan, k, c.hour, soon), dt_s)
        price = scenario.import_per_kwh
        each = scenario.site.tariff.import_prices(grid) if price is None else price.mean_on(grid)
        c.meter.add(t_s, flows, float(each[0]))
        _aged(c, flows, dt_s)
        t_s += dt_s
    c.meter.close_interval()
    c.hour += 1


def _asked_for(site: Site, plan: Plan, k: int, left_s: float) -> dict[str, float]:
    """Gensets that the plan has on load in the step after `k`, and in how many seconds they are asked for."""
    ahead = {g.id: left_s - g.start_delay_s - ASKED_EARLIER_S for g in site.gensets}
    more = k + 1 < len(plan.grid)
    return {g: s for g, s in ahead.items() if more and plan.genset_on[g][k + 1] > 0.5 > plan.genset_on[g][k]}


def _inputs(scenario: Scenario, plan: Plan, k: int, hour: int, soon: set[str]) -> PlantInput:
    """Load and sun are the means of the hour, as planned with, however the hour is cut."""
    site, grid = scenario.site, TimeGrid.uniform(scenario.at(HOUR_S * hour), HOUR_S, 1)
    solar = {p: float(s.mean_on(grid)[0]) for p, s in scenario.pv_kw.items()}
    on = {g.id: plan.genset_on[g.id][k] > 0.5 for g in site.gensets}
    return PlantInput(
        mains_present=_mains(scenario, hour),
        demand_kw={f: float(s.mean_on(grid)[0]) for f, s in scenario.load_kw.items()},
        pv_potential_kw=solar,
        bess_p_set_kw={b.id: plan.bess_p_kw[b.id][k] for b in site.bess},
        genset_run_request={g: wanted or g in soon for g, wanted in on.items()},
        genset_p_set_kw={g: plan.genset_p_kw[g][k] for g in on if on[g]},
        pv_limit_kw={p: plan.pv_p_kw[p][k] for p in solar if plan.pv_p_kw[p][k] < solar[p] - CURTAILED_KW},
        feeder_close={f.id: plan.shed_kw[f.id][k] < 0.5 * plan.load_kw[f.id][k] + 1e-9 for f in site.feeders},
    )


def _aged(c: Carried, flows: PlantFlows, dt_s: float) -> None:
    for g, state in flows.genset_state.items():
        on = state is GensetState.RUNNING
        c.ages_s[g] = c.ages_s[g] + dt_s if on == c.on[g] else dt_s
        c.on[g] = on


# ---- the loop -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A rule on a plant."""

    name: str
    options: PlannerOptions
    outlook: Callable[[Scenario], "OutlookKeeper | Known"] | None = None


@dataclass(slots=True)
class Known:
    """The mark: an outlook that knows the bound's peaks of every month."""

    bound: Bound
    kept: MonthOutlook | None = None

    def at(self, now: datetime, condition: PlantCondition) -> MonthOutlook:
        if self.kept is None:
            nothing = TimeGrid.uniform(now, HOUR_S, 1)
            self.kept = MonthOutlook(
                made_at=condition.at,
                grid=nothing,
                peak_kw=self.bound.peak_kw,
                import_kw=np.zeros(1),
                charge_peaks_kw=self.bound.charge_peaks_kw,
            )
        return self.kept


@dataclass(slots=True)
class Watch:
    """CPU seconds inside HiGHS."""

    cpu_s: float = 0.0


def watched() -> Watch:
    """A watch on all sessions of this process."""
    watch, plain = Watch(), Session.run

    def timed(session: Session, *given: object) -> object:
        begun = time.process_time()
        try:
            return plain(session, *given)  # type: ignore[arg-type]
        finally:
            watch.cpu_s += time.process_time() - begun

    Session.run = timed  # type: ignore[method-assign, assignment]
    return watch


def run_year(
    scenario: Scenario, study: Study, keep: Path | None, watch: Watch, every_h: int, hours: int
) -> Carried:
    """All hours of the scenario, from the checkpoint if there is one."""
    file = None if keep is None else keep / f"{scenario.site.name}-{study.name}-{every_h}.pickle"
    c = pickle.loads(file.read_bytes()) if file is not None and file.is_file() else begin(scenario)
    truth = PerfectForecaster(scenario)
    planner = Planner(scenario.site, study.options)
    keeper = None if study.outlook is None else study.outlook(scenario)
    if keeper is not None:
        keeper.kept = c.outlook
    begun = time.monotonic()
    while c.hour < hours:
        now = scenario.at(HOUR_S * c.hour)
        if c.hour % every_h == 0 or c.last is None:
            where = condition(scenario, c)
            cpu, inside = time.process_time(), watch.cpu_s
            horizon = planner.horizon(now, known_outages(scenario.notices, now), where)
            forecast = truth.forecast(horizon, now)
            outlook = None if keeper is None else keeper.at(now, where)
            c.last = planner.plan(where, forecast, c.last, c.hour + 1, outlook)
            c.plan_cpu_s.append(time.process_time() - cpu)
            c.solve_cpu_s += watch.cpu_s - inside
            c.labels[str(c.last.label)] += 1
            c.rescues[c.last.solve.rescue.replace(":", " ").split()[0]] += 1
        live_through(scenario, c, c.last)
        if c.hour % SAVED_EVERY == 0:
            c.outlook = None if keeper is None else keeper.kept
            _save(file, c)
            print(f"    {study.name}: hour {c.hour} of {hours}, {time.monotonic() - begun:.0f} s", flush=True)
    _save(file, c)
    return c


def _save(file: Path | None, c: Carried) -> None:
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_bytes(pickle.dumps(c))
    part.replace(file)


# ---- what came of it ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Money of a year: energy (stored energy valued, diesel, starts and lost load with it) and demand."""

    energy_cost: float
    demand_cost: float

    @property
    def total_cost(self) -> float:
        return self.energy_cost + self.demand_cost


def bill_without_battery(scenario: Scenario) -> Bill:
    """The bill of load less PV, surplus curtailed."""
    grid = TimeGrid.uniform(scenario.start, HOUR_S, round(scenario.duration_s / HOUR_S))
    load = np.sum([s.mean_on(grid) for s in scenario.load_kw.values()], axis=0)
    sun = np.sum([s.mean_on(grid) for s in scenario.pv_kw.values()], axis=0) if scenario.pv_kw else 0.0
    imported = np.maximum(load - sun, 0.0)
    tariff, price = scenario.site.tariff, scenario.import_per_kwh
    prices = tariff.import_prices(grid) if price is None else price.mean_on(grid)
    peaks: dict[tuple[str, str], float] = {}
    for kw, at in zip(imported.tolist(), grid.starts(), strict=True):
        for charge in tariff.charges_at(at):
            key = (tariff.month(at), charge.name)
            peaks[key] = max(peaks.get(key, 0.0), kw)
    rates = {x.name: x.per_kw for x in tariff.charges}
    demand = sum(rates[name] * kw for (_, name), kw in peaks.items())
    return Bill(energy_cost=float(imported @ prices), demand_cost=demand)


def bill_of(scenario: Scenario, c: Carried) -> Bill:
    site = scenario.site
    value = stored_value_per_kwh(site, scenario.end)
    cost = settle(site, c.meter.counters(), start=scenario.start, stored_per_kwh=value)
    return Bill(energy_cost=cost.total_with_voll_cost - cost.demand_cost, demand_cost=cost.demand_cost)


def bill_of_bound(bound: Bound) -> Bill:
    demand = bound.terms["demand_cost"]
    return Bill(energy_cost=bound.cost - demand, demand_cost=demand)


def tell(scenario: Scenario, study: Study, c: Carried, best: Bill, plain: Bill | None) -> None:
    """One row of the table, and what else happened."""
    got = bill_of(scenario, c)
    saved = demand = ""
    if plain is not None:
        saved = f"{(plain.total_cost - got.total_cost) / (plain.total_cost - best.total_cost):.2%}"
        if plain.demand_cost > best.demand_cost:
            demand = f"{(plain.demand_cost - got.demand_cost) / (plain.demand_cost - best.demand_cost):.2%}"
    cpu = np.array(c.plan_cpu_s)
    outside_s = cpu.sum() - c.solve_cpu_s
    more = got.energy_cost - best.energy_cost, got.demand_cost - best.demand_cost
    p50, p95 = (1e3 * np.quantile(cpu, q) for q in (0.5, 0.95))
    print(
        f"| {study.name} | {got.total_cost:,.0f} | {saved} | {demand} | {more[0]:+,.0f} | {more[1]:+,.0f} | "
        f"{got.total_cost / best.total_cost - 1.0:.3%} | {cpu.sum():.0f} s, "
        f"{p50:.1f} / {p95:.1f} / {1e3 * cpu.max():.0f} ms, {outside_s:.0f} s | "
        f"{dict(c.labels)} {dict(c.rescues)} |",
        flush=True,
    )
    odd = {k: v for k, v in c.meter.violations.items() if v}
    if odd or c.meter.scalars["bus_dead_s"]:
        print(f"    plant: {odd}, bus dead {c.meter.scalars['bus_dead_s']:.0f} s")


# ---- which ----------------------------------------------------------------------------------------


def scenario_of(name: str, folder: Path) -> Scenario:
    match name:
        case "sdge":
            return ucsd(folder, 2019, tariff=SDGE, on_peak=True)
        case "sdge-flat":
            return ucsd(folder, 2019, tariff=SDGE, on_peak=False)
        case "fpl":
            return ucsd(folder, 2019, tariff=FPL, on_peak=False)
        case "energy":
            s = ucsd(folder, 2019, tariff=SDGE, on_peak=False)
            tariff = replace(s.site.tariff, demand_charge_per_kw=0.0)
            return replace(s, name=f"{s.name}, energy alone", site=replace(s.site, tariff=tariff))
        case "cambridge":
            return cambridge(folder, 2019)
        case "weak":
            return weak(folder)
        case _:
            raise SystemExit(f"--sites {name}: sdge, sdge-flat, fpl, energy, cambridge and weak are known")


def study_of(rule: str, gensets: bool, bound: Bound | None, window_h: int, head_h: float) -> Study:
    """A rule for the demand charge. Without gensets no reserve is held, as in the bound."""
    weight = DemandWeight.TARGET if rule == "known" else DemandWeight(rule)
    options = PlannerOptions(
        blocks=((HOUR_S, window_h),),
        integral_h=head_h,
        integral_outages=False,
        demand_weight=weight,
        formulation=Formulation(reserve=gensets),
    )
    if rule == "known":
        if bound is None:
            raise ValueError("known: the bound knows the months")
        return Study(name=rule, options=options, outlook=lambda _: Known(bound))
    if weight is not DemandWeight.TARGET:
        return Study(name=rule, options=options)

    def keeper(s: Scenario) -> OutlookKeeper:
        return OutlookKeeper(s.site, HistoryForecaster(s.site, load=s.load_kw, pv=s.pv_kw), options)

    return Study(name=rule, options=options, outlook=keeper)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sites", nargs="+", default=["sdge", "fpl", "energy", "cambridge", "weak"])
    parser.add_argument("--rules", nargs="+", default=["remaining", "elapsed", "full", "target", "known"])
    parser.add_argument("--every", type=int, default=1, help="hours between plans")
    parser.add_argument("--hours", type=int, default=10**6, help="stop after so many")
    parser.add_argument("--window", type=int, default=48, help="hours that a plan looks ahead")
    parser.add_argument("--head", type=float, default=6.0, help="hours of whole commitment")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("highspy", "numpy"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    watch = watched()
    for name in given.sites:
        scenario = scenario_of(name, given.data)
        hours = min(given.hours, round(scenario.duration_s / HOUR_S))
        scenario = replace(scenario, end=scenario.at(HOUR_S * hours))
        bound = bound_of(scenario, HOUR_S)
        best = bill_of_bound(bound)
        plain = None if scenario.site.gensets else bill_without_battery(scenario)
        print(f"\n{scenario.name}, {hours} h, a plan every {given.every} h: bound {best.total_cost:,.0f} "
              f"(demand {best.demand_cost:,.0f}), in {bound.solve_s:.1f} s")  # fmt: skip
        if plain is not None:
            print(f"without battery {plain.total_cost:,.0f} (demand {plain.demand_cost:,.0f})")
        print(HEAD)
        charged = any(x.per_kw > 0.0 for x in scenario.site.tariff.charges)
        for rule in given.rules if charged and not scenario.site.gensets else given.rules[:1]:
            study = study_of(rule, bool(scenario.site.gensets), bound, given.window, given.head)
            c = run_year(scenario, study, given.keep and given.keep / name, watch, given.every, hours)
            tell(scenario, study, c, best, plain)
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")


if __name__ == "__main__":
    main()
