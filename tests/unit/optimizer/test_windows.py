"""Windows on unequal steps against their definition."""

import numpy as np
import pytest

from optimizer import Case
from optimizer.case_problem import case_problem, formulation
from optimizer.formulations.windows import EPS_H, between, window
from optimizer.structure import Structure, structure_of


def structure(seed: int) -> Structure:
    rng = np.random.default_rng(seed)
    case = Case(steps=20, step_h=rng.choice([0.25, 0.5, 1.0, 1.37], 20))
    p = case_problem(case)
    return structure_of(p.site, p.grid, formulation(case))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hours", [0.0, 0.25, 1.0, 2.5, 100.0])
def test_windows_are_the_steps_of_their_definition(seed: int, hours: float):
    s = structure(seed)
    for t in range(s.steps):
        back = s.start_h[t] - s.start_h
        assert window(s, t, 3600 * hours) == [i for i in range(t + 1) if i == t or back[i] < hours - EPS_H]
        assert between(s, t, 1800.0, 3600 * hours) == [
            i for i in range(t) if 0.5 - EPS_H <= back[i] <= hours + EPS_H
        ]
