"""53: the edge starts while its devices are slow to answer, or half of them are missing."""

import pytest

from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig

pytestmark = pytest.mark.scenario(
    53, left="a changed point map is refused where the edge is to write, and looked at by nobody in shadow"
)
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


def silent(asset: str, until_s: float) -> Fault:
    return Fault(kind="device_silent", target=asset, from_s=0.0, until_s=until_s)


def written(rig: Rig, until_s: float, from_s: float = 0.0) -> set[str]:
    return {c.point.partition(".")[0] for r in rig.rows(from_s, until_s) for c in r.commands}


def test_cold_boot_slow_witnesses_nothing_is_written_before_the_mode_is_known(small: Site):
    """The meter comes after 20 s, the bus after 25 s: until then nobody knows what the plant is."""
    rig = Rig(small, load_kw=LOAD, pv_kw=150.0, faults=(silent("grid1", 20.0), silent("bus", 25.0)))
    rig.tell("bess1.state", None)
    rig.at(30.0, lambda r: r.tell_truth("bess1.state")).run(90.0)
    known_s = rig.first(0.0, lambda r: r.decisions.mode is not GridMode.UNKNOWN).t_s
    assert known_s >= 20.0
    assert written(rig, known_s) == set()
    assert {"bess1", "pv1"} <= written(rig, 90.0, known_s)


def test_cold_boot_half_of_the_devices_missing_only_the_others_are_written(small: Site):
    rig = Rig(small, load_kw=LOAD, pv_kw=150.0, faults=(silent("bess1", 60.0), silent("gen2", 1e4)))
    rig.run(120.0)
    assert "pv1" in written(rig, 60.0)
    assert written(rig, 60.0).isdisjoint({"bess1", "gen2"})
    assert "bess1" in written(rig, 120.0, 60.0)
    assert "gen2" not in written(rig, 120.0)


def test_cold_boot_device_without_its_limits_is_not_written_even_to_protect(small: Site):
    """It answers, but not how much it may: whatever is written would be a guess."""
    rig = Rig(small, load_kw=LOAD, pv_kw=300.0)
    rig.tell("bess1.p_charge_kw_max", None)
    rig.at(40.0, lambda r: r.tell_truth("bess1.p_charge_kw_max")).run(60.0)
    assert "bess1" not in written(rig, 40.0)
    assert "pv1" in written(rig, 40.0)
    assert "bess1" in written(rig, 60.0, 40.0)


def test_cold_boot_first_writes_take_over_without_a_step(small: Site):
    """The battery charges with what the PV gives over the load: as it was found, it goes on."""
    rig = Rig(small, load_kw=LOAD, pv_kw=150.0).run(30.0)
    first = next(r for r in rig.rows() if r.commands)
    assert first.t_s == 0.0  # everything answers at once: nothing is waited for
    assert rig.held(lambda r: r.flows.grid_closed and r.flows.grid_p_kw > -8.0, 3.0)
