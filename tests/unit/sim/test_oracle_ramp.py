"""Oracle I4 on a battery with a ramp: a cap at the POI is held at once, and nothing else moves it faster."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from ems.commands import Cause, Command
from ems.site import Site
from ems.telemetry import Quality, Reading
from sim.oracles.base import WriteSeen
from sim.oracles.writes import RampKept
from sim.rig import Rig, RigOptions
from sim.rig_scenario import Power
from tests import builders

RAMP_KW_S, CAP_KW = 10.0, 200.0


def site() -> Site:
    plant = builders.site()
    setpoints = dict(plant.authority.setpoints)
    setpoints["bess1.p_set_kw"] = replace(setpoints["bess1.p_set_kw"], ramp_per_s=RAMP_KW_S)
    grid = replace(plant.grid, p_import_kw_max=CAP_KW)
    return replace(plant, grid=grid, authority=replace(plant.authority, setpoints=setpoints))


def judged(at_poi_kw: float, held_kw: float, value_kw: float) -> str | None:
    """What is said of one write, with this at the POI."""
    command = Command(
        point="bess1.p_set_kw", value=value_kw, cause=Cause.RULES, reason="test", owner="edge", plan_id=None,
        epoch=1, seq=1, limits_hash="", decided_at=builders.T0, decided_s=0.0,
    )  # fmt: skip
    values = {"grid1.p_kw": at_poi_kw, "bess1.p_charge_kw_max": 400.0, "bess1.p_discharge_kw_max": 400.0}
    told = {
        p: Reading(point=p, value=v, quality=Quality.GOOD, source_time=builders.T0, arrived_s=0.0)
        for p, v in values.items()
    }
    seen = SimpleNamespace(t_s=0.0, dt_s=1.0, command=command, snapshot=None, told=told, held=held_kw)
    return RampKept(site()).on_write(cast(WriteSeen, seen))


@pytest.mark.parametrize(
    ("at_poi_kw", "held_kw", "value_kw", "kept"),
    [
        (CAP_KW + 100.0, -50.0, 50.0, True),  # all that is over the cap
        (CAP_KW + 100.0, -50.0, 80.0, False),  # and more
        (CAP_KW - 1.0, -50.0, 50.0, False),  # nothing is over it
        (CAP_KW + 100.0, 50.0, -50.0, False),  # the other way
        (CAP_KW - 1.0, -50.0, -40.0, True),  # its ramp
        (CAP_KW - 1.0, -50.0, 0.0, True),  # towards zero
    ],
)
def test_what_is_over_a_cap_is_taken_off_at_once_and_no_more(
    at_poi_kw: float, held_kw: float, value_kw: float, kept: bool
):
    assert (judged(at_poi_kw, held_kw, value_kw) is None) is kept


def test_battery_with_a_ramp_holds_the_cap_in_the_cycle_after_a_load_step():
    load: dict[str, Power] = {
        "critical": 60.0, "essential": lambda t: 60.0 if t < 30.0 else 240.0, "deferrable": 40.0,
    }  # fmt: skip
    rig = Rig(site(), load_kw=load, options=RigOptions(soc=0.3)).run(60.0)
    over = [r.t_s for r in rig.rows() if r.flows.grid_p_kw > CAP_KW]
    assert over == [30.0]
