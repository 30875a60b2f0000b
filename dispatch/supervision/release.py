"""Letting go of the plant: no writes, no heartbeat; only if the plant lives on what its devices do alone.

That is the site file's `silence`. Whether the plant lives with it is tried on the simulated plant, from the
present condition, with less and more load, without and with full sun, and with the mains lost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.state import EdgeState, Written
from dispatch.supervision.release_memory import ReleaseMemory
from dispatch.supervision.silence_told import differing
from dispatch.vocabulary import Event, event
from ems.frozen import replace
from ems.points import TRIP_REQUEST
from ems.release import ReleaseWish
from ems.silence import when_silent
from ems.site import GridMode
from ems.telemetry import Snapshot
from plant_models.plant import (
    PlantFaults,
    PlantFlows,
    PlantInput,
    PlantState,
    ViolationKind,
    initial_state,
    step,
)

TRIED_S = 300.0  # simulated time after the last device fell back
STEP_S = 10.0
AGAIN_S = 60.0  # while it holds, and while it is refused, it is tried again so often
LOADS = (0.7, 1.3)  # of the present demand
SUNS = (0.0, 1.0)  # of the rating of the PV plants
FATAL = frozenset(
    (
        ViolationKind.PCS_OVER_RATING,
        ViolationKind.GENSET_OVER_RATING,
        ViolationKind.PV_OVER_FREQUENCY,
        ViolationKind.SOC_OUTSIDE_WINDOW,
    )
)
LASTING = FATAL | {ViolationKind.EXPORT_OVER_CAP}  # once every device has fallen back


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way the next minutes may go."""

    load_ratio: float
    sun_ratio: float
    mains_lost: bool

    def __str__(self) -> str:
        mains = ", mains lost" if self.mains_lost else ""
        return f"load {self.load_ratio:.0%} of now, sun {self.sun_ratio:.0%}{mains}"


def release_stage(
    layout: Layout, state: EdgeState, wish: ReleaseWish | None, observed: Observed, snapshot: Snapshot
) -> tuple[ReleaseMemory, list[Event]]:
    """Whether the plant is let go of in this cycle. Tried each minute and when the bus changes."""
    memory, starting = state.release, state.observer.last_s is None
    if wish is None:
        told = [event("edge.release.ended", why="taken back")] if memory.released else []
        return ReleaseMemory(), told
    c, now_s = observed.condition, snapshot.monotonic_s
    bus = (c.grid_mode.value, c.forming)
    if c.grid_mode is GridMode.UNKNOWN and (memory.released or starting):
        # That we do not see the plant, not yet or no longer, is no reason to write to it.
        return replace(memory, wish=wish, released=True), []
    if wish == memory.wish and bus == memory.bus and now_s - memory.tried_s < AGAIN_S:
        return memory, []
    against = tuple(against_release(layout, observed, snapshot, state.written))
    after = ReleaseMemory(wish=wish, released=not against, tried_s=now_s, bus=bus, against=against)
    if after.released:
        told = [] if memory.released else [event("edge.release.begun", who=wish.who, why=wish.why)]
        return after, told
    if memory.released:
        return after, [
            event("edge.release.ended", why="the plant would not live without us", against=list(against))
        ]
    news = against != memory.against or wish != memory.wish
    return after, [event("edge.release.refused", who=wish.who, against=list(against))] if news else []


def against_release(
    layout: Layout, observed: Observed, snapshot: Snapshot, written: Mapping[str, Written]
) -> Iterator[str]:
    """What speaks against falling silent now; nothing when the plant lives through every case."""
    mode = observed.condition.grid_mode
    if mode not in (GridMode.GRID_TIED, GridMode.ISLANDED):
        yield f"the bus is {mode.value}"
        return
    yield from (text for _, text in differing(layout, snapshot))
    held = _held(layout, snapshot, written)
    unknown = [p for p in layout.setpoints if p not in held]
    if unknown:
        yield f"nobody knows what {', '.join(unknown)} holds"
        return
    losses = (False, True) if mode is GridMode.GRID_TIED else (False,)
    for load, sun, lost in product(LOADS, SUNS, losses):
        case = Case(load_ratio=load, sun_ratio=sun, mains_lost=lost)
        ends = _tried(layout, observed, held, case)
        if ends is not None:
            yield f"{case}: {ends}"


