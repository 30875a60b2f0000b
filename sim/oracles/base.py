"""What an oracle sees, and what it says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dispatch.vocabulary import Decisions
from ems.commands import Command, Proposal, WriteResult
from ems.control import ControlMode
from ems.plan import Plan
from ems.site import Site
from ems.telemetry import Reading, Snapshot
from plant_models.state import PlantFlows
from sim.rig_io import Entered


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An oracle did not hold."""

    t_s: float
    oracle: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSeen:
    """One command on its way out, before its device has it.

    Parameters
    ----------
    told : the newest reading of each point, whatever the edge made of it.
    held : what the device holds for this setpoint; None before anybody wrote it [unit of the point].
    held_safe : the edge was held safe before this tick.
    proposals : operators' wishes given to this tick.
    leases : setpoints that people hold: (point, end [s edge monotonic]).
    plans : every plan the edge was ever offered, by id.
    entered : the journal of this tick so far.
    at : record time of the edge.
    """

    t_s: float
    dt_s: float
    command: Command
    snapshot: Snapshot | None
    told: Mapping[str, Reading]
    held: float | None  # unit of the point
    held_safe: bool
    shadow: bool
    proposals: Sequence[Proposal]
    leases: Sequence[tuple[str, float]]
    plans: Mapping[str, Plan]
    entered: Sequence[Entered]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TickSeen:
    """One tick and what the plant made of it.

    Parameters
    ----------
    decisions : None when the edge did not complete its cycle.
    held_safe : the edge was held safe before this tick.
    results : of the writes of this tick.
    told : the newest reading of each point.
    held : what the devices hold after the writes, by setpoint [unit of the point].
    plans : every plan the edge was ever offered, by id.
    at : record time of the edge.
    beats : heartbeat registers as the devices hold them.
    flows : truth from this tick to the next.
    strangers : connections whose device is another one than was commissioned: nothing is written there.
    quiet_s : since the last fault; 0 while one holds [s].
    """

    t_s: float
    dt_s: float
    decisions: Decisions | None
    held_safe: bool
    snapshot: Snapshot | None
    results: Sequence[WriteResult]
    told: Mapping[str, Reading]
    held: Mapping[str, float]
    plans: Mapping[str, Plan]
    at: datetime
    entered: Sequence[Entered]
    beats: Mapping[str, float]
    flows: PlantFlows
    strangers: Collection[str] = ()
    quiet_s: float = 0.0

    def untouched(self, asset: str) -> bool:
        """Nothing may be written to it: its selector is not in remote, or a person has switched it off."""
        selector, seen = f"{asset}.remote", self.snapshot
        local = seen is not None and selector in seen.readings and seen.value(selector) != 1.0
        off = self.decisions is not None and self.decisions.control.get(asset) is ControlMode.OFF
        return local or off


class Oracle:
    """One oracle over one run; returns its evidence when it does not hold, else None."""

    id = ""
    says = ""

    def __init__(self, site: Site) -> None:
        self.site = site

    def on_write(self, w: WriteSeen) -> str | None:
        """Judge a write before it is carried out."""
        return None

    def on_tick(self, t: TickSeen) -> str | None:
        """Judge a tick after the plant has moved."""
        return None
