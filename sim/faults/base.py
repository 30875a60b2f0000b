"""What a fault is, and what an entry of the catalogue can do."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ems.plan import Plan
from ems.points import AssetKind
from ems.requests import Answer, Ask
from ems.site import GridMode, Site
from ems.telemetry import Reading
from sim.scenario import Scenario
from sim.world import World
from sim.writes import WriteVerdict

EPSILON_S = 1e-6
ANY_MODE = frozenset((GridMode.GRID_TIED, GridMode.ISLANDED, GridMode.BLACK))


class Layer(StrEnum):
    """Where a fault sits."""

    PLANT = "plant"  # in the physics and in the devices that act on them; works over sockets too
    FACE = "face"  # between the truth and what a device tells or takes; works over sockets with a DeviceFace
    ARRIVAL = "arrival"  # how an answer arrives: quality, stamps, lateness
    PLANS = "plans"  # the planner and its store
    CLOCK = "clock"  # record time (UTC); control time is monotonic and has no faults
    RECORDER = "recorder"  # historian and audit
    PEOPLE = "people"  # requests of people and services, valid and not


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of a run, in [from_s, until_s) after its start.

    Parameters
    ----------
    kind : name of an entry of the catalogue.
    target : asset id, or point id where the entry is about one point; empty for the plant, plans and clock.
    value : how much, in the unit the entry states; None: the entry's own.
    """

    kind: str
    target: str = ""
    from_s: float = 0.0
    until_s: float = math.inf
    value: float | None = None  # unit: as the entry states for this setpoint or quantity

    def holds(self, t_s: float) -> bool:
        """Whether it is on at `t_s` [s]."""
        return self.from_s - EPSILON_S <= t_s < self.until_s - EPSILON_S

    def of(self, point: str) -> bool:
        """Whether a point belongs to the target; the empty target has all of them."""
        return not self.target or point == self.target or point.startswith(self.target + ".")

    def given(self, own: float) -> float:
        """Its value, or the entry's own."""
        return own if self.value is None else self.value


Memory = dict[str, float]  # of one fault over a run; copied when a run is forked
Told = dict[str, float]  # point -> what the device tells


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A write as the device makes of it: the value it carries out, if any, and what it answers."""

    value: float | None  # unit of the point
    verdict: WriteVerdict = WriteVerdict.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One kind of fault. Hooks that are None do not apply.

    Parameters
    ----------
    does : one sentence for the table.
    kinds : of asset it may hit; empty: the plant as a whole.
    modes : grid modes in which it can change what the edge does or tells; a soak asks that it did.
    weight : how often it is aimed at, for one that seldom changes anything.
    drawn : size when it is drawn for an episode; None: its own.
    value, unit : its own size, and what a fault's `value` is.
    shape : works it into the scenario before the run.
    tell : changes what the devices tell, every time somebody reads.
    take : changes a write on its way into a device.
    act : does something to the devices before each cycle.
    arrive : changes readings as they arrive at the edge.
    offer : changes the plan the edge finds.
    planner_dead : the edge is told that nobody plans.
    foresee : factor on the load the planner foresees.
    utc : changes record time.
    found_until_s : the edge finds only plans that were published until then [s].
    asks : who asks what of the edge now, after the answers of the last tick.
    lose : the recorder does not take what it is given.
    slow : the recorder takes `value` seconds for each intent and outcome, while control time goes on.
    blinds : oracles that judge by truth and cannot hold meanwhile, with the reason.
    lasts_s : shortest and longest duration when drawn [s].
    point : name of the one point it is about, when the target is a point.
    sets : the target is a setpoint of the asset.
    """

    name: str
    layer: Layer
    does: str
    kinds: tuple[AssetKind, ...] = ()
    modes: frozenset[GridMode] = ANY_MODE
    value: float = 0.0  # in `unit`
    unit: str = ""
    shape: Callable[[Fault, Scenario], Scenario] | None = None
    tell: Callable[[Fault, Memory, Told, float], None] | None = None
    take: Callable[[Fault, Memory, str, Taken, float], Taken] | None = None
    act: Callable[[Fault, Memory, World, float], None] | None = None
    arrive: Callable[[Fault, Memory, list[Reading], float], list[Reading]] | None = None
    offer: Callable[[Fault, Plan | None, Site, datetime], Plan | None] | None = None
    planner_dead: bool = False
    foresee: Callable[[Fault, float], float] | None = None
    utc: Callable[[Fault, datetime, float], datetime] | None = None
    found_until_s: Callable[[Fault, float], float] | None = None
    asks: Callable[[Fault, Site, float, Sequence[Answer]], Sequence[tuple[str, Ask]]] | None = None
    lose: bool = False
    slow: bool = False
    blinds: tuple[tuple[str, str], ...] = ()
    lasts_s: tuple[float, float] = (30.0, 600.0)
    point: str | None = None
    sets: bool = False
    weight: int = 1
    drawn: float | None = None  # in `unit`

    @property
    def needs_plans(self) -> bool:
        """It means nothing to an edge that follows no plans."""
        return self.layer is Layer.PLANS
