"""Runs that several tests look at, and the order that lets them share two cores."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.day import PlannedKill
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.stores.plans import PlanReader
from tests.e2e.days import Lived, around_outage, live_through
from tests.e2e.live import LiveDemo, wait_for

# Tests that watch real seconds first; then the demo runs beside the lock-step runs, which do not mind.
_EARLY = ("test_modbus_bad_devices", "test_opc_ua_bad_servers", "test_wheel", "test_shadow", "test_interrupt")
_LATE = 3


def _rank(item: pytest.Item) -> int:
    fixtures: list[str] = getattr(item, "fixturenames", [])
    if {"served_demo", "finished_demo"} & set(fixtures):
        return _LATE + ("finished_demo" in fixtures)
    if "real_time" in fixtures:
        return 0
    if "demo" in fixtures:
        return 1
    return 0 if item.path.stem in _EARLY else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The demo of the session starts early and is waited for at the end; only tests of this folder move."""
    here = Path(__file__).parent
    places = [i for i, item in enumerate(items) if item.path.is_relative_to(here)]
    for place, item in zip(places, sorted((items[i] for i in places), key=_rank), strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDemo]:
    """`ems demo --serve` as a user starts it, while it runs."""
    out = tmp_path_factory.mktemp("demo") / "result"
    with LiveDemo.started(out, "--serve") as live:
        yield live


@pytest.fixture(scope="session")
def served_demo(demo: LiveDemo) -> LiveDemo:
    """The same when the day is over and the service is kept up."""
    wait_for("the end of the day", lambda: "serving http" in demo.text or not demo.running or None, 1500.0)
    assert demo.running, demo.text
    return demo


@pytest.fixture(scope="session")
def finished_demo(served_demo: LiveDemo) -> LiveDemo:
    """The same when Ctrl-C has ended the service."""
    os.killpg(served_demo.process.pid, signal.SIGINT)
    served_demo.wait(60.0)
    return served_demo


@dataclass(frozen=True, slots=True, kw_only=True)
class RealTime:
    """`ems demo --real-time` whose planner was killed; `back_s` later there was another."""

    live: LiveDemo
    killed_at: datetime
    back_s: float  # wall time


@pytest.fixture(scope="session")
def real_time(tmp_path_factory: pytest.TempPathFactory) -> RealTime:
    """Cycles of a second; the planner is killed as soon as its first plan is followed."""
    out = tmp_path_factory.mktemp("real_time") / "result"
    with LiveDemo.started(out, "--real-time", "--minutes", "0.75") as live:
        live.config()
        edge = SqliteHistoryReader(out / "run" / "history.sqlite")
        planner = PlanReader(out / "run" / "plans.sqlite")

        def pid() -> int | None:
            row = planner.statuses().get("planner")
            return None if row is None else row.pid

        def followed() -> bool | None:
            assert live.running, f"no plan was followed: {live.text}"
            row = edge.statuses().get("edge")
            return True if row is not None and row.fields["source"] == "plan" else None

        wait_for("a plan that is followed", followed)
        first = wait_for("the planner's status", pid)
        killed_at = datetime.now(UTC)
        os.kill(first, signal.SIGKILL)
        wait_for("the planner's return", lambda: True if pid() not in (None, first) else None)
        back_s = (datetime.now(UTC) - killed_at).total_seconds()
        live.wait(120.0)
    return RealTime(live=live, killed_at=killed_at, back_s=back_s)


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """The minutes in which the mains fail, over sockets, with nobody killed."""
    return live_through(tmp_path_factory.mktemp("quiet"), around_outage())


@pytest.fixture(scope="session")
def without_api(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """The same minutes a second time, on other ports; the API dies before the outage and in the island."""
    kills = [PlannedKill(name="api", at_s=t, back_s=None) for t in (300.0, 1000.0)]
    return live_through(tmp_path_factory.mktemp("without_api"), around_outage(), kills)
