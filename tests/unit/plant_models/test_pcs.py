from dataclasses import replace

import numpy as np
import pytest

from ems.capability import Corner, capability_of
from ems.points import BessState
from plant_models import pcs
from plant_models.plant import PlantFlows, initial_state
from tests import builders
from tests.unit.ems.test_capability import around, hull
from tests.unit.plant_models.helpers import inputs, run

PCS = builders.bess().pcs


@pytest.mark.parametrize(
    ("q", "p"), [(0.0, 550.0), (330.0, 440.0), (-330.0, 440.0), (550.0, 0.0), (600.0, 0.0)]
)
def test_p_limit_lies_on_the_circle(q, p):
    assert pcs.p_limit_kw(PCS, q) == pytest.approx(p)


def test_tripped_keeps_the_energy_and_waits():
    unit = pcs.tripped(PCS, pcs.BessUnit(BessState.FORMING, 321.0, overload_s=3.0), fault=True)
    assert unit == pcs.BessUnit(BessState.TRIPPED, 321.0, 60.0, 0.0)
    assert not unit.on


BOX = replace(
    PCS, capability=capability_of([(-400.0, -100.0), (500.0, -100.0), (500.0, 200.0), (-400.0, 300.0)])
)


@pytest.mark.parametrize(
    ("p_set", "q_set", "p", "q"),
    [
        (0.0, 500.0, 0.0, 300.0 - 400.0 / 9.0),  # what is left beside 0 kW
        (500.0, 300.0, 500.0, 200.0),  # active power first
        (500.0, -300.0, 500.0, -100.0),
        (-500.0, 300.0, -400.0, 300.0),
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_following_converter_gives_the_nearest_kvar_of_its_polygon(p_set, q_set, p, q):
    site = builders.site()
    site = replace(site, bess=(replace(site.bess[0], pcs=BOX),))
    given = inputs(bess_p_set_kw={"bess1": p_set}, q_set_kvar={"bess1": q_set})
    _, flows = run(site, initial_state(site, soc=0.5), given, 2)
    assert flows[-1].bess_p_kw["bess1"] == pytest.approx(p)
    assert flows[-1].bess_q_kvar["bess1"] == pytest.approx(q)


def test_pv_gives_kvar_inside_its_polygon_and_none_without_sun():
    """Inverters whose kvar end with the sun: 300 kvar from 200 kW on, at most."""
    site = builders.site()
    own = capability_of([(0.0, 0.0), (200.0, -300.0), (600.0, -200.0), (600.0, 200.0), (200.0, 300.0)])
    site = replace(site, pv=(replace(site.pv[0], s_kva=660.0, capability=own),))
    for sun_kw, kvar in ((0.0, 0.0), (100.0, 150.0), (600.0, 200.0), (900.0, 200.0)):
        given = inputs(q_set_kvar={"pv1": 400.0}, pv_potential_kw={"pv1": sun_kw})
        _, flows = run(site, initial_state(site, soc=0.5), given, 2)
        assert flows[-1].pv_q_kvar["pv1"] == pytest.approx(kvar)
        assert flows[-1].pv_p_kw["pv1"] == pytest.approx(min(sun_kw, 600.0))


def forming(corners: list[Corner], load_kw: float, overload_s: float = 2.0) -> list[PlantFlows]:
    """Flows of 4 s of an island at power factor 0.95 that a battery alone forms."""
    site = builders.site()
    own = replace(PCS, capability=capability_of(corners), overload_s=overload_s)
    site = replace(site, bess=(replace(site.bess[0], pcs=own),))
    given = inputs(mains_present=False, demand_kw={"critical": load_kw, "essential": 0.0, "deferrable": 0.0})
    _, flows = run(site, initial_state(site, soc=0.6, islanded_by="bess1"), given, 4)
    return flows


LOW = [(-400.0, -100.0), (500.0, -100.0), (500.0, 80.0), (-400.0, 80.0)]


@pytest.mark.parametrize(
    ("load_kw", "over_kva", "alive"),
    [
        (240.0, 0.0, True),  # 78.9 kvar
        (260.0, 260.0 * 0.328684 - 80.0, False),  # 85.5 kvar: an overload that lasts its time
        (300.0, 0.0, False),  # 98.6 kvar are more than 1.2 times the side
    ],
)
def test_forming_converter_beyond_a_side_of_its_polygon_is_overloaded(load_kw, over_kva, alive):
    flows = forming(LOW, load_kw)
    assert flows[-1].bus_alive == alive
    over = [v.amount for f in flows for v in f.violations if v.kind == "pcs_over_rating"]
    assert over == pytest.approx([over_kva] * (2 if over_kva else 0), rel=1e-4)
    assert forming([(-400.0, -100.0), (500.0, -100.0), (500.0, 180.0), (-400.0, 180.0)], load_kw)[
        -1
    ].bus_alive


@pytest.mark.parametrize("seed", range(12))
def test_converters_of_random_polygons_are_always_inside(seed):
    rng = np.random.default_rng(seed)
    own = capability_of(around(rng))
    half = hull([(max(0.0, p), q) for p, q in around(rng)] + [(0.0, 0.0)])
    site, sun = builders.site(), capability_of(half)
    unit = replace(site.bess[0], pcs=replace(PCS, capability=own))
    site = replace(site, bess=(unit,), pv=(replace(site.pv[0], s_kva=660.0, capability=sun),))
    state = initial_state(site, soc=0.5)
    for _ in range(40):
        p, q, q_pv = (float(x) for x in rng.uniform(-900.0, 900.0, 3))
        given = inputs(
            bess_p_set_kw={"bess1": p},
            q_set_kvar={"bess1": q, "pv1": q_pv},
            pv_potential_kw={"pv1": float(rng.uniform(0.0, 600.0))},
        )
        state, flows = run(site, state, given, 1)
        assert own.over_kva(flows[0].bess_p_kw["bess1"], flows[0].bess_q_kvar["bess1"]) <= 1e-6
        assert sun.over_kva(flows[0].pv_p_kw["pv1"], flows[0].pv_q_kvar["pv1"]) <= 1e-6
