"""What every question about a plan is asked of."""

from dataclasses import dataclass

from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.explain.bench import Bench
from optimizer.explain.posed import Change, Layout, Posed
from optimizer.numbers import Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every question is asked of."""

    posed: Posed
    plan: Plan
    layout: Layout
    bench: Bench
    changed: tuple[tuple[Change, Bench], ...]
    numbers: Numbers
    fitted: FloatArray  # (columns,) a solution of the model with the plan's powers
    fitted_kw: FloatArray  # (setpoints,) the plan's powers, as a solution of the model has them

    @property
    def held(self) -> bool:
        """Whether open feeders or directions of flow are held with the commitment."""
        return bool(self.layout.problem.exclusive.any() or self.layout.problem.shed_whole.any())
