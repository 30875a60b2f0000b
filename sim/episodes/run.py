"""Runs an episode with every oracle on, and for each fault a twin without it until it matters."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ems.clock import wall_s
from ems.site import GridMode
from sim.episodes.draw import Episode
from sim.faults import Fault
from sim.oracles import Violation
from sim.rig import Rig, RigOptions
from sim.rig_fork import differs, fork
from sim.world import World

TWIN_TAIL_S = 60.0  # a twin is followed so long after its fault has gone


@dataclass(slots=True, kw_only=True)
class EpisodeResult:
    """What one episode came to; plain numbers, fit to be stored.

    Parameters
    ----------
    injected, compared, mattered : by "fault|grid mode": how often it came, how often a twin without it was
        asked, and how often a setpoint, an alarm, the mode or the rung of the ladder differed there.
    digest : hash over everything decided, written and true.
    """

    seed: int
    controller: str
    plant: str
    ticks: int = 0
    writes: int = 0
    wall_s: float = 0.0
    evaluations: dict[str, int] = field(default_factory=dict)
    excused: dict[str, int] = field(default_factory=dict)
    injected: dict[str, int] = field(default_factory=dict)
    compared: dict[str, int] = field(default_factory=dict)
    mattered: dict[str, int] = field(default_factory=dict)
    violations: list[tuple[float, str, str]] = field(default_factory=list)
    digest: str = ""


@dataclass(slots=True)
class _Counts:
    injected: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    mattered: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Twin:
    fault: Fault
    rig: Rig
    key: str
    until_s: float


def rig_of(episode: Episode, *, keep: int | None = 120) -> Rig:
    """The rig an episode runs on."""
    o = episode.options
    return Rig(
        episode.site,
        load_kw=episode.load_kw,
        pv_kw=episode.pv_kw,
        mains=episode.mains,
        faults=episode.faults,
        controller=episode.controller,
        seed=episode.seed,
        dt_s=o.dt_s,
        options=RigOptions(horizon_s=o.length_s, soc=episode.soc, keep=keep, reset_s=600.0),
    )


def run_episode(
    episode: Episode,
    *,
    twins: bool = True,
    settled: Collection[str] = (),
    stop: Callable[[], bool] | None = None,
    each: Callable[[Rig], None] | None = None,
) -> EpisodeResult | None:
    """Run an episode to its end, or to where the edge breaks; None when `stop` ended it.

    Parameters
    ----------
    twins : find out which faults made a difference.
    settled : "fault|grid mode" of which it is known well enough: no twin is asked.
    each : called after each tick.
    """
    began_s = wall_s()
    rig = rig_of(episode)
    counts, waiting = _Counts(), sorted(episode.faults, key=lambda f: f.from_s)
    live: list[_Twin] = []
    while rig.t_s < episode.options.length_s - 1e-6 and rig.broken is None:
        if stop is not None and stop():
            return None
        if twins:
            live += _born(rig, waiting, counts, settled)
        rig.step()
        live = [t for t in live if _goes_on(t, rig, counts.mattered)]
        if each is not None:
            each(rig)
    if rig.broken is not None:
        rig.after_break()
    return _result(episode, rig, counts, wall_s() - began_s)


def _born(rig: Rig, waiting: list[Fault], counts: _Counts, settled: Collection[str]) -> list[_Twin]:
    """A twin for each fault that begins now and is not settled."""
    out: list[_Twin] = []
    while waiting and waiting[0].from_s <= rig.t_s + 1e-6:
        fault = waiting.pop(0)
        key = f"{fault.kind}|{mode_of(rig.world)}"
        counts.injected[key] += 1
        if key in settled:
            continue
        counts.compared[key] += 1
        out.append(_Twin(fault, fork(rig, fault), key, fault.until_s + TWIN_TAIL_S))
    return out


def _goes_on(twin: _Twin, rig: Rig, mattered: Counter[str]) -> bool:
    """Step a twin beside the original; it ends when the two differ or its time is over."""
    if rig.broken is not None or not rig.log:
        return False
    twin.rig.step()
    if twin.rig.broken is not None or differs(twin.rig.last, rig.last):
        mattered[twin.key] += 1
        return False
    return rig.t_s < twin.until_s


def mode_of(world: World) -> GridMode:
    """Grid mode by the truth."""
    if world.state.grid_closed:
        return GridMode.GRID_TIED
    return GridMode.ISLANDED if world.state.forming is not None else GridMode.BLACK


def _result(episode: Episode, rig: Rig, counts: _Counts, took_s: float) -> EpisodeResult:
    s = episode.site
    return EpisodeResult(
        seed=episode.seed,
        controller=episode.controller,
        plant=f"{len(s.bess)} bess, {len(s.gensets)} gensets, {len(s.pv)} pv",
        ticks=rig.ticks,
        writes=rig.writes,
        wall_s=took_s,
        evaluations=dict(rig.watch.evaluations),
        excused=dict(rig.watch.excused),
        injected=dict(counts.injected),
        compared=dict(counts.compared),
        mattered=dict(counts.mattered),
        violations=[_plain(v) for v in rig.violations],
        digest=rig.digest(),
    )


def _plain(v: Violation) -> tuple[float, str, str]:
    return v.t_s, v.oracle, v.evidence
