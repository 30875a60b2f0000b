"""Invariants in production: a bug planted behind the tick or before the wire is found by code of its own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import dispatch.supervision.mind
from dispatch.cycle import EdgeSetup, tick
from dispatch.layout import layout_of
from dispatch.observing.process_image import ProcessImage
from dispatch.state import EdgeState
from dispatch.supervision.invariants_now import Cycle, InvariantsNow
from dispatch.supervision.watched import WatchedIO
from dispatch.vocabulary import Decisions, Source, TickInput
from ems.commands import Cause, Command, WriteOutcome, WriteResult
from ems.errors import InvariantBroken
from ems.points import GensetState
from ems.site import GridMode, Site
from ems.site_schema import load_site
from ems.telemetry import Quality, Reading, Snapshot
from sim.drive import drive
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY
from tests import builders
from tests.unit.dispatch.plans import plan_of

AT_S = 20.0
SITE = Path(__file__).resolve().parents[3] / "sites" / "demo" / "site.yaml"


@pytest.fixture(scope="module")
def demo() -> Site:
    return load_site(SITE)


def rig_of(site: Site) -> Rig:
    return Rig(site, load_kw={"critical": 80.0}, pv_kw=100.0)


def planted(monkeypatch: pytest.MonkeyPatch, bug: Callable[[Decisions], Decisions]) -> None:
    """A tick whose decisions are spoilt from AT_S on."""

    def spoilt(setup: EdgeSetup, state: EdgeState, given: TickInput) -> tuple[EdgeState, Decisions]:
        after, decisions = tick(setup, state, given)
        return after, bug(decisions) if given.snapshot.monotonic_s >= AT_S else decisions

    monkeypatch.setattr(dispatch.supervision.mind, "tick", spoilt)


def command(point: str, value: float, cause: Cause = Cause.RULES, *, seq: int = 900) -> Command:
    return Command(
        point=point, value=value, cause=cause, reason="a bug", owner="edge", plan_id=None, epoch=1, seq=seq,
        limits_hash="", decided_at=MONDAY, decided_s=AT_S,
    )  # fmt: skip


def with_one(one: Command) -> Callable[[Decisions], Decisions]:
    return lambda d: replace(d, commands=(replace(one, decided_at=d.at),))


BUGS: Sequence[tuple[str, Callable[[Decisions], Decisions]]] = [
    ("I1: bess1.p_set_kw", with_one(command("bess1.p_set_kw", 9999.0))),
    ("I1: bess1.p_set_kw", with_one(command("bess1.p_set_kw", math.nan))),
    ("I1: gen1.run_request", with_one(command("gen1.run_request", 2.0))),
    ("I2: bess1.p_set_kw", with_one(command("bess1.p_set_kw", 0.0, Cause.PLAN))),
    (
        "I2: pv1.p_limit_kw",
        with_one(replace(command("pv1.p_limit_kw", 50.0, Cause.OPERATOR), request_id="r")),
    ),
    ("I8: ", lambda d: replace(d, heartbeat=(d.heartbeat + 7) % 65536)),
]


@pytest.mark.parametrize(("told", "bug"), BUGS, ids=[f"{k}-{t[:2]}" for k, (t, _) in enumerate(BUGS)])
def test_bug_behind_the_tick_breaks_the_cycle_and_writes_the_safe_table(
    demo: Site, monkeypatch: pytest.MonkeyPatch, told: str, bug: Callable[[Decisions], Decisions]
):
    planted(monkeypatch, bug)
    rig = rig_of(demo).run(AT_S + 5.0, judge=False)
    assert isinstance(rig.broken, InvariantBroken)
    assert str(rig.broken).startswith(told)
    assert rig.runtime.state.held_safe
    assert rig.events("edge.safe_table.written") != []
    safe = demo.authority.setpoints["bess1.p_set_kw"].safety.grid_tied
    assert rig.world.setpoints.values["bess1.p_set_kw"] == safe


def test_jump_over_the_ramp_breaks_the_cycle(demo: Site, monkeypatch: pytest.MonkeyPatch):
    """From where the register stands and from where the edge last left it, further than a cycle allows."""
    high = demo.authority.setpoints["pv1.p_limit_kw"].high
    planted(monkeypatch, with_one(command("pv1.p_limit_kw", high)))
    rig = rig_of(demo).at(5.0, lambda r: r.propose("pv1.p_limit_kw", 10.0, for_s=60.0))
    rig.run(AT_S + 5.0, judge=False)
    assert str(rig.broken).startswith("I4: pv1.p_limit_kw")


def test_write_in_local_breaks_the_cycle(demo: Site, monkeypatch: pytest.MonkeyPatch):
    layout = layout_of(demo)
    invariants = InvariantsNow(layout, shadow=False)
    rig = rig_of(demo).run(AT_S, judge=False)
    row = rig.last
    local = Reading(
        point="bess1.remote", value=0.0, quality=Quality.GOOD, source_time=row.snapshot.at,
        arrived_s=row.snapshot.monotonic_s,
    )  # fmt: skip
    snapshot = replace(row.snapshot, readings={**row.snapshot.readings, "bess1.remote": local})
    cycle = Cycle(
        snapshot=snapshot, before=rig.runtime.state, after=rig.runtime.state, dt_s=1.0,
        decisions=replace(row.decisions, commands=(command("bess1.p_set_kw", 0.0),)),
    )  # fmt: skip
    with pytest.raises(InvariantBroken, match=r"I2: .* while its device is in local"):
        invariants.decided(cycle)


@pytest.mark.parametrize("dwell_s", [60.0, 300.0])
def test_outage_that_overruns_its_plan_is_no_broken_invariant_at_any_dwell(dwell_s: float):
    """Islanded 8 min longer than announced, and no newer plan: its islanded step, then the rules.

    Story: with IEEE 1547's dwell of 300 s the edge held a healthy island safe 366 s after the planned end.
    """
    site = builders.site()
    site = replace(site, grid=replace(site.grid, reconnect_dwell_s=dwell_s))
    end_s = 60.0  # of the announced outage
    options = RigOptions(start=MONDAY + timedelta(seconds=900.0 - end_s), islanded_by="bess1", keep=2000)
    load_kw = {"critical": 60.0, "essential": 60.0, "deferrable": 40.0}
    rig = Rig(site, load_kw=load_kw, controller="plan", options=options)
    modes = [GridMode.ISLANDED] + [GridMode.GRID_TIED] * 7
    rig.publish(plan_of(site, bess_kw=[160.0] + [0.0] * 7, load_kw=160.0, modes=modes, start=MONDAY))
    late_s = end_s + 300.0 + dwell_s  # until then its islanded step is followed
    rig.run(late_s + 60.0)
    assert rig.broken is None
    assert rig.held(lambda r: r.decisions.source is Source.PLAN, 10.0, late_s)
    assert rig.held(lambda r: r.decisions.source is Source.RULES, late_s + 3.0)


@pytest.mark.parametrize(
    ("mode", "off_s", "passes"),
    [
        (GridMode.ISLANDED, -302.0, False),
        (GridMode.ISLANDED, -301.0, True),
        (GridMode.ISLANDED, 301.0 + 120.0, True),
        (GridMode.ISLANDED, 302.0 + 120.0, False),
        (GridMode.GRID_TIED, 301.0, True),
        (GridMode.GRID_TIED, 302.0, False),
    ],
)
def test_plan_is_over_so_long_after_its_grid_mode(mode: GridMode, off_s: float, passes: bool):
    """300 s and a cycle either way; after an island also the dwell of this site, 120 s here."""
    site = builders.site()
    site = replace(site, grid=replace(site.grid, reconnect_dwell_s=120.0))
    other = GridMode.GRID_TIED if mode is GridMode.ISLANDED else GridMode.ISLANDED
    modes = [other] * 2 + [mode] + [other] * 5
    plan = plan_of(site, bess_kw=[0.0] * 8, load_kw=160.0, modes=modes, start=MONDAY)
    begins, ends = MONDAY + timedelta(seconds=1800.0), MONDAY + timedelta(seconds=2700.0)
    rig = Rig(site, load_kw={"critical": 60.0}).run(2.0)
    row, state = rig.last, rig.runtime.state
    state = replace(state, plans=replace(state.plans, accepted=plan))
    at = (begins if off_s < 0.0 else ends) + timedelta(seconds=off_s)
    one = replace(command("gen1.run_request", 0.0, Cause.PLAN), plan_id=plan.plan_id)
    cycle = Cycle(
        snapshot=replace(row.snapshot, at=at), before=state, after=state, dt_s=1.0,
        decisions=replace(row.decisions, mode=mode, commands=(one,)),
    )  # fmt: skip
    invariants = InvariantsNow(layout_of(site), shadow=False)
    if passes:
        invariants.decided(cycle)
    else:
        with pytest.raises(InvariantBroken, match=f"I2: .* which has no {mode} now"):
            invariants.decided(cycle)


class Device:
    """Takes everything."""

    def __init__(self) -> None:
        self.got: list[Command] = []

    async def read_all(self) -> Sequence[Reading]:
        return []

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        self.got += commands
        return [
            WriteResult(command=c, outcome=WriteOutcome.CONFIRMED, detail="", finished_at=c.decided_at)
            for c in commands
        ]

    async def close(self) -> None:
        return None


def test_port_refuses_what_no_layer_may_let_through(demo: Site):
    """Not finite, not ours, without an intent, the same twice, in shadow: nothing arrives at the device."""
    layout = layout_of(demo)

    def broken(*commands: Command, intend: bool = True, shadow: bool = False) -> str:
        invariants, device = InvariantsNow(layout, shadow=shadow), Device()
        port = WatchedIO(device, layout, invariants)
        for c in commands:
            if intend:
                invariants.intended(c)
        for c in commands[:-1]:
            drive(port.write([c]))
        with pytest.raises(InvariantBroken) as told:
            drive(port.write(commands[-1:]))
        assert device.got == list(commands[:-1])
        return str(told.value)

    assert broken(command("bess1.p_set_kw", math.inf)).startswith("I3")
    assert broken(command("bess1.soc", 0.5)).startswith("I3")
    assert broken(command("bess1.p_set_kw", 1.0), intend=False).startswith("I5")
    assert broken(command("bess1.p_set_kw", 1.0), shadow=True).startswith("I2")
    twice = command("bess1.p_set_kw", 1.0, seq=5)
    assert broken(twice, twice).startswith("I9")
    assert broken(twice, command("bess1.p_set_kw", 1.0, seq=4)).startswith("I9")


def test_write_without_an_outcome_breaks_the_cycle(demo: Site):
    layout = layout_of(demo)
    invariants = InvariantsNow(layout, shadow=False)
    one = command("bess1.p_set_kw", 1.0)
    invariants.intended(one)
    (result,) = drive(WatchedIO(Device(), layout, invariants).write([one]))
    with pytest.raises(InvariantBroken, match="I5: 1 writes, 0 outcomes"):
        invariants.sent()
    invariants.recorded(result)
    invariants.sent()


def test_reading_that_passed_for_good_is_taken_out_and_told(demo: Site, monkeypatch: pytest.MonkeyPatch):
    """I6: an image that forgets ages. The cycle does not use the value, and tells of it."""
    latch = ProcessImage.latch

    def forgets(self: ProcessImage, at: datetime, now_s: float, *of_time: Any) -> Snapshot:
        seen = latch(self, at, now_s, *of_time)
        if now_s < AT_S:
            return seen
        old = replace(seen.readings["bess1.soc"], arrived_s=now_s - 900.0, quality=Quality.GOOD)
        return replace(seen, readings={**seen.readings, "bess1.soc": old})

    monkeypatch.setattr(ProcessImage, "latch", forgets)
    rig = rig_of(demo).run(AT_S + 5.0, judge=False)
    assert rig.broken is None
    assert rig.last.snapshot.readings["bess1.soc"].quality is Quality.STALE
    assert not rig.last.decisions.condition.bess["bess1"].available
    assert rig.after(AT_S, lambda row: row.alarmed("edge.invariant")) == 0.0
    assert any("I6: bess1.soc is 900 s old" in a.text for a in rig.last.decisions.alarms)


def test_island_short_of_reserve_without_its_alarm_is_told(demo: Site, monkeypatch: pytest.MonkeyPatch):
    """I7: the alarm is lost on its way; the invariant says so within some seconds."""

    def lost(d: Decisions) -> Decisions:
        return replace(d, alarms=tuple(a for a in d.alarms if a.code == "edge.invariant"))

    planted(monkeypatch, lost)
    options = RigOptions(islanded_by="bess1", soc=0.5)
    site = replace(demo, reserve=replace(demo.reserve, load_ratio=9.0))
    rig = Rig(site, load_kw={"critical": 80.0}, options=options).run(AT_S + 10.0, judge=False)
    assert rig.world.state.forming == "bess1"
    assert rig.after(AT_S, lambda row: row.alarmed("edge.invariant")) <= 6.0
    assert rig.broken is None


def test_healthy_edge_finds_nothing(demo: Site):
    rig = Rig(demo, load_kw={"critical": 80.0}, pv_kw=150.0, mains=[(60.0, 200.0)]).run(300.0)
    assert rig.raised("edge.invariant") == 0
    assert rig.runtime.invariants.evaluated > 300


STATES = {"on": GensetState.RUNNING, "off": GensetState.STOPPED, "cools": GensetState.COOLING_DOWN}


class Asked:
    """Invariants of the small plant, told cycle by cycle what a set says and what the edge asks of it."""

    def __init__(self) -> None:
        site = builders.site()
        rig = Rig(site, load_kw={"critical": 80.0}).run(AT_S)
        self.invariants = InvariantsNow(layout_of(site), shadow=False)
        self.rig, self.t_s = rig, AT_S

    def cycle(
        self,
        state: str | None,
        run: float | None,
        cause: Cause = Cause.RULES,
        dt_s: float = 1.0,
        p_kw: float = 0.0,
    ) -> str:
        """Seconds go by, and then this; what is told."""
        self.t_s += dt_s
        row = self.rig.last
        value = None if state is None else float(STATES[state].code)
        quality = Quality.COMM_FAILED if value is None else Quality.GOOD
        reading = replace(
            row.snapshot.readings["gen1.state"], value=value, quality=quality, arrived_s=self.t_s
        )
        power = replace(row.snapshot.readings["gen1.p_kw"], value=p_kw, arrived_s=self.t_s)
        readings = {**row.snapshot.readings, "gen1.state": reading, "gen1.p_kw": power}
        one = () if run is None else (command("gen1.run_request", run, cause),)
        self.invariants.decided(
            Cycle(
                snapshot=replace(row.snapshot, monotonic_s=self.t_s, readings=readings),
                before=self.rig.runtime.state, after=self.rig.runtime.state, dt_s=1.0,
                decisions=replace(row.decisions, commands=one),
            )
        )  # fmt: skip
        return " ".join(a.text for a in self.invariants.alarms())

    def came_on(self, cause: Cause = Cause.RULES) -> "Asked":
        assert [self.cycle("off", 0.0), self.cycle("off", 1.0, cause), self.cycle("on", 1.0, cause)] == [
            ""
        ] * 3
        return self


@pytest.mark.parametrize(
    ("after_s", "cause", "told"),
    [
        (600.0, Cause.RULES, "I11: gen1 asked to stop 600 s after it came on load, 1800 s are its minimum"),
        (600.0, Cause.PLAN, "I2"),
        (1796.0, Cause.RULES, "I11: gen1 asked to stop 1796 s"),
        (1797.0, Cause.RULES, ""),  # readings and cycles are late by some seconds
        (600.0, Cause.PROTECTION, ""),
        (600.0, Cause.OPERATOR, ""),
        (600.0, Cause.EMERGENCY_STOP, ""),
    ],
)
def test_stop_inside_the_minimum_up_time_is_told(after_s: float, cause: Cause, told: str):
    asked = Asked().came_on()
    if told == "I2":  # a plan that was never accepted
        with pytest.raises(InvariantBroken, match="I2"):
            asked.cycle("on", 0.0, cause, after_s)
        return
    found = asked.cycle("on", 0.0, cause, after_s)
    assert found.startswith(told) if told else found == ""


@pytest.mark.parametrize(
    ("after_s", "state", "told"),
    [
        (300.0, "off", "I11: gen1 asked to start 300 s after it left the bus, 900 s are its minimum"),
        (300.0, "cools", "I11: gen1 asked to start 300 s"),
        (896.0, "off", "I11: gen1 asked to start 896 s"),
        (897.0, "off", ""),
        (300.0, "on", ""),  # it has started by itself, and is followed
        (300.0, None, ""),  # it is not heard
    ],
)
def test_start_inside_the_minimum_down_time_is_told(after_s: float, state: str | None, told: str):
    asked = Asked().came_on()
    assert asked.cycle("cools", 0.0, Cause.PROTECTION, 300.0) == ""
    found = asked.cycle(state, 1.0, dt_s=after_s)
    assert found.startswith(told) if told else found == ""


def test_minimum_up_time_does_not_begin_anew_by_one_wrong_state():
    """A reading says stopped while the set gives 200 kW: it never left the bus."""
    asked = Asked().came_on()
    assert asked.cycle("on", None, dt_s=3000.0, p_kw=200.0) == ""
    assert asked.cycle("off", None, p_kw=200.0) == ""
    assert asked.cycle("on", None, p_kw=200.0) == ""
    assert asked.cycle("on", 0.0, dt_s=40.0, p_kw=200.0) == ""


def test_minimum_times_of_a_set_that_was_not_seen_to_change_are_not_known():
    """After a start of the edge: it may have run for hours."""
    asked = Asked()
    assert asked.cycle("on", 1.0) == ""
    assert asked.cycle("on", 0.0) == ""


def test_minimum_times_go_with_an_edge_that_is_forked():
    asked, twin = Asked().came_on(), Asked()
    twin.invariants.adopt(asked.invariants)
    twin.t_s = asked.t_s
    assert twin.cycle("on", 0.0, dt_s=60.0).startswith("I11: gen1 asked to stop 60 s")


@pytest.mark.parametrize(("soc", "told"), [(0.12, False), (0.1008, True)])
def test_battery_that_is_empty_before_a_set_comes_is_no_reserve(
    monkeypatch: pytest.MonkeyPatch, soc: float, told: bool
):
    """I7 counts energy too: half a kWh is left above the minimum, whatever power the BMS allows."""
    planted(
        monkeypatch, lambda d: replace(d, alarms=tuple(a for a in d.alarms if a.code == "edge.invariant"))
    )
    small = builders.site()
    site = replace(small, reserve=replace(small.reserve, load_ratio=0.5))
    options = RigOptions(islanded_by="bess1", soc=soc)
    rig = Rig(site, load_kw={"critical": 20.0, "essential": 20.0, "deferrable": 10.0}, options=options)
    rig.run(AT_S + 10.0, judge=False)
    assert rig.world.state.forming == "bess1"
    assert (rig.raised("edge.invariant") > 0) is told
