"""Oracle I13 over ticks made by hand: whose darkness is the edge's doing, and whose is not."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dispatch.vocabulary import Source
from ems.control import ControlMode
from ems.points import BessState, GensetState
from sim.oracles.base import TickSeen
from sim.oracles.served import LoadIsServed
from tests import builders

LONG_S = 4000.0
ISLAND = {
    "mains": False, "soc": 0.5, "battery": BessState.FORMING, "battery_kw": 0.0, "set": GensetState.STOPPED,
    "set_there": True, "tank_l": 500.0, "load_kw": 100.0, "dark_kw": 40.0, "quiet_s": 100.0, "held": False,
    "rung": Source.RULES, "control": ControlMode.AUTO, "cap_kw": None,
}  # fmt: skip


def tick(**changed: Any) -> TickSeen:
    """An island whose battery forms and gives nothing more, a set that stands, and a feeder in the dark."""
    k = ISLAND | changed
    flows = SimpleNamespace(
        mains_present=k["mains"], poi_v_pu=1.0 if k["mains"] else 0.0,
        feeder_demand_kw={"critical": k["load_kw"]}, unserved_kw=lambda: {"critical": k["dark_kw"]},
        pv_p_kw={},
        bess_state={"bess1": k["battery"]}, bess_soc={"bess1": k["soc"]},
        bess_p_discharge_kw_max={"bess1": k["battery_kw"]},
        genset_state={"gen1": k["set"]}, genset_tank_l={"gen1": k["tank_l"]},
    )  # fmt: skip
    condition = SimpleNamespace(
        import_cap_kw=k["cap_kw"],
        bess={"bess1": SimpleNamespace(available=True)},
        gensets={"gen1": SimpleNamespace(available=k["set_there"])},
    )
    decisions = SimpleNamespace(
        ladder=SimpleNamespace(rung=k["rung"]), plant_control=k["control"], control={}, condition=condition
    )
    return cast(
        TickSeen,
        SimpleNamespace(
            dt_s=10.0, quiet_s=k["quiet_s"], held_safe=k["held"], decisions=decisions, flows=flows
        ),
    )


def oracle_of(inrush_kva: float = 0.0) -> LoadIsServed:
    """Of a plant with one battery, one set and one feeder."""
    site = builders.site()
    feeder = replace(site.feeders[0], inrush_kva=inrush_kva)
    return LoadIsServed(replace(site, gensets=site.gensets[:1], feeders=(feeder,)))


def found(*, inrush_kva: float = 0.0, **changed: Any) -> str | None:
    """What is said within a long time of the same tick."""
    oracle = oracle_of(inrush_kva)
    said = [oracle.on_tick(tick(**changed)) for _ in range(int(LONG_S / 10.0))]
    assert said[0] is None
    return next((s for s in said if s is not None), None)


@pytest.mark.parametrize(
    ("changed", "who"),
    [
        ({}, "gen1, bess1 could"),
        ({"set": GensetState.RUNNING, "set_there": False}, "gen1, bess1 could"),
        ({"battery_kw": 200.0, "load_kw": 41.0, "set_there": False}, "bess1 could"),
        ({"battery": BessState.OFF, "load_kw": 41.0, "set_there": False}, "bess1 could"),
        ({"battery": BessState.TRIPPED, "load_kw": 40.0}, "gen1 could"),
        ({"mains": True, "set_there": False, "soc": 0.1}, "the mains carry it"),
    ],
)
def test_load_in_the_dark_beside_a_source_that_could_is_told(changed: dict[str, Any], who: str):
    evidence = found(**changed)
    assert evidence is not None
    assert evidence.endswith(f"though {who}")
    assert evidence.startswith("40.0 kW are not served for ")


@pytest.mark.parametrize(
    "changed",
    [
        {"dark_kw": 0.5},
        {"quiet_s": 29.0},
        {"held": True},
        {"rung": Source.HOLD_SAFE},
        {"control": ControlMode.MANUAL},
        {"set_there": False},
        {"set": GensetState.LOCKED_OUT},
        {"tank_l": 10.0},
        {"load_kw": 1000.0},
        {"soc": 0.15, "battery": BessState.TRIPPED, "load_kw": 400.0},
        {"inrush_kva": 100.0},
        {"mains": True, "cap_kw": 100.0},
    ],
)
def test_darkness_that_nobody_could_end_is_not(changed: dict[str, Any]):
    assert found(**changed) is None


def test_darkness_that_ends_in_between_begins_anew():
    oracle = oracle_of()
    for k in range(400):
        assert oracle.on_tick(tick(dark_kw=0.0 if k % 12 == 0 else 40.0)) is None
