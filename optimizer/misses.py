"""How a plan's notes say that a limit is missed: by name, with its largest amount, its sum and when."""

from collections.abc import Iterator

import numpy as np

from ems.timegrid import FloatArray
from optimizer.problem import PlanningProblem

SHOWN_KW = 0.05  # smaller amounts of a slack are solver tolerance


def missed_kw(p: PlanningProblem, name: str, kw: FloatArray) -> Iterator[str]:
    """One sentence if a slack (T,) [kW] is not zero."""
    if kw.max(initial=0.0) > SHOWN_KW:
        first = p.grid.starts()[int(np.argmax(kw > SHOWN_KW))]
        yield (
            f"{name}: up to {kw.max():.1f} kW, {float(kw @ p.step_h):.1f} kWh in the window, "
            f"first at {first:%d %H:%M} UTC"
        )
