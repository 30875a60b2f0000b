"""One place decides whether a unit may be used; every reason against it is named, and reasons add up."""

from dataclasses import replace
from datetime import timedelta

import pytest

from connectors.json_codec import dumps, loads
from dispatch.layout import layout_of
from dispatch.observing.availability import bess_states, genset_states, pv_states
from dispatch.observing.condition import observe
from dispatch.state import GensetRequest, ObserverMemory
from ems.condition import PlantCondition, Prime, UnitState, usable
from ems.points import BessState, GensetState
from ems.site import Maintenance
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0, site

U = UnitState
HOUR = timedelta(hours=1)
SITE = replace(site(), maintenance=(Maintenance(asset="gen2", start=T0 - HOUR, end=T0 + HOUR),))
LAYOUT = layout_of(SITE)
GOOD = {
    "bess1.soc": 0.5,
    "bess1.p_charge_kw_max": 500.0,
    "bess1.p_discharge_kw_max": 500.0,
    "bess1.p_kw": 10.0,
    "bess1.state": 1.0,
    "gen1.state": 0.0,
    "gen1.p_kw": 0.0,
    "gen2.state": 0.0,
    "pv1.state": 1.0,
    "pv1.p_kw": 10.0,
}


def snapshot(quality: dict[str, Quality] | None = None, **values: float | None) -> Snapshot:
    readings = {}
    for point, value in {**GOOD, **{k.replace("__", "."): v for k, v in values.items()}}.items():
        if value is not None:
            kind = Quality.GOOD if quality is None else quality.get(point, Quality.GOOD)
            readings[point] = Reading(point=point, value=value, quality=kind, source_time=T0, arrived_s=0.0)
    return Snapshot(at=T0, monotonic_s=0.0, readings=readings)


def bess(given: Snapshot, marks=None) -> tuple[UnitState, ...]:
    code = given.value("bess1.state")
    state = None if code is None else list(BessState)[int(code)]
    limits_kw = given.value("bess1.p_charge_kw_max"), given.value("bess1.p_discharge_kw_max")
    return bess_states(LAYOUT, given, "bess1", state, limits_kw, {} if marks is None else marks)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (snapshot(), ()),
        (snapshot(bess1__state=0.0), (U.OFF,)),
        (snapshot(bess1__state=3.0), (U.TRIPPED,)),
        (snapshot(bess1__soc=None), (U.UNREADABLE,)),
        (snapshot(bess1__state=None), (U.UNREADABLE,)),
        (snapshot(bess1__p_discharge_kw_max=200.0), (U.DERATED,)),
        (snapshot(bess1__p_discharge_kw_max=480.0), ()),
        (snapshot(bess1__soc=0.11, bess1__p_discharge_kw_max=0.0), ()),  # at the end of its window
        (snapshot(bess1__state=3.0, bess1__p_charge_kw_max=0.0), (U.TRIPPED, U.DERATED)),
        (snapshot({"bess1.soc": Quality.FROZEN}), (U.UNREADABLE, U.FROZEN)),
        (Snapshot(at=T0, monotonic_s=0.0, readings={}), (U.OFFLINE, U.UNREADABLE)),
    ],
)
def test_bess_states_table(given, expected):
    assert bess(given) == expected


def test_bess_states_marks_of_other_parts_add_up():
    marks = {"bess1": (U.NOT_EFFECTIVE, U.SUSPECT)}
    assert bess(snapshot(bess1__state=3.0), marks) == (U.TRIPPED, U.SUSPECT, U.NOT_EFFECTIVE)


def test_usable_derated_and_suspect_units_are_still_used():
    assert usable((U.DERATED, U.SUSPECT))
    assert all(not usable((s,)) for s in UnitState if s not in (U.DERATED, U.SUSPECT))


@pytest.mark.parametrize(
    ("genset", "state", "late", "expected"),
    [
        ("gen1", GensetState.STOPPED, False, ()),
        ("gen1", GensetState.LOCKED_OUT, True, (U.LOCKED_OUT, U.START_FAILED)),
        ("gen1", None, False, (U.UNREADABLE,)),
        ("gen2", GensetState.STOPPED, False, (U.MAINTENANCE,)),
    ],
)
def test_genset_states_table(genset, state, late, expected):
    request = GensetRequest(run=False, since_s=0.0, late=late)
    assert genset_states(LAYOUT, snapshot(), genset, state, request) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [(snapshot(), ()), (snapshot(pv1__state=0.0), (U.OFF,)), (snapshot(pv1__state=None), (U.UNREADABLE,))],
)
def test_pv_states_table(given, expected):
    assert pv_states(LAYOUT, given, "pv1") == expected


def test_condition_unit_with_a_blocking_mark_is_not_available_and_survives_the_record():
    marks = {"bess1": (U.NOT_EFFECTIVE,), "gen1": (U.SUSPECT,)}
    _, observed = observe(LAYOUT, ObserverMemory(), snapshot(), {}, 1.0, marks)
    c = observed.condition
    assert not c.bess["bess1"].available
    assert c.bess["bess1"].p_discharge_kw_max == 0.0
    assert c.gensets["gen1"].available
    assert not c.gensets["gen2"].available
    assert c.gensets["gen2"].states == (U.MAINTENANCE,)
    assert loads(PlantCondition, dumps(c)) == c


@pytest.mark.parametrize(
    ("values", "prime", "following"),
    [
        ({"grid1__breaker_closed": 1.0, "grid1__v_pu": 1.0, "bus__alive": 1.0}, Prime.GRID, ("bess1", "pv1")),
        ({"grid1__breaker_closed": 0.0, "grid1__v_pu": 0.0, "bus__alive": 1.0, "bess1__state": 2.0},
         Prime.BATTERY, ("pv1",)),
        ({"grid1__breaker_closed": 0.0, "grid1__v_pu": 0.0, "bus__alive": 1.0, "gen1__state": 4.0},
         Prime.GENSET, ("bess1", "pv1")),
        ({"grid1__breaker_closed": 0.0, "grid1__v_pu": 0.0, "bus__alive": 0.0}, Prime.NONE, ()),
    ],
)  # fmt: skip
def test_condition_prime_is_who_forms_and_the_others_follow(values, prime, following):
    _, observed = observe(LAYOUT, ObserverMemory(), snapshot(**values), {}, 1.0)
    assert (observed.condition.prime, observed.condition.following) == (prime, following)
