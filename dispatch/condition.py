"""Snapshot -> PlantCondition, with the memory a condition needs: mode, ages, starts, demand of the month."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from dispatch.bess_use import followed
from dispatch.counters import contracts_after, loads_seen
from dispatch.deferrables import work_condition
from dispatch.duty import duties_after
from dispatch.layout import Layout
from dispatch.modes import Evidence, ModeState, confirm, judge, unanimous
from dispatch.state import GensetRequest, GensetSeen, ObserverMemory
from dispatch.vocabulary import PowerBalance
from ems.assets import GensetParams
from ems.condition import BessCondition, BessUse, GensetCondition, GensetDuty, PlantCondition
from ems.points import BessState, GensetState
from ems.site import GridMode
from ems.tariff import Tariff
from ems.telemetry import Snapshot

_BESS_STATES = tuple(BessState)
_GENSET_STATES = tuple(GensetState)
_STARTING = frozenset((GensetState.CRANKING, GensetState.WARM_UP, GensetState.SYNCHRONISING))
LONG_AGO_S = 1e9
DEMAND_TAU_S = 60.0
LOSSES_KEPT = timedelta(days=2)
_S = TypeVar("_S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the edge makes of one snapshot. `demand_kw` is what each feeder would draw if it were closed."""

    condition: PlantCondition
    power: PowerBalance
    bess_state: Mapping[str, BessState | None]
    genset_state: Mapping[str, GensetState | None]
    demand_kw: Mapping[str, float]
    pv_available_kw: Mapping[str, float | None]
    mains_ok: bool | None
    meter_ok: bool
    substituted: tuple[str, ...]  # points a decision needed and that had no good value


def observe(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    requests: Mapping[str, GensetRequest],
    dt_s: float,
) -> tuple[ObserverMemory, Observed]:
    """Condense a snapshot. Only good readings are used; what is substituted is named."""
    now_s = snapshot.monotonic_s
    bess_state = {b: _state(snapshot, layout.state[b], _BESS_STATES) for b in layout.bess}
    genset_state = {g: _state(snapshot, layout.state[g], _GENSET_STATES) for g in layout.gensets}
    evidence = _evidence(layout, snapshot, bess_state, genset_state)
    at_once = memory.last_s is None or unanimous(evidence)
    mode = confirm(_mode_of(memory), judge(evidence), now_s, dt_s, at_once)
    gensets = _gensets_seen(layout, memory, snapshot, genset_state)
    last_good, substituted, power = _powers(layout, memory, snapshot)
    closed = {f: _closed(layout, memory, snapshot, f) for f in layout.feeders}
    feeder_kw = {f: last_good.get(layout.p[f], 0.0) if closed[f] else 0.0 for f in layout.feeders}
    elapsed_s = now_s - memory.last_s if memory.last_s is not None else 0.0
    demand_kw = _demand(layout, memory, feeder_kw, closed, evidence.bus_alive, elapsed_s)
    last_good |= {f"{f}.closed": float(c) for f, c in closed.items()}
    last_good |= {s: v for b in layout.bess if (v := snapshot.value(s := f"{b}.soc")) is not None}
    duty = _duties(layout, memory, snapshot, last_good, gensets)
    kvar = _grid_kvar(layout, snapshot, mode.mode, feeder_kw)
    known = _mains(followed(layout, memory, snapshot), snapshot, mode.mode, evidence.mains_ok)
    demand = _demand_counters(layout, known, snapshot, power.grid_kw, kvar)
    demand = contracts_after(layout, memory, snapshot, demand, power.grid_kw, last_good)
    use, work = loads_seen(layout, memory, snapshot, feeder_kw, closed)
    grid_kw = snapshot.value(layout.p[layout.site.grid.id])
    condition = PlantCondition(
        at=snapshot.at,
        grid_mode=mode.mode,
        forming=_forming(layout, mode.mode, bess_state, gensets),
        bess={b: _bess(layout, demand, snapshot, b, bess_state[b]) for b in layout.bess},
        gensets=_genset_conditions(layout, gensets, snapshot, requests, duty),
        pv_kw={p: last_good.get(layout.p[p], 0.0) for p in layout.pv},
        feeder_kw=feeder_kw,
        feeder_closed=closed,
        grid_p_kw=grid_kw,
        peak_import_kw=demand.peak_import_kw,
        interval_import_kwh=demand.interval_import_kwh,
        interval_elapsed_s=demand.interval_elapsed_s,
        feeder_use=use,
        deferrables=work_condition(work, now_s, LONG_AGO_S),
        mains_good=mode.mode is GridMode.ISLANDED and evidence.mains_ok is True,
    )  # fmt: skip
    condition = _with_meters(layout, snapshot, demand, condition)
    after = replace(
        _with_mode(demand, mode),
        gensets=gensets,
        duty=duty,
        last_good=last_good,
        feeder_use=use,
        feeder_demand_kw=demand_kw,
        work=work,
        last_at=snapshot.at,
        last_s=now_s,
    )
    observed = Observed(
        condition=condition,
        power=power,
        bess_state=bess_state,
        genset_state=genset_state,
        demand_kw=demand_kw,
        pv_available_kw={p: snapshot.value(f"{p}.p_available_kw") for p in layout.pv},
        mains_ok=evidence.mains_ok,
        meter_ok=grid_kw is not None,
        substituted=tuple(substituted),
    )
    return after, observed


