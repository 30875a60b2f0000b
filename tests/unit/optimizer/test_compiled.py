"""The compiled matrices and the readable model are one model, and every parameter is in it."""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import highspy
import numpy as np
import pytest
from scipy.sparse import csc_array

from ems.assets import (
    BessParams,
    BurnOff,
    Exercise,
    FeederParams,
    GensetParams,
    LowLoad,
    Rating,
    ReactivePolicy,
    Sharing,
)
from ems.battery_terms import FullCharge, RestingSoc, SocLimit, SocReserve, TemperatureLimit, Warranty
from ems.capability import PqCapability, capability_of
from ems.condition import BessUse, GensetDuty, GensetHour
from ems.contracts import (
    CoincidentPeak,
    Contracts,
    CreditBasis,
    DemandResponse,
    EnergyContract,
    ExportCredit,
    PeakHour,
)
from ems.cycle_life import CycleLife
from ems.deferrable import DailyWork, DeferrableParams
from ems.loss_curve import LossCurve
from ems.poi import FlappingPolicy, TransformerParams
from ems.site import FuelDelivery, GridMode
from ems.sources import SourceSets, StrengthPolicy
from ems.tariff import DemandCharge, EnergyBlock, LocalWindow, PowerFactorCharge
from optimizer.algebra import Model, StandardForm
from optimizer.build import FAMILIES, build
from optimizer.compiled import Compiled, Filled, cost_terms
from optimizer.formulation import Exclusivity, Formulation, Shedding
from optimizer.intake import planning_problem
from optimizer.numbers import Numbers, layout
from optimizer.options import PlannerOptions
from optimizer.problem import PlanningProblem
from optimizer.reference import PyomoModel
from optimizer.solve import Effort, Session
from optimizer.structure import structure_of
from tests import builders
from tests.unit.optimizer.posing import PLAIN, Pose, feeder, ideal_bess, outage, small_genset, small_site

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STEPS = 8
EVERYTHING: dict[str, Any] = {
    "n_minus_1": ("genset", "bess", "pv"), "n_minus_1_tied": ("genset", "bess", "pv", "import"),
    "pv_drop_ratio": 0.6, "motor_start_kw": 40.0, "load_trip_kw": 30.0, "survive_h": 2.0,
    "load_steps": True, "fuel_h": 3.0,
}  # fmt: skip
EVENING = LocalWindow(
    start_h=4.0, end_h=20.0, weekdays=frozenset(range(7)), months=frozenset(range(1, 13))
)  # T0 is 03:00 in Nairobi
NOTIFIED = DemandCharge(
    name="notified",
    per_kw=4.0,
    windows=(EVENING,),
    contracted_kw=90.0,
    contracted_ratio=0.7,
    excess_per_kw=3.0,
)
RATCHET = DemandCharge(
    name="kVA", per_kw=2.0, apparent=True, ratchet_ratio=0.8, ratchet_count=3,
    past_peaks_kw={"2025-12": 60.0, "2026-01": 50.0, "2025-11": 70.0},
)  # fmt: skip
POWER_FACTOR = PowerFactorCharge(min_ratio=0.97, per_kvarh=0.05)
TRANSFORMER = TransformerParams(s_kva=150.0, overload_per_kvah=2.0)
FLAPPING = FlappingPolicy(window_h=3.0, growth_ratio=40.0, dwell_s_max=2400.0)
STRENGTH = StrengthPolicy(scr_ratio_min=3.0, genset_ratio=0.5, forming_ratio=0.8, s_grid_kva=700.0)
SOURCES = SourceSets(
    islanded=(("bess1", "pv1"), ("bess1", "gen1"), ("gen1", "gen2")), unpermitted_cost_per_h=77.0
)
REACTIVE = ReactivePolicy(v_poi_min_pu=0.96, v_poi_max_pu=1.04, v_source_pu=1.01, pcs_sides=12)
BROUGHT = FuelDelivery(asset="gen2", at=builders.T0 + timedelta(minutes=40), fuel_l=90.0)
WORKED = GensetHour(start=builders.T0 - timedelta(hours=1), low_load_h=0.3, run_h=0.5, counted_kwh=40.0)
BURN_OFF = BurnOff(after_h=3.0, for_h=1.0, above_ratio=0.8)
LONG_AGO = builders.T0 - timedelta(hours=699)
EXERCISE = Exercise(every_h=700.0, for_h=0.5, load_ratio=0.7)
RATING = Rating(mean_ratio_max=0.6, year_h_max=100.0)
LOW_LOAD = LowLoad(below_ratio=0.45, price_per_kwh=0.03, budget_h=0.5, window_h=1.5, burn_off=BURN_OFF)
RESERVED = SocReserve(soc=0.6, price_per_kwh=0.7)
EMPTY = SocLimit(soc=0.05, charge_ratio=0.6, discharge_ratio=0.3)
MIDDLE = SocLimit(soc=0.4, charge_ratio=0.95, discharge_ratio=0.9)
FULL = SocLimit(soc=1.0, charge_ratio=0.4, discharge_ratio=0.95)
CURVE = LossCurve(p_kw=(0.0, 60.0, 200.0, 500.0), loss_kw=(0.0, 2.0, 5.0, 21.0))
COOL = TemperatureLimit(temp_degc=10.0, charge_ratio=1.0, discharge_ratio=1.0)
WARM = TemperatureLimit(temp_degc=40.0, charge_ratio=0.8, discharge_ratio=0.7)
TERMS: dict[str, Any] = {
    "soc_reserve": (RESERVED, SocReserve(soc=0.8, local=EVENING)),
    "resting": RestingSoc(above_soc=0.7, price_per_kwh=0.002),
    "warranty": Warranty(
        day_kwh_max=300.0, year_kwh_max=9000.0, pace_per_kwh=0.04, charge_per_h_max=0.4,
        discharge_per_h_max=0.5, mean_soc_max=0.5,
    ),
    "derating": (WARM,),
    "power_by_soc": (EMPTY, MIDDLE, FULL),
    "full_charge": FullCharge(interval_s=3600.0 * 30, hold_s=3600.0, late_cost_per_h=2.0),
}  # fmt: skip
CYCLES = CycleLife(
    depth_ratio=(0.2, 0.5, 0.9), cycles_count=(40_000.0, 9_000.0, 3_000.0), replacement_cost=90_000.0
)
BLOCKS = tuple(
    EnergyBlock(up_to_kwh=up, add_per_kwh=add) for up, add in ((50.0, 0.01), (90.0, 0.03), (None, 0.02))
)

