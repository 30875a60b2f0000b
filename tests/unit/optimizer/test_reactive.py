"""Reactive power and voltage at the interconnection, against an AC power flow and answers known by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cli.plan_files import table
from ems.assets import PvParams, ReactivePolicy
from ems.plan import Plan
from ems.site import GridMode, Site
from ems.timegrid import TimeGrid
from optimizer import Planner
from optimizer.formulation import Exclusivity
from optimizer.formulations.reactive import grid_kvar_max, reach_ratio, sides
from optimizer.formulations.voltage import HALF_DEG, chords
from optimizer.intake import planning_problem
from optimizer.structure import structure_of
from optimizer.validate import validate
from optimizer.validate.power_flow import two_bus_voltage_pu
from plant_models.grid import impedance_pu_per_kw, poi_voltage_pu
from tests import builders
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, small_genset, small_site

BAND = ReactivePolicy(v_poi_min_pu=0.95, v_poi_max_pu=1.05)
LEAST = replace(EXACT, formulation=replace(EXACT.formulation, tie_break_ratio=1e-3))  # no kvar for nothing
SECURE = replace(EXACT, formulation=replace(EXACT.formulation, reserve=True))


def behind(site: Site, r_ohm: float, x_ohm: float, policy: ReactivePolicy = BAND) -> Site:
    """The site with an impedance in front of it and a band at its interconnection; 400 V."""
    return replace(site, grid=replace(site.grid, r_ohm=r_ohm, x_ohm=x_ohm, reactive=policy))


def pcs(s_kva: float, p_kw: float = 100.0) -> Any:
    bess = ideal_bess(energy_kwh=1000.0, p_charge_kw_max=p_kw, p_discharge_kw_max=p_kw)
    return replace(bess, pcs=replace(bess.pcs, s_kva=s_kva))


def inductive(peak_kw: float = 200.0, power_factor_ratio: float = 0.8) -> Any:
    return replace(feeder("load", 50.0, peak_kw=peak_kw), power_factor_ratio=power_factor_ratio)


# --- the power flow ---------------------------------------------------------------------------------------


def test_power_flow_agrees_with_the_closed_form_on_random_lines() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        r, x = rng.uniform(0.0, 1e-3, 2)
        v0, p, q = rng.uniform(0.9, 1.1), rng.uniform(-300.0, 300.0), rng.uniform(-200.0, 200.0)
        closed = poi_voltage_pu(r, x, v0, p, q)
        assert two_bus_voltage_pu(r, x, v0, p, q) == pytest.approx(closed, abs=1e-6)


def test_power_flow_of_a_collapse_is_zero() -> None:
    """Behind 0.001 pu per kW of resistance no more than 1 / (4 R) = 250 kW can be drawn."""
    assert two_bus_voltage_pu(1e-3, 0.0, 1.0, 249.0, 0.0) == pytest.approx(0.5 + np.sqrt(0.25 - 0.249))
    assert two_bus_voltage_pu(1e-3, 0.0, 1.0, 251.0, 0.0) == 0.0


# --- the rows against the power flow ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_the_band_are_safe_and_nearly_tight(seed: int) -> None:
    """What they allow keeps the AC voltage; what keeps it behind a source 0.14 % lower they allow."""
    rng = np.random.default_rng(seed)
    site = builders.site()
    low, high = float(rng.uniform(0.88, 0.97)), float(rng.uniform(1.01, 1.08))
    policy = ReactivePolicy(v_poi_min_pu=low, v_poi_max_pu=high)
    site = behind(site, float(rng.uniform(0.0, 0.06)), float(rng.uniform(0.001, 0.08)), policy)
    site = replace(site, grid=replace(site.grid, p_export_kw_max=float(rng.uniform(0.0, 300.0))))
    s = structure_of(site, TimeGrid.uniform(builders.T0, 900.0, 1), EXACT.formulation)
    r, x = impedance_pu_per_kw(site.grid)
    z, chain = float(np.hypot(r, x)), chords(s, low)
    assert np.degrees(chain.half_rad) <= HALF_DEG + 1e-9
    allowed_high = 0
    for _ in range(300):
        v0 = float(rng.uniform(0.93, 1.07))
        p = float(rng.uniform(-site.grid.p_export_kw_max, site.grid.p_import_kw_max))
        q = float(rng.uniform(-1.0, 1.0)) * min(grid_kvar_max(s), 400.0)
        at = [p * np.cos(chain.z_rad + b) + q * np.sin(chain.z_rad + b) for b in chain.mid_rad]
        room = [low / z * (np.cos(chain.half_rad) * v0 - low * np.cos(b)) for b in chain.mid_rad]
        keeps_low = all(a <= b for a, b in zip(at, room, strict=True))
        keeps_high = r * p + x * q >= (v0 - high) * high
        true = two_bus_voltage_pu(r, x, v0, p, q)
        assert true >= low - 1e-7 or not keeps_low
        assert true <= high + 1e-7 or not keeps_high
        if two_bus_voltage_pu(r, x, v0 * 0.9986, p, q) >= low:
            assert keeps_low
        allowed_high += keeps_high
    assert allowed_high > 30


@pytest.mark.parametrize("count", [8, 16, 24])
def test_polygon_lies_inside_the_circle_and_touches_it_on_both_axes(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(500):
        p, q = rng.uniform(-1.2, 1.2, 2)
        inside = all(c * p + sn * q <= reach_ratio(count) + 1e-12 for c, sn in sides(count))
        assert np.hypot(p, q) <= 1.0 + 1e-9 or not inside
        assert inside or np.hypot(p, q) >= reach_ratio(count) - 1e-9
    for p, q in ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)):
        assert all(c * p + sn * q <= reach_ratio(count) + 1e-12 for c, sn in sides(count))


# --- plans ------------------------------------------------------------------------------------------------


def test_without_the_key_nothing_of_it_is_in_the_plan() -> None:
    plan = Pose(site=small_site(bess=[pcs(150.0)], feeders=[inductive()]), load_kw={"load": 100.0}).plan()
    assert (plan.grid_q_kvar, plan.poi_v_pu, dict(plan.bess_q_kvar)) == ((), (), {})


def test_pcs_gives_the_reactive_power_that_keeps_the_voltage() -> None:
    """X = 0.08 ohm at 400 V: 0.0005 pu per kvar. 100 kW with 75 kvar would leave 0.961 pu; 0.99 is asked.

    With R = 0: V^4 + (2 X Q - 1) V^2 + X^2 (P^2 + Q^2) = 0, solved for Q at V = 0.99.
    """
    site = small_site(bess=[pcs(150.0)], feeders=[inductive()])
    policy = replace(BAND, v_poi_min_pu=0.99)
    pose = Pose(site=behind(site, 0.0, 0.08, policy), load_kw={"load": 100.0}, soc=0.0)
    plan = pose.plan(LEAST)
    x, v2 = 0.0005, 0.99**2
    # X^2 Q^2 + 2 X v2 Q + v2^2 - v2 + X^2 P^2 = 0
    root = (-2 * x * v2 + np.sqrt(4 * x**2 * v2**2 - 4 * x**2 * (v2**2 - v2 + x**2 * 100.0**2))) / (2 * x**2)
    for t in range(4):
        assert 0.99 <= plan.poi_v_pu[t] <= 0.9915
        assert root - 3.0 <= plan.grid_q_kvar[t] <= root
        assert plan.bess_q_kvar["bess1"][t] == pytest.approx(75.0 - plan.grid_q_kvar[t], abs=1e-6)
    assert plan.cost_terms["reactive"] == pytest.approx(1e-3 * 0.1 * sum(plan.bess_q_kvar["bess1"]))
    assert sum(plan.cost_terms.values()) == pytest.approx(plan.solve.objective)
    assert not any("voltage" in n for n in plan.notes)
    columns = {column.name: (column.unit, values) for column, values in table(pose.site, plan)}
    assert columns["bess1_q_kvar"] == ("kvar", plan.bess_q_kvar["bess1"])
    assert columns["poi_v_pu"] == ("1", plan.poi_v_pu)


def test_active_and_reactive_power_share_the_circle() -> None:
    """A converter of 100 kVA: the 75 kvar of an island's load leave it 66 kW of the 100; polygon and all."""
    site = behind(small_site(bess=[pcs(100.0)], feeders=[inductive()]), 0.0, 0.01)
    pose = Pose(site=site, load_kw={"load": 100.0}, mode=GridMode.ISLANDED, soc=1.0)
    plan = pose.plan()
    for t in range(4):
        served = 100.0 - plan.shed_kw["load"][t]
        p, q = plan.bess_p_kw["bess1"][t], plan.bess_q_kvar["bess1"][t]
        assert q == pytest.approx(0.75 * served, abs=1e-6)
        assert np.hypot(p, q) <= 100.0 + 1e-6
        assert 0.98 * 80.0 <= served <= 80.0 + 1e-6, "100 kVA serve 80 kW at power factor 0.8"


