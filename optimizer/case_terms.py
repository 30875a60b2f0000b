"""What only a case may ask for, as data that the families of formulations/ lay out. A site has none of it.

It is part of the formulation: it decides rows and columns. Assets are named by id; (T,) series are tuples,
so that two equal ones are one structure.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an id of a case stands for."""

    UNIT = "unit"
    STORAGE = "storage"
    CHARGE = "charge"  # what a storage takes
    RENEWABLE = "renewable"
    GRID = "grid"
    EXPORT = "export"
    LOAD = "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ride:
    """Output of a unit on its way up and down, by step. One entry of `up_kw` for each kind of start."""

    id: str
    up_kw: tuple[tuple[float, ...], ...]
    rest_h: tuple[float, ...]  # longest rest of each kind; the last is infinite
    down_kw: tuple[float, ...]
    per_kwh: float
    off_h: float | None  # off for so long before the first step; None: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Lake:
    """A storage that something flows into by itself, (T,) or (); or that ends where it began."""

    id: str
    inflow_kwh: tuple[float, ...]
    cyclic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bend:
    """Cost of a unit over output where it is not convex: pieces above its minimum, filled in order."""

    id: str
    least_per_h: float  # at the minimum, less what it costs in genset_fuel.py
    width_kw: tuple[float, ...]
    slope: tuple[float, ...]  # money per kWh


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Output by step: of a unit while it is on, of a renewable always. And what a kWh costs besides."""

    kind: Kind
    id: str
    low_kw: tuple[float, ...] = ()
    high_kw: tuple[float, ...] = ()
    per_kwh: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one asset may hold of a reserve. `room_kw` (T,) is all it could give, now and held together."""

    kind: Kind
    id: str
    most_kw: tuple[float, ...]
    room_kw: tuple[float, ...]
    per_kwh: float
    offline: bool = False  # a unit that is off


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A reserve: what is asked for, who may hold it, what is missing of it costs (None: nothing may be)."""

    id: str
    down: bool
    asked_kw: tuple[float, ...]
    renewable_ratio: float
    largest: bool
    counts: tuple[str, ...]
    beside_ramp: bool
    hold_h: float
    short_per_kwh: float | None
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """How an asset counts in a limit: by energy, by hour on, by start, by money of its running cost."""

    kind: Kind
    id: str
    per_kwh: float = 0.0
    per_h: float = 0.0
    per_start: float = 0.0
    per_cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on a sum over steps. A price of None: it may not be missed."""

    id: str
    steps: tuple[bool, ...]
    least: float | None
    most: float | None
    short_cost: float | None
    over_cost: float | None
    weights: tuple[Weight, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTerms:
    """All of it. `hard`: nothing is missed at a price, but for loads named in `may_shed`."""

    rides: tuple[Ride, ...] = ()
    lakes: tuple[Lake, ...] = ()
    bends: tuple[Bend, ...] = ()
    ranges: tuple[Range, ...] = ()
    products: tuple[Product, ...] = ()
    budgets: tuple[Budget, ...] = ()
    hard: bool = False
    may_shed: tuple[str, ...] = ()
    must_take: tuple[str, ...] = ()
    bus_stands: bool = False  # without anybody who forms it


NOTHING = CaseTerms()
