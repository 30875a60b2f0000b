"""Random plants, random days: energy is conserved and nothing exceeds what it is."""

import math
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ems.assets import PvParams, Sharing
from ems.points import GensetState
from ems.site import Site
from plant_models import battery
from plant_models.plant import PlantFaults, PlantFlows, PlantInput, PlantState, initial_state, step
from tests import builders
from tests.unit.plant_models.helpers import balance_kw

SMALL = builders.site()


@st.composite
def sites(draw: st.DrawFn) -> Site:
    bess = tuple(
        replace(
            builders.bess(
                energy_kwh=draw(st.floats(50.0, 3000.0)),
                p_charge_kw_max=draw(st.floats(20.0, 600.0)),
                p_discharge_kw_max=draw(st.floats(20.0, 600.0)),
                eta_charge=draw(st.floats(0.85, 1.0)),
                loss_discharge_pu=draw(st.floats(0.0, 0.05)),
                self_discharge_per_h=draw(st.sampled_from([0.0, 2e-5, 1e-3])),
            ),
            id=f"bess{k + 1}",
            pcs=replace(
                builders.bess().pcs, can_form=draw(st.booleans()), s_kva=draw(st.floats(100.0, 700.0))
            ),
        )
        for k in range(draw(st.integers(0, 2)))
    )
    gensets = tuple(
        replace(
            builders.genset(f"gen{k + 1}", draw(st.floats(50.0, 600.0))),
            sharing=draw(st.sampled_from(Sharing)),
            mains_failure_start=draw(st.booleans()),
            mains_failure_delay_s=draw(st.sampled_from([0.0, 30.0, 300.0])),
            warm_up_s=draw(st.sampled_from([0.0, 20.0])),
            tank_l=draw(st.sampled_from([0.5, 2000.0])),
        )
        for k in range(draw(st.integers(0, 3)))
    )
    pv: tuple[PvParams, ...] = SMALL.pv if draw(st.booleans()) else ()
    order = draw(st.permutations([b.id for b in bess] + [g.id for g in gensets]))
    grid = replace(SMALL.grid, transfer_s=draw(st.sampled_from([0.0, 0.2, 5.0])))
    forming = replace(SMALL.forming, islanded=tuple(order))
    return replace(SMALL, bess=bess, gensets=gensets, pv=pv, grid=grid, forming=forming)


@st.composite
def inputs_for(draw: st.DrawFn, site: Site) -> PlantInput:
    def some(ids: list[str]) -> frozenset[str]:
        return frozenset(i for i in ids if draw(st.integers(0, 9)) == 0)

    bess, gens = [b.id for b in site.bess], [g.id for g in site.gensets]
    kw = st.one_of(st.just(0.0), st.floats(0.0, 400.0))
    return PlantInput(
        mains_present=draw(st.integers(0, 2)) > 0,
        mains_v_pu=draw(st.sampled_from([1.0, 0.97, 0.87, 0.8, 1.08])),
        demand_kw={f.id: draw(kw) for f in site.feeders},
        pv_potential_kw={p.id: draw(kw) for p in site.pv},
        bess_p_set_kw={i: draw(st.floats(-700.0, 700.0)) for i in bess},
        genset_run_request={i: draw(st.booleans()) for i in gens},
        genset_p_set_kw={i: draw(st.floats(0.0, 700.0)) for i in gens},
        pv_limit_kw={p.id: draw(kw) for p in site.pv if draw(st.booleans())},
        feeder_close={f.id: draw(st.integers(0, 3)) > 0 for f in site.feeders},
        faults=PlantFaults(
            genset_start_fails=some(gens), genset_tripped=some(gens), genset_reset=some(gens),
            bess_tripped=some(bess), pv_tripped=some([p.id for p in site.pv]),
        ),
    )  # fmt: skip


