"""From a seed to an episode: a plant, its loads and sun, when the mains are there, which faults come when.

An episode is cut into slots. Each slot is grid-tied, islanded or black on purpose, has one fault that is
aimed at (fault and grid mode walk through the whole catalogue from seed to seed), and others that overlap it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ems.series import UniformSeries
from ems.site import GridMode, Site
from sim.episodes.sites import random_site
from sim.faults import CATALOGUE, Entry, Fault
from sim.faults.draw import draw, targets_of
from sim.rig_scenario import MONDAY, Power

SLOT_S = 900.0
SETTLE_S = 180.0  # from the begin of a slot to its first fault: transfers, reconnection
AIMED_S = (SETTLE_S, 300.0)
CONTROLLERS = ("rules", "rules", "mpc", "mpc", "mpc", "rules_tou")
STEP_S = 10.0  # of load and sun
MODES = (GridMode.GRID_TIED, GridMode.ISLANDED, GridMode.BLACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeOptions:
    """How episodes are drawn.

    Parameters
    ----------
    length_s : of an episode [s].
    dt_s : cycle of the edge [s].
    beside : faults drawn beside the aimed one in each slot.
    entries : of the catalogue; all of it by default.
    aims : "fault|grid mode", one after the other from slot to slot; by default `walk_of` the entries. One
        that stands there twice is aimed at twice as often.
    """

    length_s: float = 7200.0
    dt_s: float = 1.0
    beside: int = 1
    entries: tuple[str, ...] = ()
    aims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One episode, ready to run."""

    seed: int
    site: Site
    load_kw: dict[str, Power]
    pv_kw: dict[str, Power]
    mains: tuple[tuple[float, float], ...]
    faults: tuple[Fault, ...]
    controller: str
    soc: dict[str, float]
    aims: tuple[tuple[str, GridMode], ...] = field(default=())
    options: EpisodeOptions = field(default_factory=EpisodeOptions)


def aims_of(entries: Sequence[Entry]) -> list[tuple[Entry, GridMode]]:
    """Every fault in every grid mode in which it means something."""
    return [(e, m) for e in entries for m in MODES if m in e.modes]


def walk_of(entries: Sequence[Entry]) -> list[tuple[Entry, GridMode]]:
    """The same in the order they are aimed at; what seldom changes anything comes more often."""
    aims = aims_of(entries)
    rounds = max((e.weight for e in entries), default=1)
    return [(e, m) for k in range(rounds) for e, m in aims if k < e.weight]


def episode_of(base: Site, seed: int, options: EpisodeOptions | None = None) -> Episode:
    """The episode of a seed: a function of base, seed and options alone."""
    o = EpisodeOptions() if options is None else options
    rng = np.random.default_rng([seed, 51])
    site = random_site(base, rng)
    entries = [e for e in CATALOGUE.values() if not o.entries or e.name in o.entries]
    aims = _given(o.aims) or walk_of(entries) or [(e, GridMode.GRID_TIED) for e in entries]
    slots = max(1, int(o.length_s // SLOT_S))
    here = [aims[(seed * slots + k) % len(aims)] for k in range(slots)]
    controller = CONTROLLERS[int(rng.integers(len(CONTROLLERS)))]
    controller = "mpc" if any(e.needs_plans for e, _ in here) else controller
    entries = [e for e in entries if controller == "mpc" or not e.needs_plans]
    aimed: list[tuple[str, GridMode]] = []
    faults: list[Fault] = []
    away: list[tuple[float, float]] = []
    for k in range(slots):
        entry, mode = here[k]
        begin_s, end_s = k * SLOT_S, min((k + 1) * SLOT_S, o.length_s)
        if mode is not GridMode.GRID_TIED:
            away.append((begin_s, end_s))
        if mode is GridMode.BLACK:
            faults += blackout(site, begin_s, end_s)
        aimed.append((entry.name, mode))
        faults += _slot(rng, site, entry, entries, begin_s, end_s, o.beside)
    return Episode(
        seed=seed,
        site=site,
        load_kw=_loads(site, rng, o.length_s),
        pv_kw={p.id: _wander(rng, o.length_s, 0.0, p.p_ac_kw) for p in site.pv},
        mains=tuple(_joined(away)),
        faults=tuple(faults),
        controller=controller,
        soc={b.id: float(rng.uniform(b.battery.soc_min + 0.02, b.battery.soc_max - 0.02)) for b in site.bess},
        aims=tuple(aimed),
        options=o,
    )


CLAIMED = frozenset(f"{e.name}|{m}" for e, m in aims_of(tuple(CATALOGUE.values())))


def _given(aims: Sequence[str]) -> list[tuple[Entry, GridMode]]:
    parts = [a.partition("|") for a in aims]
    return [(CATALOGUE[name], GridMode(mode)) for name, _, mode in parts]


def blackout(site: Site, begin_s: float, end_s: float) -> list[Fault]:
    """Every source fails with the mains, so that the bus is dead from the begin of a slot to its end."""
    out = [Fault(kind="bess_trips", target=b.id, from_s=begin_s, until_s=end_s) for b in site.bess]
    return out + [
        Fault(kind="genset_start_fails", target=g.id, from_s=begin_s, until_s=end_s) for g in site.gensets
    ]


def _slot(
    rng: np.random.Generator,
    site: Site,
    entry: Entry,
    entries: Sequence[Entry],
    begin_s: float,
    end_s: float,
    beside: int,
) -> list[Fault]:
    """The aimed fault, if the site can have it, and others that overlap it."""
    # A plan that is followed stays in force: a fault of the next one shows where the slot needs another.
    low_s, high_s = (0.0, 5.0) if entry.needs_plans else AIMED_S
    window_s = (begin_s + low_s, begin_s + high_s)
    aimed = draw(rng, [entry], site, from_s=window_s, end_s=end_s)
    out = [] if aimed is None else [aimed]
    first_s = window_s[0] if aimed is None else aimed.from_s
    last_s = min(end_s, first_s + 60.0) if aimed is None else max(first_s, aimed.until_s - 1.0)
    meets_s = first_s if aimed is not None else last_s  # each lasts beyond the begin of all others
    others = [e for e in entries if e is not entry and targets_of(e, site)]
    wanted, tries = len(out) + (beside if aimed is not None else beside + 1), 10
    while len(out) < wanted and tries > 0:
        tries -= 1
        fault = draw(rng, others, site, from_s=(max(begin_s, first_s - 60.0), last_s), end_s=end_s)
        if fault is not None and all((f.kind, f.target) != (fault.kind, fault.target) for f in out):
            out.append(replace(fault, until_s=max(fault.until_s, min(end_s, meets_s + 10.0))))
    return out


def _loads(site: Site, rng: np.random.Generator, length_s: float) -> dict[str, Power]:
    return {f.id: _wander(rng, length_s, 0.1 * f.p_peak_kw, 0.9 * f.p_peak_kw) for f in site.feeders}


def _wander(rng: np.random.Generator, length_s: float, low_kw: float, high_kw: float) -> Power:
    """A power that wanders between two limits, reflected at them."""
    n = int(np.ceil(length_s / STEP_S))
    steps = rng.standard_normal(n) * 0.02
    walk = rng.uniform(0.0, 1.0) + np.cumsum(steps)
    share = np.abs((walk + 1.0) % 2.0 - 1.0)
    values = low_kw + share * (high_kw - low_kw)
    return UniformSeries(start=MONDAY, step_s=STEP_S, values=values)


def _joined(windows: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for lo, hi in windows:
        if out and lo <= out[-1][1]:
            out[-1] = (out[-1][0], hi)
        else:
            out.append((lo, hi))
    return out
