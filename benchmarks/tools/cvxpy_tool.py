"""The common problem in CVXPY: parametrised once (DPP), kept, and fed with each window."""

import cvxpy as cp
import numpy as np

PACKAGE = "cvxpy"


def solver(first):
    """A problem of the size of `first`, as a function of its windows."""
    h, units, T = np.array(first["step_h"]), first["gensets"], len(first["step_h"])
    G = len(units)
    load, sun, price, mains = (cp.Parameter(T, nonneg=True) for _ in range(4))
    stored_before, peak_before = cp.Parameter(nonneg=True), cp.Parameter(nonneg=True)
    buy, sell, pv, shed, charge, discharge, stored = (cp.Variable(T, nonneg=True) for _ in range(7))
    on, start, stop = cp.Variable((G, T), boolean=True), cp.Variable((G, T)), cp.Variable((G, T))
    output, peak = cp.Variable((G, T), nonneg=True), cp.Variable()
    low, top, per_h, per_kwh, start_cost = (
        np.array([[u[k]] for u in units]) for k in ("min_kw", "max_kw", "per_h", "per_kwh", "start_cost")
    )
    up, down = int(units[0]["up_steps"]), int(units[0]["down_steps"])
    there = np.array(first["there"])
    ups, downs = (np.array([[float(0 <= t - i < n) for t in range(T)] for i in range(T)]) for n in (up, down))
    shift = np.eye(T, k=-1)
    first_step = np.eye(T)[0]
    gained = cp.multiply(first["eta_charge"] * h, charge) - cp.multiply(h / first["eta_discharge"], discharge)
    rules = [
        cp.sum(output, axis=0) + pv + discharge - charge + buy - sell + shed == load,
        buy <= first["import_kw"] * mains, sell <= first["export_kw"] * mains, pv <= sun, shed <= load,
        charge + discharge <= first["power_kw"], stored <= first["energy_kwh"],
        stored - shift @ stored - gained == stored_before * first_step, stored[T - 1] == stored_before,
        buy <= peak, peak >= peak_before,
        output <= cp.multiply(np.broadcast_to(top, (G, T)), on),
        output >= cp.multiply(np.broadcast_to(low, (G, T)), on),
        on - on @ shift.T == start - stop, start >= 0, start <= 1, stop >= 0, stop <= 1,
        on <= np.broadcast_to(there, (G, T)),
        start @ ups <= on, stop @ downs <= 1 - on,
    ]  # fmt: skip
    money = (
        cp.multiply(h, price) @ buy
        - first["export_per_kwh"] * (h @ sell)
        + first["wear_per_kwh"] * (h @ discharge)
    )
    money += (
        first["voll"] * (h @ shed)
        + first["demand_per_kw"] * peak
        + cp.sum(cp.multiply(start_cost + 0 * h, start))
    )
    money += cp.sum(cp.multiply(per_kwh * h, output)) + cp.sum(cp.multiply(per_h * h, on))
    problem = cp.Problem(cp.Minimize(money), rules)

    def solve(p):
        load.value, sun.value = np.array(p["load_kw"]), np.array(p["pv_kw"])
        price.value, mains.value = np.array(p["import_per_kwh"]), np.array(p["mains"])
        stored_before.value, peak_before.value = p["stored_kwh"], p["peak_kw"]
        problem.solve(
            solver=cp.HIGHS,
            highs_options={"mip_rel_gap": p["gap"], "time_limit": p["limit_s"], "threads": 1},
        )
        found = (on, output, buy, sell, pv, shed, charge, discharge)
        names = ("on", "output_kw", "import_kw", "export_kw", "pv_kw", "shed_kw", "charge_kw", "discharge_kw")
        return {name: x.value for name, x in zip(names, found, strict=True)}

    return solve
