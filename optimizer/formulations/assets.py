"""Power of the assets of a case by kind and id, for families that count or hold it."""

from optimizer.algebra import Expr, Model
from optimizer.case_terms import Kind
from optimizer.fleets import machines
from optimizer.formulations.battery import flow, net
from optimizer.structure import Structure


def unit_index(s: Structure, unit: str) -> int:
    """Row of a unit that is counted alone."""
    return next(n for n, u in enumerate(machines(s)) if u.id == unit)


def battery_index(s: Structure, storage: str) -> int:
    """Row of a storage."""
    return next(b for b, x in enumerate(s.site.bess) if x.id == storage)


def source_index(s: Structure, source: str) -> int:
    """Row of a renewable."""
    return next(i for i, x in enumerate(s.site.pv) if x.id == source)


def feeder_index(s: Structure, load: str) -> int:
    """Row of a load."""
    return next(i for i, x in enumerate(s.site.feeders) if x.id == load)


def above(m: Model, n: int, t: int) -> Expr:
    """Output of a unit above its minimum [kW]."""
    return sum(m["above_kw"][n, i, t] for i in range(m.shapes["above_kw"][1]))


def power(m: Model, s: Structure, kind: Kind, asset: str, t: int) -> Expr:
    """What an asset gives; of a grid the import, of a load what is not served of it [kW]."""
    match kind:
        case Kind.UNIT:
            n = unit_index(s, asset)
            return machines(s)[n].p_min_kw * m["on"][n, t] + above(m, n, t)
        case Kind.STORAGE:
            return flow(m, "discharge_kw", battery_index(s, asset), t)
        case Kind.CHARGE:
            return flow(m, "charge_kw", battery_index(s, asset), t)
        case Kind.RENEWABLE:
            return m["pv_kw"][source_index(s, asset), t]
        case Kind.GRID:
            return m["import_kw"][t]
        case Kind.EXPORT:
            return m["export_kw"][t]
        case Kind.LOAD:
            return m["shed_kw"][feeder_index(s, asset), t]


def net_power(m: Model, s: Structure, kind: Kind, asset: str, t: int) -> Expr:
    """The same, with what goes the other way taken off [kW]."""
    if kind is Kind.STORAGE:
        return net(m, battery_index(s, asset), t)
    if kind is Kind.GRID:
        return m["import_kw"][t] - m["export_kw"][t]
    return power(m, s, kind, asset, t)
