"""Snapshot -> PlantCondition, with the memory a condition needs: mode, ages, starts, demand of the month."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch.layout import Layout
from dispatch.observing.asset_conditions import (
    LONG_AGO_S,
    bess_conditions,
    duties,
    genset_conditions,
    gensets_seen,
)
from dispatch.observing.availability import NO_MARKS, Marks, pv_states
from dispatch.observing.bess_use import followed
from dispatch.observing.counters import contracts_after, loads_seen
from dispatch.observing.deferrables import work_condition
from dispatch.observing.evidence import (
    believed_mode,
    evidence_of,
    following_sources,
    forming_source,
    mains_good_s,
    mains_seen,
    prime_of,
    with_mode,
)
from dispatch.observing.import_meter import count_import
from dispatch.observing.live_limits import live_limits
from dispatch.observing.modes import Evidence, ModeState, confirm, judge, still_islanded, unanimous
from dispatch.observing.phases import Phases
from dispatch.observing.plausibility import check_balance
from dispatch.observing.readings import (
    BESS_STATES,
    GENSET_STATES,
    drawn_kvar,
    feeder_demand,
    is_closed,
    powers,
    state_of,
)
from dispatch.protections.balancing_memory import PoiCaps
from dispatch.state import GensetRequest, ObserverMemory
from dispatch.vocabulary import PowerBalance
from ems.condition import PlantCondition
from ems.frozen import replace
from ems.points import BessState, GensetState
from ems.prices import DayPrices
from ems.site import GridMode
from ems.telemetry import Snapshot


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What the edge makes of one snapshot. `demand_kw` is what each feeder would draw if it were closed."""

    condition: PlantCondition
    power: PowerBalance
    bess_state: Mapping[str, BessState | None]
    genset_state: Mapping[str, GensetState | None]
    demand_kw: Mapping[str, float]
    pv_available_kw: Mapping[str, float | None]
    mains_ok: bool | None
    phase_lost: bool
    meter_ok: bool
    suspect: bool  # the measured powers have not added up for a while: one of them lies
    substituted: tuple[str, ...]  # points a decision needed and that had no good value
    scaled: tuple[tuple[str, float], ...] = ()  # points proved to be off by a factor, while `suspect`
    pv_uncapped_kw: Mapping[str, float] = field(
        default_factory=dict
    )  # what plants whose limit is lost may give
    pv_ceiling_kw: Mapping[str, float] = field(default_factory=dict)  # of plants that come back
    phases: Mapping[str, Phases] = field(default_factory=dict)  # of assets whose phases are read
    export_kw_max: float | None = None  # that the voltage at the POI leaves; None: it leaves all
    live_limits: Mapping[str, float] = field(default_factory=dict)  # point -> kW, beside those of a BMS
    full: frozenset[str] = frozenset()  # batteries that were full a moment ago: no room to charge
    meter_still: bool = False  # the meter at the POI does not answer what is commanded: it is lost
    caps: PoiCaps | None = None  # that hold at the POI now; None: not worked out yet


