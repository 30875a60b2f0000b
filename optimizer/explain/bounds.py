"""What a commitment is bound by before anything is decided: start delay, minimum times, maintenance."""

from dataclasses import replace
from typing import TypeVar

from ems.assets import GensetParams
from optimizer.explain.ground import Ground
from optimizer.explain.words import Words
from optimizer.formulations.genset_commitment import commitment_bounds
from optimizer.problem import GensetStart

T = TypeVar("T")


def bound_by(ground: Ground, unit: int, span: tuple[int, int], on: bool) -> list[str]:
    """Each limit of a genset that alone, with the others lifted, binds it in some step of a run."""
    p, s = ground.layout.problem, ground.layout.compiled.structure
    site, start, say = p.site, p.gensets[unit], Words(p.site)
    g, inside = site.gensets[unit], slice(span[0], span[1] + 1)
    if not start.available:
        return ["it is not available"]
    ready = start if start.starting else replace(start, ready_h=0.0)
    delay = "its start in progress" if start.starting else "its start delay"
    alone: list[tuple[str, GensetParams, GensetStart]] = [
        (delay, replace(g, min_up_s=0.0, min_down_s=0.0), start)
    ]
    if on and g.min_up_s > 0.0:
        words = f"its minimum up time of {g.min_up_s / 60.0:.6g} min"
        alone.append((words, replace(g, min_down_s=0.0), ready))
    if not on and g.min_down_s > 0.0:
        words = f"its minimum down time of {g.min_down_s / 60.0:.6g} min"
        alone.append((words, replace(g, min_up_s=0.0), ready))
    out = []
    for words, params, begin in alone:
        under = replace(site, gensets=_put(site.gensets, unit, params))
        gensets = _put(p.gensets, unit, replace(begin, blocked=()))
        low, high = commitment_bounds(replace(p, site=under, gensets=gensets), replace(s, site=under))
        if (low[unit, inside] > 0.5).any() if on else (high[unit, inside] < 0.5).any():
            out.append(words)
    if not on:
        starts = [*p.grid.starts(), p.grid.end]
        out += [
            f"its maintenance {say.span(w.start, w.end)}"
            for w in site.maintenance
            if w.asset == g.id and w.start < starts[span[1] + 1] and w.end > starts[span[0]]
        ]
    return [f"bound by {' and '.join(out)}"] if out else []


def _put(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    return (*items[:at], item, *items[at + 1 :])
