"""Checks every sentence of an explanation by counterfactual: reads it, does what it says, solves again.

Of `optimizer.explain` only the definition of the reference (which integers are the plan's) is used, and for
conflicts the list of what can be lifted: the sentences are parsed, the named limit or price is changed here,
and the program is posed and solved anew by code of this file. A part of a sentence that cannot be read is a
failure.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, cast
from zoneinfo import ZoneInfo

import highspy
import numpy as np

from ems.explanation import Alternative, CommitmentWhy, Conflict, Explanation, Reason, SetpointWhy
from ems.plan import Plan
from ems.site import GridMode
from optimizer.algebra import Model
from optimizer.build import build, numbers
from optimizer.explain import Posed
from optimizer.explain.conflict import COUNTED, limits_to_lift, slack_names
from optimizer.explain.posed import formulation, problem_of_plan, rebuilt
from optimizer.numbers import layout
from optimizer.problem import PlanningProblem
from optimizer.structure import structure_of
from tests.unit.optimizer.explanation_edits import NUMBER, edited, larger, near

PHYSICS = ("tank_short_l", "below_kwh", "above_kwh", "surplus_kw", "aux_short_kw", "starts_over")
RESERVES = ("short_kw", "n1_short_kw", "survive_short_kwh", "running_short_kw", "short_down_kw")
LEAVING = (
    r"leaving it off|serving it|leaving some of it off|running some of it|"
    r"leaving it off, with \S+ switched to suit,"
)
SAVES = rf"(.*) ({LEAVING}) would save (at least )?({NUMBER}) \w+"
TOLERANCE = 0.006  # money: half a cent of rounding, and the solver's


class Program:
    """A linear or integer program of a problem, posed here: min cost x, without constants."""

    def __init__(self, p: PlanningProblem, posed: Posed) -> None:
        s = structure_of(p.site, p.grid, formulation(p, posed.options))
        model = build(s, Model)
        form, n = model.standard_form(), numbers(layout(model.shapes), p, s)
        self.shapes, self.columns, self.structure, self.numbers = model.shapes, form.columns, s, n
        size, rows = form.shape[1], form.shape[0]
        par = np.zeros(form.par_matrix.shape[1])
        for name, slot in form.par_slots.items():
            par[slot] = n.parameters[name].ravel()
        rhs = form.rhs - form.par_matrix @ par
        self.rhs, self.row_names = rhs, form.row_names
        self.low, self.high, self.cost = np.zeros(size), np.zeros(size), np.zeros(size)
        self.integer = np.zeros(size, dtype=bool)
        for name, at in form.columns.items():
            self.low[at], self.high[at] = n.low[name].ravel(), n.high[name].ravel()
            self.integer[at] = n.integer[name].ravel()
        for prices in n.cost.values():
            for name, price in prices.items():
                self.cost[form.columns[name]] += price.ravel()
        self.free_low, self.free_high = self.low.copy(), self.high.copy()
        self.h: Any = cast(Any, highspy.Highs)()
        self.h.setOptionValue("output_flag", False)
        self.h.setOptionValue("threads", 1)
        self.row_low = np.where(form.has_low, rhs, -np.inf)
        self.row_high = np.where(form.has_high, rhs, np.inf)
        self.h.passModel(
            size, rows, len(form.a_value), 1, 1, 0.0, self.cost, self.low, self.high,
            self.row_low, self.row_high,
            form.a_start, form.a_index, form.a_value, np.zeros(size, np.int32),
        )  # fmt: skip

    def release(self, columns: Sequence[int]) -> None:
        """Free columns that were fixed."""
        for c in columns:
            self.low[c], self.high[c] = self.free_low[c], self.free_high[c]
            self.h.changeColBounds(int(c), float(self.low[c]), float(self.high[c]))

    def fix(self, integers: dict[str, np.ndarray]) -> None:
        """At the values of the plan's variables, by name and in their order."""
        x = np.zeros(len(self.cost))
        for name, at in self.columns.items():
            if name in integers and integers[name].size == len(at):
                x[at] = integers[name].ravel()
        for c in np.flatnonzero(self.integer):
            value = float(x[c])
            self.low[c] = self.high[c] = value
            self.h.changeColBounds(int(c), value, value)

    def best(self) -> float | None:
        self.h.run()
        if self.h.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        return float(self.cost @ np.asarray(self.h.getSolution().col_value))

    def at(self, name: str, *index: int) -> int:
        return int(self.columns[name].reshape(self.shapes[name])[index])

    def flow(self, asset: str, step: int) -> dict[int, float]:
        """Columns and coefficients of a power."""
        site, out = self.structure.site, {}
        for b, unit in enumerate(site.bess):
            if unit.id == asset:
                for k in range(self.shapes["charge_kw"][1]):
                    out[self.at("discharge_kw", b, k, step)] = 1.0
                    out[self.at("charge_kw", b, k, step)] = -1.0
        for g, genset in enumerate(site.gensets):
            if genset.id == asset:
                out[self.at("on", g, step)] = genset.p_min_kw
                for k in range(self.shapes["above_kw"][1]):
                    out[self.at("above_kw", g, k, step)] = 1.0
        if asset == site.grid.id:
            out = {self.at("import_kw", step): 1.0, self.at("export_kw", step): -1.0}
        out |= {self.at("pv_kw", i, step): 1.0 for i, v in enumerate(site.pv) if v.id == asset}
        out |= {self.at("shed_kw", i, step): 1.0 for i, f in enumerate(site.feeders) if f.id == asset}
        out |= {self.at("device_kw", i, step): 1.0 for i, d in enumerate(site.deferrables) if d.id == asset}
        return out

    def with_flow(self, asset: str, step: int, p_kw: float) -> float | None:
        """Best cost with a power fixed."""
        flow = self.flow(asset, step)
        self.h.addRow(p_kw, p_kw, len(flow), np.array(list(flow), np.int32), np.array(list(flow.values())))
        out = self.best()
        last = self.h.getNumRow() - 1
        self.h.deleteRows(1, np.array([last], np.int32))
        return out

    def with_rhs(self, name: str, more: float) -> float | None:
        row = self.row_names.index(name)
        self.h.changeRowBounds(row, self.row_low[row] + more, self.row_high[row] + more)
        out = self.best()
        self.h.changeRowBounds(row, self.row_low[row], self.row_high[row])
        return out

    def with_columns(self, columns: list[int], low: float | None, high: float) -> float | None:
        for c in columns:
            self.h.changeColBounds(c, self.low[c] if low is None else low, high)
        out = self.best()
        for c in columns:
            self.h.changeColBounds(c, self.low[c], self.high[c])
        return out

    def raised(self, columns: list[int], more: float) -> float | None:
        for c in columns:
            self.h.changeColBounds(c, self.low[c], self.high[c] + more)
        out = self.best()
        for c in columns:
            self.h.changeColBounds(c, self.low[c], self.high[c])
        return out

    def whole(self, gap_ratio: float, nodes: int) -> tuple[float, float]:
        """(proven bound, best found) with integers; infinite where there is none.

        Nodes end the search and no clock: what holds on an idle machine holds on a busy one.
        """
        for c in np.flatnonzero(self.integer):
            self.h.changeColIntegrality(int(c), highspy.HighsVarType.kInteger)
        self.h.setOptionValue("mip_rel_gap", gap_ratio)
        self.h.setOptionValue("mip_max_nodes", nodes)
        self.h.run()
        info = self.h.getInfo()
        if self.h.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
            return np.inf, np.inf
        found = info.objective_function_value if info.primal_solution_status == 2 else np.inf
        bound = info.mip_dual_bound if self.integer.any() else found
        return float(bound), float(found)


