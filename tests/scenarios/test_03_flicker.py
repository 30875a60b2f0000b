"""3: mains that flicker for less than the confirmation time, 100 times: no start, at most one alarm."""

from dataclasses import replace

import pytest

from ems.site import GridMode, Site
from sim.rig import Rig, RigOptions

pytestmark = pytest.mark.scenario(3)
TIMES = 100
EVERY_S = 8.0
BEGIN_S = 20.0
END_S = BEGIN_S + TIMES * EVERY_S


def flickering(site: Site, length_s: float) -> Rig:
    rig = Rig(site, options=RigOptions(horizon_s=END_S))
    for i in range(TIMES):
        from_s = BEGIN_S + i * EVERY_S
        rig.at(from_s, lambda r: r.tell("grid1.v_pu", 0.80))
        rig.at(from_s + length_s, lambda r: r.tell_truth("grid1.v_pu"))
    return rig.run(END_S)


@pytest.mark.parametrize("length_s", [1.0, 2.0])
def test_flicker_of_the_voltage_at_the_poi_starts_nothing(small: Site, length_s: float):
    rig = flickering(small, length_s)
    assert not any(r.wrote(f"{g.id}.run_request") == 1.0 for r in rig.rows() for g in small.gensets)
    assert len(rig.events("alarm.raised")) <= 1
    assert len(rig.events("grid.mode.changed")) <= 2  # the first is that of the start


def test_flicker_of_a_dead_bus_without_forming_battery_starts_nothing(small: Site):
    """A transfer switch without dwell: the bus is dead for 2 s each time, and back."""
    following = tuple(replace(b, pcs=replace(b.pcs, can_form=False)) for b in small.bess)
    site = replace(small, bess=following, grid=replace(small.grid, reconnect_dwell_s=0.0))
    away = [(BEGIN_S + i * EVERY_S, BEGIN_S + i * EVERY_S + 2.0) for i in range(TIMES)]
    rig = Rig(site, mains=away, options=RigOptions(horizon_s=END_S)).run(away[-1][1] + 5.0)
    assert sum(r.decisions.mode is GridMode.BLACK for r in rig.rows()) >= TIMES
    assert not any(r.wrote(f"{g.id}.run_request") == 1.0 for r in rig.rows() for g in small.gensets)
    assert rig.raised("bus.dead") <= 1
