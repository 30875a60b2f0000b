"""When the breaker of a PV plant is asked to open, of which, and who closes it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.authority.state import Lease
from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import Observed, observe
from dispatch.observing.pv_lost import opened
from dispatch.protections.bus import Bus
from dispatch.protections.pv_trip import (
    CONFIRM_S,
    RELEASE_S,
    RELEASE_S_MAX,
    Tripping,
    found_open,
    trip_stage,
    withdrawn,
)
from dispatch.protections.reverse_power import margin_kw
from dispatch.state import ObserverMemory, ProtectionMemory, PvTrip, Written
from ems.assets import ReversePower
from ems.commands import Cause
from ems.frozen import replace
from ems.site import GridMode
from tests import builders
from tests.scenarios.plants import tripping, two_pv
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_emergency import bus_of

NOW_S, LONG_S = 1000.0, 900.0
PV = ("pv1", "pv2")
MARGIN_KW = 8.0  # 2 % of gen1


def laid_out(*breakers: str, delay_s: float = 5.0) -> Layout:
    site = tripping(two_pv(builders.site()), *breakers)
    relay = ReversePower(p_kw=40.0, delay_s=delay_s)
    return layout_of(replace(site, gensets=tuple(replace(g, reverse_power=relay) for g in site.gensets)))


LAYOUT = laid_out(*PV)
_, PLAIN = observe(LAYOUT, ObserverMemory(mode=GridMode.ISLANDED), snapshot(builders.T0, 0.0), {}, 1.0)


def seen(
    lost: dict[str, float],
    pv_kw: dict[str, float],
    sets_kw: dict[str, float],
    mode: GridMode = GridMode.ISLANDED,
) -> Observed:
    c = PLAIN.condition
    gensets = {g: replace(x, p_kw=sets_kw.get(g, 0.0), on_load=g in sets_kw) for g, x in c.gensets.items()}
    c = replace(c, grid_mode=mode, pv_kw={p: pv_kw.get(p, 0.0) for p in PV}, gensets=gensets)
    return replace(PLAIN, condition=c, pv_uncapped_kw=lost)


def bus(observed: Observed, load_kw: float, room_kw: float, **changes: Any) -> Bus:
    c = observed.condition
    known: dict[str, Any] = {
        "mode": c.grid_mode,
        "forming_bess": (),
        "following_bess": ("bess1",),
        "running": tuple(g for g, x in c.gensets.items() if x.on_load),
        "load_kw": load_kw,
        "follow_down_kw": room_kw,
        "lost_pv_kw": {p: c.pv_kw[p] for p in observed.pv_uncapped_kw},
    }
    return bus_of(**(known | changes))


def stage(
    observed: Observed,
    of: Bus,
    memory: ProtectionMemory | None = None,
    written: dict[str, Written] | None = None,
    *,
    layout: Layout = LAYOUT,
    now_s: float = NOW_S,
) -> Tripping:
    before = ProtectionMemory(pv_heeded_s=dict.fromkeys(PV, now_s - LONG_S)) if memory is None else memory
    return trip_stage(layout, before, written or {}, observed, of, {}, now_s, 1.0)


def asked(out: Tripping) -> set[str]:
    return {p for p, t in out.targets.items() if t.value == 1.0}


def told(out: Tripping) -> set[tuple[str, str]]:
    return {(a.code, a.asset or "") for a in out.alarms}


KW = st.floats(0.0, 400.0)


@given(load_kw=KW, room_kw=KW, most=st.tuples(KW, KW), now=st.tuples(KW, KW), down_kw=KW)
def test_breakers_ahead_are_asked_only_where_nothing_milder_is_enough_and_no_more_than_needed(
    load_kw: float, room_kw: float, most: tuple[float, float], now: tuple[float, float], down_kw: float
):
    lost, pv_kw = dict(zip(PV, most, strict=True)), dict(zip(PV, now, strict=True))
    observed = seen(lost, pv_kw, {"gen1": 100.0})
    of = bus(observed, load_kw, room_kw, down_kw=down_kw)
    worst = {p: max(lost[p], pv_kw[p]) for p in PV}
    out = asked(stage(observed, of))
    over_kw = sum(worst.values()) - load_kw - room_kw - down_kw - margin_kw(LAYOUT.gensets["gen1"])
    if over_kw <= 0.0:
        assert out == set()
        return
    assert sum(worst[p] for p in out) >= over_kw or out == {p for p in PV if worst[p] > 0.0}
    assert all(sum(worst[p] for p in out - {one}) < over_kw for one in out)


@given(driven_kw=st.floats(MARGIN_KW + 0.1, 300.0), others_kw=KW, room_kw=KW, charging_kw=KW, set_kw=KW)
def test_breakers_now_are_asked_only_where_nothing_milder_is_enough(
    driven_kw: float, others_kw: float, room_kw: float, charging_kw: float, set_kw: float
):
    observed = seen({"pv1": 200.0}, {"pv1": 200.0, "pv2": others_kw}, {"gen1": -driven_kw, "gen2": set_kw})
    bess = replace(observed.condition.bess["bess1"], p_kw=-charging_kw)
    observed = replace(observed, condition=replace(observed.condition, bess={"bess1": bess}))
    of = bus(observed, 1000.0, room_kw)
    helps_kw = others_kw + max(0.0, room_kw - charging_kw) + max(0.0, set_kw - 60.0)
    out = stage(observed, of, ProtectionMemory(reverse_since_s=NOW_S - 1.0, pv_heeded_s={"pv1": NOW_S}))
    assert asked(out) == ({"pv1"} if driven_kw > helps_kw else set())


@pytest.mark.parametrize(
    ("delay_s", "for_s", "opens"),
    [(5.0, 2.0, False), (5.0, 3.0, True), (2.0, 1.0, False), (2.0, 2.0, True)],
)
def test_milder_means_have_two_cycles_and_half_of_the_relays_time(delay_s: float, for_s: float, opens: bool):
    """pv1 is heard and its limit is not known to be lost: it was told nothing, and goes on giving."""
    layout = laid_out(*PV, delay_s=delay_s)
    observed = seen({}, {"pv1": 200.0, "pv2": 3.0}, {"gen1": -30.0})
    memory = ProtectionMemory(reverse_since_s=NOW_S - for_s)
    out = stage(observed, bus(observed, 170.0, 0.0), memory, layout=layout)
    assert asked(out) == ({"pv1"} if opens else set()), "pv2 gives no more than noise"


@pytest.mark.parametrize(("heeded_s", "opens"), [(12.9, False), (13.0, True)])
def test_its_device_keeps_the_limit_for_as_long_as_the_site_file_says(heeded_s: float, opens: bool):
    observed = seen({"pv1": 300.0}, {"pv1": 40.0}, {"gen1": 100.0})
    memory = ProtectionMemory(pv_heeded_s={"pv1": NOW_S - heeded_s})
    out = stage(observed, bus(observed, 170.0, 0.0), memory)
    assert asked(out) == ({"pv1"} if opens else set())


@pytest.mark.parametrize("mode", [GridMode.GRID_TIED, GridMode.UNKNOWN, GridMode.BLACK])
def test_breakers_are_asked_in_islands_alone(mode: GridMode):
    observed = seen({"pv1": 300.0}, {"pv1": 300.0}, {"gen1": -100.0}, mode)
    assert asked(stage(observed, bus(observed, 0.0, 0.0))) == set()


def test_a_battery_that_forms_alone_has_no_set_to_be_driven():
    observed = seen({"pv1": 300.0}, {"pv1": 300.0}, {})
    assert asked(stage(observed, bus(observed, 0.0, 0.0))) == set()


def test_plant_without_a_breaker_to_ask_is_told_where_the_others_are_not_enough():
    observed = seen(dict.fromkeys(PV, 300.0), {}, {"gen1": 100.0})
    out = stage(observed, bus(observed, 100.0, 0.0), layout=laid_out("pv2"))
    assert asked(out) == {"pv2"}
    assert told(out) == {("pv.trip.missing", "pv1"), ("pv.tripped", "pv2")}
    enough = stage(observed, bus(observed, 310.0, 0.0), layout=laid_out("pv2"))
    assert (asked(enough), told(enough)) == ({"pv2"}, {("pv.tripped", "pv2")})


TRIP = PvTrip(since_s=NOW_S, why="it had to be")
OPENED = Written(value=1.0, at_s=NOW_S, known=True)


def later(s: float, lost: bool, *, mode: GridMode = GridMode.ISLANDED, **trip: Any) -> Tripping:
    observed = seen({"pv1": 0.0} if lost else {}, {}, {"gen1": 100.0}, mode)
    memory = ProtectionMemory(pv_trips={"pv1": replace(TRIP, **trip)})
    return stage(observed, bus(observed, 100.0, 0.0), memory, {"pv1.trip_request": OPENED}, now_s=NOW_S + s)


def test_request_stands_while_its_plant_is_lost_and_is_withdrawn_by_rules():
    assert later(1e6, lost=True).targets["pv1"].cause is Cause.PROTECTION
    well = later(RELEASE_S - 1.0, lost=False, well_since_s=NOW_S)
    assert well.targets["pv1"].value == 1.0
    over = later(RELEASE_S, lost=False, well_since_s=NOW_S)
    assert (over.targets["pv1"].value, over.targets["pv1"].cause) == (0.0, Cause.RULES)
    lost_again = later(RELEASE_S, lost=True, well_since_s=NOW_S, letting_in=True)
    assert (lost_again.targets["pv1"].value, lost_again.trips["pv1"].well_since_s) == (1.0, None)


@pytest.mark.parametrize(("times", "wait_s"), [(1, 300.0), (2, 600.0), (5, 3600.0), (90, 3600.0)])
def test_request_stands_longer_each_time(times: int, wait_s: float):
    assert later(wait_s - 1.0, lost=False, well_since_s=NOW_S, times=times).targets["pv1"].value == 1.0
    assert later(wait_s, lost=False, well_since_s=NOW_S, times=times).targets["pv1"].value == 0.0


@pytest.mark.parametrize("mode", [GridMode.UNKNOWN, GridMode.BLACK])
def test_request_stands_on_a_bus_that_is_dead_or_not_known(mode: GridMode):
    out = later(1e6, lost=False, mode=mode, well_since_s=NOW_S, letting_in=True)
    assert (out.targets["pv1"].value, out.trips["pv1"].well_since_s) == (1.0, None)


def withdrawing(*, known: bool) -> Tripping:
    """The withdrawal was written."""
    observed = seen({}, {}, {"gen1": 100.0})
    memory = ProtectionMemory(pv_trips={"pv1": replace(TRIP, well_since_s=NOW_S, letting_in=True)})
    written = {"pv1.trip_request": Written(value=0.0, at_s=NOW_S, known=known)}
    return stage(observed, bus(observed, 100.0, 0.0), memory, written, now_s=NOW_S + RELEASE_S)


def test_request_is_over_when_its_withdrawal_was_confirmed_and_counts_for_an_hour():
    waits, over = withdrawing(known=False), withdrawing(known=True)
    assert (waits.targets["pv1"].value, waits.events) == (0.0, ())
    assert (over.targets, [e.kind for e in over.events]) == ({}, ["pv.trip.withdrawn"])
    lost = seen({"pv1": 300.0}, {}, {"gen1": 100.0})
    for s, times in ((RELEASE_S_MAX - 1.0, 2), (RELEASE_S_MAX, 1)):
        memory = ProtectionMemory(pv_trips=over.trips, pv_heeded_s={"pv1": 0.0})
        again = stage(lost, bus(lost, 100.0, 0.0), memory, now_s=NOW_S + RELEASE_S + s)
        assert again.trips["pv1"].times == times


def test_opening_that_nobody_confirms_is_told_and_the_next_plant_is_asked():
    observed = seen({"pv1": 300.0, "pv2": 200.0}, {"pv1": 300.0, "pv2": 40.0}, {"gen1": 100.0})
    of = bus(observed, 60.0, 0.0)
    memory = ProtectionMemory(pv_trips={"pv1": TRIP}, pv_heeded_s=dict.fromkeys(PV, NOW_S - LONG_S))
    unknown = {"pv1.trip_request": replace(OPENED, known=False)}
    at_once = stage(observed, of, memory, unknown, now_s=NOW_S + 1.0)
    assert told(at_once) == {("pv.tripped", "pv1"), ("pv.tripped", "pv2")}, "pv2 alone is too much for 60 kW"
    roomy = bus(observed, 200.0, 0.0)
    assert asked(stage(observed, roomy, memory, unknown, now_s=NOW_S + CONFIRM_S)) == {"pv1"}
    late = stage(observed, roomy, memory, unknown, now_s=NOW_S + CONFIRM_S + 0.1)
    assert asked(late) == {"pv1", "pv2"}
    assert told(late) == {("pv.trip.missing", "pv1"), ("pv.tripped", "pv2")}


def test_plant_counts_as_off_when_its_breaker_said_so_and_it_gives_nothing():
    told_so = {"pv1.trip_request": OPENED}
    assert opened(LAYOUT, "pv1", told_so, 5.9)
    assert not opened(LAYOUT, "pv1", told_so, 6.1), "its breaker is stuck"
    assert not opened(LAYOUT, "pv1", {"pv1.trip_request": replace(OPENED, known=False)}, 0.0)
    assert not opened(LAYOUT, "pv1", {"pv1.trip_request": replace(OPENED, value=0.0)}, 0.0)
    assert not opened(LAYOUT, "pv1", {}, 0.0)


def lease(value: float) -> Lease:
    point = "pv1.trip_request"
    return Lease(
        point=point, owner="ann", value=value, since_s=0.0, until_s=1e9, request_id="r", reason="a test"
    )


@pytest.mark.parametrize(
    ("operated", "value", "over"),
    [({"pv1.trip_request"}, 0.0, True), ({"pv1.trip_request"}, 1.0, False), (set(), 0.0, False)],
)
def test_a_person_ends_it_by_operating_it(operated: set[str], value: float, over: bool):
    memory = ProtectionMemory(pv_trips={"pv1": TRIP, "pv2": TRIP})
    after = withdrawn(LAYOUT, memory, operated, {"pv1.trip_request": lease(value)}, NOW_S)
    assert (after.pv_trips["pv1"].stands, after.pv_trips["pv2"].stands) == (not over, True)
    assert withdrawn(LAYOUT, memory, {"pv1.trip_request"}, {}, NOW_S) is memory
    done = withdrawn(LAYOUT, after, operated, {"pv1.trip_request": lease(value)}, NOW_S + 9.0)
    assert done.pv_trips["pv1"].ended_s == (NOW_S if over else None)


@pytest.mark.parametrize(
    ("told", "own", "named"),
    [(1.0, None, True), (0.0, None, False), (None, None, False), (1.0, TRIP, False),
     (1.0, replace(TRIP, ended_s=NOW_S), True)],
)  # fmt: skip
def test_request_found_standing_that_is_not_ours_is_told(told: float | None, own: PvTrip | None, named: bool):
    memory = ProtectionMemory(pv_trips={} if own is None else {"pv1": own})
    alarms = found_open(LAYOUT, memory, snapshot(builders.T0, 0.0, pv1__trip_request=told))
    assert [(a.code, a.asset) for a in alarms] == ([("pv.tripped", "pv1")] if named else [])
    assert found_open(laid_out(), memory, snapshot(builders.T0, 0.0, pv1__trip_request=told)) == ()
