"""What a process is told when it is started: one JSON file, the same for all processes of a plant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from connectors.historian.schema import ARCHIVE
from ems.outage import OutageNotice
from ems.site import HistorianParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Cycle lengths of the demo day: fine around each change of the mains [s after `start`], else coarse."""

    start: datetime
    end: datetime
    mains_edges_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """One running plant: where its files lie, which time it lives in, how often it decides.

    `keeper_port` is that of the time keeper in lock-step, or None for real time. `ports` overrides the port
    of a connection by its id. `scenario` is the simulated truth and read by the plant process alone; the
    planner gets `past`, the measured series of the days before, and `notices`, which count from their issue.
    """

    site: Path
    directory: Path
    site_folder: Path | None = (
        None  # files named in the site file are relative to it; None: where the file is
    )
    keeper_port: int | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    shadow: bool = True
    record: Path | None = None  # of commissioning: without it nothing is written beyond this machine
    trust: Path | None = None  # public keys of who may vouch for site file and record; None: nobody must
    cycle_s: float = 1.0
    pace: Pace | None = None  # None: every `cycle_s`
    ask_kernel: bool = False  # whether the machine's clock is synchronised; nobody who tells: it is not
    replan_s: float = 900.0
    solve_allowance_s: float = 60.0
    solve_limit_s: float | None = 20.0  # wall time of one solve; None: limited by nodes, reproducible
    explain_h: float = 0.0  # how far ahead each plan is explained [h]; 0: not
    api_port: int = 8080
    scenario: Path | None = None
    past: Path | None = None
    notices: tuple[OutageNotice, ...] = ()
    scenarios: int = 0  # two or more: the planner plans over so many
    outage_scenarios: int = 0  # and over so many outages that nobody announced
    cvar_weight_ratio: float = 0.0
    cvar_level_ratio: float = 0.8
    historian: HistorianParams = field(default_factory=HistorianParams)
    quantile_ratio: float | None = None  # the planner plans for this quantile of load, and of missing sun

    @property
    def history(self) -> Path:
        """The edge's historian."""
        return self.directory / "history.sqlite"

    @property
    def archive(self) -> Path:
        """The historian's long-term store."""
        return self.directory / ARCHIVE

    @property
    def plans(self) -> Path:
        """The planner's store."""
        return self.directory / "plans.sqlite"

    @property
    def telemetry(self) -> Path:
        """What the links of the telemetry process have delivered, and how they do."""
        return self.directory / "telemetry.sqlite"

    @property
    def northbound(self) -> Path:
        """What our own servers have refused, and how they do."""
        return self.directory / "northbound.sqlite"

    @property
    def utility(self) -> Path:
        """What servers of a utility were refused, and how they do."""
        return self.directory / "utility.sqlite"

    @property
    def planner_sign(self) -> Path:
        """What the planner touches each time it looks."""
        return self.directory / "planner.alive"

    @property
    def alarm_desk(self) -> Path:
        """Where people hand in what they do to alarms."""
        return self.directory / "alarm-desk"

    @property
    def edge_trace(self) -> Path:
        """What the edge saw and meant, cycle by cycle, for the report of a demo."""
        return self.directory / "edge.npz"

    @property
    def world(self) -> Path:
        """The simulated plant's own state, from which it comes back."""
        return self.directory / "world.checkpoint"


_ADAPTER = TypeAdapter(ProcessConfig)


def write_config(config: ProcessConfig, path: Path) -> Path:
    """Store a configuration and return its path."""
    part = path.with_name(path.name + ".part")  # a full disk must not cost the one before
    part.write_bytes(_ADAPTER.dump_json(config, indent=2))
    return part.replace(path)


def read_config(path: Path) -> ProcessConfig:
    """Read what `write_config` wrote."""
    return _ADAPTER.validate_json(path.read_bytes())
