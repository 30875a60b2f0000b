"""Ctrl-C in the middle of the day: the plant is left safe, files are whole, nobody stays behind."""

import os
import signal
import sqlite3

import pytest

from connectors.historian.sqlite import SqliteHistoryReader
from ems.commands import Cause, WriteOutcome
from sim.scenario import load_scenario
from sim.world import World
from tests.e2e.days import ALL, demo_day
from tests.e2e.live import LiveDemo, processes_with

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> LiveDemo:
    """A demo that got SIGINT as a terminal sends it: to the whole foreground group."""
    out = tmp_path_factory.mktemp("interrupted") / "result"
    with LiveDemo.started(out) as live:
        live.answer("/api/v1/plan")
        os.killpg(live.process.pid, signal.SIGINT)
        live.wait(120.0)
        live.left_behind = processes_with(str(out))
    return live


def test_interrupt_exit_code_is_130(interrupted: LiveDemo):
    assert interrupted.process.returncode == 130, interrupted.text
    assert "Traceback" not in interrupted.text


def test_interrupt_no_process_stays_behind(interrupted: LiveDemo):
    assert interrupted.left_behind == []


@pytest.mark.parametrize("name", ["history.sqlite", "plans.sqlite"])
def test_interrupt_files_are_whole(interrupted: LiveDemo, name: str):
    db = sqlite3.connect(interrupted.out / "run" / name)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_interrupt_audit_shows_the_safe_table_and_the_plant_holds_it(interrupted: LiveDemo):
    """The last values the devices were given are the site's safe values of the grid mode, and confirmed."""
    scenario, run = demo_day(), interrupted.out / "run"
    reader = SqliteHistoryReader(run / "history.sqlite")
    (written,) = reader.events(scenario.start, scenario.end, "edge.safe_table.written", ALL)
    authority = scenario.site.authority.setpoints
    safe = {p: a.safety.grid_tied for p, a in authority.items() if a.safety.grid_tied is not None}
    commands = reader.commands(scenario.start, scenario.end, None, ALL)
    by_table = [c for c in commands if c.cause is Cause.SAFE_TABLE]
    assert by_table, "no command of the safe table"
    assert all(c.at >= written.at for c in by_table)
    assert {c.outcome for c in by_table} == {WriteOutcome.CONFIRMED}
    last = {c.point: c.value for c in reversed(commands) if c.refused_code is None}
    assert {p: last[p] for p in safe} == safe
    stored = load_scenario(run / "scenario.npz", scenario.site)
    world = World.restore(stored, (run / "world.checkpoint").read_bytes())
    held = {p: world.setpoints.values[p] for p in safe}
    assert held == pytest.approx(safe, abs=1.0)  # the PV controller counts in 0.7 kW
