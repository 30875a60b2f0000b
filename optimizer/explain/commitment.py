"""Why a genset runs, or does not: each run of steps on or off is forbidden, and the problem solved again.

The cost of the next-best commitment is given as an interval: from the bound the solver has proven to the best
plan it has found. A changed limit is a reason for a run if, once it is changed, the plan without the run is
cheaper than with it, everything else switched as it is: two linear programs, so no gap is in the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array

from ems.explanation import CommitmentWhy, Reason, ReasonCode
from ems.timegrid import FloatArray, IntArray
from optimizer.compiled import Compiled
from optimizer.explain.bench import Bench, Extra, solve_whole
from optimizer.explain.bounds import bound_by
from optimizer.explain.ground import Ground
from optimizer.explain.posed import Change
from optimizer.explain.purpose import Left, need_of, need_words
from optimizer.explain.sayings import SMALL_COST
from optimizer.explain.switching import Switching
from optimizer.explain.words import Words
from optimizer.formulations.deferrable import switched
from optimizer.solve import Effort

SHED_DUST_KW = 0.05
# By nodes and not by time: equal input, equal sentences. What is stated is true however early a search ends.
EFFORT = Effort(gap_ratio=5e-3, gap_abs=0.5 * SMALL_COST, time_limit_s=None, node_limit=20)
TOLD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive steps, first to last, in which a genset is on or off load, or a feeder open."""

    asset: str
    kind: str  # the variable: on, feeder_open
    index: int  # of the asset in the variable
    on: bool
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """What the plan without a run would cost more: proven at least, found, and with nothing else switched."""

    possible: bool
    low_cost: float | None = None
    high_cost: float | None = None
    alone_cost: float | None = None
    searched: bool = True


def runs(asset: str, kind: str, index: int, on: FloatArray) -> list[Run]:
    """Runs of one asset. `on` (steps,) 0 or 1."""
    edges = [0, *(np.flatnonzero(np.diff(np.round(on))) + 1).tolist(), len(on)]
    return [
        Run(asset=asset, kind=kind, index=index, on=bool(on[a] > 0.5), first=a, last=b - 1)
        for a, b in pairwise(edges)
    ]


def runs_of(ground: Ground, steps: int) -> list[Run]:
    """Every run of the gensets, and of the feeders that are open, in the first `steps` steps."""
    site, v = ground.posed.site, ground.layout.compiled.values(ground.bench.base.x)
    out = []
    for g, unit in enumerate(site.gensets):
        out += runs(unit.id, "on", g, v["on"][g, :steps])
    if "feeder_open" in v:
        behind = [(f, feeder) for f, feeder in enumerate(site.feeders) if feeder.has_breaker]
        whole, load = ground.layout.problem.shed_whole, ground.layout.problem.load_kw
        for i, (f, feeder) in enumerate(behind):  # elsewhere a part of a step may be shed
            is_open = whole & (v["feeder_open"][i] > 0.5) & (v["shed_kw"][f] >= load[f] - SHED_DUST_KW)
            shed = (is_open & (load[f] > SHED_DUST_KW)).astype(np.float64)
            out += [r for r in runs(feeder.id, "feeder_open", i, shed[:steps]) if r.on]
    for k, d in enumerate(switched(ground.layout.compiled.structure)):
        on = np.round(v["device_on"][k, :steps])
        out += [r for r in runs(site.deferrables[d].id, "device_on", k, on) if r.on]
    return out


def explain_commitment(
    ground: Ground, lifted: list[tuple[Change, Bench]], steps: int, *, search: bool
) -> tuple[list[CommitmentWhy], int]:
    """Every run, and how many problems were solved with integers. `lifted`: limits gone, prices changed."""
    asker = _Asker(ground, lifted, search)
    return [asker.explain(r) for r in runs_of(ground, steps)], asker.solves


