"""Four units of a textbook and two of a tutorial with wind: published costs, posed from their tables.

A. J. Wood and B. F. Wollenberg, Power Generation, Operation and Control (Wiley, 1984), unit commitment by
dynamic programming: 73,274 without minimum times, 74,110 with them; cold starts throughout.
M. Lubin and Y. Dvorkin, power systems tutorial of JuMP: 1,500 MW and 250 MW of demand.
"""

import pytest

from optimizer import Case, Load, QuadraticCost, Renewable, Unit, solve_case

# p_min, p_max, Btu/kWh at 2 per MBtu, no load per hour, min up, min down, state, cold start
UNITS = (
    (25, 80, 10440, 213.00, 4, 2, -5, 350.0),
    (60, 250, 9000, 585.62, 5, 3, 8, 400.0),
    (75, 300, 8730, 684.74, 5, 4, 8, 1100.0),
    (20, 60, 11900, 252.00, 1, 1, -6, 0.02),
)
LOAD = (450, 530, 600, 540, 400, 280, 290, 500)


@pytest.mark.parametrize(("times", "cost"), [(0, 73_274.0), (1, 74_110.0)])
def test_four_units_of_the_textbook_cost_what_it_says(times: int, cost: float):
    units = tuple(
        Unit(
            id=f"unit {k + 1}", p_min_kw=low, p_max_kw=high, state_h=state, start_cost=start,
            cost=QuadraticCost(a_per_h=idle, b_per_kwh=2.0 * rate / 1000.0),
            min_up_h=times * up, min_down_h=times * down,
        )
        for k, (low, high, rate, idle, up, down, state, start) in enumerate(UNITS)
    )  # fmt: skip
    done = solve_case(Case(steps=8, units=units, loads=(Load(kw=LOAD),), hard=True))
    assert (done.status, done.faults) == ("optimal", ())
    assert done.objective == pytest.approx(cost, abs=0.5)


@pytest.mark.parametrize(
    ("demand", "on", "output"), [(1500, (1, 1), (1000.0, 300.0)), (250, (1, 0), (50.0, 0.0))]
)
def test_two_units_and_wind_of_the_tutorial(demand: float, on: tuple[int, int], output: tuple[float, float]):
    """The second runs at 300 or more, or not at all: at low demand it is off and no wind is spilt."""
    first = Unit(id="1", p_min_kw=0, p_max_kw=1000, cost=QuadraticCost(a_per_h=1000, b_per_kwh=50))
    second = Unit(id="2", p_min_kw=300, p_max_kw=1000, cost=QuadraticCost(b_per_kwh=100))
    wind = Renewable(id="wind", kw=200, cost_per_kwh=50)
    case = Case(steps=1, units=(first, second), renewables=(wind,), loads=(Load(kw=demand),), hard=True)
    done = solve_case(case)
    assert (done.on["1"][0], done.on["2"][0]) == on
    assert (done.output_kw["1"][0], done.output_kw["2"][0]) == pytest.approx(output)
    assert done.renewable_kw["wind"] == pytest.approx((200.0,))
