"""Why a plan is as it is. On demand, after the plan: nothing here is ever in the way of planning.

>>> from optimizer.explain import Posed, explain
>>> posed = Posed(site=site, condition=condition, forecast=forecast, options=options)  # doctest: +SKIP
>>> for why in explain(posed, plan).setpoints:                                         # doctest: +SKIP
...     print(why.sentence)
"""

from datetime import timedelta

import numpy as np

from ems.clock import wall_s
from ems.errors import DataError
from ems.explanation import Explanation
from ems.plan import Plan
from optimizer.explain.bench import Bench, carried, setpoint_rows
from optimizer.explain.changes import changes
from optimizer.explain.commitment import explain_commitment
from optimizer.explain.conflict import explain_conflicts
from optimizer.explain.ground import Ground
from optimizer.explain.posed import Change, Layout, Posed, as_planned, changed, problem_of_plan
from optimizer.explain.power import explain_power
from optimizer.explain.sayings import SMALL_COST
from optimizer.explain.words import Words
from optimizer.explain.worth import explain_worths
from optimizer.formulations.battery import bent

__all__ = ["Posed", "explain"]


def explain(posed: Posed, plan: Plan, hours: float | None = None, *, search: bool = True) -> Explanation:
    """Explain every setpoint and commitment of a plan's whole steps.

    Parameters
    ----------
    posed : Posed
        What the plan was made from, and with which options.
    plan : Plan
        As `Planner.plan` returned it for the same.
    hours : float or None
        Only the steps that start within so many hours; None: all steps with whole commitment.
    search : bool
        Whether runs are asked with integers: the next-best commitment, and what a unit would do if its
        maintenance, quiet hours or minimum times were lifted. Without it an explanation of two hours costs
        1 to 8 s of CPU on the demo's plant.

    Raises
    ------
    DataError : the plan is a rescue, over scenarios, or no solution of what was posed.
    """
    begun, posed = wall_s(), as_planned(posed)
    layout, integers = problem_of_plan(posed, plan)
    bench = Bench(layout.compiled, layout.filled, integers)
    steps = _steps(layout, hours)
    runs = _runs(layout, bench, steps)
    narrow, wide = (
        changes(posed, layout.problem, lifted=x, burning=runs or x, peak_kw=plan.peak_import_kw)
        for x in (False, True)
    )
    made: dict[tuple[str, str], Bench | None] = {}  # a change in both lists has one bench
    widened = _benches(posed, (layout, bench), narrow, made)
    asked = wide if runs else [c for c in wide if search and (c.frees is not None or c.any_unit)]
    lifted = _benches(posed, (layout, bench), asked, made)
    ground = Ground(
        posed=posed,
        plan=plan,
        layout=layout,
        bench=bench,
        changed=tuple(widened),
        numbers=layout.compiled.numbers(layout.problem),
        fitted=integers,
        fitted_kw=setpoint_rows(layout.compiled) @ integers,
    )
    setpoints = explain_power(ground, steps)
    commitments, solves = explain_commitment(ground, lifted, steps, search=search)
    worths = explain_worths(ground, steps)
    conflicts, more = explain_conflicts(ground)
    starts = plan.grid.starts()
    return Explanation(
        plan_id=plan.plan_id,
        until=starts[steps - 1] + timedelta(seconds=plan.grid.step_s[steps - 1]),
        setpoints=tuple(setpoints),
        commitments=tuple(commitments),
        worths=tuple(worths),
        conflicts=tuple(conflicts),
        notes=_notes(posed, plan, layout, bench, search),
        solves=solves + more + bench.solves + sum(b.solves for b in made.values() if b is not None),
        took_s=wall_s() - begun,
    )


def _steps(layout: Layout, hours: float | None) -> int:
    whole = layout.problem.integral
    count = len(whole) if whole.all() else int(np.argmin(whole))
    if hours is None:
        return count
    return max(1, min(count, int((layout.problem.grid.offset_s[:-1] < hours * 3600.0 - 1e-6).sum())))


def _runs(layout: Layout, bench: Bench, steps: int) -> bool:
    """Whether a genset runs, or a feeder is open, in the plan's whole steps."""
    v = layout.compiled.values(bench.base.x)
    return any((v[name][:, :steps] > 0.5).any() for name in ("on", "feeder_open") if name in v)


def _benches(
    posed: Posed, of: tuple[Layout, Bench], asked: list[Change], made: dict[tuple[str, str], Bench | None]
) -> list[tuple[Change, Bench]]:
    """Each change on its own bench; one under which the commitment is impossible has nothing to say."""
    base, bench = of
    for change in asked:
        name = (change.key, change.words)
        if name in made:
            continue
        layout = changed(base, posed, change)
        same = layout.compiled.shapes == base.compiled.shapes
        basis = bench.basis if same and layout.compiled.form.shape == base.compiled.form.shape else None
        whole = carried(bench.base.x, base.compiled, layout.compiled)
        try:
            made[name] = Bench(layout.compiled, layout.filled, whole, basis)
        except DataError:
            made[name] = None
    found = [(change, made[change.key, change.words]) for change in asked]
    return [(change, one) for change, one in found if one is not None]


def _notes(posed: Posed, plan: Plan, layout: Layout, bench: Bench, search: bool) -> tuple[str, ...]:
    say, notes = Words(posed.site), []
    above = sum(plan.cost_terms.values()) - (bench.base.objective + layout.filled.offset)
    if above > SMALL_COST:
        notes.append(f"the plan is {say.money(above)} above the best with its own commitment")
    if layout.problem.exclusive.any():
        notes.append("directions of flow that have binaries are held like the commitment")
    if bent(layout.compiled.structure).any():
        notes.append(
            "between which points of its efficiency a battery works is held like the commitment, where its "
            "loss is not convex"
        )
    if layout.problem.shed_whole.any():
        notes.append("feeders are shed whole: which are open is held like the commitment")
    if not search:
        notes.append("in brief: no other commitment was looked for")
    return tuple(notes)
