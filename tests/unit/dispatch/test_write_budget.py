"""Registers that wear out: the budget of a day, and what it never refuses."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from dispatch.layout import layout_of
from dispatch.state import EdgeState
from dispatch.writing.budget import (
    budget_alarms,
    counted,
    counted_before,
    going_on,
    over_budget,
    spent_points,
)
from dispatch.writing.budget_memory import BudgetMemory
from ems.commands import Cause, Command, Setpoint
from ems.errors import ConfigError
from ems.site import PointMap, Site
from ems.site_schema import load_site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests.builders import T0
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_read_back import PEAK_KW, ROOT, demo

POINT = "bess1.p_set_kw"


def worn(budget: int, point: str = POINT) -> Site:
    """The demonstration site with a budget on one register."""
    site = demo()

    def mapped(points: tuple[PointMap, ...]) -> tuple[PointMap, ...]:
        return tuple(replace(m, writes_per_day=budget) if m.point == point else m for m in points)

    return replace(site, connections=tuple(replace(c, points=mapped(c.points)) for c in site.connections))


def restless(t: float) -> float:
    return 400.0 if int(t / 3.0) % 2 else 150.0


def rig(site: Site, **options: object) -> Rig:
    load = {f: (lambda t, kw=kw: 0.3 * kw) for f, kw in PEAK_KW.items()}
    return Rig(site, load_kw=load, pv_kw=restless, **options)  # type: ignore[arg-type]


def test_budget_spent_lets_only_what_protects_pass_until_midnight():
    r = rig(worn(5), faults=[Fault(kind="bess_derated", target="bess1", from_s=80.0, value=0.02)]).run(120.0)
    wrote = [c for row in r.rows() for c in row.commands if c.point == POINT]
    over = wrote[5:]
    assert len(wrote[:5]) == 5
    assert all(c.protective or c.cause in (Cause.PROTECTION, Cause.SAFE_TABLE) for c in over)
    assert any(c.decided_s >= 80.0 for c in over), "the limit that fell is written all the same"
    assert r.last.alarmed("setpoint.budget_spent")
    assert r.runtime.state.budget.spent == {POINT: len(wrote)}


def test_budget_is_new_at_local_midnight():
    site = worn(3)
    zone = layout_of(site).zone
    late = T0.astimezone(zone).replace(hour=23, minute=59, second=0).astimezone(T0.tzinfo)
    r = rig(site, options=RigOptions(start=late)).run(180.0)
    at_night = list(r.rows(59.0, 62.0))
    assert at_night[0].alarmed("setpoint.budget_spent")
    assert not at_night[-1].alarmed("setpoint.budget_spent")
    assert sum(row.wrote(POINT) is not None for row in r.rows(60.0)) >= 3


def test_budget_counts_each_command_to_its_register_of_this_day():
    layout = layout_of(worn(5))
    shot = snapshot(T0, 0.0)
    today = shot.at.astimezone(layout.zone).date()
    command = Command(
        point=POINT, value=1.0, cause=Cause.PROTECTION, reason="r", owner="o", plan_id=None, epoch=1, seq=1,
        limits_hash="", decided_at=T0, decided_s=0.0,
    )  # fmt: skip
    commands = (command, command, replace(command, point="pv1.p_limit_kw"))
    sent = cast(Any, SimpleNamespace(at=shot.at, commands=commands))
    state = EdgeState(epoch=1, budget=BudgetMemory(day=today, spent={POINT: 4}))
    for known, spent in (
        (BudgetMemory(day=today, spent={POINT: 1}), 3),
        (BudgetMemory(day=today - timedelta(days=1), spent={POINT: 1}), 2),
        (BudgetMemory(), 2),
    ):
        after = counted(layout, state, known, sent)
        assert after.budget == BudgetMemory(day=today, spent={POINT: spent})
    assert counted(layout_of(demo()), state, BudgetMemory(), sent) is state  # a site without budgets


def test_budget_is_spent_with_its_last_write_and_not_before():
    layout = layout_of(worn(5))
    shot = snapshot(T0, 0.0)
    today = shot.at.astimezone(layout.zone).date()
    for n, spent in ((4, frozenset()), (5, {POINT}), (6, {POINT})):
        memory = BudgetMemory(day=today, spent={POINT: n})
        assert spent_points(layout, memory, shot) == spent
        assert len(list(budget_alarms(layout, memory))) == len(spent)


def test_no_write_before_this_edge_is_nothing_known():
    assert counted_before(layout_of(worn(5)), T0, lambda *_: 0).spent == {}
    assert counted_before(layout_of(worn(5)), T0, lambda *_: 1).spent == {POINT: 1}


def test_site_without_budgets_counts_nothing():
    assert rig(demo()).run(10.0).runtime.state.budget.day is None


@pytest.mark.parametrize("cause", list(Cause))
@pytest.mark.parametrize("protective", [False, True])
def test_budget_never_refuses_the_protective_direction(cause: Cause, protective: bool):
    s = Setpoint(
        point=POINT, value=0.0, low=-1.0, high=1.0, cause=cause, reason="a test", owner="test", plan_id=None,
        protective=protective, limits_hash="",
    )  # fmt: skip
    waits = over_budget(frozenset([POINT]), s)
    assert waits is not (protective or cause in (Cause.PROTECTION, Cause.SAFE_TABLE, Cause.EMERGENCY_STOP))
    assert not over_budget(frozenset(), s)


def test_budget_smaller_than_its_refreshes_is_refused_by_key(tmp_path: Path):
    shutil.copytree(ROOT / "sites" / "demo", tmp_path / "demo")
    path = tmp_path / "demo" / "maps" / "pv_plant.yaml"
    text = path.read_text().splitlines()
    text = [
        x.replace("writable: true", "writable: true, writes_per_day: 2000") if "p_limit_kw" in x else x
        for x in text
    ]
    path.write_text("\n".join(text))
    with pytest.raises(ConfigError) as found:
        load_site(tmp_path / "demo" / "site.yaml")
    (problem,) = found.value.problems
    assert "pv1.p_limit_kw.refresh_s" in str(problem)
    assert "86.4 s or more" in str(problem)


# --- over a restart -----------------------------------------------------------------------------------------


def test_budget_goes_on_over_restarts_with_what_the_audit_trail_holds_of_today(tmp_path: Path):
    """An edge that died and came back again and again once had a new budget each time."""
    layout = layout_of(worn(5))
    midnight = datetime.combine(T0.astimezone(layout.zone).date(), time(), layout.zone).astimezone(UTC)
    now = midnight + timedelta(hours=20)
    history = tmp_path / "history.sqlite"
    for start, points in enumerate([(POINT, POINT), (POINT, "pv1.p_limit_kw")]):
        recorder = SqliteRecorder(history, sync=False)
        for seq, point in enumerate(points):
            recorder.intent(written(point, now - timedelta(hours=2), start, seq))
        recorder.intent(written(POINT, midnight - timedelta(seconds=1), start, 9))
        assert recorder.close()
    reader = SqliteHistoryReader(history)
    memory = counted_before(layout, now, reader.writes)
    assert (memory.day, memory.spent) == (T0.astimezone(layout.zone).date(), {POINT: 3}), "yesterday is over"
    assert reader.writes(POINT, midnight, now, 2) == 2, "no further than it matters"
    assert counted_before(layout, now + timedelta(hours=12), reader.writes).spent == {}
    r = rig(worn(5), options=RigOptions(start=now))
    r.runtime.state = going_on(layout, r.runtime.state, now, reader.writes)
    assert r.runtime.state.budget == memory
    r.run(60.0)
    passed = [c for row in r.rows() for c in row.commands if c.point == POINT and not c.protective]
    assert len(passed) <= 2
    assert r.last.alarmed("setpoint.budget_spent")


def test_site_without_budgets_asks_no_audit_trail():
    assert counted_before(layout_of(demo()), T0, lambda *_: 1 // 0) == BudgetMemory()


def written(point: str, at: datetime, epoch: int, seq: int) -> Command:
    return Command(
        point=point, value=0.0, cause=Cause.PLAN, reason="", owner="plan", plan_id=None, epoch=epoch, seq=seq,
        limits_hash="", decided_at=at, decided_s=0.0, protective=False,
    )  # fmt: skip