def _with_meters(
    layout: Layout, snapshot: Snapshot, counted: ObserverMemory, condition: PlantCondition
) -> PlantCondition:
    """The condition with what the meters of the month count, and what is read at the POI."""
    grid = layout.site.grid.id
    return replace(
        condition,
        grid_losses=counted.grid_losses,
        mains_good_s=_good_s(counted, snapshot.monotonic_s),
        charge_peaks_kw=counted.charge_peaks_kw,
        month_import_kwh=counted.month_import_kwh,
        month_import_kvarh=counted.month_import_kvarh,
        meters=counted.meters,
        interval_import_kvarh=counted.interval_import_kvarh,
        grid_q_kvar=snapshot.value(f"{grid}.q_kvar"),
        grid_v_pu=snapshot.value(f"{grid}.v_pu"),
        import_cap_kw=snapshot.value(f"{grid}.p_import_kw_max"),
        export_cap_kw=snapshot.value(f"{grid}.p_export_kw_max"),
    )


def _mains(
    memory: ObserverMemory, snapshot: Snapshot, mode: GridMode, mains_ok: bool | None
) -> ObserverMemory:
    """When the mains were lost, and since when they are good; a missing reading changes neither."""
    losses = tuple(x for x in memory.grid_losses if snapshot.at - x < LOSSES_KEPT)
    if memory.mode is GridMode.GRID_TIED and mode in (GridMode.ISLANDED, GridMode.BLACK):
        losses = (*losses, snapshot.at)
    since_s = memory.mains_good_since_s
    if mains_ok is not None:
        since_s = (snapshot.monotonic_s if since_s is None else since_s) if mains_ok else None
    return replace(memory, grid_losses=losses, mains_good_since_s=since_s)


def _good_s(memory: ObserverMemory, now_s: float) -> float:
    return 0.0 if memory.mains_good_since_s is None else now_s - memory.mains_good_since_s


def _mode_of(memory: ObserverMemory) -> ModeState:
    return ModeState(
        mode=memory.mode,
        since_s=memory.mode_since_s,
        candidate=memory.candidate,
        candidate_since_s=memory.candidate_since_s,
    )


def _with_mode(memory: ObserverMemory, mode: ModeState) -> ObserverMemory:
    return replace(
        memory,
        mode=mode.mode,
        mode_since_s=mode.since_s,
        candidate=mode.candidate,
        candidate_since_s=mode.candidate_since_s,
    )


def _state(snapshot: Snapshot, point: str, states: tuple[_S, ...]) -> _S | None:
    value = snapshot.value(point)
    if value is None or value != math.floor(value) or not 0 <= value < len(states):
        return None
    return states[int(value)]


