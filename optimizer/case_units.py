"""What a case is made of, one by one: units and storages."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ems.battery_terms import dented
from ems.cycle_life import CycleLife
from ems.loss_curve import point_faults, standing_loss_kw, whole_loss_kw
from optimizer.case_costs import CostPoints, QuadraticCost, Refusals, as_array, bent, is_a, number
from optimizer.case_values import Flags, Values, frozen_flags, frozen_values, pairs

LONG_H = 1e6  # a unit that has been off for so long is free to start, and cold
LAG_H = 1e-4  # a rest that is so much shorter than a lag has not reached it
Path = tuple[float, ...] | tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A generating unit with whole commitment.

    `state_h` is how long it has been on (positive) or off (negative) before the first step; minimum times and
    rests go on from there. It runs only where `available` and always where `must_run`; both by step fix its
    commitment. With `p_max_kw` equal to `p_min_kw` it is on at that output or off. While it is on its output
    is between `output_min_kw` and `output_max_kw`, which may change by step (the same for both: a fixed
    output). A kWh costs `extra_per_kwh` beside `cost`, by step, above or below 0.

    A start after a rest of at most `cold_after_h` costs `start_cost`, after a longer one `cold_start_cost`
    (None: alike). In place of the two: `start_costs`, kinds of start as (after a rest of at most so many
    hours, cost), dearer ones later, the last without end (None); or `start_lags`, the same as (after a rest
    of at least so many hours, cost). Each stop costs `stop_cost`. At most `starts_max` starts lie in any 24
    hours, `starts_so_far` counted through the first 24; one more costs a quarter of an hour of `p_max_kw` at
    the highest VOLL, and is noted.

    Output changes by at most `ramp_up_kw_h` and `ramp_down_kw_h` per hour while it is on, is at most
    `start_up_kw` in the first step of a run and `shut_down_kw` in its last (None: no limit, of the ramp
    neither), and is `output_kw` before the first step (None: minimum, where it is on).

    `start_up_path_kw` is its output in the steps before the first one on, the last of them nearest to it;
    a path for each kind of start, or one for all. `shut_down_path_kw` is that in the steps after the last one
    on. It is off in these steps, and they count as rest; a kWh of them costs `path_per_kwh`.
    """

    id: str
    p_min_kw: float
    p_max_kw: float
    cost: CostPoints | QuadraticCost
    start_cost: float = 0.0
    stop_cost: float = 0.0
    cold_start_cost: float | None = None
    cold_after_h: float = 0.0
    min_up_h: float = 0.0
    min_down_h: float = 0.0
    state_h: float = -LONG_H
    available: Flags = True
    must_run: Flags = False
    starts_max: int | None = None
    starts_so_far: int = 0
    start_costs: tuple[tuple[float | None, float], ...] = ()
    start_lags: tuple[tuple[float, float], ...] = ()
    ramp_up_kw_h: float | None = None
    ramp_down_kw_h: float | None = None
    start_up_kw: float | None = None
    shut_down_kw: float | None = None
    output_kw: float | None = None
    output_min_kw: Values | None = None
    output_max_kw: Values | None = None
    extra_per_kwh: Values = 0.0
    start_up_path_kw: Path = ()
    shut_down_path_kw: tuple[float, ...] = ()
    path_per_kwh: float = 0.0

    def __post_init__(self) -> None:
        what, found = f"unit {self.id}", Refusals()
        if not is_a(self.cost, CostPoints, QuadraticCost):
            found.add(what, "cost", self.cost, "CostPoints or QuadraticCost")
        for keys, freeze in FROZEN.items():
            for key in keys:
                found.try_to(partial(self._freeze, what, key, freeze))
        for key in NUMBERS:
            if not number(value := getattr(self, key)) and not (value is None and key in OR_NONE):
                found.add(what, key, value, "a number")
        found.done()
        self._check_numbers(found, what)
        self._check_ramps(found, what)
        self._check_kinds(found, what)
        self._check_path(found, what)
        found.done()

    def _freeze(self, what: str, key: str, freeze: Callable[[str, str, Any], Any]) -> None:
        object.__setattr__(self, key, freeze(what, key, getattr(self, key)))

    def _check_numbers(self, found: Refusals, what: str) -> None:
        cold = self.start_cost if self.cold_start_cost is None else self.cold_start_cost
        found.rows(
            what,
            (
                ("p_min_kw", self.p_min_kw, 0.0, 1e9),
                ("p_max_kw", self.p_max_kw, 1e-9, 1e9),
                ("stop_cost", self.stop_cost, 0.0, 1e12),
                ("start_cost", self.start_cost, 0.0, 1e12),
                ("cold_start_cost", cold, self.start_cost, 1e12),
                ("cold_after_h", self.cold_after_h, 0.0, LONG_H),
                ("min_up_h", self.min_up_h, 0.0, LONG_H),
                ("min_down_h", self.min_down_h, 0.0, LONG_H),
                ("state_h", self.state_h, -LONG_H, LONG_H),
                ("starts_max", 1 if self.starts_max is None else self.starts_max, 0, 100_000),
                ("starts_so_far", self.starts_so_far, 0, 100_000),
                ("path_per_kwh", self.path_per_kwh, 0.0, 1e12),
            ),
        )
        if self.p_max_kw < self.p_min_kw:
            found.add(what, "p_max_kw", self.p_max_kw, f"at least p_min_kw = {self.p_min_kw:g}")
        if self.state_h == 0.0:
            found.add(what, "state_h", 0.0, "hours on (above 0) or off (below 0)")

    @property
    def alone(self) -> bool:
        """Whether it has limits that a count of equal units does not know."""
        ramps = (self.ramp_up_kw_h, self.ramp_down_kw_h, self.start_up_kw, self.shut_down_kw)
        ranges = (self.output_min_kw, self.output_max_kw)
        limited = self.starts_max is not None or bool(self.start_costs) or bool(self.start_lags)
        paths = bool(self.start_up_path_kw) or bool(self.shut_down_path_kw)
        return (
            limited
            or paths
            or self.extra_per_kwh != 0.0
            or any(x is not None for x in (*ramps, *ranges))
            or bent(self.cost, self.p_min_kw, self.p_max_kw)
        )

    @property
    def kinds(self) -> tuple[tuple[float | None, float], ...]:
        """Kinds of start: (after a rest of at most so many hours, cost)."""
        if self.start_lags:
            ends = [lag - LAG_H for lag, _ in self.start_lags[1:]]
            return tuple(zip([*ends, None], [cost for _, cost in self.start_lags], strict=True))
        if self.start_costs:
            return self.start_costs
        if self.cold_start_cost is None:
            return ((None, self.start_cost),)
        return ((self.cold_after_h, self.start_cost), (None, self.cold_start_cost))

    @property
    def paths(self) -> tuple[tuple[float, ...], ...]:
        """Way up of each kind of start."""
        given = self.start_up_path_kw
        many = [x for x in given if isinstance(x, tuple)]
        one = tuple(x for x in given if not isinstance(x, tuple))
        return tuple(many) if many else (one,) * len(self.kinds)

    def _check_ramps(self, found: Refusals, what: str) -> None:
        """Ramps, edges of a run, output of now."""
        low, top = self.p_min_kw, self.p_max_kw
        given = (
            ("ramp_up_kw_h", self.ramp_up_kw_h, 1e-9, 1e12),
            ("ramp_down_kw_h", self.ramp_down_kw_h, 1e-9, 1e12),
            ("start_up_kw", self.start_up_kw, low, top),
            ("shut_down_kw", self.shut_down_kw, low, top),
            ("output_kw", self.output_kw, *((low, top) if self.state_h > 0.0 else (0.0, 0.0))),
        )
        found.rows(what, [(key, x, least, most) for key, x, least, most in given if x is not None])

    def _check_kinds(self, found: Refusals, what: str) -> None:
        """Kinds of start by the rest before."""
        key = "start_lags" if self.start_lags else "start_costs"
        if not (self.start_lags or self.start_costs):
            return
        twice = bool(self.start_lags) and bool(self.start_costs)
        if twice or self.cold_start_cost is not None or self.start_cost != 0.0:
            allowed = "nothing beside start_cost, cold_start_cost, and one of start_costs, start_lags"
            found.add(what, key, getattr(self, key), allowed)
            return
        if self.start_lags:
            lags, costs = zip(*self.start_lags, strict=True)
            if not (all(0.0 <= a < b for a, b in pairwise(lags)) and lags[0] >= 0.0 and _rising(costs)):
                found.add(what, key, self.start_lags, "ascending hours of rest from 0; dearer later")
            return
        ends = [math.inf if end is None else end for end, _ in self.start_costs]
        rising = all(0.0 < a < b for a, b in pairwise(ends)) and _rising([x for _, x in self.start_costs])
        if not (rising and ends[-1] == math.inf):
            found.add(what, key, self.start_costs, "ascending hours, the last None; dearer later")

    def _check_path(self, found: Refusals, what: str) -> None:
        """Ways up and down."""
        way = self.start_up_path_kw
        nested = [isinstance(x, list | tuple) for x in way]
        if any(nested) and not all(nested):
            found.add(what, "start_up_path_kw", way, "one path, or one for each kind of start")
            return
        if any(nested):
            paths = tuple(tuple(float(kw) for kw in x) for x in way)  # type: ignore[union-attr]
            object.__setattr__(self, "start_up_path_kw", paths)
            if len(paths) != len(self.kinds):
                allowed = f"one path, or one for each of {len(self.kinds)} kinds of start"
                found.add(what, "start_up_path_kw", way, allowed)
        else:
            object.__setattr__(self, "start_up_path_kw", tuple(float(kw) for kw in way))  # type: ignore[arg-type]
        object.__setattr__(self, "shut_down_path_kw", tuple(float(kw) for kw in self.shut_down_path_kw))
        rows = [(f"start_up_path_kw[{k}]", kw) for path in self.paths for k, kw in enumerate(path)]
        rows += [(f"shut_down_path_kw[{k}]", kw) for k, kw in enumerate(self.shut_down_path_kw)]
        found.rows(what, [(key, kw, 0.0, self.p_max_kw) for key, kw in dict(rows).items()])


