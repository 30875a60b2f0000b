"""The production planner beside a rig: it plans and publishes in its own turn, after the edge's cycle."""

from collections.abc import Sequence
from datetime import datetime

from ems.forecast import Forecast
from ems.outage import known_outages
from ems.timegrid import TimeGrid
from sim.faults import Entry, Fault
from sim.harness import COARSE_PLANNER, SimulateOptions
from sim.perfect import PerfectForecaster
from sim.scenario import Scenario
from sim.turns import PlanningTurns

REPLAN_S = 1800.0


class RigForecaster:
    """Load and sun as they will be, outages only as far as they are announced, with the faults of the run."""

    def __init__(self, scenario: Scenario, faults: Sequence[tuple[Fault, Entry]]) -> None:
        self._scenario, self._truth = scenario, PerfectForecaster(scenario)
        self._faults = [(f, e) for f, e in faults if e.foresee is not None]

    def forecast(self, grid: TimeGrid, issued_at: datetime) -> Forecast:
        """What is foreseen on `grid`."""
        seen = self._truth.forecast(grid, issued_at)
        t_s = self._scenario.offset_s(issued_at)
        known = known_outages(self._scenario.notices, issued_at)
        factor = 1.0
        for fault, entry in self._faults:
            if entry.foresee is not None and fault.holds(t_s):
                factor *= entry.foresee(fault, t_s)
        return Forecast(
            grid=seen.grid,
            issued_at=seen.issued_at,
            data_cutoff=seen.data_cutoff,
            source="rig",
            load_kw={f: factor * v for f, v in seen.load_kw.items()},
            pv_kw=seen.pv_kw,
            import_per_kwh=seen.import_per_kwh,
            export_per_kwh=seen.export_per_kwh,
            outages=tuple(n for n in known if n.end > grid.start),
        )


def turns_of(scenario: Scenario, faults: Sequence[tuple[Fault, Entry]]) -> PlanningTurns:
    """The planner's turns; it is away while a fault says so."""
    away = tuple((f.from_s, f.until_s) for f, e in faults if e.planner_dead)
    options = SimulateOptions(planner=COARSE_PLANNER, replan_s=REPLAN_S, planner_away=away)
    return PlanningTurns(scenario, lambda: RigForecaster(scenario, faults), options)
