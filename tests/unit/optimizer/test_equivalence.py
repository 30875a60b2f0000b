"""What runs is what is read: on hundreds of random sites the fast layout equals the Pyomo reference.

Every row is compared, and on every second site the optimum that is reached through Pyomo's own LP writer and
another reader. More sites in the long run.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.build import build
from optimizer.compiled import Compiled, cost_terms
from optimizer.formulation import Exclusivity, Formulation, Shedding
from optimizer.intake import planning_problem
from optimizer.options import PlannerOptions
from optimizer.problem import PlanningProblem
from optimizer.reference import PyomoModel
from optimizer.solve import Session
from optimizer.structure import structure_of
from tests.unit.optimizer.random_sites import random_pose, uneven_grid
from tests.unit.optimizer.test_compiled import EXACT, rows_of, through_lp_file

BLOCK = 25


def random_problem(seed: int) -> tuple[PlanningProblem, Formulation]:
    """A problem with the formulation that its rounds may ask for, on an even or an uneven grid."""
    rng = np.random.default_rng([7, seed])
    pose = random_pose(seed)
    forecast = pose.forecast()
    if seed % 3 == 0:
        forecast = replace(forecast, grid=uneven_grid(rng, pose.steps))
    p = planning_problem(pose.site, pose.condition(), forecast, PlannerOptions())
    whole = bool(rng.random() < 0.4)
    return replace(p, shed_whole=p.islanded & p.integral if whole else p.shed_whole), Formulation(
        exclusivity=Exclusivity.BINARY if p.exclusive.any() else Exclusivity.HULL,
        shedding=Shedding.WHOLE if whole else Shedding.MEAN,
        reserve=bool(rng.random() < 0.8),
    )


def compare(seed: int, folder: Path) -> None:
    p, form = random_problem(seed)
    compiled = Compiled(structure_of(p.site, p.grid, form))
    readable = build(compiled.structure, PyomoModel).standard_form()
    assert rows_of(compiled.form) == rows_of(readable), f"seed {seed}"
    if seed % 2:
        return
    n = compiled.numbers(p)
    outcome = Session(compiled).solve(compiled.fill(n), EXACT)
    read = through_lp_file(compiled, p, folder / "m.lp")
    assert outcome.objective == pytest.approx(read, rel=1e-6, abs=1e-4), f"seed {seed}"
    assert outcome.x is not None
    terms = cost_terms(n, compiled.values(outcome.x))
    assert sum(terms.values()) == pytest.approx(outcome.objective, rel=1e-9, abs=1e-6), f"seed {seed}"


@pytest.mark.parametrize("block", [0, 1, *(pytest.param(k, marks=pytest.mark.soak) for k in (2, 3))])
def test_fast_layout_is_the_readable_model_on_random_sites(block: int, tmp_path: Path) -> None:
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        compare(seed, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(4, 48))
def test_fast_layout_is_the_readable_model_on_many_more_sites(block: int, tmp_path: Path) -> None:
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        compare(seed, tmp_path)
