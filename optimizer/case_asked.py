"""What a case asks for beyond what a site may ask, looked up, checked and laid down as `CaseTerms`."""

import math
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from ems.timegrid import FloatArray
from optimizer.case_costs import Refusals, bent, pieces, refused
from optimizer.case_limits import EnergyLimit, Reserve, Responder
from optimizer.case_terms import Bend, Budget, CaseTerms, Kind, Lake, Product, Range, Ride, Share, Weight
from optimizer.case_units import Unit
from optimizer.case_values import Values
from optimizer.cases import Case, Grid, Load, Renewable
from optimizer.formulations.bends import FLAT_PER_H

SPAN_H = 1e-9  # steps that differ by less are equal


def terms_of(case: Case) -> CaseTerms:
    """Terms of a case whose series have been checked (`check_case`)."""
    return CaseTerms(
        rides=tuple(_ride(x, case) for x in case.units if _rides(x)),
        lakes=tuple(_lakes(case)),
        bends=tuple(_bend(x) for x in case.units if bent(x.cost, x.p_min_kw, x.p_max_kw)),
        ranges=tuple(_ranges(case)),
        products=tuple(_product(x, case) for x in case.reserves),
        budgets=tuple(_budget(x, case) for x in case.energy_limits),
        hard=case.hard,
        may_shed=tuple(x.id for x in case.loads if x.interruptible),
        must_take=tuple(x.id for x in renewables(case) if x.must_take),
        bus_stands=not case.forming,
    )


def check_case(case: Case) -> None:
    """Refuse every series of the wrong length or with a value outside its bounds, in one message.

    Raises
    ------
    BadValue
    """
    found = Refusals()
    found.try_to(case.step_hours)
    found.done()
    grid = Grid() if case.grid is None else case.grid
    rows: list[tuple[str, Values, float]] = [
        ("pv_kw", case.pv_kw, 0.0), ("reserve_kw", case.reserve_kw, 0.0),
        ("grid.import_per_kwh", grid.import_per_kwh, -1e9),
        ("grid.export_per_kwh", grid.export_per_kwh, -1e9),
        ("grid.import_kw_max", grid.import_kw_max, 0.0), ("grid.export_kw_max", grid.export_kw_max, 0.0),
    ]  # fmt: skip
    rows += [(f"load {x.id}: kw", x.kw, -1e9) for x in case.loads]
    for x in case.renewables:
        rows += [(f"renewable {x.id}: kw", x.kw, 0.0), (f"renewable {x.id}: min_kw", x.min_kw, 0.0)]
        rows += [(f"renewable {x.id}: cost_per_kwh", x.cost_per_kwh, -1e9)]
    for s in case.storages:
        rows += [(f"storage {s.id}: {key}", getattr(s, key), 0.0) for key in BY_STEP]
    for u in case.units:
        for key in ("output_min_kw", "output_max_kw", "extra_per_kwh"):
            if (value := getattr(u, key)) is not None:
                rows.append((f"unit {u.id}: {key}", value, -1e9 if key == "extra_per_kwh" else 0.0))
    rows += [(f"reserve {x.id}: kw", x.kw, 0.0) for x in case.reserves]
    for key, values, low in rows:
        found.try_to(partial(case.series, key, values, low))
    flags = [(f"{x.id}: {key}", getattr(x, key)) for x in case.units for key in ("available", "must_run")]
    flags += [("grid.available", grid.available)]
    flags += [("demand window: steps", x.steps) for x in grid.demands]
    flags += [(f"energy limit {x.id}: steps", x.steps) for x in case.energy_limits]
    for key, given in flags:
        found.try_to(partial(case.flags, key, given))
    found.done()
    asked = case.running_ratio > 0.0 or bool(np.any(case.reserve_kw))
    if asked and case.flags("grid.available", grid.available).all() and case.grid is not None:
        allowed = "0 beside a grid that is always there: they are for islands; see Reserve(load_ratio, kw)"
        found.add("case", "running_ratio, reserve_kw", (case.running_ratio, case.reserve_kw), allowed)
    for do in (_check_units, _check_sources):
        do(case, found)
    for reserve in case.reserves:
        found.try_to(partial(_product, reserve, case))
    for limit in case.energy_limits:
        found.try_to(partial(_budget, limit, case))
    found.done()


