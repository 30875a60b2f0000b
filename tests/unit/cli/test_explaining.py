"""Plans explained beside planning, by real processes: what is stored is what explaining says."""

import asyncio
from dataclasses import replace

import structlog

from cli.explaining import Explaining
from connectors.stores.plans import SqlitePlanStore
from ems.explanation import Explanation
from ems.plan import Plan, PlanLabel
from optimizer.explain import Posed, explain
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, small_site

POSE = Pose(
    site=small_site(bess=[ideal_bess(eta_charge=0.9)], feeders=[feeder("load", voll=20.0)]),
    load_kw={"load": 20.0}, import_per_kwh=[0.1, 0.3, 0.1, 0.3], soc=0.0,
)  # fmt: skip


def posed() -> Posed:
    return Posed(site=POSE.site, condition=POSE.condition(), forecast=POSE.forecast(), options=EXACT)


def explained(path, *asked: tuple[Posed, Plan]) -> dict[str, Explanation | None]:
    """Ask for each of these and wait for all."""

    async def work() -> dict[str, Explanation | None]:
        store = SqlitePlanStore(path)
        try:
            explaining = Explaining(store=store, hours=2.0, nice=0)
            for question, plan in asked:
                explaining.ask(question, plan)
                await explaining.settle()
            await explaining.stop()
            return {plan.plan_id: store.explanation(plan.plan_id) for _, plan in asked}
        finally:
            store.close()

    return asyncio.run(work())


def test_explaining_stores_what_explaining_says_and_the_reason_of_a_rescue(tmp_path):
    plan = POSE.plan()
    rescue = replace(
        plan, plan_id="rescue", label=PlanLabel.SHIFTED, solve=replace(plan.solve, rescue="no incumbent")
    )
    got = explained(tmp_path / "plans.sqlite", (posed(), plan), (posed(), rescue))
    here = explain(posed(), plan, 2.0, search=False)
    stored = got[plan.plan_id]
    assert stored is not None
    assert replace(stored, took_s=here.took_s) == here
    assert {w.step for w in here.setpoints} == {0, 1}
    told = got["rescue"]
    assert told is not None
    assert told.notes == ("not solved but rescued (shifted): no incumbent",)


def test_explaining_that_fails_is_logged_and_the_next_is_explained(tmp_path):
    """A plan of another forecast cannot be explained; the planner hears nothing of it."""
    plan = POSE.plan()
    other = replace(posed(), forecast=replace(POSE, load_kw={"load": 25.0}).forecast())
    wrong = replace(plan, plan_id="wrong")
    with structlog.testing.capture_logs() as logs:
        got = explained(tmp_path / "plans.sqlite", (other, wrong), (posed(), plan))
    assert got["wrong"] is None
    assert got[plan.plan_id] is not None
    assert [x["event"] for x in logs] == ["plan.explanation.failed"]
    assert "no solution of this problem" in logs[0]["reason"]


def test_explaining_only_the_newest_waits(tmp_path):
    """Three plans at once: the one that waited when a newer came is forgotten."""
    plan = POSE.plan()
    second, third = (replace(plan, plan_id=name) for name in ("second", "third"))

    async def work() -> tuple[int, list[bool]]:
        store = SqlitePlanStore(tmp_path / "plans.sqlite")
        try:
            explaining = Explaining(store=store, hours=1.0, nice=0)
            explaining.ask(posed(), plan)
            await asyncio.sleep(0)  # the first is taken in hand
            explaining.ask(posed(), second)
            explaining.ask(posed(), third)
            await explaining.settle()
            there = [store.explanation(p.plan_id) is not None for p in (plan, second, third)]
            return explaining.done, there
        finally:
            store.close()

    assert asyncio.run(work()) == (2, [True, False, True])
