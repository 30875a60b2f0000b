"""The edge goes by a battery's points of efficiency where it reckons with energy."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dispatch.controllers.rules_tou import RulesTou, TouParams
from dispatch.protections.balance import charge_room_kw, discharge_room_kw, usable_kwh
from dispatch.protections.bus import tapered_kw
from ems.assets import BatteryParams
from ems.condition import BessCondition
from ems.loss_curve import LossCurve
from ems.outage import OutageNotice
from ems.site import Site
from plant_models import battery
from tests.builders import T0, site
from tests.builders import battery as params_of
from tests.unit.dispatch.loop import Loop

SITE = site()


def with_battery(params: BatteryParams) -> Site:
    return replace(SITE, bess=(replace(SITE.bess[0], battery=params),))


DEAR_AT_FIRST = LossCurve(p_kw=(0.0, 100.0, 500.0), loss_kw=(0.0, 20.0, 40.0))  # slopes of 0.2 and 0.05
P = params_of(charge_curve=DEAR_AT_FIRST, discharge_curve=DEAR_AT_FIRST, self_discharge_per_h=0.0)
NOW = BessCondition(available=True, soc=0.5, p_kw=0.0, p_charge_kw_max=500.0, p_discharge_kw_max=500.0)


def test_rooms_end_at_the_floor_and_within_the_ceiling():
    low = replace(NOW, soc=0.2)
    out_kw = discharge_room_kw(P, low, 0.1, 3600.0)  # 98 kWh beside 2 of no-load loss: 98 / 1.2
    assert out_kw == pytest.approx(98.0 / 1.2)
    assert battery.step(P, 200.0, out_kw, 3600.0)[0] == pytest.approx(100.0)
    in_kw = charge_room_kw(P, low, 0.5, 3600.0)  # 80 of 100 kW, then 0.95 each
    assert in_kw == pytest.approx(100.0 + 220.0 / 0.95)
    assert battery.step(P, 200.0, -in_kw, 3600.0)[0] == pytest.approx(498.0)  # no-load loss aside


def test_usable_energy_and_what_tapers_go_by_the_points():
    assert usable_kwh(P, NOW, 0.1) == pytest.approx(400.0 / 1.2)
    near = replace(NOW, soc=0.16, p_kw=100.0)
    drawn = 120.0 * 360.0 / 3600.0 / 1000.0
    assert tapered_kw(P, near, 360.0) == pytest.approx(battery.taper_limits_kw(P, 0.16 - drawn)[1])


def test_tou_charges_for_an_outage_what_the_points_ask_for():
    """400 kWh in 2.75 h beside 2 kW standing: 147.5 kW stored take 100 + 67.5 / 0.95 kW; a fifth more."""
    start = T0 + timedelta(hours=9)
    notice = OutageNotice(
        id="o1", issued_at=T0, start=start + timedelta(hours=3), end=start + timedelta(hours=5)
    )
    loop = Loop(
        RulesTou(params=TouParams(outage_soc=0.9)),
        soc=0.5,
        plant_site=with_battery(P),
        start=start,
        outages=(notice,),
    )
    loop.world.demand_kw = {"critical": 10.0, "essential": 10.0, "deferrable": 0.0}
    loop.run(5)
    assert loop.flows is not None
    asked_kw = 1.2 * (100.0 + (400.0 / 2.75 + 2.0 - 80.0) / 0.95)
    assert loop.flows.bess_p_kw["bess1"] == pytest.approx(-asked_kw, rel=0.01)
