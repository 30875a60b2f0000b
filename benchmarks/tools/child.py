"""Run one modelling tool on windows of one problem, in this process alone, and say what it took.

    python benchmarks/tools/child.py TOOL < problems.json

This file and the tools beside it import nothing of the project: they run in an environment of their own.
`problems.json` is a list of problems (see rivals.py); each is solved once after a first one that does not
count. The answer is one JSON object on the last line: CPU seconds of the whole cycle and of HiGHS' run in it,
cost of the solution found (by this file, from its series), versions, peak memory of this process.
"""

import importlib
import importlib.metadata
import json
import logging
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import highspy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
RUN_S = [0.0]


def clock_highs():
    """Count the CPU time of every HiGHS run in this process, whoever asks for it."""
    plain = highspy.Highs.run

    def timed(self, *args):
        begun = time.process_time()
        try:
            return plain(self, *args)
        finally:
            RUN_S[0] += time.process_time() - begun

    highspy.Highs.run = timed


def cost(p: dict[str, Any], x: dict[str, Any]) -> tuple[float, float]:
    """What a solution costs, and by how much it breaks the bus balance [money, kW]."""
    h = np.array(p["step_h"])
    on, output = np.round(x["on"]), np.array(x["output_kw"])
    starts = np.maximum(0.0, np.diff(on, axis=1, prepend=0.0)).sum(axis=1)
    money = float((h * np.array(p["import_per_kwh"]) * x["import_kw"]).sum())
    money -= p["export_per_kwh"] * float((h * x["export_kw"]).sum())
    money += p["demand_per_kw"] * max(0.0, float(np.max(x["import_kw"])) - p["peak_kw"])
    money += p["wear_per_kwh"] * float((h * x["discharge_kw"]).sum()) + p["voll"] * float(
        (h * x["shed_kw"]).sum()
    )
    for g, unit in enumerate(p["gensets"]):
        money += float((h * (unit["per_h"] * on[g] + unit["per_kwh"] * output[g])).sum())
        money += unit["start_cost"] * float(starts[g])
    bus = (
        output.sum(axis=0) + x["pv_kw"] + x["discharge_kw"] - x["charge_kw"] + x["import_kw"] - x["export_kw"]
    )
    return money, float(np.abs(bus + x["shed_kw"] - p["load_kw"]).max())


def main():
    """Solve what stands on standard input."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tool = importlib.import_module(f"{sys.argv[1]}_tool")
    problems = json.load(sys.stdin)
    clock_highs()
    solve = tool.solver(problems[0])
    solve(problems[0])  # what is done once: imports, caches
    cycles = []
    for p in problems:
        RUN_S[0], begun = 0.0, time.process_time()
        x = {k: np.asarray(v, dtype=float) for k, v in solve(p).items()}
        whole_s = time.process_time() - begun
        money, unbalanced_kw = cost(p, x)
        cycles.append({"whole_s": whole_s, "run_s": RUN_S[0], "cost": money, "unbalanced_kw": unbalanced_kw})
    answer = {
        "cycles": cycles,
        "version": importlib.metadata.version(tool.PACKAGE),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
