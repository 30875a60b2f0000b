"""2: the grid is lost and no battery can form: a genset brings the bus back."""

import pytest

from ems.site import GridMode, Site
from sim.rig import Rig
from tests.scenarios.poi import following_only

pytestmark = pytest.mark.scenario(2)
AT_S = 60.0


@pytest.fixture(scope="module")
def run(small: Site) -> Rig:
    rig = Rig(following_only(small), pv_kw=300.0, mains=[(AT_S, 3600.0)], load_kw={"critical": 100.0})
    return rig.run(AT_S + 240.0)


def test_backup_start_is_asked_for_after_the_confirmation(run: Rig):
    confirm_s = run.site.grid.supervision.start_confirm_s
    asked_s = run.after(AT_S, lambda r: any(r.wrote(f"{g.id}.run_request") == 1.0 for g in run.site.gensets))
    assert confirm_s - 1.0 <= asked_s <= confirm_s + 2.0


def test_backup_pv_and_battery_are_blocked_until_the_bus_is_stable(run: Rig):
    up_s = run.first(AT_S, lambda r: r.decisions.mode is GridMode.ISLANDED).t_s
    stable_s = run.site.grid.transitions.stable_s
    points = ("pv1.p_limit_kw", "bess1.p_set_kw")
    assert run.held(lambda r: all(r.held[p] == 0.0 for p in points), AT_S + 1.0, up_s + stable_s)
    free_s = run.after(up_s, lambda r: r.decisions.transition == "restoring")
    assert free_s == pytest.approx(stable_s, abs=1.0)


def test_backup_genset_carries_at_least_thirty_percent_within_a_minute(run: Rig):
    up_s = run.first(AT_S, lambda r: r.decisions.mode is GridMode.ISLANDED).t_s
    rows = list(run.rows(up_s + 60.0))
    forming = rows[0].decisions.condition.forming
    assert forming is not None
    rated_kw = next(g.p_rated_kw for g in run.site.gensets if g.id == forming)
    assert min(r.flows.genset_p_kw[forming] for r in rows) >= 0.3 * rated_kw - 1.0