def _evidence(
    layout: Layout,
    snapshot: Snapshot,
    bess_state: Mapping[str, BessState | None],
    genset_state: Mapping[str, GensetState | None],
) -> Evidence:
    grid = layout.site.grid
    breaker = snapshot.value(f"{grid.id}.breaker_closed")
    v_pu = snapshot.value(f"{grid.id}.v_pu")
    alive = snapshot.value("bus.alive")
    if alive is None:
        bus_v = snapshot.value("bus.v_pu")
        alive = None if bus_v is None else float(bus_v > 0.5)
    answers = [s for s in bess_state.values() if s is not None]
    return Evidence(
        breaker_closed=None if breaker is None else breaker >= 0.5,
        mains_ok=None if v_pu is None else grid.v_min_pu <= v_pu <= grid.v_max_pu,
        bus_alive=None if alive is None else alive >= 0.5,
        forming=BessState.FORMING in answers if answers else None,
        genset_on_load=GensetState.RUNNING in genset_state.values(),
    )


def _gensets_seen(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    states: Mapping[str, GensetState | None],
) -> dict[str, GensetSeen]:
    """Follow each genset's sequence; while its state is not readable the last known one stands."""
    now_s, today = snapshot.monotonic_s, snapshot.at.astimezone(layout.zone).date()
    new_day = memory.day is not None and memory.day != today
    out = {}
    for genset, state in states.items():
        seen = memory.gensets.get(genset)
        if seen is None:
            seen = GensetSeen(state=state, state_since_s=now_s, on_load=state is GensetState.RUNNING)
        elif state is not None and state is not seen.state:
            on_load = state is GensetState.RUNNING
            changed = on_load is not seen.on_load
            seen = GensetSeen(
                state=state,
                state_since_s=now_s,
                on_load=on_load,
                on_load_since_s=now_s if changed else seen.on_load_since_s,
                starts_today=seen.starts_today + int(on_load and changed),
            )
        out[genset] = replace(seen, starts_today=0) if new_day else seen
    return out


def _powers(
    layout: Layout, memory: ObserverMemory, snapshot: Snapshot
) -> tuple[dict[str, float], list[str], PowerBalance]:
    """Measured powers, the last good one where a reading is missing, and their sums."""
    good = dict(memory.last_good)
    substituted: list[str] = []
    sums = dict.fromkeys(("feeder", "pv", "genset", "bess"), 0.0)
    groups = (
        ("feeder", layout.feeders),
        ("pv", layout.pv),
        ("genset", layout.gensets),
        ("bess", layout.bess),
    )
    for kind, assets in groups:
        for asset in assets:
            point = layout.p[asset]
            value = snapshot.value(point)
            if value is None:
                substituted.append(point)
                value = good.get(point, 0.0)
            good[point] = value
            sums[kind] += value
    grid_kw = snapshot.value(layout.p[layout.site.grid.id])
    sources = sums["pv"] + sums["genset"] + sums["bess"]
    if grid_kw is None:
        substituted.append(layout.p[layout.site.grid.id])
        grid_kw = sums["feeder"] - sources
    power = PowerBalance(
        load_kw=sources + grid_kw,
        pv_kw=sums["pv"],
        genset_kw=sums["genset"],
        bess_kw=sums["bess"],
        grid_kw=grid_kw,
        measured=not substituted,
    )
    return good, substituted, power


def _closed(layout: Layout, memory: ObserverMemory, snapshot: Snapshot, feeder: str) -> bool:
    value = snapshot.value(f"{feeder}.closed")
    if value is not None:
        return value >= 0.5
    if not layout.feeders[feeder].has_breaker:
        return True
    return memory.last_good.get(f"{feeder}.closed", 1.0) >= 0.5


def _demand(
    layout: Layout,
    memory: ObserverMemory,
    feeder_kw: Mapping[str, float],
    closed: Mapping[str, bool],
    alive: bool | None,
    elapsed_s: float,
) -> dict[str, float]:
    """Load of each feeder while fed; its last load while open, half its peak when never seen.

    It rises at once and falls slowly: the moment in which a feeder drops out does not erase its demand.
    """
    out = {}
    for feeder, params in layout.feeders.items():
        if closed[feeder] and alive is not False:
            known_kw = memory.feeder_demand_kw.get(feeder, 0.0)
            fall = min(1.0, elapsed_s / DEMAND_TAU_S)
            out[feeder] = max(0.0, feeder_kw[feeder], known_kw + (feeder_kw[feeder] - known_kw) * fall)
        else:
            out[feeder] = memory.feeder_demand_kw.get(feeder, 0.5 * params.p_peak_kw)
    return out


