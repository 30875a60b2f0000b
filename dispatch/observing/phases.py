"""The three phases of a meter, genset or converter: what the worst one carries beyond a third of the total.

All sources that are steered are balanced, so that no move of theirs changes this difference, and none of it
echoes in a command. A limit for the worst phase is therefore one for the total, less three times what that
phase carries more. Readings that are missing or do not make the total are no readings: what was known counts
for a few seconds more, then the declared margin, or what was known last where that is more.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.layout import Layout
from dispatch.vocabulary import Alarm
from ems.frozen import replace
from ems.phases import CURRENT_OF_PHASE, PHASES, POWER_OF_PHASE, PhaseParams
from ems.telemetry import Snapshot

HOLD_S = 3.0  # a reading that is lost for so long changes nothing yet
SUM_RATIO = 0.05  # of the rating: so far the phases may be from their total
DEAD_PU = 0.5  # a lower voltage makes no current: the nominal one counts
COS_ASSUMED = 0.95  # of each phase, where no reading tells its reactive power


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """One asset's phases, against its total. Positive powers are into the bus, at the POI import."""

    more_kw: float  # three times what the phase that gives most gives beyond a third
    less_kw: float  # three times what the phase that gives least is short of a third
    most_kw: float = math.inf  # highest total at which no phase is over its current
    least_kw: float = -math.inf  # and the lowest
    at_s: float = 0.0  # when they were read
    lost: bool = False  # not read: the declared margin, or more where more was known last


def phases_now(layout: Layout, before: Mapping[str, Phases], snapshot: Snapshot) -> Mapping[str, Phases]:
    """Phases of every asset that tells them, by asset."""
    now_s = snapshot.monotonic_s
    out = {}
    for asset, params in layout.phased.items():
        read, known = _read(layout, params, asset, snapshot), before.get(asset)
        if read is None and known is not None and not known.lost and now_s - known.at_s < HOLD_S:
            read = known
        out[asset] = _lost(layout, params, known, now_s) if read is None else read
    return out


def phase_alarms(layout: Layout, phases: Mapping[str, Phases]) -> tuple[Alarm, ...]:
    """Phases that are not read, and gensets whose phases are too far apart."""
    out = [
        Alarm(
            code="phases.lost",
            asset=a,
            text=f"{a}: {max(p.more_kw, p.less_kw):.0f} kW are kept free instead",
        )
        for a, p in phases.items()
        if p.lost
    ]
    for g, params in layout.gensets.items():
        apart = unbalance_ratio(layout, phases, (g,))
        limit = None if params.phases is None else params.phases.unbalance_ratio_max
        if apart is not None and limit is not None:
            out.append(
                Alarm(
                    code="genset.phase.unbalance",
                    asset=g,
                    text=f"{g}: the phases are {100.0 * apart:.0f} % of a third of the rating apart",
                    value=apart,
                    limit=limit,
                )
            )
    return tuple(out)


def unbalance_ratio(
    layout: Layout, phases: Mapping[str, Phases], sets: tuple[str, ...], without: str | None = None
) -> float | None:
    """Highest less lowest phase of gensets that share it, of a third of their rating; None: not read.

    A set among them that is not read has its share of it all the same, by its rating.
    """
    rated_kw = {g: layout.gensets[g].p_rated_kw for g in sets if g in phases}
    known = {g: phases[g] for g in rated_kw if not phases[g].lost}
    left_kw = sum(kw for g, kw in rated_kw.items() if g != without)
    if not known or left_kw <= 0.0:
        return None
    apart_kw = sum(p.more_kw + p.less_kw for p in known.values())
    return apart_kw * sum(rated_kw.values()) / sum(rated_kw[g] for g in known) / left_kw


