"""What a series of sun cannot be: light at night is another zone, none at noon is another column."""

from collections.abc import Iterator

import numpy as np

from ems.inputs import GHI, InputVersion
from ems.site import Site
from ems.timegrid import TimeGrid
from forecasting.slots import SLOT_S, slot_range, to_slots
from forecasting.sun import Sun

NIGHT_W_M2 = 20.0
NIGHT_RATIO = 0.02  # of a plant's rating
HIGH_SINE = 0.3  # the sun stands well above the horizon: 17.5 degrees
NOON_H = 3.0  # so long in all without any light at all is no weather
EDGE_SLOTS = 4  # an hour around sunrise and sunset counts for neither


def sun_doubts(site: Site, version: InputVersion) -> Iterator[tuple[str, str, str]]:
    """(series, found, allowed) of each series of sun that cannot be of this place and time."""
    rated = {f"pv.{p.id}": p.p_ac_kw for p in site.pv}
    sun = Sun(site.latitude_deg, site.longitude_deg)
    for name, series in version.series.items():
        top = (
            NIGHT_W_M2
            if name == GHI
            else NIGHT_RATIO * rated.get(name.removesuffix(".p10").removesuffix(".p90"), 0.0)
        )
        if top <= 0.0:
            continue
        lo, hi = slot_range(TimeGrid(start=series.start, step_s=(series.step_s * len(series.values),)))
        slots = np.arange(lo - EDGE_SLOTS, hi + EDGE_SLOTS)
        up = sun.is_up(slots)
        near = np.convolve(up, np.ones(2 * EDGE_SLOTS + 1), mode="valid") > 0.0
        values = to_slots(name, series).window(lo, hi)
        night = np.isfinite(values) & ~near & (values > top)
        if night.any():
            at = np.flatnonzero(night)[0] + lo
            when = f"{np.datetime64(int(at * SLOT_S), 's')} UTC"
            yield (
                name,
                f"{values[at - lo]:g} at {when}",
                f"at most {top:g} while the sun is down (another zone?)",
            )
        high = np.isfinite(values) & (sun.middle(np.arange(lo, hi)) > HIGH_SINE)
        if name == GHI and high.sum() >= 4 * NOON_H and not values[high].any():
            yield name, f"nothing but 0 in {high.sum() / 4:g} h of high sun", "some light (another column?)"
