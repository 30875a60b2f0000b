"""Following a setpoint at its edges: where a band ends, what a unit is judged by, when nothing is counted."""

import math
from dataclasses import replace
from typing import Any

import pytest

from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import Observed, observe
from dispatch.state import ObserverMemory, Written
from dispatch.writing.effect import _droop_kw, _genset, _judged, _off_kw, _shares, _Unit, _unit
from dispatch.writing.effect_memory import Following
from ems.points import BessState, GensetState
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0, site
from tests.unit.dispatch.test_condition import snapshot

LAYOUT = layout_of(site())
LIMITED = _Unit(p_kw=0.0, low_kw=0.0, high_kw=100.0, rated_kw=100.0, is_limit=True, settle_s=3.0)
TIED = _Unit(p_kw=0.0, low_kw=-100.0, high_kw=100.0, rated_kw=100.0, is_limit=False, settle_s=3.0)
ZERO = Written(value=0.0, at_s=0.0, known=True)
OFF = Following(held=((0.0, 0.0),), off_since_s=98.0, off_kw=50.0)


def unit_of(asset: str, layout: Layout = LAYOUT, **changes: Any) -> _Unit | None:
    shot = snapshot(T0, 100.0, **changes)
    _, observed = observe(layout, ObserverMemory(), shot, {}, 1.0, {})
    return _unit(layout, shot, observed, asset)


def test_unit_of_pv_may_give_from_nothing_to_its_rating():
    assert unit_of("pv1", pv1__p_kw=70.0) == _Unit(
        p_kw=70.0, low_kw=0.0, high_kw=600.0, rated_kw=600.0, is_limit=True, settle_s=3.0
    )


@pytest.mark.parametrize(
    ("charge", "discharge", "low_kw", "high_kw"),
    [(300.0, 250.0, -300.0, 250.0), (0.0, 0.0, 0.0, 0.0), (-20.0, -5.0, 0.0, 0.0), (0.5, 0.25, -0.5, 0.25)],
)
def test_unit_of_a_battery_is_asked_for_no_more_than_its_live_limits(
    charge: float, discharge: float, low_kw: float, high_kw: float
):
    limits: dict[str, Any] = {"bess1__p_charge_kw_max": charge, "bess1__p_discharge_kw_max": discharge}
    assert unit_of("bess1", bess1__p_kw=-7.0, **limits) == _Unit(
        p_kw=-7.0, low_kw=low_kw, high_kw=high_kw, rated_kw=500.0, is_limit=False, settle_s=3.0
    )


@pytest.mark.parametrize("asset", ["pv1", "bess1"])
def test_unit_that_is_polled_seldom_settles_later(asset: str):
    slow = unit_of(asset, replace(LAYOUT, poll_s={asset: 20.0}))
    assert slow is not None
    assert slow.settle_s == 23.0


@pytest.mark.parametrize(("p_kw", "well"), [(5.0, True), (5.001, False)])
def test_judged_five_percent_off_is_well_and_no_more(p_kw: float, well: bool):
    after = _judged(Following(held=((0.0, 0.0),)), replace(LIMITED, p_kw=p_kw), ZERO, 100.0)
    assert (after.off_since_s, after.well_since_s) == ((None, 100.0) if well else (100.0, None))


@pytest.mark.parametrize(("p_kw", "since_s", "least_kw"), [(48.0, 100.0, 48.0), (49.0, 98.0, 50.0)])
def test_judged_nearer_by_two_percent_is_on_its_way(p_kw: float, since_s: float, least_kw: float):
    after = _judged(OFF, replace(LIMITED, p_kw=p_kw), ZERO, 100.0)
    assert (after.off_since_s, after.off_kw) == (since_s, least_kw)


def test_judged_first_setpoint_is_given_time_before_anything_is_off():
    after = _judged(Following(), replace(LIMITED, p_kw=50.0), ZERO, 100.0)
    assert after == Following(held=((100.0, 0.0),), well_since_s=100.0)


def test_judged_new_setpoint_does_not_excuse_who_was_off_before():
    before = replace(OFF, held=((99.0, 0.0),))
    after = _judged(before, replace(LIMITED, p_kw=50.0), ZERO, 100.0)
    assert (after.off_since_s, after.off_kw) == (98.0, 50.0)


@pytest.mark.parametrize(
    ("since_s", "retried_s", "retries", "after"),
    [
        (95.1, 0.0, 0, (0, False)),  # not long enough off
        (95.0, 0.0, 0, (1, False)),
        (90.0, 97.1, 1, (1, False)),  # written again a moment ago
        (90.0, 97.0, 1, (2, False)),
        (90.0, 97.0, 2, (3, False)),
        (90.0, 97.1, 3, (3, False)),
        (90.0, 97.0, 3, (3, True)),
    ],
)
def test_judged_off_for_five_seconds_is_written_each_three(
    since_s: float, retried_s: float, retries: int, after: tuple[int, bool]
):
    before = replace(OFF, off_since_s=since_s, retried_s=retried_s, retries=retries, times=4)
    got = _judged(before, replace(LIMITED, p_kw=50.0), ZERO, 100.0)
    assert (got.retries, got.marked) == after
    assert got.times == 4 + after[1]
    assert got.retried_s == (100.0 if got.retries > retries else retried_s)


def test_judged_marked_unit_is_not_written_again_and_not_marked_twice():
    marked = replace(OFF, off_since_s=0.0, marked=True, retries=3, times=2)
    assert _judged(marked, replace(LIMITED, p_kw=50.0), ZERO, 100.0) == marked


