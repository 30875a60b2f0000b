"""What converters make of a power factor or a stored curve: kvar, by their own fast loop."""

import math
from collections.abc import Mapping

from ems.points import split_point_id
from ems.reactive import ReactiveControl, ReactiveTakes
from ems.site import Site
from plant_models.plant import PlantFlows

SETTLES_RATIO = 0.3  # of what is missing to the curve, in a step: damped, as its time constant would


def by_parameter(site: Site) -> dict[str, ReactiveControl]:
    """Converters that take something else than kvar, with how."""
    own = {b.id: b.pcs.reactive for b in site.bess} | {p.id: p.reactive for p in site.pv}
    return {i: r for i, r in own.items() if r is not None and r.takes is not ReactiveTakes.KVAR}


def at_rest(site: Site) -> dict[str, float]:
    """Their registers before anybody has written: unity, and the first curve."""
    out = {}
    for i, control in by_parameter(site).items():
        first = 1.0 if control.takes is ReactiveTakes.POWER_FACTOR else float(control.curves[0].index)
        out[f"{i}.{control.takes}"] = first
    return out


def converter_kvar(
    controls: Mapping[str, ReactiveControl], acting: Mapping[str, float], flows: PlantFlows
) -> dict[str, float]:
    """Reactive power of the next step, from power and voltage of the last one [kvar].

    Parameters
    ----------
    acting : setpoints that devices act on, by point.
    """
    out = {}
    for point, value in acting.items():
        asset, name = split_point_id(point)
        control = controls.get(asset)
        if control is None or name != control.takes:
            continue
        p_kw = flows.bess_p_kw.get(asset, flows.pv_p_kw.get(asset, 0.0))
        if control.takes is ReactiveTakes.POWER_FACTOR:
            out[asset] = math.copysign(abs(p_kw) * math.tan(math.acos(min(1.0, abs(value)))), value)
        else:
            now_kvar = flows.bess_q_kvar.get(asset, flows.pv_q_kvar.get(asset, 0.0))
            curve = next((c for c in control.curves if c.index == round(value)), None)
            wanted_kvar = 0.0 if curve is None else curve.q_kvar(flows.poi_v_pu)
            out[asset] = now_kvar + SETTLES_RATIO * (wanted_kvar - now_kvar)
    return out
