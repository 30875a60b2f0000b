"""The rig: deterministic, honest about what it sees, and its oracles bite."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from cli._sites import find_site
from ems.commands import Cause, Command
from ems.control import ControlMode
from ems.control_site import ControlParams
from ems.errors import DataError
from ems.points import GensetState
from ems.requests import SetSetpoint
from ems.site import GridMode
from ems.site_schema import load_site
from ems.telemetry import Quality, Reading
from sim.faults import CATALOGUE, Fault, Layer
from sim.faults.draw import targets_of
from sim.faults.people import requests
from sim.oracles.base import WriteSeen
from sim.oracles.writes import MayWrite, RampKept
from sim.rig import OracleError, Rig, RigOptions
from sim.writes import WriteVerdict
from tests import builders

LOAD = {"critical": 60.0, "essential": 90.0, "deferrable": 50.0}


def seen(point: str, value: float, *, held: float, told: float | None = None) -> WriteSeen:
    """A write for an operator, and what its device holds and tells [unit of the point]."""
    reading = Reading(point=point, value=told, quality=Quality.GOOD, source_time=builders.T0, arrived_s=0.0)
    command = Command(
        point=point, value=value, cause=Cause.OPERATOR, reason="it is kept", owner="plan", plan_id=None,
        epoch=1, seq=1, limits_hash="", decided_at=builders.T0, decided_s=0.0,
    )  # fmt: skip
    return WriteSeen(
        t_s=0.0, dt_s=1.0, command=command, snapshot=None, told={point: reading}, held=held, held_safe=False,
        shadow=False, proposals=(), leases=(), plans={}, entered=(), at=builders.T0,
    )  # fmt: skip


def rig(*faults: Fault, **given) -> Rig:
    values: dict[str, Any] = {"load_kw": LOAD, "pv_kw": 100.0, "faults": faults} | given
    return Rig(builders.site(), **values)


def test_rig_same_seed_twice_gives_the_same_log():
    outage = [(20.0, 60.0)]
    runs = [
        rig(Fault(kind="device_frozen", target="pv1", from_s=10.0), mains=outage, seed=s) for s in (3, 3, 4)
    ]
    digests = [r.run(90.0).digest() for r in runs]
    assert digests[0] == digests[1] != digests[2]


def test_rig_mains_lost_truth_and_edge_go_to_an_island():
    r = rig(mains=[(20.0, 60.0)]).run(40.0)
    assert r.after(20.0, lambda row: row.decisions.mode is GridMode.ISLANDED) <= 1.0
    assert r.first(20.0, lambda row: not row.flows.grid_closed).t_s == 20.0
    assert r.last.flows.forming == "bess1"


def test_rig_island_from_the_start_is_formed_and_stays_one():
    r = rig(options=RigOptions(islanded_by="bess1")).run(20.0)
    assert r.held(lambda row: row.flows.forming == "bess1" and row.decisions.mode is GridMode.ISLANDED)


def test_rig_operators_wish_lives_as_long_as_it_says_in_manual():
    control = ControlParams(start_mode=ControlMode.MANUAL)
    r = Rig(replace(builders.site(), control=control), load_kw=LOAD, pv_kw=100.0, controller="plan")
    r.at(5.0, lambda r: r.propose("bess1.p_set_kw", -50.0, for_s=10.0)).run(30.0)
    by = [row.t_s for row in r.rows() for c in row.commands if c.reason.startswith("an operator's wish")]
    assert 5.0 <= by[0] <= by[-1] < 15.0


def test_rig_operators_wish_in_auto_is_refused():
    r = rig(controller="plan").at(5.0, lambda r: r.propose("bess1.p_set_kw", -50.0, for_s=10.0)).run(30.0)
    assert not [c for row in r.rows() for c in row.commands if c.cause is Cause.OPERATOR]
    assert {x.code for row in r.rows() for x in row.decisions.refusals} == {"mode_of_control"}


def test_rig_unknown_fault_is_refused_with_the_names_there_are():
    with pytest.raises(DataError, match="mains_lost"):
        rig(Fault(kind="gremlins"))


def test_rig_quiet_plant_evaluates_every_oracle_at_every_tick_and_write():
    r = rig().run(30.0)
    assert r.watch.evaluations["I3"] == r.writes > 0
    assert {r.watch.evaluations[o] for o in ("I6", "I7", "I8", "I10", "I11", "I12")} == {30}


@pytest.mark.parametrize("kind", sorted(CATALOGUE))
def test_rig_each_fault_acts_without_breaking_the_edge(kind: str):
    entry = CATALOGUE[kind]
    target = targets_of(entry, builders.site())[0]
    r = rig(Fault(kind=kind, target=target, from_s=10.0, until_s=25.0), mains=[(40.0, 60.0)]).run(70.0)
    assert r.ticks == 70
    assert r.broken is None


def test_fault_requests_of_people_at_a_plant_of_feeders_alone_ask_for_what_is_not_there():
    site = builders.site()
    bare = replace(site, authority=replace(site.authority, setpoints={}))
    fault = Fault(kind="requests", from_s=0.0, until_s=1000.0)
    asked = [ask for t in range(0, 900, 5) for _, ask in requests(fault, bare, float(t), ())]
    assert any(isinstance(a, SetSetpoint) and a.point == "bess1.p_set_kw" for a in asked)


def test_faults_every_layer_has_entries_that_hook_into_it():
    hooks = ("shape", "tell", "take", "act", "arrive", "offer", "foresee", "utc", "found_until_s", "asks")
    for entry in CATALOGUE.values():
        told = entry.planner_dead or entry.lose or entry.slow
        assert told or any(getattr(entry, h) is not None for h in hooks)
    assert {e.layer for e in CATALOGUE.values()} == set(Layer)


def test_fault_frozen_device_tells_old_values_and_fresh_stamps():
    r = rig(Fault(kind="device_frozen", target="pv1", from_s=10.0), pv_kw=lambda t: 100.0 + t).run(30.0)
    told = {row.snapshot.readings["pv1.p_available_kw"].value for row in r.rows(11.0)}
    assert len(told) == 1
    assert r.last.snapshot.readings["pv1.p_available_kw"].is_good
    assert r.last.flows.pv_potential_kw["pv1"] > 125.0


def test_fault_nan_reading_never_becomes_good():
    r = rig(Fault(kind="reading_nan", target="grid1.p_kw", from_s=10.0)).run(20.0)
    assert not r.last.snapshot.readings["grid1.p_kw"].is_good
    assert all(math.isfinite(c.value) for row in r.rows() for c in row.commands)


def test_fault_write_refused_changes_nothing_at_the_device():
    r = rig(Fault(kind="write_refused", target="pv1"))
    assert r.foreign_write("pv1.p_limit_kw", 10.0) is WriteVerdict.REFUSED
    assert "pv1.p_limit_kw" not in r.world.setpoints.values


def test_fault_unanswered_write_is_carried_out():
    r = rig(Fault(kind="write_unanswered", target="pv1"))
    assert r.foreign_write("pv1.p_limit_kw", 10.0) is WriteVerdict.SILENT
    assert r.world.setpoints.values["pv1.p_limit_kw"] == 10.0


def test_fault_derated_battery_tells_and_keeps_smaller_limits():
    r = rig(Fault(kind="bess_derated", target="bess1", from_s=10.0, value=0.4)).run(15.0)
    before, after = r.first(9.0, lambda row: True), r.last
    assert after.flows.bess_p_discharge_kw_max["bess1"] == pytest.approx(
        0.4 * before.flows.bess_p_discharge_kw_max["bess1"], rel=0.01
    )
    assert after.snapshot.value("bess1.p_discharge_kw_max") == after.flows.bess_p_discharge_kw_max["bess1"]


def test_fault_open_contactor_of_the_forming_battery_kills_the_island():
    fault = Fault(kind="bess_contactor_open", target="bess1", from_s=10.0)
    r = rig(fault, options=RigOptions(islanded_by="bess1")).run(15.0, judge=False)
    assert r.first(10.0, lambda row: row.flows.forming is None).t_s == 10.0
    assert r.last.flows.bess_p_kw["bess1"] == 0.0


def test_fault_setpoint_ignored_is_read_back_and_not_acted_on():
    world = rig(Fault(kind="setpoint_ignored", target="pv1", from_s=10.0)).world
    world.write("pv1.p_limit_kw", 50.0)
    world.advance(10.0)
    world.write("pv1.p_limit_kw", 20.0)
    world.advance(12.0)
    assert world.readings()["pv1.p_limit_kw"] == 20.0
    assert world.flows.pv_p_kw["pv1"] == 50.0


def test_fault_pv_limit_lost_gives_what_the_sun_gives():
    r = rig(Fault(kind="pv_limit_lost", target="pv1", from_s=10.0))
    r.foreign_write("pv1.p_limit_kw", 20.0)
    r.run(12.0, judge=False)
    assert r.first(1.0, lambda row: True).flows.pv_p_kw["pv1"] <= 100.0
    assert r.last.flows.pv_p_kw["pv1"] == 100.0


@pytest.mark.parametrize(
    ("kind", "state"),
    [("genset_started_at_panel", GensetState.RUNNING), ("genset_stalls", GensetState.LOCKED_OUT)],
)
def test_fault_genset_does_what_the_panel_or_its_engine_says(kind: str, state: GensetState):
    started = Fault(kind="genset_started_at_panel", target="gen2", until_s=300.0)
    r = rig(started, Fault(kind=kind, target="gen2")).run(60.0, judge=False)
    assert r.last.flows.genset_state["gen2"] is state


def test_fault_foreign_writer_writes_past_the_edge():
    fault = Fault(kind="foreign_writer", target="pv1.p_limit_kw", from_s=3.0, value=7.0)
    r = rig(fault).run(4.0, judge=False)
    assert r.last.held["pv1.p_limit_kw"] == 7.0


def test_fault_recorder_slow_writes_later_and_decides_the_same():
    """Between a decision and its writes the line is drawn again, in which time has passed."""
    outage = [(20.0, 60.0)]
    slow, quick = rig(Fault(kind="recorder_slow"), mains=outage).run(40.0), rig(mains=outage).run(40.0)
    assert slow.digest() == quick.digest()
    rows = [row for row in slow.rows(5.0) if row.results]
    late_s = [(row.results[-1].finished_at - row.decisions.at).total_seconds() for row in rows]
    assert max(late_s) >= 0.5
    assert max(late_s) < slow.dt_s


@pytest.mark.parametrize(
    ("oracle", "change"),
    [
        ("I1", {"value": 501.0}),
        ("I3", {"value": math.nan}),
        ("I3", {"point": "grid1.p_kw"}),
        ("I9", {"seq": 0}),
        ("I2", {"cause": Cause.OPERATOR}),
        ("I2", {"cause": Cause.PLAN, "plan_id": "never-offered"}),
    ],
)
def test_oracle_bent_write_is_found(oracle: str, change: dict, monkeypatch: pytest.MonkeyPatch):
    r = rig()
    honest = r.io.write

    async def bent(commands):
        return await honest([replace(c, **change) if c.point == "bess1.p_set_kw" else c for c in commands])

    monkeypatch.setattr(r.io, "write", bent)
    with pytest.raises(OracleError, match=f"{oracle}:"):
        r.run(20.0)


@pytest.mark.parametrize(
    ("data_type", "scale", "held_kw", "kept_kw", "found"),
    [
        ("f32", 1.0, 36.67799758911133, 36.677999262028194, False),
        ("f32", 0.1, 36.67799758911133, 37.2, True),
        ("u16", 5.0, 35.0, 37.4, False),
        ("u16", 5.0, 35.0, 41.0, True),
    ],
)
def test_oracle_value_kept_in_manual_is_the_one_held_as_its_register_rounds_it(
    data_type: str, scale: float, held_kw: float, kept_kw: float, found: bool
):
    site = load_site(find_site("demo"))
    connections = tuple(
        replace(
            c,
            points=tuple(
                replace(m, data_type=data_type, scale=scale) for m in c.points if m.point == "gen1.p_set_kw"
            ),
        )
        for c in site.connections
    )
    site = replace(site, connections=connections)
    assert (MayWrite(site).on_write(seen("gen1.p_set_kw", kept_kw, held=held_kw)) is not None) is found


@pytest.mark.parametrize(
    ("value", "told", "found"), [(130.9, 132.3, False), (130.9, 0.0, True), (150.5, 132.3, True)]
)
def test_oracle_ramp_from_what_another_master_wrote_is_judged_by_what_the_device_tells(value, told, found):
    oracle = RampKept(load_site(find_site("demo")))
    assert oracle.on_write(seen("pv1.p_limit_kw", 130.9, held=130.9, told=132.3)) is None
    assert (oracle.on_write(seen("pv1.p_limit_kw", value, held=0.0, told=told)) is not None) is found


def test_oracle_starts_that_nobody_asked_for_are_not_the_edges():
    site = builders.site()
    gen1 = replace(site.gensets[0], starts_per_h_max=1, min_up_s=30.0, min_down_s=30.0, cool_down_s=10.0)
    times = [(10.0, 100.0), (400.0, 500.0), (800.0, 900.0)]
    by_hand = [Fault(kind="genset_started_at_panel", target="gen1", from_s=a, until_s=b) for a, b in times]
    r = Rig(replace(site, gensets=(gen1, *site.gensets[1:])), load_kw=LOAD, pv_kw=100.0, faults=by_hand)
    r.run(1000.0)
    on_load = [row.flows.genset_state["gen1"] is GensetState.RUNNING for row in r.rows()]
    assert sum(now and not before for before, now in pairwise(on_load)) == 3
    assert any(c.point == "gen1.run_request" and c.value == 1.0 for row in r.rows() for c in row.commands)


def test_oracle_write_without_intent_is_found(monkeypatch: pytest.MonkeyPatch):
    r = rig()
    monkeypatch.setattr(r.journal, "intent", lambda command: None)
    with pytest.raises(OracleError, match="I5:"):
        r.run(5.0)


def test_oracle_edge_that_breaks_is_found_and_held_safe(monkeypatch: pytest.MonkeyPatch):
    r = rig()

    def nonsense(rig: Rig) -> None:
        monkeypatch.setattr("dispatch.supervision.mind.tick", lambda setup, state, given: 1 / 0)

    with pytest.raises(OracleError, match="tick: the edge raised ZeroDivisionError"):
        r.at(5.0, nonsense).run(20.0)
    assert r.runtime.state.held_safe
    r.after_break()
    assert [v.oracle for v in r.violations] == ["tick"]
