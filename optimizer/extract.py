"""From a solution to a Plan: series with the project's signs, what is held ready, money by term, notes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from ems.plan import Plan, PlanLabel, Series, SolveRecord
from ems.site import GridMode, Site
from ems.timegrid import BoolArray, FloatArray, TimeGrid
from optimizer.build import notes
from optimizer.compiled import Compiled, cost_terms
from optimizer.cover import covers, sentences, worst
from optimizer.fleets import single_machines
from optimizer.formulations import poi, reactive, shed_limits, sources, strength, voltage
from optimizer.formulations.deferrable import lost_kwh
from optimizer.formulations.demand import interval_kvar
from optimizer.formulations.reserve import battery_top_kw, carried_kw, loss_of_grid_kw
from optimizer.formulations.terminal import widths
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.solve import Outcome
from optimizer.structure import Structure
from optimizer.tariff_parts import demand_parts
from plant_models.pcs import room_kw_array


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """What the plan leaves open at the bus, (T,) [kW]."""

    surplus_kw: FloatArray
    aux_short_kw: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the plan is."""

    seq: int
    valid_h: float


def plan_id(site: Site, at: datetime, seq: int) -> str:
    """`<site>-<time of issue>-<sequence>`."""
    return f"{site.name}-{at:%Y%m%dT%H%M%S}Z-{seq:06d}"


def integral_until(grid: TimeGrid, integral: BoolArray) -> datetime:
    """End of the leading steps with whole commitment."""
    count = len(integral) if integral.all() else int(np.argmin(integral))
    return grid.start + timedelta(seconds=sum(grid.step_s[:count]))


def by_id(ids: list[str], rows: FloatArray) -> dict[str, Series]:
    """Rows of an array as series by asset id."""
    return dict(zip(ids, map(tuple, clean(rows).tolist()), strict=True))


def series(row: FloatArray) -> Series:
    """(T,) array as a tuple."""
    return tuple(clean(row).tolist())


def clean(x: FloatArray) -> FloatArray:
    """Without negative zeros and solver dust."""
    return np.where(np.abs(x) < 1e-7, 0.0, x)


