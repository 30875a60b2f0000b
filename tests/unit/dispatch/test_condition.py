"""What the edge remembers between snapshots: demand of the month, gensets, last good values; the image."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from connectors.json_codec import dumps, loads
from dispatch.layout import HeartbeatIn, layout_of
from dispatch.observing.condition import observe
from dispatch.observing.deferrables import work_known
from dispatch.observing.process_image import ProcessImage
from dispatch.restart import remembered
from dispatch.state import GensetRequest, ObserverMemory
from ems.battery_terms import Warranty
from ems.condition import BessUse, PlantCondition
from ems.contracts import Contracts, DemandResponse, EnergyContract
from ems.cycle_life import CycleLife
from ems.deferrable import DailyWork, DeferrableParams
from ems.points import GensetState
from ems.site import GridMode
from ems.tariff import DemandCharge, LocalWindow
from ems.telemetry import Quality, Reading, Snapshot
from plant_models.plant import PlantInput, initial_state, step
from tests.builders import T0, bess, site

SITE = site()
LAYOUT = layout_of(SITE)
DEMAND = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
BASE = step(
    SITE,
    initial_state(SITE, 0.6),
    PlantInput(mains_present=True, demand_kw=DEMAND, pv_potential_kw={"pv1": 50.0}),
    1.0,
)[1].readings()


def snapshot(at: datetime, s: float, **changes: float | None) -> Snapshot:
    values = BASE | {k.replace("__", "."): v for k, v in changes.items()}
    return Snapshot(
        at=at,
        monotonic_s=s,
        readings={
            p: Reading(
                point=p,
                value=v,
                quality=Quality.GOOD if v is not None else Quality.COMM_FAILED,
                source_time=at,
                arrived_s=s,
            )
            for p, v in values.items()
        },
    )


def walk(start: datetime, steps: list[tuple[float, float]]) -> ObserverMemory:
    """(seconds, import kW during them) after a first look at `start`."""
    memory, s = ObserverMemory(), 0.0
    memory, _ = observe(LAYOUT, memory, snapshot(start, s), {}, 1.0)
    for seconds, kw in steps:
        s += seconds
        at = start + timedelta(seconds=s)
        memory, _ = observe(LAYOUT, memory, snapshot(at, s, grid1__p_kw=kw), {}, 1.0)
    return memory


def test_open_cycle_is_followed_and_outlives_a_restart():
    life = CycleLife(depth_ratio=(1.0,), cycles_count=(4_000.0,), replacement_cost=1e5)
    plant = replace(SITE, bess=(bess(cycle_life=life),))
    layout = layout_of(plant)

    def walk_soc(memory: ObserverMemory, path: tuple[float | None, ...], first_s: float) -> PlantCondition:
        seen: list[PlantCondition] = []
        for k, soc in enumerate(path):
            s = first_s + 60.0 * k
            at = T0 + timedelta(seconds=s)
            memory, now = observe(layout, memory, snapshot(at, s, bess1__soc=soc), {}, 1.0)
            seen.append(now.condition)
        return seen[-1]

    condition = walk_soc(ObserverMemory(), (0.6, 0.602, 0.3, 0.303, 0.3, None, 0.5), 0.0)
    assert condition.bess["bess1"].turns_soc == (0.602, 0.3, 0.5)
    restarted = remembered(LAYOUT, loads(PlantCondition, dumps(condition)), T0, 0.0)
    condition = walk_soc(restarted, (0.4, 0.55), 600.0)
    assert condition.bess["bess1"].turns_soc == (0.602, 0.3, 0.55)
    assert remembered(LAYOUT, None, T0, 0.0).turns_soc == {}
    _, seen = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0), {}, 1.0)
    assert seen.condition.bess["bess1"].turns_soc == ()  # nobody asks


def test_use_of_a_battery_is_counted_by_local_day_and_year_and_outlives_a_restart():
    plant = replace(SITE, bess=(bess(warranty=Warranty(day_kwh_max=900.0, mean_soc_max=0.8)),))
    layout = layout_of(plant)
    midnight = datetime(2027, 1, 1, tzinfo=layout.zone).astimezone(UTC)

    def use_at(memory: ObserverMemory, *hours: tuple[float, float | None]) -> tuple[ObserverMemory, BessUse]:
        use = BessUse()
        for hour, p_kw in hours:
            at = midnight + timedelta(hours=hour)
            memory, now = observe(
                layout, memory, snapshot(at, 3600.0 * hour + 1e6, bess1__p_kw=p_kw, bess1__soc=0.5), {}, 1.0
            )
            use = now.condition.bess["bess1"].use
        return memory, use

    day = ((-26.0, 100.0), (-25.0, 100.0), (-2.0, -50.0), (-1.0, 60.0), (-0.5, None))
    memory, use = use_at(ObserverMemory(), *day)
    assert (use.day_kwh, use.year_kwh, use.year_h, use.year_soc_h) == pytest.approx((60.0, 160.0, 25.0, 12.5))
    _, use = use_at(memory, (0.5, 40.0))
    assert (use.day_kwh, use.year_kwh, use.year_h) == pytest.approx((40.0, 40.0, 1.0))
    _, seen = observe(layout, memory, snapshot(midnight - timedelta(hours=0.4), 1e6, bess1__soc=0.5), {}, 1.0)
    known = loads(PlantCondition, dumps(seen.condition))
    kept = remembered(layout, known, midnight - timedelta(hours=0.2), 0.0).bess_use["bess1"]
    assert (kept.day_kwh, kept.year_kwh) == (seen.condition.bess["bess1"].use.day_kwh, 160.0)
    assert remembered(layout, known, midnight + timedelta(hours=1), 0.0).bess_use["bess1"] == BessUse()
    _, plain = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0), {}, 1.0)
    assert plain.condition.bess["bess1"].use == BessUse()


def test_demand_open_interval_adds_up():
    m = walk(T0, [(300.0, 120.0), (300.0, 60.0)])
    assert m.interval_import_kwh == pytest.approx(15.0)
    assert m.interval_elapsed_s == pytest.approx(600.0)
    assert m.peak_import_kw == 0.0


def test_demand_closed_interval_becomes_the_peak_and_export_is_no_credit():
    m = walk(T0, [(450.0, 200.0), (450.0, -100.0)])
    assert m.peak_import_kw == pytest.approx(100.0)
    assert m.interval_import_kwh == 0.0


def test_demand_one_long_step_is_split_over_the_intervals():
    m = walk(T0 + timedelta(minutes=10), [(1800.0, 90.0)])
    assert m.peak_import_kw == pytest.approx(90.0)
    assert m.interval_elapsed_s == pytest.approx(600.0)
    assert m.interval_import_kwh == pytest.approx(15.0)


def test_demand_peak_starts_anew_with_the_local_month():
    midnight = datetime.fromisoformat("2026-04-01T00:00+03:00")  # Nairobi
    m = walk(midnight - timedelta(minutes=30), [(900.0, 300.0), (900.0, 280.0)])
    assert m.peak_import_kw == 0.0
    m = walk(midnight - timedelta(minutes=30), [(900.0, 300.0), (900.0, 280.0), (900.0, 40.0)])
    assert m.peak_import_kw == pytest.approx(40.0)


def test_demand_of_further_charges_and_energy_of_the_month_are_counted():
    """100 kW before 18:00, 80 kW after, 60 kvar throughout: 80 kW on peak, 116.6 kVA."""
    window = LocalWindow(
        start_h=18.0, end_h=21.0, weekdays=frozenset(range(7)), months=frozenset(range(1, 13))
    )
    charges = (
        DemandCharge(name="on peak", per_kw=1.0, windows=(window,)),
        DemandCharge(name="kVA", per_kw=1.0, apparent=True),
    )
    layout = layout_of(replace(SITE, tariff=replace(SITE.tariff, demand_charges=charges)))
    start = datetime.fromisoformat("2026-03-18T17:45+03:00")
    memory, _ = observe(layout, ObserverMemory(), snapshot(start, 0.0), {}, 1.0)
    seen = snapshot(start + timedelta(minutes=15), 900.0, grid1__p_kw=100.0, grid1__q_kvar=60.0)
    memory, _ = observe(layout, memory, seen, {}, 1.0)
    seen = snapshot(start + timedelta(minutes=30), 1800.0, grid1__p_kw=80.0, grid1__q_kvar=60.0)
    memory, observed = observe(layout, memory, seen, {}, 1.0)
    assert observed.condition.charge_peaks_kw == pytest.approx({"on peak": 80.0, "kVA": 13600.0**0.5})
    assert observed.condition.month_import_kwh == pytest.approx(45.0)
    assert observed.condition.month_import_kvarh == pytest.approx(30.0)
    assert observed.condition.interval_import_kvarh == 0.0


def test_demand_further_charges_start_anew_with_the_local_month():
    charge = DemandCharge(name="all day", per_kw=1.0)
    layout = layout_of(replace(SITE, tariff=replace(SITE.tariff, demand_charges=(charge,))))
    midnight = datetime.fromisoformat("2026-04-01T00:00+03:00")
    memory, _ = observe(layout, ObserverMemory(), snapshot(midnight - timedelta(minutes=15), 0.0), {}, 1.0)
    memory, _ = observe(layout, memory, snapshot(midnight, 900.0, grid1__p_kw=200.0), {}, 1.0)
    assert (memory.charge_peaks_kw, memory.month_import_kwh, memory.month_import_kvarh) == ({}, 0.0, 0.0)
    later = snapshot(midnight + timedelta(minutes=15), 1800.0, grid1__p_kw=40.0)
    memory, _ = observe(layout, memory, later, {}, 1.0)
    assert memory.charge_peaks_kw == pytest.approx({"all day": 40.0})
    assert memory.month_import_kwh == pytest.approx(10.0)


def test_demand_wall_clock_that_jumps_adds_only_control_time():
    memory, _ = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0), {}, 1.0)
    jumped = snapshot(T0 + timedelta(hours=5), 10.0, grid1__p_kw=360.0)
    memory, _ = observe(LAYOUT, memory, jumped, {}, 1.0)
    assert memory.peak_import_kw == pytest.approx(4.0)  # 360 kW for 10 s, not for five hours
    assert memory.interval_import_kwh == 0.0
    back = snapshot(T0, 20.0, grid1__p_kw=360.0)
    after, _ = observe(LAYOUT, memory, back, {}, 1.0)
    assert after.interval_import_kwh == memory.interval_import_kwh


def genset_walk(states: list[GensetState], start: datetime = T0, dt_s: float = 10.0):
    memory, seen = ObserverMemory(), None
    requests = {"gen1": GensetRequest(run=True, since_s=0.0)}
    for i, state in enumerate(states):
        at = start + timedelta(seconds=i * dt_s)
        shot = snapshot(at, i * dt_s, gen1__state=float(state.code))
        memory, seen = observe(LAYOUT, memory, shot, requests, dt_s)
    assert seen is not None
    return memory, seen.condition.gensets["gen1"]


def test_genset_sequence_counts_start_and_age():
    g = GensetState
    _, c = genset_walk([g.STOPPED, g.CRANKING, g.WARM_UP, g.SYNCHRONISING, g.RUNNING, g.RUNNING])
    assert c.on_load
    assert c.starts_today == 1
    assert c.age_s == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("states", "ready_in_s"),
    [
        ([GensetState.STOPPED], 40.0),
        ([GensetState.STOPPED, GensetState.CRANKING], 40.0),
        ([GensetState.STOPPED, GensetState.CRANKING, GensetState.CRANKING], 30.0),
        ([GensetState.STOPPED, GensetState.WARM_UP], 30.0),
        ([GensetState.STOPPED, GensetState.SYNCHRONISING], 10.0),
    ],
)
def test_genset_that_starts_says_when_it_is_ready(states, ready_in_s):
    _, c = genset_walk(states)
    assert c.starting
    assert c.ready_in_s == pytest.approx(ready_in_s)


def test_genset_locked_out_or_silent_is_not_available():
    assert not genset_walk([GensetState.STOPPED, GensetState.LOCKED_OUT])[1].available
    _, seen = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0, gen1__state=None), {}, 1.0)
    assert not seen.condition.gensets["gen1"].available


def test_starts_today_begin_anew_at_local_midnight():
    g = GensetState
    before = datetime.fromisoformat("2026-03-02T23:59:50+03:00")
    _, c = genset_walk([g.STOPPED, g.RUNNING], start=before, dt_s=5.0)
    assert c.starts_today == 1
    _, c = genset_walk([g.STOPPED, g.RUNNING, g.RUNNING], start=before, dt_s=5.0)
    assert c.starts_today == 0


def test_missing_reading_is_named_and_substituted_never_invented():
    memory, _ = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0), {}, 1.0)
    shot = snapshot(T0 + timedelta(seconds=1), 1.0, essential__p_kw=None, bess1__soc=None)
    _, seen = observe(LAYOUT, memory, shot, {}, 1.0)
    assert "essential.p_kw" in seen.substituted
    assert not seen.power.measured
    assert seen.condition.feeder_kw["essential"] == pytest.approx(100.0)
    assert not seen.condition.bess["bess1"].available
    assert seen.condition.bess["bess1"].p_discharge_kw_max == 0.0


def test_lost_meter_is_missing_not_zero():
    _, seen = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0, grid1__p_kw=None), {}, 1.0)
    assert seen.condition.grid_p_kw is None
    assert not seen.meter_ok


@pytest.mark.parametrize("value", [1.5, -1.0, 9.0, None])
def test_state_that_is_none_of_the_known_ones_is_unknown(value):
    _, seen = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0, bess1__state=value), {}, 1.0)
    assert seen.bess_state["bess1"] is None
    assert seen.condition.grid_mode is GridMode.GRID_TIED  # breaker and voltage still agree


def test_demand_of_a_feeder_survives_the_moment_it_drops_out():
    memory, _ = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0), {}, 1.0)
    dropped = snapshot(T0 + timedelta(seconds=1), 1.0, essential__p_kw=0.0)
    memory, seen = observe(LAYOUT, memory, dropped, {}, 1.0)
    assert seen.demand_kw["essential"] > 95.0
    opened = snapshot(T0 + timedelta(seconds=2), 2.0, essential__p_kw=0.0, essential__closed=0.0)
    _, seen = observe(LAYOUT, memory, opened, {}, 1.0)
    assert seen.demand_kw["essential"] > 95.0
    assert seen.condition.feeder_kw["essential"] == 0.0


# --- process image ---------------------------------------------------------------------------------------


def reading(value: float | None, arrived_s: float = 0.0, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(point="a.p_kw", value=value, quality=quality, source_time=T0, arrived_s=arrived_s)


@pytest.mark.parametrize(
    ("given", "now_s", "quality"),
    [
        (reading(5.0), 2.9, Quality.GOOD),
        (reading(5.0), 3.1, Quality.STALE),
        (reading(5.0, arrived_s=10.0), 3.0, Quality.STALE),  # from the future of our own clock
        (reading(math.nan), 0.0, Quality.NOT_FINITE),
        (reading(-math.inf), 0.0, Quality.NOT_FINITE),
        (reading(101.0), 0.0, Quality.OUT_OF_RANGE),
        (reading(None, quality=Quality.COMM_FAILED), 99.0, Quality.COMM_FAILED),
    ],
)
def test_latch_only_fresh_finite_plausible_values_are_good(given, now_s, quality):
    image = ProcessImage({"a.p_kw": 3.0}, {"a.p_kw": (-100.0, 100.0)})
    image.update([given])
    shot = image.latch(T0, now_s)
    assert shot.readings["a.p_kw"].quality is quality
    assert (shot.value("a.p_kw") is not None) == (quality is Quality.GOOD)


@pytest.mark.parametrize("value", [1.8e308, -1e31, 10**400])
def test_image_value_beyond_all_physics_is_no_number_for_a_tick(value):
    """Two readings of 1e308 kW overflowed the sum of a plausibility check, and the tick failed with it."""
    image = ProcessImage({}, {})
    image.update([reading(value)])
    assert image.latch(T0, 0.0).readings["a.p_kw"].quality is Quality.NOT_FINITE
    image.update([reading(1e30)])
    assert image.latch(T0, 0.0).value("a.p_kw") == 1e30


def test_update_older_arrival_never_replaces_a_newer_one():
    image = ProcessImage({}, {})
    image.update([reading(2.0, arrived_s=2.0), reading(1.0, arrived_s=1.0)])
    assert image.latch(T0, 2.0).value("a.p_kw") == 2.0


def test_update_bad_reading_replaces_a_good_one():
    image = ProcessImage({}, {})
    image.update([reading(2.0, arrived_s=1.0)])
    image.update([replace(reading(None, arrived_s=2.0), quality=Quality.COMM_FAILED)])
    assert image.latch(T0, 2.0).value("a.p_kw") is None


def test_voltage_and_reactive_power_of_the_interconnection_reach_the_condition():
    _, seen = observe(
        LAYOUT, ObserverMemory(), snapshot(T0, 0.0, grid1__v_pu=0.97, grid1__q_kvar=-12.0), {}, 1.0
    )
    assert (seen.condition.grid_v_pu, seen.condition.grid_q_kvar) == (0.97, -12.0)
    _, blind = observe(
        LAYOUT, ObserverMemory(), snapshot(T0, 0.0, grid1__v_pu=None, grid1__q_kvar=None), {}, 1.0
    )
    assert (blind.condition.grid_v_pu, blind.condition.grid_q_kvar) == (None, None)


def test_caps_that_are_told_are_for_authority_to_say():
    """A cap that is read here as well would hold beside what authority says is lifted or lost."""
    _, seen = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0, grid1__p_import_kw_max=-5.0), {}, 1.0)
    assert (seen.condition.import_cap_kw, seen.condition.export_cap_kw) == (None, None)


# --- deferrable work --------------------------------------------------------------------------------------

PUMPED = replace(
    SITE,
    deferrables=(
        DeferrableParams(
            id="pump", feeder="deferrable", p_kw=40.0, p_min_kw=40.0, unfinished_per_kwh=1.0,
            daily=(DailyWork(start_h=3.0, end_h=6.0, weekdays=frozenset(range(8)), energy_kwh=60.0),),
            alone_on_feeder=True,
        ),
    ),
)  # fmt: skip


def test_deferrable_work_is_counted_on_its_feeder_from_the_opening_of_its_window_on():
    """03:00 in Nairobi is T0: what the feeder takes before is no work, a stop and a start are two starts."""
    layout, memory, s = layout_of(PUMPED), ObserverMemory(), -600.0
    for seconds, kw in [(0, 40.0), (600, 40.0), (1800, 40.0), (600, 0.0), (900, 40.0)]:
        s += seconds
        memory, _ = observe(
            layout, memory, snapshot(T0 + timedelta(seconds=s), s, deferrable__p_kw=kw), {}, 1.0
        )
    _, seen = observe(layout, memory, snapshot(T0 + timedelta(seconds=s), s, deferrable__p_kw=40.0), {}, 1.0)
    now = seen.condition.deferrables["pump"]
    assert now.window_start == T0
    assert now.done_kwh == pytest.approx(40.0 * (1800 + 900) / 3600.0)
    assert now.on
    assert now.age_s == 0.0
    assert now.starts == 1  # it ran already when the window opened
    _, later = observe(
        layout, memory, snapshot(T0 + timedelta(hours=3), 10800.0, deferrable__p_kw=0.0), {}, 1.0
    )
    assert later.condition.deferrables["pump"].window_start is None
    assert later.condition.deferrables["pump"].done_kwh == 0.0


def test_deferrable_work_goes_on_after_a_restart_of_the_edge():
    layout, memory = layout_of(PUMPED), ObserverMemory()
    memory, seen = observe(layout, memory, snapshot(T0, 0.0, deferrable__p_kw=40.0), {}, 1.0)
    at = T0 + timedelta(hours=1)
    memory, seen = observe(layout, memory, snapshot(at, 3600.0, deferrable__p_kw=40.0), {}, 1.0)
    again = ObserverMemory(work=work_known(seen.condition, 50.0))
    minute = at + timedelta(seconds=60)
    _, first = observe(layout, again, snapshot(minute, 50.0, deferrable__p_kw=40.0), {}, 1.0)
    assert first.condition.deferrables["pump"].done_kwh == pytest.approx(40.0)
    assert first.condition.deferrables["pump"].starts == seen.condition.deferrables["pump"].starts


def test_losses_of_the_mains_are_remembered_for_two_days():
    """Tied, lost for two minutes, tied again: one loss, and good voltage counted from its return."""
    gone = {"grid1__v_pu": 0.0, "grid1__breaker_closed": 0.0, "bess1__state": 2.0}
    memory, s = ObserverMemory(), 0.0
    memory, seen = observe(LAYOUT, memory, snapshot(T0, s), {}, 60.0)
    for changes in (gone, gone, {}, {}):
        s += 60.0
        memory, seen = observe(LAYOUT, memory, snapshot(T0 + timedelta(seconds=s), s, **changes), {}, 60.0)
    assert seen.condition.grid_mode is GridMode.GRID_TIED
    assert len(seen.condition.grid_losses) == 1
    assert seen.condition.mains_good_s == pytest.approx(60.0)
    later = T0 + timedelta(days=3)
    _, seen = observe(LAYOUT, memory, snapshot(later, s + 3 * 86400.0), {}, 60.0)
    assert seen.condition.grid_losses == ()


def test_bus_that_was_dead_for_a_moment_is_a_loss_and_a_silent_set_is_off():
    """Nobody reads the mains then, and the battery takes over in the next cycle: the mode was never black."""
    silent = {"gen1__state": None, "gen1__p_kw": None}
    memory, _ = observe(
        LAYOUT, ObserverMemory(), snapshot(T0, 0.0, gen1__state=4.0, gen1__p_kw=200.0), {}, 1.0
    )
    at = T0 + timedelta(seconds=1.0)
    dead = {"grid1__v_pu": None, "bus__alive": 0.0, **silent}
    memory, seen = observe(LAYOUT, memory, snapshot(at, 1.0, **dead), {}, 1.0)
    assert seen.condition.grid_mode is GridMode.UNKNOWN
    assert len(seen.condition.grid_losses) == 1
    alive = {"grid1__v_pu": None, "grid1__breaker_closed": 0.0, "bess1__state": 2.0, **silent}
    _, seen = observe(LAYOUT, memory, snapshot(at + timedelta(seconds=1.0), 2.0, **alive), {}, 1.0)
    assert seen.condition.grid_mode is GridMode.ISLANDED
    assert not seen.condition.gensets["gen1"].on_load


@pytest.mark.parametrize(("v_pu", "losses"), [(0.0, 1), (1.0, 0)])
def test_losses_count_from_an_unknown_mode_where_the_mains_are_not_usable(v_pu: float, losses: int):
    """A cycle in the transfer is an unknown mode; so is a contact that opens on good mains, and no loss."""
    memory, seen = observe(LAYOUT, ObserverMemory(), snapshot(T0, 0.0), {}, 1.0)
    assert seen.condition.grid_mode is GridMode.GRID_TIED
    alive = {} if v_pu > 0.0 else {"bus__alive": 0.0}
    odd = {"grid1__v_pu": v_pu, "grid1__breaker_closed": 0.0, **alive}
    for s in (1.0, 2.0, 3.0):
        memory, seen = observe(LAYOUT, memory, snapshot(T0 + timedelta(seconds=s), s, **odd), {}, 1.0)
        if seen.condition.grid_mode is not GridMode.GRID_TIED:
            break
    assert seen.condition.grid_mode is GridMode.UNKNOWN
    assert len(seen.condition.grid_losses) == losses


# --- limits on shedding ------------------------------------------------------------------------------------


def test_sheddings_are_counted_by_local_day():
    """23:00 in Nairobi: an hour open, closed, open over midnight; the count of the new day starts at none."""
    feeders = tuple(replace(f, sheds_per_day_max=3) if f.id == "essential" else f for f in SITE.feeders)
    layout, memory = layout_of(replace(SITE, feeders=feeders)), ObserverMemory()
    begin, found = T0 - timedelta(hours=4), []
    for minutes, closed in [(0, 1.0), (10, 0.0), (40, 1.0), (50, 0.0), (60, 0.0), (80, 0.0), (90, 1.0)]:
        at = begin + timedelta(minutes=minutes)
        memory, seen = observe(
            layout, memory, snapshot(at, 60.0 * minutes, essential__closed=closed), {}, 1.0
        )
        found.append(seen.condition.feeder_use["essential"])
    assert [x.sheds for x in found] == [0, 1, 1, 2, 0, 0, 0]
    assert [x.open_s / 60.0 for x in found] == [0, 0, 30, 30, 10, 30, 40]
    assert [x.stretch_s / 60.0 for x in found] == [0, 0, 0, 0, 10, 30, 0]


# --- contracts ---------------------------------------------------------------------------------------------


def test_money_of_the_month_and_meters_of_the_contract_are_counted():
    """20:59 UTC is the last minute of February in Nairobi; an event meters from its start on."""
    event = DemandResponse(
        id="e", start=T0, end=T0 + timedelta(hours=1), baseline_kw=90.0, committed_kw=50.0, per_kw=1.0
    )
    ppa = EnergyContract(name="ppa", source="pv1", per_kwh=0.1)
    tariff = replace(
        SITE.tariff, minimum_per_month=100.0, contracts=Contracts(events=(event,), energy=(ppa,))
    )
    layout, memory = layout_of(replace(SITE, tariff=tariff)), ObserverMemory()
    begin, found = datetime(2026, 2, 28, 20, 50, tzinfo=UTC), []
    times = [0.0, 600.0, 1200.0, (T0 - begin).total_seconds(), (T0 - begin).total_seconds() + 1800.0]
    for s in times:
        now = snapshot(begin + timedelta(seconds=s), s, grid1__p_kw=60.0, pv1__p_kw=30.0)
        memory, seen = observe(layout, memory, now, {}, 1.0)
        found.append(seen.condition.meters)
    assert [m.month for m in found] == ["2026-02", *["2026-03"] * 4]
    assert found[1].energy_cost == pytest.approx(10.0 * 0.09)  # midnight in Nairobi, at the night's price
    assert found[2].energy_cost == pytest.approx(20.0 * 0.09)
    assert set(found[2].metered_kwh) == {"contract ppa 2026-03"}
    assert found[4].metered_kwh["event e"] == pytest.approx(30.0 + found[3].metered_kwh["event e"])
    assert found[2].metered_kwh["contract ppa 2026-03"] == pytest.approx(10.0)


def test_process_image_heartbeat_stands_still_makes_its_device_stale_and_no_other():
    beat = HeartbeatIn(device="d", point="a.hb", still_s_max=3.0, points=("a.p_kw",))
    image = ProcessImage({}, {}, [beat])
    seen = []
    for t, value in enumerate([1.0, 2.0, None, 2.0, 2.0, 2.0, 3.0]):
        quality = Quality.GOOD if value is not None else Quality.COMM_FAILED
        image.update(
            Reading(point=p, value=v, quality=q, source_time=T0, arrived_s=float(t))
            for p, v, q in (
                ("a.hb", value, quality),
                ("a.p_kw", 5.0, Quality.GOOD),
                ("b.p_kw", 5.0, Quality.GOOD),
            )
        )
        snapshot = image.latch(T0, float(t))
        assert snapshot.value("b.p_kw") == 5.0
        seen.append(snapshot.readings["a.p_kw"].quality)
    assert seen == [Quality.GOOD] * 4 + [Quality.STALE] * 2 + [Quality.GOOD]


@pytest.mark.parametrize("value", ["full", [], object()])
def test_image_value_that_is_no_number_is_bad_and_breaks_nothing(value):
    image = ProcessImage({}, {})
    image.update(
        [Reading(point="bess1.soc", value=value, quality=Quality.GOOD, source_time=T0, arrived_s=0.0)]
    )
    reading = image.latch(T0, 0.0).readings["bess1.soc"]
    assert (reading.value, reading.quality) == (None, Quality.DEVICE_BAD)
