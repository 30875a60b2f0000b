"""20: the limit of a PV plant is probed: how much of its true output that takes away, and for how long."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from dispatch.commissioning.rows import Verdict
from ems.site import Site
from tests.scenarios.commissioning import Commissioned, changed, commission, with_engineer

pytestmark = pytest.mark.scenario(20)
PV, RATED_KW = "pv1.p_limit_kw", 700.0
STEP_KW, MOVED_S = 35.0, 60.0
LEVELS_KW = [132.0, 140.0, 280.0, 420.0, 560.0, 700.0]  # 132: the old steps bit by 2 % first, then by 5 %


@pytest.fixture
def right(demo: Site) -> Site:
    return with_engineer(demo)


def probed(
    site: Site, pv_kw: float | Callable[[float], float], above_kw: float, load_kw: float
) -> Commissioned:
    """The limit stands so far above what the plant gives; the load is high enough that no cap lowers it."""
    load = {"critical": 0.4 * load_kw, "essential": 0.5 * load_kw, "deferrable": 0.1 * load_kw}
    first_kw = pv_kw(0.0) if callable(pv_kw) else pv_kw
    start = {PV: min(RATED_KW, first_kw + above_kw), "bess1.p_set_kw": 0.0}
    return commission(site, site, [PV], start=start, load_kw=load, pv_kw=pv_kw)  # type: ignore[arg-type]


def taken(c: Commissioned, free_kw: float) -> tuple[float, float]:
    """By how much true output fell below what was free [kW], and from its first fall to its last [s]."""
    kw = [(r.t_s, free_kw - r.flows.pv_p_kw["pv1"]) for r in c.rig.log]
    fallen_s = [t_s for t_s, fell in kw if fell > 0.5]
    return max(fell for _, fell in kw), (fallen_s[-1] - fallen_s[0] + 1.0 if fallen_s else 0.0)


@pytest.mark.parametrize("above_kw", [0.0, 2.0, 25.0, 91.0, 106.0, 120.0])
@pytest.mark.parametrize("pv_kw", LEVELS_KW)
def test_pv_probe_takes_at_most_one_step_of_true_output_for_a_minute(right: Site, pv_kw, above_kw):
    """Of 132 kW it took 7.1 % of the rating, in two bites, and was on its way for two minutes."""
    c = probed(right, pv_kw, above_kw, pv_kw + 150.0)
    fell_kw, moved_s = taken(c, pv_kw)
    assert c.rows[PV].verdict is Verdict.PASS, c.rows[PV]
    assert 0.5 * STEP_KW < fell_kw <= STEP_KW + 1e-6
    assert moved_s <= MOVED_S
    assert not c.rig.violations, c.rig.report()


def test_pv_probe_of_a_slow_ramp_that_bites_at_once_is_not_gone_on_with(right: Site):
    """A second step and the way back by the limit's own ramp might take more than a minute."""
    setpoints = dict(right.authority.setpoints)
    setpoints[PV] = replace(setpoints[PV], ramp_per_s=1.0)
    slow = replace(right, authority=replace(right.authority, setpoints=setpoints))
    c = probed(slow, 280.0, 0.0, 430.0)
    fell_kw, moved_s = taken(c, 280.0)
    assert c.rows[PV].verdict is Verdict.NOT_SHOWN
    assert "60 s would not do" in c.rows[PV].text
    assert fell_kw <= 0.2 * STEP_KW
    assert moved_s <= MOVED_S
    assert math.isclose(c.rig.world.setpoints.values[PV], 280.0, abs_tol=1.0)  # a deadband


def test_pv_probe_under_a_sinking_sun_ends_before_the_limit_bites(right: Site):
    c = probed(right, lambda t_s: 280.0 - min(60.0, 0.45 * t_s), 220.0, 560.0)
    assert c.rows[PV].verdict is Verdict.NOT_SHOWN, c.rows[PV]
    assert "another time" in c.rows[PV].text
    assert math.isclose(c.rig.world.setpoints.values[PV], 500.0, abs_tol=1.0)


def test_limit_in_a_register_that_wears_out_is_never_written_for_a_probe(right: Site):
    worn = changed(right, PV, writes_per_day=100)
    c = probed(worn, 280.0, 50.0, 430.0)
    assert c.rows[PV].verdict is Verdict.NOT_SHOWN
    assert "wears out, writes_per_day 100" in c.rows[PV].text
    assert not [x for r in c.rig.log for x in r.commands]
