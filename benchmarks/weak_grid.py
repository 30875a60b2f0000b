"""What each option of a weak grid adds to a plan: size of the matrix, and CPU against the plain site.

    python -m benchmarks.weak_grid [--plans 8] [--site sites/demo/site.yaml]

One rolling day of plans on the grid and outages of planner_speed.py, each started from the one before, at 1 %
gap and at most 400 nodes. CPU seconds of this process; `ratio` is against the plain site in the same run. Of
every plan the commitment, energy and security are replayed: a plan that is not fresh is counted as a rescue.
"""

import argparse
import importlib.metadata
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planner_speed import ROOT, START, condition, forecast
from ems.assets import ReactivePolicy
from ems.plan import Plan
from ems.poi import FlappingPolicy, TransformerParams
from ems.site import Site
from ems.site_schema import load_site
from ems.sources import SourceSets, StrengthPolicy
from ems.tariff import PowerFactorCharge
from optimizer import Planner
from optimizer.compiled import Compiled
from optimizer.formulation import Formulation, Shedding
from optimizer.structure import structure_of


def at_poi(**changes: Any) -> Callable[[Site], Site]:
    return lambda s: replace(s, grid=replace(s.grid, **changes))


def permitted(s: Site) -> Site:
    """In an island any genset beside every battery and PV plant, and all of them without."""
    rest = (*[b.id for b in s.bess], *[v.id for v in s.pv])
    sets = (rest, *[(g.id, *rest) for g in s.gensets], tuple(g.id for g in s.gensets))
    return replace(s, sources=SourceSets(islanded=sets))


def secured(s: Site) -> Site:
    kinds = ("genset", "bess", "pv")
    policy = replace(s.reserve, n_minus_1=kinds, n_minus_1_tied=(*kinds, "import"), pv_drop_ratio=0.6)
    return replace(s, reserve=policy)


def options(site: Site) -> dict[str, Callable[[Site], Site]]:
    """Each option by the key that asks for it."""
    cap = site.grid.p_import_kw_max
    return {
        "nothing": lambda s: s,
        "grid.reactive": at_poi(reactive=ReactivePolicy(v_poi_min_pu=0.95, v_poi_max_pu=1.05)),
        "tariff.power_factor": lambda s: replace(
            s, tariff=replace(s.tariff, power_factor=PowerFactorCharge(min_ratio=0.95, per_kvarh=0.03))
        ),
        "grid.transformer": at_poi(transformer=TransformerParams(s_kva=cap)),
        "grid.ramp_kw_s": at_poi(ramp_kw_s=cap / 40.0 / 60.0),
        "grid.flapping": at_poi(flapping=FlappingPolicy(window_h=6.0, growth_ratio=2.0, dwell_s_max=3600.0)),
        "grid.strength": at_poi(strength=StrengthPolicy(scr_ratio_min=3.0)),
        "sources": permitted,
        "reserve.n_minus_1*": secured,
    }


def rolled(site: Site, count: int) -> tuple[float, tuple[int, int], int]:
    """CPU of a plan after the first [s], rows and columns, rescues."""
    planner, last, spent, rescues = Planner(site), None, list[float](), 0
    grid = planner.horizon(START)
    for k in range(count):
        at = START + timedelta(hours=k)
        grid = planner.horizon(at)
        now, seen = (
            condition(site, at, 0.6 if last is None else _soc(site, last), 0.0),
            forecast(site, grid, k),
        )
        begun = time.process_time()
        last = planner.plan(now, seen, last, k)
        spent.append(time.process_time() - begun)
        rescues += last.solve.rescue != "none"
    shape = Compiled(structure_of(site, grid, Formulation(shedding=Shedding.MEAN))).form.shape
    return float(np.mean(spent[1:])), shape, rescues


def _soc(site: Site, last: Plan) -> float:
    """Stored energy an hour into a plan, of the first battery."""
    at = int(np.searchsorted(last.grid.offset_s[1:], 3600.0 - 1e-6))
    return float(last.bess_soc_end[site.bess[0].id][at])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=8)
    parser.add_argument("--site", type=Path, default=ROOT / "sites" / "demo" / "site.yaml")
    args = parser.parse_args()
    site = load_site(args.site)
    every = options(site)
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("highspy", "numpy"))
    print(f"{platform.platform()}, Python {platform.python_version()}, {versions}")
    print(f"{args.plans} hourly plans of {site.name}, the first not counted\n")
    print(f"{'asked for':22}{'rows':>7}{'columns':>9}{'CPU s':>8}{'ratio':>7}{'rescues':>9}")
    plain = None
    together = site
    for ask in every.values():
        together = ask(together)
    for name, wanted in [*((n, ask(site)) for n, ask in every.items()), ("all of it", together)]:
        cpu, shape, rescues = rolled(wanted, args.plans)
        plain = cpu if plain is None else plain
        print(f"{name:22}{shape[0]:7}{shape[1]:9}{cpu:8.3f}{cpu / plain:7.2f}{rescues:9}")


if __name__ == "__main__":
    main()
