"""The planning grid: fine first, coarse later, edges on the clock and on announced outages."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from ems.outage import OutageNotice
from ems.timegrid import TimeGrid

SHORTEST_S = 60.0  # a first step shorter than this is joined with the next
SPLIT_S = 10.0  # an outage edge nearer than this to a step edge counts as on it


def planning_grid(
    start: datetime,
    blocks: Sequence[tuple[float, int]],
    outages: Sequence[OutageNotice] = (),
    cut_s: float | None = None,
) -> TimeGrid:
    """Steps from `start` over the span of `blocks`, aligned to the clock.

    Each block of (step [s], count) is entered where its own step divides the time of day, so that a plan made
    at 10:07 has a first step of 8 minutes and the tariff's and outages' edges fall on step edges afterwards.
    A plan made on the hour has exactly the steps of the blocks. Edges of `outages` inside a step split it, as
    does `cut_s` after `start` [s].
    """
    begin = start.timestamp()
    edges = [begin]
    target = begin
    for k, (step_s, count) in enumerate(blocks):
        target += step_s * count
        align_s = blocks[k + 1][0] if k + 1 < len(blocks) else step_s
        end = -(-(target - 1e-6) // align_s) * align_s
        while edges[-1] < end - 1e-6:
            following = ((edges[-1] + 1e-6) // step_s + 1.0) * step_s
            if following - edges[-1] < min(SHORTEST_S, step_s):
                following += step_s
            edges.append(following)
    return TimeGrid(start=start, step_s=_with_cuts(edges, outages, [] if cut_s is None else [begin + cut_s]))


def _with_cuts(
    edges: list[float], outages: Sequence[OutageNotice], more: Sequence[float]
) -> tuple[float, ...]:
    """Step lengths after cutting at outage edges, and more, that are not near an edge already [s]."""
    cuts = {o.start.timestamp() for o in outages} | {o.end.timestamp() for o in outages} | set(more)
    for cut in sorted(cuts):
        if edges[0] < cut < edges[-1] and min(abs(cut - e) for e in edges) > SPLIT_S:
            edges = sorted([*edges, cut])
    return tuple(round(b - a, 6) for a, b in pairwise(edges))
