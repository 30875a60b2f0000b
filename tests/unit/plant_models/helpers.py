"""Inputs and runs of the small plant of tests/builders.py."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ems.site import Site
from plant_models.plant import PlantFlows, PlantInput, PlantState, step

DEMAND = {"critical": 80.0, "essential": 100.0, "deferrable": 60.0}


def inputs(**changes: Any) -> PlantInput:
    base = PlantInput(mains_present=True, demand_kw=DEMAND, pv_potential_kw={"pv1": 0.0})
    return replace(base, **changes)


def run(
    site: Site, state: PlantState, given: PlantInput, seconds: float, dt_s: float = 1.0
) -> tuple[PlantState, list[PlantFlows]]:
    out = []
    for _ in range(round(seconds / dt_s)):
        state, flows = step(site, state, given, dt_s)
        out.append(flows)
    return state, out


def kinds(flows: list[PlantFlows]) -> set[str]:
    return {v.kind.value for f in flows for v in f.violations}


def energy_kwh(flows: list[PlantFlows], values: Iterator[float]) -> float:
    return sum(f.dt_s * v for f, v in zip(flows, values, strict=True)) / 3600.0


def balance_kw(f: PlantFlows) -> float:
    """Everything into the bus less everything out of it."""
    fed = f.grid_p_kw + sum(f.pv_p_kw.values()) + sum(f.genset_p_kw.values()) + sum(f.bess_p_kw.values())
    return fed - sum(f.feeder_p_kw.values()) - sum(f.bess_aux_kw.values())
