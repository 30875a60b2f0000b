"""One tick: shadow, held safe, bumpless start, refresh, hostile snapshots, identity of commands."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.authority.state import Chosen, memory_of
from dispatch.controllers.plan_follower import PlanFollower
from dispatch.controllers.rules import Rules
from dispatch.controllers.rules_tou import RulesTou
from dispatch.cycle import EdgeSetup, safe_commands, tick
from dispatch.observing.process_image import LARGEST
from dispatch.state import EdgeState
from dispatch.vocabulary import Context, Controller, ControlMemory, Source, Target, Targets, TickInput
from ems.commands import Cause, Proposal
from ems.control import ControlMode
from ems.errors import InvariantBroken
from ems.site import Connection, GridMode, Protocol
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0, site
from tests.unit.dispatch.loop import Loop
from tests.unit.dispatch.plans import plan_of
from tests.unit.dispatch.test_condition import BASE, snapshot

SITE = site()
SETUP = EdgeSetup(site=SITE, controller=Rules(), shadow=False)


def given_at(s: float, *, dt_s: float = 1.0, **changes: float | None) -> TickInput:
    return TickInput(
        snapshot=snapshot(T0 + timedelta(seconds=s), s, **changes), plan=None, outages=(), dt_s=dt_s
    )


def test_tick_is_pure_and_repeatable():
    state = EdgeState(epoch=3)
    first = tick(SETUP, state, given_at(0.0))
    assert tick(SETUP, state, given_at(0.0)) == first
    assert state == EdgeState(epoch=3)


def test_tick_shadow_gives_no_command_but_says_what_it_would_write():
    shadow = EdgeSetup(site=SITE, controller=Rules(), shadow=True)
    state, live_state = EdgeState(epoch=1), EdgeState(epoch=1)
    for i in range(30):
        sent = live_state.written.get("bess1.p_set_kw")
        p_kw = 0.0 if sent is None else sent.value  # it follows, and the meter at the POI answers
        grid_kw = BASE["grid1.p_kw"] + BASE["bess1.p_kw"] - p_kw
        given = given_at(float(i), **{"bess1.p_kw": p_kw, "grid1.p_kw": grid_kw})
        state, d = tick(shadow, state, given)
        live_state, live = tick(SETUP, live_state, given)
        assert d.commands == ()
        assert d.would_write == live.commands
    assert safe_commands(shadow, state, given_at(31.0).snapshot, "test")[1] == ()


def test_tick_commands_carry_epoch_growing_sequence_reason_and_limits():
    state, seqs = EdgeState(epoch=7), []
    for i in range(0, 20, 5):
        state, d = tick(SETUP, state, given_at(float(i)))
        seqs += [c.seq for c in d.commands]
        for c in d.commands:
            assert c.epoch == 7
            assert len(c.reason) > 10
            assert c.limits_hash or c.point in SETUP.layout.watchdogs
    assert seqs == list(range(1, len(seqs) + 1))


def test_tick_writes_on_change_and_refreshes_for_the_device_watchdog():
    state, written = EdgeState(epoch=1), []
    for i in range(21):
        state, d = tick(SETUP, state, given_at(float(i)))
        written.append(sum(c.point == "pv1.p_limit_kw" for c in d.commands))
    assert sum(written) == 5  # at once, and every 5 s
    assert written[0] == 1


def test_tick_restart_of_the_edge_repeats_what_the_plant_does():
    """Bumpless: the first commands after a restart are no step away from what is measured."""
    loop = Loop(Rules(), soc=0.6)
    loop.run(30)
    before = dict(loop.set)
    loop.edge = EdgeState(epoch=2)
    loop.run(1)
    assert loop.set["bess1.p_set_kw"] == pytest.approx(before["bess1.p_set_kw"], abs=1.0)
    assert loop.set["gen1.run_request"] == before["gen1.run_request"]
    assert loop.set["essential.close_request"] == 1.0


def test_tick_restart_takes_over_a_pv_limit_from_its_read_back():
    """The silent PV plant had fallen to its own value; the new edge asked for full power at once."""
    setpoints = dict(SITE.authority.setpoints)
    setpoints["pv1.p_limit_kw"] = replace(setpoints["pv1.p_limit_kw"], ramp_per_s=7.0)
    ramped = replace(SITE, authority=replace(SITE.authority, setpoints=setpoints))
    setup = EdgeSetup(site=ramped, controller=Rules(), shadow=False)
    pv = {"pv1__p_kw": 140.0, "pv1__p_available_kw": 500.0}
    _, d = tick(setup, EdgeState(epoch=2), given_at(0.0, pv1__p_limit_kw=140.0, **pv))
    (c,) = [c for c in d.commands if c.point == "pv1.p_limit_kw"]
    assert c.value == pytest.approx(147.0)


def test_tick_restart_in_an_island_keeps_the_running_genset():
    loop = Loop(Rules(), soc=0.2)
    loop.world.mains = False
    loop.run(200)
    assert loop.flows is not None
    assert loop.flows.genset_p_kw["gen1"] > 100.0
    loop.edge = EdgeState(epoch=2)
    loop.run(60)
    assert loop.flows.genset_p_kw["gen1"] > 100.0
    assert not loop.events("genset.stop.requested")


def test_tick_unknown_mode_holds_safe_and_moves_no_breaker():
    state, d = EdgeState(epoch=1), None
    for i in range(4):
        state, d = tick(SETUP, state, given_at(float(i), grid1__breaker_closed=None, grid1__v_pu=None))
    assert d is not None
    assert d.mode is GridMode.UNKNOWN
    assert d.source is Source.HOLD_SAFE
    assert not [c for c in d.commands if c.point.endswith("close_request")]
    assert "grid.mode.unknown" in {a.code for a in d.alarms}


def test_tick_held_safe_writes_the_safe_table_only_and_stops_the_heartbeat():
    state = EdgeState(epoch=1, held_safe=True, heartbeat=41)
    state, d = tick(SETUP, state, given_at(0.0))
    assert d.source is Source.HOLD_SAFE
    assert {c.cause for c in d.commands} == {Cause.SAFE_TABLE}
    assert {c.point: c.value for c in d.commands} == {"bess1.p_set_kw": 0.0, "pv1.p_limit_kw": 0.0}
    assert d.heartbeat == 41
    _, d = tick(SETUP, state, given_at(10.0))
    assert d.commands == ()


def test_safe_table_in_an_island_leaves_the_forming_battery_alone():
    state, _ = tick(SETUP, EdgeState(epoch=1), given_at(0.0))
    shot = snapshot(T0, 1.0, grid1__breaker_closed=0.0, grid1__v_pu=0.0, bess1__state=2.0)
    after, commands = safe_commands(SETUP, state, shot, "test")
    assert after.held_safe
    assert [c.point for c in commands] == ["pv1.p_limit_kw"]


def test_heartbeat_is_written_once_a_cycle_to_connections_that_have_a_watchdog():
    connection = Connection(
        id="pcs",
        protocol=Protocol.MODBUS_TCP,
        host="127.0.0.1",
        port=1,
        unit_id=1,
        endpoint="",
        poll_s=1.0,
        timeout_s=0.5,
        watchdog_point="bess1.heartbeat",
        points=(),
    )
    setup = EdgeSetup(site=replace(SITE, connections=(connection,)), controller=Rules(), shadow=False)
    state, beats = EdgeState(epoch=1, heartbeat=65533), []
    for i in range(4):
        state, d = tick(setup, state, given_at(float(i)))
        beats += [c.value for c in d.commands if c.point == "bess1.heartbeat"]
    assert beats == [65534.0, 65535.0, 0.0, 1.0]


def test_operator_proposal_goes_before_the_plan_but_not_before_protection():
    operator = Proposal(
        point="bess1.p_set_kw", value=33.0, cause=Cause.OPERATOR, reason="by hand", owner="ann"
    )
    chosen = {"bess1": Chosen(mode=ControlMode.MANUAL, user="ann")}
    manual = EdgeState(epoch=1, authority=replace(memory_of(ControlMode.AUTO), devices=chosen))
    _, d = tick(SETUP, manual, replace(given_at(0.0), proposals=(operator,)))
    (c,) = [c for c in d.commands if c.point == "bess1.p_set_kw"]
    assert (c.value, c.owner) == (33.0, "ann")
    _, d = tick(SETUP, EdgeState(epoch=1), replace(given_at(0.0), proposals=(operator,)))
    assert not [c for c in d.commands if c.cause is Cause.OPERATOR], "in auto the plan decides"
    assert "mode_of_control" in {r.code for r in d.refusals}
    too_much = replace(operator, value=450.0)  # 250 kW would be exported
    _, d = tick(SETUP, manual, replace(given_at(0.0), proposals=(too_much,)))
    (c,) = [c for c in d.commands if c.point == "bess1.p_set_kw"]
    assert c.value <= 200.0
    assert "poi" in c.reason


def test_operator_proposal_that_has_expired_counts_no_more():
    late = Proposal(
        point="bess1.p_set_kw", value=33.0, cause=Cause.OPERATOR, reason="by hand", owner="ann",
        expires_s=5.0,
    )  # fmt: skip
    _, d = tick(SETUP, EdgeState(epoch=1), replace(given_at(6.0), proposals=(late,)))
    assert not [c for c in d.commands if c.cause is Cause.OPERATOR]


@pytest.mark.parametrize("dt_s", [0.0, -1.0, math.nan, math.inf])
def test_tick_impossible_cycle_length_is_a_broken_invariant(dt_s):
    with pytest.raises(InvariantBroken):
        tick(SETUP, EdgeState(epoch=1), given_at(0.0, dt_s=dt_s))


class Mad:
    """A controller that wants anything."""

    name = "mad"

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        v = iter(self.values * 3)

        def t() -> Target:
            return Target(value=next(v), cause=Cause.PLAN, reason="because")

        return Targets(
            source=Source.PLAN,
            bess_p_kw={"bess1": t()},
            genset_run={"gen1": t(), "gen2": t()},
            genset_p_kw={"gen1": t(), "gen2": t()},
            pv_limit_kw={"pv1": t()},
            feeder_close={"essential": t(), "deferrable": t()},
        ), context.memory


readings = st.one_of(
    st.none(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0])
)


def _hostile_snapshot(values: dict[str, float | None], at_s: float) -> Snapshot:
    at = T0 + timedelta(seconds=at_s)
    made = {}
    for p, v in (BASE | values).items():
        finite = v is not None and abs(v) <= LARGEST  # as the image lets through
        quality = Quality.GOOD if finite else Quality.NOT_FINITE
        made[p] = Reading(
            point=p, value=v if finite else None, quality=quality, source_time=at, arrived_s=at_s
        )
    return Snapshot(at=at, monotonic_s=at_s, readings=made)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.dictionaries(st.sampled_from(sorted(BASE)), readings, max_size=12), min_size=1, max_size=4),
    st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=8),
    st.floats(min_value=0.5, max_value=900.0),
    st.sampled_from(["mad", "rules", "rules_tou", "plan"]),
)
def test_tick_hostile_world_and_controller_never_leave_authority(worlds, values, dt_s, who):
    controllers: dict[str, Controller] = {
        "mad": Mad(values),
        "rules": Rules(),
        "rules_tou": RulesTou(),
        "plan": PlanFollower(),
    }
    setup = EdgeSetup(site=SITE, controller=controllers[who], shadow=False)
    plan = plan_of(SITE, bess_kw=[50.0] * 8)
    state, s = EdgeState(epoch=1), 0.0
    for world in worlds:
        given_ = TickInput(snapshot=_hostile_snapshot(world, s), plan=plan, outages=(), dt_s=dt_s)
        state, d = tick(setup, state, given_)
        for c in d.commands:
            a = SITE.authority.setpoints[c.point]
            assert math.isfinite(c.value)
            assert a.low <= c.value <= a.high
            if c.point == "bess1.p_set_kw":
                b = d.condition.bess["bess1"]
                assert -b.p_charge_kw_max - 1e-6 <= c.value <= b.p_discharge_kw_max + 1e-6
        if d.plan_id is not None:
            assert d.mode is GridMode.GRID_TIED
        s += dt_s


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_tick_controller_that_wants_no_number_is_refused_and_not_obeyed(value):
    """A clamp turns NaN into full power: such a wish must not get as far as a clamp."""
    setup = EdgeSetup(site=SITE, controller=Mad([value] * 8), shadow=False)
    _, d = tick(setup, EdgeState(epoch=1), given_at(0.0))
    assert {r.code for r in d.refusals} == {"not_finite"}
    powers = {c.point: c.value for c in d.commands if c.point.startswith("bess1.p")}
    assert powers == {"bess1.p_set_kw": 0.0}
    assert all(c.value < 0.5 for c in d.commands if c.point.endswith("run_request"))