class _Asker:
    """Asks one question after the other about the commitment of a plan."""

    def __init__(self, ground: Ground, lifted: list[tuple[Change, Bench]], search: bool) -> None:
        self._search = search
        self._ground, self._lifted, self._solves = ground, lifted, 0
        self._switching = Switching(ground)

    @property
    def solves(self) -> int:
        """Problems solved with integers."""
        return self._solves + self._switching.solves

    def _columns(self, run: Run, compiled: Compiled) -> IntArray:
        block = compiled.form.columns[run.kind].reshape(compiled.shapes[run.kind])
        return block[run.index, run.first : run.last + 1].astype(np.int64)

    def explain(self, run: Run) -> CommitmentWhy:
        """One run: what else, what it costs, and what would change it."""
        layout = self._ground.layout
        p, at = layout.problem, self._columns(run, layout.compiled)
        fixed = layout.filled.low[at].max() > 0.5 if run.on else layout.filled.high[at].max() < 0.5
        other = Otherwise(possible=False) if fixed else self._otherwise(run, at)
        reasons = tuple(self._reasons(run, other))
        made = [change for change, _ in self._lifted]
        starts = p.grid.starts()
        why = CommitmentWhy(
            asset=run.asset,
            on=run.on,
            first=run.first,
            last=run.last,
            start=starts[run.first],
            end=starts[run.last] + timedelta(seconds=p.grid.step_s[run.last]),
            code=_code(reasons, other),
            sentence="",
            reasons=reasons,
            low_cost=other.low_cost,
            high_cost=other.high_cost,
            need=need_of(self._ground, _left(run, at), reasons, made) if reasons else None,
        )
        return replace(why, sentence=_sentence(self._ground, run, why, None if fixed else other))

    def _otherwise(self, run: Run, at: IntArray) -> Otherwise:
        """Cost of the next-best commitment above the plan."""
        layout, base = self._ground.layout, self._ground.bench.base.objective
        filled, extra = layout.filled, None
        alone = self._ground.bench.with_fixed(at, 0.0) if run.on else None
        if not self._search:
            return Otherwise(
                possible=True, searched=False, alone_cost=None if alone is None else alone.objective - base
            )
        if run.on:
            top = filled.high.copy()
            top[at] = 0.0
            filled = replace(filled, high=top)
        else:
            row = csr_array(
                (np.ones(len(at)), (np.zeros(len(at), dtype=np.int64), at)), shape=(1, len(filled.cost))
            )
            extra = Extra(rows=row, low=np.ones(1), high=np.full(1, np.inf))
        start = np.full(len(filled.cost), np.nan)
        whole = np.flatnonzero(layout.filled.integer)
        start[whole] = np.clip(
            np.round(self._ground.bench.base.x[whole]), filled.low[whole], filled.high[whole]
        )
        self._solves += 1
        point, bound = solve_whole(layout.compiled, filled, EFFORT, extra, start)
        if bound is None:
            return Otherwise(possible=False)
        found: list[float] = [] if point is None else [float(point.objective - base)]
        found += [] if alone is None else [float(alone.objective - base)]
        high = min(found) if found else None
        low = None if not np.isfinite(bound) else min(bound - base, *found)
        return Otherwise(
            possible=True,
            low_cost=low,
            high_cost=high,
            alone_cost=None if alone is None else alone.objective - base,
        )

    def _reasons(self, run: Run, other: Otherwise) -> list[Reason]:
        """Changes under which another commitment would be cheaper, the dearest to ignore first."""
        if other.alone_cost is not None and other.alone_cost < -SMALL_COST:
            return []  # it is cheaper as it is: the plan was accepted within its gap
        out = [r for change, bench in self._lifted for r in self._reason(run, change, bench)]
        out.sort(key=lambda r: -r.saving_cost)
        specific = [r for r in out if r.key.startswith("reserve.")]
        out = [r for r in out if r.key != "reserve" or not specific]
        return out[:TOLD]

    def _reason(self, run: Run, change: Change, bench: Bench) -> Iterator[Reason]:
        """One change: the whole run left off, all else switched as it is; or a unit switched otherwise."""

        def reason(saving: float, leaving: str, at_least: bool) -> Reason:
            return Reason(
                code=change.code, key=change.key, change=change.words, saving_cost=saving, at_least=at_least,
                leaving=leaving,
            )  # fmt: skip

        genset, at = run.kind == "on", self._columns(run, bench.compiled)
        if run.on and bench.filled.low[at].max() < 0.5:
            without = bench.with_fixed(at, 0.0)
            saving = 0.0 if without is None else bench.base.objective - without.objective
            if saving > SMALL_COST:
                yield reason(saving, "serving it" if run.kind == "feeder_open" else "leaving it off", False)
                return
        if not self._search:
            return
        if genset and (change.any_unit or change.frees == run.index):
            saving = self._switching.own(run.index, run.first, run.last, bench)
            if saving > SMALL_COST:
                yield reason(saving, "leaving some of it off" if run.on else "running some of it", True)
        elif genset and run.on and change.frees is not None and bench.filled.low[at].max() < 0.5:
            saving = self._switching.other(change.frees, (run.index, run.first, run.last), bench)
            if saving > SMALL_COST:
                who = self._ground.posed.site.gensets[change.frees].id
                yield reason(saving, f"leaving it off, with {who} switched to suit,", True)


