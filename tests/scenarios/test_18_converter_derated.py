"""18: the converter is derated to 40 %, and to nothing with its contactor open."""

import pytest

from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions

pytestmark = pytest.mark.scenario(18, left="the plan after it: the planner is told by the condition")
AT_S = 60.0
LOAD = {"critical": 120.0, "essential": 220.0, "deferrable": 120.0}


@pytest.mark.parametrize("pv_kw", [0.0, 600.0], ids=["discharging", "charging"])
@pytest.mark.parametrize("left", [0.4, 0.0])
def test_converter_derated_next_write_is_inside_the_new_limit(small: Site, pv_kw: float, left: float):
    load = LOAD if pv_kw == 0.0 else {"critical": 40.0, "essential": 0.0, "deferrable": 0.0}
    fault = Fault(kind="bess_derated", target="bess1", from_s=AT_S, value=left)
    rig = Rig(small, load_kw=load, pv_kw=pv_kw, faults=[fault], options=RigOptions(soc=0.6))
    rig.run(AT_S + 60.0)
    limit_kw = left * 500.0
    rows = list(rig.rows(AT_S + 1.0))
    assert abs(rows[0].held["bess1.p_set_kw"]) <= limit_kw + 1e-6
    assert max(abs(r.held["bess1.p_set_kw"]) for r in rows) <= 1.02 * limit_kw + 1e-6
    assert abs(rig.first(AT_S - 1.0, lambda r: True).held["bess1.p_set_kw"]) > 400.0
