"""A reactive setpoint lies inside its converter's P-Q polygon, beside the active power that stands there."""

from collections.abc import Iterator, Mapping

from dispatch.authority.layers import intersect
from dispatch.layout import Layout
from dispatch.state import Written
from ems.commands import Bound, Setpoint
from ems.condition import PlantCondition
from ems.frozen import replace
from ems.invariants import clamp
from ems.reactive import ReactiveTakes


def within_capability(
    layout: Layout,
    s: Setpoint,
    last: Mapping[str, Written],
    written: Mapping[str, Written],
    condition: PlantCondition,
) -> Setpoint:
    """The setpoint with what the maker's polygon allows as its strongest bound; any other as it is.

    Parameters
    ----------
    last, written : what stood before this cycle, and what stands with the active power written in it. Both
        count: until a device has heard of the new power it works at the old one. Active power that the edge
        does not set is what is measured.
    """
    asset, _, name = s.point.partition(".")
    own = layout.capability.get(asset)
    if own is None or name != ReactiveTakes.KVAR:
        return s
    bounds = []
    for p_kw in _active_kw(layout, asset, last, written, condition):
        low, high = own.q_range_kvar(p_kw)
        bounds.append(
            Bound(point=s.point, low=low, high=high, layer="capability", reason=f"beside {p_kw:+.0f} kW")
        )
    limits = intersect([*bounds, Bound(point=s.point, low=s.low, high=s.high, layer="authority", reason="")])
    value, before, reason = clamp(s.value, limits.low, limits.high), last.get(s.point), s.reason
    if abs(value - s.value) > 1e-6:
        reason = f"{reason}; {s.value:.1f} limited to {value:.1f} by the P-Q capability, {bounds[-1].reason}"
    outside = before is not None and not limits.low <= before.value <= limits.high
    return replace(
        s, value=value, low=limits.low, high=limits.high, reason=reason, protective=s.protective or outside
    )


def _active_kw(
    layout: Layout,
    asset: str,
    last: Mapping[str, Written],
    written: Mapping[str, Written],
    condition: PlantCondition,
) -> Iterator[float]:
    bess = condition.bess.get(asset)
    if bess is None:
        yield condition.pv_kw[asset]
        return
    point = layout.setpoint_of.get((asset, "p_set_kw"), "")
    stands = [known.value for known in (last.get(point), written.get(point)) if known is not None]
    yield from dict.fromkeys(stands or [bess.p_kw])
