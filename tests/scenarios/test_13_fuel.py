"""13: the fuel runs low; its sensor stands still, or reads negative."""

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
    """At about 90 L/h; the sensor stands still from the first minute on."""
    site = low(small, 390.0)
    faults = (
        [Fault(kind="fuel_sensor_wrong", target="gen1.fuel_l", from_s=60.0, value=389.0)] if stuck else []
    )
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 320.0}, soc=0.2)
    rig = Rig(site, load_kw=LOAD, faults=faults, options=options)
    rig.run(900.0)
    row = rig.first(0.0, lambda r: r.alarmed("genset.fuel.low"))
    burnt_l = row.flows.genset_fuel_l_h["gen1"]
    assert row.flows.genset_tank_l["gen1"] / burnt_l >= 4.0


def test_fuel_sensor_wrong_never_blocks_a_start(small: Site):
    fault = Fault(kind="fuel_sensor_wrong", target="gen1.fuel_l", from_s=5.0, value=-1.0)
    rig = Rig(small, load_kw=LOAD, faults=[fault], options=RigOptions(islanded_by="bess1", soc=0.14))
    rig.run(300.0)
    assert rig.after(0.0, lambda r: r.flows.genset_state["gen1"] is GensetState.RUNNING) <= 120.0
    assert rig.after(5.0, lambda r: r.alarmed("genset.fuel.sensor")) <= 20.0
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