EVERY_DAY = frozenset(range(8))
PUMP = DeferrableParams(
    id="pump", feeder="essential", p_kw=20.0, p_min_kw=15.0, unfinished_per_kwh=2.0,
    daily=(DailyWork(start_h=1.0, end_h=6.0, weekdays=EVERY_DAY, energy_kwh=25.0),),
    min_run_s=1800.0, starts_per_window_max=2,
)  # fmt: skip
DEPOT = DeferrableParams(
    id="depot", feeder="deferrable", p_kw=30.0, p_min_kw=0.0, unfinished_per_kwh=1.5,
    daily=(DailyWork(start_h=20.0, end_h=7.0, weekdays=EVERY_DAY, energy_kwh=60.0),), alone_on_feeder=True,
)  # fmt: skip


CREDIT = ExportCredit(basis=CreditBasis.EXPORT_PRICE, excess_ratio=0.3)
PPA = EnergyContract(name="ppa", source="pv1", per_kwh=0.02, minimum_kwh=9e4, shortfall_per_kwh=0.03)
EVENT = DemandResponse(
    id="e1", start=builders.T0, end=builders.T0 + timedelta(hours=1), baseline_kw=90.0, committed_kw=30.0,
    per_kw=2.0, penalty_per_kw=1.0,
)  # fmt: skip
SYSTEM = CoincidentPeak(
    name="system", per_kw=5.0, windows=(EVENING,), window_probability_ratio=0.1,
    hours=(PeakHour(start=EVENT.start, end=EVENT.end, probability_ratio=0.5),),
)  # fmt: skip
CONTRACTS = Contracts(coincident_peaks=(SYSTEM,), energy=(PPA,), events=(EVENT,))


