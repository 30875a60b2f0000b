"""From a case to the Site and the PlanningProblem that the planner's families know."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.assets import (
    BatteryParams,
    BessParams,
    FeederParams,
    GensetParams,
    GridParams,
    PcsParams,
    PvParams,
    Sharing,
    StartType,
)
from ems.battery_terms import SocLimit
from ems.condition import FeederUse
from ems.deferrable import DeferrableCondition, DeferrableParams, WorkWindow
from ems.loss_curve import loss_curve
from ems.site import Authority, FormingOrder, Hierarchy, ReservePolicy, Site
from ems.tariff import DemandCharge, EnergyBlock, Tariff
from ems.timegrid import FloatArray, TimeGrid
from optimizer.case_asked import check_case, check_commitment, named_units, renewables, terms_of
from optimizer.case_costs import bent, refused
from optimizer.case_units import Storage, Unit
from optimizer.cases import Case, Deferrable, DemandWindow, Grid, Load
from optimizer.formulation import Formulation, Shedding
from optimizer.formulations.bends import FLAT_PER_H
from optimizer.intake.battery import open_cycle
from optimizer.intake.deferrable import on_grid
from optimizer.prices import ladder
from optimizer.problem import (
    BessStart,
    DeferrableStart,
    DemandMonth,
    GensetStart,
    PlanningProblem,
    no_contracts,
)

START = datetime(1970, 1, 1, tzinfo=UTC)  # a case has no date; its first step begins a billing interval
RUNGS = "highest price"  # id of a load of nothing
LEAST_RATIO = 1e-2
MUST_TAKE_RATIO = 0.75  # of what power costs that nobody takes
FORMULATION = Formulation(
    reserve=False,
    soc_tapers=False,
    tie_break_ratio=0.0,
    shedding=Shedding.MEAN,
    battery_segments=1,
    battery_fit_ratio=0.0,
    billing_shares=True,
)


def case_problem(case: Case) -> PlanningProblem:
    """Pose a case.

    Raises
    ------
    BadValue
        A series of the case has the wrong length or a value outside its bounds; costs are not convex.
    """
    check_case(case)
    step_h = case.step_hours()
    T = case.steps
    case = with_rungs(case, float(step_h.min()))
    grid = case.grid if case.grid is not None else Grid(available=False)
    there = case.flags("grid.available", grid.available)
    buy = case.series("grid.import_per_kwh", grid.import_per_kwh)
    sell = case.series("grid.export_per_kwh", grid.export_per_kwh)
    caps = (
        case.series("grid.import_kw_max", grid.import_kw_max, 0.0),
        case.series("grid.export_kw_max", grid.export_kw_max, 0.0),
    )
    net = [case.series(f"load {x.id}: kw", x.kw) for x in case.loads]
    load = [np.maximum(row, 0.0) for row in net]
    peaks = [float(row.max()) for row in load]
    sources = renewables(case)
    sun = np.array([case.series(f"renewable {x.id}: kw", x.kw, 0.0) for x in sources]).reshape(-1, T)
    site = _site(case, grid, caps, peaks, dict(zip((x.id for x in sources), sun.max(axis=1), strict=True)))
    taken = MUST_TAKE_RATIO * ladder(site).surplus_per_kwh
    curtail = tuple(taken if x.must_take else x.curtail_per_kwh for x in sources)
    dear = np.array([np.min(x.cost_per_kwh) < 0.0 for x in sources], dtype=np.bool_)
    dear |= np.array(curtail) > 0.0
    costly = (sun > 0.0) & dear[:, None] if sources else np.zeros((1, T), dtype=np.bool_)
    return PlanningProblem(
        site=site,
        grid=TimeGrid(start=START, step_s=tuple((3600.0 * step_h).tolist())),
        at=START,
        load_kw=np.array(load).reshape(len(load), T),
        pv_kw=sun,
        curtail_per_kwh=curtail if any(curtail) else (),
        import_per_kwh=buy,
        export_per_kwh=sell,
        grid_available=there,
        integral=np.ones(T, dtype=np.bool_),
        bess=tuple(_bess_start(x, case) for x in case.storages),
        gensets=tuple(_genset_start(x, case) for x in by_fleet(case)),
        months=_one_period(grid, T),
        history_kwh=0.0,
        terminal_per_kwh=np.array([[x.end_value_per_kwh] * 3 for x in case.storages]).reshape(-1, 3),
        exclusive=(there & ((buy < 0.0) | (sell > buy))) | costly.any(axis=0),
        demand_parts=tuple(_demand_months(x, case) for x in grid.demands),
        feeder_open=np.zeros(len(load), dtype=np.bool_),
        shed_whole=np.zeros(T, dtype=np.bool_),
        blocks_used_kwh=(grid.import_so_far_kwh, 0.0),
        running_extra_kw=tuple(extra.tolist()) if (extra := reserve_kw(case)).any() else (),
        contracts=no_contracts(T),
        poi_caps_kw=caps,
        feeder_use=(FeederUse(),) * len(load),
        deferrables=tuple(_deferrable_start(x, case) for x in case.deferrables),
    )


def with_rungs(case: Case, least_h: float) -> Case:
    """The case with a load of nothing at the highest price in it, where that is above every VOLL.

    The prices of what should not happen (prices.py) are multiples of the highest VOLL. Stored energy outside
    its window costs 8 times that by the hour: over the last step alone it must still be worth nobody's while.
    """
    found = [abs(x.end_value_per_kwh) for x in case.storages] + [x.voll_per_kwh for x in case.loads]
    found += [case.short_per_kwh] if case.n_minus_1 else []
    if (grid := case.grid) is not None:
        for key, values in (("import", grid.import_per_kwh), ("export", grid.export_per_kwh)):
            found.append(float(np.abs(case.series(f"grid.{key}_per_kwh", values)).max()))
        found[-2] += max((abs(add) for _, add in grid.blocks), default=0.0)
        rates = [grid.demand_per_kw, *(x.per_kw for x in grid.demands)]
        found.append(sum(rates) / grid.billing_interval_h)
    found += [x.curtail_per_kwh for x in case.renewables]
    found += _prices(case)
    needed = max(found, default=0.0) / min(1.0, 4.0 * least_h)
    if needed <= max((x.voll_per_kwh for x in case.loads), default=10.0):
        return case
    return replace(case, loads=(*case.loads, Load(id=RUNGS, kw=0.0, voll_per_kwh=min(needed, 1e9))))


def _prices(case: Case) -> list[float]:
    """What energy by step and its limits cost at most."""
    out = [np.abs(case.series("cost_per_kwh", x.cost_per_kwh)).max() for x in case.renewables]
    out += [np.abs(case.series("extra_per_kwh", x.extra_per_kwh)).max() for x in case.units]
    for x in case.energy_limits:
        most = max((abs(w) for w in x.of.values()), default=0.0)
        out += [most * cost for cost in (x.short_cost, x.over_cost) if cost is not None]
    return [float(x) for x in out]


def reserve_kw(case: Case) -> FloatArray:
    """(T,) capacity on that is asked for above the load [kW]."""
    return case.series("reserve_kw", case.reserve_kw, 0.0)


def _fleets(case: Case) -> list[list[Unit]]:
    """Units that are the same but for their id; each alone that has limits a count does not know."""
    found: dict[Unit, list[Unit]] = {}
    named = named_units(case)
    for x in case.units:
        found.setdefault(x if x.alone or x.id in named else replace(x, id=""), []).append(x)
    return list(found.values())


def by_fleet(case: Case) -> list[Unit]:
    """The units of a case, identical ones side by side."""
    return [x for fleet in _fleets(case) for x in fleet]


def formulation(case: Case) -> Formulation:
    """What a case is made of: equal units are counted, not told apart."""
    sizes = tuple(len(fleet) for fleet in _fleets(case))
    fleets = sizes if max(sizes, default=1) > 1 else ()
    tapers = any(x.taper_ratio < 1.0 or x.power_by_soc for x in case.storages)
    return replace(
        FORMULATION, reserve=case.n_minus_1, fleets=fleets, soc_tapers=tapers, terms=terms_of(case)
    )


def _work(x: Deferrable, case: Case) -> tuple[WorkWindow, ...]:
    at = [START + timedelta(hours=float(h)) for h in np.concatenate([[0.0], np.cumsum(case.step_hours())])]
    return tuple(WorkWindow(start=at[a], end=at[z], energy_kwh=kwh) for a, z, kwh in x.windows)


def _deferrable_start(x: Deferrable, case: Case) -> DeferrableStart:
    grid = TimeGrid(start=START, step_s=tuple((3600.0 * case.step_hours()).tolist()))
    nothing = DeferrableCondition(
        window_start=None, done_kwh=0.0, on=x.state_h > 0.0, age_s=3600.0 * abs(x.state_h), starts=0
    )
    out = on_grid(_work(x, case), grid, nothing)
    if not x.windows or x.windows[0][0] > 0:
        return out
    opens = out.opens.copy()
    opens[0] = False  # open already: what was done and started in it before counts
    return replace(out, opens=opens, done_kwh=min(x.done_kwh, x.windows[0][2]), starts=x.starts_so_far)


def _device(x: Deferrable, case: Case) -> DeferrableParams:
    return DeferrableParams(
        id=x.id, feeder=case.loads[0].id if case.loads else "", p_kw=x.p_kw, p_min_kw=x.least_kw,
        unfinished_per_kwh=x.unfinished_per_kwh, dated=_work(x, case), interruptible=x.interruptible,
        min_run_s=3600.0 * x.min_run_h, starts_per_window_max=x.starts_max,
    )  # fmt: skip


def _one_period(grid: Grid, T: int) -> tuple[DemandMonth, DemandMonth]:
    """The horizon as one billing period at the whole rate; there is no second."""
    every = np.ones(T, dtype=np.bool_)
    return (
        DemandMonth(steps=every, base_kw=grid.peak_so_far_kw, rate_per_kw=grid.demand_per_kw),
        DemandMonth(steps=~every, base_kw=0.0, rate_per_kw=0.0),
    )


def _demand_months(x: DemandWindow, case: Case) -> tuple[DemandMonth, DemandMonth]:
    """A demand window as if it were a month of its own."""
    steps = case.flags("demand window: steps", x.steps)
    nothing = DemandMonth(steps=np.zeros_like(steps), base_kw=0.0, rate_per_kw=0.0)
    return DemandMonth(steps=steps, base_kw=x.peak_so_far_kw, rate_per_kw=x.per_kw), nothing


def _band_kwh(x: Storage, case: Case) -> tuple[FloatArray, FloatArray] | None:
    """Least and most stored at the end of each step, where it is asked for; with room for rounding."""
    low = case.series(f"storage {x.id}: soc_floor", x.soc_floor, 0.0, 1.0)
    high = case.series(f"storage {x.id}: soc_ceiling", x.soc_ceiling, 0.0, 1.0)
    if x.soc_end_min > x.soc_min:
        low[-1] = max(low[-1], x.soc_end_min)
    if x.soc_end_max < x.soc_max:
        high[-1] = min(high[-1], x.soc_end_max)
    if (low > high).any():
        t = int(np.argmax(low > high))
        raise refused(f"storage {x.id}", f"soc_ceiling[{t}]", float(high[t]), f"at least {low[t]:g}")
    low, high = np.where(low > 0.0, low, -np.inf), np.where(high < 1.0, high, np.inf)
    if not (np.isfinite(low) | np.isfinite(high)).any():
        return None
    return (low - 1e-9) * x.energy_kwh, (high + 1e-9) * x.energy_kwh


def _bess_start(x: Storage, case: Case) -> BessStart:
    turns, by_depth_kwh = open_cycle(x.id, x.turns_soc, x.soc_start, _bess(x).battery, [])
    return BessStart(
        available=True,
        stored_kwh=(x.soc_max if x.cyclic else x.soc_start) * x.energy_kwh,  # cyclic: the model's own
        turns_soc=turns,
        by_depth_kwh=by_depth_kwh,
        p_charge_kw=case.series(f"storage {x.id}: p_charge_kw", x.p_charge_kw, 0.0),
        p_discharge_kw=case.series(f"storage {x.id}: p_discharge_kw", x.p_discharge_kw, 0.0),
        band_kwh=_band_kwh(x, case),
    )


def _genset_start(x: Unit, case: Case) -> GensetStart:
    there, must = case.flags(f"{x.id}: available", x.available), case.flags(f"{x.id}: must_run", x.must_run)
    check_commitment(x, case)
    return GensetStart(
        available=True,
        on=x.state_h > 0.0,
        age_h=abs(x.state_h),
        starting=False,
        ready_h=0.0,
        fuel_l=np.inf,
        starts_today=x.starts_so_far,
        stop_cost=x.stop_cost,
        output_kw=(x.p_min_kw if x.output_kw is None else x.output_kw) if x.state_h > 0.0 else 0.0,
        blocked=() if there.all() else tuple((~there).tolist()),
        must=tuple(must.tolist()) if must.any() else (),
    )


def _site(
    case: Case,
    grid: Grid,
    caps_kw: tuple[FloatArray, FloatArray],
    peaks_kw: list[float],
    sources_kw: dict[str, float],
) -> Site:
    """A site of these assets alone; one litre of its fuel costs one unit of money."""
    forming = (*[x.id for x in case.storages], *[x.id for x in case.units])
    return Site(
        name="case",
        hierarchy=Hierarchy(organisation="case", portfolio="case", plant="case", subsystem_of={}),
        latitude_deg=0.0,
        longitude_deg=0.0,
        altitude_m=0.0,
        timezone="UTC",
        currency="XXX",
        diesel_per_l=1.0,
        co2_kg_per_l=0.0,
        grid=_grid(float(caps_kw[0].max()), float(caps_kw[1].max())),
        bess=tuple(_bess(x) for x in case.storages),
        gensets=tuple(_genset(x) for x in by_fleet(case)),
        pv=tuple(_pv(i, max(float(peak), 1e-9)) for i, peak in sources_kw.items()),
        feeders=tuple(
            FeederParams(
                id=x.id, tier=1, has_breaker=True, voll_per_kwh=x.voll_per_kwh,
                p_peak_kw=max(peak, 1.0), power_factor_ratio=1.0, restore_dwell_s=0.0,
            )
            for x, peak in zip(case.loads, peaks_kw, strict=True)
        ),
        tariff=Tariff(
            timezone="UTC", currency="XXX", default_import_per_kwh=0.0, windows=(), export_per_kwh=0.0,
            demand_charge_per_kw=grid.demand_per_kw, billing_interval_s=3600.0 * grid.billing_interval_h,
            fixed_per_month=0.0,
            demand_charges=tuple(
                DemandCharge(name=f"demand {k}", per_kw=x.per_kw) for k, x in enumerate(grid.demands)
            ),
            energy_blocks=tuple(EnergyBlock(up_to_kwh=end, add_per_kwh=add) for end, add in grid.blocks),
        ),
        forming=FormingOrder(grid_tied=("grid",), islanded=forming),
        reserve=ReservePolicy(
            load_ratio=0.0, pv_ratio=0.0, critical_tier=0, failed_starts=0,
            shortfall_per_kwh=case.short_per_kwh,
            running_ratio=max(case.running_ratio, float(reserve_kw(case).any())),
            n_minus_1=("genset",) if case.n_minus_1 else (),
        ),
        deferrables=tuple(_device(x, case) for x in case.deferrables),
        authority=Authority(setpoints={}),
        outages=(),
        connections=(),
    )  # fmt: skip


def _grid(import_kw: float, export_kw: float) -> GridParams:
    return GridParams(
        id="grid", p_import_kw_max=import_kw, p_export_kw_max=export_kw, v_nominal_v=400.0,
        r_ohm=0.0, x_ohm=0.0, v_min_pu=0.9, v_max_pu=1.1, transfer_s=0.0, reconnect_dwell_s=0.0,
    )  # fmt: skip


def _pv(source: str, peak_kw: float) -> PvParams:
    return PvParams(
        id=source, p_dc_kwp=peak_kw, p_ac_kw=peak_kw, gamma_per_degc=0.0, noct_degc=45.0,
        system_loss_ratio=0.0, tilt_deg=0.0, azimuth_deg=180.0, reconnect_s=0.0,
    )  # fmt: skip


def _bess(x: Storage) -> BessParams:
    least = LEAST_RATIO * x.top_kw  # a power of 0 is the limit of every step, not the rating
    charge, discharge = (max(least, float(np.max(p))) for p in (x.p_charge_kw, x.p_discharge_kw))
    battery = BatteryParams(
        energy_kwh=x.energy_kwh, soc_min=x.soc_min, soc_max=x.soc_max, p_charge_kw_max=charge,
        p_discharge_kw_max=discharge, eta_charge=x.eta_charge, eta_discharge=x.eta_discharge,
        loss_charge_pu=0.0, loss_discharge_pu=0.0, aux_kw=0.0,
        no_load_loss_kw=x.standing_kw, self_discharge_per_h=x.self_discharge_per_h,
        soc_taper_low=x.soc_min if x.soc_taper_low is None else x.soc_taper_low,
        soc_taper_high=x.soc_max if x.soc_taper_high is None else x.soc_taper_high, taper_ratio=x.taper_ratio,
        wear_per_kwh=x.discharge_per_kwh, wear_charge_per_kwh=x.charge_per_kwh, cycle_life=x.cycle_life,
        power_by_soc=tuple(SocLimit(soc=e, charge_ratio=c, discharge_ratio=d) for e, c, d in x.power_by_soc),
        charge_curve=loss_curve(x.efficiency_charge, x.standing_kw, charge=True),
        discharge_curve=loss_curve(x.efficiency_discharge, x.standing_kw, charge=False),
    )  # fmt: skip
    power = max(charge, discharge)
    return BessParams(
        id=x.id,
        battery=battery,
        pcs=PcsParams(s_kva=power, can_form=True, overload_ratio=1.0, overload_s=0.0, restart_s=0.0),
    )


def _genset(x: Unit) -> GensetParams:
    kw, per_h = _cost_points(x)
    listed = x.kinds if x.start_costs or x.start_lags else ()
    types = tuple(StartType(rest_h=np.inf if end is None else end, cost=c) for end, c in listed)
    hot, cold, after_h = x.start_cost, x.cold_start_cost, x.cold_after_h
    if types:
        hot, cold, after_h = types[0].cost, types[-1].cost, types[-2].rest_h if len(types) > 1 else 0.0
    free = 10.0 * x.p_max_kw  # per second: no limit
    up, down = ((free if r is None else r / 3600.0) for r in (x.ramp_up_kw_h, x.ramp_down_kw_h))
    return GensetParams(
        id=x.id, p_rated_kw=x.p_max_kw, p_min_kw=x.p_min_kw, s_kva=x.p_max_kw, fuel_kw=kw, fuel_l_h=per_h,
        start_cost=hot, cold_start_cost=cold, cold_after_s=3600.0 * after_h,
        running_cost_per_h=0.0, min_up_s=3600.0 * x.min_up_h, min_down_s=3600.0 * x.min_down_h,
        crank_s=0.0, warm_up_s=0.0, synchronise_s=0.0, cool_down_s=0.0, ramp_kw_s=up,
        step_load_kw_max=x.p_max_kw, overload_ratio=1.0, sharing=Sharing.BASE_LOAD, start_attempts=1,
        mains_failure_start=False, mains_failure_delay_s=0.0, tank_l=np.inf, starts_per_day_max=x.starts_max,
        start_types=types, ramp_down_kw_s=down, start_up_kw=x.start_up_kw, shut_down_kw=x.shut_down_kw,
    )  # fmt: skip


def _cost_points(x: Unit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if bent(x.cost, x.p_min_kw, x.p_max_kw):  # see formulations/bends.py
        return (x.p_min_kw, x.p_max_kw), (FLAT_PER_H, FLAT_PER_H)
    if x.p_max_kw > x.p_min_kw:
        return x.cost.points(x.p_min_kw, x.p_max_kw)
    only = float(x.cost.true_per_h(np.array([x.p_max_kw]))[0])
    return (0.0, x.p_max_kw), (only, only)


def true_cost(case: Case, on: dict[str, FloatArray], output_kw: dict[str, FloatArray]) -> float:
    """Running cost of the units by their true curves [money]; `on` and `output_kw` (T,) by unit."""
    step_h = case.step_hours()
    return sum(float((step_h * on[x.id] * x.cost.true_per_h(output_kw[x.id])).sum()) for x in case.units)


def model_error(case: Case) -> float:
    """How far the running cost of any plan may lie above the true one, by chords for curves [money]."""
    hours = float(case.step_hours().sum())
    return hours * sum(x.cost.error_per_h(x.p_min_kw, x.p_max_kw) for x in case.units)
