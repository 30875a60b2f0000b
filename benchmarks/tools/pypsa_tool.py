"""The common problem in PyPSA: components of a network, laid out anew each cycle.

The demand charge is the capital cost of an import that may be extended from the peak so far to the cap.
"""

import numpy as np
import pandas as pd
import pypsa

PACKAGE = "pypsa"


def solver(_):
    """PyPSA lays its model out anew for each solve."""
    return solve


def solve(p):
    """One window."""
    T = len(p["step_h"])
    mains, load, sun = (np.array(p[k]) for k in ("mains", "load_kw", "pv_kw"))
    n = pypsa.Network()
    n.set_snapshots(pd.RangeIndex(T))
    for kind in n.snapshot_weightings.columns:
        n.snapshot_weightings[kind] = np.array(p["step_h"])
    n.add("Bus", "bus")
    n.add("Load", "load", bus="bus", p_set=load)
    n.add(
        "Generator", "import", bus="bus", p_nom_extendable=True, p_nom_min=p["peak_kw"],
        p_nom_max=p["import_kw"], capital_cost=p["demand_per_kw"],
        marginal_cost=np.array(p["import_per_kwh"]), p_max_pu=mains,
    )  # fmt: skip
    n.add(
        "Generator", "export", bus="bus", p_nom=p["export_kw"], p_min_pu=-mains, p_max_pu=0.0,
        marginal_cost=p["export_per_kwh"],
    )  # fmt: skip
    n.add("Generator", "pv", bus="bus", p_nom=1.0, p_max_pu=sun)
    n.add("Generator", "shed", bus="bus", p_nom=1.0, p_max_pu=load, marginal_cost=p["voll"])
    at_end = np.full(T, np.nan)
    at_end[-1] = p["stored_kwh"]
    n.add(
        "StorageUnit", "bess", bus="bus", p_nom=p["power_kw"], max_hours=p["energy_kwh"] / p["power_kw"],
        efficiency_store=p["eta_charge"], efficiency_dispatch=p["eta_discharge"],
        state_of_charge_initial=p["stored_kwh"], state_of_charge_set=at_end, marginal_cost=p["wear_per_kwh"],
    )  # fmt: skip
    there = np.array(p["there"])
    for g, u in enumerate(p["gensets"]):
        n.add(
            "Generator", f"g{g}", bus="bus", committable=True, p_nom=u["max_kw"], p_max_pu=there,
            p_min_pu=there * u["min_kw"] / u["max_kw"], marginal_cost=u["per_kwh"], stand_by_cost=u["per_h"],
            start_up_cost=u["start_cost"], min_up_time=int(u["up_steps"]), min_down_time=int(u["down_steps"]),
            up_time_before=0, down_time_before=1000,
        )  # fmt: skip
    options = {"mip_rel_gap": p["gap"], "time_limit": p["limit_s"], "threads": 1, "output_flag": False}
    n.optimize(solver_name="highs", io_api="direct", solver_options=options, include_objective_constant=False)
    made, stored = n.generators_t.p, n.storage_units_t
    sets = [f"g{g}" for g in range(len(p["gensets"]))]
    return {
        "on": n.generators_t.status[sets].to_numpy().T * there, "output_kw": made[sets].to_numpy().T,
        "import_kw": made["import"], "export_kw": -made["export"], "pv_kw": made["pv"],
        "shed_kw": made["shed"], "charge_kw": stored.p_store["bess"],
        "discharge_kw": stored.p_dispatch["bess"],
    }  # fmt: skip