SUNNY = capability_of(
    [(0.0, 0.0), (90.0, -290.0), (600.0, -200.0), (610.0, 150.0), (600.0, 220.0), (90.0, 310.0)]
)
CORNERED = capability_of(
    [
        (-540.0, -50.0),
        (-300.0, -400.0),
        (350.0, -400.0),
        (545.0, 0.0),
        (440.0, 320.0),
        (0.0, 330.0),
        (-450.0, 300.0),
    ]
)


def _cornered(energy_kwh: float, seed: int) -> BessParams:
    """A battery whose converter has a polygon of its own in one of four seeds."""
    unit = builders.bess(energy_kwh=energy_kwh, cycle_life=CYCLES, **TERMS)
    return replace(unit, pcs=replace(unit.pcs, capability=CORNERED)) if seed % 4 == 3 else unit


def _limited(f: FeederParams) -> FeederParams:
    return replace(f, sheds_per_day_max=2, shed_per_day_s_max=3600.0, shed_stretch_s_max=1800.0)


def _cooling(unit: GensetParams) -> GensetParams:
    """One of the two is dearer to start from cold, and has limits of its own."""
    unit = replace(unit, balance_per_h=0.3, sharing=Sharing.PROPORTIONAL)
    if unit.id == "gen1":
        return unit
    unit = replace(
        unit, low_load=LOW_LOAD, rating=RATING, exercise=EXERCISE, ramp_kw_s=0.1, ramp_down_kw_s=0.08
    )
    unit = replace(unit, start_up_kw=120.0, shut_down_kw=110.0)
    return replace(unit, cold_start_cost=unit.start_cost + 20.0, cold_after_s=3600.0, starts_per_day_max=3)


def random_pose(seed: int) -> Pose:
    """The builders' plant with other numbers and another start."""
    rng = np.random.default_rng(seed)
    site = builders.site()
    site = replace(
        site,
        gensets=tuple(_cooling(replace(g, start_cost=float(rng.uniform(1, 30)))) for g in site.gensets),
        reserve=replace(site.reserve, running_ratio=1.1 * (seed % 2)),
        deliveries=(BROUGHT,),
        diesel_per_l=float(rng.uniform(0.6, 1.6)),
        carbon_per_kg=0.05,
        tariff=replace(
            site.tariff,
            demand_charges=(NOTIFIED, RATCHET),
            energy_blocks=BLOCKS,
            power_factor=POWER_FACTOR,
            contracts=CONTRACTS,
            minimum_per_month=9e3 * (seed % 2),
            export_credit=CREDIT if seed % 2 else None,
        ),
        import_co2_kg_per_kwh=0.4,
        sources=SOURCES if seed % 4 == 3 else None,
        grid=replace(
            site.grid,
            p_import_kw_max=float(rng.uniform(150, 400)),
            p_export_kw_max=80.0,
            reactive=REACTIVE if seed % 2 else None,
            transformer=TRANSFORMER,
            flapping=FLAPPING,
            strength=STRENGTH,
            ramp_kw_s=0.05,
        ),
        pv=tuple(
            replace(x, s_kva=640.0 if seed % 2 else None, capability=SUNNY if seed % 4 == 3 else None)
            for x in site.pv
        ),
        bess=(_cornered(float(rng.uniform(200, 1200)), seed),),
        deferrables=(PUMP, DEPOT),
        feeders=tuple(_limited(f) if f.id == "essential" else f for f in site.feeders),
    )
    return Pose(
        site=site,
        load_kw={f.id: rng.uniform(0.2, 1.0, STEPS) * f.p_peak_kw for f in site.feeders},
        pv_kw={"pv1": rng.uniform(0.0, 400.0, STEPS)},
        import_per_kwh=rng.uniform(-0.05 if seed % 3 == 0 else 0.05, 0.4, STEPS),
        export_per_kwh=0.04,
        steps=STEPS,
        step_s=float(rng.choice([900.0, 1800.0, 3600.0])),
        soc=float(rng.uniform(0.05, 0.98)),
        mode=GridMode.ISLANDED if seed % 4 == 0 else GridMode.GRID_TIED,
        outages=(outage(3, 5, 900.0),) if seed % 2 else (),
        gensets_now={"gen1": {"on_load": bool(seed % 2), "age_s": 600.0, "fuel_l": 300.0}},
        peak_kw=float(rng.uniform(0.0, 200.0)),
        losses_h=(0.1, 2.0),
    )