def test_an_island_without_anyone_to_give_reactive_power_says_so() -> None:
    """Neither the only genset (unity rating) nor anything else gives kvar: named, and a plan all the same."""
    unit = replace(small_genset(), s_kva=100.0)
    site = behind(small_site(gensets=[unit], feeders=[inductive()]), 0.0, 0.01)
    pose = Pose(
        site=site, load_kw={"load": 50.0}, mode=GridMode.ISLANDED, gensets_now={"gen1": {"on_load": True}}
    )
    plan = pose.plan()
    served = [50.0 - x for x in plan.shed_kw["load"]]
    assert plan.q_short_kvar == pytest.approx([0.75 * x for x in served])
    assert max(plan.q_short_kvar) > 0.0
    assert any(n.startswith("reactive power short") for n in plan.notes)


def test_gensets_give_reactive_power_in_an_island_only() -> None:
    unit = replace(small_genset(), s_kva=125.0)
    site = behind(small_site(gensets=[unit], feeders=[inductive()]), 0.0, 0.01)
    tied = Pose(site=site, load_kw={"load": 50.0}, import_per_kwh=5.0).plan()
    assert tied.genset_p_kw["gen1"] == pytest.approx([50.0] * 4)
    assert tied.genset_q_kvar["gen1"] == pytest.approx([0.0] * 4)
    island = Pose(site=site, load_kw={"load": 50.0}, mode=GridMode.ISLANDED).plan()
    assert island.genset_q_kvar["gen1"] == pytest.approx([37.5] * 4)
    assert island.poi_v_pu == (0.0,) * 4