FROZEN: dict[tuple[str, ...], Callable[[str, str, Any], Any]] = {
    ("available", "must_run"): frozen_flags,
    ("output_min_kw", "output_max_kw", "extra_per_kwh"): frozen_values,
    ("start_costs", "start_lags"): pairs,
}
OR_NONE = (
    "cold_start_cost", "starts_max", "ramp_up_kw_h", "ramp_down_kw_h", "start_up_kw", "shut_down_kw",
    "output_kw",
)  # fmt: skip
NUMBERS = (
    *OR_NONE, "p_min_kw", "p_max_kw", "start_cost", "stop_cost", "cold_after_h", "min_up_h", "min_down_h",
    "state_h", "starts_so_far", "path_per_kwh",
)  # fmt: skip


def _rising(costs: Sequence[float]) -> bool:
    """Costs from 0 that never fall."""
    return list(costs) == sorted(costs) and costs[0] >= 0.0 and math.isfinite(costs[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Energy storage. State of charge from 0 to 1 of `energy_kwh`. Power limits may change by step.

    `inflow_kw` flows in by itself, by step, and may be spilt as it comes. `cyclic`: it begins at the state of
    charge that it ends with, whatever that is. One of the powers may be 0 throughout.

    At the end of each step it must lie between `soc_floor` and `soc_ceiling`, and at the end of the last
    between `soc_end_min` and `soc_end_max`; what is stored then, against the start, is worth
    `end_value_per_kwh`. Throughput costs `charge_per_kwh` and `discharge_per_kwh`, each at the AC side;
    `cycle_life` costs by depth of cycle, with the open cycle that `turns_soc` says (turning points, highest
    first; (): a cycle begins at `soc_start`). `self_discharge_per_h` of what is stored and `no_load_loss_kw`
    are lost while it stands. Above `soc_taper_high` charging falls linearly to `taper_ratio` of its power at
    `soc_max`, below `soc_taper_low` discharging towards `soc_min`. `power_by_soc`: rows of (state of
    charge, share of charging power, of discharging power), straight between them, concave.

    `efficiency_charge` and `efficiency_discharge`, in the place of `eta_charge` and `eta_discharge`: rows of
    (power, one-way efficiency) at part load, ascending to the largest power or beyond. The loss is straight
    between them and down to `no_load_loss_kw` at no power, which they hold (None: what they say of it
    themselves, see `ems.loss_curve.standing_loss_kw`). Where it is not convex its stretches fill in order by
    a binary each, exactly.
    """

    id: str
    energy_kwh: float
    p_charge_kw: Values
    p_discharge_kw: Values
    eta_charge: float = 1.0
    eta_discharge: float = 1.0
    soc_start: float = 0.0
    soc_min: float = 0.0
    soc_max: float = 1.0
    soc_end_min: float = 0.0
    soc_end_max: float = 1.0
    soc_floor: Values = 0.0
    soc_ceiling: Values = 1.0
    charge_per_kwh: float = 0.0
    discharge_per_kwh: float = 0.0
    end_value_per_kwh: float = 0.0
    cycle_life: CycleLife | None = None
    turns_soc: tuple[float, ...] = ()
    self_discharge_per_h: float = 0.0
    no_load_loss_kw: float | None = 0.0
    efficiency_charge: tuple[tuple[float, float], ...] = ()
    efficiency_discharge: tuple[tuple[float, float], ...] = ()
    soc_taper_low: float | None = None
    soc_taper_high: float | None = None
    taper_ratio: float = 1.0
    power_by_soc: tuple[tuple[float, float, float], ...] = ()
    inflow_kw: Values = 0.0
    cyclic: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns_soc", tuple(float(x) for x in self.turns_soc))
        for key in ("efficiency_charge", "efficiency_discharge"):
            object.__setattr__(self, key, tuple((p, eta) for p, eta in getattr(self, key)))
        what, found = f"storage {self.id}", Refusals()
        by_step = (
            ("p_charge_kw", 0.0, 1e9),
            ("p_discharge_kw", 0.0, 1e9),
            ("soc_floor", 0.0, 1.0),
            ("soc_ceiling", 0.0, 1.0),
            ("inflow_kw", 0.0, 1e9),
        )
        for key, least, most in by_step:
            values = np.atleast_1d(as_array(what, key, getattr(self, key)))
            found.rows(what, [(key, float(x), least, most) for x in values.ravel()])
        standing_kw = self.standing_kw if _check_efficiency(found, self) else 0.0
        low = self.soc_min if self.soc_taper_low is None else self.soc_taper_low
        high = self.soc_max if self.soc_taper_high is None else self.soc_taper_high
        found.rows(
            what,
            (
                ("energy_kwh", self.energy_kwh, 1e-9, 1e12),
                ("p_charge_kw, p_discharge_kw, at their highest", self.top_kw, 1e-9, 1e9),
                ("eta_charge", self.eta_charge, 1e-6, 1.0),
                ("eta_discharge", self.eta_discharge, 1e-6, 1.0),
                ("soc_min", self.soc_min, 0.0, 1.0),
                ("soc_max", self.soc_max, self.soc_min, 1.0),
                ("soc_start", self.soc_start, *((0.0, 0.0) if self.cyclic else (self.soc_min, self.soc_max))),
                ("soc_end_min", self.soc_end_min, 0.0, self.soc_max),
                ("soc_end_max", self.soc_end_max, max(self.soc_min, self.soc_end_min), 1.0),
                ("charge_per_kwh", self.charge_per_kwh, 0.0, 1e9),
                ("discharge_per_kwh", self.discharge_per_kwh, 0.0, 1e9),
                ("end_value_per_kwh", self.end_value_per_kwh, 0.0, 1e9),
                *((f"turns_soc[{k}]", x, 0.0, 1.0) for k, x in enumerate(self.turns_soc)),
                ("self_discharge_per_h", self.self_discharge_per_h, 0.0, 1.0),
                ("no_load_loss_kw", standing_kw, 0.0, 1e9),
                ("soc_taper_low", low, self.soc_min, self.soc_max),
                ("soc_taper_high", high, low, self.soc_max),
                ("taper_ratio", self.taper_ratio, 1e-6, 1.0),
            ),
        )
        if self.cyclic and (self.cycle_life is not None or self.end_value_per_kwh != 0.0):
            found.add(what, "cyclic", True, "False with cycle_life or end_value_per_kwh")
        _check_power(found, what, self.power_by_soc)
        if self.cycle_life is not None:
            _check_cycle_life(found, what, self.cycle_life)
        found.done()

    @property
    def top_kw(self) -> float:
        """The largest of its powers."""
        return max(float(np.max(self.p_charge_kw)), float(np.max(self.p_discharge_kw)))

    @property
    def standing_kw(self) -> float:
        """Its no-load loss, told or by its points [kW]."""
        if self.no_load_loss_kw is not None:
            return self.no_load_loss_kw
        return standing_loss_kw(self.efficiency_charge, self.efficiency_discharge)


def _check_efficiency(found: Refusals, x: Storage) -> bool:
    """Refuse points of efficiency that are none (False), or that contradict what else is said."""
    what, ways = f"storage {x.id}", ("charge", "discharge")
    for way in ways:
        points = getattr(x, f"efficiency_{way}")
        if not all(number(v) for row in points for v in row):
            found.add(what, f"efficiency_{way}", points, "rows of two numbers, power and efficiency")
            return False
        for k, name, value, allowed in point_faults(points, charge=way == "charge"):
            found.add(what, f"efficiency_{way}[{k}] {name}", value, allowed)
            return False
    for way in ways:
        if not (points := getattr(x, f"efficiency_{way}")):
            continue
        key, power_kw = f"efficiency_{way}", float(np.max(getattr(x, f"p_{way}_kw")))
        if (eta := getattr(x, f"eta_{way}")) != 1.0:
            found.add(what, f"eta_{way}", eta, f"1, beside {key}")
        if points[-1][0] < power_kw:
            allowed = f"at least p_{way}_kw, {power_kw:g}"
            found.add(what, f"{key}[{len(points) - 1}] p_kw", points[-1][0], allowed)
        first_kw = whole_loss_kw(*points[0], charge=way == "charge")
        if number(x.no_load_loss_kw) and x.standing_kw > first_kw * (1.0 + 1e-9):
            allowed = f"at most what is lost at the first row of {key}, {first_kw:.6g}"
            found.add(what, "no_load_loss_kw", x.standing_kw, allowed)
    return True


def _check_power(found: Refusals, what: str, rows: tuple[tuple[float, float, float], ...]) -> None:
    """Refuse a table of power over state of charge that is none, or not concave."""
    names = ("soc", "charge", "discharge")
    found.rows(
        what,
        [
            (f"power_by_soc[{k}] {n}", x, 0.0, 1.0)
            for k, r in enumerate(rows)
            for n, x in zip(names, r, strict=True)
        ],
    )
    at = [row[0] for row in rows]
    if any(b <= a for a, b in pairwise(at)):
        found.add(what, "power_by_soc", at, "ascending states of charge")
        return
    for way in (1, 2):
        if (dent := dented(at, [row[way] for row in rows])) is not None:
            k, least = dent
            allowed = f"at least {least:.6g} (concave)"
            found.add(what, f"power_by_soc[{k}] {names[way]}", rows[k][way], allowed)


def _check_cycle_life(found: Refusals, what: str, life: CycleLife) -> None:
    """Refuse a cycle life that is no curve, or not convex."""
    depths, cycles = life.depth_ratio, life.cycles_count
    if len(depths) != len(cycles) or not depths:
        found.add(what, "cycle_life", (depths, cycles), "as many depths as cycles, at least one")
        return
    found.rows(
        what,
        [
            ("cycle_life.replacement_cost", life.replacement_cost, 0.0, 1e12),
            *((f"cycle_life.depth_ratio[{k}]", x, 1e-6, 1.0) for k, x in enumerate(depths)),
            *((f"cycle_life.cycles_count[{k}]", x, 1e-9, 1e12) for k, x in enumerate(cycles)),
        ],
    )
    if any(b <= a for a, b in pairwise(depths)):
        found.add(what, "cycle_life.depth_ratio", depths, "ascending depths")
    elif (bent := life.bent()) is not None:
        k, most = bent
        found.add(what, f"cycle_life.cycles_count[{k}]", cycles[k], f"at most {most:.6g} (convex)")
