"""Terminal value of stored energy: concave, in thirds of the window, the lower third worth most.

    sum_j y_j <= e_T,   0 <= y_j <= width_j,   cost - sum_j value_j y_j + (the same at the start)

The start is valued alike, so the term is the change in value over the window and the objective stays money
of the same size as the bill, which keeps a relative gap meaningful.
"""

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def widths(s: Structure) -> FloatArray:
    """(B, 3) energy in each third; the lower one reaches down to empty [kWh]."""
    rows = []
    for b in s.site.bess:
        third = (b.battery.soc_max - b.battery.soc_min) * b.battery.energy_kwh / 3.0
        rows.append([b.battery.soc_min * b.battery.energy_kwh + third, third, third])
    return np.array(rows).reshape(len(rows), 3)


def value(level_kwh: FloatArray, widths_kwh: FloatArray, per_kwh: FloatArray) -> FloatArray:
    """(B,) value of stored energy [money]."""
    begin = np.cumsum(widths_kwh, axis=1) - widths_kwh
    part = np.clip(level_kwh[:, None] - begin, 0.0, widths_kwh)
    out: FloatArray = (part * per_kwh).sum(axis=1)
    return out


def add(m: Model, s: Structure) -> None:
    """kept_kwh (B, 3)."""
    B = len(s.site.bess)
    if B == 0:
        return
    kept, stored = m.var("kept_kwh", B, 3), m["stored_kwh"]
    m.rows(
        "terminal",
        (B,),
        lambda b: (
            sum(kept[b, j] for j in range(3)) <= stored[b, s.steps - 1] + m["below_kwh"][b, s.steps - 1]
        ),
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Widths and values."""
    if not s.site.bess:
        return
    size = s.once(widths)
    n.bound("kept_kwh", 0.0, size)
    n.price("stored_energy", "kept_kwh", -p.terminal_per_kwh)
    start = np.array([b.stored_kwh for b in p.bess])
    n.constant["stored_energy"] = float(value(start, size, p.terminal_per_kwh).sum())