BY_STEP = ("p_charge_kw", "p_discharge_kw", "soc_floor", "soc_ceiling", "inflow_kw")


def _check_units(case: Case, found: Refusals) -> None:
    """Ranges inside what a unit can do; equal steps for paths; commitment that does not contradict itself."""
    hours = case.step_hours()
    for x in case.units:
        what = f"unit {x.id}"
        found.try_to(partial(x.cost.points, x.p_min_kw, x.p_max_kw))
        low, high = _range_kw(x, case)
        outside = (low < x.p_min_kw - 1e-9) | (high > x.p_max_kw + 1e-9) | (low > high)
        if outside.any():
            t = int(np.argmax(outside))
            allowed = f"output_min_kw up to output_max_kw, both within {x.p_min_kw:g} to {x.p_max_kw:g}"
            found.add(what, f"output_min_kw, output_max_kw[{t}]", (float(low[t]), float(high[t])), allowed)
        if _rides(x) and np.ptp(hours) > SPAN_H:
            found.add(what, "start_up_path_kw, shut_down_path_kw", "unequal steps", "steps of one length")
        found.try_to(partial(check_commitment, x, case))


def check_commitment(x: Unit, case: Case) -> None:
    """Refuse a unit that would have to be on and off at once."""
    there, must = case.flags(f"{x.id}: available", x.available), case.flags(f"{x.id}: must_run", x.must_run)
    begin_h = np.cumsum(case.step_hours()) - case.step_hours()
    bound = (x.state_h > 0.0) & (begin_h < x.min_up_h - x.state_h - 1e-6)
    rests = (x.state_h < 0.0) & (begin_h < x.min_down_h + x.state_h - 1e-6)
    for key, wrong in (("must_run", must & (~there | rests)), ("available", bound & ~there)):
        if wrong.any():
            t = int(np.argmax(wrong))
            allowed = "not on and off at once: see min_up_h, min_down_h"
            raise refused(f"unit {x.id}", f"{key}[{t}]", key == "must_run", allowed)


def _check_sources(case: Case, found: Refusals) -> None:
    for x in case.renewables:
        kw = case.series(f"renewable {x.id}: kw", x.kw)
        low = case.series(f"renewable {x.id}: min_kw", x.min_kw)
        if (low > kw).any():
            t = int(np.argmax(low > kw))
            found.add(f"renewable {x.id}", f"min_kw[{t}]", float(low[t]), f"at most kw = {kw[t]:g}")


def renewables(case: Case) -> list[Renewable]:
    """What comes as it comes: `pv_kw`, the case's own, and loads below nothing."""
    out = [Renewable(id="pv", kw=case.pv_kw)] if np.any(case.pv_kw) else []
    below = [(x, -np.minimum(case.series(f"load {x.id}: kw", x.kw), 0.0)) for x in case.loads]
    taken = [Renewable(id=f"{x.id} below 0", kw=kw, must_take=True) for x, kw in below if kw.any()]
    return [*out, *case.renewables, *taken]


def named_units(case: Case) -> set[str]:
    """Units that are told apart because a reserve or a limit names them."""
    out = {i for x in case.energy_limits for i in x.ids()}
    return out | {u.id for u in case.units} if case.reserves else out


def _rides(x: Unit) -> bool:
    return bool(x.shut_down_path_kw) or any(x.paths)


def _ride(x: Unit, case: Case) -> Ride:
    kinds, paths = x.kinds, x.paths
    if len(set(paths)) == 1:  # one way up, whatever the rest
        kinds, paths = ((None, 0.0),), paths[:1]
    return Ride(
        id=x.id,
        up_kw=paths,
        rest_h=tuple(math.inf if end is None else end for end, _ in kinds),
        down_kw=x.shut_down_path_kw,
        per_kwh=x.path_per_kwh,
        off_h=-x.state_h if x.state_h < 0.0 else None,
    )