def test_pv_with_a_rating_takes_reactive_power_to_hold_the_voltage_down() -> None:
    """Export of 200 kW behind 0.02 + j0.08 ohm lifts 1.03 pu above 1.04: the inverters take some kvar."""
    sun = PvParams(
        id="pv1", p_dc_kwp=250.0, p_ac_kw=200.0, gamma_per_degc=0.0, noct_degc=45.0, system_loss_ratio=0.0,
        tilt_deg=0.0, azimuth_deg=0.0, reconnect_s=0.0, s_kva=250.0,
    )  # fmt: skip
    site = small_site(pv=[sun], feeders=[inductive(power_factor_ratio=1.0)], export_kw=500.0)
    policy = ReactivePolicy(v_poi_min_pu=0.95, v_poi_max_pu=1.04, v_source_pu=1.03)
    pose = Pose(
        site=behind(site, 0.02, 0.08, policy), pv_kw={"pv1": [200.0, 0.0]}, steps=2, export_per_kwh=0.1
    )
    plan = pose.plan(LEAST)
    assert plan.pv_p_kw["pv1"][0] == pytest.approx(200.0)
    assert plan.pv_q_kvar["pv1"][0] < -10.0
    assert 1.035 <= plan.poi_v_pu[0] <= 1.04 + 1e-6
    assert plan.pv_q_kvar["pv1"][1] == 0.0, "no sun, no reactive power"
    bare = replace(pose, site=replace(pose.site, pv=(replace(sun, s_kva=None),))).plan()
    assert bare.pv_p_kw["pv1"][0] < 200.0 - 10.0, "without a rating it has to be curtailed"
    assert bare.poi_v_pu[0] <= 1.04 + 1e-6


