"""7: the ramp at the POI holds in real time, also where a plan says that it knowingly misses it."""

from dataclasses import replace
from itertools import pairwise

import pytest

from dispatch.vocabulary import Source
from ems.site import Site
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY
from tests.unit.dispatch.plans import plan_of

pytestmark = pytest.mark.scenario(7)
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


@pytest.mark.parametrize("ramp_kw_s", [0.5, None])
def test_ramp_a_plan_says_it_misses_is_kept_by_the_batteries(small: Site, ramp_kw_s: float | None):
    """100 kW from one step to the next: the check of plans lets it pass, the edge spreads it out."""
    site = replace(small, grid=replace(small.grid, ramp_kw_s=ramp_kw_s))
    plan = plan_of(site, bess_kw=[0.0, 100.0, 100.0], start=MONDAY, step_s=60.0, peak_import_kw=350.0)
    rig = Rig(site, load_kw=LOAD, controller="plan", options=RigOptions(soc=0.6, noise_ratio=0.0))
    rig.publish(replace(plan, missed={"ramp_kw": (0.0, 90.0, 0.0)}))
    rig.run(150.0)
    assert rig.last.decisions.source is Source.PLAN
    moves_kw = [abs(b.flows.grid_p_kw - a.flows.grid_p_kw) for a, b in pairwise(rig.rows(5.0))]
    if ramp_kw_s is None:
        assert max(moves_kw) > 90.0
        return
    assert max(moves_kw) <= ramp_kw_s + 1e-6
    assert rig.last.flows.grid_p_kw < 160.0  # and it is on its way
