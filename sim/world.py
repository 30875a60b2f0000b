"""The plant as it is: physics, devices' own watchdogs, faults, noise, counters. It knows no controller."""

import io
import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from ems.kpi import EnergyCounters
from ems.points import TRIP_REQUEST, AssetKind, GensetState, is_binary, split_point_id
from ems.reactive import ReactiveControl
from ems.site import Site
from plant_models.grid import usable
from plant_models.phases import phase_readings
from plant_models.plant import PlantFlows, PlantInput, PlantState, initial_state, step
from sim.meter import Meter
from sim.noise import NoiseTable, chance
from sim.scenario import FaultKind, Scenario
from sim.timeline import Cell, Timeline, Window, WindowSet
from sim.trace import PlantRows, Trace, TraceWriter, last_columns, plant_columns
from sim.watchdog import Setpoints, told_silence
from sim.world_faults import acted_on, plant_faults
from sim.world_reactive import at_rest, by_parameter, converter_kvar
from sim.writes import WriteVerdict

EPSILON_S = 1e-6
BEATS = 65536  # a device's own heartbeat starts again here
IN_SEQUENCE = (GensetState.CRANKING, GensetState.WARM_UP, GensetState.SYNCHRONISING)
COMMAND_OUT_OF_BOUNDS = "command_out_of_bounds"  # a write outside the OT authority; the device refuses it


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldOptions:
    """How finely a world moves and what it records.

    Parameters
    ----------
    fine_step_s : physics step around transitions [s].
    fine_for_s : how long after a transition it is kept [s].
    island_step_s, tied_step_s : longest physics steps when nothing happens [s].
    coarse_s : means of the truth over such cells outside `fine`; None: as the truth series are [s].
    fine : windows in which the truth keeps its own resolution, and traces keep `fine_step_s` [s after start].
    trace_s : length of a trace row outside `fine` [s]; None records no trace.
    noise_ratio : standard deviation of measured powers, of the asset's rating.
    refuel_below_ratio : a tank below this share of its volume is filled up; None: never. Tanks with
        deliveries in the site file get those and nothing else.
    reset_s : a locked-out genset is acknowledged on site after this; None: never [s].
    """

    fine_step_s: float = 1.0
    fine_for_s: float = 60.0
    island_step_s: float = 60.0
    tied_step_s: float = 900.0
    coarse_s: float | None = None
    fine: tuple[Window, ...] = ()
    trace_s: float | None = 60.0
    noise_ratio: float = 0.002
    refuel_below_ratio: float | None = 0.25
    reset_s: float | None = 3600.0


