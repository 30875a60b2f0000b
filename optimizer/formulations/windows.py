"""Windows of minimum times on a grid of unequal steps."""

from optimizer.structure import Structure

EPS_H = 1e-6


def window(s: Structure, t: int, length_s: float) -> list[int]:
    """Steps i <= t whose start lies less than `length_s` [s] before the start of step t; t itself always."""
    return [i for i in range(t + 1) if i == t or s.start_h[t] - s.start_h[i] < length_s / 3600.0 - EPS_H]


def between(s: Structure, t: int, least_s: float, most_s: float) -> list[int]:
    """Steps i < t that start from `least_s` to `most_s` [s] before step t does, both included."""
    low_h, high_h = least_s / 3600.0 - EPS_H, most_s / 3600.0 + EPS_H
    return [i for i in range(t) if low_h <= s.start_h[t] - s.start_h[i] <= high_h]
