"""The catalogue: every fault by its name."""

from ems.errors import DataError
from ems.points import AssetKind
from ems.site import GridMode
from sim.faults import arrival, face, inputs, people, plant
from sim.faults.base import Entry, Layer
from sim.scenario import FaultKind

BESS, GENSET, PV, GRID, FEEDER = (
    AssetKind.BESS, AssetKind.GENSET, AssetKind.PV, AssetKind.GRID, AssetKind.FEEDER,
)  # fmt: skip
DEVICES = (BESS, GENSET, PV, GRID, FEEDER)
TIED = frozenset((GridMode.GRID_TIED,))
ALIVE = frozenset((GridMode.GRID_TIED, GridMode.ISLANDED))
NEVER: frozenset[GridMode] = frozenset()  # it must not change anything, or nothing here could see that
RARE = 3
UNSEEN = "what is true cannot be known to the edge from what it is told"

PLANT = (
    Entry(
        name="mains_lost", layer=Layer.PLANT, modes=TIED, shape=plant.mains_lost, lasts_s=(60.0, 1200.0),
        does="no voltage at the POI",
    ),
    Entry(
        name="mains_flicker", layer=Layer.PLANT, modes=TIED, shape=plant.mains_lost, lasts_s=(1.0, 2.0),
        does="no voltage at the POI for less than any confirmation time",
    ),
    Entry(
        name="brown_out", layer=Layer.PLANT, modes=TIED, shape=plant.brown_out, value=0.7, unit="pu",
        does="voltage at the POI too low to be used",
    ),
    Entry(
        name="over_voltage", layer=Layer.PLANT, modes=TIED, shape=plant.over_voltage, value=1.2, unit="pu",
        does="voltage at the POI too high to be used",
    ),
    Entry(
        name="bess_trips", modes=ALIVE, layer=Layer.PLANT, kinds=(BESS,),
        shape=plant.event(FaultKind.BESS_TRIPS),
        does="the converter trips, and restarts only after the fault has gone",
    ),
    Entry(
        name="genset_trips", layer=Layer.PLANT, kinds=(GENSET,), shape=plant.event(FaultKind.GENSET_TRIPS),
        does="opens at once and is locked out until somebody resets it",
    ),
    Entry(
        name="genset_start_fails", modes=ALIVE, weight=RARE, layer=Layer.PLANT, kinds=(GENSET,),
        shape=plant.event(FaultKind.GENSET_START_FAILS), lasts_s=(300.0, 1800.0),
        does="every crank fails",
    ),
    Entry(
        name="genset_stalls", modes=ALIVE, layer=Layer.PLANT, kinds=(GENSET,),
        shape=plant.event(FaultKind.GENSET_STALLS),
        lasts_s=(300.0, 1800.0), does="trips as soon as it is on load",
    ),
    Entry(
        name="genset_started_at_panel", modes=ALIVE, layer=Layer.PLANT, kinds=(GENSET,),
        shape=plant.event(FaultKind.GENSET_STARTED_AT_PANEL), lasts_s=(300.0, 1800.0),
        does="somebody starts it, or it starts by itself",
    ),
    Entry(
        name="genset_stopped_at_panel", modes=ALIVE, layer=Layer.PLANT, kinds=(GENSET,),
        shape=plant.event(FaultKind.GENSET_STOPPED_AT_PANEL), lasts_s=(300.0, 1800.0),
        does="somebody stops it at its panel, whatever is requested",
    ),
    Entry(
        name="bess_derated", modes=ALIVE, layer=Layer.PLANT, kinds=(BESS,), value=0.4, unit="ratio",
        shape=plant.event(FaultKind.BESS_DERATED, 0.4), does="its live limits fall to a share of themselves",
    ),
    Entry(
        name="bess_contactor_open", modes=ALIVE, layer=Layer.PLANT, kinds=(BESS,),
        shape=plant.event(FaultKind.BESS_DERATED, 0.0),
        does="its live limits are zero, its state is unchanged",
    ),
    Entry(
        name="pv_limit_lost", weight=RARE, layer=Layer.PLANT, kinds=(PV,),
        shape=plant.event(FaultKind.PV_LIMIT_LOST),
        modes=ALIVE, does="it gives what the sun gives, whatever limit its register holds",
    ),
    Entry(
        name="setpoint_ignored", modes=ALIVE, weight=RARE, layer=Layer.PLANT, kinds=(BESS, GENSET, PV),
        shape=plant.event(FaultKind.SETPOINT_IGNORED),
        does="registers take and read back what is written, the device goes on as before",
    ),
    Entry(
        name="low_load", layer=Layer.PLANT, shape=plant.load_step, value=-0.8, unit="ratio", modes=ALIVE,
        lasts_s=(300.0, 1800.0), does="the demand of all feeders falls to a fifth",
    ),
    Entry(
        name="pv_trips", modes=ALIVE, layer=Layer.PLANT, kinds=(PV,), shape=plant.event(FaultKind.PV_TRIPS),
        does="all inverters are off, and come back together",
    ),
    Entry(
        name="cloud", layer=Layer.PLANT, kinds=(PV,), shape=plant.cloud, value=0.8, unit="ratio",
        modes=ALIVE, does="PV potential falls by a share within twenty seconds, and comes back as fast",
    ),
    Entry(
        name="load_step", layer=Layer.PLANT, kinds=(FEEDER,), shape=plant.load_step, value=0.3, unit="ratio",
        modes=ALIVE, does="demand of a feeder changes by a share, at once",
    ),
    Entry(
        name="motor_start", layer=Layer.PLANT, kinds=(FEEDER,), shape=plant.motor_start, value=3.0,
        unit="ratio", modes=ALIVE, does="three times the demand for five seconds, once a minute",
    ),
    Entry(
        name="device_silent", layer=Layer.PLANT, kinds=DEVICES, shape=plant.event(FaultKind.DEVICE_SILENT),
        does="the device answers neither reads nor writes; what it controls runs on",
        blinds=(("I7", UNSEEN),),
    ),
    Entry(
        name="poi_silent", weight=RARE, layer=Layer.PLANT, kinds=(GRID,), modes=ALIVE,
        shape=plant.event(FaultKind.DEVICE_SILENT), lasts_s=(60.0, 600.0), blinds=(("I7", UNSEEN),),
        does="the meter at the POI and its breaker answer nothing",
    ),
)  # fmt: skip

