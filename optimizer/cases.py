"""Cases posed in Python, without a site file: gensets, storage, a grid, load, any of them alone.

A case is posed through the planner's own constraint families: `solve_case` (case_solve.py) makes a Site and a
PlanningProblem of it and solves those. Its units are whatever is consistent: kW and kWh, or MW and MWh.

>>> from optimizer.cases import Case, Grid, Load
>>> Case(steps=2, grid=Grid(import_per_kwh=(0.1, 0.3)), loads=(Load(kw=50.0),)).step_hours()
array([1., 1.])
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ems.timegrid import BoolArray, FloatArray
from optimizer.case_costs import Refusals, as_array, check, is_a, refused
from optimizer.case_limits import EnergyLimit, Reserve
from optimizer.case_units import LONG_H, Storage, Unit
from optimizer.case_values import Flags, Values


def _least(what: str, key: str, values: Values) -> float:
    """The lowest of one or more numbers."""
    return float(as_array(what, key, values).min())


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandWindow:
    """A demand charge on the steps that count: hours on peak, or one of several billing periods.

    On the highest mean import of a billing interval with a step that counts, never below `peak_so_far_kw`,
    which is sunk.
    """

    per_kw: float
    steps: Flags = True
    peak_so_far_kw: float = 0.0

    def __post_init__(self) -> None:
        check(
            "demand window",
            (("per_kw", self.per_kw, 0.0, 1e9), ("peak_so_far_kw", self.peak_so_far_kw, 0.0, 1e9)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A connection with a tariff; prices and caps may change by step. The horizon is one billing period.

    The demand charge is on the highest mean import of an interval of `billing_interval_h`, never below
    `peak_so_far_kw`; what that peak costs already is sunk and not part of the objective. Further ones, and
    those of several billing periods, are in `demands`. `blocks` of (up to so many kWh in the period, money
    per kWh) are paid beside `import_per_kwh`, from `import_so_far_kwh` on; the last one has no end (None).
    """

    import_per_kwh: Values = 0.0
    export_per_kwh: Values = 0.0
    import_kw_max: Values = 1e6
    export_kw_max: Values = 0.0
    available: Flags = True
    demand_per_kw: float = 0.0
    peak_so_far_kw: float = 0.0
    billing_interval_h: float = 1.0
    demands: tuple[DemandWindow, ...] = ()
    blocks: tuple[tuple[float | None, float], ...] = ()
    import_so_far_kwh: float = 0.0

    def __post_init__(self) -> None:
        found = Refusals()
        found.rows(
            "grid",
            (
                ("import_kw_max", _least("grid", "import_kw_max", self.import_kw_max), 0.0, 1e9),
                ("export_kw_max", _least("grid", "export_kw_max", self.export_kw_max), 0.0, 1e9),
                ("demand_per_kw", self.demand_per_kw, 0.0, 1e9),
                ("peak_so_far_kw", self.peak_so_far_kw, 0.0, 1e9),
                ("billing_interval_h", self.billing_interval_h, 1.0 / 3600.0, 8784.0),
                ("import_so_far_kwh", self.import_so_far_kwh, 0.0, 1e12),
                *((f"blocks[{k}]", price, -1e9, 1e9) for k, (_, price) in enumerate(self.blocks)),
            ),
        )
        ends = [math.inf if end is None else end for end, _ in self.blocks]
        if self.blocks and not (ends[-1] == math.inf and all(0.0 < a < b for a, b in pairwise(ends))):
            found.add("grid", "blocks", self.blocks, "ends that ascend from above 0, the last one None")
        found.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Demand that may be left unserved at its value of lost load (VOLL).

    It may be net of generation: what is below 0 must be taken, as of a `Renewable` of the same id. In a
    `hard` case it is served, unless it is `interruptible`.
    """

    kw: Values
    voll_per_kwh: float = 1e4
    id: str = "load"
    interruptible: bool = False

    def __post_init__(self) -> None:
        check(f"load {self.id}", (("voll_per_kwh", self.voll_per_kwh, 0.0, 1e9),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewable:
    """Sun, wind or water as it comes: used from `min_kw` to `kw`, at `cost_per_kwh`, which may be below 0.

    A kWh that is not used costs `curtail_per_kwh`. With `must_take` (all of it; hard in a `hard` case) that
    price is one and a half times the highest VOLL (or the highest price of the case where that is higher),
    and `notes` says what could not be taken.
    """

    id: str
    kw: Values
    curtail_per_kwh: float = 0.0
    must_take: bool = False
    min_kw: Values = 0.0
    cost_per_kwh: Values = 0.0

    def __post_init__(self) -> None:
        check(f"renewable {self.id}", (("curtail_per_kwh", self.curtail_per_kwh, 0.0, 1e9),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferrable:
    """A device with work to do: `windows` of (first step, step after the last, energy [kWh]), in order.

    While it runs it draws `p_min_kw` to `p_kw` (`p_min_kw` None: `p_kw`, on or off); in the step before a
    stop it may draw less. Work that is not done in its window costs `unfinished_per_kwh`. Not
    `interruptible`: each window's work is one run. In the first window `done_kwh` are done already and
    `starts_so_far` starts made.
    """

    id: str
    p_kw: float
    windows: tuple[tuple[int, int, float], ...]
    p_min_kw: float | None = None
    unfinished_per_kwh: float = 1e3
    interruptible: bool = True
    min_run_h: float = 0.0
    starts_max: int | None = None
    done_kwh: float = 0.0
    state_h: float = -LONG_H  # hours on (above 0) or off (below) before the first step
    starts_so_far: int = 0

    def __post_init__(self) -> None:
        what, found = f"deferrable {self.id}", Refusals()
        found.rows(
            what,
            (
                ("p_kw", self.p_kw, 1e-9, 1e9),
                ("p_min_kw", self.least_kw, 0.0, self.p_kw),
                ("unfinished_per_kwh", self.unfinished_per_kwh, 1e-9, 1e9),
                ("min_run_h", self.min_run_h, 0.0, LONG_H),
                ("starts_max", 1 if self.starts_max is None else self.starts_max, 1, 100_000),
                ("done_kwh", self.done_kwh, 0.0, 1e12),
                ("state_h", self.state_h, -LONG_H, LONG_H),
                ("starts_so_far", self.starts_so_far, 0, 100_000),
            ),
        )
        runs = self.min_run_h > 0.0 or self.starts_max is not None or not self.interruptible
        if runs and not self.least_kw > 0.0:
            found.add(what, "p_min_kw", self.least_kw, "above 0 with limits on runs")
        for k, (first, end, kwh) in enumerate(self.windows):
            if not first < end or (k and first < self.windows[k - 1][1]) or first < 0:
                allowed = "steps that ascend, one window after another"
                found.add(what, f"windows[{k}]", (first, end), allowed)
            found.rows(what, ((f"windows[{k}]: energy", kwh, 0.0, 1e12),))
        found.done()

    @property
    def least_kw(self) -> float:
        """Least power while on [kW]."""
        return self.p_kw if self.p_min_kw is None else self.p_min_kw


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case: what there is, over `steps` steps of `step_h` hours each (or their lengths, one by one).

    Without `grid` it is an island all the time. `running_ratio`: in an island the ratings of the units that
    are on are at least so many times the load (1.1: ten per cent of spinning reserve), and at least the load
    and `reserve_kw`. `n_minus_1`: what any unit gives is covered by the headroom of the others and of
    storage, in an island only. What is missing of either costs `short_per_kwh`. `reserves` are held by unit
    and beside a grid, too; `energy_limits` hold over many steps.

    `hard`: nothing is missed at a price; load is served, what must be taken is taken, and a case that allows
    no such plan is `infeasible`, with `Solution.conflict` to say for want of what. `forming`: an island is
    dead, and serves nothing, while no storage is there and no unit is on to form it. All is at one bus: there
    are no lines, losses or zones.
    """

    steps: int
    step_h: Values = 1.0
    units: tuple[Unit, ...] = ()
    storages: tuple[Storage, ...] = ()
    grid: Grid | None = None
    loads: tuple[Load, ...] = ()
    deferrables: tuple[Deferrable, ...] = ()
    pv_kw: Values = 0.0
    renewables: tuple[Renewable, ...] = ()
    running_ratio: float = 0.0
    reserve_kw: Values = 0.0
    n_minus_1: bool = False
    short_per_kwh: float = 1e4
    reserves: tuple[Reserve, ...] = ()
    energy_limits: tuple[EnergyLimit, ...] = ()
    hard: bool = False
    forming: bool = False

    def __post_init__(self) -> None:
        found = Refusals()
        if not is_a(self.steps, int, np.integer):
            found.add("case", "steps", self.steps, "a whole number")
        for key, kind in KINDS.items():
            value = getattr(self, key)
            if not is_a(value, list, tuple) or not all(is_a(x, kind) for x in value):
                found.add("case", key, value, f"a tuple or a list of {kind.__name__}")
                continue
            object.__setattr__(self, key, tuple(value))
        if not is_a(self.grid, Grid, type(None)):
            found.add("case", "grid", self.grid, "a Grid or None")
        found.rows(
            "case",
            (
                ("steps", self.steps, 1, 100_000),
                ("running_ratio", self.running_ratio, 0.0, 100.0),
                ("short_per_kwh", self.short_per_kwh, 0.0, 1e9),
            ),
        )
        if self.n_minus_1 and self.grid is not None:
            allowed = "False in a case with a grid: it is for islands; see Reserve(largest=True)"
            found.add("case", "n_minus_1", True, allowed)
        found.done()
        self._check_ids(found)
        found.done()

    def _check_ids(self, found: Refusals) -> None:
        """Each id once, and nothing named that is not there."""
        ids = [x.id for key in KINDS if key not in LIMITS for x in getattr(self, key)]
        for i in {"grid", "pv"}.intersection(ids) | {i for i in ids if ids.count(i) > 1}:
            found.add("case", "id", i, "each id once; not 'grid' or 'pv'")
        for key in LIMITS:
            named = [x.id for x in getattr(self, key)]
            for i in sorted({i for i in named if named.count(i) > 1}):
                found.add("case", f"{key}: id", i, "each id once")
        for x in self.deferrables:
            if x.windows and x.windows[-1][1] > self.steps:
                found.add(f"deferrable {x.id}", "windows", x.windows[-1], f"steps up to {self.steps}")

    def step_hours(self) -> FloatArray:
        """(T,) step lengths [h]."""
        return self.series("step_h", self.step_h, 1.0 / 3600.0, 8784.0)

    def flags(self, key: str, values: Flags) -> BoolArray:
        """(T,) truth of a field given once or for each step; BadValue for any other number of them."""
        out = np.asarray(values)
        if not np.isin(out, (0, 1)).all():
            raise refused("case", key, values, "flags: True or False")
        out = out.astype(np.bool_)
        if out.shape not in ((), (self.steps,)):
            raise refused("case", key, f"shape {out.shape}", f"one flag or {self.steps}, one for each step")
        return np.broadcast_to(out, self.steps).copy()

    def series(self, key: str, values: Values, low: float = -1e9, high: float = 1e9) -> FloatArray:
        """(T,) values of a field given as one number or as one for each step, each from `low` to `high`.

        Raises
        ------
        BadValue
            There are neither one nor T values, or one of them lies outside.
        """
        out = as_array("case", key, values)
        if out.shape not in ((), (self.steps,)):
            raise refused("case", key, f"shape {out.shape}", f"one number or {self.steps}, one for each step")
        out = np.broadcast_to(out, self.steps).copy()
        bad = np.flatnonzero(~((out >= low) & (out <= high)))
        if len(bad):
            raise refused("case", f"{key}[{bad[0]}]", float(out[bad[0]]), f"{low:g} to {high:g}")
        return out


LIMITS = ("reserves", "energy_limits")
KINDS: dict[str, type] = {
    "units": Unit, "storages": Storage, "loads": Load, "deferrables": Deferrable, "renewables": Renewable,
    "reserves": Reserve, "energy_limits": EnergyLimit,
}  # fmt: skip
