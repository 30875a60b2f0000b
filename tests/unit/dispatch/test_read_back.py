"""A write whose outcome is not known: ramps start from what the device says it has."""

from itertools import pairwise
from pathlib import Path

from ems.site import Site
from ems.site_schema import load_site
from sim.faults import Fault
from sim.rig import Rig

ROOT = Path(__file__).resolve().parents[3]
PEAK_KW = {"critical": 150.0, "essential": 300.0, "deferrable": 200.0}


def demo() -> Site:
    return load_site(ROOT / "sites" / "demo" / "site.yaml")


def test_write_lost_ramp_goes_on_from_what_the_device_holds():
    """A limit that a device never took was ramped on from all the same: when writes passed again, PV was let
    go to the end of the ramp in one step (found by a soak episode with lost writes).
    """
    load = {f: (lambda t, kw=kw: kw if t >= 25.0 else 0.2 * kw) for f, kw in PEAK_KW.items()}
    away = Fault(kind="bess_trips", target="bess1")
    lost = Fault(kind="write_lost", target="pv1", from_s=24.0, until_s=60.0)
    rig = Rig(demo(), load_kw=load, pv_kw=600.0, faults=[away, lost]).run(90.0)
    held = [row.held["pv1.p_limit_kw"] for row in rig.rows(58.0)]
    steps = [b - a for a, b in pairwise(held)]
    assert max(held) > held[0] + 50.0  # it did ramp on
    assert max(steps) <= 7.0 + 0.7  # kW in a second, and the register's resolution