def problem_of(pose: Pose, options: PlannerOptions | None = None) -> PlanningProblem:
    return planning_problem(pose.site, pose.condition(), pose.forecast(), options or PlannerOptions())


def compiled_of(p: PlanningProblem, form: Formulation) -> Compiled:
    return Compiled(structure_of(p.site, p.grid, form))


def through_lp_file(compiled: Compiled, p: PlanningProblem, path: Path) -> float:
    """Optimum of the readable model by Pyomo's own LP writer and HiGHS' LP reader."""
    model, n = build(compiled.structure, PyomoModel), compiled.numbers(p)
    cost = {
        name: sum((prices[name] for prices in n.cost.values() if name in prices), np.zeros(shape))
        for name, shape in model.shapes.items()
    }
    bounds = {name: (n.low[name], n.high[name]) for name in model.variables}
    model.set_numbers(n.parameters, bounds, n.integer, cost, sum(n.constant.values()))
    model.write_lp(str(path))
    h: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    h.setOptionValue("output_flag", False)
    h.setOptionValue("mip_rel_gap", 0.0)
    h.readModel(str(path))
    h.run()
    return float(h.getInfo().objective_function_value)


EXACT = Effort(gap_ratio=0.0, gap_abs=0.0, time_limit_s=None, node_limit=None)


def rows_of(form: StandardForm) -> list[tuple[object, ...]]:
    """Each row as (coefficients by column, parameters by slot, low, high), all in the <= or = direction."""
    own = csc_array((form.a_value, form.a_index, form.a_start), shape=form.shape).tocsr()
    out: list[tuple[object, ...]] = []
    for i in range(form.shape[0]):
        flip = -1.0 if form.has_low[i] and not form.has_high[i] else 1.0
        first = own.data[own.indptr[i]] if own.indptr[i] < own.indptr[i + 1] else 1.0
        if form.has_low[i] and form.has_high[i]:
            flip = float(np.sign(first))
        left, right = (
            {
                int(j): round(float(flip * v), 9)
                for j, v in zip(
                    m.indices[m.indptr[i] : m.indptr[i + 1]],
                    m.data[m.indptr[i] : m.indptr[i + 1]],
                    strict=True,
                )
            }
            for m in (own, form.par_matrix)
        )
        equal = bool(form.has_low[i] and form.has_high[i])
        out.append((form.row_names[i], left, right, round(flip * float(form.rhs[i]), 9), equal))
    return out


