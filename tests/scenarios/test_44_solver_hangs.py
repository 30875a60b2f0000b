"""43 to 45: a solver at its limit or without a point, a planner that hangs, is stopped, or ends."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.supervisor import ChildSpec, Supervisor
from dispatch.vocabulary import Source
from ems.plan import Plan, PlanLabel
from ems.site import Site
from optimizer import Planner
from optimizer.solve import Outcome, Session
from optimizer.validate.findings import Verdict
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY
from tests.scenarios.test_41_forecast_missing import AT, EndOfTestError, LimitedClock, planner_loop, record
from tests.unit.dispatch.plans import plan_of
from tests.unit.optimizer.test_bad_input import OPTIONS, POSE, SITE

SILENT_S = 1.0
WHOLE = (PlanLabel.OPTIMAL, PlanLabel.INCUMBENT)


def ended(status: str) -> Callable[..., Outcome]:
    """A solver that ends so, without a point."""
    return lambda *_: Outcome(
        status=status, optimal=False, x=None, objective=None, bound=None, gap_ratio=None, solve_s=1.0, nodes=0
    )


@pytest.fixture(scope="module")
def good() -> Plan:
    plan = Planner(SITE, OPTIONS).plan(POSE.condition(), POSE.forecast(), None, 1)
    assert plan.label in WHOLE
    return plan


@pytest.mark.scenario(43)
@pytest.mark.scenario(44)
@pytest.mark.parametrize("status", ["Infeasible", "Time limit reached", "Solve error"])
@pytest.mark.parametrize("known", [True, False])
def test_solver_without_a_point_leaves_the_last_plan_or_the_rules_and_says_why(
    good: Plan, monkeypatch: pytest.MonkeyPatch, status: str, known: bool
):
    monkeypatch.setattr(Session, "solve", ended(status))
    plan = Planner(SITE, OPTIONS).plan(POSE.condition(), POSE.forecast(), good if known else None, 2)
    assert plan.label is (PlanLabel.SHIFTED if known else PlanLabel.RULES)
    assert status in plan.solve.rescue
    if known:
        assert plan.valid_until <= good.valid_until, "a plan that is shifted is not made younger"


@pytest.mark.scenario(44)
def test_incumbent_that_the_replay_refuses_is_not_published(good: Plan, monkeypatch: pytest.MonkeyPatch):
    """The solver stops at its limit with a point: without the validator's word it is no plan."""
    real = Session.solve

    def at_its_limit(self: Session, *args: Any) -> Outcome:
        return replace(real(self, *args), status="Time limit reached", optimal=False)

    monkeypatch.setattr(Session, "solve", at_its_limit)
    passed = Planner(SITE, OPTIONS).plan(POSE.condition(), POSE.forecast(), None, 2)
    assert passed.label is PlanLabel.INCUMBENT
    refuses = Verdict(faults=("bess1: 3 kW over its limit",), worst={})
    monkeypatch.setattr("optimizer.rolling.validate", lambda *_: refuses)
    plan = Planner(SITE, OPTIONS).plan(POSE.condition(), POSE.forecast(), good, 2)
    assert plan.label is PlanLabel.SHIFTED
    assert "bess1: 3 kW over its limit" in plan.solve.rescue


@pytest.mark.scenario(44)
@pytest.mark.scenario(45)
def test_planner_stopped_with_its_lock_in_hand_leaves_the_edge_alone(demo: Site):
    """It holds its lock, so it seems to live: the plan is followed to its end, then rules decide."""
    rig = Rig(demo, load_kw={"critical": 80.0}, controller="plan", options=RigOptions(horizon_s=600.0))
    plan = plan_of(demo, bess_kw=[20.0] * 8, load_kw=200.0, start=MONDAY)
    rig.at(5.0, lambda r: r.publish(replace(plan, valid_until=rig.scenario.at(60.0))))
    rig.run(120.0)
    assert rig.held(lambda row: row.decisions.source is Source.PLAN, 10.0, 60.0)
    assert rig.after(60.0, lambda row: row.decisions.source is Source.RULES) <= 2.0
    assert [row.t_s for row in rig.log] == [float(t) for t in range(120)]


async def watched(
    directory: Path, what: str, until: Callable[[Supervisor], bool], do: Callable[[int], None]
) -> Supervisor:
    """Supervise a child that does `what`, and do something to it once it has started."""
    config = directory / "what"
    config.write_text(what)
    supervisor = Supervisor()
    spec = ChildSpec(
        name="child", module="tests.scenarios.children", config=config, log=directory / "log",
        sign=directory / "sign", silent_s_max=SILENT_S,
    )  # fmt: skip
    supervisor.start(spec)
    watching = asyncio.create_task(supervisor.watch())
    try:
        async with asyncio.timeout(50.0):
            while not starts(directory):
                await asyncio.sleep(0.02)
            do(supervisor.pid("child"))
            while not until(supervisor):
                await asyncio.sleep(0.02)
    finally:
        watching.cancel()
        await supervisor.stop(())
    return supervisor


def starts(directory: Path) -> int:
    """How often a child has started: counted in what it wrote, for the file is there a moment earlier."""
    file = directory / "starts"
    return len(file.read_text()) if file.exists() else 0


def started_again(directory: Path) -> Callable[[Supervisor], bool]:
    return lambda supervisor: starts(directory) >= 2


def nothing(pid: int) -> None:
    """It does wrong by itself."""


@pytest.mark.scenario(44)
@pytest.mark.scenario(45)
@pytest.mark.parametrize(
    ("what", "do", "silenced"),
    [
        ("exits", nothing, 0),  # status 0, and no plan
        ("memory", nothing, 0),  # out of memory
        ("lives", lambda pid: os.kill(pid, signal.SIGKILL), 0),
        ("lives", lambda pid: os.kill(pid, signal.SIGSEGV), 0),
        ("hangs", nothing, 1),
        ("lives", lambda pid: os.kill(pid, signal.SIGSTOP), 1),
    ],
)
def test_process_that_ends_hangs_or_is_stopped_is_started_again(
    tmp_path: Path, what: str, do: Callable[[int], None], silenced: int
):
    """One that hangs or is stopped was left alone, and nobody planned until a person came."""
    supervisor = asyncio.run(watched(tmp_path, what, started_again(tmp_path), do))
    assert supervisor.restarts["child"] == 1
    assert supervisor.silenced["child"] == silenced


@pytest.mark.scenario(44)
def test_process_that_gives_signs_of_life_is_left_alone(tmp_path: Path):
    ends = []

    def later(supervisor: Supervisor) -> bool:
        ends.append(0)
        return len(ends) > 60 * SILENT_S

    supervisor = asyncio.run(watched(tmp_path, "lives", later, nothing))
    assert supervisor.restarts["child"] == supervisor.silenced["child"] == 0


@pytest.mark.scenario(44)
def test_planner_gives_a_sign_of_life_with_each_look_and_none_while_it_hangs(tmp_path: Path):
    record(tmp_path / "history.sqlite", [(1.0, 0.0)])
    clock, signs = LimitedClock(AT, 60.0), []
    loop = planner_loop(tmp_path, clock)
    loop.sign_of_life = lambda: signs.append(clock.monotonic_s())
    with pytest.raises(EndOfTestError):
        asyncio.run(loop.run())
    loop.store.close()
    assert signs == [10.0 * n for n in range(7)]
