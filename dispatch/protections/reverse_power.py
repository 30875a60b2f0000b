"""Reverse power: a genset that the bus drives is relieved before its own relay (32R) opens its breaker.

The power stage keeps the sets at minimum load by feed-forward from the load. This is the second line, and
goes by what each set itself measures: whatever the load is thought to be, a set below zero has too much of PV
beside it. What is missing to minimum load is taken from PV at once; a set that is still driven after half the
time of its relay takes all PV away.
"""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.bus import Bus
from dispatch.protections.power_parts import Power
from dispatch.state import ProtectionMemory
from dispatch.vocabulary import Alarm, Target
from ems.assets import GensetParams
from ems.commands import Cause
from ems.site import GridMode

NOISE_RATIO = 0.02  # of the rating: a set that has just closed reads about zero
MARGIN_RATIO = 0.5  # of its relay's power and time: it is helped long before
UNKNOWN_DELAY_S = 2.0  # where the relay's setting is not known


def margin_kw(params: GensetParams) -> float:
    """Driven by more than this a set is helped, a positive number [kW]."""
    noise_kw = NOISE_RATIO * params.p_rated_kw
    relay = params.reverse_power
    return noise_kw if relay is None else min(noise_kw, MARGIN_RATIO * relay.p_kw)


def driven_backwards(
    layout: Layout, observed: Observed, bus: Bus, runs: Mapping[str, Target]
) -> tuple[str, ...]:
    """Sets on load that read less than nothing and are not on their way off the bus.

    One that is not heard any more is taken to be on load still: its relay does not know that it is silent.
    """
    if bus.mode is GridMode.BLACK:
        return ()
    leaving = {g for g, t in runs.items() if t.value < 0.5}
    return tuple(
        g
        for g in (*bus.running, *bus.unheard)
        if g not in leaving and observed.condition.gensets[g].p_kw < -margin_kw(layout.gensets[g])
    )


def reverse_s(memory: ProtectionMemory, now_s: float) -> float:
    """For how long a set has been driven until now [s]."""
    return 0.0 if memory.reverse_since_s is None else now_s - memory.reverse_since_s


def relieve(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    runs: Mapping[str, Target],
    power: Power,
    for_s: float,
) -> tuple[Alarm, ...]:
    """Narrow the PV limits of `power` by what the driven sets miss beyond what it does already.

    Parameters
    ----------
    for_s : how long one has been driven [s].
    """
    driven = driven_backwards(layout, observed, bus, runs)
    if not driven:
        return ()
    c = observed.condition
    missing_kw = sum(layout.gensets[g].p_min_kw - c.gensets[g].p_kw for g in driven)
    charging_kw = sum(c.bess[b].p_kw - t.value for b, t in power.bess.items() if b in bus.following_bess)
    pv_kw = max(0.0, observed.power.pv_kw)
    left_kw = min(pv_kw, pv_kw - missing_kw + max(0.0, charging_kw))
    if for_s >= min(relay_half_s(layout.gensets[g]) for g in driven):
        left_kw = 0.0
    names, lost = " and ".join(driven), bus.lost_pv_kw
    left_kw = max(0.0, left_kw - sum(lost.values()))
    rated_kw = sum(p.p_ac_kw for i, p in layout.pv.items() if i not in lost)
    for p, params in layout.pv.items():
        value = 0.0 if p in lost else left_kw * params.p_ac_kw / rated_kw
        known = power.pv.get(p)
        if known is not None and known.value <= value:
            continue
        reason = f"{names} is driven backwards: {left_kw:.0f} kW of PV leave it minimum load"
        power.pv[p] = Target(value=value, cause=Cause.PROTECTION, reason=reason)
        power.bound(layout.setpoint_of.get((p, "p_limit_kw")), 0.0, value, "reverse_power", reason)
    return tuple(_alarm(g, c.gensets[g].p_kw) for g in driven)


def relay_half_s(params: GensetParams) -> float:
    """Half of the time of its relay [s]: by then all PV goes."""
    relay = params.reverse_power
    return MARGIN_RATIO * (UNKNOWN_DELAY_S if relay is None else relay.delay_s)


def _alarm(genset: str, p_kw: float) -> Alarm:
    text = f"{genset} is driven backwards with {-p_kw:.0f} kW: PV is cut"
    return Alarm(code="genset.reverse_power", asset=genset, text=text)
