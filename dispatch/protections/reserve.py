"""Upward reserve as it is now: what policy asks for, what is held, what is missing."""

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balance import usable_kwh
from dispatch.protections.contingencies import contingencies
from dispatch.vocabulary import ReserveStatus
from ems.site import GridMode

EMPTY_RESERVE = ReserveStatus(required_kw=0.0, held_kw=0.0, short_kw=0.0, energy_kwh=0.0)


def hold_s(layout: Layout) -> float:
    """How long stored energy must carry: the failed starts of the policy and one that works [s]."""
    delay_s = min((g.start_delay_s for g in layout.gensets.values()), default=60.0)
    return (layout.site.reserve.failed_starts + 1) * delay_s


def reserve_now(layout: Layout, observed: Observed) -> ReserveStatus:
    """Reserve of this snapshot [kW, kWh].

    Grid-tied: the tiers up to the critical one must survive a sudden loss of the grid, on batteries that can
    form and gensets that run. In the first instant nothing is shed yet, so the batteries must be able to take
    over the net load as far as they are rated for it. Islanded: shares of load and PV. A genset that is not
    heard holds nothing, whatever it may still give.
    """
    c, policy = observed.condition, layout.site.reserve
    tied = c.grid_mode is GridMode.GRID_TIED
    battery_kw, energy_kwh = 0.0, 0.0
    for b, params in layout.bess.items():
        if tied and not params.pcs.can_form:
            continue
        kwh = usable_kwh(params.battery, c.bess[b], params.battery.soc_min)
        used_kw = 0.0 if tied else c.bess[b].p_kw
        energy_kwh += kwh
        by_energy_kw = kwh * 3600.0 / hold_s(layout)
        battery_kw += max(0.0, min(c.bess[b].p_discharge_kw_max, by_energy_kw) - used_kw)
    if tied:
        required_kw = sum(
            observed.demand_kw[f]
            for f, p in layout.feeders.items()
            if p.tier <= policy.critical_tier and c.feeder_closed[f]
        )
        rated_kw = sum(p.battery.p_discharge_kw_max for p in layout.bess.values() if p.pcs.can_form)
        net_kw = observed.power.load_kw - (1.0 - policy.pv_ratio) * observed.power.pv_kw
        required_kw = max(required_kw, min(net_kw, rated_kw))
        gensets_kw = sum(p.p_rated_kw for g, p in layout.gensets.items() if c.gensets[g].carries)
    elif c.grid_mode is GridMode.ISLANDED:
        required_kw = policy.load_ratio * max(0.0, observed.power.load_kw)
        required_kw += policy.pv_ratio * max(0.0, observed.power.pv_kw)
        gensets_kw = sum(
            max(0.0, p.p_rated_kw - c.gensets[g].p_kw)
            for g, p in layout.gensets.items()
            if c.gensets[g].carries
        )
    else:
        return EMPTY_RESERVE
    held_kw = battery_kw + gensets_kw
    grid, caps = layout.site.grid, observed.caps
    import_cap_kw = grid.p_import_kw_max if caps is None else caps.import_kw
    room_kw = max(0.0, import_cap_kw - observed.power.grid_kw) if tied else 0.0
    losses = contingencies(layout, observed, room_kw, hold_s(layout))
    short_kw = max(0.0, required_kw - held_kw, *(x.short_kw for x in losses if x.required))
    return ReserveStatus(
        required_kw=required_kw,
        held_kw=held_kw,
        short_kw=short_kw,
        energy_kwh=energy_kwh,
        contingencies=losses,
    )
