"""The baselines: what genset and storage controllers on the market do today, in a closed loop."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dispatch.controllers.rules import Rules, RulesParams
from dispatch.controllers.rules_tou import RulesTou, TouParams, next_outage, price_place
from dispatch.protections.balancing_memory import BalancingMemory
from ems.outage import OutageNotice
from ems.points import GensetState
from ems.prices import DayPrices
from plant_models.plant import initial_state
from tests.builders import T0, bess, site, tariff
from tests.unit.dispatch.loop import Loop

NIGHT = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)  # 03:00 in Nairobi
NOON = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
EVENING = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)  # 18:30


def bess_kw(loop: Loop) -> float:
    assert loop.flows is not None
    return loop.flows.bess_p_kw["bess1"]


def test_rules_self_consumption_covers_the_load_above_the_floor():
    loop = Loop(Rules(), soc=0.8)
    loop.run(10)
    assert bess_kw(loop) == pytest.approx(195.0)


def charged_to(loop: Loop, soc: float) -> None:
    """Another charge at once, and an edge that does not remember the one before."""
    loop.plant = initial_state(loop.site, soc)
    loop.run(1)
    loop.edge = replace(loop.edge, balancing=BalancingMemory())


def test_rules_below_the_floor_recharges_slowly_and_then_rests_until_recharged():
    loop = Loop(Rules(params=RulesParams(soc_floor=0.5, soc_recharge=0.6)), soc=0.49)
    loop.run(10)
    assert bess_kw(loop) < -100.0
    charged_to(loop, 0.55)
    loop.run(10)
    assert bess_kw(loop) == pytest.approx(0.0)
    charged_to(loop, 0.61)
    loop.run(10)
    assert bess_kw(loop) > 100.0


def test_rules_surplus_charges():
    loop = Loop(Rules(), soc=0.6)
    loop.world.pv_kw = {"pv1": 300.0}
    loop.run(20)
    assert bess_kw(loop) == pytest.approx(-105.0, abs=1.0)


def test_rules_island_genset_runs_well_loaded_between_its_thresholds():
    params = RulesParams(soc_start=0.30, soc_stop=0.34)
    loop = Loop(Rules(params=params), soc=0.305)
    loop.plant = initial_state(loop.site, 0.305, islanded_by="bess1")
    loop.world.mains = False
    loop.run(300, dt_s=2.0)
    assert loop.flows is not None
    assert loop.flows.genset_p_kw["gen1"] == pytest.approx(320.0)  # 80 % of its rating
    loop.run(2400, dt_s=5.0)
    assert loop.flows.genset_state["gen1"] in (GensetState.STOPPED, GensetState.COOLING_DOWN)
    assert len(loop.events("genset.start.requested")) == 1


def test_rules_island_load_following_does_not_charge():
    params = RulesParams(charge_with_genset=False, soc_start=0.5)
    loop = Loop(Rules(params=params), soc=0.45)
    loop.plant = initial_state(loop.site, 0.45, islanded_by="bess1")
    loop.world.mains = False
    loop.run(200)
    assert bess_kw(loop) == pytest.approx(0.0, abs=3.0)


def test_rules_load_swinging_around_a_threshold_does_not_start_and_stop():
    loop = Loop(Rules(params=RulesParams(soc_start=0.2)), soc=0.6)
    loop.plant = initial_state(loop.site, 0.6, islanded_by="bess1")
    loop.world.mains = False
    for i in range(120):
        loop.world.demand_kw["essential"] = 300.0 if i % 2 else 240.0  # 402 and 342 kW around 425 kW
        loop.run(10, dt_s=5.0)
    assert len(loop.events("genset.start.requested")) <= 1


def test_rules_peak_lopping_runs_a_genset_beside_a_grid_that_is_too_small():
    loop = Loop(Rules(params=RulesParams(soc_start=0.25)), soc=0.2)
    loop.world.demand_kw.update(critical=120.0, essential=250.0, deferrable=150.0)  # 520 kW, cap 350 kW
    loop.run(120)
    assert loop.flows is not None
    assert sum(loop.flows.genset_p_kw.values()) > 150.0
    assert not loop.events("feeder.shed")


def test_rules_peak_lopping_starts_at_the_battery_s_own_threshold():
    """A window from 0.40 on: its start is at 0.50, and 0.25 would never be reached."""
    plant = replace(site(), bess=(bess(soc_min=0.4, soc_taper_low=0.42),))
    wanted = []
    for soc in (0.6, 0.47):
        loop = Loop(Rules(), soc=soc, plant_site=plant)
        loop.world.demand_kw.update(critical=120.0, essential=250.0, deferrable=150.0)  # 520 kW, cap 350 kW
        loop.run(30)
        wanted.append(bool(loop.edge.control.gensets_wanted))
    assert wanted == [False, True]


@pytest.mark.parametrize("controller", [Rules(), RulesTou()], ids=["rules", "rules_tou"])
def test_rules_backup_reserve_lies_inside_the_battery_s_window(controller):
    """0.05 to 0.45: the recharge of 0.50 would never be reached; the floor is 0.19 there."""
    narrow = bess(soc_min=0.05, soc_max=0.45, soc_taper_low=0.07, soc_taper_high=0.43)
    loop = Loop(controller, soc=0.34, start=EVENING, plant_site=replace(site(), bess=(narrow,)))
    loop.run(10)
    assert bess_kw(loop) > 150.0


@pytest.mark.parametrize(("hour_local", "place"), [(3, 0.0), (12, (0.16 - 0.09) / (0.28 - 0.09)), (19, 1.0)])
def test_price_place_orders_the_day(hour_local, place):
    when = datetime(2026, 3, 2, hour_local - 3, 0, tzinfo=UTC)
    assert price_place(tariff(), when) == pytest.approx(place)


def told(at_noon: float) -> DayPrices:
    """0.10 all day but for the hour from noon: an afternoon of a market, not of the tariff's windows."""
    day = [0.10] * 96
    day[48:52] = [at_noon] * 4
    return DayPrices(
        start=datetime(2026, 3, 1, 21, tzinfo=UTC), import_per_kwh=tuple(day), export_per_kwh=(0.04,) * 96
    )


