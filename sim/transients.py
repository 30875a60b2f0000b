"""What frequency and voltage did in the islands of a run, between its ticks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ems.points import GensetState
from ems.site import Site
from plant_models.state import PlantFlows
from plant_models.transient import Former, Piece, Wave, converter_of, sets_of, wave_of
from sim.rig_row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Ride:
    """An island, until its bus dies, the grid takes over or another kind of source forms."""

    from_s: float
    wave: Wave


def rides(site: Site, rows: Iterable[Row], more_kvar: Callable[[float], float] | None = None) -> list[Ride]:
    """Frequency and voltage of each island in a log.

    Parameters
    ----------
    rows : ticks that follow each other; a step of load takes place at the beginning of one.
    more_kvar : reactive power by time beside that of the feeders [kvar]: motors that start.
    """
    out: list[Ride] = []
    pieces: list[Piece] = []
    before: tuple[float, float] | None = None
    begun_s, by = 0.0, ""
    last: PlantFlows | None = None
    for row in rows:
        kind = _kind(site, row.flows)
        if kind != by and pieces:
            out.append(Ride(from_s=begun_s, wave=wave_of(pieces, before)))
            pieces = []
        if kind and not pieces:
            begun_s, before = row.t_s, _steady(site, kind, last)
        if kind:
            piece = _piece(site, kind, row.flows)
            more = 0.0 if more_kvar is None else more_kvar(row.t_s)
            pieces.append(replace(piece, q_kvar=piece.q_kvar + more))
        by, last = kind, row.flows
    if pieces:
        out.append(Ride(from_s=begun_s, wave=wave_of(pieces, before)))
    return out


def _kind(site: Site, f: PlantFlows) -> str:
    """A battery's name, "sets", or nothing: no island, or its bus was dead for a while."""
    if f.grid_closed or f.forming is None or f.dead_s > 0.0:
        return ""
    return f.forming if f.forming in {b.id for b in site.bess} else "sets"


def _steady(site: Site, kind: str, last: PlantFlows | None) -> tuple[float, float] | None:
    """What the source carried before: nothing on a dead bus; None: as now."""
    if last is None:
        return None
    if not last.bus_alive or last.dead_s > 0.0:
        return 0.0, 0.0
    return _power(_on(site, last), kind, last)


def _on(site: Site, f: PlantFlows) -> list[str]:
    return [g.id for g in site.gensets if f.genset_state[g.id] is GensetState.RUNNING]


def _power(on: Iterable[str], kind: str, f: PlantFlows) -> tuple[float, float]:
    if kind != "sets":
        return f.bess_p_kw[kind], f.bess_q_kvar[kind]
    sets = list(on)
    return sum(f.genset_p_kw[g] for g in sets), sum(f.genset_q_kvar[g] for g in sets)


def _piece(site: Site, kind: str, f: PlantFlows) -> Piece:
    on = _on(site, f)
    p_kw, q_kvar = _power(on, kind, f)
    former: Former
    if kind == "sets":
        former = sets_of(g for g in site.gensets if g.id in on)
    else:
        former = converter_of(next(b for b in site.bess if b.id == kind))
    return Piece(dt_s=f.dt_s, p_kw=p_kw, q_kvar=q_kvar, former=former)
