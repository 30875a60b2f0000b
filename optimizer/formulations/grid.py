"""Grid: import and export within their caps, none while the mains are away.

The caps are the contract's, lower ones in their windows of time, and what the plant was told for now.
"""

from optimizer.algebra import Model
from optimizer.formulation import Exclusivity
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def add(m: Model, s: Structure) -> None:
    """import_kw, export_kw >= 0. With BINARY exclusivity: one of them is zero in the steps marked for it."""
    imported, exported = m.var("import_kw", s.steps), m.var("export_kw", s.steps)
    for t in range(s.steps):
        m.bus[t].append(imported[t] - exported[t])
    if s.formulation.exclusivity is Exclusivity.BINARY:
        importing = m.var("importing", s.steps)
        top = s.site.grid
        m.rows("grid_imports", (s.steps,), lambda t: imported[t] <= top.p_import_kw_max * importing[t])
        m.rows("grid_exports", (s.steps,), lambda t: exported[t] <= top.p_export_kw_max * (1 - importing[t]))


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Caps by availability; energy price both ways, carbon of what is imported."""
    n.bound("import_kw", 0.0, p.import_cap_kw)
    n.bound("export_kw", 0.0, p.export_cap_kw)
    n.price("energy_import", "import_kw", p.import_per_kwh * s.step_h)
    if s.site.carbon_per_kwh > 0.0:
        n.price("carbon", "import_kw", s.site.carbon_per_kwh * s.step_h)
    if s.site.tariff.export_credit is None:  # else worth what contracts.py credits
        n.price("energy_export", "export_kw", -p.export_per_kwh * s.step_h)
    if s.site.tariff.contracts.coincident_peaks:
        n.price("coincident_peak", "import_kw", p.contracts.coincident_cost)
    if s.formulation.exclusivity is Exclusivity.BINARY:
        n.bound("importing", 0.0, 1.0)
        everywhere = s.site.tariff.rewards_import  # one step that does both would pay for all others
        n.whole("importing", p.exclusive & (p.integral | everywhere))
