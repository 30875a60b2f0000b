"""A forecast held against what is measured now: all in another unit, or nothing where something flows."""

from ems.condition import PlantCondition
from ems.errors import DataError
from ems.site import Site
from ems.timegrid import FloatArray

FLOWS_RATIO = 0.05  # of a peak or rating must be measured before it says anything
TEN_LOW, TEN_HIGH = 7.0, 13.0  # times what is measured, or a part of it
ALIKE_MIN = 2  # feeders of one factor: one alone may have been switched off or on a moment ago


def held_against_now(
    site: Site, condition: PlantCondition, load: FloatArray, pv: FloatArray, notes: list[str]
) -> FloatArray:
    """(F, T) load [kW], where none was foreseen and some is measured as measured, with a note.

    Parameters
    ----------
    load, pv : (F, T) and (P, T) [kW], in the order of the site.

    Raises
    ------
    DataError : the first step is about ten times what is measured, or a tenth of it, at every feeder; no sun
        at all is foreseen while PV gives power.
    """
    for p, row in zip(site.pv, pv, strict=True):
        now_kw = condition.pv_kw.get(p.id, 0.0)
        if now_kw > FLOWS_RATIO * p.p_ac_kw and not row.any():
            raise DataError(
                f"forecast pv_kw[{p.id}] is 0 in all {len(row)} steps, {now_kw:.0f} kW are given now; "
                "allowed: some sun, at least in the first step"
            )
    out, factors = load.copy(), {}
    devices = {d.feeder for d in site.deferrables if d.alone_on_feeder}  # planned, not foreseen
    for n, f in enumerate(site.feeders):
        now_kw = condition.feeder_kw.get(f.id, 0.0)
        closed = condition.feeder_closed.get(f.id, True)
        if now_kw < FLOWS_RATIO * f.p_peak_kw or not closed or f.id in devices:
            continue
        if not load[n].any():
            out[n] = now_kw
            notes.append(
                f"{f.id}: no load at all is foreseen, {now_kw:.0f} kW are measured now: taken as measured"
            )
        else:
            factors[f.id] = float(load[n, 0] / now_kw)
    _refuse_one_factor(factors, notes)
    return out


def _refuse_one_factor(factors: dict[str, float], notes: list[str]) -> None:
    """All feeders by one factor is another unit; one alone is told."""
    for name, low, high in (("ten times", TEN_LOW, TEN_HIGH), ("a tenth of", 1 / TEN_HIGH, 1 / TEN_LOW)):
        alike = [a for a, x in factors.items() if low <= x <= high]
        if len(alike) >= ALIKE_MIN and len(alike) == len(factors):
            raise DataError(
                f"forecast load_kw of {', '.join(alike)} begins at {name} what is measured now; allowed: "
                f"1/{TEN_LOW:g} to {TEN_LOW:g} times of it at one feeder at least (another unit?)"
            )
        notes.extend(f"{a}: {name} what is measured now is foreseen: another unit?" for a in alike)
