"""`kill -9` of each process in turn, around the outage that nobody announced."""

from collections import Counter

import pytest

from cli.day import PlannedKill
from ems.commands import WriteOutcome
from ems.telemetry import Quality
from tests.e2e.days import Lived, around_outage, cycle_times_s, live_through, outage_s

pytestmark = pytest.mark.timeout(900)
PLANNER_S, PLANNER_BACK_S = 810.0, 820.0  # before the outage (851 s), in cycles of a second
EDGE_S, EDGE_BACK_S = 1000.0, 1100.0  # in the island
PLANT_S, PLANT_BACK_S = 300.0, 360.0  # in cycles of 10 s
TRANSFER_S = 0.2  # without voltage while the switch opens and the PCS takes over: nobody can prevent it


@pytest.fixture(scope="module")
def planner_then_edge(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    kills = [
        PlannedKill(name="planner", at_s=PLANNER_S, back_s=PLANNER_BACK_S),
        PlannedKill(name="edge", at_s=EDGE_S, back_s=EDGE_BACK_S),
    ]
    return live_through(tmp_path_factory.mktemp("planner_then_edge"), around_outage(), kills)


@pytest.fixture(scope="module")
def without_plant(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    kills = [PlannedKill(name="plant", at_s=PLANT_S, back_s=PLANT_BACK_S)]
    return live_through(tmp_path_factory.mktemp("without_plant"), around_outage(end=(17, 27)), kills)


def cycles_s(lived: Lived) -> list[float]:
    """When the edge cycled, as the historian has it [s after start]."""
    return [t for t, _ in lived.series("bess1.p_kw")]


def sources(lived: Lived) -> list[tuple[float, object]]:
    """(time, source) whenever another rung of the ladder decided."""
    return [(t, e.fields["now"]) for t, e in lived.events("edge.source.changed")]


def test_planner_killed_edge_misses_no_cycle(planner_then_edge: Lived):
    wanted = [t for t in cycle_times_s(planner_then_edge.scenario) if t < EDGE_S]
    assert [t for t in cycles_s(planner_then_edge) if t < EDGE_S] == pytest.approx(wanted, abs=1e-3)


def test_planner_killed_last_plan_is_shown_within_one_cycle(planner_then_edge: Lived):
    seen = [
        (t, now) for t, now in sources(planner_then_edge) if PLANNER_S - 60.0 <= t <= PLANNER_BACK_S + 5.0
    ]
    assert [now for _, now in seen] == ["last_plan", "plan"], seen
    (lost_s, _), (back_s, _) = seen
    assert lost_s <= PLANNER_S + 1.0
    assert PLANNER_BACK_S <= back_s <= PLANNER_BACK_S + 1.0


@pytest.mark.scenario(45)
def test_planner_killed_comes_back_and_plans_the_island(planner_then_edge: Lived):
    assert planner_then_edge.run.supervisor.restarts["planner"] == 1
    accepted = [(t, e.fields["seq"]) for t, e in planner_then_edge.events("plan.accepted") if t < EDGE_S]
    at_s = outage_s(planner_then_edge.scenario)
    assert [seq for t, seq in accepted if t < PLANNER_S] == [1]
    assert [seq for t, seq in accepted if at_s < t < at_s + 120.0] == [2], accepted


def test_edge_killed_in_the_island_devices_fall_back_by_themselves(planner_then_edge: Lived):
    """PV goes to the value of its map when its time-out is over, and stays there until the edge is back."""
    lived = planner_then_edge
    trace = lived.result.trace
    silence = lived.scenario.site.authority.setpoints["pv1.p_limit_kw"].safety.behaviour
    pv_kw, t_s = trace.column("pv1.p_kw"), trace.t_s
    before = (t_s >= EDGE_S - 10.0) & (t_s < EDGE_S)
    alone = (t_s >= EDGE_S + silence.timeout_s) & (t_s + trace.dt_s <= EDGE_BACK_S)
    assert silence.value is not None
    assert pv_kw[before].min() > silence.value + 100.0
    assert pv_kw[alone].max() <= silence.value + 1.0


def test_edge_killed_in_the_island_critical_load_stays_served(planner_then_edge: Lived):
    lived = planner_then_edge
    trace = lived.result.trace
    gone = (trace.t_s >= EDGE_S - 1.0) & (trace.t_s < EDGE_BACK_S + 60.0)
    assert (trace.column("bus.forming")[gone] == trace.assets.index("bess1")).all()
    missing = trace.column("critical.demand_kw") - trace.column("critical.p_kw")
    assert missing[gone].max() <= 1e-3
    assert lived.result.counters.unserved_s["critical"] == pytest.approx(TRANSFER_S, abs=1e-6)


def test_edge_killed_epoch_grows_and_no_cycle_is_made_up_for(planner_then_edge: Lived):
    lived = planner_then_edge
    epochs = (
        {c.epoch for t, c in lived.commands(0.0, EDGE_S)},
        {c.epoch for t, c in lived.commands(EDGE_BACK_S)},
    )
    assert len(epochs[0]) == len(epochs[1]) == 1
    assert min(epochs[1]) > max(epochs[0])
    wanted = [t for t in cycle_times_s(lived.scenario) if not EDGE_S <= t < EDGE_BACK_S]
    assert cycles_s(lived) == pytest.approx(wanted, abs=1e-3)
    assert lived.run.supervisor.restarts["edge"] == 1


@pytest.mark.parametrize("name", ["run_request", "close_request", "p_limit_kw"])
def test_edge_killed_restart_is_bumpless(planner_then_edge: Lived, name: str):
    """The first command lies no further from what the device holds than one cycle may move it."""
    lived = planner_then_edge
    first: dict[str, tuple[float, float]] = {}
    for t_s, c in lived.commands(EDGE_BACK_S, EDGE_BACK_S + 15.0):
        if c.point.endswith(f".{name}"):
            first.setdefault(c.point, (t_s, c.value))
    assert first
    bumps = {}
    for point, (t_s, value) in first.items():
        authority = lived.scenario.site.authority.setpoints[point]
        held = lived.value(point, t_s)
        allowed = max(authority.deadband, authority.ramp_per_s or 0.0)  # cycles of a second
        if abs(value - held) > allowed:
            bumps[point] = (held, value)
    assert bumps == {}


def test_edge_killed_in_the_island_forming_source_gets_no_power_setpoint(planner_then_edge: Lived):
    later = [c.point for t, c in planner_then_edge.commands(EDGE_BACK_S)]
    assert "bess1.heartbeat" in later
    assert "bess1.p_set_kw" not in later


def test_api_killed_comes_back_and_changes_nothing(without_api: Lived, quiet: Lived):
    """Counters, cycles and commands are those of the run in which nobody was killed, bit for bit."""
    assert without_api.run.supervisor.restarts == {"plant": 0, "edge": 0, "planner": 0, "api": 2}
    assert cycles_s(without_api) == pytest.approx(cycle_times_s(without_api.scenario), abs=1e-3)
    assert without_api.result.counters == quiet.result.counters
    mine, theirs = (  # devices are written side by side: within a cycle the order of records is not told
        sorted((t, c.point, c.value, c.reason, str(c.outcome)) for t, c in x.commands())
        for x in (without_api, quiet)
    )
    assert mine == theirs


def test_plant_killed_all_points_are_bad_within_three_cycles(without_plant: Lived):
    reader, s = without_plant.reader, without_plant.scenario
    third_s = [t for t in cycle_times_s(s) if t >= PLANT_S][2]
    good = []
    for point in reader.points():
        samples = [
            x for t, x in without_plant.series(point, third_s, PLANT_BACK_S) if x.quality is Quality.GOOD
        ]
        good += [point] if samples else []
    assert len(reader.points()) > 20
    assert good == []
    assert "hold_safe" in [now for t, now in sources(without_plant) if PLANT_S <= t <= third_s]


def test_plant_killed_edge_misses_no_cycle_and_sees_it_again(without_plant: Lived):
    assert cycles_s(without_plant) == pytest.approx(cycle_times_s(without_plant.scenario), abs=1e-3)
    assert without_plant.run.supervisor.restarts["plant"] == 1
    for point in without_plant.reader.points():
        assert without_plant.series(point, PLANT_BACK_S + 60.0)[-1][1].quality is Quality.GOOD, point


def test_plant_killed_its_return_brings_no_burst_of_writes(without_plant: Lived):
    """Every actuator is written once a cycle at most, and no more in all than in cycles of a quiet plant."""
    lived = without_plant
    actuators = set(lived.scenario.site.authority.setpoints)
    beats = {c.watchdog_point for c in lived.scenario.site.connections}
    later = lived.commands(PLANT_S)
    twice = {k: n for k, n in Counter((t, c.point) for t, c in later).items() if n > 1}
    assert twice == {}
    assert {c.point for _, c in later} <= actuators | beats
    usual = max(Counter(t for t, _ in lived.commands(100.0, PLANT_S)).values())
    returned = Counter(t for t, c in later if PLANT_BACK_S <= t <= PLANT_BACK_S + 60.0)
    assert max(returned.values()) <= usual
    sent_while_gone = [
        c for t, c in lived.commands(PLANT_S, PLANT_BACK_S) if c.outcome is WriteOutcome.CONFIRMED
    ]
    assert sent_while_gone == []
