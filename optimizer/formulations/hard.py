"""What a case will not miss at any price: rows that hold every slack at nothing.

    slack = 0,      pv_t = available_t  of what must be taken

So a case that cannot be kept is infeasible, and says so, where a plan would leave load unserved.
"""

from itertools import product

from optimizer.algebra import Model
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SLACKS = (
    "surplus_kw", "aux_short_kw", "dead", "running_short_kw", "short_kw", "short_down_kw", "n1_short_kw",
    "n1_down_short_kw", "unformed", "tank_short_l", "starts_over", "below_kwh", "above_kwh", "taper_over_kw",
    "idle_kwh", "device_lost_kwh",
)  # fmt: skip


def add(m: Model, s: Structure) -> None:
    """Rows alone."""
    terms = s.formulation.terms
    if not terms.hard:
        return
    for name in SLACKS:
        if name in m.shapes:
            every = list(product(*[range(k) for k in m.shapes[name]]))
            slack = m[name]
            if every:
                m.rows(
                    f"hard_{name}",
                    (len(every),),
                    lambda i, slack=slack, every=every: (
                        slack[every[i] if len(every[i]) > 1 else every[i][0]] <= 0
                    ),
                )
    must = [f for f, x in enumerate(s.site.feeders) if x.id not in terms.may_shed]
    if must:
        m.rows("hard_load", (len(must), s.steps), lambda f, t: m["shed_kw"][must[f], t] <= 0)
    taken = [i for i, x in enumerate(s.site.pv) if x.id in terms.must_take]
    if taken:
        there = m.par("hard_taken_kw", len(taken), s.steps)
        m.rows("hard_taken", (len(taken), s.steps), lambda i, t: m["pv_kw"][taken[i], t] >= there[i, t])


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What must be taken."""
    if "hard_taken_kw" in n.shapes:
        taken = [i for i, x in enumerate(s.site.pv) if x.id in s.formulation.terms.must_take]
        n.par("hard_taken_kw", p.pv_kw[taken])
