"""Which steps of a grid lie in which billing interval, and for how long."""

from dataclasses import dataclass

import numpy as np

from ems.timegrid import BoolArray, FloatArray, IntArray, TimeGrid

EDGE_S = 1e-3


@dataclass(frozen=True, slots=True)
class Billed:
    """Billing intervals of a grid, (K,), as pairs (P,) of an interval and a step that lies in it for a while.

    A step longer than an interval stands for all those inside it with its mean, as one of its own.
    """

    row: IntArray  # (P,) the interval
    step: IntArray  # (P,) the step
    hours: FloatArray  # (P,) how long the step lies in it [h]
    of_step: IntArray  # (T,) the interval in which a step begins

    @property
    def count(self) -> int:
        """Number of intervals."""
        return int(self.row[-1]) + 1

    def in_row(self, k: int) -> tuple[IntArray, FloatArray]:
        """Steps of interval k and their hours in it."""
        at = self.row == k
        return self.step[at], self.hours[at]

    def rows_of(self, steps: BoolArray) -> IntArray:
        """Intervals in which any of these (T,) steps lies, some of them more than once."""
        return self.row[steps[self.step]]

    def totals(self, kw: FloatArray) -> FloatArray:
        """(K,) sums over the hours of each interval, of (T,) values [kWh]."""
        return np.bincount(self.row, weights=kw[self.step] * self.hours).astype(np.float64, copy=False)

    def hours_in(self) -> FloatArray:
        """(K,) hours of each interval that lie on the grid."""
        return np.bincount(self.row, weights=self.hours).astype(np.float64, copy=False)

    def hours_billed(self, interval_h: float) -> FloatArray:
        """(K,) hours over which each mean is taken [h]."""
        longest = np.full(self.count, interval_h)
        np.maximum.at(longest, self.row, self.hours)
        return longest


def billed(grid: TimeGrid, billing_s: float, shares: bool = True) -> Billed:
    """Billing intervals of `billing_s` that a grid touches.

    Without `shares` a step longer than that, but for the first, is its own whatever else lies in its first
    interval: in a plan that is an outage.
    """
    starts = grid.offset_s[:-1] + grid.start.timestamp() % billing_s
    slots = np.floor(starts / billing_s + 1e-9)
    if _straddled(starts, grid, slots, billing_s, shares):
        return _by_overlap(starts, grid, billing_s)
    _, interval = np.unique(slots, return_inverse=True)
    own = interval.astype(np.int64)
    return Billed(row=own, step=np.arange(len(own)), hours=grid.step_h, of_step=own)


def _straddled(starts: FloatArray, grid: TimeGrid, slots: FloatArray, billing_s: float, shares: bool) -> bool:
    """Whether a step that is to be shared out begins inside an interval and ends in another."""
    step_s = np.asarray(grid.step_s)
    inside = starts - slots * billing_s > EDGE_S
    left_s = (slots + 1.0) * billing_s - starts
    beyond = step_s - left_s > EDGE_S
    if not shares:
        first = slots == slots[0]
        beyond &= (step_s < billing_s - EDGE_S) | first
    return bool((inside & beyond).any())


def _by_overlap(starts: FloatArray, grid: TimeGrid, billing_s: float) -> Billed:
    """Each interval with every step that lies in it; those inside one step are one."""
    found: list[list[tuple[int, float]]] = []
    slots: list[int] = []
    for t, (start, step_s) in enumerate(zip(starts.tolist(), grid.step_s, strict=True)):
        slot = int(np.floor(start / billing_s + 1e-9))
        whole = False
        while slot * billing_s < start + step_s - EDGE_S:
            inside_s = min(start + step_s, (slot + 1) * billing_s) - max(start, slot * billing_s)
            if slots and slots[-1] == slot:
                found[-1].append((t, inside_s / 3600.0))
            elif inside_s < billing_s - EDGE_S or not whole:
                found.append([(t, inside_s / 3600.0)])
                slots.append(slot)
            whole |= inside_s >= billing_s - EDGE_S
            slot += 1
    pairs = [(k, t, hours) for k, steps in enumerate(found) for t, hours in steps]
    row, step, hours = (np.array(x) for x in zip(*pairs, strict=True))
    first = np.array([int(np.floor(x / billing_s + 1e-9)) for x in starts])
    of_step = np.searchsorted(np.array(slots), first).astype(np.int64)
    return Billed(row=row, step=step, hours=hours, of_step=of_step)
