"""PV beside the grid by the plan's intent: where it curtails, PV serves the load and nothing is exported."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from dispatch.controllers.plan_follower import PlanFollower
from dispatch.controllers.rules_tou import RulesTou
from dispatch.vocabulary import Context, ControlMemory, PvWish, Source, Targets
from ems.commands import Cause
from ems.control import ControlMode
from ems.control_site import ControlParams
from ems.plan import Plan
from ems.prices import DayPrices
from ems.requests import SetSetpoint, SwitchMode
from ems.site import Site
from tests.builders import site
from tests.scenarios.plants import two_pv
from tests.unit.dispatch.controlled import USERS
from tests.unit.dispatch.lagging import FINE_S, Delays, LaggingLoop, reversals
from tests.unit.dispatch.loop import Loop
from tests.unit.dispatch.plans import plan_of

P_LIMIT = "pv1.p_limit_kw"
FULL, PART = 0.9499, 0.6


def open_site(export_kw: float = 400.0, of: Site | None = None) -> Site:
    """A small plant that may export."""
    base = site() if of is None else of
    return replace(base, grid=replace(base.grid, p_export_kw_max=export_kw))


def curtailing(
    plant: Site,
    *,
    load_kw: float = 100.0,
    used_kw: float = 100.0,
    available_kw: float = 400.0,
    bess_kw: float = 0.0,
    soc: float = FULL,
    import_per_kwh: float = 0.16,
) -> Plan:
    """An hour of a plan that uses `used_kw` of the sun; what is left over is at the POI."""
    plan = plan_of(plant, bess_kw=[bess_kw] * 4, load_kw=load_kw, pv_kw=used_kw, soc=soc)
    names = [p.id for p in plant.pv]
    rated_kw = sum(p.p_ac_kw for p in plant.pv)
    share = {p.id: p.p_ac_kw / rated_kw for p in plant.pv}
    return replace(
        plan,
        pv_p_kw={n: (share[n] * used_kw,) * 4 for n in names},
        pv_available_kw={n: (share[n] * available_kw,) * 4 for n in names},
        import_per_kwh=(import_per_kwh,) * 4,
    )


def demand(kw: float) -> dict[str, float]:
    return {"critical": 0.3 * kw, "essential": 0.5 * kw, "deferrable": 0.2 * kw}


def follow(
    plan: Plan | None, plant: Site, *, soc: float = FULL, sun_kw: float = 400.0, load_kw: float
) -> Loop:
    loop = Loop(PlanFollower(), soc=soc, plant_site=plant)
    rated_kw = sum(p.p_ac_kw for p in plant.pv)
    loop.world.pv_kw = {p.id: sun_kw * p.p_ac_kw / rated_kw for p in plant.pv}
    loop.world.demand_kw = demand(load_kw)
    loop.plan = plan
    loop.physics(0.001)
    loop.t = 0.0
    return loop


def given(loop: Loop) -> tuple[float, float, float]:
    """(PV, battery, POI) [kW]."""
    assert loop.flows is not None
    return sum(loop.flows.pv_p_kw.values()), loop.flows.bess_p_kw["bess1"], loop.flows.grid_p_kw


def near(loop: Loop, *expected_kw: float) -> None:
    """PV, battery and POI are about as expected; what a full battery still takes is little."""
    for kw, expected in zip(given(loop), expected_kw, strict=False):
        assert kw == pytest.approx(expected, abs=4.0)


# ---- what is wished --------------------------------------------------------------------------------------


class Heard:
    """A controller that keeps what it was asked and what it wished."""

    name = "heard"

    def __init__(self, controller: Any) -> None:
        self.controller, self.wishes = controller, [Targets(source=Source.RULES)]

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        targets, memory = self.controller.decide(context)
        self.wishes.append(targets)
        return targets, memory


def wished(
    plan: Plan | None, plant: Site, *, soc: float = PART, told: DayPrices | None = None
) -> PvWish | None:
    loop = follow(plan, plant, soc=soc, load_kw=100.0)
    heard = Heard(PlanFollower())
    loop.setup, loop.prices = replace(loop.setup, controller=heard), told
    loop.run(1.0)
    return heard.wishes[-1].pv_wish


def costing(per_kwh: float) -> Site:
    plant = open_site()
    return replace(plant, tariff=replace(plant.tariff, export_per_kwh=per_kwh))


@pytest.mark.parametrize("available_kw", [100.0, 104.9])
def test_wish_is_none_where_the_plan_uses_its_sun(available_kw: float):
    plant = open_site()
    assert wished(curtailing(plant, available_kw=available_kw), plant) is None


def test_wish_is_none_where_what_is_left_is_noise_of_a_large_plan():
    plant = open_site()
    for used_kw, noise in ((393.0, True), (391.0, False)):
        plan = curtailing(plant, used_kw=used_kw, load_kw=used_kw, soc=PART)
        assert (wished(plan, plant) is None) is noise


@pytest.mark.parametrize(
    ("case", "export_kw", "bess_kw"),
    [
        ({}, 0.0, 0.0),
        ({"bess_kw": -50.0, "used_kw": 150.0}, 0.0, -50.0),  # it charges from sun
        ({"bess_kw": 50.0, "used_kw": 50.0}, 0.0, 0.0),  # PV spares the discharge
        ({"used_kw": 180.0}, 80.0, 0.0),  # as much is exported as is planned
        ({"used_kw": 180.0, "bess_kw": -30.0}, 50.0, -30.0),
        ({"used_kw": 180.0, "bess_kw": 30.0}, 110.0, 30.0),
        ({"used_kw": 40.0}, 0.0, 0.0),  # import that costs: sun comes first
        ({"used_kw": 40.0, "bess_kw": -30.0}, 0.0, -30.0),
        ({"used_kw": 40.0, "import_per_kwh": -0.05}, -60.0, 0.0),  # import that is paid for is meant
    ],
)  # fmt: skip
def test_wish_of_a_plan_that_curtails_is_its_intent(case: dict[str, float], export_kw: float, bess_kw: float):
    plant = open_site()
    wish = wished(curtailing(plant, soc=PART, **case), plant)
    assert wish is not None
    assert wish.cause is Cause.PLAN
    assert wish.export_kw == pytest.approx(export_kw)
    assert wish.bess_kw["bess1"] == pytest.approx(bess_kw, abs=0.5)


def test_wish_brings_a_battery_that_is_behind_back_to_its_planned_charge():
    plant = open_site()
    plan = curtailing(plant, soc=PART)
    wish = wished(plan, plant, soc=PART - 0.022)  # 20 kWh in 5 min, and noise
    assert wish is not None
    assert wish.bess_kw["bess1"] == pytest.approx(-240.0, abs=5.0)
    for soc in (PART + 0.02, PART - 0.0015):  # ahead, or noise
        other = wished(plan, plant, soc=soc)
        assert other is not None
        assert other.bess_kw["bess1"] == 0.0


def test_wish_for_paid_import_is_no_more_than_the_demand_peak_allows():
    plant = open_site()
    plan = curtailing(plant, soc=PART, load_kw=320.0, used_kw=40.0, import_per_kwh=-0.05)
    wish = wished(replace(plan, peak_import_kw=200.0), plant)
    assert wish is not None
    assert wish.export_kw == pytest.approx(-199.0, abs=0.5)


@pytest.mark.parametrize(
    ("bess_kw", "used_kw", "export_kw", "beside_kw"),
    [
        (0.0, 100.0, 0.0, -500.0),  # what the battery can take
        (50.0, 50.0, 0.0, 0.0),
        (-30.0, 180.0, 50.0, -30.0),  # what the plan exports all the same stays
    ],
)
def test_wish_where_export_costs_lets_the_battery_take_it(
    bess_kw: float, used_kw: float, export_kw: float, beside_kw: float
):
    plant = costing(-0.02)
    plan = curtailing(plant, soc=PART, bess_kw=bess_kw, used_kw=used_kw, available_kw=used_kw)
    wish = wished(plan, plant)
    assert wish is not None
    assert wish.export_kw == pytest.approx(export_kw)
    assert wish.bess_kw["bess1"] == pytest.approx(beside_kw)


def told(price: float, days: int = 0) -> DayPrices:
    start = datetime(2026, 3, 1 + days, 21, tzinfo=UTC)
    return DayPrices(start=start, import_per_kwh=(0.1,) * 96, export_per_kwh=(price,) * 96)


@pytest.mark.parametrize(
    ("tariff", "prices", "costs"),
    [
        (0.04, None, False),
        (0.0, None, False),
        (-0.01, None, True),
        (0.04, told(-0.01), True),
        (-0.01, told(0.0), False),  # what is told counts
        (-0.01, told(0.04, 1), True),  # of another day: the tariff
    ],
)
@pytest.mark.parametrize("planned", [True, False], ids=["plan", "rules"])
def test_wish_where_export_costs_is_by_told_prices_and_else_the_tariff(
    tariff: float, prices: DayPrices | None, costs: bool, planned: bool
):
    plant = costing(tariff)
    plan = curtailing(plant, available_kw=100.0, soc=PART) if planned else None
    wish = wished(plan, plant, told=prices)
    assert (wish is not None) is costs
    assert wish is None or wish.cause is (Cause.PLAN if planned else Cause.RULES)


# ---- what becomes of it ----------------------------------------------------------------------------------


def test_follow_plan_that_uses_its_sun_writes_no_limit_but_the_rating():
    plant = open_site(600.0)
    loop = follow(curtailing(plant, available_kw=100.0), plant, load_kw=100.0)
    loop.run(60.0)
    assert {c.value for _, d, _ in loop.log for c in d.commands if c.point == P_LIMIT} == {600.0}
    assert given(loop)[2] < -250.0, "what the sun gives more is exported, as ever"


def test_follow_curtailing_plan_beside_a_full_battery_exports_nothing():
    """298 kW were exported once, under a cap of 400 kW: the cap was all that limited PV."""
    plant = open_site()
    loop = follow(curtailing(plant), plant, load_kw=100.0)
    d = loop.run(60.0)
    assert d.source is Source.PLAN
    pv_kw, bess_kw, poi_kw = given(loop)
    assert pv_kw == pytest.approx(102.0, abs=1.0)  # and the auxiliaries
    assert abs(bess_kw) <= 1.0
    assert abs(poi_kw) <= 1.0
    command = next(c for _, d, _ in reversed(loop.log) for c in d.commands if c.point == P_LIMIT)
    assert command.cause is Cause.PLAN


@pytest.mark.parametrize("load_kw", [40.0, 250.0])
@pytest.mark.parametrize("soc", [FULL, PART])
def test_follow_load_that_is_not_as_foreseen_is_pvs_to_serve(load_kw: float, soc: float):
    plant = open_site()
    loop = follow(curtailing(plant, soc=soc), plant, soc=soc, load_kw=100.0)
    loop.run(30.0)
    loop.world.demand_kw = demand(load_kw)
    loop.run(30.0)
    pv_kw, bess_kw, poi_kw = given(loop)
    assert pv_kw == pytest.approx(load_kw + 2.0, abs=3.0)
    assert abs(bess_kw) <= 3.0
    assert abs(poi_kw) <= 1.0


def test_follow_cloud_under_the_planned_pv_is_the_batterys_until_the_sun_is_back():
    plant = open_site()
    loop = follow(curtailing(plant), plant, load_kw=100.0)
    loop.run(30.0)
    loop.world.pv_kw = {"pv1": 40.0}
    loop.run(30.0)
    near(loop, 40.0, 62.0)
    loop.world.pv_kw = {"pv1": 400.0}
    loop.run(60.0)
    pv_kw, bess_kw, poi_kw = given(loop)
    assert bess_kw <= 0.0, "it gets back what it gave"
    assert pv_kw == pytest.approx(102.0 - bess_kw, abs=2.0)
    assert poi_kw == pytest.approx(0.0, abs=2.0)


@pytest.mark.parametrize("used_kw", [180.0, 250.0])
def test_follow_planned_export_is_made_and_no_more(used_kw: float):
    plant = open_site()
    loop = follow(curtailing(plant, used_kw=used_kw), plant, load_kw=100.0)
    loop.run(30.0)
    loop.world.demand_kw = demand(150.0)
    loop.run(30.0)
    assert given(loop)[2] == pytest.approx(100.0 - used_kw, abs=2.0)


def test_follow_wish_loosens_no_cap():
    plant = open_site(50.0)
    loop = follow(curtailing(plant, used_kw=300.0), plant, load_kw=100.0)  # the plan knows of no cap
    loop.run(60.0)
    assert given(loop)[2] >= -50.0


def test_follow_import_that_is_paid_for_is_left_to_the_grid():
    plant = open_site()
    plan = curtailing(plant, used_kw=40.0, import_per_kwh=-0.05)
    loop = follow(plan, plant, load_kw=100.0)
    loop.run(30.0)
    near(loop, 42.0, 0.0, 60.0)


@pytest.mark.parametrize("ratings", [(300.0, 300.0), (400.0, 200.0)])
def test_follow_several_plants_share_by_rating(ratings: tuple[float, float]):
    plant = open_site(of=two_pv(site(), *ratings))
    loop = follow(curtailing(plant), plant, load_kw=120.0)
    loop.run(30.0)
    assert loop.flows is not None
    assert loop.flows.pv_p_kw["pv1"] / loop.flows.pv_p_kw["pv2"] == pytest.approx(ratings[0] / ratings[1])
    assert given(loop)[0] == pytest.approx(122.0, abs=1.0)


@pytest.mark.parametrize("mode", [ControlMode.MANUAL, ControlMode.LOCAL])
def test_follow_plant_in_other_hands_is_left_alone_and_the_other_makes_room(mode: ControlMode):
    plant = open_site(of=replace(two_pv(site()), control=ControlParams(users=USERS)))
    loop = follow(curtailing(plant), plant, load_kw=200.0)
    loop.run(5.0)
    if mode is ControlMode.MANUAL:
        assert loop.ask("ann", SwitchMode(device="pv2", mode=mode)).done
        assert loop.ask("ann", SetSetpoint(point="pv2.p_limit_kw", value=150.0)).done
    else:
        loop.world.inputs = {"pv2.remote": 0.0}
        loop.set["pv2.p_limit_kw"] = 150.0
    loop.run(60.0)
    assert loop.flows is not None
    assert loop.flows.pv_p_kw["pv2"] == pytest.approx(150.0)
    assert loop.flows.pv_p_kw["pv1"] == pytest.approx(52.0, abs=2.0)


def test_follow_plants_that_cannot_be_limited_are_not_expected_to_give_less():
    plant = open_site()
    points = {p: a for p, a in plant.authority.setpoints.items() if p != P_LIMIT}
    plant = replace(plant, authority=replace(plant.authority, setpoints=points))
    loop = follow(curtailing(plant, soc=PART), plant, soc=PART, load_kw=100.0)
    loop.run(30.0)
    assert given(loop)[1] == pytest.approx(-298.0, abs=2.0), "the battery takes what there is"


@pytest.mark.parametrize("late", [{}, {"grid1": 1.0}, {"grid1": 2.0}, {"pv1": 1.0}])
@pytest.mark.parametrize("dead_s", [0.2, 2.0])
@pytest.mark.parametrize("soc", [FULL, PART])
@pytest.mark.parametrize("cap_kw", [0.0, 400.0])
def test_follow_load_steps_without_hunting(late: dict[str, float], dead_s: float, soc: float, cap_kw: float):
    """Battery and PV once answered the same load both: they moved together, which teaches wrong ages."""
    plant = open_site(cap_kw)
    commands = {"bess1.p_set_kw": dead_s, P_LIMIT: dead_s}
    loop = LaggingLoop(PlanFollower(), Delays(command_s=commands, reading_s=late), soc=soc, plant_site=plant)
    loop.world.demand_kw, loop.world.pv_kw = demand(100.0), {"pv1": 400.0}
    loop.plan = curtailing(plant, soc=soc)
    loop.run(60.0)
    for load_kw in (250.0, 60.0):
        began = len(loop.log)
        loop.world.demand_kw = demand(load_kw)
        loop.run(60.0)
        pv = [f.pv_p_kw["pv1"] for _, _, f in loop.log[began:]]
        assert reversals(pv, 5.0) <= 1
        assert pv[-1] == pytest.approx(load_kw + 2.0, abs=15.0)
        assert loop.poi[-1][1] == pytest.approx(0.0, abs=15.0)
    over_s = sum(FINE_S for t, kw in loop.poi if t > 120.0 and kw < -cap_kw - 17.5)
    assert over_s <= 1.0 + dead_s + max(late.values(), default=0.0) + FINE_S


@pytest.mark.parametrize(("soc", "pv_kw", "bess_kw"), [(FULL, 102.0, 0.0), (PART, 400.0, -298.0)])
def test_rules_export_nothing_that_costs(soc: float, pv_kw: float, bess_kw: float):
    loop = Loop(RulesTou(), soc=soc, plant_site=costing(0.04))
    loop.world.demand_kw, loop.world.pv_kw = demand(100.0), {"pv1": 400.0}
    loop.run(20.0)
    assert given(loop)[0] == 400.0
    loop.prices = told(-0.03)
    loop.run(20.0)
    near(loop, pv_kw, bess_kw, 0.0)
    loop.prices = told(0.03)
    loop.run(20.0)
    assert given(loop)[0] == 400.0


@pytest.mark.parametrize("ramp_kw_s", [None, 5.0])
def test_follow_battery_bridges_what_pv_may_not_bring_at_once(ramp_kw_s: float | None):
    """150 kW more load: PV comes up by its ramp, the battery gives the rest, the grid next to nothing."""
    plant = open_site()
    own = replace(plant.authority.setpoints[P_LIMIT], ramp_per_s=ramp_kw_s)
    plant = replace(
        plant, authority=replace(plant.authority, setpoints={**plant.authority.setpoints, P_LIMIT: own})
    )
    loop = follow(curtailing(plant, soc=PART), plant, soc=PART, load_kw=100.0)
    loop.run(90.0)
    near(loop, 102.0, 0.0, 0.0)
    loop.world.demand_kw = demand(250.0)
    loop.run(10.0)
    pv_kw, bess_kw, poi_kw = given(loop)
    assert poi_kw == pytest.approx(0.0, abs=6.0)
    assert bess_kw > 90.0 if ramp_kw_s else abs(bess_kw) < 4.0
    for load_kw, after_s in ((250.0, 40.0), (60.0, 3.0)):  # down is free
        loop.world.demand_kw = demand(load_kw)
        loop.run(after_s)
        pv_kw, bess_kw, poi_kw = given(loop)
        assert pv_kw + bess_kw == pytest.approx(load_kw + 2.0, abs=1.0)
        assert -10.0 < bess_kw <= 0.5, "it gets back what it gave"
        assert poi_kw == pytest.approx(0.0, abs=1.0)


def moves(values: Sequence[float]) -> float:
    return max(abs(b - a) for a, b in pairwise(values))


@pytest.mark.parametrize("away", [False, True], ids=["battery full", "battery in maintenance"])
def test_rules_let_pv_go_no_faster_than_the_contracts_ramp(away: bool):
    """The price of the next quarter takes 300 kW of PV away: no battery has room for that."""
    plant = costing(0.04)
    plant = replace(plant, grid=replace(plant.grid, ramp_kw_s=5.0))
    loop = Loop(RulesTou(), soc=FULL if not away else 0.1, plant_site=plant)
    loop.world.demand_kw, loop.world.pv_kw = demand(100.0), {"pv1": 400.0}
    loop.world.silent = frozenset({"bess1"}) if away else frozenset()
    loop.run(120.0)
    loop.prices, began = told(-0.03), len(loop.log)
    loop.run(90.0)
    poi = [f.grid_p_kw for _, _, f in loop.log[began - 1 :]]
    assert moves(poi) <= 5.0 + 0.5
    assert poi[-1] == pytest.approx(0.0, abs=4.0)


def test_follow_plant_in_test_stands_where_it_stands_and_protection_still_reduces_it():
    """A wish below what protection leaves once would have hidden that protection reduces it."""
    plant = open_site(of=replace(two_pv(site()), control=ControlParams(users=USERS)))
    loop = follow(curtailing(plant), plant, load_kw=300.0)
    loop.run(5.0)
    assert loop.ask("eve", SwitchMode(device="pv2", mode=ControlMode.TEST)).done
    loop.run(20.0)
    assert loop.flows is not None
    assert loop.flows.pv_p_kw["pv2"] == pytest.approx(151.0, abs=2.0)
    loop.world.demand_kw = demand(100.0)
    loop.run(10.0)
    assert loop.flows.pv_p_kw["pv2"] == pytest.approx(151.0, abs=2.0), "a wish moves nothing in test"
    loop.world.inputs = {"grid1.p_export_kw_max": 0.0}
    loop.run(10.0)
    assert loop.flows.pv_p_kw["pv2"] <= 51.0
    assert loop.flows.grid_p_kw >= 0.0