def _read(layout: Layout, params: PhaseParams, asset: str, snapshot: Snapshot) -> Phases | None:
    total_kw = snapshot.value(layout.p[asset])
    if total_kw is None:
        return None
    kva = None if params.i_a_max is None else _apparent_kva(layout, asset, snapshot)
    powers_kw = _three(snapshot, asset, POWER_OF_PHASE)
    if powers_kw is None and not params.worst and kva is not None:  # of one cosine: its current is held
        powers_kw = [total_kw * s / sum(kva) for s in kva] if sum(kva) > 0.0 else [0.0] * len(PHASES)
    if powers_kw is None or abs(math.fsum(powers_kw) - total_kw) > SUM_RATIO * _rated_kw(layout, asset):
        return None
    beyond_kw = [kw - math.fsum(powers_kw) / 3.0 for kw in powers_kw]
    most_kw, least_kw = math.inf, -math.inf
    if params.i_a_max is not None:
        rooms_kw = _rooms_kw(layout, params.i_a_max, asset, snapshot, powers_kw, kva)
        most_kw = 3.0 * min(room - u for room, u in zip(rooms_kw, beyond_kw, strict=True))
        least_kw = -3.0 * min(room + u for room, u in zip(rooms_kw, beyond_kw, strict=True))
    return Phases(
        more_kw=3.0 * max(beyond_kw),
        less_kw=-3.0 * min(beyond_kw),
        most_kw=most_kw,
        least_kw=least_kw,
        at_s=snapshot.monotonic_s,
    )


def _rooms_kw(
    layout: Layout,
    i_a_max: float,
    asset: str,
    snapshot: Snapshot,
    powers_kw: list[float],
    kva: list[float] | None,
) -> list[float]:
    """Active power that each phase's current leaves beside its reactive power [kW]."""
    limits_kva = [i_a_max * kv for kv in _phase_kv(layout, snapshot)]
    if kva is not None:
        squares = [max(0.0, s * s - p * p) for s, p in zip(kva, powers_kw, strict=True)]
    elif (kvar := snapshot.value(f"{asset}.q_kvar")) is not None:
        squares = [(kvar / 3.0) ** 2] * 3
    else:
        return [COS_ASSUMED * s for s in limits_kva]
    return [math.sqrt(max(0.0, s * s - q)) for s, q in zip(limits_kva, squares, strict=True)]


def _lost(layout: Layout, params: PhaseParams, known: Phases | None, now_s: float) -> Phases:
    """The declared margin. Where more was known last, or less room, it is no looser than that."""
    most_kw = math.inf
    if params.i_a_max is not None:
        kv = layout.site.grid.v_nominal_v / math.sqrt(3.0) / 1000.0
        most_kw = max(0.0, 3.0 * COS_ASSUMED * params.i_a_max * kv - params.margin_kw)
    margin = Phases(
        more_kw=params.margin_kw,
        less_kw=params.margin_kw,
        most_kw=most_kw,
        least_kw=-most_kw,
        at_s=now_s,
        lost=True,
    )
    if known is None:
        return margin
    return replace(
        margin,
        more_kw=max(margin.more_kw, known.more_kw),
        less_kw=max(margin.less_kw, known.less_kw),
        most_kw=min(margin.most_kw, known.most_kw),
        least_kw=max(margin.least_kw, known.least_kw),
    )


def _three(snapshot: Snapshot, asset: str, names: tuple[str, ...]) -> list[float] | None:
    values = [v for n in names if (v := snapshot.value(f"{asset}.{n}")) is not None]
    return values if len(values) == len(PHASES) else None


def _apparent_kva(layout: Layout, asset: str, snapshot: Snapshot) -> list[float] | None:
    amps = _three(snapshot, asset, CURRENT_OF_PHASE)
    return None if amps is None else [a * kv for a, kv in zip(amps, _phase_kv(layout, snapshot), strict=True)]


def _phase_kv(layout: Layout, snapshot: Snapshot) -> list[float]:
    """Voltage of each phase to neutral [kV]: its own reading, that of all, or the nominal one."""
    grid = layout.site.grid
    all_pu = snapshot.value(f"{grid.id}.v_pu")
    nominal_kv = grid.v_nominal_v / math.sqrt(3.0) / 1000.0
    out = []
    for n in PHASES:
        own_pu = snapshot.value(f"{grid.id}.v{n}_pu")
        v_pu = all_pu if own_pu is None else own_pu
        out.append(nominal_kv * (v_pu if v_pu is not None and v_pu > DEAD_PU else 1.0))
    return out


def _rated_kw(layout: Layout, asset: str) -> float:
    grid = layout.site.grid
    if asset == grid.id:
        return max(grid.p_import_kw_max, grid.p_export_kw_max)
    if asset in layout.gensets:
        return layout.gensets[asset].p_rated_kw
    return layout.bess[asset].pcs.s_kva
