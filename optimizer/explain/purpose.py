"""What a power or a run is for: where stored energy is used, and the numbers of an outage, a peak, a reserve.

All of it is found by counterfactual. A battery lacks a kWh, and what makes up for it at the same cost when
everything else is held as planned is what the kWh was for. A run is left out, and the least that must then be
missed, money no object, is what it was needed for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from ems.explanation import Need, Reason, ReasonCode, Use
from ems.timegrid import BoolArray, FloatArray, IntArray
from optimizer.explain.bench import HELD_KW, Bench, Point, setpoints
from optimizer.explain.ground import Ground
from optimizer.explain.posed import Change
from optimizer.explain.words import Words, kw, kwh
from optimizer.formulations.reserve import critical
from optimizer.problem import PlanningProblem

SAME_PER_KWH = 5e-4  # two costs of a kWh that differ by less are the same
MADE_UP_KWH = 0.05  # less of a kWh is not said to be made up somewhere
TRIED = 3  # places where it may be made up
SHOWN_KW, SHOWN_KWH = 0.5, 0.5
# What a plan without a run may miss no more of than the plan: physics and stored energy.
HELD = ("tank_short_l", "below_kwh", "above_kwh", "surplus_kw", "aux_short_kw", "starts_over")
RESERVES = ("short_kw", "n1_short_kw", "survive_short_kwh", "running_short_kw", "short_down_kw")


@dataclass(frozen=True, slots=True)
class Window:
    """Steps first to last without mains, or with one price of import."""

    first: int
    last: int
    outage: bool
    per_kwh: float | None


def windows(p: PlanningProblem) -> list[Window]:
    """The horizon in runs of steps: islands, and one price each between them."""
    price = np.round(np.where(p.grid_available, p.import_per_kwh, np.nan), 9)
    edge = (p.grid_available[1:] != p.grid_available[:-1]) | (np.diff(price) != 0.0)
    edge &= p.grid_available[1:] | p.grid_available[:-1]  # NaN differs from NaN
    firsts = [0, *(np.flatnonzero(edge) + 1).tolist()]
    lasts = [*[f - 1 for f in firsts[1:]], p.steps - 1]
    return [
        Window(a, z, not p.grid_available[a], float(price[a]) if p.grid_available[a] else None)
        for a, z in zip(firsts, lasts, strict=True)
    ]


class Uses:
    """What the energy of the batteries is for."""

    def __init__(self, ground: Ground) -> None:
        self._ground, self._bench, p = ground, ground.bench, ground.layout.problem
        self._plan_kw = ground.fitted_kw
        self._setpoints = setpoints(ground.layout.compiled)
        self._rows = {name: i for i, name in enumerate(ground.layout.compiled.form.row_names)}
        self._windows = windows(p)
        self._assets = [s.asset for s in self._setpoints[:: p.steps]]
        self._as_planned: dict[tuple[int, tuple[int, int] | None], float | None] = {}

    def of(self, b: int, t: int) -> Use | None:
        """What a kWh of battery `b` at the end of step `t` is for; None where that is not one thing."""
        less = self._solved(b, t, 1.0, None)
        begin = self._cost(b, None)
        if less is None or begin is None or less.objective - begin <= SAME_PER_KWH:
            return None
        cost = less.objective - begin
        for place in self._candidates(b, less.setpoints_kw):
            as_planned, held = self._cost(b, place), self._solved(b, t, 1.0, place)
            if as_planned is None or held is None or held.objective - as_planned > cost + SAME_PER_KWH:
                continue
            return self._use(place[0], self._windows[place[1]], cost)
        return None

    def _solved(self, b: int, t: int, less_kwh: float, place: tuple[int, int] | None) -> Point | None:
        """The best with less energy and no more charged; with a place: all else as planned outside of it."""
        T, low = self._ground.layout.problem.steps, np.full(len(self._plan_kw), -np.inf)
        high = -low
        if place is not None:
            a, w = place
            inside = np.arange(self._windows[w].first, self._windows[w].last + 1)
            free = np.concatenate([k * T + inside for k in (b, a)]) if a >= 0 else inside[:0]
            low, high = self._plan_kw - HELD_KW, self._plan_kw + HELD_KW
            low[free], high[free] = -np.inf, np.inf
        mine = slice(b * T, b * T + T)
        low[mine] = np.maximum(low[mine], np.minimum(self._plan_kw[mine], 0.0) - HELD_KW)
        return self._bench.with_bounded(self._rows[f"energy[{b},{t}]"], -less_kwh, low, high)

    def _cost(self, b: int, place: tuple[int, int] | None) -> float | None:
        """Cost with nothing lacking."""
        if (b, place) not in self._as_planned:
            point = self._solved(b, 0, 0.0, place)
            self._as_planned[b, place] = None if point is None else point.objective
        return self._as_planned[b, place]

    def _candidates(self, b: int, with_less_kw: FloatArray) -> list[tuple[int, int]]:
        """(asset, window) where a solution makes up for it, most first; asset -1: nobody does."""
        p = self._ground.layout.problem
        more = (with_less_kw - self._bench.base.setpoints_kw).reshape(-1, p.steps) * p.step_h
        more[b] = 0.0
        more[[k for k, s in enumerate(self._setpoints[:: p.steps]) if s.quantity == "deferrable_kw"]] = 0.0
        made = [
            (float(more[a, w.first : w.last + 1].sum()), a, k)
            for a in range(len(more))
            for k, w in enumerate(self._windows)
        ]
        made.sort(key=lambda x: -x[0])
        out = [(a, k) for much, a, k in made[:TRIED] if much > MADE_UP_KWH]
        return [*out, (-1, len(self._windows) - 1)]

    def _use(self, a: int, w: Window, cost: float) -> Use:
        grid = self._ground.layout.problem.grid
        starts = grid.starts()
        end = starts[w.last] + timedelta(seconds=grid.step_s[w.last])
        return Use(
            asset="" if a < 0 else self._assets[a],
            start=end if a < 0 else starts[w.first],
            end=end,
            outage=w.outage and a >= 0,
            per_kwh=w.per_kwh if a >= 0 else None,
            more_cost=cost,
        )


def use_words(say: Words, use: Use, feeders: Sequence[str]) -> tuple[str, str]:
    """Where, as after "for", and the statement about a kWh less."""
    less, cost = "a kWh less stored and no more charged would be", say.worth(use.more_cost)
    if not use.asset:
        return "what is left in the end", f"{less} lacking in the end and cost {cost}"
    where = say.span(use.start, use.end)
    if use.outage:
        where = f"the outage {where}"
    elif use.per_kwh is not None:
        where = f"{where} at {say.price(use.per_kwh)}"
    by = f"shedding {use.asset}" if use.asset in feeders else use.asset
    inside = f"in {where}" if use.outage else where
    return where, f"{less} made up by {by} {inside} and cost {cost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A run that is left out: its steps, and the columns that would be 0."""

    asset: str
    first: int
    last: int
    columns: IntArray
    genset: bool