class World:
    """One plant on its way through a scenario. Times are seconds after `scenario.start`.

    `state`: how the plant begins; at rest and tied to the grid where it is not given.
    """

    def __init__(
        self, scenario: Scenario, *, options: WorldOptions | None = None, state: PlantState | None = None
    ) -> None:
        self.scenario = scenario
        self.options = WorldOptions() if options is None else options
        site = scenario.site
        self.site: Site = site
        self.timeline = Timeline(scenario, coarse_s=self.options.coarse_s, fine=self.options.fine)
        self.now_s = 0.0
        self.steps = 0
        self.state: PlantState = initial_state(site, scenario.soc_start) if state is None else state
        self.setpoints = Setpoints(site)
        self.heartbeats: dict[str, float] = {
            c.watchdog_point: 0.0 for c in site.connections if c.watchdog_point is not None
        }
        self._beating = tuple(c.heartbeat_in for c in site.connections if c.heartbeat_in is not None)
        self._told_silence = told_silence(site)
        self._at_rest = setpoints_at_rest(site) | whole_limits(site)
        self.meter = Meter(
            site=site,
            t0_epoch_s=scenario.start.timestamp(),
            stored_start_kwh={b: unit.stored_kwh for b, unit in self.state.bess.items()},
            settled=scenario.settled,
            export_per_kwh=scenario.export_per_kwh,
        )
        self._noise = NoiseTable(site, scenario.seed, self.options.noise_ratio)
        self._rows = PlantRows(site)
        self._fine = WindowSet(self.options.fine)
        columns = plant_columns(site)
        self._writer = TraceWriter(
            columns, last_columns(columns), bin_s_at=self._bin_s, assets=self._rows.assets
        )
        self._midnights_s = local_midnights_s(scenario)
        self._deliveries = [(scenario.offset_s(d.at), d.asset, d.fuel_l) for d in site.deliveries]
        self._supplied_s = 0.0  # deliveries until then are in the tanks
        self._asked_s = 0.0  # when the present inputs were put together
        self._fine_until_s = 0.0
        self._locked_since_s: dict[str, float] = {}
        self._cell_index = 0
        self._cell: Cell = self.timeline.cell(0)
        self._kinds = site.asset_kinds()
        self._acting: dict[str, float] = {}  # setpoints as the devices act on them
        self._by_parameter: dict[str, ReactiveControl] = {}
        self._inputs: PlantInput | None = None
        self._flows: PlantFlows = step(site, self.state, self._plant_input(), self.options.fine_step_s)[1]
        self._by_parameter = by_parameter(site)
        self._readings: Mapping[str, float] | None = None

    # ---- time ---------------------------------------------------------------------------------

    def advance(self, to_s: float, *, carry: bool = False) -> None:
        """Move physics to `to_s`; never beyond the end of the scenario.

        Parameters
        ----------
        to_s : seconds after the start of the run [s].
        carry : setpoints written just now count as refreshed all the way (for control steps that are longer
            than the devices' time-outs and stand for a controller that refreshes every second).
        """
        to_s = min(to_s, self.scenario.duration_s)
        if carry:
            self.setpoints.carry(self.now_s, to_s)
        while self.now_s < to_s - EPSILON_S:
            self._enter_cell()
            until_s = min(to_s, self._cell.end_s, max(self.setpoints.next_expiry_s(), self.now_s + EPSILON_S))
            self._step(min(until_s - self.now_s, self._step_s_max()))
            if self.setpoints.next_expiry_s() <= self.now_s + EPSILON_S:
                self._expire()

    def finish(self) -> None:
        """Close the open billing interval, day and trace row, at the end of a run."""
        self.meter.close_interval()
        if len(self.meter.day_readings) < len(self._midnights_s) + 1:
            self.meter.close_day()
        self._writer.close()

    def _enter_cell(self) -> None:
        if self.now_s < self._cell.end_s - EPSILON_S:
            return
        before = self._cell
        self._cell_index = self.timeline.index_at(self.now_s)
        self._cell = self.timeline.cell(self._cell_index)
        self._inputs = None
        if self._mains(before) != self._mains(self._cell) or before.faults != self._cell.faults:
            self._disturbed()

    def _mains(self, cell: Cell) -> tuple[bool, bool]:
        """Whether they are usable, and whether the plant leaves them if not."""
        good = usable(self.site.grid, cell.mains_v_pu > 0.0, cell.mains_v_pu, cell.mains_f_hz)
        return good, cell.poi_relay

    def _step(self, dt_s: float) -> None:
        stale = self._inputs is None or self._by_parameter
        inputs = self._plant_input() if stale or self._inputs is None else self._inputs
        self._inputs = inputs
        before = self.state
        self.state, self._flows = step(self.site, before, inputs, dt_s)
        self.meter.add(self.now_s, self._flows, self._cell.import_per_kwh)
        if self.options.trace_s is not None:
            cell = self._cell
            row = self._rows.row(self._flows, cell.mains_v_pu, cell.import_per_kwh)
            self._writer.add(self.now_s, dt_s, row)
        self.now_s += dt_s
        self.steps += 1
        self._readings = None
        days = len(self.meter.day_readings)
        if days < len(self._midnights_s) and self.now_s >= self._midnights_s[days] - EPSILON_S:
            self.meter.close_day()
        self._after(before)

    def _after(self, before: PlantState) -> None:
        """Notice transitions, locked-out sets and empty tanks."""
        after = self.state
        if after.forming != before.forming or after.grid_closed != before.grid_closed:
            self._disturbed()
        for g, unit in after.gensets.items():
            if unit.phase is not before.gensets[g].phase:
                self._disturbed()
                self._inputs = None if self._cell.faults else self._inputs  # a stalling set trips on load
                if unit.phase is GensetState.LOCKED_OUT:
                    self._locked_since_s[g] = self.now_s
                else:
                    self._locked_since_s.pop(g, None)
        if self._inputs is not None and self._inputs.refuel_l:
            self._supplied_s = self._asked_s
        if self._inputs is not None and (self._inputs.refuel_l or self._inputs.faults.genset_reset):
            self._inputs = None
        tried = any(self._flows.genset_starts.values()) or any(self._flows.genset_failed_starts.values())
        if tried or self._tanks_to_fill() or self._sets_to_reset():
            self._inputs = None

    def _disturbed(self) -> None:
        self._fine_until_s = self.now_s + self.options.fine_for_s

    def commands(self) -> dict[str, float]:
        """What gensets and breakers are asked for, by point."""
        return {p: x for p, x in self.setpoints.values.items() if is_binary(split_point_id(p)[1])}

    @property
    def busy(self) -> bool:
        """Whether something is on its way: a genset, a transfer, a reconnection, a dead bus."""
        s = self.state
        return (
            s.forming is None
            or s.transfer_left_s > 0.0
            or s.mains_good_s > 0.0
            or any(g.phase in IN_SEQUENCE or g.loading or g.unloading for g in s.gensets.values())
        )

    def _step_s_max(self) -> float:
        o = self.options
        if self.now_s < self._fine_until_s - EPSILON_S or self.busy:
            return o.fine_step_s
        return o.tied_step_s if self.state.grid_closed else o.island_step_s

    # ---- inputs -------------------------------------------------------------------------------

    def _plant_input(self) -> PlantInput:
        self._asked_s = self.now_s
        cell, kinds = self._cell, self._kinds
        self._acting = acted_on(self.setpoints.values, self._acting, cell)
        by_name: dict[tuple[AssetKind, str], dict[str, float]] = {}
        for point, value in self._acting.items():
            asset, name = split_point_id(point)
            by_name.setdefault((kinds[asset], name), {})[asset] = value
        trip = by_name.get((AssetKind.PV, TRIP_REQUEST), {})
        run = by_name.get((AssetKind.GENSET, "run_request"), {})
        close = by_name.get((AssetKind.FEEDER, "close_request"), {})
        grid = self.site.grid.id
        opened = by_name.get((AssetKind.GRID, "open_request"), {})
        permit = by_name.get((AssetKind.GRID, "close_permit"), {})
        return PlantInput(
            mains_present=cell.mains_v_pu > 0.0,
            mains_v_pu=cell.mains_v_pu,
            mains_f_hz=cell.mains_f_hz,
            poi_relay=cell.poi_relay,
            demand_kw=cell.demand_kw,
            pv_potential_kw=cell.pv_kw,
            bess_p_set_kw=by_name.get((AssetKind.BESS, "p_set_kw"), {}),
            genset_run_request={g: v >= 0.5 for g, v in run.items()},
            genset_p_set_kw=by_name.get((AssetKind.GENSET, "p_set_kw"), {}),
            pv_limit_kw=by_name.get((AssetKind.PV, "p_limit_kw"), {}),
            q_set_kvar={
                **by_name.get((AssetKind.BESS, "q_set_kvar"), {}),
                **by_name.get((AssetKind.PV, "q_set_kvar"), {}),
                **(
                    converter_kvar(self._by_parameter, self._acting, self._flows)
                    if self._by_parameter
                    else {}
                ),
            },
            pv_trip_request=frozenset(p for p, v in trip.items() if v >= 0.5),
            feeder_close={f: v >= 0.5 for f, v in close.items()},
            poi_open_request=opened.get(grid, 0.0) >= 0.5,
            poi_close_permit=permit.get(grid, 1.0) >= 0.5,
            refuel_l=self._tanks_to_fill(),
            faults=plant_faults(
                cell, self.state, reset=self._sets_to_reset(), failing=self._failing_starts()
            ),
        )

    def _failing_starts(self) -> frozenset[str]:
        """Sets whose next crank attempt fails, by set and number of the attempt alone."""
        ratio = self.scenario.start_fail_ratio
        if ratio <= 0.0:
            return frozenset()
        starts, failed = self.meter.starts, self.meter.failed_starts
        attempts = ((i, g.id, starts[g.id] + failed[g.id]) for i, g in enumerate(self.site.gensets))
        return frozenset(g for i, g, n in attempts if chance(self.scenario.seed, i, n) < ratio)

    def _tanks_to_fill(self) -> dict[str, float]:
        return self._brought() | self._filled_up()

    def _brought(self) -> dict[str, float]:
        """Deliveries that are due."""
        out: dict[str, float] = {}
        for at_s, genset, litres in self._deliveries:
            if self._supplied_s < at_s <= self.now_s:
                out[genset] = out.get(genset, 0.0) + litres
        return out

    def _filled_up(self) -> dict[str, float]:
        ratio, own = self.options.refuel_below_ratio, {g for _, g, _ in self._deliveries}
        if ratio is None:
            return {}
        tanks = {
            g.id: (self.state.gensets[g.id].tank_l, g.tank_l) for g in self.site.gensets if g.id not in own
        }
        return {g: full - left for g, (left, full) in tanks.items() if left < ratio * full}

    def _sets_to_reset(self) -> frozenset[str]:
        after_s = self.options.reset_s
        if after_s is None or not self._locked_since_s:
            return frozenset()
        return frozenset(g for g, t in self._locked_since_s.items() if self.now_s - t >= after_s)

    # ---- devices ------------------------------------------------------------------------------

    def readings(self) -> Mapping[str, float]:
        """What the devices measure now, noise included; setpoints read back; silent devices are left out."""
        if self._readings is None:
            out = self._noise.measured(self._flows.readings(), self.now_s)
            out |= phase_readings(self.site, self._flows)
            out |= self._at_rest
            out |= self.setpoints.values
            out |= self.heartbeats
            out |= dict.fromkeys(self._beating, math.floor(self.now_s) % BEATS)
            out |= self._told_silence
            silent = self.silent_assets()
            if silent:
                out = {p: v for p, v in out.items() if not _of_device(p, silent)}
            self._readings = out
        return self._readings

    def silent_assets(self) -> frozenset[str]:
        """Assets whose device answers nothing now."""
        return frozenset(a for kind, a in self._cell.faults if kind is FaultKind.DEVICE_SILENT)

    def write(self, point: str, value: float) -> WriteVerdict:
        """One write as it arrives at a device."""
        if _of_device(point, self.silent_assets()):
            return WriteVerdict.SILENT
        if point in self.heartbeats:
            self.heartbeats[point] = value
            self._readings = None
            return WriteVerdict.ACCEPTED
        authority = self.site.authority.setpoints.get(point)
        if authority is None:
            known = point in self.readings()
            return WriteVerdict.READ_ONLY if known else WriteVerdict.UNKNOWN_POINT
        slack = 1e-6 * max(1.0, abs(authority.low), abs(authority.high))
        if not math.isfinite(value) or not authority.low - slack <= value <= authority.high + slack:
            self.meter.count_violation(
                COMMAND_OUT_OF_BOUNDS, 0.0, abs(value) if math.isfinite(value) else 0.0
            )
            return WriteVerdict.BAD_VALUE
        if self.setpoints.write(point, value, self.now_s):
            self._changed(point)
        self._readings = None
        return WriteVerdict.ACCEPTED

    def _expire(self) -> None:
        for point in self.setpoints.expire(self.now_s):
            self._changed(point)
        self._readings = None

    def _changed(self, point: str) -> None:
        self._inputs = None
        switching = is_binary(split_point_id(point)[1])
        if switching or not self.state.grid_closed:
            hold_s = self.options.fine_for_s if switching else 5.0 * self.options.fine_step_s
            self._fine_until_s = max(self._fine_until_s, self.now_s + hold_s)

    # ---- results ------------------------------------------------------------------------------

    @property
    def flows(self) -> PlantFlows:
        """Ground truth of the last physics step."""
        return self._flows

    def counters(self) -> EnergyCounters:
        """Counters so far."""
        return self.meter.counters()

    def trace(self) -> Trace:
        """Trace so far."""
        return self._writer.trace()

    def _bin_s(self, t_s: float) -> float:
        o = self.options
        if t_s in self._fine:
            return o.fine_step_s
        return o.trace_s if o.trace_s is not None else o.tied_step_s

    def checkpoint(self) -> bytes:
        """Everything that changes, for `take` and `restore`. Reading one runs code: read only your own."""
        return pickle.dumps(
            {name: getattr(self, name) for name in CHECKPOINTED} | {"writer": self._writer.state()}
        )

    def take(self, blob: bytes) -> None:
        """Go on from a checkpoint of a world of the same scenario and options."""
        saved = _Unpickler(io.BytesIO(blob), self.site).load()
        self._writer.restore(saved.pop("writer"))
        for name, value in saved.items():
            setattr(self, name, value)
        self._cell_index = self.timeline.index_at(self.now_s)
        self._cell = self.timeline.cell(self._cell_index)
        self._inputs, self._readings = None, None

    @classmethod
    def restore(cls, scenario: Scenario, blob: bytes, *, options: WorldOptions | None = None) -> Self:
        """A world as it was at a checkpoint of the same scenario and options."""
        world = cls(scenario, options=options)
        world.take(blob)
        return world