@dataclass
class Checked:
    """What was found: parts of sentences that held, and those that did not."""

    held: dict[str, int] = field(default_factory=dict)
    false: list[str] = field(default_factory=list)

    def expect(self, kind: str, true: bool, sentence: str, why: str = "") -> None:
        if true:
            self.held[kind] = self.held.get(kind, 0) + 1
        else:
            self.false.append(f"{kind}: {why}: {sentence}")


class Held:
    """A program with a row for every power of the plan, to hold them by."""

    def __init__(self, c: "Checker") -> None:
        plan, self.program = c.plan, c.program(c.p)
        series = (plan.bess_p_kw, plan.genset_p_kw, plan.pv_p_kw, plan.shed_kw, plan.deferrable_kw)
        assets = [*(a for group in series for a in group), c.posed.site.grid.id]
        x = np.zeros(len(self.program.cost))
        for name, at in self.program.columns.items():
            x[at] = c.integers[name].ravel()
        self.powers = {}  # as a solution of the model has them, which fits the plan
        for asset, t in ((a, t) for a in assets for t in range(c.p.steps)):
            self.powers[asset, t] = sum(k * float(x[i]) for i, k in self.program.flow(asset, t).items())
        self.first = self.program.h.getNumRow()
        for asset, t in self.powers:
            flow = self.program.flow(asset, t)
            at, factors = np.array(list(flow), np.int32), np.array(list(flow.values()))
            self.program.h.addRow(-np.inf, np.inf, len(flow), at, factors)

    def between(self, row: str, more: float, low: list[float], high: list[float]) -> float | None:
        rows = np.arange(self.first, self.first + len(low), dtype=np.int32)
        self.program.h.changeRowsBounds(len(low), rows, np.array(low), np.array(high))
        return self.program.with_rhs(row, more)