def need_of(ground: Ground, run: Left, reasons: Sequence[Reason], made: Sequence[Change]) -> Need | None:
    """The numbers behind the first reason that has some; None where none has."""
    by_key = {(c.key, c.words): c for c in made}
    for r in reasons:
        change = by_key[r.key, r.change]
        need: Need | None = None
        if r.code is ReasonCode.OUTAGE and change.span is not None:
            need = _outage(ground, run, r.key, change.span)
        elif r.code is ReasonCode.RESERVE and run.genset:
            need = _reserve(ground, run, r.key)
        elif r.key.startswith("tariff.demand") and run.genset:
            need = _peak(ground, run, r.key)
        if need is not None:
            return need
    return None


def _outage(ground: Ground, run: Left, key: str, span: tuple[int, int]) -> Need | None:
    p = ground.layout.problem
    inside = np.zeros(p.steps, dtype=np.bool_)
    inside[span[0] : span[1] + 1] = True
    inside &= p.islanded
    here = inside.copy()
    here[: run.first] = here[run.last + 1 :] = False
    pv = p.pv_kw.sum(axis=0)
    rest = others_kw(ground, run)
    power = sum((b.p_discharge_kw for b in p.bess), start=np.zeros(p.steps)) + rest
    vital = critical(p.site)
    for only, feeders in ((True, vital), (False, list(range(len(p.site.feeders))))):
        net = p.load_kw[feeders].sum(axis=0) - pv
        beyond = np.where(here, net - power, -np.inf)
        t = int(np.argmax(beyond))
        if beyond[t] > SHOWN_KW:
            figures = _Figures("power", only, float(net[t]), float(power[t]), t)
            return _island_need(ground, run, (key, inside), figures)
        lacking = float((net - rest)[inside] @ p.step_h[inside])
        held = held_kwh(ground, int(np.argmax(inside)))
        if lacking - held > SHOWN_KWH:
            return _island_need(ground, run, (key, inside), _Figures("energy", only, lacking, held, None))
    return None


@dataclass(frozen=True, slots=True)
class _Figures:
    kind: str
    critical: bool
    high: float
    low: float
    step: int | None


def _island_need(ground: Ground, run: Left, of: tuple[str, BoolArray], figures: _Figures) -> Need:
    p, (key, inside) = ground.layout.problem, of
    starts = p.grid.starts()
    last = int(np.flatnonzero(inside)[-1])
    unserved = least_missed(ground, run, ("shed_kw",), HELD) if run.genset else None
    planned = planned_missed(ground, ("shed_kw",))
    told = unserved is not None and unserved > planned + SHOWN_KWH
    return Need(
        kind=figures.kind,
        key=key,
        start=starts[int(np.argmax(inside))],
        end=starts[last] + timedelta(seconds=p.grid.step_s[last]),
        at=None if figures.step is None else starts[figures.step],
        critical=figures.critical,
        unit="kW" if figures.kind == "power" else "kWh",
        high=figures.high,
        low=figures.low,
        unserved_kwh=unserved if told else None,
    )


def others_kw(ground: Ground, run: Left) -> FloatArray:
    """(T,) ratings of the other gensets on load in the plan [kW]."""
    out = np.zeros(ground.layout.problem.steps)
    for g in ground.posed.site.gensets:
        if g.id != run.asset:
            out += g.p_rated_kw * np.round(ground.plan.genset_on[g.id])
    return out


