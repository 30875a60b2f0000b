"""Units of pglib-uc, posed as cases, against the published model written out as it stands.

Power Grid Lib, Unit Commitment (github.com/power-grid-lib/pglib-uc): MODEL.tex; Knueven, Ostrowski and
Watson, INFORMS J. Computing 32(4), 2020, 10.1287/ijoc.2019.0944. Ten units of `rts_gmlc/2020-01-27.json` with
a share of its demand and reserve, and a wind farm with least and most by period. The library publishes no
optimum of its instances.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer import Case, CostPoints, Load, Renewable, Reserve, Responder, Unit, solve_case
from tests.unit.optimizer.case_oracle import Program, Row, plus

Data = dict[str, Any]
INSTANCE: Data = json.loads((Path(__file__).parent / "pglib_units.json").read_text(encoding="utf-8"))


def instance(hours: int, share: float, seed: int) -> Data:
    """The units with the first hours of the day, histories changed by a seed, and wind."""
    rng = np.random.default_rng(seed)
    thermal = {}
    for name, unit in INSTANCE["thermal_generators"].items():
        x = dict(unit)
        if seed and rng.random() < 0.4:
            on = int(rng.random() < 0.5)
            low = x["power_output_minimum"]
            x |= {
                "unit_on_t0": on,
                "power_output_t0": on
                * float(low + rng.uniform(0.0, 10.0) * (low < x["power_output_maximum"] - 10)),
                "time_up_t0": on * int(rng.integers(1, 9)),
                "time_down_t0": (1 - on) * int(rng.integers(1, 12)),
            }
        thermal[name] = x
    wind = rng.uniform(10.0, 60.0, hours)
    return {
        "time_periods": hours,
        "demand": [share * x for x in INSTANCE["demand"][:hours]],
        "reserves": [share * x for x in INSTANCE["reserves"][:hours]],
        "thermal_generators": thermal,
        "renewable_generators": {
            "wind": {"power_output_minimum": (0.2 * wind).tolist(), "power_output_maximum": wind.tolist()}
        },
    }


def posed(data: Data) -> Case:
    """An instance as a case: the table "How it is said here" of docs/cases.md, line by line."""
    units = []
    for name, x in data["thermal_generators"].items():
        low, top = x["power_output_minimum"], x["power_output_maximum"]
        points, on = x["piecewise_production"], x["unit_on_t0"]
        units.append(
            Unit(
                id=name, p_min_kw=low, p_max_kw=top,
                cost=CostPoints(kw=[p["mw"] for p in points], per_h=[p["cost"] for p in points]),
                start_lags=tuple((s["lag"], s["cost"]) for s in x["startup"]),
                min_up_h=x["time_up_minimum"], min_down_h=x["time_down_minimum"],
                state_h=x["time_up_t0"] if on else -x["time_down_t0"], must_run=bool(x["must_run"]),
                ramp_up_kw_h=x["ramp_up_limit"], ramp_down_kw_h=x["ramp_down_limit"],
                start_up_kw=min(top, x["ramp_startup_limit"], low + x["ramp_up_limit"]),
                shut_down_kw=min(top, x["ramp_shutdown_limit"], low + x["ramp_down_limit"]),
                output_kw=x["power_output_t0"] if on else None,
            )
        )  # fmt: skip
    return Case(
        steps=data["time_periods"], units=tuple(units), loads=(Load(kw=data["demand"]),), hard=True,
        reserves=(
            Reserve(id="spinning", kw=data["reserves"], responders=tuple(Responder(id=u.id) for u in units)),
        ),
        renewables=tuple(
            Renewable(id=i, kw=x["power_output_maximum"], min_kw=x["power_output_minimum"])
            for i, x in data["renewable_generators"].items()
        ),
    )  # fmt: skip


def best_cost(data: Data) -> float | None:
    """The published model: p and r above minimum, u, v, w, kinds of start d, shares of cost points."""
    o, T = Program(), data["time_periods"]
    demand: list[Row] = [{} for _ in range(T)]
    reserve: list[Row] = [{} for _ in range(T)]
    for x in data["thermal_generators"].values():
        _unit(o, x, T, demand, reserve)
    for x in data["renewable_generators"].values():
        for t in range(T):
            demand[t][o.var(x["power_output_maximum"][t], low=x["power_output_minimum"][t])] = 1.0
    for t in range(T):
        o.equal(demand[t], data["demand"][t])
        o.at_least(reserve[t], data["reserves"][t])
    return o.least()


def _unit(o: Program, x: Data, T: int, demand: list[Row], reserve: list[Row]) -> None:
    low, top, points = x["power_output_minimum"], x["power_output_maximum"], x["piecewise_production"]
    span, su = top - low, max(top - x["ramp_startup_limit"], 0.0)
    sd, on, kinds = max(top - x["ramp_shutdown_limit"], 0.0), x["unit_on_t0"], x["startup"]
    u = [o.var(1.0, points[0]["cost"], 1) for _ in range(T)]
    v, w = ([o.var(1.0, whole=1) for _ in range(T)] for _ in range(2))
    p, r = ([o.var() for _ in range(T)] for _ in range(2))
    d = [[o.var(1.0, k["cost"], 1) for _ in range(T)] for k in kinds]
    before = on * (x["power_output_t0"] - low)
    for t in range(T):
        demand[t] |= {p[t]: 1.0, u[t]: low}
        reserve[t][r[t]] = 1.0
        last = {u[t - 1]: -1.0} if t else {}
        o.equal(plus((1.0, {u[t]: 1.0, v[t]: -1.0, w[t]: 1.0}), (1.0, last)), 0.0 if t else on)
        if on and t < x["time_up_minimum"] - x["time_up_t0"]:
            o.equal({u[t]: 1.0}, 1.0)
        if not on and t < x["time_down_minimum"] - x["time_down_t0"]:
            o.equal({u[t]: 1.0}, 0.0)
        up, down = min(x["time_up_minimum"], T), min(x["time_down_minimum"], T)
        o.at_most(
            plus((1.0, {v[i]: 1.0 for i in range(max(0, t - up + 1), t + 1)}), (-1.0, {u[t]: 1.0})), 0.0
        )
        o.at_most(
            plus((1.0, {w[i]: 1.0 for i in range(max(0, t - down + 1), t + 1)}), (1.0, {u[t]: 1.0})), 1.0
        )
        o.equal(plus((1.0, {row[t]: 1.0 for row in d}), (-1.0, {v[t]: 1.0})), 0.0)
        o.at_most({p[t]: 1.0, r[t]: 1.0, u[t]: -span, v[t]: su}, 0.0)
        if t + 1 < T:
            o.at_most({p[t]: 1.0, r[t]: 1.0, u[t]: -span, w[t + 1]: sd}, 0.0)
        was, known = ({p[t - 1]: 1.0}, 0.0) if t else ({}, before)
        o.at_most(plus((1.0, {p[t]: 1.0, r[t]: 1.0}), (-1.0, was)), x["ramp_up_limit"] + known)
        o.at_most(plus((-1.0, {p[t]: 1.0}), (1.0, was)), x["ramp_down_limit"] - known)
        share = [o.var(1.0, c["cost"] - points[0]["cost"]) for c in points]
        o.equal(
            plus((1.0, {j: c["mw"] - low for j, c in zip(share, points, strict=True)}), (-1.0, {p[t]: 1.0})),
            0.0,
        )
        o.equal(plus((1.0, dict.fromkeys(share, 1.0)), (-1.0, {u[t]: 1.0})), 0.0)
        for s in range(len(kinds) - 1):
            begin, end = kinds[s]["lag"], kinds[s + 1]["lag"]
            if t + 1 >= end:
                stops = {w[t - i]: -1.0 for i in range(begin, end) if t - i >= 0}
                o.at_most(plus((1.0, {d[s][t]: 1.0}), (1.0, stops)), 0.0)
            elif t + 1 > end - x["time_down_t0"]:
                o.equal({d[s][t]: 1.0}, 0.0)
    o.at_most({w[0]: sd}, span * on - before)


@pytest.mark.parametrize(("hours", "seed"), [(12, 0), (8, 2)])
def test_units_of_pglib_cost_what_its_model_says(hours: int, seed: int):
    data = instance(hours, INSTANCE["share"], seed)
    told, out = best_cost(data), solve_case(posed(data), gap_ratio=1e-7)
    if told is None:
        assert out.status == "infeasible"
        assert out.conflict
        return
    assert out.status == "optimal", out.conflict
    assert not out.faults
    assert out.objective == pytest.approx(told, rel=1e-6), f"seed {seed}"
    assert out.exact_cost == pytest.approx(told, rel=1e-6)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, *range(3, 40)])
def test_more_histories_of_pglib_units(seed: int):
    test_units_of_pglib_cost_what_its_model_says(12, seed)