class Checker:
    """Reads the sentences of one explanation."""

    def __init__(self, posed: Posed, plan: Plan, explanation: Explanation) -> None:
        self.posed, self.plan, self.e = posed, plan, explanation
        layout, x = problem_of_plan(posed, plan)
        self.integers = layout.compiled.values(x)
        self.p = layout.problem
        self.base = self.program(self.p)
        objective = self.base.best()
        assert objective is not None
        self.objective = objective
        self.x = np.asarray(self.base.h.getSolution().col_value)
        self.zone = ZoneInfo(posed.site.timezone)
        self.programs: dict[str, tuple[Program, float] | None] = {}
        self.worth: dict[tuple[str, int], float] = {}
        self.done = Checked()

    def program(self, p: PlanningProblem) -> Program:
        out = Program(p, self.posed)
        out.fix(self.integers)
        return out

    def run(self) -> Checked:
        for w in self.e.setpoints:
            self.setpoint(w)
        for c in self.e.commitments:
            self.commitment(c)
        for k in self.e.conflicts:
            self.conflict(k)
        for x in self.e.worths:
            self.worths(x.key, x.step, x.saving_cost)
        return self.done

    # setpoints

    def setpoint(self, w: SetpointWhy) -> None:
        head, *parts = w.sentence.removesuffix(".").split("; ")
        self.subject(head, w)
        told = 0
        for part in parts:
            if part.startswith("a kWh less demand would save"):
                self.marginal(part, w)
            elif part.startswith("a kWh less stored and no more charged"):
                self.use(part, w)
            elif m := re.fullmatch(rf"(.*) leaving it would save ({NUMBER}) \w+", part):
                self.reason(m[1], float(m[2]), w.reasons[told], w)
                told += 1
            elif m := re.fullmatch(rf"another power would be ({NUMBER}) \w+ better .*gap", part):
                kept = self.base.with_flow(w.asset, w.step, w.p_kw)
                better = np.inf if kept is None else kept - self.objective
                self.done.expect("gap", abs(better - float(m[1])) < 2 * TOLERANCE, w.sentence, f"{better}")
            else:
                self.alternatives(part, w)
        self.done.expect("reasons", told == len(w.reasons), w.sentence, "reasons told")

    def subject(self, text: str, w: SetpointWhy) -> None:
        plan, t = self.plan, w.step
        span = self.span(w.start, w.end)
        at = text.find(span)
        self.done.expect("time", at > 0 and w.start == plan.grid.starts()[t], w.sentence, f"not {span}")
        said, limits = text[:at].strip(), [x for x in text[at + len(span) :].split(", ") if x]
        series = {**plan.bess_p_kw, **plan.genset_p_kw, **plan.pv_p_kw, **plan.deferrable_kw}
        p = plan.shed_kw[w.asset][t] if w.quantity == "shed_kw" else (
            plan.grid_p_kw[t] if w.asset == self.posed.site.grid.id else series[w.asset][t]
        )  # fmt: skip
        load = plan.load_kw.get(w.asset, (0.0,) * (t + 1))[t]
        sun = plan.pv_available_kw.get(w.asset, (0.0,) * (t + 1))[t]
        on = plan.genset_on.get(w.asset, (0.0,) * (t + 1))[t] > 0.5
        facts: list[tuple[str, Callable[[list[float]], bool]]] = [
            (r"(\S+) is served in full \((N) kW\)", lambda n: abs(p) <= 0.05 and near(n[0], load)),
            (r"(N) kW of (N) kW of (\S+) are shed", lambda n: near(n[0], p) and near(n[1], load)),
            (r"(\S+) gives nothing, the mains are away", lambda n: plan.grid_mode[t] != GridMode.GRID_TIED),
            (r"nothing is imported or exported", lambda n: abs(p) <= 0.05),
            (r"(N) kW are imported", lambda n: near(n[0], p) and p > 0),
            (r"(N) kW are exported", lambda n: near(n[0], -p) and p < 0),
            (r"(\S+) has nothing to give", lambda n: sun <= 0.05),
            (r"(\S+) is used in full \((N) kW\)", lambda n: near(n[0], p) and near(n[0], sun)),
            (r"(\S+) is curtailed by (N) kW of (N) kW", lambda n: near(n[0], sun - p) and near(n[1], sun)),
            (r"(\S+) gives (N) kW", lambda n: near(n[0], p) and on),
            (r"(\S+) is off", lambda n: not on and abs(p) < 0.05),
            (r"(\S+) idles", lambda n: abs(p) <= 0.05),
            (r"(\S+) charges (N) kW", lambda n: near(n[0], -p)),
            (r"(\S+) discharges (N) kW", lambda n: near(n[0], p)),
            (r"(\S+) takes nothing", lambda n: w.quantity == "deferrable_kw" and p <= 0.05),
            (r"(\S+) takes (N) kW", lambda n: w.quantity == "deferrable_kw" and near(n[0], p) and p > 0.05),
        ]
        for pattern, holds in facts:
            m = re.fullmatch(pattern.replace("N", NUMBER), said)
            if m:
                n = [float(x) for x in m.groups() if re.fullmatch(NUMBER, x)]
                named = [x for x in m.groups() if not re.fullmatch(NUMBER, x)]
                true = holds(n) and all(x == w.asset for x in named) and abs(w.p_kw - p) < 1e-9
                self.done.expect("subject", true, w.sentence, said)
                break
        else:
            self.done.expect("subject", False, w.sentence, "cannot be read")
        for limit in limits:
            if limit.startswith("for "):
                self.purpose(limit, w, p)
            else:
                self.done.expect("at limit", self.at_limit(limit, w, p), w.sentence, limit)

    def at_limit(self, words: str, w: SetpointWhy, p: float) -> bool:
        site, t = self.posed.site, w.step
        if words in ("full at its end", "empty at its end"):
            b = next(b.battery for b in site.bess if b.id == w.asset)
            soc = self.plan.bess_soc_end[w.asset][t]
            return soc >= b.soc_max - 1e-3 if words[0] == "f" else soc <= b.soc_min + 1e-3
        if words in ("its minimum load", "its rating"):
            g = next(g for g in site.gensets if g.id == w.asset)
            return abs(p - (g.p_min_kw if words == "its minimum load" else g.p_rated_kw)) < 0.1
        if words == "its import cap":
            return abs(p - float(self.p.import_cap_kw[t])) < 0.1
        if words == "its export cap":
            return abs(p + float(self.p.export_cap_kw[t])) < 0.1
        i = next(i for i, b in enumerate(site.bess) if b.id == w.asset)
        limit = -self.p.bess[i].p_charge_kw[t] if p < 0 else self.p.bess[i].p_discharge_kw[t]
        return words == "its limit" and abs(p - limit) < 0.1

    def marginal(self, part: str, w: SetpointWhy) -> None:
        m = re.fullmatch(
            rf"a kWh less demand would save ({NUMBER}) \w+(?:, a kWh more stored ({NUMBER}) \w+)?", part
        )
        self.done.expect("read", m is not None, w.sentence, part)
        if m is None:
            return
        less = self.saved(f"balance[{w.step}]", -1.0 / float(self.p.step_h[w.step]))
        self.done.expect("worth of power", abs(less - float(m[1])) < 6e-4 + TOLERANCE, w.sentence, f"{less}")
        if m[2] is not None:
            b = [x.id for x in self.posed.site.bess].index(w.asset)
            more = self.saved(f"energy[{b},{w.step}]", 1.0)
            self.done.expect(
                "worth of energy", abs(more - float(m[2])) < 6e-4 + TOLERANCE, w.sentence, f"{more}"
            )

    def saved(self, row: str, more: float) -> float:
        if (row, 0) not in self.worth:
            cost = self.base.with_rhs(row, more)
            self.worth[row, 0] = np.nan if cost is None else self.objective - cost
        return self.worth[row, 0]

    def alternatives(self, part: str, w: SetpointWhy) -> None:
        said: list[tuple[str, float | None, bool]] = []  # what, money, at most
        for piece in re.split(r", (?=\S+ kW |shedding )", part):
            if m := re.fullmatch(r"(.*) is impossible", piece):
                said.append((m[1], None, False))
            elif m := re.fullmatch(rf"(.*) would cost no more than ({NUMBER}) \w+", piece):
                said += [(x, float(m[2]), True) for x in m[1].split(" or ")]
            elif m := re.fullmatch(r"(.*) would cost ([+-]\d+\.\d\d) \w+", piece):
                said.append((m[1], float(m[2]), False))
            else:
                self.done.expect("read", False, w.sentence, piece)
        self.done.expect("choices told", len(said) == len(w.alternatives), w.sentence)
        for a in w.alternatives:
            self.alternative(a, said, w)

    def alternative(self, a: Alternative, said: list[tuple[str, float | None, bool]], w: SetpointWhy) -> None:
        kws = [float(re.findall(rf"[+-]?{NUMBER}(?:e-?\d+)?", text)[0]) for text, _, _ in said]
        mine = [x[1:] for x, p in zip(said, kws, strict=True) if abs(p - a.p_kw) < 1e-6 * max(1.0, abs(p))]
        self.done.expect("choice told", len(mine) == 1, w.sentence, f"{a}")
        if not mine:
            return
        cost = self.base.with_flow(w.asset, w.step, a.p_kw)
        at_plan = self.base.with_flow(w.asset, w.step, w.p_kw)
        told, most = mine[0]
        if cost is None or at_plan is None or told is None:
            self.done.expect("impossible", cost is None and told is None, w.sentence, f"{cost}")
            return
        true = cost - at_plan <= told + TOLERANCE if most else abs(cost - at_plan - told) < TOLERANCE
        self.done.expect("cost of another", true, w.sentence, f"{a.p_kw}: {cost - at_plan:.4f}")

    # what stored energy is for

    def purpose(self, words: str, w: SetpointWhy, p: float) -> None:
        """Told only of charging, of what comes later, and as in the statement about a kWh less."""
        told = next(x for x in w.sentence.split("; ") if x.startswith("a kWh less stored"))
        where = words.removeprefix("for ")
        same = f"{where} and cost" in told or (where == "what is left in the end" and "in the end" in told)
        later = where == "what is left in the end" or self.steps_of(where)[0] > w.step
        self.done.expect("purpose", same and later and p < 0.0, w.sentence, words)

    def steps_of(self, where: str) -> range:
        """The steps of a span of local time."""
        starts = [*self.plan.grid.starts(), self.plan.grid.end]
        span = where.removeprefix("the outage ").split(" at ")[0]
        for a in range(self.p.steps):
            for z in range(a + 1, self.p.steps + 1):
                if self.span(starts[a], starts[z]) == span:
                    return range(a, z)
        return range(0)

    def use(self, part: str, w: SetpointWhy) -> None:
        """A kWh less, no more charged: what it costs, and that one asset in one window makes up for it."""
        head = "a kWh less stored and no more charged would be"
        m = re.fullmatch(rf"{head} (?:lacking in the end|made up by (.+?)) and cost ({NUMBER}) \w+", part)
        self.done.expect("read", m is not None and w.use is not None, w.sentence, part)
        if m is None:
            return
        inside, asset = range(0), ""
        if m[1] is not None:
            asset, where = m[1].removeprefix("shedding ").split(" ", 1)
            where = where.removeprefix("in ")
            inside = self.steps_of(where)
            self.done.expect("window", self.window(where, inside), w.sentence, where)
        b = [x.id for x in self.posed.site.bess].index(w.asset)
        least = self.lacking(w.asset, f"energy[{b},{w.step}]", None)
        there = self.lacking(w.asset, f"energy[{b},{w.step}]", (asset, inside))
        said = float(m[2])
        self.done.expect("cost of a kWh less", abs(least - said) < 6e-4 + TOLERANCE, w.sentence, f"{least}")
        self.done.expect("made up there", there < said + 1.2e-3 + TOLERANCE, w.sentence, f"{there}")

    def window(self, where: str, inside: range) -> bool:
        """An island, or steps of one price."""
        if where.startswith("the outage "):
            return len(inside) > 0 and not self.p.grid_available[inside].any()
        m = re.search(rf" at ({NUMBER}) \w+/kWh$", where)
        steps = list(inside)
        same = m is not None and np.allclose(self.p.import_per_kwh[steps], float(m[1]), rtol=1e-5)
        return len(steps) > 0 and bool(self.p.grid_available[steps].all()) and same

    def lacking(self, battery: str, row: str, place: tuple[str, range] | None) -> float:
        """Cost of a kWh less with no more charged, and with all else as planned outside of a place."""
        low, high, held = [], [], self.held
        for (asset, t), p in held.powers.items():
            free = place is None or (t in place[1] and asset in (battery, place[0]))
            lo, hi = (-np.inf, np.inf) if free else (p - 1e-6, p + 1e-6)
            low.append(max(lo, min(p, 0.0) - 1e-6) if asset == battery else lo)
            high.append(hi)
        begin = held.between(row, 0.0, low, high)
        less = held.between(row, -1.0, low, high)
        return np.inf if less is None or begin is None else less - begin

    @cached_property
    def held(self) -> "Held":
        return Held(self)

    # reasons

    def reason(self, words: str, saving: float, r: Reason, w: SetpointWhy) -> None:
        self.done.expect("words", r.change == words and abs(r.saving_cost - saving) < TOLERANCE, w.sentence)
        changed = self.changed(r)
        if changed is None:
            self.done.expect("read", False, w.sentence, f"change {words}")
            return
        program, best = changed
        kept = program.with_flow(w.asset, w.step, w.p_kw)
        regret = np.inf if kept is None else kept - best
        self.done.expect("reason", abs(regret - saving) < 2 * TOLERANCE, w.sentence, f"{words}: {regret}")

    def changed(self, r: Reason) -> tuple[Program, float] | None:
        if r.change not in self.programs:
            p = edited(self, r)
            if p is None:
                self.programs[r.change] = None
            else:
                program = self.program(p)
                best = program.best()
                self.programs[r.change] = None if best is None else (program, best)
        return self.programs[r.change]

    def span(self, start: datetime, end: datetime) -> str:
        a, b = start.astimezone(self.zone), end.astimezone(self.zone)
        last = f"{b:%H:%M}" if a.date() == b.date() else f"{b:%a %H:%M}"
        return f"{a:%a %H:%M} to {last}"

    # commitment and worths

    def commitment(self, c: CommitmentWhy) -> None:
        program = Program(self.p, self.posed)
        site = self.posed.site
        by_kind = {
            "on": list(self.plan.genset_on),
            "device_on": [d.id for d in site.deferrables if d.switched],
            "feeder_open": [f.id for f in site.feeders if f.has_breaker],
        }
        kind, ids = next((k, x) for k, x in by_kind.items() if c.asset in x)
        at = [program.at(kind, ids.index(c.asset), t) for t in range(c.first, c.last + 1)]
        head, *parts = c.sentence.removesuffix(".").split("; ")
        self.done.expect("run", self.span(c.start, c.end) in head and self.ran(c, kind), c.sentence, head)
        told = 0
        for part in parts:
            if m := re.fullmatch(SAVES, part):
                self.switched(m, c.reasons[told], c, (kind, ids.index(c.asset)))
                told += 1
            elif m := re.fullmatch(r".* with nothing else switched would cost ([+-]\d+\.\d\d) \w+", part):
                alone = self.base.with_columns(at, 0.0, 0.0)
                more = np.inf if alone is None else alone - self.objective
                self.done.expect("run left out", abs(more - float(m[1])) < TOLERANCE, c.sentence, f"{more}")
            elif part.startswith(("the cheapest plan", "there is no plan")):
                self.next_best(part, c, (program, at))
            elif part.startswith("without it ") or " load less PV" in part:
                self.need(part, c)
            else:
                fixed = program.low[at].max() > 0.5 if c.on else program.high[at].max() < 0.5
                self.done.expect("bound", fixed and self.bound(part, c), c.sentence, part)
        self.done.expect("reasons", told == len(c.reasons), c.sentence, "reasons told")

    def ran(self, c: CommitmentWhy, kind: str) -> bool:
        if kind == "on":
            return all((x > 0.5) == c.on for x in self.plan.genset_on[c.asset][c.first : c.last + 1])
        if kind == "device_on":
            k = [d.id for d in self.posed.site.deferrables if d.switched].index(c.asset)
            return bool((self.integers["device_on"][k, c.first : c.last + 1] > 0.5).all())
        shed, load = self.plan.shed_kw[c.asset], self.plan.load_kw[c.asset]
        return all(abs(shed[t] - load[t]) < 0.1 for t in range(c.first, c.last + 1))

    def switched(self, m: re.Match[str], r: Reason, c: CommitmentWhy, of: tuple[str, int]) -> None:
        """A saving of leaving it off with all else as planned, or at least of what is found by switching."""
        changed = self.changed(r)
        leaving, saving = m[2], float(m[4])
        said = r.change == m[1] and r.leaving == leaving and r.at_least == (m[3] is not None)
        if changed is None:
            self.done.expect("read", False, c.sentence, f"change {m[1]}")
        elif m[3] is None:
            at = [changed[0].at(*of, t) for t in range(c.first, c.last + 1)]
            without = changed[0].with_columns(at, 0.0, 0.0)
            found = -np.inf if without is None else changed[1] - without
            true = said and abs(found - saving) < 2 * TOLERANCE
            self.done.expect("reason of a run", true, c.sentence, f"{found}")
        else:
            p = edited(self, r)
            assert p is not None
            other = re.search(r"with (\S+) switched", leaving)
            found = self.otherwise(p, c, None if other is None else other[1])[0]
            before = self.otherwise(self.p, c, None if other is None else other[1])[1]
            true = said and found > saving - 2 * TOLERANCE and before < saving + TOLERANCE
            self.done.expect("reason of switching", true, c.sentence, f"{found}, without the change {before}")

    def otherwise(self, p: PlanningProblem, c: CommitmentWhy, other: str | None) -> tuple[float, float]:
        """Saving proven, and at most, of switching a run otherwise, or leaving it off with another free."""
        ids = list(self.plan.genset_on)

        def posed(value: float | None) -> tuple[float, float]:
            program, g = self.program(p), ids.index(c.asset)
            mine = [program.at("on", g, t) for t in range(c.first, c.last + 1)]
            whole = np.flatnonzero(p.integral).tolist()
            theirs = [program.at("on", ids.index(other), t) for t in whole] if other else []
            held = ("on", "feeder_open", "device_on", "importing", "charging", "piece_full")
            rest = [i for name, where in program.columns.items() if name not in held for i in where]
            program.release([*theirs, *rest, *([] if other else mine)])
            for col in mine if value is not None else ():
                program.h.changeColBounds(col, value, value)
            return program.whole(1e-6, 3000)  # to the end

        if other is None:
            as_planned = self.program(p).best()
            assert as_planned is not None
            bound, found = posed(None)
            return as_planned - found, as_planned - bound
        (least, found), (kept_least, kept) = posed(0.0), posed(1.0)
        return kept_least - found, kept - least

    def bound(self, part: str, c: CommitmentWhy) -> bool:
        """Each limit that is named binds some step of the run."""
        if part == "it is not available":
            now = self.posed.condition.gensets.get(c.asset)
            return now is None or not now.available
        if not part.startswith("bound by "):
            return False
        return all(self.binds(x, c) for x in re.split(r" and (?=its )", part.removeprefix("bound by ")))

    def binds(self, limit: str, c: CommitmentWhy) -> bool:
        site, now = self.posed.site, self.posed.condition.gensets[c.asset]
        g = next(g for g in site.gensets if g.id == c.asset)
        begin_s = float(self.plan.grid.offset_s[c.first])
        if m := re.fullmatch(r"its maintenance (.*)", limit):
            mine = [w for w in site.maintenance if self.span(w.start, w.end) == m[1] and w.asset == g.id]
            return any(w.start < c.end and w.end > c.start for w in mine)
        if limit == "its start delay":
            in_time = c.first == 0 and g.start_delay_s <= 0.25 * self.plan.grid.step_s[0]
            return not now.on_load and not now.starting and begin_s < g.start_delay_s and not in_time
        if limit == "its start in progress":
            return now.starting and not now.on_load
        m = re.fullmatch(rf"its minimum (up|down) time of ({NUMBER}) min", limit)
        if m is None or abs(float(m[2]) * 60.0 - (g.min_up_s if m[1] == "up" else g.min_down_s)) > 0.1:
            return False
        if m[1] == "up":
            return now.starting or (now.on_load and now.age_s + begin_s < g.min_up_s)
        return not now.on_load and now.age_s + begin_s < g.min_down_s

    def next_best(self, part: str, c: CommitmentWhy, run: tuple[Program, list[int]]) -> None:
        program, at = run
        if c.on:
            for col in at:
                program.h.changeColBounds(col, min(0.0, program.low[col]), 0.0)
        else:
            program.h.addRow(1.0, np.inf, len(at), np.array(at, np.int32), np.ones(len(at)))
        bound, found = program.whole(5e-3, 20)
        n = [float(x) for x in re.findall(r"[+-]\d+\.\d\d", part)]
        if part.startswith("there is no plan"):
            self.done.expect("no other", bound == np.inf, c.sentence, f"{bound} {found}")
            return
        low, high = (n[0], n[-1]) if n else (-np.inf, np.inf)
        low, high = -np.inf if "at most" in part else low, np.inf if "at least" in part else high
        holds = found - self.objective >= low - TOLERANCE and bound - self.objective <= high + TOLERANCE
        self.done.expect(
            "next-best run", holds, c.sentence, f"{bound - self.objective} {found - self.objective}"
        )

    def need(self, part: str, c: CommitmentWhy) -> None:
        """The numbers of an outage, a peak or reserve."""
        unserved = re.search(
            r",? ?without it at least (N) kWh of load are not served(?: instead of (N) kWh)?$".replace(
                "N", NUMBER
            ),
            part,
        )
        if unserved is not None:
            planned = float(self.hours("shed_kw") @ self.x)
            least = self.least(c, ("shed_kw",), PHYSICS)
            said = (float(unserved[1]), float(unserved[2]) if unserved[2] else 0.0)
            holds = near(said[0], least) and (near(said[1], planned) or (not unserved[2] and planned < 0.6))
            self.done.expect("unserved", holds and least > planned, c.sentence, f"{least} {planned}")
            part = part[: unserved.start()]
        kinds: list[tuple[str, Callable[..., bool]]] = [
            (r"(.+?) (critical )?load less PV exceeds the batteries' power((?: and \S+)*) by (N) kW "
             r"\((N) kW against (N) kW\)", self.power_short),
            (r"(.+?) (critical )?load less PV( and other gensets)? takes (N) kWh, (N) kWh more than the "
             r"batteries hold when it begins", self.energy_short),
            (r"without it the import reaches at least (N) kW in a billing interval instead of (N) kW",
             self.peak_without),
            (r"without it at least (N) kWh of reserve are short instead of (N) kWh", self.reserve_without),
        ]  # fmt: skip
        for pattern, true in kinds:
            if m := re.fullmatch(pattern.replace("(N)", f"({NUMBER})"), part):
                self.done.expect(true.__name__, true(c, *m.groups()), c.sentence, part)
                return
        self.done.expect("read", False, c.sentence, part)

    def net_and_rest(self, c: CommitmentWhy, vital: str | None) -> tuple[np.ndarray, np.ndarray]:
        """(T,) load less PV, and the ratings of the other gensets on load."""
        site = self.posed.site
        most = site.reserve.critical_tier if vital else 99
        mine = [i for i, f in enumerate(site.feeders) if f.tier <= most or not f.has_breaker]
        rest = [
            g.p_rated_kw * (np.array(self.plan.genset_on[g.id]) > 0.5)
            for g in site.gensets
            if g.id != c.asset
        ]
        return self.p.load_kw[mine].sum(axis=0) - self.p.pv_kw.sum(axis=0), np.sum(
            [np.zeros(self.p.steps), *rest], axis=0
        )

    def power_short(self, c: CommitmentWhy, when: str, vital: str | None, also: str, *said: str) -> bool:
        net, rest = self.net_and_rest(c, vital)
        t = next(
            t
            for t, s in enumerate(self.plan.grid.starts())
            if c.first <= t <= c.last and s.astimezone(self.zone).strftime("%a %H:%M") == when
        )
        power = sum(float(b.p_discharge_kw[t]) for b in self.p.bess) + float(rest[t])
        on = [g for g, x in self.plan.genset_on.items() if g != c.asset and x[t] > 0.5]
        beyond, needed, there = (float(x) for x in said)
        numbers = near(beyond, net[t] - power) and near(needed, net[t]) and near(there, power)
        named = also.split(" and ")[1:] == on
        return numbers and named and not self.p.grid_available[t] and net[t] > power

    def energy_short(
        self, c: CommitmentWhy, span: str, vital: str | None, also: str | None, *said: str
    ) -> bool:
        net, rest = self.net_and_rest(c, vital)
        inside = self.steps_of(span)
        if not inside or self.p.grid_available[inside].any():
            return False
        held = 0.0
        for i, b in enumerate(self.posed.site.bess):
            begin = (
                self.plan.bess_soc_end[b.id][inside[0] - 1] * b.battery.energy_kwh
                if inside[0]
                else self.p.bess[i].stored_kwh
            )
            held += max(0.0, begin - b.battery.soc_min * b.battery.energy_kwh)
        need = float(sum((net[t] - rest[t]) * self.p.step_h[t] for t in inside))
        named = (also is not None) == bool(rest[inside].any())
        return near(float(said[0]), need) and near(float(said[1]), need - held) and need > held and named

    def peak_without(self, c: CommitmentWhy, least: str, there: str) -> bool:
        found = self.least(c, ("peak_kw",), (*PHYSICS, "shed_kw", *RESERVES))
        return (
            near(float(least), found)
            and near(float(there), self.plan.peak_import_kw)
            and found > float(there)
        )

    def reserve_without(self, c: CommitmentWhy, least: str, there: str) -> bool:
        names = [x for x in RESERVES if x in self.base.columns]
        found, planned = self.least(c, names, (*PHYSICS, "shed_kw")), float(self.hours(*names) @ self.x)
        return near(float(least), found) and near(float(there), planned) and found > planned

    def hours(self, *names: str) -> np.ndarray:
        out = np.zeros(len(self.base.cost))
        for name in names:
            shape = self.base.shapes[name]
            each = np.broadcast_to(self.p.step_h, shape) if name != "peak_kw" else np.array([1.0, 0.0])
            out[self.base.columns[name]] = each.ravel()
        return out

    def least(self, c: CommitmentWhy, names: Sequence[str], capped: Sequence[str]) -> float:
        """The least of some misses without a run of a genset, others at most the plan's, feeders in part."""
        program = self.program(self.p)
        low, high = program.low.copy(), program.high.copy()
        g = list(self.plan.genset_on).index(c.asset)
        for t in range(c.first, c.last + 1):
            low[program.at("on", g, t)] = high[program.at("on", g, t)] = 0.0
        for name in capped:
            if name in program.columns:
                at = program.columns[name]
                high[at] = np.minimum(high[at], np.maximum(self.x[at], low[at]) + 1e-6)
        if "feeder_open" in program.columns:
            low[program.columns["feeder_open"]], high[program.columns["feeder_open"]] = 0.0, 1.0
        every, weight = np.arange(len(low), dtype=np.int32), self.hours(*names)
        program.h.changeColsBounds(len(low), every, low, high)
        program.h.changeColsCost(len(low), every, weight)
        program.cost = weight
        found = program.best()
        return np.inf if found is None else found

    # conflicts

    def conflict(self, c: Conflict) -> None:
        """With all limits outside the set lifted it is still missed; with any one of the set as well, not."""
        name, index, amount = self.missed(c)
        limits = limits_to_lift(self.posed, self.p)
        every, held = {x.key for x in limits}, set(c.keys)
        nothing = 2e-3 * amount

        def least(lifted: set[str]) -> tuple[float, float]:
            p = rebuilt(self.p, self.posed, [x for x in limits if x.key in lifted])
            return self.least_missed(p, name, index)

        if "not decided within the search" in c.sentence:
            self.done.expect("undecided", not held and not c.minimal, c.sentence)
            return
        if "no limit forces it" in c.sentence:
            self.done.expect("by choice", not held and least(set())[1] <= nothing, c.sentence)
            return
        bound, found = least(every - held)
        self.done.expect("conflict", bound > 0.5 * nothing or found > nothing, c.sentence, f"{bound} {found}")
        if not held:
            self.done.expect("whatever", "whatever limit is lifted" in c.sentence, c.sentence)
        for key in held if c.minimal else ():
            found = least((every - held) | {key})[1]
            self.done.expect("lifting one ends it", found <= nothing, c.sentence, f"{key}: {found}")

    def missed(self, c: Conflict) -> tuple[str, int | None, float]:
        """What a conflict is about, after comparing what it says with the plan."""
        site, plan, whole = self.posed.site, self.plan, self.p.integral
        n = [float(x) for x in re.findall(NUMBER, c.missed.split(" ", 1)[1])]
        if m := re.match(r"(\S+) is not served", c.missed):
            series = np.where(whole, plan.shed_kw[m[1]], 0.0)
            self.done.expect("missed", abs(n[-1] - float(series @ self.p.step_h)) < 0.06, c.sentence)
            return "shed_kw", [f.id for f in site.feeders].index(m[1]), n[-1]
        if m := re.match(r"(\S+) lacks (\d+) L", c.missed):
            return "tank_short_l", [g.id for g in site.gensets].index(m[1]), n[0]
        if m := re.match(r"(\S+) is up to \S+ kWh (below|above) its window", c.missed):
            return f"{m[2]}_kwh", [b.id for b in site.bess].index(m[1]), n[0]
        if m := re.match(rf"(\S+) does not do ({NUMBER}) kWh of its work", c.missed):
            self.done.expect("undone", abs(plan.unfinished_kwh[m[1]] - float(m[2])) < 0.06, c.sentence)
            return "device_lost_kwh", [d.id for d in site.deferrables].index(m[1]), float(m[2])
        words = {
            "upward reserve is short": "short_kw",
            "downward reserve is short": "short_down_kw",
            "upward reserve for a contingency is short": "n1_short_kw",
            "upward reserve for a contingency beside the grid is short": "n1_tied_short_kw",
            "downward reserve for a load trip is short": "n1_down_short_kw",
            "energy to survive an outage is short": "survive_short_kwh",
            "the transformer is overloaded": "transformer_over_kva",
            "surplus that the bus cannot absorb": "surplus_kw",
            "auxiliaries without supply": "aux_short_kw",
        }
        known = [v for k, v in words.items() if c.missed.startswith(k)]
        self.done.expect("read", bool(known), c.sentence, c.missed)
        return (known or ["short_kw"])[0], None, n[-1]

    def least_missed(self, p: PlanningProblem, name: str, index: int | None) -> tuple[float, float]:
        """(proven at least, found) of what must be missed, every other miss at most the plan's."""
        program = Program(p, self.posed)
        if name not in program.columns:  # nobody asks for it any more
            return 0.0, 0.0
        cost = np.zeros(len(program.cost))
        hours = 1.0 if name in COUNTED else np.where(p.integral, p.step_h, 0.0)
        weight = np.zeros(program.shapes[name])
        weight[slice(None) if index is None else index] = hours
        cost[program.columns[name]] = weight.ravel()
        for slack in slack_names(program.columns):
            at, tops = program.columns[slack], self.integers.get(slack, np.zeros(0)).ravel()
            for col, top in zip(at, tops, strict=True) if len(tops) == len(at) else ():
                low = float(program.low[col])
                high = min(float(program.high[col]), max(low, float(top) + 1e-6))
                program.h.changeColBounds(int(col), low, high)
        program.h.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)
        return program.whole(1e-2, 50)

    def worths(self, key: str, step: int | None, saving: float) -> None:
        site = self.posed.site
        if key == "grid.p_import_kw_max":
            steps = range(self.p.steps) if step is None else [step]
            at = [self.base.at("import_kw", t) for t in steps if self.p.grid_available[t]]
            cost = self.base.raised(at, 1.0)
        elif key.endswith("tank_l"):
            cost = self.base.with_rhs(f"tank[{[g.id for g in site.gensets].index(key.split('.')[1])}]", 1.0)
        else:
            p = larger(self, key.split(".")[1], 1.0)
            cost = self.program(p).best()
        assert cost is not None
        self.done.expect(
            "worth", abs(self.objective - cost - saving) < 1e-4, key, f"{self.objective - cost} {saving}"
        )