def test_a_band_that_cannot_be_kept_is_missed_by_name() -> None:
    """A source at 0.92 pu is below 0.95 whatever the plant does; nothing is shed that could not help."""
    policy = replace(BAND, v_source_pu=0.92)
    site = behind(small_site(feeders=[inductive(power_factor_ratio=1.0)]), 0.01, 0.01, policy)
    plan = Pose(site=site, load_kw={"load": 10.0}, steps=2).plan()
    assert plan.poi_v_pu[0] == pytest.approx(0.92, abs=0.002)
    assert plan.poi_v_short_pu[0] == pytest.approx(0.03, abs=0.003)
    assert any("voltage at the interconnection below its band: 0.91" in n for n in plan.notes)
    assert plan.cost_terms["voltage_short"] > 0.0


def test_a_source_out_of_band_behind_no_impedance_is_said_and_planned_with() -> None:
    """Nothing that is planned moves the voltage of a stiff grid."""
    site = behind(small_site(feeders=[inductive()]), 0.0, 0.0, replace(BAND, v_source_pu=0.93))
    plan = Pose(site=site, load_kw={"load": 10.0}, steps=2).plan()
    assert plan.poi_v_pu == pytest.approx((0.93, 0.93))
    assert plan.poi_v_short_pu == pytest.approx((0.02, 0.02))
    assert any("voltage at the interconnection below its band: 0.930 pu" in n for n in plan.notes)


def test_load_is_shed_for_the_voltage_where_it_is_worth_less_than_the_rung() -> None:
    """0.0005 pu per kW: 150 kW leave 0.92 pu. A feeder at 50 is the highest VOLL: it stays; one at 5 goes."""
    both = [feeder("vital", 50.0, peak_kw=100.0), feeder("cheap", 5.0, peak_kw=100.0)]
    site = behind(small_site(feeders=both), 0.08, 0.0)
    plan = Pose(site=site, load_kw={"vital": 80.0, "cheap": 70.0}, steps=1).plan()
    assert plan.shed_kw["vital"][0] == pytest.approx(0.0)
    assert 0.95 <= plan.poi_v_pu[0] <= 0.952
    only = behind(small_site(feeders=[both[0]]), 0.08, 0.0)
    kept = Pose(site=only, load_kw={"vital": 150.0}, steps=1).plan()
    assert kept.shed_kw["vital"][0] == pytest.approx(0.0)
    assert kept.poi_v_pu[0] == pytest.approx(poi_voltage_pu(0.0005, 0.0, 1.0, 150.0, 0.0), abs=1e-6)


def test_source_voltage_is_worked_back_from_the_interconnection() -> None:
    """What is measured behind 80 kW and 60 kvar gives the source that the power flow started from."""
    site = behind(small_site(bess=[pcs(150.0)], feeders=[inductive()]), 0.03, 0.06)
    r, x = impedance_pu_per_kw(site.grid)
    v_poi = poi_voltage_pu(r, x, 1.03, 80.0, 60.0)
    pose = Pose(site=site, load_kw={"load": 80.0}, grid_v_pu=v_poi, grid_p_kw=80.0, grid_q_kvar=60.0)
    p = planning_problem(site, pose.condition(), pose.forecast(), EXACT)
    assert p.v_source_pu == pytest.approx([1.03, 1.03, 1.0, 1.0])
    blind = replace(pose, grid_v_pu=0.3)
    q = planning_problem(site, blind.condition(), blind.forecast(), EXACT)
    assert q.v_source_pu == pytest.approx([1.0] * 4)
    assert any("outside the quality band" in n for n in q.notes)


