"""Plans for when there is no new one: the last plan shifted, and the plan that says "rules"."""

from dataclasses import replace
from datetime import timedelta

from ems.condition import PlantCondition
from ems.plan import Plan, PlanLabel, Series, SolveRecord
from ems.site import GridMode, Site
from ems.timegrid import TimeGrid
from optimizer.extract import Identity, plan_id
from plant_models import battery

SOC_MARGIN = 0.02  # replayed SoC may leave the window by so much before a shifted plan is refused
RULES_VALID_H = 1.0


def shifted_plan(
    site: Site, condition: PlantCondition, last: Plan | None, who: Identity, why: str
) -> tuple[Plan | None, str]:
    """The last plan from now on, if it still holds: (plan, "") or (None, reason)."""
    if last is None or last.label is PlanLabel.RULES:
        return None, "there is none"
    now = last.grid.index_at(condition.at)
    if now is None or condition.at >= last.valid_until:
        return None, "no longer valid"
    if last.grid_mode[now] is not condition.grid_mode:
        return None, f"made for {last.grid_mode[now].value}, the plant is {condition.grid_mode.value}"
    for genset_id, on in last.genset_on.items():
        unit = condition.gensets.get(genset_id)
        if on[now] > 0.5 and (unit is None or not unit.available):
            return None, f"{genset_id} is not available"
    cut = _cut(last, now, condition)
    away = _soc_away(site, condition, cut)
    if away:
        return None, away
    return replace(
        cut,
        plan_id=plan_id(site, condition.at, who.seq),
        seq=who.seq,
        issued_at=condition.at,
        label=PlanLabel.SHIFTED,
        solve=replace(last.solve, rescue=f"shifted {last.plan_id}: {why}"),
        notes=(*last.notes, f"this is plan {last.plan_id}, shifted: {why}"),
    ), ""


def _cut(last: Plan, first: int, condition: PlantCondition) -> Plan:
    """The plan from step `first` on; that step begins now."""

    def part(x: Series) -> Series:
        return x[first:]

    def parts(x: dict[str, Series]) -> dict[str, Series]:
        return {k: part(v) for k, v in x.items()}

    ends = last.grid.starts()[first] + timedelta(seconds=last.grid.step_s[first])
    left_s = (ends - condition.at).total_seconds()
    grid = TimeGrid(start=condition.at, step_s=(left_s, *last.grid.step_s[first + 1 :]))
    maps = (
        "load_kw", "pv_available_kw", "bess_p_kw", "bess_soc_end", "genset_on", "genset_p_kw", "pv_p_kw",
        "shed_kw", "deferrable_kw", "missed", "bess_q_kvar", "pv_q_kvar", "genset_q_kvar",
    )  # fmt: skip
    rows = (
        "import_per_kwh",
        "grid_p_kw",
        "reserve_up_required_kw",
        "reserve_up_held_kw",
        "reserve_up_short_kw",
        "import_limit_kw",
        "contingency_lost_kw",
        "contingency_cover_kw",
        "grid_q_kvar",
        "q_short_kvar",
        "poi_v_pu",
        "poi_v_short_pu",
    )
    changes: dict[str, object] = {name: parts(dict(getattr(last, name))) for name in maps}
    changes |= {name: part(getattr(last, name)) for name in rows}
    changes |= {"contingency": last.contingency[first:], "contingency_by": last.contingency_by[first:]}
    changes |= {"grid_mode": last.grid_mode[first:], "forming": last.forming[first:], "grid": grid}
    return replace(last, **changes)  # type: ignore[arg-type]


def _soc_away(site: Site, condition: PlantCondition, plan: Plan) -> str:
    """Replay the batteries from where they are while the plan is valid; why it fails, or nothing."""
    horizon_s = (plan.valid_until - plan.grid.start).total_seconds()
    for unit in site.bess:
        now = condition.bess.get(unit.id)
        if now is None or not now.available:
            return f"{unit.id} is not available"
        stored = now.soc * unit.battery.energy_kwh
        for t, step_s in enumerate(plan.grid.step_s):
            if plan.grid.offset_s[t] >= horizon_s:
                break
            stored, _ = battery.step(unit.battery, stored, plan.bess_p_kw[unit.id][t], step_s)
            soc = stored / unit.battery.energy_kwh
            low, high = unit.battery.soc_min - SOC_MARGIN, unit.battery.soc_max + SOC_MARGIN
            if not min(low, now.soc - SOC_MARGIN) <= soc <= max(high, now.soc + SOC_MARGIN):
                return f"{unit.id} would reach SoC {soc:.2f}"
    return ""


def rules_plan(site: Site, condition: PlantCondition, grid: TimeGrid, who: Identity, why: str) -> Plan:
    """A plan that decides nothing: idle series, label RULES, and the reason."""
    T = len(grid)
    idle: Series = (0.0,) * T
    mode = condition.grid_mode
    forming = site.grid.id if mode is GridMode.GRID_TIED else (condition.forming if condition.forming else "")
    return Plan(
        plan_id=plan_id(site, condition.at, who.seq),
        seq=who.seq,
        site=site.name,
        issued_at=condition.at,
        valid_until=condition.at + timedelta(hours=RULES_VALID_H),
        label=PlanLabel.RULES,
        solve=SolveRecord(
            status="none",
            objective=None,
            bound=None,
            gap_ratio=None,
            solve_s=0.0,
            nodes=0,
            rescue=f"rules: {why}",
        ),
        grid=grid,
        integral_until=condition.at,
        grid_mode=(mode,) * T,
        forming=(forming,) * T,
        load_kw={f.id: idle for f in site.feeders},
        pv_available_kw={p.id: idle for p in site.pv},
        import_per_kwh=idle,
        bess_p_kw={b.id: idle for b in site.bess},
        bess_soc_end={b.id: _level(condition, b.id, T) for b in site.bess},
        genset_on={g.id: idle for g in site.gensets},
        genset_p_kw={g.id: idle for g in site.gensets},
        pv_p_kw={p.id: idle for p in site.pv},
        grid_p_kw=idle,
        shed_kw={f.id: idle for f in site.feeders},
        deferrable_kw={d.id: idle for d in site.deferrables},
        reserve_up_required_kw=idle,
        reserve_up_held_kw=idle,
        reserve_up_short_kw=idle,
        cost_terms={},
        peak_import_kw=condition.peak_import_kw,
        stored_energy_value_per_kwh=0.0,
        notes=(f"no plan, the edge's rules decide: {why}",),
    )


def _level(condition: PlantCondition, bess_id: str, T: int) -> Series:
    now = condition.bess.get(bess_id)
    return ((now.soc if now is not None else 0.0),) * T
