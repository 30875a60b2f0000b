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


def rang(rig: Rig) -> list[str]:
    """Every alarm that was annunciated since the first flicker, as often as it was."""
    events = (e for r in rig.rows(BEGIN_S) for e in r.decisions.events if e.kind == "alarm.raised")
    return [str(e.fields["key"]) for e in events if e.fields["annunciated"]]


@pytest.mark.parametrize("length_s", [1.0, 2.0])
def test_flicker_of_the_voltage_at_the_poi_starts_nothing(small: Site, length_s: float):
    rig = flickering(small, length_s)
    assert not any(r.wrote(f"{g.id}.run_request") == 1.0 for r in rig.rows() for g in small.gensets)
    assert len(rang(rig)) <= 1
    assert len(rig.events("grid.mode.changed")) <= 2  # the first is that of the start


@pytest.mark.parametrize(
    ("restart_s", "of_the_converter"),
    [(0.0, []), (60.0, ["bess.unavailable.bess1"])],
    ids=["back", "stays off"],
)
def test_flicker_of_a_dead_bus_without_forming_battery_starts_nothing(
    small: Site, restart_s: float, of_the_converter: list[str]
):
    """A transfer switch without dwell: the bus is dead for 2 s each time, and back.

    A converter that needs longer to come back than the mains stay is off all the time: that is told too.
    """
    following = tuple(replace(b, pcs=replace(b.pcs, can_form=False, restart_s=restart_s)) for b in small.bess)
    site = replace(small, bess=following, grid=replace(small.grid, reconnect_dwell_s=0.0))
    away = [(BEGIN_S + i * EVERY_S, BEGIN_S + i * EVERY_S + 2.0) for i in range(TIMES)]
    rig = Rig(site, mains=away, options=RigOptions(horizon_s=END_S)).run(away[-1][1] + 5.0)
    assert sum(r.decisions.mode is GridMode.BLACK for r in rig.rows()) >= TIMES
    assert not any(r.wrote(f"{g.id}.run_request") == 1.0 for r in rig.rows() for g in small.gensets)
    assert rang(rig) == ["bus.dead", *of_the_converter]