def test_reserve_of_a_forming_converter_leaves_room_for_the_planned_reactive_power() -> None:
    """50 kVA beside 30 kvar: 40 kW of headroom at most, of which the polygon of 16 corners leaves 98 %."""
    site = small_site(bess=[pcs(50.0, 50.0)], feeders=[inductive(50.0, 0.5547)])
    site = replace(site, reserve=replace(site.reserve, load_ratio=1.0, pv_ratio=0.0, shortfall_per_kwh=2.0))
    pose = Pose(
        site=behind(site, 0.0, 0.001), load_kw={"load": 20.0}, mode=GridMode.ISLANDED, soc=1.0, steps=2
    )
    plan = pose.plan(SECURE)
    assert plan.bess_q_kvar["bess1"][0] == pytest.approx(30.0, abs=0.01)
    assert plan.reserve_up_held_kw[0] == pytest.approx(20.0, abs=0.5)
    tight = replace(pose, load_kw={"load": 24.0}).plan(SECURE)
    assert tight.reserve_up_short_kw[0] > 5.0, "36 kvar leave 34.7 kW: 10.7 beside the load, 24 are asked for"
    assert any("reserve up short" in n for n in tight.notes)


def test_reserve_for_a_loss_of_the_grid_leaves_room_for_the_reactive_load() -> None:
    """A converter of 100 kVA and 100 kW, 80 kW of vital load with 60 kvar: it carries 80 kW, not 100."""
    load = replace(inductive(), tier=1)
    site = small_site(bess=[pcs(100.0)], feeders=[load])
    site = replace(site, reserve=replace(site.reserve, critical_tier=1, shortfall_per_kwh=2.0))
    pose = Pose(site=behind(site, 0.0, 0.001), load_kw={"load": 80.0}, soc=1.0, steps=2)
    plan = pose.plan(SECURE)
    assert plan.reserve_up_required_kw == pytest.approx((80.0, 80.0))
    assert plan.reserve_up_held_kw == pytest.approx((80.0, 80.0))
    more = replace(pose, load_kw={"load": 96.0}).plan(SECURE)  # 72 kvar leave 69.4 kW
    assert more.reserve_up_short_kw == pytest.approx((96.0 - 100.0 * np.sqrt(1 - 0.72**2),) * 2, abs=1e-3)


# --- random plants, replayed --------------------------------------------------------------------------------


def weak_pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    site = builders.site()
    policy = ReactivePolicy(
        v_poi_min_pu=float(rng.uniform(0.93, 0.97)), v_poi_max_pu=1.05, pcs_sides=int(rng.choice([8, 12, 16]))
    )
    site = behind(site, float(rng.uniform(0.0, 0.05)), float(rng.uniform(0.01, 0.08)), policy)
    site = replace(
        site,
        grid=replace(site.grid, p_export_kw_max=200.0),
        pv=tuple(replace(x, s_kva=660.0 if seed % 2 else None) for x in site.pv),
    )
    return Pose(
        site=site,
        load_kw={f.id: rng.uniform(0.1, 1.0, 8) * f.p_peak_kw for f in site.feeders},
        pv_kw={"pv1": rng.uniform(0.0, 500.0, 8)},
        import_per_kwh=rng.uniform(0.05, 0.4, 8),
        export_per_kwh=0.04,
        steps=8,
        soc=float(rng.uniform(0.1, 0.9)),
        mode=GridMode.ISLANDED if seed % 4 == 0 else GridMode.GRID_TIED,
        grid_v_pu=float(rng.uniform(0.96, 1.04)),
    )