@pytest.mark.parametrize("policy", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("shedding", list(Shedding))
@pytest.mark.parametrize("exclusivity", list(Exclusivity))
@pytest.mark.parametrize("seed", range(4))
def test_fast_algebra_is_the_pyomo_model_row_by_row(
    seed: int, exclusivity: Exclusivity, shedding: Shedding, policy: dict[str, Any]
) -> None:
    pose = random_pose(seed)
    site = replace(pose.site, reserve=replace(pose.site.reserve, **policy))
    p = problem_of(replace(pose, site=site))
    structure = structure_of(p.site, p.grid, Formulation(exclusivity=exclusivity, shedding=shedding))
    fast, readable = build(structure, Model).standard_form(), build(structure, PyomoModel).standard_form()
    assert rows_of(fast) == rows_of(readable)
    assert fast.par_slots == readable.par_slots
    assert {k: v.tolist() for k, v in fast.columns.items()} == {
        k: v.tolist() for k, v in readable.columns.items()
    }


@pytest.mark.parametrize(
    "seed", [pytest.param(k, marks=pytest.mark.soak if k >= 6 else []) for k in range(12)]
)
def test_compiled_model_has_the_optimum_of_the_readable_model(seed: int, tmp_path: Path) -> None:
    p = problem_of(random_pose(seed))
    way = Exclusivity.BINARY if p.exclusive.any() else Exclusivity.HULL
    compiled = compiled_of(p, Formulation(exclusivity=way))
    n = compiled.numbers(p)
    outcome = Session(compiled).solve(compiled.fill(n), EXACT)
    assert outcome.objective == pytest.approx(
        through_lp_file(compiled, p, tmp_path / "m.lp"), rel=1e-7, abs=1e-5
    )
    assert outcome.x is not None
    assert sum(cost_terms(n, compiled.values(outcome.x)).values()) == pytest.approx(
        outcome.objective, rel=1e-9
    )


def test_compiled_model_fed_with_new_numbers_solves_like_a_fresh_one() -> None:
    first, second = random_pose(2), random_pose(2)
    second = replace(
        second, soc=0.3, load_kw={k: 0.7 * np.asarray(v) for k, v in second.load_kw.items()}, peak_kw=55.0
    )
    p, q = problem_of(first), problem_of(second)
    kept, fresh = compiled_of(p, Formulation()), compiled_of(q, Formulation())
    session = Session(kept)
    session.solve(kept.fill(kept.numbers(p)), EXACT)
    again = session.solve(kept.fill(kept.numbers(q)), EXACT)
    once = Session(fresh).solve(fresh.fill(fresh.numbers(q)), EXACT)
    assert again.objective == pytest.approx(once.objective, abs=1e-9)
    assert again.x is not None
    assert once.x is not None
    assert np.array_equal(again.x, once.x), "equal input must give an equal plan, whatever was solved before"


def digest(pose: Pose) -> list[np.ndarray]:
    """Everything the solver is told."""
    p = problem_of(pose)
    compiled = compiled_of(p, Formulation())
    f: Filled = compiled.fill(compiled.numbers(p))
    form = compiled.form
    return [
        form.a_start, form.a_index, form.a_value, f.cost, f.low, f.high, f.row_low, f.row_high, f.integer,
        np.array([f.offset]),
    ]  # fmt: skip


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.shape == y.shape and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def others(name: str, value: Any) -> list[Any]:
    """Other values of the same type, none for what is not a number; far ones for times, which are rounded."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float):
        return (
            [0.45 * value, 3.0 * value] if name.endswith(("_s", "_h")) else [0.45 * value if value else 0.5]
        )
    if isinstance(value, int):
        return [value - 1, value + 1]
    if isinstance(value, tuple) and value and isinstance(value[0], float):
        return [tuple(1.05 * x for x in value)]
    return []


def silent(part: "DataclassInstance", into: Callable[[Any], Pose], base: list[np.ndarray]) -> set[str]:
    """Fields of a dataclass whose change reaches no number of the model."""
    out = set()
    for f in fields(part):
        tries = others(f.name, getattr(part, f.name))
        if tries and all(same(digest(into(replace(part, **{f.name: x}))), base) for x in tries):
            out.add(f.name)
    return out


# What the plan does not depend on, and why. Anything else that falls silent is a bug.
NOT_IN_THE_MODEL = {
    "bess": set(),
    "cycle_life": set(),
    "soc_reserve": set(),
    "resting": set(),
    "warranty": set(),
    "full_charge": set(),
    "derating": set(),
    "charge_curve": set(),
    "discharge_curve": set(),
    "power_by_soc": set(),
    "pcs": {"overload_ratio", "overload_s", "restart_s"},  # seconds: the edge's and the physics' business
    "genset": {
        "cool_down_s", "step_load_kw_max", "overload_ratio", "start_attempts",
        "mains_failure_start", "mains_failure_delay_s",
    },
    "pv": {
        "p_dc_kwp", "gamma_per_degc", "noct_degc", "system_loss_ratio", "tilt_deg", "azimuth_deg",
        "reconnect_s",
    },
    "grid": {  # the edge's
        "transfer_s", "meter_error_kw", "load_guaranteed_kw", "balance_tolerance_ratio"
    },
    "reactive": set(),
    "strength": set(),
    "sources": set(),
    "flapping": set(),
    "transformer": set(),
    "feeder": {"restore_dwell_s", "phase_share", "pickup_ratio", "inrush_kva"},  # edge and simulation
    "tariff": {"default_import_per_kwh"},  # a window holds throughout
    "reserve": set(),
    "site": {"latitude_deg", "longitude_deg", "altitude_m", "cycle_s", "plan_soc_tolerance"},  # the edge's
    "notified": {"ratchet_ratio", "ratchet_count"},  # it has no past peaks
    "ratchet": {"contracted_ratio", "excess_per_kw"},  # it has no contract
    "block": set(),
    "delivery": set(),
    "credit": set(),
    "ppa": set(),
    "event": set(),
    "system": set(),
    "hour": set(),
    "rating": set(),
    "exercise": set(),
    "low_load": set(),
    "burn_off": set(),
    "power factor": set(),
    "pump": set(),
    "depot": {"min_run_s"},  # it has none
    "work": set(),
}  # fmt: skip


def test_every_parameter_of_the_site_reaches_the_matrix() -> None:
    pose = random_pose(5)
    pose = replace(pose, mode=GridMode.ISLANDED, outages=(), step_s=900.0, soc=0.97)
    pose = replace(
        pose,
        gensets_now={
            **pose.gensets_now,
            "gen2": {"fuel_l": 900.0, "duty": GensetDuty(run_h=500.0, exercised_at=LONG_AGO)},
        },
    )
    reserve = replace(
        pose.site.reserve,
        assumed_outage_h=1.0,
        survive_h=2.0,
        survive_pv_ratio=0.2,
        outages_per_month=4.0,
        fuel_h=3.0,
    )
    site = replace(pose.site, reserve=reserve)
    pose = replace(pose, site=site)
    base = digest(pose)
    b, g, v, f = site.bess[0], site.gensets[1], site.pv[0], site.feeders[1]

    def at(**parts: Any) -> Pose:
        return replace(pose, site=replace(site, **parts))

    def with_tariff(**parts: Any) -> Pose:
        return at(tariff=replace(site.tariff, **parts))

    def with_gen2(**parts: Any) -> Pose:
        return at(gensets=(site.gensets[0], replace(g, **parts)))

    def with_battery(**parts: Any) -> Pose:
        return at(bess=(replace(b, battery=replace(b.battery, **parts)),))

    def hot(x: Pose) -> Pose:
        return replace(x, bess_now={"bess1": {"temp_degc": 33.0}})

    def due(x: Pose) -> Pose:
        return replace(x, bess_now={"bess1": {"use": BessUse(full_age_h=29.0)}})

    def tied(x: Pose) -> Pose:
        return replace(x, mode=GridMode.GRID_TIED)

    reserved = digest(tied(with_battery(soc_reserve=(RESERVED,))))

    def with_peak(peak: CoincidentPeak) -> Pose:
        return with_tariff(contracts=replace(CONTRACTS, coincident_peaks=(peak,)))

    found = {
        "bess": silent(b.battery, lambda x: at(bess=(replace(b, battery=x),)), base),
        "cycle_life": silent(
            CYCLES, lambda x: at(bess=(replace(b, battery=replace(b.battery, cycle_life=x)),)), base
        ),
        "soc_reserve": silent(RESERVED, lambda x: tied(with_battery(soc_reserve=(x,))), reserved),
        "resting": silent(TERMS["resting"], lambda x: with_battery(resting=x), base),
        "derating": silent(
            WARM,
            lambda x: hot(with_battery(derating=(COOL, x))),
            digest(hot(with_battery(derating=(COOL, WARM)))),
        ),
        "charge_curve": silent(
            CURVE, lambda x: with_battery(charge_curve=x), digest(with_battery(charge_curve=CURVE))
        ),
        "discharge_curve": silent(
            CURVE, lambda x: with_battery(discharge_curve=x), digest(with_battery(discharge_curve=CURVE))
        ),
        "power_by_soc": silent(MIDDLE, lambda x: with_battery(power_by_soc=(EMPTY, x, FULL)), base),
        "full_charge": silent(
            TERMS["full_charge"], lambda x: due(with_battery(full_charge=x)), digest(due(pose))
        ),
        "warranty": silent(TERMS["warranty"], lambda x: with_battery(warranty=x), base),
        "pcs": silent(b.pcs, lambda x: at(bess=(replace(b, pcs=x),)), base),
        "genset": silent(g, lambda x: at(gensets=(site.gensets[0], x)), base),
        "pv": silent(v, lambda x: at(pv=(x,)), base),
        "grid": silent(site.grid, lambda x: at(grid=x), base),
        "reactive": silent(REACTIVE, lambda x: at(grid=replace(site.grid, reactive=x)), base),
        "transformer": silent(TRANSFORMER, lambda x: at(grid=replace(site.grid, transformer=x)), base),
        "flapping": silent(FLAPPING, lambda x: at(grid=replace(site.grid, flapping=x)), base),
        "strength": silent(STRENGTH, lambda x: at(grid=replace(site.grid, strength=x)), base),
        "sources": silent(SOURCES, lambda x: at(sources=x), digest(at(sources=SOURCES))),
        "feeder": silent(f, lambda x: at(feeders=(site.feeders[0], x, site.feeders[2])), base),
        "tariff": silent(site.tariff, lambda x: at(tariff=x), base),
        "reserve": silent(site.reserve, lambda x: at(reserve=x), base),
        "site": silent(site, lambda x: replace(pose, site=x), base),
        "notified": silent(NOTIFIED, lambda x: with_tariff(demand_charges=(x, RATCHET)), base),
        "ratchet": silent(RATCHET, lambda x: with_tariff(demand_charges=(NOTIFIED, x)), base),
        "low_load": silent(LOW_LOAD, lambda x: with_gen2(low_load=x), base),
        "burn_off": silent(BURN_OFF, lambda x: with_gen2(low_load=replace(LOW_LOAD, burn_off=x)), base),
        "power factor": silent(POWER_FACTOR, lambda x: with_tariff(power_factor=x), base),
        "credit": silent(CREDIT, lambda x: with_tariff(export_credit=x), base),
        "ppa": silent(PPA, lambda x: with_tariff(contracts=replace(CONTRACTS, energy=(x,))), base),
        "event": silent(EVENT, lambda x: with_tariff(contracts=replace(CONTRACTS, events=(x,))), base),
        "system": silent(SYSTEM, lambda x: with_peak(x), base),
        "hour": silent(SYSTEM.hours[0], lambda x: with_peak(replace(SYSTEM, hours=(x,))), base),
        "pump": silent(PUMP, lambda x: at(deferrables=(x, DEPOT)), base),
        "depot": silent(DEPOT, lambda x: at(deferrables=(PUMP, x)), base),
        "work": silent(PUMP.daily[0], lambda x: at(deferrables=(replace(PUMP, daily=(x,)), DEPOT)), base),
        "exercise": silent(EXERCISE, lambda x: with_gen2(exercise=x), base),
        "rating": silent(RATING, lambda x: with_gen2(rating=x), base),
        "delivery": silent(BROUGHT, lambda x: at(deliveries=(x,)), base),
        "block": silent(BLOCKS[1], lambda x: with_tariff(energy_blocks=(BLOCKS[0], x, BLOCKS[2])), base),
    }
    assert {k: found[k] ^ v for k, v in NOT_IN_THE_MODEL.items() if found[k] != v} == {}


@pytest.mark.parametrize("planned", [True, False], ids=["reactive power planned", "none planned"])
def test_every_corner_of_a_polygon_reaches_the_matrix(planned: bool) -> None:
    """Each coordinate of each corner that power can reach; without planned kvar those an island leans on."""
    pose = replace(random_pose(3), mode=GridMode.ISLANDED, outages=())
    if not planned:
        heavy = {f.id: np.full(STEPS, 1500.0) for f in pose.site.feeders}
        grid = replace(pose.site.grid, reactive=None)
        pose = replace(pose, site=replace(pose.site, grid=grid), load_kw=heavy)
    b, v = pose.site.bess[0], pose.site.pv[0]

    def with_own(bess: PqCapability = CORNERED, pv: PqCapability = SUNNY) -> list[np.ndarray]:
        unit = replace(b, pcs=replace(b.pcs, capability=bess))
        return digest(replace(pose, site=replace(pose.site, bess=(unit,), pv=(replace(v, capability=pv),))))

    base, silent_corners = with_own(), set()
    for name, own in (("bess", CORNERED), ("pv", SUNNY)):
        for k, (p, q) in enumerate(own.corners):
            for axis, moved in (("p", (1.01 * p + 0.1, q)), ("q", (p, 1.01 * q + 0.1))):
                corners = (*own.corners[:k], moved, *own.corners[k + 1 :])
                if same(with_own(**{name: PqCapability(corners=corners)}), base):
                    silent_corners.add((name, axis, own.corners[k]))
    if planned:
        assert silent_corners == {("pv", axis, (610.0, 150.0)) for axis in "pq"}, "beyond p_ac_kw, 600 kW"
    else:
        assert not {("bess", axis, (440.0, 320.0)) for axis in "pq"} & silent_corners


@pytest.mark.parametrize(
    "change",
    [
        {"soc": 0.42},
        {"bess_now": {"bess1": {"turns_soc": (0.9, 0.2)}}},
        {"bess_now": {"bess1": {"use": BessUse(day_kwh=20.0)}}},
        {"bess_now": {"bess1": {"use": BessUse(year_kwh=20.0)}}},
        {"bess_now": {"bess1": {"use": BessUse(full_age_h=29.5)}}},
        {"bess_now": {"bess1": {"soc": 0.945, "use": BessUse(full_age_h=29.5, full_h=0.3)}}},
        {"bess_now": {"bess1": {"use": BessUse(year_h=20.0)}}},
        {"bess_now": {"bess1": {"use": BessUse(year_soc_h=0.2)}}},
        {"peak_kw": 33.0},
        {"mode": GridMode.ISLANDED},
        {"import_per_kwh": 0.33},
        {"export_per_kwh": 0.01},
        {"outages": (outage(1, 2, 900.0),)},
        {"gensets_now": {"gen1": {"available": False}}},
        {"gensets_now": {"gen1": {"on_load": True, "age_s": 60.0}}},
        {"gensets_now": {"gen1": {"age_s": 60.0}}},
        {"gensets_now": {"gen1": {"starting": True, "ready_in_s": 30.0}}},
        {"gensets_now": {"gen1": {"fuel_l": 5.0}}},
        {"gensets_now": {"gen2": {"duty": GensetDuty(low_load_h=1.0)}}},
        {"gensets_now": {"gen2": {"duty": GensetDuty(burning_h=0.5, low_load_h=3.0)}}},
        {"gensets_now": {"gen2": {"duty": GensetDuty(hours=(WORKED,))}}},
        {"gensets_now": {"gen2": {"duty": GensetDuty(year_run_h=7.0)}}},
        {"gensets_now": {"gen2": {"duty": GensetDuty(run_h=7.0)}}},
        {"gensets_now": {"gen2": {"duty": GensetDuty(exercised_at=LONG_AGO)}}},
        {"load_kw": {"critical": [1.0] * STEPS}},
        {"pv_kw": {"pv1": [7.0] * STEPS}},
    ],
)
def test_every_part_of_the_condition_and_forecast_reaches_the_numbers(change: dict[str, Any]) -> None:
    pose = replace(random_pose(6), gensets_now={}, outages=(), step_s=900.0, mode=GridMode.GRID_TIED)
    assert not same(digest(replace(pose, **change)), digest(pose))


def test_families_that_declare_nothing_have_no_numbers() -> None:
    left_out = set[str]()
    plain = small_site(bess=[ideal_bess()], gensets=[small_genset()], feeders=[feeder("all", 1.0)])
    poses = [Pose(site=plain, load_kw={"all": 50.0}), *(random_pose(seed) for seed in range(12))]
    for pose, form in product(poses, (Formulation(), PLAIN)):
        p = problem_of(pose)
        compiled = compiled_of(p, form)
        rest = [family for family in FAMILIES if family not in compiled.families]
        n = Numbers(layout(compiled.shapes))
        for family in rest:
            family.numbers(n, p, compiled.structure)
        given = (n.low, n.high, n.parameters, n.integer, n.cost, n.constant)
        assert not any(given), pose
        left_out |= {str(family) for family in rest}
    assert len(left_out) > 20


@pytest.mark.parametrize("where", ["parameter", "price", "bound"])
def test_not_a_number_is_refused_by_the_name_of_what_it_stands_for(where: str) -> None:
    p = problem_of(random_pose(1))
    compiled = compiled_of(p, Formulation())
    n = compiled.numbers(p)
    array = {
        "parameter": n.parameters["load_kw"],
        "price": n.cost["fuel"]["above_kw"],
        "bound": n.high["pv_kw"],
    }
    array[where].flat[0] = np.nan
    name = {"parameter": "load_kw", "price": r"above_kw \(fuel\)", "bound": "pv_kw"}[where]
    with pytest.raises(ValueError, match=f"NaN in the numbers of a model: {name}$"):
        compiled.fill(n)
