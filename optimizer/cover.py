"""Contingencies of a solution: what each would take away, and which sources stand ready for it, step by step.

Reckoned from powers and stored energy as the plan has them, not from what the solver booked as reserve: a
genset on load gives what is left to its rating, a battery what is left to its rating beside its reactive
power, its taper and the energy for the start of the next genset, the grid what is left to the import cap.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ems.timegrid import BoolArray, FloatArray
from optimizer.formulations import reactive, sources
from optimizer.formulations.contingency import sheddable
from optimizer.formulations.reserve import battery_top_kw
from optimizer.misses import SHOWN_KW
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from plant_models.pcs import room_kw_array

SHEDDING, LOAD_TRIP = "load shedding", "largest load trip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """One contingency over the window, (T,) [kW]. `where`: the steps in which it is asked for."""

    name: str
    where: BoolArray
    lost_kw: FloatArray
    by_kw: Mapping[str, FloatArray]  # what each source can give, by asset

    @property
    def cover_kw(self) -> FloatArray:
        """(T,) what all of them can give [kW]."""
        out: FloatArray = sum(self.by_kw.values(), np.zeros(len(self.lost_kw)))
        return out

    @property
    def short_kw(self) -> FloatArray:
        """(T,) what is missing [kW]."""
        return np.where(self.where, np.maximum(0.0, self.lost_kw - self.cover_kw), 0.0)

    def words(self, t: int) -> str:
        """The sources that cover it in a step, the largest first, as few as it takes."""
        parts, left = [], float(self.lost_kw[t])
        for asset, kw in sorted(self.by_kw.items(), key=lambda item: -float(item[1][t])):
            if left > SHOWN_KW and kw[t] > SHOWN_KW:
                parts.append(f"{asset} {min(left, float(kw[t])):.0f} kW")
                left -= float(kw[t])
        return " + ".join(parts)


@dataclass(frozen=True, slots=True)
class Ready:
    """Power of every source and its headroom, (T,) by asset [kW]."""

    power_kw: dict[str, FloatArray]
    up_kw: dict[str, FloatArray]
    down_kw: dict[str, FloatArray]


def ready(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Ready:
    """Gensets on load and batteries of a solution, machines told apart."""
    power, up, down = dict[str, FloatArray](), dict[str, FloatArray](), dict[str, FloatArray]()
    for g, unit in enumerate(p.site.gensets):
        above = v["above_kw"][g].sum(axis=0)
        power[unit.id] = v["on"][g] * unit.p_min_kw + above
        up[unit.id] = v["on"][g] * unit.p_rated_kw - power[unit.id]
        down[unit.id] = above
    if not p.site.bess:
        return Ready(power, up, down)
    net = v["discharge_kw"].sum(axis=1) - v["charge_kw"].sum(axis=1)
    kvar = reactive.flows_kvar(s, v)["bess"] if reactive.asked(s) else np.zeros(net.shape)
    fed = sources.fed(p, s, v)
    top = battery_top_kw(p, s, v["stored_kwh"])
    for b, (x, start) in enumerate(zip(p.site.bess, p.bess, strict=True)):
        on_bus = fed[x.id].astype(np.float64) if fed else np.ones(s.steps)
        gives, takes = room_kw_array(x.pcs, kvar[b])
        power[x.id] = net[b]
        up[x.id] = on_bus * np.maximum(
            0.0, np.minimum(top[b], np.minimum(start.p_discharge_kw, gives) - net[b])
        )
        full = x.battery.soc_max * x.battery.energy_kwh - v["stored_kwh"][b]
        room = np.minimum(np.minimum(start.p_charge_kw, takes) + net[b], full / s.hold_h)
        down[x.id] = on_bus * np.maximum(0.0, room)
    return Ready(power, up, down)


def covers(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> list[Cover]:
    """Each contingency the site asks for, in the steps in which it does."""
    policy = p.site.reserve
    single = policy.n_minus_1 or policy.n_minus_1_tied or policy.pv_drop_ratio > 0.0
    if not (s.formulation.reserve and (single or policy.motor_start_kw or policy.load_trip_kw)):
        return []
    r, island, out = ready(p, s, v), p.islanded, list[Cover]()
    imported = v["import_kw"] - v["export_kw"]
    poi = {p.site.grid.id: np.maximum(0.0, p.import_cap_kw - imported)}
    solar = v["pv_kw"] if p.site.pv else np.zeros((0, s.steps))
    for kinds, where, grid in (
        (policy.n_minus_1, island, dict[str, FloatArray]()),
        (policy.n_minus_1_tied, p.grid_available, poi),
    ):
        all_up = r.up_kw | grid
        for kind, units in (("genset", p.site.gensets), ("bess", p.site.bess)):
            for unit in units if kind in kinds else ():
                rest = {i: kw for i, kw in all_up.items() if i != unit.id}
                out.append(
                    Cover(name=f"loss of {unit.id}", where=where, lost_kw=r.power_kw[unit.id], by_kw=rest)
                )
        for i, plant in enumerate(p.site.pv if "pv" in kinds else ()):
            out.append(Cover(name=f"loss of {plant.id}", where=where, lost_kw=solar[i], by_kw=all_up))
        if policy.pv_drop_ratio > 0.0 and len(solar):
            lost = policy.pv_drop_ratio * solar.sum(axis=0)
            name = f"drop of {100.0 * policy.pv_drop_ratio:.0f} % of the PV"
            out.append(Cover(name=name, where=where, lost_kw=lost, by_kw=all_up))
    if "import" in policy.n_minus_1_tied:
        out.append(_loss_of_import(p, v, r, imported))
    if policy.motor_start_kw:
        lost = np.full(s.steps, policy.motor_start_kw)
        out.append(Cover(name="largest motor start", where=island, lost_kw=lost, by_kw=r.up_kw))
    if policy.load_trip_kw:
        lost = np.full(s.steps, policy.load_trip_kw)
        out.append(Cover(name=LOAD_TRIP, where=island, lost_kw=lost, by_kw=r.down_kw))
    return out


def _loss_of_import(p: PlanningProblem, v: Mapping[str, FloatArray], r: Ready, imported: FloatArray) -> Cover:
    """Gensets on load and batteries that can form carry what was imported, beside what is shed."""
    follows = {b.id for b in p.site.bess if not b.pcs.can_form}
    by = {i: kw for i, kw in r.up_kw.items() if i not in follows}
    at = sheddable(p.site)
    if at:
        by[SHEDDING] = (p.load_kw[at] - v["shed_kw"][at]).sum(axis=0)
    return Cover(name="loss of import", where=p.grid_available, lost_kw=np.maximum(0.0, imported), by_kw=by)


@dataclass(frozen=True, slots=True)
class Worst:
    """In each step the contingency with the least margin; an empty name where none is asked for."""

    name: tuple[str, ...]
    lost_kw: FloatArray
    cover_kw: FloatArray
    by: tuple[str, ...]


def worst(found: list[Cover], steps: int) -> Worst:
    """Over all contingencies of a solution."""
    if not found:
        return Worst((), np.zeros(0), np.zeros(0), ())
    margin = np.array([np.where(c.where, c.cover_kw - c.lost_kw, np.inf) for c in found])
    names, lost, cover, by = [""] * steps, np.zeros(steps), np.zeros(steps), [""] * steps
    for t in range(steps):
        if np.isfinite(margin[:, t].min()):
            c = found[int(np.argmin(margin[:, t]))]
            names[t], lost[t], cover[t], by[t] = c.name, c.lost_kw[t], c.cover_kw[t], c.words(t)
    return Worst(tuple(names), lost, cover, tuple(by))


def sentences(p: PlanningProblem, found: list[Cover]) -> list[str]:
    """For the notes of a plan: each contingency covered throughout, or short by how much."""
    out = []
    for c in found:
        if not c.where.any() or c.name == LOAD_TRIP:  # that one the family says itself
            continue
        mode, short = "islanded" if (c.where & p.islanded).any() else "grid-tied", c.short_kw
        if short.max() <= SHOWN_KW:
            out.append(f"{c.name}: covered in every {mode} step")
            continue
        t = int(np.argmax(short))
        out.append(
            f"{c.name}: short by up to {short[t]:.1f} kW at {p.grid.starts()[t]:%d %H:%M} UTC, "
            f"in {int((short > SHOWN_KW).sum())} of {int(c.where.sum())} {mode} steps"
        )
    return out
