"""A plan that does not fit the plant is gone within one cycle, and another one is asked for."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from dispatch.controllers.plan_choice import Choice, choose
from dispatch.state import PlanMemory
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.plan import PlanLabel
from ems.site import GridMode
from tests.builders import T0, site
from tests.unit.dispatch.plans import ISLAND, TIED, plan_of

SITE = replace(site(), plan_soc_tolerance=1.0)  # what is here is about other things than charge
BATTERY = BessCondition(available=True, soc=0.6, p_kw=0.0, p_charge_kw_max=500.0, p_discharge_kw_max=500.0)
GENSET = GensetCondition(
    available=True, on_load=False, starting=False, ready_in_s=0.0, age_s=1e9, p_kw=0.0, fuel_l=None,
    starts_today=0,
)  # fmt: skip
PLAN = plan_of(SITE, bess_kw=[20.0] * 8, gen1_kw=[0.0, 150.0, 150.0] + [0.0] * 5)


def condition(at: datetime, mode: GridMode = TIED, **changes: object) -> PlantCondition:
    base = PlantCondition(
        at=at,
        grid_mode=mode,
        forming={TIED: "grid1", ISLAND: "bess1"}.get(mode),
        bess={"bess1": BATTERY},
        gensets={"gen1": GENSET, "gen2": GENSET},
        pv_kw={"pv1": 0.0},
        feeder_kw={},
        feeder_closed={},
        grid_p_kw=0.0,
        peak_import_kw=0.0,
        interval_import_kwh=0.0,
        interval_elapsed_s=0.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def pick(plan, at=T0, mode=TIED, memory=None, **changes) -> tuple[PlanMemory, Choice]:
    memory = PlanMemory() if memory is None else memory
    s = (at - T0).total_seconds()
    return choose(SITE, memory, plan, condition(at, mode, **changes), s, 1.0)


def test_choose_fitting_plan_gives_its_step_of_now():
    _, choice = pick(PLAN, T0 + timedelta(minutes=31))
    assert choice.plan is PLAN
    assert choice.step == 2
    assert not choice.replan
    assert [e.kind for e in choice.events] == ["plan.accepted"]


@pytest.mark.parametrize("mode", [ISLAND, GridMode.BLACK])
def test_choose_other_grid_mode_drops_the_plan_within_the_cycle(mode):
    memory, _ = pick(PLAN)
    after, choice = pick(PLAN, T0 + timedelta(seconds=1), mode, memory)
    assert choice.plan is None
    assert choice.replan
    assert "assumes grid_tied" in str(choice.refused)
    again, choice = pick(PLAN, T0 + timedelta(seconds=2), TIED, after)
    assert choice.plan is None, "a dropped plan does not come back when the grid does"
    fresh = replace(PLAN, seq=2, plan_id="plan-2")
    assert pick(fresh, T0 + timedelta(seconds=3), TIED, again)[1].plan is fresh


def test_choose_unknown_mode_rests_the_plan_and_does_not_drop_it():
    memory, _ = pick(PLAN)
    memory, choice = pick(PLAN, T0 + timedelta(seconds=1), GridMode.UNKNOWN, memory)
    assert choice.plan is None
    assert pick(PLAN, T0 + timedelta(seconds=2), TIED, memory)[1].plan is PLAN


def test_choose_other_forming_source_drops_the_plan():
    island = plan_of(SITE, bess_kw=[200.0] * 4, modes=[ISLAND] * 4)
    memory, choice = pick(island, mode=ISLAND)
    assert choice.plan is island
    _, choice = pick(island, T0 + timedelta(seconds=1), ISLAND, memory, forming="gen1")
    assert choice.plan is None
    assert "bess1 forms, it is gen1" in str(choice.refused)


def test_choose_unit_the_plan_uses_is_gone_drops_the_plan():
    gone = {"gen1": replace(GENSET, available=False), "gen2": GENSET}
    memory, choice = pick(PLAN, gensets=gone)
    assert choice.plan is PLAN, "it does not use gen1 in this step"
    _, choice = pick(PLAN, T0 + timedelta(minutes=15), TIED, memory, gensets=gone)
    assert choice.plan is None
    assert "gen1" in str(choice.refused)


def test_choose_battery_gone_drops_the_plan():
    gone = {"bess1": replace(BATTERY, available=False)}
    assert pick(PLAN, bess=gone)[1].plan is None


@pytest.mark.parametrize(
    ("minutes", "mode", "step"),
    [
        (29.0, TIED, 1),
        (29.0, ISLAND, 2),  # the announced outage begins a minute early
        (31.0, TIED, 1),  # or a minute late
        (31.0, ISLAND, 2),
        (61.0, ISLAND, 3),  # the mains are back, the dwell is not over
        (40.0, TIED, None),  # ten minutes late: the plan is for another plant
        (20.0, ISLAND, None),
    ],
)
def test_choose_around_an_announced_outage_follows_the_neighbouring_step(minutes, mode, step):
    outage = plan_of(
        SITE, bess_kw=[0.0, 0.0, 200.0, 200.0, 0.0, 0.0], modes=[TIED, TIED, ISLAND, ISLAND, TIED, TIED]
    )
    _, choice = pick(outage, T0 + timedelta(minutes=minutes), mode)
    assert (choice.step if choice.plan is not None else None) == step


def test_choose_expired_plan_is_dropped():
    memory, _ = pick(PLAN)
    _, choice = pick(PLAN, PLAN.valid_until, TIED, memory)
    assert choice.plan is None
    assert "expired" in str(choice.refused)


def test_choose_relaxed_tail_is_never_executed():
    tail = replace(PLAN, integral_until=T0 + timedelta(minutes=30))
    assert pick(tail, T0 + timedelta(minutes=29))[1].plan is tail
    assert pick(tail, T0 + timedelta(minutes=30))[1].plan is None


def test_choose_refused_plan_leaves_the_last_good_one_in_force():
    memory, _ = pick(PLAN)
    bad = replace(PLAN, seq=2, plan_id="plan-2", site="elsewhere")
    _, choice = pick(bad, T0 + timedelta(seconds=1), TIED, memory)
    assert choice.plan is PLAN
    assert "made for site" in str(choice.refused)


def test_choose_older_sequence_is_refused():
    memory, _ = pick(replace(PLAN, seq=5, plan_id="plan-5"))
    _, choice = pick(replace(PLAN, seq=4, plan_id="plan-4"), T0 + timedelta(seconds=1), TIED, memory)
    assert choice.plan is not None
    assert choice.plan.seq == 5


def test_choose_plan_labelled_rules_hands_over_to_the_rules():
    memory, _ = pick(PLAN)
    rules = replace(PLAN, seq=2, plan_id="plan-2", label=PlanLabel.RULES)
    _, choice = pick(rules, T0 + timedelta(seconds=1), TIED, memory)
    assert choice.plan is None


def test_choose_no_plan_asks_once_a_minute():
    memory, asked = PlanMemory(), []
    for i in range(130):
        memory, choice = pick(None, T0 + timedelta(seconds=i), TIED, memory)
        asked.append(choice.replan)
    assert [i for i, a in enumerate(asked) if a] == [0, 60, 120]


def test_choose_plan_that_counts_on_a_charge_that_is_not_there_is_refused_and_told():

    def offered(soc: float) -> tuple[PlanMemory, Choice]:
        now = condition(T0, bess={"bess1": replace(BATTERY, soc=soc)})
        return choose(site(), PlanMemory(), PLAN, now, 0.0, 1.0)

    memory, choice = offered(0.3)
    assert choice.plan is None
    assert "counts on bess1 at 0.6" in str(choice.refused)
    assert [e.kind for e in choice.events] == ["plan.refused"]
    assert memory.highest_seq == -1, "the next one may have its number"
    assert offered(0.55)[1].plan is PLAN
