"""Windows of time on a grid of unequal steps: minimum times, counts and hours of a day."""

from bisect import bisect_left, bisect_right

import numpy as np

from optimizer.structure import Structure

EPS_H = 1e-6


def window(s: Structure, t: int, length_s: float) -> list[int]:
    """Steps i <= t whose start lies less than `length_s` [s] before the start of step t; t itself always."""
    first = bisect_right(s.start_h, float(s.start_h[t]) - (length_s / 3600.0 - EPS_H))
    return list(range(min(first, t), t + 1))


def between(s: Structure, t: int, least_s: float, most_s: float) -> list[int]:
    """Steps i < t that start from `least_s` to `most_s` [s] before step t does, both included."""
    now = float(s.start_h[t])
    first = bisect_left(s.start_h, now - (most_s / 3600.0 + EPS_H))
    last = bisect_right(s.start_h, now - (least_s / 3600.0 - EPS_H))
    return list(range(first, min(last, t)))


def overlap_h(s: Structure, t: int, window_h: float) -> dict[int, float]:
    """Hours of each step that lie in the window that ends with step `t`."""
    end_h = s.start_h + s.step_h
    begin = float(end_h[t]) - window_h
    part = np.minimum(end_h[: t + 1] - begin, s.step_h[: t + 1])
    return {int(i): float(part[i]) for i in np.flatnonzero(part > EPS_H)}