def observe(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    requests: Mapping[str, GensetRequest],
    dt_s: float,
    marks: Marks = NO_MARKS,
    prices: DayPrices | None = None,
) -> tuple[ObserverMemory, Observed]:
    """Condense a snapshot; only good readings are used.

    `marks`: what other parts found out about units; `prices`: told by inputs, for the contract's meters.
    """
    now_s = snapshot.monotonic_s
    bess_state = {b: state_of(snapshot, layout.state[b], BESS_STATES) for b in layout.bess}
    genset_state = {g: state_of(snapshot, layout.state[g], GENSET_STATES) for g in layout.gensets}
    evidence = evidence_of(layout, snapshot, bess_state, genset_state)
    mode, bus_mode = _mode(layout, memory, evidence, now_s, dt_s)
    gensets = gensets_seen(layout, memory, snapshot, genset_state, bus_mode, evidence.carried)
    last_good, substituted, power = powers(layout, memory, snapshot, gensets)
    closed, feeder_kw = _fed(layout, memory, snapshot, last_good)
    demand_kw = feeder_demand(layout, memory, feeder_kw, closed, evidence.bus_alive, now_s)
    last_good |= {s: v for b in layout.bess if (v := snapshot.value(s := f"{b}.soc")) is not None}
    last_good |= (limits := live_limits(layout, last_good, snapshot))
    duty = duties(layout, memory, snapshot, last_good, gensets)
    kvar = drawn_kvar(layout, snapshot, mode.mode, feeder_kw)
    known = mains_seen(followed(layout, memory, snapshot), snapshot, bus_mode, evidence.mains_ok)
    demand = count_import(layout, known, snapshot, power.grid_kw, kvar)
    demand = contracts_after(layout, memory, snapshot, demand, power.grid_kw, last_good, prices)
    use, work = loads_seen(layout, memory, snapshot, feeder_kw, closed)
    grid_kw = snapshot.value(layout.p[layout.site.grid.id])
    balance = check_balance(layout, memory.balance, snapshot)
    condition = PlantCondition(
        at=snapshot.at,
        grid_mode=mode.mode,
        forming=forming_source(layout, mode.mode, bess_state, gensets),
        bess=bess_conditions(layout, demand, snapshot, bess_state, limits, marks),
        gensets=genset_conditions(layout, gensets, snapshot, requests, duty, last_good, marks),
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
    condition = _with_meters(layout, snapshot, demand, marks, condition)
    after = replace(
        with_mode(demand, mode),
        gensets=gensets,
        duty=duty,
        feeder_use=use,
        feeder_demand_kw=demand_kw,
        work=work,
        balance=balance,
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
        mains_ok=evidence.mains_ok, phase_lost=evidence.phase_lost,
        meter_ok=grid_kw is not None and not balance.suspect,
        suspect=balance.suspect, scaled=balance.named,
        substituted=tuple(substituted), live_limits=limits,
    )  # fmt: skip
    return after, observed


def _fed(
    layout: Layout, memory: ObserverMemory, snapshot: Snapshot, last_good: dict[str, float]
) -> tuple[dict[str, bool], dict[str, float]]:
    """Which feeders are closed, and what they draw [kW]; what is known is kept in `last_good`."""
    closed = {f: is_closed(layout, memory, snapshot, f) for f in layout.feeders}
    last_good |= {f"{f}.closed": float(c) for f, c in closed.items()}
    return closed, {f: last_good.get(layout.p[f], 0.0) if closed[f] else 0.0 for f in layout.feeders}


def _mode(
    layout: Layout, memory: ObserverMemory, evidence: Evidence, now_s: float, dt_s: float
) -> tuple[ModeState, GridMode]:
    """The mode believed, and that of the bus: dead while a source may be about to take it over."""
    first = memory.last_s is None
    seen, grid = judge(evidence), layout.site.grid
    if memory.mode is GridMode.ISLANDED and still_islanded(evidence):
        seen = GridMode.ISLANDED
    transfer_s = grid.transfer_s if evidence.carries_on and not first else 0.0
    at_once = first or unanimous(evidence)
    mode = confirm(grid.supervision, believed_mode(memory), seen, now_s, dt_s, at_once, transfer_s)
    dead = evidence.bus_alive is False and mode.mode is GridMode.UNKNOWN
    return mode, GridMode.BLACK if dead else mode.mode


def _with_meters(
    layout: Layout, snapshot: Snapshot, counted: ObserverMemory, marks: Marks, condition: PlantCondition
) -> PlantCondition:
    """The condition with what the meters of the month count, and what is read at the POI."""
    grid = layout.site.grid.id
    told = replace(
        condition,
        utc=snapshot.utc,
        relied_at=snapshot.relied_at,
        prime=prime_of(layout, condition.forming),
        pv_states={p: pv_states(layout, snapshot, p, marks) for p in layout.pv},
        grid_losses=counted.grid_losses,
        mains_good_s=mains_good_s(counted, snapshot.monotonic_s),
        charge_peaks_kw=counted.charge_peaks_kw,
        month_import_kwh=counted.month_import_kwh,
        month_import_kvarh=counted.month_import_kvarh,
        meters=counted.meters,
        interval_import_kvarh=counted.interval_import_kvarh,
        grid_q_kvar=snapshot.value(f"{grid}.q_kvar"),
        grid_v_pu=snapshot.value(f"{grid}.v_pu"),
    )
    return replace(told, following=following_sources(told))
