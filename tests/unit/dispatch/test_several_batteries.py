"""Several batteries: one power shared so that their charges come together, and none charges from another."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.protections.balance import Store, balanced, moved, uncirculated
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Power
from tests import builders
from tests.scenarios.plants import two_batteries

KW = st.floats(min_value=-1000.0, max_value=1000.0)
ROOM = st.floats(min_value=0.0, max_value=500.0)


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Store]:
    n = draw(st.integers(min_value=1, max_value=4))
    return {
        f"bess{k}": Store(
            energy_kwh=draw(st.floats(min_value=10.0, max_value=3000.0)),
            soc=draw(st.floats(min_value=0.05, max_value=0.98)),
            charge_kw=draw(ROOM),
            discharge_kw=draw(ROOM),
        )
        for k in range(n)
    }


@given(total_kw=KW, fleet=fleets())
def test_balanced_keeps_rooms_signs_and_the_sum(total_kw: float, fleet: dict[str, Store]):
    parts = balanced(total_kw, fleet)
    rooms_kw = sum(s.discharge_kw if total_kw >= 0.0 else s.charge_kw for s in fleet.values())
    assert abs(sum(parts.values())) == pytest.approx(min(abs(total_kw), rooms_kw), abs=1e-6)
    for b, p_kw in parts.items():
        assert -fleet[b].charge_kw - 1e-6 <= p_kw <= fleet[b].discharge_kw + 1e-6
        assert p_kw * total_kw >= -1e-6  # nobody goes against the others


@given(by_kw=KW, fleet=fleets(), total_kw=KW)
def test_moved_from_one_direction_never_circulates(by_kw: float, fleet: dict[str, Store], total_kw: float):
    rooms = {b: (s.charge_kw, s.discharge_kw) for b, s in fleet.items()}
    before = balanced(total_kw, fleet)
    after = moved(before, rooms, by_kw)
    assert min(after.values()) >= -1e-6 or max(after.values()) <= 1e-6
    low_kw, high_kw = -sum(r[0] for r in rooms.values()), sum(r[1] for r in rooms.values())
    wanted_kw = min(high_kw, max(low_kw, sum(before.values()) + by_kw))
    assert sum(after.values()) == pytest.approx(wanted_kw, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"a": 100.0, "b": -40.0}, {"a": 60.0, "b": 0.0}),
        ({"a": 30.0, "b": -50.0, "c": -50.0}, {"a": 0.0, "b": -35.0, "c": -35.0}),
        ({"a": 30.0, "b": 0.0}, {"a": 30.0, "b": 0.0}),
    ],
)
def test_uncirculated_the_sum_stays(values: dict[str, float], left: dict[str, float]):
    assert uncirculated(values) == pytest.approx(left)


def test_balanced_the_fuller_one_gives_more_and_takes_less():
    fleet = {
        "full": Store(energy_kwh=500.0, soc=0.8, charge_kw=250.0, discharge_kw=250.0),
        "empty": Store(energy_kwh=500.0, soc=0.7, charge_kw=250.0, discharge_kw=250.0),
    }
    assert balanced(200.0, fleet) == pytest.approx({"full": 150.0, "empty": 50.0})  # 25 kWh in half an hour
    assert balanced(-200.0, fleet) == pytest.approx({"full": -50.0, "empty": -150.0})
    assert balanced(60.0, fleet) == pytest.approx({"full": 60.0, "empty": 0.0})


# ---- on the production edge -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Site:
    """bess1 forms; bess2 has half its size and follows."""
    return two_batteries(builders.site())


def apart(rows: Iterator[Row]) -> list[float]:
    return [abs(r.flows.bess_soc["bess1"] - r.flows.bess_soc["bess2"]) for r in rows]


def circulating_kw(rig: Rig) -> float:
    """Most that one battery gave while the other took."""
    powers = [r.flows.bess_p_kw.values() for r in rig.rows(10.0)]
    return max(min(max(0.0, max(p)), max(0.0, -min(p))) for p in powers)


@pytest.mark.parametrize("islanded", [False, True], ids=["beside the grid", "in an island"])
@pytest.mark.parametrize(("load_kw", "pv_kw"), [(420.0, 0.0), (60.0, 420.0)], ids=["discharging", "charging"])
def test_several_batteries_their_charges_come_together(
    pair: Site, islanded: bool, load_kw: float, pv_kw: float
):
    load: dict[str, Power] = {
        "critical": 60.0,
        "essential": 0.6 * load_kw - 36.0,
        "deferrable": 0.4 * load_kw - 24.0,
    }
    soc = {"bess1": 0.55, "bess2": 0.75} if pv_kw == 0.0 else {"bess1": 0.45, "bess2": 0.6}
    options = RigOptions(soc=soc, islanded_by="bess1" if islanded else None)
    rig = Rig(pair, load_kw=load, pv_kw=pv_kw, dt_s=5.0, options=options).run(1500.0)
    gaps = apart(rig.rows())[::60]
    assert all(b <= a + 1e-6 for a, b in pairwise(gaps))
    assert gaps[-1] < 0.6 * gaps[0]
    assert circulating_kw(rig) <= 3.0  # readings have noise, and each battery's converter its own
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


def test_several_batteries_a_derated_one_gives_what_it_can(pair: Site):
    """bess2 is cut to 40 % beside the forming one: the rest is there in the next cycle, nothing is shed."""
    fault = Fault(kind="bess_derated", target="bess2", from_s=60.0, value=0.4)
    load: dict[str, Power] = {"critical": 60.0, "essential": 240.0, "deferrable": 120.0}
    options = RigOptions(soc={"bess1": 0.5, "bess2": 0.8}, islanded_by="bess1")
    rig = Rig(pair, load_kw=load, faults=[fault], options=options).run(150.0)
    assert rig.first(55.0, lambda r: True).flows.bess_p_kw["bess2"] > 150.0
    assert rig.held(lambda r: r.held["bess2.p_set_kw"] <= 0.4 * 250.0 + 1e-6, 61.0)
    assert rig.last.flows.bess_p_kw["bess2"] == pytest.approx(100.0, abs=3.0)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert rig.events("feeder.shed") == []


def test_several_batteries_one_that_is_lost_is_replaced_by_the_other(pair: Site):
    fault = Fault(kind="bess_trips", target="bess2", from_s=60.0)
    load: dict[str, Power] = {"critical": 60.0, "essential": 160.0, "deferrable": 60.0}
    options = RigOptions(soc={"bess1": 0.5, "bess2": 0.8}, islanded_by="bess1")
    rig = Rig(pair, load_kw=load, faults=[fault], options=options).run(120.0)
    assert rig.last.flows.bess_p_kw["bess2"] == 0.0
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
