"""A genset that is not heard: it may run, and nothing relies on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import Observed, observe
from dispatch.protections.bus import Bus, look_at
from dispatch.protections.emergency import _still_needed, _surplus_set
from dispatch.protections.reserve import reserve_now
from dispatch.protections.reverse_power import driven_backwards
from dispatch.protections.silent_sets import silent_span_kw
from dispatch.state import ObserverMemory
from dispatch.vocabulary import Target
from ems.assets import DeviceBehaviour, OnSilence
from ems.commands import Cause
from ems.frozen import replace
from ems.points import BessState, GensetState
from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests import builders
from tests.unit.dispatch.test_condition import snapshot

SITE = builders.site()
LAYOUT = layout_of(SITE)
ISLAND: Mapping[str, float] = {"grid1.breaker_closed": 0.0, "grid1.v_pu": 0.0, "bus.alive": 1.0}
FORMING = float(list(BessState).index(BessState.FORMING))
FOLLOWING = float(list(BessState).index(BessState.FOLLOWING))
RUNNING = float(list(GensetState).index(GensetState.RUNNING))
STOPPED = float(list(GensetState).index(GensetState.STOPPED))
SILENT: Mapping[str, None] = {"gen1.state": None, "gen1.p_kw": None}
DEAD = {"bus.alive": 0.0, "bess1.state": float(list(BessState).index(BessState.OFF))}


def seen(
    *steps: Mapping[str, float | None], layout: Layout = LAYOUT, gen1_kw: float = 200.0
) -> list[Observed]:
    """Readings of one second after the other, each on top of gen1 on load in an island of 202 kW."""
    base = {**ISLAND, "gen1.state": RUNNING, "gen1.p_kw": gen1_kw, "bess1.state": FORMING, "pv1.p_kw": 0.0}
    base |= {"bess1.p_kw": 202.0 - gen1_kw, "grid1.p_kw": 0.0}
    memory, out = ObserverMemory(mode=GridMode.ISLANDED), []
    for k, step in enumerate(steps):
        shot = snapshot(builders.T0, float(k), **{**base, **step})
        memory, observed = observe(layout, memory, shot, {}, 1.0)
        out.append(observed)
    return out


def described(site: Site, point: str, on_silence: OnSilence, value: float | None = None) -> Site:
    setpoint = site.authority.setpoints[point]
    behaviour = DeviceBehaviour(timeout_s=15.0, on_silence=on_silence, value=value)
    setpoint = replace(setpoint, safety=replace(setpoint.safety, behaviour=behaviour))
    points = {**site.authority.setpoints, point: setpoint}
    return replace(site, authority=replace(site.authority, setpoints=points))


# --- what is known of it ----------------------------------------------------------------------------------


def test_set_that_is_not_heard_may_run_and_carries_nothing():
    c = seen({}, SILENT)[-1].condition
    assert (c.gensets["gen1"].on_load, c.gensets["gen1"].heard, c.gensets["gen1"].carries) == (
        True, False, False,
    )  # fmt: skip
    assert c.gensets["gen1"].p_kw == pytest.approx(200.0)


def test_bus_that_died_while_it_was_silent_says_that_it_is_off():
    walk = seen({}, SILENT, {**SILENT, **DEAD}, {**SILENT, "bess1.p_kw": 202.0})
    assert [o.condition.grid_mode for o in walk[2:]] == [GridMode.BLACK, GridMode.ISLANDED]
    for o in walk[2:]:
        assert not o.condition.gensets["gen1"].on_load
        assert (o.condition.gensets["gen1"].p_kw, o.power.genset_kw) == (0.0, 0.0)
    back = seen({}, SILENT, {**SILENT, **DEAD}, {})[-1].condition.gensets["gen1"]
    assert back.carries  # what it says itself comes first


def test_island_that_nobody_is_heard_to_carry_is_carried_by_the_silent_set():
    nobody = {**SILENT, "bess1.state": FOLLOWING}
    c = seen({}, SILENT, {**SILENT, **DEAD}, nobody)[-1].condition
    assert c.forming == "gen1"
    assert c.gensets["gen1"].on_load


def test_who_is_heard_forms_before_who_is_not():
    heard = {**SILENT, "bess1.state": FOLLOWING, "gen2.state": RUNNING, "gen2.p_kw": 100.0}
    assert seen({}, heard)[-1].condition.forming == "gen2"


# --- what is decided --------------------------------------------------------------------------------------


def test_silent_set_holds_no_reserve_and_is_a_source_that_may_go():
    whole, silent = (reserve_now(LAYOUT, o) for o in seen({}, SILENT))
    assert whole.held_kw - silent.held_kw == pytest.approx(200.0, abs=0.5)
    by_name = {x.name: x for x in silent.contingencies}
    assert by_name["gen1"].lost_kw == pytest.approx(200.0, abs=0.5)
    assert by_name["bess1"].by == ()


@pytest.mark.parametrize(
    ("point", "on_silence", "value", "away_kw"),
    [
        ("gen1.run_request", OnSilence.HOLD, None, 0.0),
        ("gen1.run_request", OnSilence.VALUE, 1.0, 0.0),
        ("gen1.run_request", OnSilence.STOP, None, 200.0),
        ("gen1.run_request", OnSilence.VALUE, 0.0, 200.0),
        ("gen1.p_set_kw", OnSilence.VALUE, 80.0, 120.0),
        ("gen1.p_set_kw", OnSilence.VALUE, 300.0, 0.0),
    ],
)
def test_what_a_silent_set_gives_away_by_itself_must_be_covered(
    point: str, on_silence: OnSilence, value: float | None, away_kw: float
):
    layout = layout_of(described(SITE, point, on_silence, value))
    whole, silent = (reserve_now(layout, o).contingencies for o in seen({}, SILENT, layout=layout))
    assert not [x for x in whole if x.kind == "silence"]
    told = [x for x in silent if x.kind == "silence"]
    assert [x.lost_kw for x in told] == ([pytest.approx(away_kw, abs=0.5)] if away_kw else [])
    assert all(x.required for x in told)


@pytest.mark.parametrize(
    ("on_silence", "value", "span_kw"),
    [
        (OnSilence.HOLD, None, (200.0, 200.0)),
        (OnSilence.VALUE, 80.0, (80.0, 200.0)),
        (OnSilence.VALUE, 300.0, (200.0, 300.0)),
        (OnSilence.FULL, None, (200.0, 400.0)),
        (OnSilence.STOP, None, (0.0, 200.0)),
    ],
)
def test_where_a_silent_set_goes_with_its_load(
    on_silence: OnSilence, value: float | None, span_kw: tuple[float, float]
):
    layout = layout_of(described(SITE, "gen1.p_set_kw", on_silence, value))
    assert silent_span_kw(layout, "gen1", 200.0) == span_kw


def test_silent_set_nothing_is_said_of_may_do_anything():
    points = {p: x for p, x in SITE.authority.setpoints.items() if p != "gen1.run_request"}
    layout = layout_of(replace(SITE, authority=replace(SITE.authority, setpoints=points)))
    assert silent_span_kw(layout, "gen1", 200.0) == (0.0, 400.0)


def bus_of(*steps: Mapping[str, float | None], gen1_kw: float = 200.0) -> tuple[Observed, Bus]:
    observed = seen(*steps, gen1_kw=gen1_kw)[-1]
    return observed, look_at(LAYOUT, observed, {}, 1.0)


def stops(*gensets: str) -> dict[str, Target]:
    return {g: Target(value=0.0, cause=Cause.RULES, reason="a test") for g in gensets}


def test_heard_set_stays_where_only_a_silent_one_would_be_left():
    """202 kW of load, of which the silent set gave 100: without gen2 the battery alone is too small."""
    both = {**SILENT, "gen2.state": RUNNING, "gen2.p_kw": 100.0, "bess1.p_discharge_kw_max": 50.0}
    observed, bus = bus_of({}, both, gen1_kw=100.0)
    assert (bus.running, bus.unheard) == (("gen2",), ("gen1",))
    assert [bus.genset_rated_kw, bus.genset_kw] == pytest.approx([200.0, 100.0])
    assert _still_needed(LAYOUT, observed, bus, stops("gen1", "gen2"), ()) == ("gen2",)


def test_no_heard_set_goes_as_surplus_beside_a_silent_one():
    full = {"bess1.state": FOLLOWING, "bess1.p_charge_kw_max": 0.0, "bess1.p_kw": 0.0}
    both = {**full, "gen2.state": RUNNING, "gen2.p_kw": 60.0, "critical.p_kw": 40.0}
    quiet = {f"{f}.p_kw": 0.0 for f in ("essential", "deferrable")}
    _, bus = bus_of({}, {**both, **quiet, "gen1.p_kw": 42.0})
    assert _surplus_set(LAYOUT, bus, ()) == "gen2"  # both are heard: their minimum is 180 kW
    _, bus = bus_of({}, {**SILENT, **both, **quiet})
    assert _surplus_set(LAYOUT, bus, ()) is None
    _, bus = bus_of({}, {**SILENT, **full})  # and the only source is left alone
    assert not bus.told
    assert _surplus_set(LAYOUT, bus, ()) is None


def test_silent_set_that_was_driven_backwards_is_still_relieved():
    """With a meter missing as well, nothing tells what it gives now."""
    lost = {**SILENT, "essential.p_kw": None}
    observed, bus = bus_of({"gen1.p_kw": -30.0}, {"gen1.p_kw": -30.0, **lost}, gen1_kw=-30.0)
    assert bus.unheard == ("gen1",)
    assert driven_backwards(LAYOUT, observed, bus, {}) == ("gen1",)


# --- in the plant -----------------------------------------------------------------------------------------


def plant(
    most_kw: float, load_kw: Mapping[str, float], faults: Sequence[Fault], islanded_by: str, **own: Any
) -> Rig:
    """An island of gen1 and a battery of so much power."""
    bess, points = SITE.bess[0], SITE.authority.setpoints
    small = replace(
        bess,
        pcs=replace(bess.pcs, s_kva=1.25 * most_kw),
        battery=replace(bess.battery, p_charge_kw_max=most_kw, p_discharge_kw_max=most_kw),
    )
    setpoint = replace(points["bess1.p_set_kw"], low=-most_kw, high=most_kw)
    authority = replace(SITE.authority, setpoints={**points, "bess1.p_set_kw": setpoint})
    site = replace(SITE, bess=(small,), authority=authority, **own)
    options = RigOptions(
        islanded_by=islanded_by, gensets_on_kw={"gen1": 250.0}, soc=0.5, horizon_s=900.0, judge=True
    )
    return Rig(site, load_kw=dict(load_kw), mains=[(0.0, 7200.0)], faults=list(faults), options=options)


def silent(from_s: float, until_s: float = 1e9) -> Fault:
    return Fault(kind="device_silent", target="gen1", from_s=from_s, until_s=until_s)


def trips(at_s: float) -> Fault:
    return Fault(kind="genset_trips", target="gen1", from_s=at_s, until_s=at_s + 5.0)


LOAD = {"critical": 100.0, "essential": 130.0, "deferrable": 60.0}


def test_set_that_brought_the_bus_back_is_not_stopped_for_a_silent_one():
    """One power supply takes the controller of gen1 and gen1; the battery is too small, gen2 comes."""
    rig = plant(200.0, LOAD, [silent(60.0), trips(61.0)], "bess1").run(220.0, judge=False)
    dead = [r.t_s for r in rig.rows(62.0) if r.flows.forming is None]
    assert dead
    assert max(dead) < 62.0 + 40.0  # once, until gen2 carries it
    alive = list(rig.rows(max(dead) + 2.0))
    assert {r.decisions.condition.forming for r in alive} == {"gen2"}
    assert {r.held["gen2.run_request"] for r in alive} == {1.0}
    assert not rig.violations


def test_reserve_of_a_silent_set_that_tripped_is_short_and_a_set_comes():
    own = {"reserve": replace(SITE.reserve, load_ratio=0.3)}
    load = {"critical": 100.0, "essential": 140.0, "deferrable": 60.0}
    rig = plant(330.0, load, [silent(60.0), trips(61.0)], "bess1", **own)
    rig.run(140.0, judge=False)
    row = rig.first(66.0, lambda r: True)
    room_kw = 330.0 - row.flows.bess_p_kw["bess1"]
    assert row.decisions.reserve.held_kw == pytest.approx(room_kw, abs=5.0)
    assert row.decisions.reserve.short_kw > 50.0
    assert rig.raised("reserve.short") == 1
    assert rig.last.flows.genset_p_kw["gen2"] > 50.0
    assert rig.unserved_kwh() == 0.0


@pytest.mark.parametrize("former", ["bess1", "gen1"])
def test_silence_of_a_set_that_runs_opens_no_feeder_and_costs_no_bus(former: str):
    own: dict[str, Any] = {}
    if former == "gen1":
        islanded = tuple(x for x in SITE.forming.islanded if x != "bess1")
        own = {"forming": replace(SITE.forming, islanded=islanded)}
    faults = [silent(60.0, 200.0)]
    rig = plant(200.0, LOAD, faults, former, **own).run(300.0)
    assert rig.unserved_kwh() == 0.0
    assert all(r.flows.forming is not None for r in rig.rows())
    assert all(all(r.decisions.condition.feeder_closed.values()) for r in rig.rows())
    assert not rig.violations
