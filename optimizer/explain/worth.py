"""What one unit more of a limit would save, with the plan's commitment: solved again with one unit more."""

import numpy as np

from ems.explanation import ReasonCode, Worth
from optimizer.explain.bench import Bench
from optimizer.explain.changes import with_battery_room
from optimizer.explain.ground import Ground
from optimizer.explain.posed import Change, changed

AT_CAP_KW = 0.05


def explain_worths(ground: Ground, steps: int) -> list[Worth]:
    """Import cap by step and in all of them, energy and power of each battery, each tank that is known."""
    return [*_import_cap(ground, steps), *_batteries(ground), *_tanks(ground)]


def _saved(bench: Bench, objective: float | None) -> float:
    return 0.0 if objective is None else bench.base.objective - objective


def _import_cap(ground: Ground, steps: int) -> list[Worth]:
    """A cap that does not bind in a step is worth nothing there: the problem is convex."""
    b, p = ground.bench, ground.layout.problem
    columns = b.compiled.form.columns["import_kw"].astype(np.int64)
    cap = p.import_cap_kw
    at_cap = p.grid_available & (b.base.x[columns] >= cap - AT_CAP_KW)
    out, key = [], "grid.p_import_kw_max"
    for t in np.flatnonzero(at_cap[:steps]):
        point = b.with_high(columns[[t]], 1.0)
        saving = _saved(b, None if point is None else point.objective)
        out.append(Worth(key=key, unit="kW", step=int(t), saving_cost=saving))
    point = b.with_high(columns[p.grid_available], 1.0)
    saving = _saved(b, None if point is None else point.objective)
    return [Worth(key=key, unit="kW", step=None, saving_cost=saving), *out]


def _batteries(ground: Ground) -> list[Worth]:
    out = []
    for i, unit in enumerate(ground.posed.site.bess):
        now = ground.posed.condition.bess.get(unit.id)
        if now is None or not now.available:
            continue
        key = f"bess.{unit.id}.battery.energy_kwh"
        change = Change(key=key, code=ReasonCode.LIMIT, words="", apply=with_battery_room(i, 1.0))
        layout = changed(ground.layout, ground.posed, change)
        point = Bench(layout.compiled, layout.filled, ground.bench.base.x, ground.bench.basis).base
        out.append(Worth(key=key, unit="kWh", step=None, saving_cost=_saved(ground.bench, point.objective)))
    return out


def _tanks(ground: Ground) -> list[Worth]:
    b, p = ground.bench, ground.layout.problem
    names = {name: i for i, name in enumerate(b.compiled.form.row_names)}
    out = []
    for i, unit in enumerate(ground.posed.site.gensets):
        if not np.isfinite(p.gensets[i].fuel_l):
            continue
        point = b.with_row(names[f"tank[{i}]"], 1.0)
        saving = _saved(b, None if point is None else point.objective)
        out.append(Worth(key=f"gensets.{unit.id}.tank_l", unit="L", step=None, saving_cost=saving))
    return out
