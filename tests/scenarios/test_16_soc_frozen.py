"""16: the register of the state of charge stands still while the battery works."""

import math

import pytest

from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions

pytestmark = pytest.mark.scenario(16)
AT_S = 30.0
LOAD = {"critical": 120.0, "essential": 200.0, "deferrable": 100.0}


@pytest.mark.parametrize("pv_kw", [0.0, 600.0], ids=["discharging", "charging"])
def test_soc_frozen_is_told_before_one_and_a_half_per_cent_have_moved(small: Site, pv_kw: float):
    load = LOAD if pv_kw == 0.0 else {"critical": 60.0, "essential": 0.0, "deferrable": 0.0}
    rig = Rig(
        small,
        load_kw=load,
        pv_kw=pv_kw,
        faults=[Fault(kind="value_stuck", target="bess1.soc", from_s=AT_S, until_s=math.inf, value=0.6)],
        options=RigOptions(soc=0.6),
    )
    rig.run(240.0)
    told = rig.first(AT_S, lambda r: r.alarmed("bess.soc.frozen"))
    moved = abs(told.flows.bess_soc["bess1"] - rig.first(AT_S, lambda r: True).flows.bess_soc["bess1"])
    assert moved < 0.015
    c, true_soc = rig.last.decisions.condition.bess["bess1"], rig.last.flows.bess_soc["bess1"]
    assert c.soc_high is not None
    assert c.soc - 0.005 <= true_soc <= c.soc_high + 0.005