def _lakes(case: Case) -> Iterator[Lake]:
    for x in case.storages:
        inflow = case.step_hours() * case.series(f"storage {x.id}: inflow_kw", x.inflow_kw)
        if inflow.any() or x.cyclic:
            yield Lake(id=x.id, inflow_kwh=tuple(inflow.tolist()) if inflow.any() else (), cyclic=x.cyclic)


def _bend(x: Unit) -> Bend:
    least, widths, slopes = pieces(x.cost, x.p_min_kw, x.p_max_kw)
    return Bend(id=x.id, least_per_h=least - FLAT_PER_H, width_kw=widths, slope=slopes)


def _range_kw(x: Unit, case: Case) -> tuple[FloatArray, FloatArray]:
    low = x.p_min_kw if x.output_min_kw is None else x.output_min_kw
    high = x.p_max_kw if x.output_max_kw is None else x.output_max_kw
    return case.series(f"unit {x.id}: output_min_kw", low), case.series(f"unit {x.id}: output_max_kw", high)


def _ranges(case: Case) -> list[Range]:
    out = []
    for x in case.units:
        low, high = _range_kw(x, case)
        price = case.series(f"unit {x.id}: extra_per_kwh", x.extra_per_kwh)
        found = Range(
            kind=Kind.UNIT,
            id=x.id,
            low_kw=tuple(low.tolist()) if x.output_min_kw is not None else (),
            high_kw=tuple(high.tolist()) if x.output_max_kw is not None else (),
            per_kwh=tuple(price.tolist()) if price.any() else (),
        )
        out.append(found)
    for r in case.renewables:
        low = case.series(f"renewable {r.id}: min_kw", r.min_kw)
        price = case.series(f"renewable {r.id}: cost_per_kwh", r.cost_per_kwh)
        out.append(
            Range(
                kind=Kind.RENEWABLE,
                id=r.id,
                low_kw=tuple(low.tolist()) if low.any() else (),
                per_kwh=tuple(price.tolist()) if price.any() else (),
            )
        )
    return [x for x in out if x.low_kw or x.high_kw or x.per_kwh]


def _kinds(case: Case) -> Mapping[str, Kind]:
    """What each id stands for."""
    out = {x.id: Kind.UNIT for x in case.units} | {x.id: Kind.STORAGE for x in case.storages}
    out |= {f"{x.id}.charge": Kind.CHARGE for x in case.storages}
    out |= {x.id: Kind.RENEWABLE for x in renewables(case)} | {x.id: Kind.LOAD for x in case.loads}
    if case.grid is not None:
        out |= {"grid": Kind.GRID, "grid.export": Kind.EXPORT}
    return out


def _product(x: Reserve, case: Case) -> Product:
    what, load = f"reserve {x.id}", np.zeros(case.steps)
    for y in case.loads:
        load = load + np.maximum(case.series(f"load {y.id}: kw", y.kw), 0.0)
    known = {y.id: y for y in case.reserves}
    for i in x.counts:
        if i not in known or i == x.id or known[i].down is not x.down:
            raise refused(what, "counts", i, "another reserve of the same direction")
    responders = x.responders
    ids = [*(y.id for y in case.units), *(y.id for y in case.storages)]
    if not responders:
        responders = tuple(Responder(id=i) for i in ids)
    shares = [share for y in responders for share in _shares(x, y, case)]
    price = case.short_per_kwh if x.short_per_kwh is None else x.short_per_kwh
    return Product(
        id=x.id,
        down=x.down,
        asked_kw=tuple((case.series(f"{what}: kw", x.kw, 0.0) + x.load_ratio * load).tolist()),
        renewable_ratio=x.renewable_ratio if renewables(case) else 0.0,
        largest=x.largest,
        counts=x.counts,
        beside_ramp=x.beside_ramp,
        hold_h=x.hold_h,
        short_per_kwh=price,
        shares=tuple(shares),
    )


