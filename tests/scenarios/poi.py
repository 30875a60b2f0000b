"""The small plant with a say in its POI breaker, and without a battery that forms."""

from dataclasses import replace
from typing import Any

from ems.assets import ActuatorSafety, DeviceBehaviour, OnSilence
from ems.site import Authority, SetpointAuthority, Site

NAMES = ("open_request", "open_permit", "close_permit")


def with_breaker(site: Site, *names: str, **grid: Any) -> Site:
    """Authority over the POI breaker's requests and permits `names`, all of them when none is given."""
    setpoints = dict(site.authority.setpoints)
    for name in names if names else NAMES:
        point = f"{site.grid.id}.{name}"
        setpoints[point] = SetpointAuthority(
            point=point, low=0.0, high=1.0, ramp_per_s=None, deadband=0.0, refresh_s=5.0,
            safety=ActuatorSafety(
                grid_tied=None, islanded=None, black=None,
                behaviour=DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.HOLD),
            ),
        )  # fmt: skip
    return replace(site, authority=Authority(setpoints=setpoints), grid=replace(site.grid, **grid))


def following_only(site: Site) -> Site:
    """No battery can form: a dead bus is a genset's to bring back."""
    return replace(site, bess=tuple(replace(b, pcs=replace(b.pcs, can_form=False)) for b in site.bess))