def _grid_kvar(layout: Layout, snapshot: Snapshot, mode: GridMode, feeder_kw: Mapping[str, float]) -> float:
    """Reactive power drawn from the grid: measured, else that of the fed load by its power factor [kvar]."""
    if mode is not GridMode.GRID_TIED:
        return 0.0
    measured = snapshot.value(f"{layout.site.grid.id}.q_kvar")
    if measured is not None:
        return max(0.0, measured)
    cosines = {f: layout.feeders[f].power_factor_ratio for f in feeder_kw}
    return math.fsum(kw * math.tan(math.acos(cosines[f])) for f, kw in feeder_kw.items())


def _demand_counters(
    layout: Layout, memory: ObserverMemory, snapshot: Snapshot, grid_kw: float, import_kvar: float
) -> ObserverMemory:
    """Add the import since the last tick to the billing intervals it fell into.

    A wall clock that is set forward adds nothing: what counts is the time that passed for control.
    """
    length_s, import_kw = layout.site.tariff.billing_interval_s, max(0.0, grid_kw)
    energy_kwh, elapsed_s = memory.interval_import_kwh, memory.interval_elapsed_s
    kvarh, month_kwh = memory.interval_import_kvarh, memory.month_import_kwh
    month_kvarh = memory.month_import_kvarh
    peak_kw, peaks_kw = memory.peak_import_kw, dict(memory.charge_peaks_kw)
    if memory.last_at is not None and memory.last_s is not None and snapshot.at > memory.last_at:
        left_s = min((snapshot.at - memory.last_at).total_seconds(), snapshot.monotonic_s - memory.last_s)
        at = snapshot.at - timedelta(seconds=left_s)
        while left_s > 1e-6:
            room_s = length_s - at.timestamp() % length_s
            step_s = min(room_s, left_s)
            energy_kwh, elapsed_s = energy_kwh + import_kw * step_s / 3600.0, elapsed_s + step_s
            kvarh += import_kvar * step_s / 3600.0
            month_kwh += import_kw * step_s / 3600.0
            month_kvarh += import_kvar * step_s / 3600.0
            at, left_s = at + timedelta(seconds=step_s), left_s - step_s
            if step_s >= room_s - 1e-6:  # the interval is over
                begun = at - timedelta(seconds=length_s)
                new_month = _month(layout, at) != _month(layout, begun)
                peak_kw = 0.0 if new_month else max(peak_kw, energy_kwh * 3600.0 / length_s)
                _count_charges(layout.site.tariff, begun, energy_kwh, kvarh, peaks_kw)
                if new_month:
                    month_kwh, month_kvarh, peaks_kw = 0.0, 0.0, {}
                energy_kwh, kvarh, elapsed_s = 0.0, 0.0, 0.0
    return replace(
        memory,
        day=snapshot.at.astimezone(layout.zone).date(),
        peak_import_kw=peak_kw,
        charge_peaks_kw=peaks_kw,
        month_import_kwh=month_kwh,
        month_import_kvarh=month_kvarh,
        interval_import_kwh=energy_kwh,
        interval_import_kvarh=kvarh,
        interval_elapsed_s=elapsed_s,
    )


def _count_charges(
    tariff: Tariff, begun: datetime, kwh: float, kvarh: float, peaks_kw: dict[str, float]
) -> None:
    """Raise the peaks of the further demand charges for which a closed billing interval counts."""
    if not tariff.demand_charges:
        return
    per_h = 3600.0 / tariff.billing_interval_s
    for charge in tariff.charges_at(begun)[1:]:
        mean_kw = (math.hypot(kwh, kvarh) if charge.apparent else kwh) * per_h
        peaks_kw[charge.name] = max(peaks_kw.get(charge.name, 0.0), mean_kw)


def _month(layout: Layout, at: datetime) -> str:
    return f"{at.astimezone(layout.zone):%Y-%m}"