def _of_device(point: str, assets: frozenset[str]) -> bool:
    """Whether a point is at the device of one of these assets; the breaker of a PV plant has its own."""
    asset, name = split_point_id(point)
    return asset in assets and name != TRIP_REQUEST


def local_midnights_s(scenario: Scenario) -> tuple[float, ...]:
    """Local midnights inside a run, ascending [s after start]."""
    zone = ZoneInfo(scenario.site.timezone)
    day = scenario.start.astimezone(zone).date() + timedelta(days=1)
    out = []
    while (at := datetime.combine(day, time(0), tzinfo=zone)) < scenario.end:
        out.append(scenario.offset_s(at))
        day += timedelta(days=1)
    return tuple(out)


def whole_limits(site: Site) -> dict[str, float]:
    """Live limits of gensets and converters that nothing holds back, for sites that map them."""
    out = {f"{g.id}.p_kw_max": g.p_rated_kw for g in site.gensets}
    return out | {f"{b.id}.p_pcs_kw_max": b.pcs.s_kva for b in site.bess}


def setpoints_at_rest(site: Site) -> dict[str, float]:
    """What the setpoint registers read before anybody has written to them."""
    out = {f"{b.id}.p_set_kw": 0.0 for b in site.bess}
    for g in site.gensets:
        out |= {f"{g.id}.run_request": 0.0, f"{g.id}.p_set_kw": g.p_min_kw}
    out |= {f"{p.id}.p_limit_kw": p.p_ac_kw for p in site.pv}
    out |= {f"{b.id}.q_set_kvar": 0.0 for b in site.bess} | {f"{p.id}.q_set_kvar": 0.0 for p in site.pv}
    out |= {f"{p.id}.{TRIP_REQUEST}": 0.0 for p in site.pv}
    out |= at_rest(site)
    out |= {f"{f.id}.close_request": 1.0 for f in site.feeders if f.has_breaker}
    out |= {f"{site.grid.id}.open_request": 0.0, f"{site.grid.id}.open_permit": 0.0}
    out |= {f"{site.grid.id}.close_permit": 1.0}
    return {point: value for point, value in out.items() if point in site.authority.setpoints}


class _Pickler(pickle.Pickler):
    """Leaves the site out: whoever restores has it."""

    def __init__(self, file: io.BytesIO, site: Site) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._site = site

    def persistent_id(self, obj: object) -> str | None:
        return "site" if obj is self._site else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, site: Site) -> None:
        super().__init__(file)
        self._site = site

    def persistent_load(self, pid: object) -> Site:
        return self._site


CHECKPOINTED: Sequence[str] = (
    "now_s", "steps", "state", "setpoints", "heartbeats", "meter", "_flows",
    "_fine_until_s", "_locked_since_s", "_supplied_s", "_asked_s", "_acting",
)  # fmt: skip
