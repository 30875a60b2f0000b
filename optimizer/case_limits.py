"""What a case is asked to keep beside its balance: reserves by product, limits on energy over many steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from optimizer.case_costs import Refusals, is_a
from optimizer.case_values import Flags, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """Who may hold a reserve, and how much of it.

    `id` is a unit, a storage, a `Renewable` (upwards what is curtailed, downwards what is used), a load
    (upwards what is served of it) or `"grid"` (what is left to its cap). At most `kw_max` is held, and what
    `within_h` of the reserve allows. `offline_kw`: what a unit that is off may promise (non-spinning).
    `per_kw_h` is paid for each kW held through an hour.
    """

    id: str
    kw_max: Values = math.inf
    per_kw_h: float = 0.0
    offline_kw: float = 0.0

    def __post_init__(self) -> None:
        found = Refusals()
        found.rows(
            f"responder {self.id}",
            (("per_kw_h", self.per_kw_h, 0.0, 1e9), ("offline_kw", self.offline_kw, 0.0, 1e9)),
        )
        found.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """A reserve to be held in every step, in an island and beside a grid alike.

    Asked for is `kw` and `load_ratio` of the load and `renewable_ratio` of what is used of `renewables` and
    `pv_kw`; with `largest` no less than the output of any one unit, held by the others. `responders` hold it;
    none named: every unit that is on, and every storage. Each holds no more than it can give or take beside
    its output. `within_h`: no more than its ramp reaches in that time. `beside_ramp`: output and reserve
    together keep the ramp from the output before. A storage keeps the energy for `hold_h`. What is held of
    the reserves in `counts` (the quicker ones) counts here, too. What is missing costs `short_per_kwh`, None:
    `short_per_kwh` of the case; in a `hard` case nothing may be missing.
    """

    id: str
    kw: Values = 0.0
    load_ratio: float = 0.0
    renewable_ratio: float = 0.0
    largest: bool = False
    down: bool = False
    within_h: float | None = None
    beside_ramp: bool = True
    hold_h: float = 1.0
    responders: tuple[Responder, ...] = ()
    counts: tuple[str, ...] = ()
    short_per_kwh: float | None = None

    def __post_init__(self) -> None:
        found, what = Refusals(), f"reserve {self.id}"
        for key in ("responders", "counts"):
            if not isinstance(value := getattr(self, key), list | tuple):
                found.add(what, key, value, "a tuple or a list")
            else:
                object.__setattr__(self, key, tuple(value))
        if not all(is_a(x, Responder) for x in self.responders):
            found.add(what, "responders", self.responders, "a tuple or a list of Responder")
        found.rows(
            what,
            (
                ("load_ratio", self.load_ratio, 0.0, 100.0),
                ("renewable_ratio", self.renewable_ratio, 0.0, 100.0),
                ("within_h", 1.0 if self.within_h is None else self.within_h, 1e-6, 1e4),
                ("hold_h", self.hold_h, 0.0, 8784.0),
                ("short_per_kwh", 0.0 if self.short_per_kwh is None else self.short_per_kwh, 0.0, 1e9),
            ),
        )
        if self.down and self.largest:
            found.add(what, "largest", True, "False of a reserve downwards")
        found.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyLimit:
    """A limit on a sum over `steps`: from `least` to `most` (None: no such limit).

    Each kWh of an id in `of` counts by its weight (1: energy; kg of carbon or GJ of fuel per kWh otherwise):
    output of a unit or a renewable, `"grid"` import, `"grid.export"`, what a storage gives,
    `"<storage>.charge"` what it takes, what is served of a load. A unit may count by hour on as well, by
    start, and by the money of its running cost (fuel at one price is a multiple of it). What is missed costs
    `short_cost` or `over_cost` per unit of the sum: with `least` and a price, take or pay. None: it may not
    be missed.
    """

    id: str
    of: Mapping[str, float] = field(default_factory=dict)
    steps: Flags = True
    least: float | None = None
    most: float | None = None
    per_h: Mapping[str, float] = field(default_factory=dict)
    per_start: Mapping[str, float] = field(default_factory=dict)
    per_cost: Mapping[str, float] = field(default_factory=dict)
    short_cost: float | None = None
    over_cost: float | None = None

    def __post_init__(self) -> None:
        found, what = Refusals(), f"energy limit {self.id}"
        for key in ("of", "per_h", "per_start", "per_cost"):
            value = getattr(self, key)
            if not isinstance(value, Mapping):
                found.add(what, key, value, "a mapping of ids to weights")
                continue
            found.rows(what, [(f"{key}[{i!r}]", x, -1e9, 1e9) for i, x in value.items()])
        given = (("least", self.least, -1e15, 1e15), ("most", self.most, -1e15, 1e15))
        prices = (("short_cost", self.short_cost, 0.0, 1e12), ("over_cost", self.over_cost, 0.0, 1e12))
        found.rows(what, [(k, x, a, z) for k, x, a, z in (*given, *prices) if x is not None])
        if self.least is None and self.most is None:
            found.add(what, "least, most", None, "one of them at least")
        elif self.least is not None and self.most is not None and self.least > self.most:
            found.add(what, "most", self.most, f"at least {self.least:g}")
        found.done()

    def ids(self) -> set[str]:
        """Every id that is named."""
        return {*self.of, *self.per_h, *self.per_start, *self.per_cost}
