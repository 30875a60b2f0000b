"""What a process is told when it is started: one JSON file, the same for all processes of a plant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from ems.outage import OutageNotice


@dataclass(frozen=True, slots=True, kw_only=True)
class FineWindow:
    """A window of plant time with the fine control cycle, [start, end)."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """One running plant: where its files lie, which time it lives in, how often it decides.

    `keeper_port` is that of the time keeper in lock-step, or None for real time. `ports` overrides the port
    of a connection by its id. `scenario` is the simulated truth and read by the plant process alone; the
    planner gets `past`, the measured series of the days before, and `notices`, which count from their issue.
    """

    site: Path
    directory: Path
    keeper_port: int | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    shadow: bool = True
    cycle_s: float = 1.0
    fine_cycle_s: float = 1.0
    fine_windows: tuple[FineWindow, ...] = ()
    replan_s: float = 900.0
    solve_allowance_s: float = 60.0
    solve_limit_s: float | None = 20.0  # wall time of one solve; None: limited by nodes, reproducible
    api_port: int = 8080
    scenario: Path | None = None
    past: Path | None = None
    notices: tuple[OutageNotice, ...] = ()

    @property
    def history(self) -> Path:
        """The edge's historian."""
        return self.directory / "history.sqlite"

    @property
    def plans(self) -> Path:
        """The planner's store."""
        return self.directory / "plans.sqlite"

    def cycle_at(self, when: datetime) -> float:
        """Length of the control cycle that starts at `when` [s]."""
        fine = any(w.start <= when < w.end for w in self.fine_windows)
        return self.fine_cycle_s if fine else self.cycle_s


_ADAPTER = TypeAdapter(ProcessConfig)


def write_config(config: ProcessConfig, path: Path) -> Path:
    """Store a configuration and return its path."""
    path.write_bytes(_ADAPTER.dump_json(config, indent=2))
    return path


def read_config(path: Path) -> ProcessConfig:
    """Read what `write_config` wrote."""
    return _ADAPTER.validate_json(path.read_bytes())