def held_kwh(ground: Ground, first: int) -> float:
    """What the batteries hold above their lower ends when step `first` begins [kWh]."""
    p, held = ground.layout.problem, 0.0
    for i, b in enumerate(p.site.bess):
        soc = ground.plan.bess_soc_end[b.id][first - 1] if first else None
        stored = p.bess[i].stored_kwh if soc is None else soc * b.battery.energy_kwh
        held += max(0.0, stored - b.battery.soc_min * b.battery.energy_kwh)
    return held


def _peak(ground: Ground, run: Left, key: str) -> Need | None:
    p = ground.layout.problem
    if not p.months[0].steps[run.first : run.last + 1].any():
        return None
    least = least_missed(ground, run, ("peak_kw",), (*HELD, "shed_kw", *RESERVES))
    there = ground.plan.peak_import_kw
    if least is None or least - there <= SHOWN_KW:
        return None
    return _plain("peak", key, least, there)


def _reserve(ground: Ground, run: Left, key: str) -> Need | None:
    there = [name for name in RESERVES if name in ground.layout.compiled.shapes]
    others = (*HELD, "shed_kw")
    least, planned = least_missed(ground, run, there, others), planned_missed(ground, there)
    if least is None or least - planned <= SHOWN_KWH:
        return None
    return _plain("reserve", key, least, planned)


def _plain(kind: str, key: str, high: float, low: float) -> Need:
    return Need(
        kind=kind, key=key, start=None, end=None, at=None, critical=False,
        unit="kW" if kind == "peak" else "kWh", high=high, low=low, unserved_kwh=None,
    )  # fmt: skip


def weights(ground: Ground, names: Sequence[str]) -> FloatArray:
    """(columns,) what counts: a peak as it is, everything else by the hours it lasts."""
    c, out = ground.layout.compiled, np.zeros(ground.layout.compiled.form.shape[1])
    for name in names:
        one = np.zeros(c.shapes[name])
        if name == "peak_kw":
            one[0] = 1.0
        else:
            one += ground.layout.problem.step_h
        out[c.form.columns[name]] = one.ravel()
    return out


def planned_missed(ground: Ground, names: Sequence[str]) -> float:
    """What the best plan with this commitment misses of it."""
    return float(weights(ground, names) @ ground.bench.base.x)


def least_missed(ground: Ground, run: Left, names: Sequence[str], capped: Sequence[str]) -> float | None:
    """The least of some misses without a run, others at most the plan's; None: without it there is no plan.

    Feeders may be opened in part, so that it is a lower bound of what whole feeders would miss.
    """
    bench: Bench = ground.bench
    columns, low, high = bench.compiled.form.columns, bench.low.copy(), bench.high.copy()
    low[run.columns] = high[run.columns] = 0.0
    for name in capped:
        if name in columns:
            at = columns[name]
            high[at] = np.minimum(high[at], np.maximum(low[at], bench.base.x[at]) + 1e-6)
    if "feeder_open" in columns:
        low[columns["feeder_open"]], high[columns["feeder_open"]] = 0.0, 1.0
    return bench.least(weights(ground, names), low, high)


def need_words(say: Words, ground: Ground, run: Left, need: Need) -> str:
    """The clause of a sentence."""
    load = "critical load" if need.critical else "load"
    if need.kind == "power":
        assert need.at is not None
        t = ground.layout.problem.grid.starts().index(need.at)
        also = _also(ground, run, t)
        text = (
            f"{say.at(need.at)} {load} less PV exceeds the batteries' power{also} by "
            f"{kw(need.high - need.low)} ({kw(need.high)} against {kw(need.low)})"
        )
    elif need.kind == "energy":
        assert need.start is not None
        assert need.end is not None
        starts = ground.layout.problem.grid.starts()
        steps = [t for t, s in enumerate(starts) if need.start <= s < need.end]
        less = " and other gensets" if others_kw(ground, run)[steps].any() else ""
        text = (
            f"{say.span(need.start, need.end)} {load} less PV{less} takes {kwh(need.high)}, "
            f"{kwh(need.high - need.low)} more than the batteries hold when it begins"
        )
    elif need.kind == "peak":
        text = (
            f"without it the import reaches at least {kw(need.high)} in a billing interval "
            f"instead of {kw(need.low)}"
        )
    else:
        text = f"without it at least {kwh(need.high)} of reserve are short instead of {kwh(need.low)}"
    if need.unserved_kwh is not None:
        planned = planned_missed(ground, ("shed_kw",))
        instead = f" instead of {kwh(planned)}" if planned > SHOWN_KWH else ""
        text += f", without it at least {kwh(need.unserved_kwh)} of load are not served{instead}"
    return text


def _also(ground: Ground, run: Left, step: int) -> str:
    """The other gensets on load in a step, by name."""
    others = [g.id for g in ground.posed.site.gensets if g.id != run.asset]
    return "".join(f" and {g}" for g in others if round(ground.plan.genset_on[g][step]))