def flows(s: Structure, v: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Power of each family by asset, (N, T) [kW]."""
    empty = np.zeros((0, s.steps))
    site = s.site
    genset = empty
    if site.gensets:
        p_min = np.array([g.p_min_kw for g in site.gensets])[:, None]
        genset = p_min * v["on"] + v["above_kw"].sum(axis=1)
    return {
        "bess": v["discharge_kw"].sum(axis=1) - v["charge_kw"].sum(axis=1) if site.bess else empty,
        "genset": genset,
        "on": v["on"] if site.gensets else empty,
        "pv": v["pv_kw"] if site.pv else empty,
        "shed": v["shed_kw"] if site.feeders else empty,
        "stored": v["stored_kwh"] if site.bess else empty,
    }


def extract(
    compiled: Compiled, p: PlanningProblem, n: Numbers, outcome: Outcome, who: Identity
) -> tuple[Plan, Slack]:
    """Make a plan of a solution. `outcome.x` must not be None."""
    if outcome.x is None:
        raise ValueError("there is no solution to extract")
    s, site = compiled.structure, p.site
    solved = compiled.values(outcome.x)
    v = single_machines(s, p, solved)
    f = flows(s, v)
    f["on"] = np.where(p.integral, np.round(f["on"]), f["on"])
    capacity = np.array([b.battery.energy_kwh for b in site.bess]).reshape(-1, 1)
    if reactive.asked(s):
        f["bess_kvar"] = reactive.flows_kvar(s, v)["bess"]
    fed = sources.fed(p, s, v)
    if fed:
        f["bess_fed"] = np.array([fed[b.id] for b in site.bess], dtype=np.float64).reshape(-1, s.steps)
    whole_until = integral_until(p.grid, p.integral)
    required, held = reserve_up(p, s, f)
    found = covers(p, s, v)
    security = worst(found, s.steps)
    plan = Plan(
        plan_id=plan_id(site, p.at, who.seq),
        seq=who.seq,
        site=site.name,
        issued_at=p.at,
        valid_until=min(p.at + timedelta(hours=who.valid_h), whole_until),  # never beyond its whole steps
        label=PlanLabel.OPTIMAL if outcome.optimal else PlanLabel.INCUMBENT,
        solve=SolveRecord(
            status=outcome.status,
            objective=outcome.objective,
            bound=outcome.bound,
            gap_ratio=outcome.gap_ratio,
            solve_s=outcome.solve_s,
            nodes=outcome.nodes,
            rescue="none",
        ),
        grid=p.grid,
        integral_until=whole_until,
        grid_mode=modes(p),
        forming=forming(p, f["on"], fed),
        load_kw=by_id([x.id for x in site.feeders], p.load_kw),
        pv_available_kw=by_id([x.id for x in site.pv], p.pv_kw),
        import_per_kwh=series(p.import_per_kwh),
        bess_p_kw=by_id([x.id for x in site.bess], f["bess"]),
        bess_soc_end=by_id([x.id for x in site.bess], f["stored"] / capacity),
        genset_on=by_id([x.id for x in site.gensets], f["on"]),
        genset_p_kw=by_id([x.id for x in site.gensets], f["genset"]),
        pv_p_kw=by_id([x.id for x in site.pv], f["pv"]),
        grid_p_kw=series(v["import_kw"] - v["export_kw"]),
        shed_kw=by_id([x.id for x in site.feeders], f["shed"]),
        reserve_up_required_kw=series(required),
        reserve_up_held_kw=series(held),
        reserve_up_short_kw=series(np.maximum(0.0, required - held)),
        cost_terms=cost_terms(n, solved),
        peak_import_kw=float(v["peak_kw"][0]),
        stored_energy_value_per_kwh=marginal_value(p, s, f["stored"]),
        notes=(*p.notes, *notes(p, s, v), *sentences(p, found)),
        contingency=security.name,
        contingency_lost_kw=series(security.lost_kw),
        contingency_cover_kw=series(security.cover_kw),
        contingency_by=security.by,
        import_limit_kw=series(import_limit_kw(p, s, v)) if p.demand_parts or lower_caps(p) else (),
        **reactive_series(p, s, v),
        missed={name: series(row) for name, row in missed(p, s, v).items()},
        deferrable_kw=by_id([x.id for x in site.deferrables], v["device_kw"]) if site.deferrables else {},
        unfinished_kwh=lost_kwh(p, v),
    )
    return plan, Slack(surplus_kw=v["surplus_kw"], aux_short_kw=v["aux_short_kw"])


def reactive_series(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Fields of a plan that say what reactive power is planned; none where the site does not ask for it."""
    if not reactive.asked(s):
        return {}
    q = reactive.flows_kvar(s, v)
    lit = [p.site.pv[i].id for i in reactive.solar(s)]
    return {
        "bess_q_kvar": by_id([x.id for x in p.site.bess], q["bess"]),
        "pv_q_kvar": by_id(lit, q["pv"]),
        "genset_q_kvar": by_id([x.id for x in p.site.gensets], q["genset"]),
        "grid_q_kvar": series(q["grid"]),
        "q_short_kvar": series(q["missing"]),
        "poi_v_pu": series(voltage.expected_pu(p, s, v)),
        "poi_v_short_pu": series(voltage.missed_pu(p, s, v)),
    }


def lower_caps(p: PlanningProblem) -> bool:
    """Whether the import cap is lower than the contract's at some time."""
    return bool((p.import_cap_kw < p.site.grid.p_import_kw_max - 1e-9)[p.grid_available].any())


def import_limit_kw(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> FloatArray:
    """(T,) import up to which its cap holds and no demand charge bills more than is reckoned with [kW]."""
    out = np.where(p.grid_available, p.import_cap_kw, p.site.grid.p_import_kw_max)
    kvar = interval_kvar(p, s)[s.billed.of_step]
    if reactive.asked(s):
        kvar = (s.billed.totals(v["grid_kvar"][0]) / s.billed.hours_in())[s.billed.of_step]
    charges = [(p.months, v["peak_kw"], False)]
    for i, part in enumerate(demand_parts(p.site.tariff)):
        charges.append((p.demand_parts[i], v["part_peak_kw"][i], part.charge.apparent))
    for months, peaks, apparent in charges:
        for month, peak in zip(months, peaks, strict=True):
            if month.rate_per_kw > 0.0:
                room = np.sqrt(np.maximum(0.0, peak**2 - kvar**2)) if apparent else np.full(p.steps, peak)
                out = np.where(month.steps, np.minimum(out, room), out)
    return out


def modes(p: PlanningProblem) -> tuple[GridMode, ...]:
    """Grid mode assumed in each step."""
    return tuple(map((GridMode.ISLANDED, GridMode.GRID_TIED).__getitem__, p.grid_available.tolist()))


def missed(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """(T,) what a solution knowingly misses, by limit and unit."""
    found = poi.missed(s, v) | shed_limits.missed(p, s, v)
    return found | sources.missed(p, v) | strength.missed(s, v)


def forming(
    p: PlanningProblem, on: FloatArray, fed: Mapping[str, BoolArray] | None = None
) -> tuple[str, ...]:
    """Who forms the bus in each step; empty where nobody can. `fed`: who may be on it, if not all."""
    ready = {b.id: x.available and b.pcs.can_form for b, x in zip(p.site.bess, p.bess, strict=True)}
    able = {i: np.full(p.steps, can) & fed[i] if fed else np.full(p.steps, can) for i, can in ready.items()}
    able |= {g.id: row > 0.5 for g, row in zip(p.site.gensets, on, strict=True)}
    out = np.full(p.steps, "", dtype=object)
    for i in reversed(p.site.forming.islanded):  # the preferred one last, over the others
        if i in able:
            out[able[i] & p.islanded] = i
    out[p.grid_available] = p.site.grid.id
    return tuple(out.tolist())


def reserve_up(
    p: PlanningProblem, s: Structure, f: Mapping[str, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """(T,) upward reserve (required, held) as the plan stands, not as the solver booked it [kW]."""
    policy, site = p.site.reserve, p.site
    island = p.islanded
    served = p.load_kw.sum(axis=0) - f["shed"].sum(axis=0)
    operating = policy.load_ratio * served + policy.pv_ratio * f["pv"].sum(axis=0)
    required = np.where(island, operating, loss_of_grid_kw(p))
    rated = np.array([g.p_rated_kw for g in site.gensets]).reshape(-1, 1)
    running = (rated * f["on"]).sum(axis=0)
    held = np.where(island, running - f["genset"].sum(axis=0), running)
    tops = battery_top_kw(p, s, f["stored"])
    for b, unit in enumerate(site.bess):
        top, room = tops[b], p.bess[b].p_discharge_kw
        if "bess_kvar" in f:
            room = np.minimum(room, room_kw_array(unit.pcs, f["bess_kvar"][b])[0])
        if "bess_fed" in f:
            top = top * f["bess_fed"][b]
        islanded = np.minimum(top, room - f["bess"][b])
        tied = np.minimum(top, carried_kw(p)[b]) * float(unit.pcs.can_form)
        held = held + np.where(island, np.maximum(0.0, islanded), tied)
    return required, held


def marginal_value(p: PlanningProblem, s: Structure, stored: FloatArray) -> float:
    """Value of one more stored kWh at the end of the window, mean by capacity [money per kWh]."""
    if not p.site.bess:
        return 0.0
    tops = np.cumsum(s.once(widths), axis=1)
    size = tops[:, -1]
    piece = np.array([min(2, int(np.searchsorted(row, stored[b, -1] - 1e-6))) for b, row in enumerate(tops)])
    return float(p.terminal_per_kwh[np.arange(len(piece)), piece] @ size / size.sum())
