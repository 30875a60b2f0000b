"""The edge's own check: what a planner's bug, a foreign site or a flipped sign looks like to the edge."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dispatch.controllers.plan_check import check_plan
from ems.plan import Plan
from ems.timegrid import TimeGrid
from tests.builders import T0, site
from tests.unit.dispatch.plans import bent, plan_of

SITE = site()
GOOD = plan_of(SITE, bess_kw=[0.0, 50.0, -60.0, 20.0], pv_kw=[0.0, 10.0, 90.0, 0.0])


def test_check_consistent_plan_passes():
    assert check_plan(SITE, GOOD, T0, -1) == ()


def test_check_plan_with_battery_aux_in_the_balance_passes():
    aux = SITE.bess[0].battery.aux_kw
    shifted = replace(GOOD, grid_p_kw=tuple(p + aux for p in GOOD.grid_p_kw))
    assert check_plan(SITE, shifted, T0, -1) == ()


BROKEN: dict[str, tuple[Plan, str]] = {
    "other site": (replace(GOOD, site="elsewhere"), "made for site"),
    "expired": (replace(GOOD, valid_until=T0), "expired"),
    "too old": (
        replace(GOOD, issued_at=T0 - timedelta(hours=3), valid_until=T0 + timedelta(hours=9)),
        "older than",
    ),
    "from the future": (replace(GOOD, issued_at=T0 + timedelta(minutes=5)), "future"),
    "naive time": (replace(GOOD, valid_until=GOOD.valid_until.replace(tzinfo=None)), "zone"),
    "short series": (replace(GOOD, bess_p_kw={"bess1": (0.0,)}), "1 values for 4 steps"),
    "unknown asset": (replace(GOOD, bess_p_kw={**GOOD.bess_p_kw, "bess9": (0.0,) * 4}), "bess9"),
    "missing asset": (replace(GOOD, genset_p_kw={"gen1": (0.0,) * 4}), "gen2"),
    "nan": (bent(GOOD, "bess_p_kw", "bess1", 1, float("nan")), "not finite"),
    "infinite grid": (replace(GOOD, grid_p_kw=(float("inf"),) * 4), "not finite"),
    "nan limit": (
        replace(GOOD, import_limit_kw=(float("nan"),) * len(GOOD.grid)),
        "import_limit_kw holds",
    ),
    "short limit": (replace(GOOD, import_limit_kw=(100.0,)), "import_limit_kw has 1"),
    "none for a number": (replace(GOOD, grid_p_kw=(None,) * 4), "malformed"),  # type: ignore[arg-type]
    "text for a number": (bent(GOOD, "bess_p_kw", "bess1", 1, "x"), "malformed"),  # type: ignore[arg-type]
    "no series at all": (replace(GOOD, pv_p_kw=None), "malformed"),  # type: ignore[arg-type]
    "nan step": (
        replace(GOOD, grid=TimeGrid(start=T0, step_s=(900.0, float("nan"), 900.0, 900.0))),
        "not finite",
    ),
    "yesterday, stamped anew": (
        replace(GOOD, grid=TimeGrid.uniform(T0 - timedelta(days=1), 900.0, 4)),
        "nothing in it may be executed",
    ),
    "tomorrow": (replace(GOOD, grid=TimeGrid.uniform(T0 + timedelta(days=1), 900.0, 4)), "begins only at"),
    "nothing to execute": (replace(GOOD, integral_until=T0), "nothing in it may be executed"),
    "nan peak": (replace(GOOD, peak_import_kw=float("nan")), "not finite"),
    "charge over rating": (bent(GOOD, "bess_p_kw", "bess1", 2, -700.0), "allowed -500.0"),
    "sign flipped": (bent(GOOD, "bess_p_kw", "bess1", 2, 60.0), "step 2"),
    "soc in percent": (bent(GOOD, "bess_soc_end", "bess1", 1, 58.0), "bess_soc_end"),
    "soc drifts": (bent(GOOD, "bess_soc_end", "bess1", 2, 0.75), "change it by"),
    "genset half on": (bent(GOOD, "genset_on", "gen1", 1, 0.5), "0 or 1 only"),
    "genset below minimum": (
        bent(bent(GOOD, "genset_on", "gen1", 1, 1.0), "genset_p_kw", "gen1", 1, 20.0),
        "allowed 120.0",
    ),
    "genset off with power": (bent(GOOD, "genset_p_kw", "gen1", 1, 50.0), "allowed 0.0 to 0.0"),
    "more PV than there is": (bent(GOOD, "pv_p_kw", "pv1", 1, 60.0), "more than is available"),
    "import over the cap": (replace(GOOD, grid_p_kw=(500.0, 140.0, 170.0, 180.0)), "allowed -0.0 to 350.0"),
    "sheds more than the load": (bent(GOOD, "shed_kw", "critical", 1, 90.0), "shed_kw"),
    "power from nowhere": (replace(GOOD, grid_p_kw=(150.0, 140.0, 170.0, 180.0)), "does not balance"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_check_broken_plan_is_refused_with_its_fault(name):
    plan, words = BROKEN[name]
    problems = check_plan(SITE, plan, T0, -1)
    assert any(words in p for p in problems), problems


def test_check_repeated_sequence_is_refused():
    assert any("not newer" in p for p in check_plan(SITE, GOOD, T0, GOOD.seq))


def test_check_relaxed_tail_is_not_held_against_the_plan():
    tail = replace(bent(GOOD, "genset_on", "gen1", 3, 0.4), integral_until=T0 + timedelta(seconds=2700))
    assert check_plan(SITE, tail, T0, -1) == ()


def test_check_every_single_sign_flip_is_caught():
    """A sign that is flipped inside its limits is what limits alone can never see."""
    caught = 0
    for name in ("bess_p_kw", "pv_p_kw", "genset_p_kw"):
        for key, values in getattr(GOOD, name).items():
            for t, v in enumerate(values):
                if abs(v) > 5.0:
                    assert check_plan(SITE, bent(GOOD, name, key, t, -v), T0, -1), (name, key, t)
                    caught += 1
    assert caught == 5


def test_check_a_battery_found_nearly_empty_may_come_back_by_the_plan():
    """After a black start the SoC stands below its window of 0.1; that is when a plan is needed most."""
    back = plan_of(SITE, bess_kw=[-60.0, -60.0, -60.0, -60.0], soc=0.05)
    assert check_plan(SITE, back, T0, -1) == ()


def test_check_a_plan_that_leaves_the_battery_below_its_window_is_refused():
    stays = plan_of(SITE, bess_kw=[0.0] * 16, soc=0.05)
    assert any("bess_soc_end[bess1]" in p for p in check_plan(SITE, stays, T0, -1))


def test_check_a_plan_that_leaves_the_window_by_itself_is_refused():
    deep = plan_of(SITE, bess_kw=[40.0] * 4, load_kw=200.0, soc=0.12)
    assert min(deep.bess_soc_end["bess1"]) < 0.08
    assert any("bess_soc_end[bess1]" in p for p in check_plan(SITE, deep, T0, -1))
