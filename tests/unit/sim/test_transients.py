"""Islands of a run, cut where the bus dies or another kind of source forms."""

import pytest

from ems.site import Site
from plant_models.transient import STEP_S
from sim.rig import Rig, RigOptions
from sim.rig_scenario import Power
from sim.transients import rides
from tests import builders
from tests.scenarios.poi import following_only

LOAD = {"critical": 60.0, "essential": 40.0, "deferrable": 0.0}


@pytest.fixture(scope="module")
def small() -> Site:
    return builders.site()


def test_no_island_no_ride(small: Site):
    rig = Rig(small, load_kw=LOAD).run(5.0)
    assert rides(small, rig.rows()) == []


def test_battery_that_takes_over_from_the_grid_starts_from_what_it_gave_beside_it(small: Site):
    rig = Rig(small, load_kw=LOAD, mains=[(5.0, 60.0)], options=RigOptions(horizon_s=60.0)).run(30.0)
    (ride,) = rides(small, rig.rows())
    assert 5.0 <= ride.from_s <= 7.0
    assert len(ride.wave.f_pu) == round((30.0 - ride.from_s) / STEP_S)
    assert ride.wave.f_pu[-1] == pytest.approx(
        1.0 - 0.02 * rig.last.flows.bess_p_kw["bess1"] / 600.0, abs=1e-3
    )


def test_set_that_brings_back_a_dead_bus_starts_from_no_load(small: Site):
    site = following_only(small)
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 100.0}, horizon_s=600.0)
    load: dict[str, Power] = {**LOAD, "critical": lambda t_s: 900.0 if t_s < 20.0 else 100.0}
    rig = Rig(site, load_kw=load, options=options).run(300.0, judge=False)
    last = rides(site, rig.rows())[-1]
    assert last.from_s > 20.0
    assert last.wave.f_pu[0] < 1.0  # what it closes on is a step
    assert min(last.wave.f_pu) > 0.9


def test_reactive_power_of_motors_lowers_the_voltage(small: Site):
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 100.0})
    rig = Rig(following_only(small), load_kw=LOAD, options=options).run(20.0)
    (with_motor,) = rides(small, rig.rows(), lambda t_s: 150.0 if 5.0 <= t_s < 10.0 else 0.0)
    (without,) = rides(small, rig.rows())
    assert min(with_motor.wave.v_pu) < 0.97 < min(without.wave.v_pu)