def test_judged_setpoints_of_the_last_seconds_are_kept_and_the_one_before_them():
    before = Following(held=((0.0, 10.0), (50.0, 20.0), (98.0, 30.0)))
    held = _judged(before, LIMITED, Written(value=40.0, at_s=99.0, known=True), 100.0).held
    assert held == ((50.0, 20.0), (98.0, 30.0), (100.0, 40.0))
    same = _judged(before, LIMITED, Written(value=30.0, at_s=98.0, known=True), 101.0).held
    assert same == ((98.0, 30.0),)  # settled: 3 s old, and the one before it is over


@pytest.mark.parametrize(
    ("p_kw", "off_kw"), [(-30.0, 0.0), (60.0, 0.0), (-31.0, 1.0), (61.5, 1.5), (0.0, 0.0)]
)
def test_off_is_counted_from_the_span_of_what_was_asked(p_kw: float, off_kw: float):
    held = ((0.0, 60.0), (99.0, -30.0))
    assert _off_kw(replace(TIED, p_kw=p_kw), held) == pytest.approx(off_kw)


def test_off_of_a_battery_that_is_asked_for_more_than_it_may_is_counted_from_its_limits():
    unit = replace(TIED, low_kw=-20.0, high_kw=25.0)
    assert _off_kw(replace(unit, p_kw=25.0), ((0.0, 90.0),)) == 0.0
    assert _off_kw(replace(unit, p_kw=30.0), ((0.0, 90.0),)) == 5.0
    assert _off_kw(replace(unit, p_kw=-24.0), ((0.0, -90.0),)) == 4.0


@pytest.mark.parametrize("f_hz", [math.nan, math.inf])
def test_droop_at_no_frequency_at_all_excuses_nobody(f_hz: float):
    reading = Reading(point="bus.f_hz", value=f_hz, quality=Quality.GOOD, source_time=T0, arrived_s=0.0)
    shot = Snapshot(at=T0, monotonic_s=0.0, readings={"bus.f_hz": reading})
    assert _droop_kw(LAYOUT, shot, "bess1", 100.0) == 0.0


@pytest.mark.parametrize("f_hz", [47.0, 53.0])
def test_droop_six_percent_off_is_a_frequency_still(f_hz: float):
    reading = Reading(point="bus.f_hz", value=f_hz, quality=Quality.GOOD, source_time=T0, arrived_s=0.0)
    shot = Snapshot(at=T0, monotonic_s=0.0, readings={"bus.f_hz": reading})
    assert abs(_droop_kw(LAYOUT, shot, "bess1", 100.0)) == 100.0


RUNNING: dict[str, Any] = {"gen1__state": float(GensetState.RUNNING.code), "gen1__p_kw": 150.0}
ISLAND: dict[str, Any] = {"grid1__breaker_closed": 0.0, "grid1__v_pu": 0.0}


def set_of(
    age_s: float = 30.0, run: float = 1.0, layout: Layout = LAYOUT, **changes: Any
) -> tuple[_Unit | None, Observed]:
    """The first set, on load for so long, as it would be judged."""
    shot = snapshot(T0, 100.0, **(RUNNING | changes))
    _, observed = observe(layout, ObserverMemory(), shot, {}, 1.0, {})
    aged = replace(observed.condition.gensets["gen1"], age_s=age_s)
    condition = replace(observed.condition, gensets={**observed.condition.gensets, "gen1": aged})
    observed = replace(observed, condition=condition)
    written = {"gen1.run_request": Written(value=run, at_s=0.0, known=True)}
    return _genset(layout, written, shot, observed, "gen1"), observed


def test_set_may_give_from_nothing_to_its_rating_after_the_slower_of_its_ramps():
    """400 kW at 20 kW/s, 10 kW/s downwards: 40 s, and the 3 s of every unit."""
    unit, _ = set_of()
    assert unit is not None
    assert (unit.low_kw, unit.high_kw, unit.settle_s) == (0.0, 400.0, 23.0)
    gens = LAYOUT.site.gensets
    site_ = replace(LAYOUT.site, gensets=(replace(gens[0], ramp_down_kw_s=10.0), *gens[1:]))
    unit, _ = set_of(age_s=60.0, layout=layout_of(site_))
    assert unit is not None
    assert unit.settle_s == 43.0
    unit, _ = set_of(age_s=60.0, layout=replace(LAYOUT, poll_s={"gen1": 5.0}))
    assert unit is not None
    assert unit.settle_s == 28.0


@pytest.mark.parametrize(
    ("age_s", "run", "judged"),
    [(23.0, 1.0, True), (22.9, 1.0, False), (30.0, 0.5, True), (30.0, 0.49, False)],
)
def test_set_is_judged_once_it_has_had_its_time_and_while_it_is_asked_to_run(
    age_s: float, run: float, judged: bool
):
    assert (set_of(age_s, run)[0] is not None) is judged


@pytest.mark.parametrize(("p_kw", "judged"), [(375.0, False), (374.9, True), (-375.0, False), (-374.9, True)])
def test_set_beside_a_battery_at_the_edge_of_its_limits_is_not_judged(p_kw: float, judged: bool):
    """5 % of 500 kW before 400 kW either way."""
    limits = {"bess1__p_charge_kw_max": 400.0, "bess1__p_discharge_kw_max": 400.0}
    forming = {"bess1__state": float(BessState.FORMING.code), "bess1__p_kw": p_kw}
    assert (set_of(**(ISLAND | limits | forming))[0] is not None) is judged


def test_sets_that_form_share_and_one_that_stands_still_does_not():
    following = {"bess1__state": float(BessState.FOLLOWING.code)}
    _, observed = set_of(**(ISLAND | following))
    assert observed.condition.forming == "gen1"
    assert _shares(observed, "gen1")
    assert not _shares(observed, "gen2")
    assert not _shares(observed, "bess1")
