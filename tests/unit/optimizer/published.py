"""Published systems, posed as cases from their tables."""

import csv
from pathlib import Path

from optimizer import Case, Load, QuadraticCost, Unit


def kazarlis(folder: Path, times: int = 1, segments: int = 10) -> Case:
    """The system, `times` over: as many of each unit, and as many times the demand."""
    with (folder / "kazarlis_units.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "kazarlis_demand.csv").open(encoding="utf-8") as file:
        demand = [times * float(r["demand_mw"]) for r in csv.DictReader(file)]
    units = []
    for row in rows:
        x = {k: float(v) for k, v in row.items() if k != "unit"}
        cost = QuadraticCost(
            a_per_h=x["a_usd_h"], b_per_kwh=x["b_usd_mwh"], c_per_kw2h=x["c_usd_mw2h"], segments=segments
        )
        units += [
            Unit(
                id=f"{row['unit']}.{k}", p_min_kw=x["p_min_mw"], p_max_kw=x["p_max_mw"], cost=cost,
                start_cost=x["hot_start_usd"], cold_start_cost=x["cold_start_usd"],
                cold_after_h=x["min_down_h"] + x["cold_start_hours"], min_up_h=x["min_up_h"],
                min_down_h=x["min_down_h"], state_h=x["initial_state_h"],
            )
            for k in range(times)
        ]  # fmt: skip
    return Case(steps=24, units=tuple(units), loads=(Load(kw=demand),), running_ratio=1.1)