FACE = (
    Entry(
        name="device_flapping", layer=Layer.FACE, kinds=DEVICES, tell=face.flapping, take=face.flapping_write,
        value=3.0, unit="s", lasts_s=(60.0, 600.0), does="three seconds silent, three seconds there",
    ),
    Entry(
        name="device_frozen", modes=ALIVE, weight=RARE, layer=Layer.FACE, kinds=DEVICES, tell=face.frozen,
        blinds=(("I7", UNSEEN), ("I11", UNSEEN)),
        does="all values stay as they were, with fresh stamps",
    ),
    Entry(
        name="value_offset", weight=RARE, modes=ALIVE, layer=Layer.FACE, kinds=DEVICES, tell=face.offset,
        point="p_kw", value=50.0,
        unit="of the point", blinds=(("I7", UNSEEN),), does="a value reads too high",
    ),
    Entry(
        name="value_scaled", weight=RARE, modes=ALIVE, layer=Layer.FACE, kinds=DEVICES, tell=face.scaled,
        point="p_kw", value=2.0,
        unit="ratio", blinds=(("I7", UNSEEN),), does="a value reads so many times the truth",
    ),
    Entry(
        name="ct_reversed", modes=ALIVE, layer=Layer.FACE, kinds=(BESS, GENSET, PV, GRID),
        tell=face.reversed_sign,
        blinds=(("I7", UNSEEN),), does="active and reactive power have the wrong sign",
    ),
    Entry(
        name="value_stuck", modes=ALIVE, layer=Layer.FACE, kinds=DEVICES, tell=face.stuck_at, point="p_kw",
        unit="of the point", blinds=(("I7", UNSEEN),), does="a value reads the same, whatever is true",
    ),
    Entry(
        name="value_not_available", modes=ALIVE, layer=Layer.FACE, kinds=DEVICES, tell=face.not_a_number,
        point="p_kw",
        does="a value reads as the register's own 'not available'",
    ),
    Entry(
        name="fuel_sensor_wrong", modes=ALIVE, weight=RARE, layer=Layer.FACE, kinds=(GENSET,),
        tell=face.stuck_at, point="fuel_l",
        value=-1.0, unit="L", does="the fuel level reads negative, or stands still",
    ),
    Entry(
        name="poi_contradiction", modes=ALIVE, layer=Layer.FACE, kinds=(GRID,), tell=face.contradiction,
        blinds=(("I7", UNSEEN),), does="the POI breaker reads closed and the mains voltage zero",
    ),
    Entry(
        name="genset_derated", modes=ALIVE, weight=RARE, layer=Layer.FACE, kinds=(GENSET,), tell=face.scaled,
        point="p_kw_max", value=0.5, unit="ratio", does="its controller lets it give half of its rating",
    ),
    Entry(
        name="pcs_derated", modes=ALIVE, layer=Layer.FACE, kinds=(BESS,), tell=face.scaled,
        point="p_pcs_kw_max", value=0.4, unit="ratio", does="its converter tells a share of its rating",
    ),
    Entry(
        name="soc_jump", layer=Layer.FACE, kinds=(BESS,), tell=face.offset, point="soc", value=0.4,
        unit="ratio", blinds=(("I7", UNSEEN),), does="the state of charge jumps",
    ),
    Entry(
        name="soc_drift", modes=ALIVE, drawn=0.5, layer=Layer.FACE, kinds=(BESS,), tell=face.drift,
        point="soc", value=0.01,
        unit="ratio per h", lasts_s=(600.0, 3600.0), blinds=(("I7", UNSEEN),),
        does="the state of charge wanders off",
    ),
    Entry(
        name="write_refused", layer=Layer.FACE, kinds=(BESS, GENSET, PV, FEEDER), take=face.refused,
        does="the device answers each write with an exception",
    ),
    Entry(
        name="write_lost", layer=Layer.FACE, kinds=(BESS, GENSET, PV, FEEDER), take=face.lost,
        does="no answer to a write, and it is not carried out",
    ),
    Entry(
        name="write_unanswered", layer=Layer.FACE, kinds=(BESS, GENSET, PV, FEEDER), take=face.unanswered,
        does="no answer to a write, yet it is carried out",
    ),
    Entry(
        name="foreign_writer", modes=ALIVE, layer=Layer.FACE, kinds=(BESS, PV), act=face.foreign_writer,
        unit="of the point", sets=True, does="another master writes to a setpoint every five seconds",
    ),
    Entry(
        name="foreign_starter", layer=Layer.FACE, kinds=(GENSET,), act=face.foreign_starter,
        value=1.0, does="another master asks for a start every five seconds",
    ),
    Entry(
        name="switched_to_local", layer=Layer.FACE, kinds=(BESS, GENSET, PV), tell=face.local,
        lasts_s=(30.0, 300.0), does="somebody turns the selector of the device to local",
    ),
    Entry(
        name="phase_lost", layer=Layer.FACE, kinds=(GRID,), tell=face.phase_lost, modes=TIED, value=0.33,
        unit="pu", blinds=(("I7", UNSEEN),), does="one phase at the POI reads a third of its voltage",
    ),
    Entry(
        name="reverse_power", weight=RARE, layer=Layer.FACE, kinds=(GENSET,), tell=face.reverse_power,
        point="p_kw",
        modes=frozenset((GridMode.ISLANDED,)), blinds=(("I7", UNSEEN),),
        does="a set on load reads as if the others drove it",
    ),
)  # fmt: skip

