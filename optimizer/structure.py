"""What decides the shape of the matrices: the site, the step lengths and the formulation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ems.site import Site
from ems.timegrid import FloatArray, IntArray, TimeGrid
from optimizer.billed import Billed, billed
from optimizer.formulation import Formulation

SHORTEST_HOLD_S = 10.0

T = TypeVar("T")

StructureKey = tuple[tuple[float, ...], float, Formulation, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class MonthMoney:
    """Prices of the tariff and local month (0: that of the start, 1: the next) of each step, (T,).

    Only where a month's money decides what a kWh costs: they stand in rows, so that another hour of the day
    has another matrix.
    """

    import_per_kwh: FloatArray
    export_per_kwh: FloatArray
    month: IntArray


def month_money(site: Site, grid: TimeGrid) -> MonthMoney:
    """Of a tariff that counts money; empty for any other."""
    tariff = site.tariff
    if not tariff.counts_money:
        nothing = np.zeros(0)
        return MonthMoney(nothing, nothing, nothing.astype(np.int64))
    here = tariff.month(grid.start)
    month = np.array([int(tariff.month(x) != here) for x in grid.starts()], dtype=np.int64)
    return MonthMoney(tariff.import_prices(grid), tariff.export_prices(grid), month)


@dataclass(frozen=True, slots=True)
class Structure:
    """Static side of a planning problem."""

    site: Site
    step_h: FloatArray  # (T,)
    start_h: FloatArray  # (T,) hours after the start of the grid
    billed: Billed  # billing intervals, and the steps in them
    formulation: Formulation
    money: MonthMoney
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, make: Callable[["Structure"], T]) -> T:
        """What `make` makes of the structure alone, made when it is first asked for."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.step_h)

    @property
    def interval_h(self) -> float:
        """Length of the tariff's billing interval [h]."""
        return self.site.tariff.billing_interval_s / 3600.0

    @property
    def hold_h(self) -> float:
        """How long a reserve must last: start delays of the slowest genset, failed starts included [h].

        A site without gensets has nothing to wait for; a quarter of an hour is held instead.
        """
        delays = [g.start_delay_s for g in self.site.gensets]
        starts = self.site.reserve.failed_starts + 1
        return max(SHORTEST_HOLD_S, max(delays) * starts) / 3600.0 if delays else 0.25


def structure_key(site: Site, grid: TimeGrid, formulation: Formulation) -> StructureKey:
    """What two problems of one site must share to share their matrices."""
    phase_s = grid.start.timestamp() % site.tariff.billing_interval_s
    money = month_money(site, grid)
    numbers = np.concatenate([money.import_per_kwh, money.export_per_kwh, money.month]).tolist()
    return grid.step_s, round(phase_s, 3), formulation, tuple(numbers)


def structure_of(site: Site, grid: TimeGrid, formulation: Formulation) -> Structure:
    """Shape of a problem on a grid."""
    return Structure(
        site=site,
        step_h=grid.step_h,
        start_h=grid.offset_s[:-1] / 3600.0,
        billed=billed(grid, site.tariff.billing_interval_s, formulation.billing_shares),
        formulation=formulation,
        money=month_money(site, grid),
    )