@pytest.mark.parametrize("seed", range(12))
def test_ac_voltage_of_random_plans_lies_in_the_band_unless_the_plan_says_so(seed: int) -> None:
    pose = weak_pose(seed)
    form = replace(EXACT.formulation, reserve=True, soc_tapers=True)
    options = replace(EXACT, gap_ratio=0.01, formulation=form)
    plan = pose.plan(options)
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), options)
    r, x = impedance_pu_per_kw(pose.site.grid)
    policy = pose.site.grid.reactive
    assert policy is not None
    named = any("voltage at the interconnection" in n for n in plan.notes)
    for t in np.flatnonzero(p.grid_available):
        true = two_bus_voltage_pu(r, x, float(p.v_source_pu[t]), plan.grid_p_kw[t], plan.grid_q_kvar[t])
        assert true == pytest.approx(plan.poi_v_pu[t], abs=1e-6)
        inside = policy.v_poi_min_pu - 1e-5 <= true <= policy.v_poi_max_pu + 1e-5
        assert inside or plan.poi_v_short_pu[t] > 0.0
        assert named or policy.v_poi_min_pu - 1e-3 <= true <= policy.v_poi_max_pu + 1e-3
    assert sum(plan.cost_terms.values()) == pytest.approx(plan.solve.objective, rel=1e-6)


def faults(pose: Pose, plan: Plan) -> str:
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    return "; ".join(validate(plan, p).faults)


def test_the_replay_refuses_what_is_not_so() -> None:
    site = behind(small_site(bess=[pcs(150.0)], feeders=[inductive()]), 0.0, 0.08)
    pose = Pose(site=site, load_kw={"load": 100.0}, soc=0.0)
    plan = pose.plan()
    assert faults(pose, plan) == ""
    lied = replace(plan, poi_v_pu=tuple(v + 0.01 for v in plan.poi_v_pu))
    assert "voltage: voltage at the interconnection not as stated" in faults(pose, lied)
    more = tuple(q + 10.0 for q in plan.grid_q_kvar)
    assert "kvar_balance" in faults(pose, replace(plan, grid_q_kvar=more))
    far = replace(plan, grid_q_kvar=(-125.0,) * 4, bess_q_kvar={"bess1": (200.0,) * 4})
    assert "circle: bess1 beyond its apparent power" in faults(pose, far)
    low = replace(pose, site=behind(site, 0.0, 0.08, replace(BAND, v_poi_min_pu=0.99)))
    assert "voltage_band" in faults(low, plan)


def test_plans_follow_one_another_with_the_measured_voltage() -> None:
    """Two plans, a quarter of an hour apart: the second starts from the first and from a sagging source."""
    site = behind(small_site(bess=[pcs(150.0)], feeders=[inductive()]), 0.01, 0.06)
    pose = Pose(site=site, load_kw={"load": 100.0}, steps=8, step_s=900.0)
    planner = Planner(site, LEAST)
    first = planner.plan(pose.condition(), pose.forecast(), None, 1)
    r, x = impedance_pu_per_kw(site.grid)
    measured = poi_voltage_pu(r, x, 0.97, first.grid_p_kw[0], first.grid_q_kvar[0])
    later = replace(pose, grid_v_pu=measured, grid_p_kw=first.grid_p_kw[0], grid_q_kvar=first.grid_q_kvar[0])
    second = planner.plan(later.condition(), later.forecast(), first, 2)
    assert second.solve.rescue == "none"
    assert min(second.poi_v_pu) >= 0.95
    assert min(second.bess_q_kvar["bess1"]) > max(first.bess_q_kvar["bess1"])


def test_binary_exclusivity_lays_out_the_same_rows() -> None:
    pose = weak_pose(3)
    binary = replace(EXACT, formulation=replace(EXACT.formulation, exclusivity=Exclusivity.BINARY))
    assert pose.plan(binary).poi_v_pu