def _forming(
    layout: Layout,
    mode: GridMode,
    bess_state: Mapping[str, BessState | None],
    gensets: Mapping[str, GensetSeen],
) -> str | None:
    if mode is GridMode.GRID_TIED:
        return layout.site.grid.id
    if mode is GridMode.BLACK:
        return None
    forming = [b for b, s in bess_state.items() if s is BessState.FORMING]
    forming += [g for g, s in gensets.items() if s.on_load]
    return forming[0] if forming else None


def _bess(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    bess: str,
    state: BessState | None,
) -> BessCondition:
    soc = snapshot.value(f"{bess}.soc")
    charge = snapshot.value(f"{bess}.p_charge_kw_max")
    discharge = snapshot.value(f"{bess}.p_discharge_kw_max")
    up = state in (BessState.FOLLOWING, BessState.FORMING)
    available = up and soc is not None and charge is not None and discharge is not None
    battery, p_kw = layout.bess[bess].battery, snapshot.value(layout.p[bess])
    if soc is None:
        soc = memory.last_good.get(f"{bess}.soc", battery.soc_min)
    return BessCondition(
        available=available,
        soc=soc,
        p_kw=0.0 if p_kw is None else p_kw,
        p_charge_kw_max=max(0.0, charge) if available and charge is not None else 0.0,
        p_discharge_kw_max=max(0.0, discharge) if available and discharge is not None else 0.0,
        turns_soc=memory.turns_soc.get(bess, ()),
        use=memory.bess_use.get(bess, BessUse()),
        temp_degc=snapshot.value(f"{bess}.temp_degc"),
    )


def _duties(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    last_good: Mapping[str, float],
    seen: Mapping[str, GensetSeen],
) -> dict[str, GensetDuty]:
    loads_kw = {g: last_good.get(layout.p[g], 0.0) if x.on_load else None for g, x in seen.items()}
    run_h = {g: snapshot.value(f"{g}.run_h") for g in layout.gensets}
    now = snapshot.at.astimezone(layout.zone)
    return duties_after(layout.gensets, memory.duty, loads_kw, now, memory.passed_s(snapshot), run_h)


def _genset_conditions(
    layout: Layout,
    seen: Mapping[str, GensetSeen],
    snapshot: Snapshot,
    requests: Mapping[str, GensetRequest],
    duty: Mapping[str, GensetDuty],
) -> dict[str, GensetCondition]:
    return {g: _genset(p, seen[g], snapshot, requests.get(g), duty[g]) for g, p in layout.gensets.items()}


def _genset(
    params: GensetParams,
    seen: GensetSeen,
    snapshot: Snapshot,
    request: GensetRequest | None,
    duty: GensetDuty,
) -> GensetCondition:
    state = _state(snapshot, f"{params.id}.state", _GENSET_STATES)
    now_s = snapshot.monotonic_s
    asked = request is not None and request.run
    late = request is not None and request.late
    available = state is not None and state is not GensetState.LOCKED_OUT and not late
    starting = available and not seen.on_load and (state in _STARTING or asked)
    p_kw = snapshot.value(f"{params.id}.p_kw")
    return GensetCondition(
        available=available,
        on_load=seen.on_load,
        starting=starting,
        ready_in_s=_ready_in_s(params, seen, now_s, request) if starting else 0.0,
        age_s=min(LONG_AGO_S, now_s - seen.on_load_since_s),
        p_kw=0.0 if p_kw is None else p_kw,
        fuel_l=snapshot.value(f"{params.id}.fuel_l"),
        starts_today=seen.starts_today,
        duty=duty,
    )


def _ready_in_s(params: GensetParams, seen: GensetSeen, now_s: float, request: GensetRequest | None) -> float:
    in_phase_s = now_s - seen.state_since_s
    match seen.state:
        case GensetState.CRANKING:
            left_s, after_s = params.crank_s, params.warm_up_s + params.synchronise_s
        case GensetState.WARM_UP:
            left_s, after_s = params.warm_up_s, params.synchronise_s
        case GensetState.SYNCHRONISING:
            left_s, after_s = params.synchronise_s, 0.0
        case _:
            in_phase_s = 0.0 if request is None else now_s - request.since_s
            left_s, after_s = params.start_delay_s, 0.0
    return max(0.0, left_s - in_phase_s) + after_s
