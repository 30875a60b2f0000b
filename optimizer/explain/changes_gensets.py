"""Limits and prices of gensets as things that can be changed: load, times, calendar, starts, money."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from ems.assets import GensetParams
from ems.explanation import ReasonCode
from ems.site import Maintenance, Site
from optimizer.explain.posed import Change, Posed, with_genset, with_site
from optimizer.explain.words import Words, exactly_kw
from optimizer.problem import GensetStart, PlanningProblem

LONG_H = 1e3


def genset_limits(site: Site, i: int) -> Iterator[Change]:
    """Half the minimum load of a genset."""
    g = site.gensets[i]
    if g.p_min_kw > 0.0:
        to = 0.5 * g.p_min_kw
        yield Change(
            key=f"gensets.{g.id}.p_min_kw",
            code=ReasonCode.LIMIT,
            words=f"with a minimum load of {g.id} of {exactly_kw(to)} instead of {exactly_kw(g.p_min_kw)}",
            apply=with_genset(i, lambda x: replace(x, p_min_kw=to)),
        )


def minimum_times(site: Site, i: int) -> Iterator[Change]:
    """Minimum times of a genset, which commitment alone knows."""
    g = site.gensets[i]
    for key, now in (("min_up_s", g.min_up_s), ("min_down_s", g.min_down_s)):
        if now > 0.0:

            def edit(x: GensetParams, key: str = key) -> GensetParams:
                up, down = (0.0, x.min_down_s) if key == "min_up_s" else (x.min_up_s, 0.0)
                return replace(x, min_up_s=up, min_down_s=down)

            yield Change(
                key=f"gensets.{g.id}.{key}",
                code=ReasonCode.LIMIT,
                words=f"with no {g.id} {key[:-2].replace('_', ' ')} time instead of {now / 60.0:.6g} min",
                apply=with_genset(i, edit),
                frees=i,
            )


def calendar_limits(posed: Posed, p: PlanningProblem, i: int) -> Iterator[Change]:
    """What commitment alone knows of a genset: away, start delay, maintenance, quiet hours, starts."""
    g, start = posed.site.gensets[i], p.gensets[i]
    key, say = f"gensets.{g.id}", Words(posed.site)
    if not start.available:
        yield Change(
            key=f"{key}.available", code=ReasonCode.LIMIT, words=f"with {g.id} available",
            adjust=free(i, lambda x: replace(x, available=True, ready_h=0.0, age_h=LONG_H)), frees=i,
        )  # fmt: skip
        return
    if not start.on and start.ready_h > 0.0:
        yield Change(
            key=f"{key}.crank_s, warm_up_s, synchronise_s", code=ReasonCode.LIMIT,
            words=f"with {g.id} on load without start delay",
            adjust=free(i, lambda x: replace(x, ready_h=0.0)), frees=i,
        )  # fmt: skip
    for n, window in enumerate(posed.site.maintenance):
        if window.asset == g.id and window.end > p.grid.start and window.start < p.grid.end:
            yield Change(
                key=f"maintenance[{n}]", code=ReasonCode.LIMIT,
                words=f"without the maintenance of {g.id} {say.span(window.start, window.end)}",
                apply=with_site(partial(_without_maintenance, window)), frees=i,
            )  # fmt: skip
    if g.quiet:
        yield Change(
            key=f"{key}.quiet", code=ReasonCode.PRICE, words=f"without the quiet hours of {g.id}",
            apply=with_genset(i, lambda x: replace(x, quiet=())), frees=i,
        )  # fmt: skip
    if g.starts_per_day_max is not None:
        yield Change(
            key=f"{key}.starts_per_day_max", code=ReasonCode.LIMIT,
            words=f"with {g.id} free to start more than {g.starts_per_day_max} times a day",
            apply=with_genset(i, lambda x: replace(x, starts_per_day_max=None)), frees=i,
        )  # fmt: skip
    if g.start_cost > 0.0:
        yield Change(
            key=f"{key}.start_cost", code=ReasonCode.PRICE,
            words=f"with starts of {g.id} at no cost instead of {say.money(g.start_cost)}",
            apply=with_genset(i, _no_start_cost), frees=i,
        )  # fmt: skip


def diesel(site: Site) -> Iterator[Change]:
    """Half the price of fuel."""
    if site.gensets:
        half, unit = 0.5 * site.diesel_per_l, f"{site.currency}/L"
        yield Change(
            key="money.diesel_per_l",
            code=ReasonCode.PRICE,
            words=f"with diesel at {half:.7g} {unit} instead of {site.diesel_per_l:.7g} {unit}",
            apply=with_site(lambda s: replace(s, diesel_per_l=half)),
            any_unit=True,
        )


def _no_start_cost(g: GensetParams) -> GensetParams:
    return replace(g, start_cost=0.0, cold_start_cost=None, start_types=())


def free(i: int, edit: Callable[[GensetStart], GensetStart]) -> Callable[[PlanningProblem], PlanningProblem]:
    """A change of where one genset starts."""
    return lambda q: replace(q, gensets=tuple(edit(x) if k == i else x for k, x in enumerate(q.gensets)))


def _without_maintenance(window: Maintenance, site: Site) -> Site:
    return replace(site, maintenance=tuple(w for w in site.maintenance if w != window))
