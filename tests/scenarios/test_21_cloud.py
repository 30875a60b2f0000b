"""21: a cloud takes 80 % of the sun in 20 s, and goes again."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from ems.site import Site
from sim.rig import Rig, RigOptions
from tests.scenarios.plants import with_ramps

pytestmark = pytest.mark.scenario(21)
AT_S, BACK_S = 60.0, 180.0
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


@pytest.fixture(scope="module")
def ramped(small: Site) -> Site:
    """A tenth of the battery's rating in a second, a hundredth of the PV plant's."""
    return with_ramps(small, {"bess1.p_set_kw": 50.0, "pv1.p_limit_kw": 6.0})


def cloud(clear_kw: float) -> Callable[[float], float]:
    def sun(t_s: float) -> float:
        away = min(1.0, max(0.0, (t_s - AT_S) / 20.0)) - min(1.0, max(0.0, (t_s - BACK_S) / 20.0))
        return clear_kw * (1.0 - 0.8 * away)

    return sun


@pytest.mark.parametrize("soc", [0.4, 0.6, 0.94])
def test_cloud_over_an_island_nothing_is_unserved_while_reserve_is_held(ramped: Site, soc: float):
    rig = Rig(ramped, load_kw=LOAD, pv_kw=cloud(450.0), options=RigOptions(soc=soc, islanded_by="bess1"))
    rig.run(300.0)
    assert rig.held(lambda r: r.decisions.reserve.covered, 5.0)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert not [v for r in rig.rows() for v in r.flows.violations]


def test_cloud_beside_the_grid_the_battery_takes_it_off_the_poi(ramped: Site):
    """360 kW in 20 s; what the POI sees of it is what one cycle brings, 18 kW, and the bias."""
    rig = Rig(ramped, load_kw=LOAD, pv_kw=cloud(450.0), options=RigOptions(soc=0.6))
    rig.run(300.0)
    poi = [r.flows.grid_p_kw for r in rig.rows(AT_S - 5.0)]
    assert max(abs(b - a) for a, b in pairwise(poi)) <= 25.0
    assert max(poi) <= 40.0


RAMP_KW_S = 1.0  # 60 kW a minute


@pytest.mark.parametrize("limited", [True, False], ids=["ramp of the contract", "none"])
def test_cloud_beside_the_grid_the_contracts_ramp_is_kept(ramped: Site, limited: bool):
    """The battery is at its backup reserve, so that rules leave the cloud to the grid; the ramp does not.

    What the edge reads is one cycle old: where the sun begins or ends to move, a second of that comes on top.
    """
    grid = replace(ramped.grid, ramp_kw_s=RAMP_KW_S if limited else None)
    options = RigOptions(soc=0.398, noise_ratio=0.0)
    rig = Rig(replace(ramped, grid=grid), load_kw=LOAD, pv_kw=cloud(230.0), options=options)
    rig.run(420.0)
    poi = [r.flows.grid_p_kw for r in rig.rows(AT_S - 30.0)]
    a_minute_kw = max(abs(b - a) for a, b in zip(poi, poi[60:], strict=False))
    if not limited:
        assert a_minute_kw > 100.0
        return
    seconds_kw = sorted(abs(b - a) for a, b in pairwise(poi))
    assert a_minute_kw <= 60.0 * RAMP_KW_S + 0.1
    assert seconds_kw[-1] <= RAMP_KW_S + 0.8 * 230.0 / 20.0 + 0.1
    assert seconds_kw[-5] <= RAMP_KW_S + 0.1, "at both ends of each slope, and nowhere else"
