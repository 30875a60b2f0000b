"""Which limits are in conflict where a plan misses something: a deletion filter over named limits.

For each thing that is missed (a feeder's load, reserve, fuel, the window of stored energy) the question is
whether it could be missed less, with every other miss at most what it is in the plan and money no object.
If not, limits are lifted one after the other for as long as something must still be missed. What is left
when none can be lifted any more is a smallest set: while these stand something is missed whatever else is
lifted, and lifting any one of them ends it.

Source: Chinneck and Dravnieks, Locating minimal infeasible constraint sets in linear programs, ORSA Journal
on Computing 3(2), 1991, 10.1287/ijoc.3.2.157.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ems.assets import GensetParams
from ems.explanation import Conflict, ReasonCode
from ems.timegrid import FloatArray
from optimizer.explain.bench import solve_whole
from optimizer.explain.changes import battery_limits, grid_limits, outages
from optimizer.explain.changes_families import family_changes
from optimizer.explain.changes_gensets import LONG_H, free, minimum_times
from optimizer.explain.changes_reserve import reserve_limits
from optimizer.explain.ground import Ground
from optimizer.explain.posed import Change, Layout, Posed, laid_out, rebuilt, with_genset
from optimizer.explain.words import Words, kw
from optimizer.problem import PlanningProblem
from optimizer.solve import Effort

SHOWN_KW, SHOWN_L = 0.05, 0.1  # smaller amounts of a slack are solver tolerance
MISSED_SHARE = 1e-3  # of what the plan misses: less is nothing
EFFORT = Effort(gap_ratio=0.01, gap_abs=0.0, time_limit_s=None, node_limit=50)
SLACKS = (
    "shed_kw sheds_over shed_hours_over shed_stretch_over surplus_kw aux_short_kw "
    "short_kw short_down_kw n1_short_kw n1_down_short_kw n1_tied_short_kw unformed running_short_kw "
    "survive_short_kwh fuel_short_l tank_short_l below_kwh above_kwh idle_kwh taper_over_kw starts_over "
    "low_over_h burn_over_h device_lost_kwh device_over_kwh transformer_over_kva ramp_over_kw no_set weak_kw "
    "voltage_low_kw voltage_high_kw kvar_missing exercise_missed mean_over_kw year_over_h step_short_kw"
).split()
BY_BATTERY = tuple(
    "over_day_kwh_ over_year_kwh_ mean_over_kwh_ fast_kw_ full_missed_ reserve_short_kwh_".split()
)
COUNTED = ("tank_short_l", "device_lost_kwh")  # as amounts; the others by the hours they last


def slack_names(names: Iterable[str]) -> list[str]:
    """Of a model's variables those by which a soft limit is missed."""
    return [name for name in names if name in SLACKS or name.startswith(BY_BATTERY)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """One thing a plan misses: a variable and the part of it that is meant."""

    name: str
    index: int | None  # asset; None: the bus
    words: str
    amount: float  # kWh, L
    worst: int | None  # step


def limits_to_lift(posed: Posed, p: PlanningProblem) -> list[Change]:
    """Every limit that may stand in the way, most likely lifted in practice last."""
    site = posed.site
    out: list[Change] = []
    for i in range(len(site.gensets)):
        out += [*minimum_times(site, i), *_genset(posed, p, i)]
    for i in range(len(site.bess)):
        out += battery_limits(posed, i, True)
    out += [c for c in family_changes(posed, p) if c.code is not ReasonCode.PRICE]
    out += [*reserve_limits(site), *grid_limits(site, True), *outages(posed, p)]
    return out


def _genset(posed: Posed, p: PlanningProblem, i: int) -> list[Change]:
    g, start = posed.site.gensets[i], p.gensets[i]
    key = f"gensets.{g.id}"

    limit = ReasonCode.LIMIT
    out = [
        Change(
            key=f"{key}.p_min_kw",
            code=limit,
            words=f"{g.id} without minimum load of {kw(g.p_min_kw)}",
            apply=with_genset(i, lambda x: replace(x, p_min_kw=0.0)),
        ),
        Change(
            key=f"{key}.p_rated_kw",
            code=limit,
            words=f"{g.id} ten times as large as {kw(g.p_rated_kw)}",
            apply=with_genset(i, _ten_times),
        ),
    ]
    if start.available:
        name, words = "crank_s, warm_up_s, synchronise_s", f"{g.id} on load without start delay"
        out.append(
            Change(
                key=f"{key}.{name}",
                code=limit,
                words=words,
                adjust=free(i, lambda x: replace(x, ready_h=0.0)),
            )
        )
    else:
        out.append(
            Change(
                key=f"{key}.available",
                code=limit,
                words=f"{g.id} available",
                adjust=free(i, lambda x: replace(x, available=True, ready_h=0.0, age_h=LONG_H)),
            )
        )
    if any(start.blocked):
        words = f"{g.id} without its maintenance"
        out.append(
            Change(
                key="maintenance", code=limit, words=words, adjust=free(i, lambda x: replace(x, blocked=()))
            )
        )
    if np.isfinite(start.fuel_l):
        words = f"{g.id} with more than the {start.fuel_l:.0f} L it has"
        out.append(
            Change(
                key=f"{key}.tank_l",
                code=limit,
                words=words,
                adjust=free(i, lambda x: replace(x, fuel_l=np.inf)),
            )
        )
    return out


def _ten_times(g: GensetParams) -> GensetParams:
    return replace(
        g,
        p_rated_kw=10.0 * g.p_rated_kw,
        fuel_kw=tuple(10.0 * x for x in g.fuel_kw),
        fuel_l_h=tuple(10.0 * x for x in g.fuel_l_h),
    )


def explain_conflicts(ground: Ground) -> tuple[list[Conflict], int]:
    """One conflict for each thing the plan misses, and how many problems were solved."""
    filtered = _Filter(ground)
    return [filtered.conflict(m) for m in missed(ground)], filtered.solves


def missed(ground: Ground) -> list[Missed]:
    """What is missed in the whole steps, in the words of the site file."""
    p, site = ground.layout.problem, ground.posed.site
    v = ground.layout.compiled.values(ground.fitted)
    out = []

    def look(name: str, index: int | None, series: FloatArray, words: str) -> None:
        part = np.where(p.integral, series, 0.0)
        amount = float(part @ p.step_h)
        if part.max(initial=0.0) > SHOWN_KW:
            out.append(
                Missed(name=name, index=index, words=f"{words}, {amount:.1f} kWh", amount=amount,
                       worst=int(np.argmax(part)))
            )  # fmt: skip

    for i, f in enumerate(site.feeders):
        look("shed_kw", i, v["shed_kw"][i], f"{f.id} is not served")
    look("surplus_kw", None, v["surplus_kw"], "surplus that the bus cannot absorb")
    look("aux_short_kw", None, v["aux_short_kw"], "auxiliaries without supply")
    if "short_kw" in v:
        look("short_kw", None, v["short_kw"], "upward reserve is short")
        look("short_down_kw", None, v["short_down_kw"], "downward reserve is short")
    for name, words in (
        ("n1_short_kw", "upward reserve for a contingency is short"),
        ("n1_tied_short_kw", "upward reserve for a contingency beside the grid is short"),
        ("n1_down_short_kw", "downward reserve for a load trip is short"),
        ("survive_short_kwh", "energy to survive an outage is short"),
    ):
        if name in v:
            look(name, None, v[name], words)
    for i, b in enumerate(site.bess):
        for name in ("below_kwh", "above_kwh"):
            worst = float(v[name][i].max())
            if worst > 1e-3 * b.battery.energy_kwh:
                step = int(np.argmax(v[name][i]))
                words = f"{b.id} is up to {worst:.1f} kWh {name[:-4]} its window"
                amount = float(v[name][i] @ p.step_h)
                out.append(Missed(name=name, index=i, words=words, amount=amount, worst=step))
    for i, g in enumerate(site.gensets):
        lack = float(v["tank_short_l"][i])
        if lack > SHOWN_L:
            words = f"{g.id} lacks {lack:.0f} L of fuel"
            out.append(Missed(name="tank_short_l", index=i, words=words, amount=lack, worst=None))
    for d, device in enumerate(site.deferrables):
        undone = float(v["device_lost_kwh"][d].sum())
        if undone > SHOWN_KW:
            words = f"{device.id} does not do {undone:.1f} kWh of its work"
            out.append(Missed(name="device_lost_kwh", index=d, words=words, amount=undone, worst=None))
    if "transformer_over_kva" in v:
        over = np.where(p.integral, v["transformer_over_kva"], 0.0)
        amount = float(over @ p.step_h)
        if over.max() > SHOWN_KW:
            words, step = f"the transformer is overloaded, {amount:.1f} kVAh", int(np.argmax(over))
            out.append(
                Missed(name="transformer_over_kva", index=None, words=words, amount=amount, worst=step)
            )
    return out


_NONE = np.zeros(0)


class _Filter:
    """Lifts limits and looks whether a miss can then be avoided."""

    def __init__(self, ground: Ground) -> None:
        self._ground, self.solves = ground, 0
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._limits = limits_to_lift(ground.posed, ground.layout.problem)

    def conflict(self, m: Missed) -> Conflict:
        """The deletion filter for one miss."""
        say = Words(self._ground.posed.site)
        at = "" if m.worst is None else f", most {say.at(self._ground.layout.problem.grid.starts()[m.worst])}"
        head = f"{m.words}{at}{self._numbers(m)}"
        forced = self._still(m, [])
        if forced is not True:
            text = "no limit forces it: to avoid it costs more than it is worth by its price in the site file"
            if forced is None:
                text = "whether a limit forces it was not decided within the search"
            return Conflict(missed=m.words, keys=(), sentence=f"{head}: {text}.", minimal=forced is False)
        lifted: list[Change] = []
        kept: list[Change] = []
        minimal = True
        for change in self._limits:
            still = self._still(m, [*lifted, change])
            if still is True:
                lifted.append(change)
            else:
                kept.append(change)
                minimal = minimal and still is False
        return Conflict(
            missed=m.words,
            keys=tuple(c.key for c in kept),
            sentence=f"{head}: {_told(kept, minimal)}.",
            minimal=minimal,
        )

    def _still(self, m: Missed, lifted: list[Change]) -> bool | None:
        """Whether it must be missed with these limits lifted; None: not decided within the effort."""
        ground, self.solves = self._ground, self.solves + 1
        layout = self._lifted(lifted)
        c, f = layout.compiled, layout.filled
        if m.name not in c.form.columns:
            return False  # nobody asks for it any more
        cost, high = np.zeros_like(f.cost), f.high.copy()
        plan = ground.layout.compiled.values(ground.fitted)
        for name in slack_names(c.form.columns):
            at = c.form.columns[name]
            if plan.get(name, _NONE).size == len(at):
                high[at] = np.minimum(f.high[at], np.maximum(f.low[at], plan[name].ravel() + 1e-6))
        weight = np.zeros(c.shapes[m.name])
        part = weight if m.index is None else weight[m.index : m.index + 1]
        hours = np.where(layout.problem.integral, layout.problem.step_h, 0.0)
        part += 1.0 if m.name in COUNTED else hours
        cost[c.form.columns[m.name]] = weight.ravel()
        nothing = MISSED_SHARE * m.amount
        posed = replace(f, cost=cost, high=high)
        relaxed, bound = solve_whole(c, replace(posed, integer=np.zeros_like(f.integer)), EFFORT)
        if relaxed is not None and bound is not None and bound > nothing:
            return True  # even with fractions of units and feeders
        point, bound = solve_whole(c, posed, EFFORT)
        if point is not None and point.objective <= nothing:
            return False
        return True if bound is not None and bound > nothing else None

    def _lifted(self, made: list[Change]) -> Layout:
        """The problem without some limits; several misses ask for the same."""
        keys, ground = tuple(c.key for c in made), self._ground
        if not made:
            return ground.layout
        if keys not in self._layouts:
            p = rebuilt(ground.layout.problem, ground.posed, made)
            self._layouts[keys] = laid_out(p, ground.layout, ground.posed.options)
        return self._layouts[keys]

    def _numbers(self, m: Missed) -> str:
        """What could give in the worst step: power, and what batteries of the plan hold then."""
        if m.worst is None:
            return ""
        p, t, site = self._ground.layout.problem, m.worst, self._ground.posed.site
        sources = [f"PV {kw(float(p.pv_kw[:, t].sum()))}"]
        if site.bess:
            power = kw(float(sum(b.p_discharge_kw[t] for b in p.bess)))
            sources.append(f"batteries {power}, which hold {self._usable_kwh(t):.0f} kWh at its start")
        sources.append(f"gensets {kw(sum(_genset_kw(p, i, t) for i in range(len(site.gensets))))}")
        sources.append(f"grid {kw(float(p.import_cap_kw[t]))}")
        return f" (load {kw(float(p.load_kw[:, t].sum()))}; at most {', '.join(sources)})"

    def _usable_kwh(self, t: int) -> float:
        """Stored above the lower edge of the window at the start of a step of the plan."""
        p = self._ground.layout.problem
        stored = self._ground.layout.compiled.values(self._ground.fitted)["stored_kwh"]
        before = [x.stored_kwh for x in p.bess] if t == 0 else stored[:, t - 1]
        floor = [b.battery.soc_min * b.battery.energy_kwh for b in p.site.bess]
        return float(sum(max(0.0, e - low) for e, low in zip(before, floor, strict=True)))


def _genset_kw(p: PlanningProblem, i: int, t: int) -> float:
    """Rating of a genset that can be on load in a step: there, started in time and not in maintenance."""
    start, end_h = p.gensets[i], float(p.grid.offset_s[t + 1]) / 3600.0
    blocked = any(start.blocked) and start.blocked[t]
    return p.site.gensets[i].p_rated_kw if start.available and not blocked and start.ready_h < end_h else 0.0


def _told(kept: list[Change], minimal: bool) -> str:
    if not kept:
        return "it is missed whatever limit is lifted"
    words = "; ".join(f"{c.key} ({c.words})" for c in kept)
    if len(kept) == 1:
        return (
            f"avoided, cost aside, by lifting {words} alone"
            if minimal
            else f"perhaps avoided by lifting {words}"
        )
    if minimal:
        return f"limits in conflict; cost aside, lifting any one of them ends it: {words}"
    return f"limits in conflict, not shown to be the fewest: {words}"
