"""Worst cases that a plant must survive on paper before anything is started."""

from ems.site_schema.checks_genset import site_rated_kw
from ems.site_schema.draft import Draft
from ems.site_schema.forms import ReserveForm
from ems.site_schema.forms_assets import BessForm, FeederForm

_NEEDED = frozenset({"feeders", "grid", "bess", "gensets", "forming", "reserve"})


def check_worst_cases(draft: Draft) -> None:
    """Sudden island, slow genset, long outage, full import: by power and by energy."""
    if not draft.complete >= _NEEDED or draft.forming is None or draft.reserve is None:
        return
    if draft.reserve.critical_tier not in {f.tier for f in draft.feeders.values()}:
        return  # already a problem of the reserve
    vital = {
        i: f for i, f in draft.feeders.items() if f.tier <= draft.reserve.critical_tier or not f.has_breaker
    }
    peak_kw = sum(f.p_peak_kw for f in vital.values())
    _sudden_island(draft, vital)
    _slow_genset(draft, draft.reserve, peak_kw)
    _long_outage(draft, draft.reserve, peak_kw)
    _full_import(draft)


def _sudden_island(draft: Draft, vital: dict[str, FeederForm]) -> None:
    """The first forming source carries alone what is never shed."""
    assert draft.forming is not None
    former = draft.forming.islanded[0]
    peak_kw = sum(f.p_peak_kw for f in vital.values())
    peak_kva = sum(f.p_peak_kw / f.power_factor_ratio for f in vital.values())
    if (bess := draft.bess.get(former)) is not None:
        limits = (bess.battery.p_discharge_kw_max, bess.pcs.s_kva)
    elif (genset := draft.gensets.get(former)) is not None:
        limits = (min(site_rated_kw(draft, genset), genset.step_load_kw_max), genset.s_kva)
    else:
        return  # already a problem of the forming order
    if peak_kw > limits[0] or peak_kva > limits[1]:
        draft.add(
            ("forming", "islanded", 0),
            f"{former!r}, which gives {limits[0]:g} kW and {limits[1]:g} kVA at once",
            f"a first source that carries {peak_kw:g} kW, {peak_kva:.0f} kVA",
            f"peak of {', '.join(vital)}: critical, or without a breaker",
        )


def _usable_kwh(bess: BessForm) -> float:
    """Energy at the AC terminals from full to empty at full power [kWh]."""
    b = bess.battery
    stored_kwh = (b.soc_max - b.soc_min) * b.energy_kwh
    if b.efficiency_discharge:
        return stored_kwh * b.efficiency_discharge[-1].eta_ratio
    if b.eta_discharge is None or b.loss_discharge_pu is None:
        return stored_kwh  # already a problem of the battery
    return stored_kwh / (1.0 / b.eta_discharge + b.loss_discharge_pu)


def _slow_genset(draft: Draft, reserve: ReserveForm, peak_kw: float) -> None:
    """A full battery carries the critical tier until the slowest genset is on load, failed starts too."""
    assert draft.forming is not None
    bess = draft.bess.get(draft.forming.islanded[0])
    if bess is None or not draft.gensets:
        return
    delay_s = max(g.crank_s + g.warm_up_s + g.synchronise_s for g in draft.gensets.values())
    need_kwh = peak_kw * (reserve.failed_starts + 1) * delay_s / 3600.0
    if need_kwh > _usable_kwh(bess):
        draft.add(
            ("reserve", "failed_starts"),
            f"{need_kwh:.1f} kWh: {peak_kw:g} kW through {reserve.failed_starts + 1} starts of {delay_s:g} s",
            f"at most what a full battery holds, {_usable_kwh(bess):.1f} kWh",
        )


def _long_outage(draft: Draft, reserve: ReserveForm, peak_kw: float) -> None:
    """Gensets carry the critical tier through the assumed outage; without gensets a full battery does."""
    need_kwh = peak_kw * reserve.assumed_outage_h
    if not draft.gensets:
        stored_kwh = sum(_usable_kwh(b) for b in draft.bess.values())
        if need_kwh > stored_kwh:
            draft.add(
                ("reserve", "assumed_outage_h"),
                f"{need_kwh:.0f} kWh for {peak_kw:g} kW over {reserve.assumed_outage_h:g} h",
                f"at most what the batteries hold, {stored_kwh:.0f} kWh, where there is no genset",
            )
        return
    rated_kw = sum(site_rated_kw(draft, g) for g in draft.gensets.values())
    if peak_kw > rated_kw:
        draft.add(
            ("gensets",), f"{rated_kw:g} kW in all", f"{peak_kw:g} kW or more, the peak of the critical tier"
        )
    tank_kwh = sum(
        (g.tank_l - g.tank_unusable_l) / g.fuel_points[-1].fuel_l_h * g.p_rated_kw
        for g in draft.gensets.values()
    )
    if need_kwh > tank_kwh:
        draft.add(
            ("reserve", "assumed_outage_h"),
            f"{need_kwh:.0f} kWh for {peak_kw:g} kW over {reserve.assumed_outage_h:g} h",
            f"at most what the full tanks give, {tank_kwh:.0f} kWh",
        )


def _full_import(draft: Draft) -> None:
    """What cannot be shed is covered by the grid cap and the gensets; a battery would run empty."""
    assert draft.grid is not None
    fixed = {i: f for i, f in draft.feeders.items() if not f.has_breaker}
    peak_kw = sum(f.p_peak_kw for f in fixed.values())
    firm_kw = draft.grid.p_import_kw_max + sum(site_rated_kw(draft, g) for g in draft.gensets.values())
    if peak_kw > firm_kw:
        draft.add(
            ("grid", "p_import_kw_max"),
            f"{firm_kw:g} kW of grid and gensets",
            f"{peak_kw:g} kW or more",
            f"peak of {', '.join(fixed)}, which cannot be shed",
        )