def _left(run: Run, columns: IntArray) -> Left:
    return Left(asset=run.asset, first=run.first, last=run.last, columns=columns, genset=run.kind == "on")


def _code(reasons: tuple[Reason, ...], other: Otherwise) -> ReasonCode:
    low, high = other.low_cost, other.high_cost
    if high is not None and high < -SMALL_COST:
        return ReasonCode.GAP
    if reasons:
        return reasons[0].code
    if not other.possible:
        return ReasonCode.IMPOSSIBLE
    if low is not None and low > SMALL_COST:
        return ReasonCode.COST
    return ReasonCode.INDIFFERENT if high is not None and high <= SMALL_COST else ReasonCode.UNDECIDED


def _sentence(ground: Ground, run: Run, why: CommitmentWhy, other: Otherwise | None) -> str:
    say = Words(ground.posed.site)
    genset = run.kind == "on"
    parts = [f"{why.asset} {_verb(ground, run)} {say.span(why.start, why.end)}"]
    leaving = "serving it" if run.kind == "feeder_open" else "leaving it off"
    if other is None:
        parts += bound_by(ground, run.index, (run.first, run.last), run.on) if genset else []
    if why.need is not None:
        parts.append(need_words(say, ground, _left(run, np.zeros(0, dtype=np.int64)), why.need))
    for r in why.reasons:
        much = "at least " if r.at_least else ""
        parts.append(f"{r.change} {r.leaving} would save {much}{say.money(r.saving_cost)}")
    if other is None:
        return "; ".join(parts) + "."
    if other.alone_cost is not None:
        parts.append(f"{leaving} with nothing else switched would cost {say.more(other.alone_cost)}")
    if not other.searched:
        return "; ".join(parts) + "."
    forbidden = "without it" if run.on else "with any running in it"
    parts.append(_next_best(say, other, "that serves it" if run.kind == "feeder_open" else forbidden))
    return "; ".join(parts) + "."


def _next_best(say: Words, other: Otherwise, what: str) -> str:
    low, high, plan = other.low_cost, other.high_cost, f"the cheapest plan {what}"
    if not other.possible:
        return f"there is no plan {what}"
    if low is None and high is None:
        return f"{plan} was not found in time"
    if low is None:
        return f"{plan} costs at most {say.more(0.0 if high is None else high)}"
    if high is None:
        return f"{plan} costs at least {say.more(low)}"
    if high - low <= SMALL_COST:
        return f"{plan} costs {say.more(high)}"
    return f"{plan} costs between {say.more(low)} and {say.more(high)}"


def _verb(ground: Ground, run: Run) -> str:
    if run.kind == "device_on":
        return "runs"
    if run.kind != "on":
        return "is shed"
    before = ground.layout.problem.gensets[run.index].on if run.first == 0 else not run.on
    if before == run.on:
        return "stays on load" if run.on else "stays off"
    return "starts and runs" if run.on else "stops and is off"
