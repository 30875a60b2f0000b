"""The benchmark of the model layers runs, on the smallest problems, without the tools."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import bare, problem_p, rivals
from benchmarks.measure import WHO
from benchmarks.model_layers import SECTIONS
from benchmarks.problem_p import draw, fleet, posed
from benchmarks.scale import SMALLEST
from benchmarks.tools import child
from ems.clock import wall_s
from optimizer import Planner, PlannerOptions
from optimizer.extract import extract
from optimizer.intake import planning_problem


@pytest.mark.parametrize("name", ["overhead", "formulation"])
def test_section_prints_figures_of_the_smallest_problems(name: str, capsys: pytest.CaptureFixture[str]):
    SECTIONS[name](SMALLEST)
    out = capsys.readouterr().out
    assert out.count("\n") >= 5
    assert len(re.findall(r"\d+\.\d+", out)) >= 8
    assert "nan" not in out


def test_textbook_form_has_the_planners_optimum():
    """An evening without mains that starts with little stored."""
    blocks = ((900.0, 24),)
    site = problem_p.site(fleet(2))
    d = replace(draw(24 * 3 + 16, blocks, 2, running=1), soc=0.3)
    options = PlannerOptions(blocks=blocks, gap_ratio=0.0, node_limit=None)
    p = planning_problem(site, *posed(site, d), options)
    compiled, _, n, outcome = Planner(site, options).rounds(p, None, 0.0)
    t, filled = bare.textbook(p)
    other = bare.solve(t.form, filled, 0.0, 60.0)
    assert outcome.objective == pytest.approx(other.objective, rel=1e-6)
    again = bare.solve(compiled.form, compiled.fill(n), 0.0, 60.0)
    assert again.objective == pytest.approx(other.objective, rel=1e-6)
    assert outcome.x is not None
    assert compiled.values(outcome.x)["on"].max() > 0.5


def test_common_problem_as_numbers_is_the_planners():
    """The cost by the children's own reckoning of the planner's plan is the planner's objective."""
    site, d = rivals.plain_site(fleet(2)), rivals.windows(1, 24, 2)[0]
    options = rivals.options(0.001, 30.0)
    compiled, p, n, outcome = Planner(site, options).rounds(rivals.problem(site, d, options), None, wall_s())
    plan, _ = extract(compiled, p, n, outcome, WHO)
    bess, grid = np.array(plan.bess_p_kw["bess"]), np.array(plan.grid_p_kw)
    x = {
        "on": np.array([plan.genset_on[g.id] for g in site.gensets]),
        "output_kw": np.array([plan.genset_p_kw[g.id] for g in site.gensets]),
        "import_kw": np.maximum(grid, 0.0), "export_kw": np.maximum(-grid, 0.0),
        "pv_kw": np.array(plan.pv_p_kw["pv"]), "shed_kw": np.sum([*plan.shed_kw.values()], axis=0),
        "charge_kw": np.maximum(-bess, 0.0), "discharge_kw": np.maximum(bess, 0.0),
    }  # fmt: skip
    money, unbalanced_kw = child.cost(rivals.as_json(site, d, 0.001, 30.0), x)
    assert money == pytest.approx(plan.solve.objective, rel=1e-6)
    assert unbalanced_kw < 1e-3


def test_tool_that_is_not_there_is_said_to_be_absent():
    said = rivals.tool("nosuch", sys.executable, [{}], 60.0)
    assert isinstance(said, str)
    assert "nosuch" in said
