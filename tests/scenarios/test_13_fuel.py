"""13: the fuel runs low; its sensor stands still, or reads negative."""

import math
from dataclasses import replace

import pytest

from ems.points import GensetState
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions

pytestmark = pytest.mark.scenario(13)
LOAD = {"critical": 100.0, "essential": 150.0, "deferrable": 70.0}


def low(site: Site, tank_l: float) -> Site:
    gensets = tuple(replace(g, tank_l=tank_l) for g in site.gensets)
    bess = tuple(replace(b, pcs=replace(b.pcs, can_form=False)) for b in site.bess)
    return replace(site, gensets=gensets, bess=bess)


@pytest.mark.parametrize("stuck", [False, True], ids=["sensor right", "sensor stands still"])
def test_fuel_runs_low_is_told_four_hours_ahead_whatever_the_sensor_tells(small: Site, stuck: bool):
    """About 90 L/h from 520 L: 6 h at first. The sensor stands still from the first minute on."""
    site = low(small, 520.0)
    faults = (
        [Fault(kind="fuel_sensor_wrong", target="gen1.fuel_l", from_s=60.0, value=518.0)] if stuck else []
    )
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 320.0}, soc=0.2)
    rig = Rig(site, load_kw=LOAD, faults=faults, dt_s=10.0, options=options)
    rig.run(6000.0)
    told = rig.first(0.0, lambda r: r.alarmed("genset.fuel.low"))
    assert told.t_s > 3600.0  # after it was told right for an hour, or wrong
    hours = told.flows.genset_tank_l["gen1"] / told.flows.genset_fuel_l_h["gen1"]
    assert 4.0 <= hours <= 4.6
    wrong_s = rig.after(0.0, lambda r: r.alarmed("genset.fuel.sensor"))
    assert (wrong_s < told.t_s) is stuck  # that it is the sensor is known before


@pytest.mark.parametrize("told_l", [-1.0, 0.0, 5.0, math.nan])
def test_fuel_sensor_wrong_never_blocks_a_start(small: Site, told_l: float):
    """The tank is full. Less than nothing and no number are the sensor's; next to nothing may be true."""
    rig = Rig(small, load_kw=LOAD, options=RigOptions(islanded_by="bess1", soc=0.14))
    rig.at(0.0 if told_l == 0.0 else 5.0, lambda r: r.tell("gen1.fuel_l", told_l))
    rig.run(300.0)
    assert rig.after(0.0, lambda r: r.flows.genset_state["gen1"] is GensetState.RUNNING) <= 120.0
    if told_l >= 0.0:
        assert rig.held(lambda r: r.alarmed("genset.fuel.low"), 150.0)
    else:
        assert rig.after(5.0, lambda r: r.alarmed("genset.fuel.sensor")) <= 20.0
    assert rig.last.flows.genset_p_kw["gen1"] > 0.0
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