ARRIVAL = (
    Entry(
        name="reading_nan", modes=ALIVE, layer=Layer.ARRIVAL, kinds=DEVICES, arrive=arrival.not_a_number,
        point="p_kw",
        does="NaN arrives as a good value",
    ),
    Entry(
        name="reading_inf", layer=Layer.ARRIVAL, kinds=DEVICES, arrive=arrival.infinite, point="p_kw",
        does="infinity arrives as a good value",
    ),
    Entry(
        name="reading_huge", layer=Layer.ARRIVAL, kinds=DEVICES, arrive=arrival.huge, point="p_kw",
        does="1e38 arrives as a good value", blinds=(("I7", UNSEEN),),
    ),
    Entry(
        name="reading_bad", modes=ALIVE, layer=Layer.ARRIVAL, kinds=DEVICES, arrive=arrival.bad, point="p_kw",
        does="the device says that the value is not to be used",
    ),
    Entry(
        name="reading_stale", layer=Layer.ARRIVAL, kinds=DEVICES, arrive=arrival.not_renewed,
        blinds=(("I7", UNSEEN),), does="nothing new arrives from the device, writes pass",
    ),
    Entry(
        name="reading_latent", modes=ALIVE, drawn=4.0, layer=Layer.ARRIVAL, kinds=DEVICES,
        arrive=arrival.latent, value=2.0,
        unit="s", does="answers are renewed only every so often",
    ),
    Entry(
        name="reading_old_source", modes=NEVER, layer=Layer.ARRIVAL, kinds=DEVICES,
        arrive=arrival.old_source, value=60.0,
        unit="s", does="the device's own stamp is old, the answer fresh",
    ),
)  # fmt: skip

