"""What every question about a plan is asked of."""

from dataclasses import dataclass

from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.explain.bench import Bench
from optimizer.explain.posed import Change, Layout, Posed
from optimizer.formulations.battery import bent
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
        """Whether open feeders, directions of flow or stretches of a loss are held with the commitment."""
        p = self.layout.problem
        return bool(p.exclusive.any() or p.shed_whole.any() or bent(self.layout.compiled.structure).any())
