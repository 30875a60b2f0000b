"""PV that comes back: held at nothing while it waits, then let in one plant after the other.

After a dip of voltage every inverter has left, and all return in the same second. A plant that waits is told
a limit of nothing, so that it begins from there; then the limits rise, the first plant's first, all of them
within half a minute.
"""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.state import Written
from ems.condition import UnitState
from ems.frozen import replace
from ems.telemetry import Snapshot

RELEASE_S = 30.0  # in which all PV of the site is let in


def ceilings_kw(
    layout: Layout, before: Mapping[str, float], observed: Observed, dt_s: float
) -> dict[str, float]:
    """Highest limit of each plant that waits or is being let in [kW]; the others are not named.

    Parameters
    ----------
    before : the same at the last tick.
    """
    out: dict[str, float] = {}
    left_kw = layout.pv_ac_kw * dt_s / RELEASE_S
    for p, params in layout.pv.items():
        if UnitState.OFF in observed.condition.pv_states.get(p, ()):
            out[p] = 0.0
        elif p in before:
            ceiling_kw = min(params.p_ac_kw, before[p] + left_kw)
            left_kw -= ceiling_kw - before[p]
            available_kw = observed.pv_available_kw[p]
            whole_kw = params.p_ac_kw if available_kw is None else min(params.p_ac_kw, available_kw)
            if ceiling_kw < whole_kw or ceiling_kw <= 0.0:
                out[p] = ceiling_kw
    return out


def with_ceilings(observed: Observed, ceiling_kw: Mapping[str, float]) -> Observed:
    """The observation that reckons with no more PV than is let in."""
    if not ceiling_kw:
        return observed
    available_kw = {
        p: kw if kw is None or p not in ceiling_kw else min(kw, ceiling_kw[p])
        for p, kw in observed.pv_available_kw.items()
    }
    return replace(observed, pv_ceiling_kw=ceiling_kw, pv_available_kw=available_kw)


def within_ramps(
    layout: Layout, written: Mapping[str, Written], snapshot: Snapshot, observed: Observed, dt_s: float
) -> Observed:
    """The observation that reckons with no more PV than its limits can rise to at their own ramps by then.

    Else batteries charge at once with sun that the limits let in much later, and the grid gives it meanwhile.
    """
    available_kw = dict(observed.pv_available_kw)
    for p, kw in observed.pv_available_kw.items():
        point = layout.setpoint_of.get((p, "p_limit_kw"), "")
        authority, last = layout.setpoints.get(point), written.get(point)
        stands_kw = snapshot.value(point) if last is None else last.value
        if kw is not None and authority is not None and authority.ramp_per_s is not None:
            most_kw = kw if stands_kw is None else stands_kw + authority.ramp_per_s * dt_s
            available_kw[p] = min(kw, most_kw)
    return replace(observed, pv_available_kw=available_kw)