INPUTS = (
    Entry(
        name="planner_dead", layer=Layer.PLANS, planner_dead=True, modes=ALIVE,
        does="no process plans; the last plan stands until it expires",
    ),
    Entry(
        name="plan_missing", layer=Layer.PLANS, offer=inputs.no_plan, modes=ALIVE,
        does="the plan store is empty",
    ),
    Entry(
        name="plan_sign_flipped", layer=Layer.PLANS, offer=inputs.sign_flipped, modes=ALIVE,
        does="battery powers with the wrong sign, inside every limit",
    ),
    Entry(
        name="plan_of_yesterday", layer=Layer.PLANS, offer=inputs.yesterdays, modes=ALIVE,
        does="the plan of the day before, with a newer number",
    ),
    Entry(
        name="plan_of_another_site", layer=Layer.PLANS, offer=inputs.of_another_site, modes=ALIVE,
        does="a plan made for another plant",
    ),
    Entry(
        name="plan_nan", layer=Layer.PLANS, offer=inputs.not_numbers, modes=ALIVE,
        does="NaN for the battery's power",
    ),
    Entry(
        name="solver_hangs", layer=Layer.PLANS, found_until_s=inputs.before_it_hung, modes=ALIVE,
        lasts_s=(600.0, 1800.0), does="the planner lives and publishes nothing more",
    ),
    Entry(
        name="plan_late", layer=Layer.PLANS, found_until_s=inputs.late, modes=ALIVE, value=300.0, unit="s",
        does="each plan is found minutes after it was made",
    ),
    Entry(
        name="forecast_ten_times", modes=NEVER, layer=Layer.PLANS, foresee=inputs.foreseen_times,
        value=10.0, unit="ratio", lasts_s=(1800.0, 3600.0), does="the planner foresees ten times the load",
    ),
    Entry(
        name="forecast_zero", modes=NEVER, layer=Layer.PLANS, foresee=inputs.nothing_foreseen,
        lasts_s=(1800.0, 3600.0), does="the planner foresees no load at all",
    ),
    Entry(
        name="utc_step", layer=Layer.CLOCK, utc=inputs.utc_step, value=3600.0, unit="s",
        does="record time is off by an hour, a day, ...",
    ),
    Entry(
        name="utc_back", layer=Layer.CLOCK, utc=inputs.utc_step, value=-900.0, unit="s",
        does="record time is set back by a quarter of an hour",
    ),
    Entry(
        name="utc_1970", layer=Layer.CLOCK, utc=inputs.utc_1970,
        does="record time begins in 1970",
    ),
    Entry(
        name="utc_2038", layer=Layer.CLOCK, utc=inputs.utc_2038,
        does="record time jumps to the end of 32-bit clocks",
    ),
    Entry(
        name="requests", layer=Layer.PEOPLE, asks=people.requests, lasts_s=(60.0, 300.0),
        does="people of all roles, and strangers, ask for all kinds of things, valid and not",
    ),
    Entry(
        name="recorder_full", modes=NEVER, layer=Layer.RECORDER, lose=True,
        does="historian and audit take nothing: their queue is full",
    ),
    Entry(
        name="recorder_slow", modes=NEVER, layer=Layer.RECORDER, slow=True, value=0.15, unit="s",
        does="each intent and each outcome takes long to record, between a decision and its writes",
    ),
)  # fmt: skip

CATALOGUE = {e.name: e for e in (*PLANT, *FACE, *ARRIVAL, *INPUTS)}


def entry_of(kind: str) -> Entry:
    """An entry by its name.

    Raises
    ------
    DataError : there is none of this name.
    """
    entry = CATALOGUE.get(kind)
    if entry is None:
        raise DataError(f"no fault is called {kind!r}; there are: {', '.join(sorted(CATALOGUE))}")
    return entry
