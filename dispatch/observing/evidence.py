"""What the witnesses of the grid mode say in one snapshot, and the memory of the mains behind it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from dispatch.layout import Layout
from dispatch.observing.modes import Evidence, ModeState
from dispatch.state import GensetSeen, ObserverMemory
from ems.assets import GridParams
from ems.condition import PlantCondition, Prime, usable
from ems.frozen import replace
from ems.points import BessState, GensetState
from ems.site import GridMode
from ems.telemetry import Snapshot

LOSSES_KEPT = timedelta(days=2)
UNSEEN_S = 10.0  # without a reading of the mains: they may have gone and come back


def evidence_of(
    layout: Layout,
    snapshot: Snapshot,
    bess_state: Mapping[str, BessState | None],
    genset_state: Mapping[str, GensetState | None],
) -> Evidence:
    """What breaker, mains, bus and sources say; None where one has no good reading."""
    grid = layout.site.grid
    breaker = snapshot.value(f"{grid.id}.breaker_closed")
    phases = [snapshot.value(f"{grid.id}.v{n}_pu") for n in (1, 2, 3)]
    alive = snapshot.value("bus.alive")
    if alive is None:
        bus_v = snapshot.value("bus.v_pu")
        alive = None if bus_v is None else float(bus_v > 0.5)
    answers = [s for s in bess_state.values() if s is not None]
    return Evidence(
        breaker_closed=None if breaker is None else breaker >= 0.5,
        mains_ok=mains_usable(grid, snapshot),
        bus_alive=None if alive is None else alive >= 0.5,
        forming=BessState.FORMING in answers if answers else None,
        genset_on_load=GensetState.RUNNING in genset_state.values(),
        phase_lost=phase_lost(grid, phases),
        carries_on=_carries_on(layout, bess_state, genset_state),
    )


def _carries_on(
    layout: Layout,
    bess_state: Mapping[str, BessState | None],
    genset_state: Mapping[str, GensetState | None],
) -> bool:
    """Whether a source that can form is on the bus, or was a moment ago, and has not tripped."""
    formers = layout.site.forming.islanded
    able = [b for b, params in layout.bess.items() if params.pcs.can_form and b in formers]
    converter = any(bess_state[b] in (BessState.FORMING, BessState.FOLLOWING) for b in able)
    return converter or any(genset_state[g] is GensetState.RUNNING for g in layout.gensets if g in formers)


def mains_usable(grid: GridParams, snapshot: Snapshot) -> bool | None:
    """Whether every voltage measured at the POI and the frequency are in their bands; None: no voltage."""
    names = ("v_pu", "v1_pu", "v2_pu", "v3_pu")
    known = [v for n in names if (v := snapshot.value(f"{grid.id}.{n}")) is not None]
    if not known:
        return None
    good = all(grid.v_min_pu <= v <= grid.v_max_pu for v in known)
    return good and grid.supervision.f_ok(snapshot.value(f"{grid.id}.f_hz")) is not False


def phase_lost(grid: GridParams, phases: Sequence[float | None]) -> bool:
    """One phase under the band while another is in it: a blown fuse or a broken conductor."""
    known = [v for v in phases if v is not None]
    return any(v < grid.v_min_pu for v in known) and any(v >= grid.v_min_pu for v in known)


def believed_mode(memory: ObserverMemory) -> ModeState:
    """The part of the memory that `modes.confirm` works on."""
    return ModeState(
        mode=memory.mode,
        since_s=memory.mode_since_s,
        candidate=memory.candidate,
        candidate_since_s=memory.candidate_since_s,
        held=memory.mode_held,
    )


def with_mode(memory: ObserverMemory, mode: ModeState) -> ObserverMemory:
    """The memory with the mode believed from now on."""
    return replace(
        memory,
        mode=mode.mode,
        mode_since_s=mode.since_s,
        candidate=mode.candidate,
        candidate_since_s=mode.candidate_since_s,
        mode_held=mode.held,
    )


def mains_seen(
    memory: ObserverMemory, snapshot: Snapshot, mode: GridMode, mains_ok: bool | None
) -> ObserverMemory:
    """When the mains were lost, and since when they are good.

    Time in which they are not seen does not count as good, and longer than UNSEEN_S of it begins it anew.
    """
    losses = tuple(x for x in memory.grid_losses if snapshot.at - x < LOSSES_KEPT)
    lost = mode in (GridMode.ISLANDED, GridMode.BLACK) or (mode is GridMode.UNKNOWN and mains_ok is False)
    if memory.mode is GridMode.GRID_TIED and lost:
        losses = (*losses, snapshot.at)
    now_s, since_s, unseen_s = snapshot.monotonic_s, memory.mains_good_since_s, memory.mains_unseen_since_s
    if mains_ok is None:
        unseen_s = now_s if unseen_s is None else unseen_s
        since_s = None if now_s - unseen_s > UNSEEN_S else since_s
    elif not mains_ok:
        since_s, unseen_s = None, None
    else:
        gap_s = 0.0 if unseen_s is None else now_s - unseen_s
        since_s, unseen_s = now_s if since_s is None else since_s + gap_s, None
    return replace(memory, grid_losses=losses, mains_good_since_s=since_s, mains_unseen_since_s=unseen_s)


def mains_good_s(memory: ObserverMemory, now_s: float) -> float:
    """For how long the mains have been seen in their band without a break [s]."""
    until_s = now_s if memory.mains_unseen_since_s is None else memory.mains_unseen_since_s
    return 0.0 if memory.mains_good_since_s is None else max(0.0, until_s - memory.mains_good_since_s)


def prime_of(layout: Layout, forming: str | None) -> Prime:
    """Grid, battery or genset prime, by who forms."""
    if forming is None:
        return Prime.NONE
    if forming == layout.site.grid.id:
        return Prime.GRID
    return Prime.BATTERY if forming in layout.bess else Prime.GENSET


def following_sources(condition: PlantCondition) -> tuple[str, ...]:
    """Who feeds the bus beside the one that forms it: batteries, gensets on load, PV, in this order."""
    if condition.forming is None:
        return ()
    up = [b for b, x in condition.bess.items() if x.available]
    up += [g for g, x in condition.gensets.items() if x.on_load]
    up += [p for p, states in condition.pv_states.items() if usable(states)]
    return tuple(x for x in up if x != condition.forming)


def forming_source(
    layout: Layout,
    mode: GridMode,
    bess_state: Mapping[str, BessState | None],
    gensets: Mapping[str, GensetSeen],
) -> str | None:
    """Who forms the bus in `mode`: the grid, a forming battery, else a genset on load.

    One that is not heard only where nobody else does: the bus lives, so somebody forms it.
    """
    if mode is GridMode.GRID_TIED:
        return layout.site.grid.id
    if mode is GridMode.BLACK:
        return None
    forming = [b for b, s in bess_state.items() if s is BessState.FORMING]
    forming += [g for g, s in gensets.items() if s.may_carry and s.heard]
    forming += [g for g, s in gensets.items() if s.may_carry and not s.heard]
    return forming[0] if forming else None