def throughput_kwh(f: PlantFlows) -> float:
    maps = (f.bess_p_kw, f.genset_p_kw, f.pv_p_kw, f.feeder_p_kw, f.bess_aux_kw, f.bess_loss_kw)
    return (abs(f.grid_p_kw) + sum(abs(v) for m in maps for v in m.values())) * f.dt_s / 3600.0


def check_energy(before: PlantState, f: PlantFlows) -> None:
    h = f.dt_s / 3600.0
    allowed = 1e-9 * throughput_kwh(f) + 1e-11
    assert abs(balance_kw(f)) * h <= allowed
    assert f.energy_residual_kwh <= allowed
    for i, p in f.bess_p_kw.items():
        left = before.bess[i].stored_kwh - (p + f.bess_loss_kw[i]) * h
        assert abs(left - f.bess_stored_kwh[i]) <= allowed
        assert f.bess_loss_kw[i] >= -1e-9
    for i, rate in f.genset_fuel_l_h.items():
        assert abs(before.gensets[i].tank_l - rate * h - f.genset_tank_l[i]) <= 1e-9 * (1.0 + rate * h)


def check_limits(site: Site, f: PlantFlows) -> None:
    for b in site.bess:
        low, high = b.battery.soc_min, b.battery.soc_max
        assert low - battery.SOC_TOLERANCE <= f.bess_soc[b.id] <= high + battery.SOC_TOLERANCE
        peak = max(b.battery.p_nominal_kw, b.pcs.s_kva) * b.pcs.overload_ratio
        assert abs(f.bess_p_kw[b.id]) <= peak + 1e-6
    for g in site.gensets:
        p = f.genset_p_kw[g.id]
        assert -1e-9 <= p <= g.p_rated_kw * g.overload_ratio + 1e-6
        if f.genset_state[g.id] is GensetState.STOPPED and p > 0.0:
            assert f.dt_s > 0.1
    for i, served in f.feeder_p_kw.items():
        assert -1e-12 <= served <= f.feeder_demand_kw[i] + 1e-9
    for i, p in f.pv_p_kw.items():
        assert 0.0 <= p <= f.pv_potential_kw[i] + 1e-9
    assert 0.0 <= f.dead_s + f.islanded_s <= f.dt_s * (1.0 + 1e-9)
    assert all(math.isfinite(v) for v in f.readings().values())


def check_dead(f: PlantFlows) -> None:
    if f.dead_s >= f.dt_s - 1e-9:
        for values in (f.feeder_p_kw, f.genset_p_kw, f.pv_p_kw, f.bess_p_kw, f.bess_aux_kw):
            assert all(v == 0.0 for v in values.values())
        assert f.grid_p_kw == 0.0
    if f.forming is None:
        assert any(v.kind == "bus_dead" for v in f.violations)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_step_of_any_plant_conserves_energy_and_respects_what_things_are(data):
    site = data.draw(sites())
    state = initial_state(site, soc=data.draw(st.floats(0.1, 0.95)))
    for _ in range(data.draw(st.integers(1, 8))):
        given_now = data.draw(inputs_for(site))
        dt_s = data.draw(st.sampled_from([0.1, 1.0, 1.0, 7.3, 60.0, 900.0]))
        after, flows = step(site, state, given_now, dt_s)
        assert math.isclose(flows.dt_s, dt_s, rel_tol=1e-9, abs_tol=2e-6)
        check_energy(state, flows)
        check_limits(site, flows)
        check_dead(flows)
        assert step(site, state, given_now, dt_s) == (after, flows)  # pure
        state = after


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_step_of_any_plant_second_by_second_conserves_energy(data):
    site = data.draw(sites())
    state = initial_state(site, soc=data.draw(st.floats(0.1, 0.95)))
    for _ in range(data.draw(st.integers(1, 4))):
        given_now = data.draw(inputs_for(site))
        for _ in range(40):
            after, flows = step(site, state, given_now, 1.0)
            check_energy(state, flows)
            check_limits(site, flows)
            check_dead(flows)
            state = after
