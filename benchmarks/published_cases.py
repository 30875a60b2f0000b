"""Published unit commitment cases: the whole solve beside a bare HiGHS solve of the identical matrix.

    python -m benchmarks.published_cases --folder FOLDER [--times 1 2 4 10]

FOLDER holds `kazarlis_units.csv` and `kazarlis_demand.csv` (`tests/unit/optimizer/published.py` reads them).

`bare` is a fresh HiGHS with its own default options, given the same matrix, gap and thread. `told apart` is
the same case with each unit on its own instead of counted, in a bare HiGHS as well. CPU seconds.
"""

import argparse
import importlib.metadata
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import highspy
import numpy as np

from optimizer import Case, solve_case
from optimizer.case_problem import case_problem, formulation
from optimizer.compiled import Compiled
from optimizer.formulation import Formulation
from optimizer.structure import structure_of
from tests.unit.optimizer.published import kazarlis

LONGEST_S = 120.0


def bare(case: Case, form: Formulation, gap_ratio: float) -> tuple[float, float, str]:
    """Seconds, objective and status of HiGHS alone."""
    p = case_problem(case)
    compiled = Compiled(structure_of(p.site, p.grid, form))
    f, matrix = compiled.fill(compiled.numbers(p)), compiled.form
    h: Any = cast(Any, highspy.Highs)()
    for option, value in (
        ("output_flag", False), ("threads", 1), ("mip_rel_gap", gap_ratio), ("mip_abs_gap", 0.0),
        ("time_limit", LONGEST_S),
    ):  # fmt: skip
        h.setOptionValue(option, value)
    rows, columns = matrix.shape
    begun = time.process_time()
    h.passModel(
        columns, rows, len(matrix.a_value), 1, 1, f.offset, f.cost, f.low, f.high, f.row_low, f.row_high,
        matrix.a_start, matrix.a_index, matrix.a_value, f.integer.astype(np.int32),
    )  # fmt: skip
    h.run()
    spent = time.process_time() - begun
    return spent, float(h.getInfo().objective_function_value), h.modelStatusToString(h.getModelStatus())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gap", type=float, default=1e-5)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4, 10])
    args = parser.parse_args()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("highspy", "numpy"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}; gap {args.gap:g}")
    print("units   rows x columns   whole     bare   whole/bare   exact cost        told apart")
    for times in args.times:
        case = kazarlis(args.folder, times)
        begun = time.process_time()
        out = solve_case(case, gap_ratio=args.gap, time_limit_s=LONGEST_S)
        whole_s = time.process_time() - begun
        bare_s, objective, status = bare(case, formulation(case), args.gap)
        apart = ""
        if times > 1:
            apart_s, _, apart_status = bare(case, replace(formulation(case), fleets=()), args.gap)
            apart = f"{apart_s:6.2f} s ({apart_status})"
        if out.objective is None or abs(out.objective - objective) > 2.0 * args.gap * objective + 0.01:
            raise SystemExit(f"the bare solve found {objective} ({status}), the case {out.objective}")
        print(
            f"{10 * times:5} {out.rows:6} x {out.columns:6} {whole_s:7.2f} s "
            f"{bare_s:8.2f} s {whole_s / bare_s:8.2f} {out.exact_cost:17.2f}   {apart}"
        )


if __name__ == "__main__":
    main()
