"""Published examples of unit commitment with their published answers, posed from their tables in MW.

PyPSA: `test/test_lopf_unit_commitment.py` and the example "Unit commitment" of its documentation
(docs.pypsa.org/latest/examples/unit-commitment), one bus, coal of 10,000 MW and gas; objective, status and
dispatch are those asserted there, those of the two examples with ramps follow by hand. PyPSA begins with
every unit on for one hour, unless `up_time_before` is 0.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from optimizer import Case, Load, QuadraticCost, Renewable, Solution, Unit, solve_case

ON, OFF = 1.0, -1.0


def plant(unit_id: str, p_nom: float, p_min_pu: float, marginal: float, **changes: Any) -> Unit:
    values: dict[str, Any] = {"state_h": ON, "cost": QuadraticCost(b_per_kwh=marginal)}
    return Unit(id=unit_id, p_min_kw=p_min_pu * p_nom, p_max_kw=p_nom, **(values | changes))


def coal(p_min_pu: float = 0.3, **changes: Any) -> Unit:
    return plant("coal", 10_000.0, p_min_pu, 20.0, **changes)


def gas(p_nom: float = 1000.0, p_min_pu: float = 0.1, **changes: Any) -> Unit:
    return plant("gas", p_nom, p_min_pu, 70.0, **changes)


def solved(load: Sequence[float], *units: Unit, **changes: Any) -> Solution:
    out = solve_case(Case(steps=len(load), units=units, loads=(Load(kw=load),), hard=True, **changes))
    assert out.status == "optimal", out.conflict
    assert not out.faults
    assert not out.notes
    return out


def gives(out: Solution, coal_mw: Sequence[float], gas_mw: Sequence[float]) -> None:
    assert out.output_kw["coal"] == pytest.approx(coal_mw, abs=1e-4)
    assert out.output_kw["gas"] == pytest.approx(gas_mw, abs=1e-4)
    assert out.objective == pytest.approx(
        20.0 * sum(coal_mw) + 70.0 * sum(gas_mw) + sum(out.cost_terms.get(k, 0.0) for k in ("start", "stop"))
    )


def test_pypsa_minimum_part_load():
    out = solved((4000, 6000, 5000, 800), coal(), gas())
    gives(out, (4000, 6000, 5000, 0), (0, 0, 0, 800))
    assert out.on == {"coal": (1, 1, 1, 0), "gas": (0, 0, 0, 1)}


def test_pypsa_minimum_up_time():
    """Gas is off before and must run three hours: from the first, as it is wanted in the second."""
    out = solved((4000, 800, 5000, 3000), coal(), gas(min_up_h=3.0, state_h=OFF))
    assert out.on == {"coal": (1, 0, 1, 1), "gas": (1, 1, 1, 0)}
    gives(out, (3900, 0, 4900, 3000), (100, 800, 100, 0))


def test_pypsa_minimum_up_time_served_in_part_before():
    out = solved((4000, 800, 5000, 3000), coal(), gas(min_up_h=4.0, state_h=1.0))
    assert out.on == {"coal": (1, 0, 1, 1), "gas": (1, 1, 1, 0)}
    gives(out, (3900, 0, 4900, 3000), (100, 800, 100, 0))


@pytest.mark.parametrize(("down_h", "off_h"), [(2.0, 1.0), (3.0, 2.0)])
def test_pypsa_minimum_down_time(down_h: float, off_h: float):
    """Coal is off before, for an hour less than it must be."""
    out = solved((3000, 800, 3000, 8000), coal(min_down_h=down_h, state_h=-off_h), gas(4000.0))
    assert out.on == {"coal": (0, 0, 1, 1), "gas": (1, 1, 0, 0)}
    gives(out, (0, 0, 3000, 8000), (3000, 800, 0, 0))


def test_pypsa_start_up_costs():
    first = coal(0.1, state_h=OFF, start_cost=3000.0)
    out = solved((4000, 6000, 5000, 800), first, gas(10_000.0, 0.0, start_cost=1000.0))
    assert out.objective == pytest.approx(359_000.0)


def test_pypsa_shut_down_costs():
    out = solved((4000, 6000, 5000, 800), coal(stop_cost=1000.0), gas(stop_cost=1000.0))
    assert out.objective == pytest.approx(358_000.0)


def test_pypsa_stand_by_cost():
    """`test/test_stand_by_cost.py`: 10 an hour while gas is on."""
    idle = Unit(id="gas", p_min_kw=100.0, p_max_kw=1000.0, cost=QuadraticCost(a_per_h=10.0, b_per_kwh=70.0))
    out = solved((4000, 6000, 5000, 800), coal(), idle)
    assert out.objective == pytest.approx(80_000 + 120_000 + 100_000 + 56_010)


def test_pypsa_link_of_a_gas_turbine_beside_wind():
    """Half of the gas at 10 comes out; 800 MW of wind; three hours at least and 3,333 a start."""
    turbine = plant("ocgt", 6000.0, 0.1, 20.0, state_h=OFF, min_up_h=3.0, start_cost=3333.0)
    wind = Renewable(id="wind", kw=800.0)
    out = solved((4000, 6000, 800, 5000), turbine, renewables=(wind,))
    assert out.on["ocgt"] == (1, 1, 1, 1)
    assert out.output_kw["ocgt"] == pytest.approx((3200, 5200, 600, 4200))
    assert out.objective == pytest.approx(267_333.0)


def test_pypsa_ramps_of_plants_without_commitment():
    """Coal up by 1,000 and down by 2,000 an hour; its first hour is free, as there."""
    slow = coal(0.0, ramp_up_kw_h=1000.0, ramp_down_kw_h=2000.0, state_h=OFF)
    out = solved((4000, 7000, 7000, 7000, 7000, 3000), slow, gas(4000.0, 0.0, state_h=OFF))
    gives(out, (4000, 5000, 6000, 7000, 5000, 3000), (0, 2000, 1000, 0, 2000, 0))


def test_pypsa_ramps_at_starts_and_stops():
    """At most 1,000 MW in the first hour of a run and 1,500 in its last, 2,000 up and 2,500 down between."""
    slow = coal(
        0.05, state_h=OFF, start_up_kw=1000.0, ramp_up_kw_h=2000.0, ramp_down_kw_h=2500.0, shut_down_kw=1500.0
    )
    out = solved((0, 200, 7000, 7000, 7000, 2000, 0), slow, gas(10_000.0, 0.0, state_h=OFF))
    gives(out, (0, 0, 1000, 3000, 4000, 1500, 0), (0, 200, 6000, 4000, 3000, 500, 0))


def test_pypsa_rolling_horizon():
    """Three windows of three hours that overlap by one, each from the state that the one before left."""
    load = (4000, 6000, 800, 5000, 3000, 950, 800)
    state = {"coal": 1.0, "gas": -1.0}
    given: dict[str, list[float]] = {"coal": [], "gas": []}
    for first in (0, 2, 4):
        units = (
            coal(0.1, min_up_h=2.0, min_down_h=2.0, start_cost=10_000.0, state_h=state["coal"]),
            gas(10_000.0, 0.01, start_cost=100.0, state_h=state["gas"]),
        )
        out = solved(load[first : first + 3], *units)
        kept = 3 if first == 4 else 2
        for i, on in out.on.items():
            given[i] += out.output_kw[i][:kept]
            for now in on[:kept]:
                same = (now == 1) == (state[i] > 0.0)
                state[i] = state[i] + (1.0 if now else -1.0) if same else (1.0 if now else -1.0)
    assert given["coal"] == pytest.approx((4000, 6000, 0, 0, 0, 0, 0))
    assert given["gas"] == pytest.approx((0, 0, 800, 5000, 3000, 950, 800))
