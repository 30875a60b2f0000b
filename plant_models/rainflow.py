"""Cycles of a battery by rainflow: the open ones as turning points, closed ones as life used up.

The open cycle is a stack of turning points of the state of charge (SoC), the highest first, then minima and
maxima one inside the other: M0 > M1 > ..., m1 < m2 < ..., the last one a maximum or a minimum. What came
before the highest point is closed or without effect on what follows.

A cycle is booked while it is *discharged*: at a depth d below the last maximum the next bit of discharge uses
up Phi'(d) of the life, charging nothing. A cycle that closes has then been booked whole; of the half-cycles
that stay open at the end, those of discharge count whole and those of charge not at all, where ASTM counts
half of each. Over a path that returns to its highest point the two are equal.

Sources: ASTM E1049-85, 5.4.4 (rainflow counting); B. Xu, J. Zhao, T. Zheng, E. Litvinov, D. S. Kirschen,
"Factoring the cycle aging cost of batteries participating in electricity markets", IEEE Trans. Power Systems
33(2), 2018, 10.1109/TPWRS.2017.2733339 (booking on discharge, depth segments).
"""

from collections.abc import Sequence
from itertools import pairwise

from ems.cycle_life import CycleLife

Turns = tuple[float, ...]


def turned(turns: Turns, soc: float, least_soc: float = 0.0) -> Turns:
    """The open cycle after the SoC has gone straight to `soc`.

    A change of direction of at most `least_soc` is not one: measured SoC is noisy.
    """
    if not turns:
        return (soc,)
    stack, falling = list(turns), len(turns) % 2 == 0
    on = soc < stack[-1] if falling else soc > stack[-1]
    if on:
        stack[-1] = soc
    elif abs(soc - stack[-1]) > least_soc:
        stack.append(soc)
        falling = not falling
    else:
        return turns
    while len(stack) >= (4 if falling else 3):
        if stack[-1] > stack[-3] if falling else stack[-1] < stack[-3]:
            break
        del stack[-3:-1]  # a cycle is closed
    return tuple(stack)


def life_drawn_ratio(turns: Turns, soc: float, life: CycleLife) -> float:
    """Share of life that going straight to `soc` uses up; nothing when it charges."""
    stack, used = list(turns), 0.0
    if not stack or soc >= stack[-1]:
        return 0.0
    if len(stack) % 2:
        stack.append(stack[-1])  # depth 0 below the last maximum
    while len(stack) >= 4 and soc <= stack[-3]:
        used += life.life_ratio(stack[-2] - stack[-3]) - life.life_ratio(stack[-2] - stack[-1])
        del stack[-2:]
    return used + life.life_ratio(stack[-2] - soc) - life.life_ratio(stack[-2] - stack[-1])


def stored_by_depth(turns: Turns, edges_ratio: Sequence[float]) -> tuple[float, ...]:
    """Energy in each depth segment, as a share of the capacity; they add up to the last SoC of `turns`.

    What is stored is thought of as lying at the depths from which it can be discharged: below the last
    maximum first. A discharge takes the shallowest, a charge fills the shallowest that is empty.
    """
    spans = []  # stretches of depth that are filled
    for k, top in enumerate(turns[::2]):
        low = turns[2 * k - 1] if k else 0.0
        begin = top - turns[2 * k + 1] if 2 * k + 1 < len(turns) else 0.0
        spans.append((begin, top - low))
    return tuple(
        sum(max(0.0, min(b, end) - max(a, begin)) for a, b in spans) for begin, end in pairwise(edges_ratio)
    )


def cycles(path: Sequence[float]) -> list[tuple[float, float, bool]]:
    """Cycles of a whole SoC path: (depth, 1 or 0.5, whether a half-cycle discharges), as ASTM counts them.

    A second, plain way to the same figures, for checks: a pass over the turning points of the whole path.
    """
    points: list[float] = []
    out: list[tuple[float, float, bool]] = []
    for x in _reversals(path):
        points.append(x)
        while len(points) >= 3:
            last, before = abs(points[-1] - points[-2]), abs(points[-2] - points[-3])
            if last < before:
                break
            if len(points) == 3:  # it holds the starting point
                out.append((before, 0.5, points[1] < points[0]))
                del points[0]
            else:
                out.append((before, 1.0, False))
                del points[-3:-1]
    out += [(abs(b - a), 0.5, b < a) for a, b in pairwise(points)]
    return out


def life_of_path_ratio(path: Sequence[float], life: CycleLife) -> float:
    """Share of life that a whole SoC path from a fresh start uses up, its open discharges counted whole."""
    return sum(
        life.life_ratio(depth) for depth, count, discharge in cycles(path) if count == 1.0 or discharge
    )


def _reversals(path: Sequence[float]) -> list[float]:
    out: list[float] = []
    for x in path:
        if out and x == out[-1]:
            continue
        if len(out) >= 2 and (out[-1] - out[-2]) * (x - out[-1]) > 0.0:
            out[-1] = x
        else:
            out.append(x)
    return out
