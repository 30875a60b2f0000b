"""What a case is made of, one by one: units and storages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ems.battery_terms import dented
from ems.cycle_life import CycleLife
from ems.timegrid import BoolArray, FloatArray
from optimizer.case_costs import CostPoints, QuadraticCost, check, refused

Values = float | Sequence[float] | FloatArray  # one number for every step, or one for each
Flags = bool | Sequence[bool] | BoolArray

LONG_H = 1e6  # a unit that has been off for so long is free to start, and cold


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A generating unit with whole commitment.

    `state_h` is how long it has been on (positive) or off (negative) before the first step. A start after a
    rest of at most `cold_after_h` costs `start_cost`, after a longer one `cold_start_cost` (None: alike).
    It runs only where `available` and always where `must_run`. At most `starts_max` starts lie in any 24
    hours, `starts_so_far` counted through the first 24; one more costs a quarter of an hour of `p_max_kw` at
    the highest VOLL, and is noted. Each stop costs `stop_cost`. With `p_max_kw` equal to `p_min_kw` it is on
    at that output or off.

    `start_costs` are further kinds of start, in place of the two above: (after a rest of at most so many
    hours, cost), dearer ones later, the last without end (None). Output changes by at most `ramp_up_kw_h` and
    `ramp_down_kw_h` per hour, is at most `start_up_kw` in the first step of a run and `shut_down_kw` in its
    last (None: no limit), and is `output_kw` before the first step (None: minimum, where it is on).
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
    ramp_up_kw_h: float | None = None
    ramp_down_kw_h: float | None = None
    start_up_kw: float | None = None
    shut_down_kw: float | None = None
    output_kw: float | None = None

    def __post_init__(self) -> None:
        for key in ("available", "must_run"):
            value = getattr(self, key)
            one = isinstance(value, bool | np.bool_)
            object.__setattr__(self, key, bool(value) if one else tuple(bool(x) for x in value))
        object.__setattr__(self, "start_costs", tuple((end, cost) for end, cost in self.start_costs))
        cold = self.start_cost if self.cold_start_cost is None else self.cold_start_cost
        check(
            f"unit {self.id}",
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
            ),
        )
        if self.p_max_kw < self.p_min_kw:
            allowed = f"at least p_min_kw = {self.p_min_kw:g}"
            raise refused(f"unit {self.id}", "p_max_kw", self.p_max_kw, allowed)
        self._check_ramps()
        if self.state_h == 0.0:
            raise refused(f"unit {self.id}", "state_h", 0.0, "hours on (above 0) or off (below 0)")

    @property
    def alone(self) -> bool:
        """Whether it has limits that a count of equal units does not know."""
        ramps = (self.ramp_up_kw_h, self.ramp_down_kw_h, self.start_up_kw, self.shut_down_kw)
        return self.starts_max is not None or bool(self.start_costs) or any(x is not None for x in ramps)

    def _check_ramps(self) -> None:
        """Ramps, edges of a run, output of now, kinds of start."""
        what, low, top = f"unit {self.id}", self.p_min_kw, self.p_max_kw
        given = (
            ("ramp_up_kw_h", self.ramp_up_kw_h, 1e-9, 1e12),
            ("ramp_down_kw_h", self.ramp_down_kw_h, 1e-9, 1e12),
            ("start_up_kw", self.start_up_kw, low, top),
            ("shut_down_kw", self.shut_down_kw, low, top),
            ("output_kw", self.output_kw, *((low, top) if self.state_h > 0.0 else (0.0, 0.0))),
        )
        check(what, [(key, x, least, most) for key, x, least, most in given if x is not None])
        if not self.start_costs:
            return
        if self.cold_start_cost is not None or self.start_cost != 0.0:
            raise refused(what, "start_costs", self.start_costs, "nothing beside start_cost, cold_start_cost")
        ends = [math.inf if end is None else end for end, _ in self.start_costs]
        costs = [cost for _, cost in self.start_costs]
        rising = all(0.0 < a < b for a, b in pairwise(ends)) and costs == sorted(costs) and costs[0] >= 0.0
        if not (rising and ends[-1] == math.inf and math.isfinite(costs[-1])):
            raise refused(
                what, "start_costs", self.start_costs, "ascending hours, the last None; dearer later"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Energy storage. State of charge from 0 to 1 of `energy_kwh`. Power limits may change by step.

    At the end of each step it must lie between `soc_floor` and `soc_ceiling`, and at the end of the last
    between `soc_end_min` and `soc_end_max`; what is stored then, against the start, is worth
    `end_value_per_kwh`. Throughput costs `charge_per_kwh` and `discharge_per_kwh`, each at the AC side;
    `cycle_life` costs by depth of cycle, with the open cycle that `turns_soc` says (turning points, highest
    first; (): a cycle begins at `soc_start`). `self_discharge_per_h` of what is stored and `no_load_loss_kw`
    are lost while it stands. Above `soc_taper_high` charging falls linearly to `taper_ratio` of its power at
    `soc_max`, below `soc_taper_low` discharging towards `soc_min`. `power_by_soc`: rows of (state of
    charge, share of charging power, of discharging power), straight between them, concave.
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
    no_load_loss_kw: float = 0.0
    soc_taper_low: float | None = None
    soc_taper_high: float | None = None
    taper_ratio: float = 1.0
    power_by_soc: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns_soc", tuple(float(x) for x in self.turns_soc))
        by_step = (
            ("p_charge_kw", 0.0, 1e9),
            ("p_discharge_kw", 0.0, 1e9),
            ("soc_floor", 0.0, 1.0),
            ("soc_ceiling", 0.0, 1.0),
        )
        for key, least, most in by_step:
            values = np.atleast_1d(np.asarray(getattr(self, key), dtype=np.float64))
            check(f"storage {self.id}", [(key, float(x), least, most) for x in values.ravel()])
        low = self.soc_min if self.soc_taper_low is None else self.soc_taper_low
        high = self.soc_max if self.soc_taper_high is None else self.soc_taper_high
        check(
            f"storage {self.id}",
            (
                ("energy_kwh", self.energy_kwh, 1e-9, 1e12),
                ("p_charge_kw, at its highest", float(np.max(self.p_charge_kw)), 1e-9, 1e9),
                ("p_discharge_kw, at its highest", float(np.max(self.p_discharge_kw)), 1e-9, 1e9),
                ("eta_charge", self.eta_charge, 1e-6, 1.0),
                ("eta_discharge", self.eta_discharge, 1e-6, 1.0),
                ("soc_min", self.soc_min, 0.0, 1.0),
                ("soc_max", self.soc_max, self.soc_min, 1.0),
                ("soc_start", self.soc_start, self.soc_min, self.soc_max),
                ("soc_end_min", self.soc_end_min, 0.0, self.soc_max),
                ("soc_end_max", self.soc_end_max, max(self.soc_min, self.soc_end_min), 1.0),
                ("charge_per_kwh", self.charge_per_kwh, 0.0, 1e9),
                ("discharge_per_kwh", self.discharge_per_kwh, 0.0, 1e9),
                ("end_value_per_kwh", self.end_value_per_kwh, 0.0, 1e9),
                *((f"turns_soc[{k}]", x, 0.0, 1.0) for k, x in enumerate(self.turns_soc)),
                ("self_discharge_per_h", self.self_discharge_per_h, 0.0, 1.0),
                ("no_load_loss_kw", self.no_load_loss_kw, 0.0, 1e9),
                ("soc_taper_low", low, self.soc_min, self.soc_max),
                ("soc_taper_high", high, low, self.soc_max),
                ("taper_ratio", self.taper_ratio, 1e-6, 1.0),
            ),
        )
        _check_power(f"storage {self.id}", self.power_by_soc)
        if self.cycle_life is not None:
            _check_cycle_life(f"storage {self.id}", self.cycle_life)


def _check_power(what: str, rows: tuple[tuple[float, float, float], ...]) -> None:
    """Refuse a table of power over state of charge that is none, or not concave."""
    names = ("soc", "charge", "discharge")
    check(
        what,
        [
            (f"power_by_soc[{k}] {n}", x, 0.0, 1.0)
            for k, r in enumerate(rows)
            for n, x in zip(names, r, strict=True)
        ],
    )
    at = [row[0] for row in rows]
    if any(b <= a for a, b in pairwise(at)):
        raise refused(what, "power_by_soc", at, "ascending states of charge")
    for way in (1, 2):
        if (dent := dented(at, [row[way] for row in rows])) is not None:
            k, least = dent
            raise refused(
                what, f"power_by_soc[{k}] {names[way]}", rows[k][way], f"at least {least:.6g} (concave)"
            )


def _check_cycle_life(what: str, life: CycleLife) -> None:
    """Refuse a cycle life that is no curve, or not convex."""
    depths, cycles = life.depth_ratio, life.cycles_count
    if len(depths) != len(cycles) or not depths:
        raise refused(what, "cycle_life", (depths, cycles), "as many depths as cycles, at least one")
    check(
        what,
        [
            ("cycle_life.replacement_cost", life.replacement_cost, 0.0, 1e12),
            *((f"cycle_life.depth_ratio[{k}]", x, 1e-6, 1.0) for k, x in enumerate(depths)),
            *((f"cycle_life.cycles_count[{k}]", x, 1e-9, 1e12) for k, x in enumerate(cycles)),
        ],
    )
    if any(b <= a for a, b in pairwise(depths)):
        raise refused(what, "cycle_life.depth_ratio", depths, "ascending depths")
    if (bent := life.bent()) is not None:
        k, most = bent
        raise refused(what, f"cycle_life.cycles_count[{k}]", cycles[k], f"at most {most:.6g} (convex)")
