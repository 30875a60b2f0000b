"""Fuel in each tank, counted beside what its sensor tells, and how long it lasts at the present load.

The lower of both is reckoned with, so that a sensor that stands still does not hide an empty tank. A sensor
that is wrong never keeps a set from being started: whether a set may run is not asked here.
"""

import math
from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balancing_memory import FuelWatch
from dispatch.vocabulary import Alarm
from ems.assets import GensetParams
from ems.condition import GensetCondition
from ems.frozen import replace
from plant_models.genset import fuel_l_h, fuel_points

APART_RATIO = 0.1  # of the tank: so far apart the sensor is wrong
FILLED_RATIO = 0.05  # of the tank: a rise by so much is a delivery
WARN_H = 4.5  # the alarm comes at least 4 h before the tank is empty, its delays included


def fuelled(
    layout: Layout, watches: Mapping[str, FuelWatch], observed: Observed, passed_s: float
) -> tuple[dict[str, FuelWatch], Observed]:
    """The observation with the fuel that can be counted on in each tank.

    Parameters
    ----------
    passed_s : time since the last tick [s].
    """
    after, gensets = {}, {}
    for g, c in observed.condition.gensets.items():
        params, watch = layout.gensets[g], watches.get(g)
        told_l = c.fuel_l if c.fuel_l is not None and 0.0 <= c.fuel_l <= 1.05 * params.tank_l else None
        watch = _counted(params, watch, c, told_l, passed_s)
        if watch is not None:
            after[g] = watch
            told_l = watch.counted_l if told_l is None else min(told_l, watch.counted_l)
        gensets[g] = replace(c, fuel_l=told_l)
    return after, replace(observed, condition=replace(observed.condition, gensets=gensets))


def _burn_l_h(params: GensetParams, p_kw: float) -> float:
    return fuel_l_h(fuel_points(params), max(0.0, p_kw))


def _counted(
    params: GensetParams, watch: FuelWatch | None, c: GensetCondition, told_l: float | None, passed_s: float
) -> FuelWatch | None:
    if watch is None:
        return None if told_l is None else FuelWatch(counted_l=told_l, told_l=told_l)
    burnt_l = _burn_l_h(params, c.p_kw) * passed_s / 3600.0 if c.on_load else 0.0
    counted_l = max(0.0, watch.counted_l - burnt_l)
    if told_l is None:
        return replace(watch, counted_l=counted_l, wrong=True)
    filled = told_l - watch.told_l > FILLED_RATIO * params.tank_l
    lower = told_l < counted_l  # more was burnt than is counted: the sensor knows better
    if filled or lower:
        counted_l = told_l
    wrong = told_l - counted_l > APART_RATIO * params.tank_l
    return FuelWatch(counted_l=counted_l, told_l=told_l, wrong=wrong)


def left_h(params: GensetParams, c: GensetCondition) -> float:
    """How long the fuel lasts at the present load; infinite while off load or not known [h]."""
    if not c.on_load or c.fuel_l is None:
        return math.inf
    return max(0.0, c.fuel_l - params.tank_unusable_l) / max(_burn_l_h(params, c.p_kw), 1e-6)


def fuel_alarms(
    layout: Layout, watches: Mapping[str, FuelWatch], gensets: Mapping[str, GensetCondition]
) -> tuple[Alarm, ...]:
    """Tanks that will be empty, and sensors that are wrong."""
    out = []
    for g, c in gensets.items():
        hours = left_h(layout.gensets[g], c)
        if hours < WARN_H:
            text = f"{g} has fuel for {hours:.1f} h at {c.p_kw:.0f} kW"
            out.append(Alarm(code="genset.fuel.low", asset=g, text=text))
        watch = watches.get(g)
        if watch is not None and watch.wrong:
            text = f"the fuel sensor of {g} is wrong: {watch.counted_l:.0f} L are counted"
            out.append(Alarm(code="genset.fuel.sensor", asset=g, text=text))
    return tuple(out)
