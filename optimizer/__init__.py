"""The planner: one mixed-integer linear program over the horizon, solved again and again.

>>> from optimizer import Planner, PlannerOptions
>>> planner = Planner(site, PlannerOptions(gap_ratio=0.01))           # doctest: +SKIP
>>> grid = planner.horizon(condition.at)                              # doctest: +SKIP
>>> plan = planner.plan(condition, forecast_on(grid), None, seq=1)    # doctest: +SKIP
"""

from ems.cycle_life import CycleLife
from optimizer.case_costs import CostPoints, QuadraticCost
from optimizer.case_limits import EnergyLimit, Reserve, Responder
from optimizer.case_solve import Solution, solve_case
from optimizer.case_units import Storage, Unit
from optimizer.cases import Case, Deferrable, DemandWindow, Grid, Load, Renewable
from optimizer.formulation import Exclusivity, Formulation, Shedding
from optimizer.intake import planning_problem
from optimizer.options import DemandWeight, PlannerOptions
from optimizer.problem import PlanningProblem
from optimizer.rolling import Planner
from optimizer.uncertainty import Uncertainty, UncertaintyKind

__all__ = [
    "Case",
    "CostPoints",
    "CycleLife",
    "Deferrable",
    "DemandWeight",
    "DemandWindow",
    "EnergyLimit",
    "Exclusivity",
    "Formulation",
    "Grid",
    "Load",
    "Planner",
    "PlannerOptions",
    "PlanningProblem",
    "QuadraticCost",
    "Renewable",
    "Reserve",
    "Responder",
    "Shedding",
    "Solution",
    "Storage",
    "Uncertainty",
    "UncertaintyKind",
    "Unit",
    "planning_problem",
    "solve_case",
]
