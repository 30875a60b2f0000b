"""Plans for tests: whole, consistent and easy to bend."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ems.plan import Plan, PlanLabel, SolveRecord
from ems.site import GridMode, Site
from ems.timegrid import TimeGrid
from plant_models import battery
from tests.builders import T0

TIED, ISLAND = GridMode.GRID_TIED, GridMode.ISLANDED


def plan_of(
    site: Site,
    *,
    bess_kw: Sequence[float],
    load_kw: float = 200.0,
    pv_kw: Sequence[float] | float = 0.0,
    gen1_kw: Sequence[float] | float = 0.0,
    modes: Sequence[GridMode] | None = None,
    start: datetime = T0,
    soc: float = 0.6,
    step_s: float = 900.0,
    seq: int = 1,
    peak_import_kw: float = 300.0,
) -> Plan:
    """A plan whose SoC and grid power follow from the battery, PV and genset powers given per step."""
    n = len(bess_kw)
    pv = tuple(pv_kw if isinstance(pv_kw, Sequence) else (pv_kw,) * n)
    gen = tuple(gen1_kw if isinstance(gen1_kw, Sequence) else (gen1_kw,) * n)
    mode = tuple(modes if modes is not None else (TIED,) * n)
    params = site.bess[0].battery
    stored, socs = soc * params.energy_kwh, []
    for p in bess_kw:
        stored, _ = battery.step(params, stored, p, step_s)
        socs.append(stored / params.energy_kwh)
    grid = tuple(load_kw - p - v - g for p, v, g in zip(bess_kw, pv, gen, strict=True))
    shares = {"critical": 0.3, "essential": 0.5, "deferrable": 0.2}
    zeros = (0.0,) * n
    return Plan(
        plan_id=f"plan-{seq}",
        seq=seq,
        site=site.name,
        issued_at=start,
        valid_until=start + timedelta(seconds=min(7200.0, n * step_s)),
        label=PlanLabel.OPTIMAL,
        solve=SolveRecord(
            status="optimal", objective=1.0, bound=1.0, gap_ratio=0.0, solve_s=0.1, nodes=1, rescue="none"
        ),
        grid=TimeGrid.uniform(start, step_s, n),
        integral_until=start + timedelta(seconds=n * step_s),
        grid_mode=mode,
        forming=tuple("grid1" if m is TIED else "bess1" for m in mode),
        load_kw={f: (s * load_kw,) * n for f, s in shares.items()},
        pv_available_kw={"pv1": pv},
        import_per_kwh=(0.16,) * n,
        bess_p_kw={"bess1": tuple(bess_kw)},
        bess_soc_end={"bess1": tuple(socs)},
        genset_on={"gen1": tuple(float(g > 0.0) for g in gen), "gen2": zeros},
        genset_p_kw={"gen1": gen, "gen2": zeros},
        pv_p_kw={"pv1": pv},
        grid_p_kw=grid,
        shed_kw=dict.fromkeys(shares, zeros),
        reserve_up_required_kw=zeros,
        reserve_up_held_kw=zeros,
        reserve_up_short_kw=zeros,
        cost_terms={},
        peak_import_kw=peak_import_kw,
        stored_energy_value_per_kwh=0.1,
    )


def bent(plan: Plan, name: str, key: str, step: int, value: float) -> Plan:
    """The plan with one number of one series changed."""
    series = dict(getattr(plan, name))
    values = list(series[key])
    values[step] = value
    series[key] = tuple(values)
    changed: dict[str, Any] = {name: series}
    return replace(plan, **changed)