def _held(layout: Layout, snapshot: Snapshot, written: Mapping[str, Written]) -> dict[str, float]:
    """What each setpoint holds: what its device says, else what was sent last, else what holds nothing up."""
    held = {}
    for point, authority in layout.setpoints.items():
        told, sent = snapshot.value(point), written.get(point)
        if told is not None:
            held[point] = told
        elif sent is not None:
            held[point] = sent.value
        elif authority.safety.grid_tied is not None:
            held[point] = authority.safety.grid_tied
        elif point.endswith("_request"):
            held[point] = 1.0 if point.endswith(".close_request") else 0.0
        elif point.endswith(".p_set_kw"):
            held[point] = max(authority.low, 0.0)
    return held


def _tried(layout: Layout, observed: Observed, held: Mapping[str, float], case: Case) -> str | None:
    """Let the simulated plant go on without us; how it ends, None: alive and inside its limits."""
    site, state = layout.site, _state_now(layout, observed)
    waits_s = [a.safety.behaviour.timeout_s for a in layout.setpoints.values()]
    back_s, t_s, dead_s = max(waits_s, default=0.0), 0.0, 0.0
    spare_s = site.grid.transfer_s if case.mains_lost else 0.0
    while t_s < back_s + TRIED_S:
        state, flows = step(site, state, _inputs(layout, observed, held, case, t_s), STEP_S)
        why = _broken(flows, FATAL if t_s < back_s else LASTING)
        t_s += STEP_S
        dead_s += flows.dead_s
        if why is not None:
            return f"{why} after {t_s:.0f} s"
        if state.forming is None or dead_s > spare_s + 1e-6:
            return f"the bus is dead after {t_s:.0f} s"
    return None


def _broken(flows: PlantFlows, kinds: frozenset[ViolationKind]) -> str | None:
    return next((f"{v.kind.value} of {v.asset}" for v in flows.violations if v.kind in kinds), None)


def _state_now(layout: Layout, observed: Observed) -> PlantState:
    c = observed.condition
    on_kw = {g: max(0.0, x.p_kw) for g, x in c.gensets.items() if x.on_load}
    islanded = c.grid_mode is GridMode.ISLANDED
    return initial_state(
        layout.site,
        {b: x.soc for b, x in c.bess.items()},
        gensets_on_kw=on_kw,
        tank_l={g: x.fuel_l for g, x in c.gensets.items() if x.fuel_l is not None},
        islanded_by=c.forming if islanded else None,
        open_feeders=frozenset(f for f, closed in c.feeder_closed.items() if not closed),
    )


def _inputs(
    layout: Layout, observed: Observed, held: Mapping[str, float], case: Case, t_s: float
) -> PlantInput:
    """The world of a case, and what every setpoint holds `t_s` after we fell silent."""
    values = {}
    for point, authority in layout.setpoints.items():
        value, wait_s = when_silent(authority, held[point])
        values[point] = value if t_s >= wait_s else held[point]
    c = observed.condition
    lost = case.mains_lost and t_s >= TRIED_S / 2.0

    def of(name: str, assets: Mapping[str, object]) -> dict[str, float]:
        return {a: values[f"{a}.{name}"] for a in assets if f"{a}.{name}" in values}

    return PlantInput(
        mains_present=c.grid_mode is GridMode.GRID_TIED and not lost,
        demand_kw={f: case.load_ratio * kw for f, kw in observed.demand_kw.items()},
        pv_potential_kw={p: case.sun_ratio * x.p_ac_kw for p, x in layout.pv.items()},
        bess_p_set_kw=of("p_set_kw", layout.bess),
        genset_run_request={g: v >= 0.5 for g, v in of("run_request", layout.gensets).items()},
        genset_p_set_kw=of("p_set_kw", layout.gensets),
        pv_limit_kw=of("p_limit_kw", layout.pv),
        pv_trip_request=frozenset(p for p, v in of(TRIP_REQUEST, layout.pv).items() if v >= 0.5),
        feeder_close={f: v >= 0.5 for f, v in of("close_request", layout.feeders).items()},
        faults=PlantFaults(
            bess_tripped=frozenset(b for b, x in c.bess.items() if not x.available),
            genset_tripped=frozenset(g for g, x in c.gensets.items() if not x.available),
        ),
    )


def let_go(after: EdgeState, before: EdgeState) -> EdgeState:
    """The state of a released edge: it remembers nothing that it only meant to do.

    When it takes the plant back it starts from what it finds, as after a restart.
    """
    return replace(
        after,
        started_s=None,
        control=before.control,
        shed=before.shed,
        protection=before.protection,
        transition=before.transition,
        written={},
    )
