"""Reserve, contingencies and survival as limits that can be lifted, by their keys under `reserve`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from ems.explanation import ReasonCode
from ems.site import ReservePolicy, Site
from optimizer.explain.posed import Change, with_site
from optimizer.explain.words import kw

Edit = Callable[[ReservePolicy], ReservePolicy]


def reserve_limits(site: Site) -> Iterator[Change]:
    """Each thing the site asks to be held ready for, taken away."""
    r = site.reserve
    edits: list[tuple[str, float, str, Edit]] = [
        (
            "load_ratio",
            r.load_ratio,
            f"without reserve for {100.0 * r.load_ratio:.6g}% of the load",
            lambda x: replace(x, load_ratio=0.0),
        ),
        (
            "pv_ratio",
            r.pv_ratio,
            f"without reserve for {100.0 * r.pv_ratio:.6g}% of the PV",
            lambda x: replace(x, pv_ratio=0.0),
        ),
        (
            "failed_starts",
            float(r.failed_starts),
            f"without reserve that lasts for {r.failed_starts} failed starts",
            lambda x: replace(x, failed_starts=0),
        ),
        (
            "n_minus_1",
            float(len(r.n_minus_1)),
            f"without cover for the loss of a {' or '.join(r.n_minus_1)}",
            lambda x: replace(x, n_minus_1=()),
        ),
        (
            "n_minus_1_tied",
            float(len(r.n_minus_1_tied)),
            f"without cover beside the grid for the loss of a {' or '.join(r.n_minus_1_tied)}",
            lambda x: replace(x, n_minus_1_tied=()),
        ),
        (
            "pv_drop_ratio",
            r.pv_drop_ratio,
            f"without cover for a drop of {100.0 * r.pv_drop_ratio:.6g}% of the PV",
            lambda x: replace(x, pv_drop_ratio=0.0),
        ),
        (
            "fuel_h",
            r.fuel_h,
            f"without {r.fuel_h:.6g} h of fuel to be kept",
            lambda x: replace(x, fuel_h=0.0),
        ),
        (
            "motor_start_kw",
            r.motor_start_kw,
            f"without cover for a motor start of {kw(r.motor_start_kw)}",
            lambda x: replace(x, motor_start_kw=0.0),
        ),
        (
            "load_trip_kw",
            r.load_trip_kw,
            f"without cover for a load trip of {kw(r.load_trip_kw)}",
            lambda x: replace(x, load_trip_kw=0.0),
        ),
        (
            "survive_h",
            r.survive_h,
            f"without an outage of {r.survive_h:.6g} h to be survived",
            lambda x: replace(x, survive_h=0.0),
        ),
        (
            "running_ratio",
            r.running_ratio,
            f"without gensets on load for {r.running_ratio:.6g} times the load",
            lambda x: replace(x, running_ratio=0.0),
        ),
    ]
    for name, value, words, edit in edits:
        if value > 0.0:
            apply = with_site(partial(_with_reserve, edit))
            yield Change(key=f"reserve.{name}", code=ReasonCode.RESERVE, words=words, apply=apply)


def _with_reserve(edit: Edit, site: Site) -> Site:
    return replace(site, reserve=edit(site.reserve))
