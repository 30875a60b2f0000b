"""An hour of the demo day around the outage that nobody announced, lived through over real sockets."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TypeVar

from cli._sites import find_site
from cli.day import DayRun, PlannedKill, choose_ports
from cli.demo import ALLOWANCE_S, DAY, REPLAN_S, SEED
from connectors.historian.sqlite import SqliteHistoryReader
from ems.records import CommandRecord, EventRecord, Sample
from ems.site import GridMode
from ems.site_schema import load_site
from sim.result import RunResult
from sim.scenario import Scenario
from sim.steps import DEMO_STEPS, StepPolicy
from sim.synthetic import demo_scenario

SITE_FILE = find_site("demo")
ALL = 1_000_000
T = TypeVar("T")
Timed = tuple[float, T]  # [s after start], what


@cache
def demo_day() -> Scenario:
    """The demo's own day."""
    return demo_scenario(load_site(SITE_FILE), DAY, seed=SEED)


def around_outage(start: tuple[int, int] = (17, 15), end: tuple[int, int] = (17, 38)) -> Scenario:
    """A part of the demo day, in UTC; the mains fail at 17:29:11 and come back at 18:40:10."""
    day = demo_day()
    at = [datetime(DAY.year, DAY.month, DAY.day, *hm, tzinfo=UTC) for hm in (start, end)]
    return replace(day, name=f"{day.name} cut", start=at[0], end=at[1])


def outage_s(scenario: Scenario) -> float:
    """When the mains fail unannounced [s after start]."""
    return scenario.offset_s(next(e.start for e in scenario.mains if not e.announced))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """A run over sockets that has ended."""

    run: DayRun
    result: RunResult

    @property
    def scenario(self) -> Scenario:
        return self.run.scenario

    @property
    def directory(self) -> Path:
        return self.run.directory

    @property
    def reader(self) -> SqliteHistoryReader:
        return SqliteHistoryReader(self.directory / "history.sqlite")

    def series(
        self, point: str, from_s: float = 0.0, to_s: float | None = None
    ) -> list[tuple[float, Sample]]:
        """Samples of a point with their times [s after start]."""
        s = self.scenario
        end = s.end if to_s is None else s.at(to_s)
        found = self.reader.series(point, s.at(from_s), end, ALL)
        return [(s.offset_s(x.at), x) for x in found]

    def events(self, kind: str | None = None) -> list[Timed[EventRecord]]:
        """Events, oldest first [s after start]."""
        s = self.scenario
        found = self.reader.events(s.start, s.end, kind, ALL)
        return [(s.offset_s(e.at), e) for e in reversed(found)]

    def commands(self, from_s: float = 0.0, to_s: float | None = None) -> list[Timed[CommandRecord]]:
        """Commands without refusals, oldest first [s after start]."""
        s = self.scenario
        end = s.end if to_s is None else s.at(to_s)
        found = self.reader.commands(s.at(from_s), end, None, ALL)
        return [(s.offset_s(c.at), c) for c in reversed(found) if c.refused_code is None]

    def value(self, point: str, at_s: float) -> float:
        """What was last measured at or before a time."""
        good = [
            x.value for t, x in self.series(point, max(0.0, at_s - 30.0), at_s + 0.5) if x.value is not None
        ]
        return good[-1]


def live_through(
    directory: Path,
    scenario: Scenario,
    kills: Sequence[PlannedKill] = (),
    on_progress: Callable[[DayRun, float], None] | None = None,
) -> Lived:
    """Run a scenario with all four processes, in lock-step, as the demo does."""
    ports, api_port = choose_ports(scenario.site, 0, free=True)
    run = DayRun(
        site=scenario.site,
        site_file=SITE_FILE,
        scenario=scenario,
        directory=directory,
        ports=ports,
        api_port=api_port,
        replan_s=REPLAN_S,
        allowance_s=ALLOWANCE_S,
        kills=tuple(kills),
    )
    if on_progress is not None:
        tell = on_progress
        run.on_progress = lambda now_s: tell(run, now_s)
    return Lived(run=run, result=asyncio.run(run.go()))


def cycle_times_s(scenario: Scenario) -> list[float]:
    """When the edge has to cycle [s after start]; the demo's cycle lengths do not depend on the grid mode."""
    policy, t_s, out = StepPolicy.of(scenario, DEMO_STEPS), 0.0, []
    while t_s < scenario.duration_s - 1e-6:
        out.append(t_s)
        t_s = policy.next_s(t_s, GridMode.GRID_TIED)
    return out
