"""The common problem in oemof-solph: an energy system of buses and flows, laid out anew each cycle.

The demand charge is an investment into the import from the peak so far to the cap. Minimum times hold from
the first step whatever had elapsed, and must end within the window, which is why nobody runs at the ends of
the common problem.
"""

import numpy as np
import pandas as pd
import pyomo.environ as pyo
from oemof import solph

PACKAGE = "oemof.solph"


def solver(_):
    """oemof-solph lays its model out anew for each solve."""
    return solve


def _gensets(p, bus):
    there = np.array(p["there"])
    out = []
    for g, u in enumerate(p["gensets"]):
        running = solph.NonConvex(
            startup_costs=u["start_cost"], minimum_uptime=int(u["up_steps"]), initial_status=0,
            minimum_downtime=int(u["down_steps"]), activity_costs=list(u["per_h"] * np.array(p["step_h"])),
        )  # fmt: skip
        low = there * u["min_kw"] / u["max_kw"]
        flow = solph.Flow(
            nominal_capacity=u["max_kw"], minimum=list(low), maximum=list(there),
            variable_costs=u["per_kwh"], nonconvex=running,
        )  # fmt: skip
        out.append(solph.components.Source(label=f"g{g}", outputs={bus: flow}))
    return out


def solve(p):
    """One window."""
    T = len(p["step_h"])
    mains, load, sun = (np.array(p[k]) for k in ("mains", "load_kw", "pv_kw"))
    times = pd.date_range("2026-01-01", periods=T + 1, freq=pd.Timedelta(hours=p["step_h"][0]))
    system = solph.EnergySystem(timeindex=times, infer_last_interval=False)
    bus = solph.Bus(label="bus")
    extended = solph.Investment(ep_costs=p["demand_per_kw"], minimum=p["peak_kw"], maximum=p["import_kw"])
    flows = {
        "import": solph.Flow(
            nominal_capacity=extended, maximum=list(mains), variable_costs=list(np.array(p["import_per_kwh"]))
        ),
        "pv": solph.Flow(nominal_capacity=1.0, maximum=list(sun)),
        "shed": solph.Flow(nominal_capacity=1.0, maximum=list(load), variable_costs=p["voll"]),
    }
    sources = [solph.components.Source(label=k, outputs={bus: f}) for k, f in flows.items()]
    export = solph.Flow(
        nominal_capacity=p["export_kw"], maximum=list(mains), variable_costs=-p["export_per_kwh"]
    )
    sinks = [
        solph.components.Sink(label="load", inputs={bus: solph.Flow(nominal_capacity=1.0, fix=list(load))}),
        solph.components.Sink(label="export", inputs={bus: export}),
    ]
    bess = solph.components.GenericStorage(
        label="bess", nominal_capacity=p["energy_kwh"], balanced=True,
        initial_storage_level=p["stored_kwh"] / p["energy_kwh"],
        inflow_conversion_factor=p["eta_charge"], outflow_conversion_factor=p["eta_discharge"],
        inputs={bus: solph.Flow(nominal_capacity=p["power_kw"])},
        outputs={bus: solph.Flow(nominal_capacity=p["power_kw"], variable_costs=p["wear_per_kwh"])},
    )  # fmt: skip
    system.add(bus, bess, *sources, *sinks, *_gensets(p, bus))
    model = solph.Model(system)
    highs = pyo.SolverFactory("appsi_highs")  # solph's own call hands every solver an option this one refuses
    highs.highs_options = {"mip_rel_gap": p["gap"], "time_limit": p["limit_s"], "threads": 1}
    del model.dual, model.rc  # both None; their presence is taken for a request
    highs.solve(model)
    flow = {(str(a), str(b)): np.array([model.flow[a, b, t].value for t in range(T)]) for a, b in model.FLOWS}
    sets = [f"g{g}" for g in range(len(p["gensets"]))]
    status = {(str(i), t): x.value for (i, _, t), x in model.NonConvexFlowBlock.status.items()}
    on = [[float(status[k, t]) for t in range(T)] for k in sets]
    return {
        "on": on, "output_kw": [flow[k, "bus"] for k in sets], "import_kw": flow["import", "bus"],
        "export_kw": flow["bus", "export"], "pv_kw": flow["pv", "bus"], "shed_kw": flow["shed", "bus"],
        "charge_kw": flow["bus", "bess"], "discharge_kw": flow["bess", "bus"],
    }  # fmt: skip
