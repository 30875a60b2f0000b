"""24: a dip of voltage takes every inverter off, and all return together."""

from dataclasses import replace
from itertools import pairwise

import pytest

from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import Power
from tests.scenarios.plants import two_pv, with_ramps

pytestmark = pytest.mark.scenario(24)
AT_S = 30.0
DIP_S = 5.0
RETURN_S = AT_S + DIP_S + 60.0  # PV waits so long after the dip
LOAD: dict[str, Power] = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
RAMP_KW_S = 2.0  # 120 kW a minute


def dip(*plants: str) -> list[Fault]:
    return [Fault(kind="pv_trips", target=p, from_s=AT_S, until_s=AT_S + DIP_S) for p in plants]


def pv_kw(rig: Rig, from_s: float) -> list[float]:
    return [sum(r.flows.pv_p_kw.values()) for r in rig.rows(from_s)]


@pytest.mark.parametrize("soc", [0.6, 0.94], ids=["battery", "battery nearly full"])
def test_all_return_the_ramp_at_the_poi_is_kept(small: Site, soc: float):
    """500 kW come back beside 200 kW of load; the grid takes 300. Without noise the ramp is kept exactly."""
    site = with_ramps(two_pv(small), {"bess1.p_set_kw": 50.0, "pv1.p_limit_kw": 10.0, "pv2.p_limit_kw": 10.0})
    site = replace(site, grid=replace(site.grid, ramp_kw_s=RAMP_KW_S, p_export_kw_max=300.0))
    options = RigOptions(soc=soc, noise_ratio=0.0)
    rig = Rig(site, load_kw=LOAD, pv_kw=250.0, faults=dip("pv1", "pv2"), options=options)
    rig.run(RETURN_S + 240.0)
    before_kw = pv_kw(rig, AT_S - 1.0)[0]
    assert before_kw > 190.0
    poi = [r.flows.grid_p_kw for r in rig.rows(RETURN_S - 5.0)]
    assert max(abs(b - a) for a, b in pairwise(poi)) <= RAMP_KW_S + 0.01
    assert max(abs(b - a) for a, b in zip(poi, poi[60:], strict=False)) <= 60.0 * RAMP_KW_S + 0.01
    assert rig.last.flows.pv_p_kw["pv1"] + rig.last.flows.pv_p_kw["pv2"] >= before_kw - 10.0


def test_all_return_one_after_the_other_within_half_a_minute(small: Site):
    """Without a ramp in the contract: no step, and pv2 waits until pv1 is in."""
    rig = Rig(two_pv(small), load_kw=LOAD, pv_kw=250.0, faults=dip("pv1", "pv2"), options=RigOptions(soc=0.6))
    rig.run(RETURN_S + 60.0)
    rises = [b - a for a, b in pairwise(pv_kw(rig, AT_S + DIP_S))]
    assert max(rises) <= 2.0 * 600.0 / 30.0  # one is let in, another has room again
    first = rig.first(RETURN_S, lambda r: r.flows.pv_p_kw["pv2"] > 1.0)
    assert first.t_s - RETURN_S >= 12.0
    assert first.flows.pv_p_kw["pv1"] > 100.0
    assert rig.after(RETURN_S, lambda r: sum(r.flows.pv_p_kw.values()) >= 499.0) <= 32.0


@pytest.mark.parametrize("soc", [0.6, 0.94])
def test_all_return_to_an_island_that_has_room_for_some(small: Site, soc: float):
    """They come in as the forming battery can take them: no inverter trips on over-frequency again."""
    rig = Rig(
        two_pv(small),
        load_kw=LOAD,
        pv_kw=300.0,
        faults=dip("pv1", "pv2"),
        options=RigOptions(soc=soc, islanded_by="bess1"),
    )
    rig.run(RETURN_S + 60.0)
    assert not [v for r in rig.rows() for v in r.flows.violations if v.kind.value == "pv_over_frequency"]
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert max(b - a for a, b in pairwise(pv_kw(rig, AT_S + DIP_S))) <= 2.0 * 600.0 / 30.0
    assert pv_kw(rig, RETURN_S + 50.0)[0] > 200.0
