"""Reserve, contingencies and survival as limits that can be lifted, by their keys under `reserve`."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from ems.explanation import ReasonCode
from ems.site import ReservePolicy, Site
from optimizer.explain.posed import Change, with_site
from optimizer.explain.words import kw


def reserve_limits(site: Site) -> Iterator[Change]:
    """Each thing the site asks to be held ready for, taken away."""
    for name, words in _asked_for(site.reserve).items():
        if getattr(site.reserve, name):
            apply = with_site(partial(_without, name))
            yield Change(key=f"reserve.{name}", code=ReasonCode.RESERVE, words=words, apply=apply)


def _asked_for(r: ReservePolicy) -> dict[str, str]:
    """What is left out, by key."""
    return {
        "load_ratio": f"without reserve for {100.0 * r.load_ratio:.6g}% of the load",
        "pv_ratio": f"without reserve for {100.0 * r.pv_ratio:.6g}% of the PV",
        "failed_starts": f"without reserve that lasts for {r.failed_starts} failed starts",
        "n_minus_1": f"without cover for the loss of a {' or '.join(r.n_minus_1)}",
        "n_minus_1_tied": f"without cover beside the grid for the loss of a {' or '.join(r.n_minus_1_tied)}",
        "pv_drop_ratio": f"without cover for a drop of {100.0 * r.pv_drop_ratio:.6g}% of the PV",
        "fuel_h": f"without {r.fuel_h:.6g} h of fuel to be kept",
        "motor_start_kw": f"without cover for a motor start of {kw(r.motor_start_kw)}",
        "load_trip_kw": f"without cover for a load trip of {kw(r.load_trip_kw)}",
        "survive_h": f"without an outage of {r.survive_h:.6g} h to be survived",
        "running_ratio": f"without gensets on load for {r.running_ratio:.6g} times the load",
    }


def _without(name: str, site: Site) -> Site:
    """The site with one figure of its policy at nothing: 0, or no losses."""
    nothing = type(getattr(site.reserve, name))()
    return replace(site, reserve=replace(site.reserve, **{name: nothing}))
