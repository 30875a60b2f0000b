"""The common problem in linopy, laid out anew each cycle with vectors."""

import linopy
import numpy as np
import pandas as pd

PACKAGE = "linopy"


def solver(_):
    """linopy's fastest way here is a new model."""
    return solve


def solve(p):
    """One window."""
    m = linopy.Model()
    h = np.array(p["step_h"])
    t = pd.RangeIndex(len(h), name="t")
    units = p["gensets"]
    g = pd.RangeIndex(len(units), name="g")

    def of(key):
        return np.array([u[key] for u in units])

    def series(name, top):
        return m.add_variables(
            lower=0.0, upper=pd.Series(np.broadcast_to(top, len(h)).astype(float), t), name=name
        )

    mains = np.array(p["mains"])
    buy, sell = series("import_kw", p["import_kw"] * mains), series("export_kw", p["export_kw"] * mains)
    pv, shed = series("pv_kw", p["pv_kw"]), series("shed_kw", p["load_kw"])
    charge, discharge = series("charge_kw", p["power_kw"]), series("discharge_kw", p["power_kw"])
    stored = series("stored_kwh", p["energy_kwh"])
    on = m.add_variables(binary=True, coords=[g, t], name="on")
    start = m.add_variables(lower=0.0, upper=1.0, coords=[g, t], name="start")
    stop = m.add_variables(lower=0.0, upper=1.0, coords=[g, t], name="stop")
    output = m.add_variables(lower=0.0, coords=[g, t], name="output_kw")
    peak = m.add_variables(lower=p["peak_kw"], name="peak")
    m.add_constraints(
        output.sum("g") + pv + discharge - charge + buy - sell + shed == pd.Series(p["load_kw"], t)
    )
    gained = h * p["eta_charge"] * charge - h / p["eta_discharge"] * discharge
    m.add_constraints((stored - stored.shift(t=1) - gained).sel(t=t[1:]) == 0.0)
    m.add_constraints((stored - gained).sel(t=0) == p["stored_kwh"])
    m.add_constraints(stored.sel(t=len(h) - 1) == p["stored_kwh"])
    m.add_constraints(charge + discharge <= p["power_kw"])
    m.add_constraints(buy - peak <= 0.0)
    low, top = (pd.Series(of(k), g) for k in ("min_kw", "max_kw"))
    m.add_constraints(output - on * top <= 0.0)
    m.add_constraints(output - on * low >= 0.0)
    m.add_constraints((on - on.shift(t=1) - start + stop).sel(t=t[1:]) == 0.0)
    m.add_constraints((on - start + stop).sel(t=0) == 0.0)
    m.add_constraints(on <= pd.Series(p["there"], t))
    up, down = int(units[0]["up_steps"]), int(units[0]["down_steps"])
    m.add_constraints(start.rolling(t=up).sum() - on <= 0.0)
    m.add_constraints(stop.rolling(t=down).sum() + on <= 1.0)
    money = (
        h * p["import_per_kwh"] * buy - h * p["export_per_kwh"] * sell + h * p["wear_per_kwh"] * discharge
    ).sum()
    money += (h * p["voll"] * shed).sum() + p["demand_per_kw"] * peak
    hours = pd.Series(h, t)
    money += (output * pd.Series(of("per_kwh"), g) * hours + on * pd.Series(of("per_h"), g) * hours).sum()
    m.add_objective(money + (start * pd.Series(of("start_cost"), g)).sum())
    options = {"mip_rel_gap": p["gap"], "time_limit": p["limit_s"], "threads": 1, "output_flag": False}
    m.solve("highs", io_api="direct", progress=False, **options)
    names = ("on", "output_kw", "import_kw", "export_kw", "pv_kw", "shed_kw", "charge_kw", "discharge_kw")
    return {name: m.variables[name].solution.values for name in names}