def test_price_place_is_among_the_told_prices_of_the_day_and_the_tariffs_on_another_day():
    assert price_place(tariff(), NOON, told(0.5)) == 1.0
    assert price_place(tariff(), NOON, told(-0.1)) == 0.0
    assert price_place(tariff(), NOON, told(0.1)) is None, "flat"
    other = NOON + timedelta(days=1)
    assert price_place(tariff(), other, told(0.5)) == price_place(tariff(), other)


@pytest.mark.parametrize(("price", "low", "high"), [(0.5, 150.0, 200.0), (-0.1, -200.0, -50.0)])
def test_tou_follows_told_prices_where_the_tariff_says_otherwise(price, low, high):
    """Noon is neither dear nor cheap by the windows: nothing is done. The market knows more."""
    loop = Loop(RulesTou(), soc=0.55, start=NOON)
    loop.run(10)
    assert bess_kw(loop) == pytest.approx(0.0, abs=1.0)
    loop.prices = told(price)
    loop.run(10)
    assert low <= bess_kw(loop) <= high


def notice(hours: float, issued_hours: float = -24.0) -> OutageNotice:
    start = NOON + timedelta(hours=hours)
    return OutageNotice(
        id="o1", issued_at=NOON + timedelta(hours=issued_hours), start=start, end=start + timedelta(hours=2)
    )


@pytest.mark.parametrize(("hours", "found"), [(5.0, True), (7.0, False), (-1.0, True), (-3.0, False)])
def test_next_outage_is_seen_within_its_lead(hours, found):
    assert (next_outage([notice(hours)], NOON, 6.0) is not None) == found


TOU = TouParams(peak_shave_kw=250.0)


@pytest.mark.parametrize(
    ("start", "soc", "low", "high"),
    [
        (NIGHT, 0.5, -60.0, -30.0),  # cheap: charges, but no more than the peak threshold leaves
        (NIGHT, 0.85, 0.0, 0.0),  # charged enough, kept
        (EVENING, 0.7, 190.0, 200.0),  # dear: covers the load
        (EVENING, 0.40, -5.0, 1.0),  # down to its floor
        (NOON, 0.5, 0.0, 1.0),  # between: above `mid_soc` only
        (NOON, 0.7, 190.0, 200.0),
    ],
)
def test_tou_windows(start, soc, low, high):
    loop = Loop(RulesTou(params=TOU), soc=soc, start=start)
    if start == NIGHT and soc > 0.8:
        loop = Loop(RulesTou(params=TouParams(mid_soc=0.9)), soc=soc, start=start)
    loop.run(10)
    assert low - 1e-6 <= bess_kw(loop) <= high + 1e-6


def test_tou_peak_shaving_uses_the_battery_below_its_other_floors():
    loop = Loop(RulesTou(params=TOU), soc=0.35, start=NOON)
    loop.world.demand_kw["essential"] = 190.0  # 292 kW against 250 kW
    loop.run(10)
    assert bess_kw(loop) == pytest.approx(42.0, abs=1.0)


def test_tou_does_not_shave_below_a_peak_that_has_been_paid_for():
    loop = Loop(RulesTou(params=TOU), soc=0.45, start=NOON)
    loop.edge = replace(loop.edge, observer=replace(loop.edge.observer, peak_import_kw=300.0))
    loop.world.demand_kw["essential"] = 190.0
    loop.run(10)
    assert bess_kw(loop) == pytest.approx(0.0, abs=0.1)


def test_tou_announced_outage_is_met_with_a_full_battery():
    loop = Loop(RulesTou(), soc=0.5, start=NOON, outages=(notice(4.0),))
    loop.run(4 * 3600.0, dt_s=60.0)
    assert loop.flows is not None
    assert loop.flows.bess_soc["bess1"] == pytest.approx(0.9, abs=0.02)


def test_tou_outage_nobody_has_announced_yet_is_not_known():
    loop = Loop(RulesTou(), soc=0.65, start=NOON, outages=(notice(4.0, issued_hours=1.0),))
    loop.run(30, dt_s=10.0)
    assert bess_kw(loop) > 0.0


def test_site_prices_start_at_t0():
    assert T0 == NIGHT
    assert site().tariff.import_per_kwh(T0) == 0.09