def _shares(x: Reserve, y: Responder, case: Case) -> list[Share]:
    """What one responder may hold, on line and off line."""
    what, kind = f"reserve {x.id}: responder {y.id}", _kinds(case).get(y.id)
    if kind is None or kind in (Kind.CHARGE, Kind.EXPORT) or (kind is Kind.LOAD and x.down):
        raise refused(what, "id", y.id, "a unit, a storage, a renewable, 'grid', or upwards a load")
    if y.offline_kw and (kind is not Kind.UNIT or x.down):
        raise refused(what, "offline_kw", y.offline_kw, "0 but for units, upwards")
    room, top = _room(x, kind, y.id, case)
    most = np.minimum(case.series(f"{what}: kw_max", y.kw_max, 0.0, math.inf), top)
    out = Share(
        kind=kind, id=y.id, most_kw=tuple(most.tolist()), room_kw=tuple(room.tolist()), per_kwh=y.per_kw_h
    )
    if not y.offline_kw:
        return [out]
    off = np.full(case.steps, y.offline_kw)
    return [
        out,
        Share(
            kind=kind, id=y.id, most_kw=tuple(off.tolist()), room_kw=out.room_kw, per_kwh=y.per_kw_h,
            offline=True,
        ),
    ]  # fmt: skip


def _room(x: Reserve, kind: Kind, asset: str, case: Case) -> tuple[FloatArray, FloatArray]:
    """(T,) limit of what is given and held together, and the most that is ever held [kW]."""
    every = np.ones(case.steps)
    match kind:
        case Kind.UNIT:
            unit = next(u for u in case.units if u.id == asset)
            rate = unit.ramp_down_kw_h if x.down else unit.ramp_up_kw_h
            reach = math.inf if rate is None or x.within_h is None else rate * x.within_h
            return unit.p_max_kw * every, min(unit.p_max_kw, reach) * every
        case Kind.STORAGE:
            store = next(s for s in case.storages if s.id == asset)
            into = case.series(f"storage {asset}: p_charge_kw", store.p_charge_kw)
            out_of = case.series(f"storage {asset}: p_discharge_kw", store.p_discharge_kw)
            return (into if x.down else out_of), into + out_of
        case Kind.GRID:
            grid = Grid() if case.grid is None else case.grid
            there = case.flags("grid.available", grid.available)
            buy = np.where(there, case.series("grid.import_kw_max", grid.import_kw_max), 0.0)
            sell = np.where(there, case.series("grid.export_kw_max", grid.export_kw_max), 0.0)
            return (sell if x.down else buy), buy + sell
        case Kind.RENEWABLE:
            source = next(r for r in renewables(case) if r.id == asset)
            kw = case.series(f"renewable {asset}: kw", source.kw)
            return (-case.series(f"renewable {asset}: min_kw", source.min_kw) if x.down else kw), kw
        case _:
            load: Load = next(y for y in case.loads if y.id == asset)
            kw = np.maximum(case.series(f"load {asset}: kw", load.kw), 0.0)
            return kw, kw


def _budget(x: EnergyLimit, case: Case) -> Budget:
    what, kinds = f"energy limit {x.id}", _kinds(case)
    if unknown := sorted(x.ids() - kinds.keys()):
        raise refused(what, "ids", unknown, f"ids of the case: {', '.join(sorted(kinds))}")
    others = {*x.per_h, *x.per_start, *x.per_cost}
    if wrong := sorted(i for i in others if kinds[i] is not Kind.UNIT):
        raise refused(what, "per_h, per_start, per_cost", wrong, "units")
    weights = tuple(
        Weight(
            kind=kinds[i], id=i.removesuffix(".charge") if kinds[i] is Kind.CHARGE else i,
            per_kwh=x.of.get(i, 0.0), per_h=x.per_h.get(i, 0.0), per_start=x.per_start.get(i, 0.0),
            per_cost=x.per_cost.get(i, 0.0),
        )
        for i in sorted(x.ids())
    )  # fmt: skip
    steps = case.flags(f"{what}: steps", x.steps)
    return Budget(
        id=x.id, steps=tuple(steps.tolist()), least=x.least, most=x.most, short_cost=x.short_cost,
        over_cost=x.over_cost, weights=weights,
    )  # fmt: skip
