"""The control cycles as a trace: reserve, who decided, and what the plan had expected."""

import math
from collections.abc import Callable

from dispatch.vocabulary import Decisions, Source
from ems.plan import Plan
from ems.site import GridMode, Site
from sim.trace import Trace, TraceWriter

SOURCES = tuple(str(s) for s in Source)
MODES = tuple(str(m) for m in GridMode)
LAST = ("source", "mode", "reserve.energy_kwh")


class EdgeTrace:
    """Collects one row a cycle. Columns "plan.*" are NaN while no plan is followed."""

    def __init__(self, site: Site, bin_s_at: Callable[[float], float]) -> None:
        self._site = site
        reserve = ("reserve.required_kw", "reserve.held_kw", "reserve.short_kw", "reserve.energy_kwh")
        plan = ["plan.grid_kw", "plan.load_kw", "plan.pv_kw", "plan.pv_available_kw", "plan.reserve_short_kw"]
        plan += [f"plan.{b.id}.{x}" for b in site.bess for x in ("p_kw", "soc")]
        plan += [f"plan.{g.id}.p_kw" for g in site.gensets]
        self._plan_columns = tuple(plan)
        self._writer = TraceWriter(
            (*reserve, "source", "mode", *plan),
            (*LAST, *(p for p in plan if p.endswith(".soc"))),
            bin_s_at=bin_s_at,
            assets=(*SOURCES, *MODES),
        )

    def add(self, t_s: float, dt_s: float, decisions: Decisions, plan: Plan | None) -> None:
        """Take one cycle that stood from `t_s` for `dt_s` [s]."""
        reserve = decisions.reserve
        row = [reserve.required_kw, reserve.held_kw, reserve.short_kw, reserve.energy_kwh]
        row += [float(SOURCES.index(decisions.source)), float(MODES.index(decisions.mode))]
        followed = plan if plan is not None and plan.plan_id == decisions.plan_id else None
        self._writer.add(t_s, dt_s, [*row, *self._planned(followed, decisions)])

    def _planned(self, plan: Plan | None, decisions: Decisions) -> list[float]:
        step = None if plan is None else plan.grid.index_at(decisions.at)
        if plan is None or step is None:
            return [math.nan] * len(self._plan_columns)
        out = [plan.grid_p_kw[step], sum(v[step] for v in plan.load_kw.values())]
        out += [sum(v[step] for v in plan.pv_p_kw.values())]
        out += [sum(v[step] for v in plan.pv_available_kw.values()), plan.reserve_up_short_kw[step]]
        for b in self._site.bess:
            out += [plan.bess_p_kw[b.id][step], plan.bess_soc_end[b.id][step]]
        return out + [plan.genset_p_kw[g.id][step] for g in self._site.gensets]

    def trace(self) -> Trace:
        """Everything so far."""
        self._writer.close()
        return self._writer.trace()

    def state(self) -> tuple[object, ...]:
        """What a checkpoint must hold."""
        return self._writer.state()

    def restore(self, state: tuple[object, ...]) -> None:
        """Go on from `state()`."""
        self._writer.restore(state)
