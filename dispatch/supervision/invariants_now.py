"""Invariants that are asked in production, with code of their own: neither gate nor authority is used here.

I1 to I5, I8 and I9 are asked of every cycle and of every command before it goes on the wire; where one does
not hold, the cycle breaks and the plant goes to its safe table. I6, I7 and I11 become an alarm in the next
cycle; a reading that I6 finds is taken out of the cycle it was found in. I12 has a watch of its own
(`dispatch.observing.plausibility`): powers that do not add up mark the data suspect. I10 needs the truth.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatch.layout import DEFAULT_AGE_S_MAX, Layout
from dispatch.state import EdgeState
from dispatch.vocabulary import Alarm, Decisions, Source
from ems.commands import Cause, Command, WriteResult
from ems.errors import InvariantBroken
from ems.frozen import replace
from ems.points import GensetState, is_binary
from ems.site import GridMode
from ems.telemetry import Quality, Snapshot

BEATS = 65536
AROUND_S = 300.0  # so long and a cycle before and after a planned change of mode a plan may be followed
AHEAD = timedelta(seconds=60)  # the planner's clock may be so far ahead of the edge's
HOUR_S = 3600.0
SHORT_S = 3.0  # an island may be short of reserve for so long before an alarm must say so
SHORT_RATIO, SHORT_KW = 0.07, 2.0  # of the reserve required; a little more than the alarm's own threshold
SLACK = 1e-6
FREE = (Cause.SAFE_TABLE, Cause.EMERGENCY_STOP)
FORCED = (*FREE, Cause.PROTECTION)
TOLD = ("reserve.", "bus.", "grid.mode.", "power.balance.", "comms.", "device.")  # say why I7 may not hold
ON_LOAD = float(GensetState.RUNNING.code)
RESTING = tuple(
    float(x.code) for x in (GensetState.STOPPED, GensetState.COOLING_DOWN, GensetState.LOCKED_OUT)
)
ON_LOAD_RATIO = 0.05  # of its rating: a set that gives more is on the bus, whatever its state says
START_S = 60.0  # without a genset: stored energy counts as reserve that lasts so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One cycle between its decisions and its writes."""

    snapshot: Snapshot
    before: EdgeState
    after: EdgeState
    decisions: Decisions
    dt_s: float


@dataclass(slots=True)
class _Sent:
    """The writes of one cycle as they were seen at the port."""

    intents: set[tuple[int, int, str]] = field(default_factory=set)
    written: set[tuple[int, int, str]] = field(default_factory=set)
    outcomes: int = 0


class InvariantsNow:
    """What must hold in every cycle of this edge. One per runtime; it remembers what it has seen."""

    def __init__(self, layout: Layout, *, shadow: bool) -> None:
        self._layout, self._shadow = layout, shadow
        site = layout.site
        self._step = {m.point: abs(m.scale) for c in site.connections for m in c.points}
        self._dwell_s = site.grid.reconnect_dwell_s
        self._most = {f"{g.id}.p_set_kw": g.p_rated_kw for g in site.gensets}
        self._told = {f"{g.id}.p_set_kw": f"{g.id}.p_kw_max" for g in site.gensets}
        self._most |= {f"{p.id}.p_limit_kw": p.p_ac_kw for p in site.pv}
        self._bess = {f"{b.id}.p_set_kw": b for b in site.bess}
        self._remote = {p: f"{p.partition('.')[0]}.remote" for p in layout.setpoints}
        self._steps: tuple[str, list[tuple[datetime, datetime, GridMode]]] | None = None  # of the last plan
        self._beat: int | None = None
        self._last: dict[str, tuple[int, int]] = {}  # device -> highest (epoch, seq) sent
        self._sent = _Sent()
        self._short_since_s: float | None = None
        self._run: dict[str, bool] = {}
        self._starts_s: dict[str, list[float]] = {g.id: [] for g in site.gensets}
        self._on_load: dict[str, bool] = {}  # as the sets tell
        self._changed_s: dict[str, float] = {}  # when one was seen to come on load, or to leave it
        self._start_delay_s = min((g.start_delay_s for g in site.gensets), default=START_S)
        self._found: dict[str, str] = {}  # invariant -> what, for the alarms of the next cycle
        self.evaluated = 0  # commands and cycles judged

    def adopt(self, other: "InvariantsNow") -> None:
        """Remember what another one remembers, of an edge that is forked from its own."""
        self._beat, self._last = other._beat, dict(other._last)
        self._short_since_s, self._run = other._short_since_s, dict(other._run)
        self._starts_s = {g: list(s) for g, s in other._starts_s.items()}
        self._on_load, self._changed_s = dict(other._on_load), dict(other._changed_s)
        self._found = dict(other._found)

    # ---- before the cycle -----------------------------------------------------------------------

    def admitted(self, snapshot: Snapshot) -> Snapshot:
        """I6: no reading passes for good that is too old, no number, or out of its range."""
        wrong = dict(self._unfit(snapshot))
        if not wrong:
            return snapshot
        self._found["I6"] = "; ".join(f"{p} {why}" for p, why in list(wrong.items())[:3])
        bad = {p: replace(snapshot.readings[p], quality=Quality.STALE) for p in wrong}
        return replace(snapshot, readings={**snapshot.readings, **bad})

    def _unfit(self, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
        ages, ranges, now_s = self._layout.age_s_max, self._layout.range_of, snapshot.monotonic_s
        for point, r in snapshot.readings.items():
            if r.quality is not Quality.GOOD or r.value is None:
                continue
            age_s = now_s - r.arrived_s
            if not -SLACK <= age_s <= ages.get(point, DEFAULT_AGE_S_MAX) + SLACK:
                yield point, f"is {age_s:g} s old and passed for good"
            elif not math.isfinite(r.value):
                yield point, f"= {r.value!r} passed for good"
            elif point in ranges and not ranges[point][0] <= r.value <= ranges[point][1]:
                yield point, f"= {r.value:g} is out of its range and passed for good"

    def alarms(self) -> tuple[Alarm, ...]:
        """What did not hold, for the next cycle; none where all did."""
        found, self._found = self._found, {}
        text = "; ".join(f"{name}: {what}" for name, what in found.items())
        return (Alarm(code="edge.invariant", text=text),) if found else ()

    # ---- between decisions and writes -----------------------------------------------------------

    def decided(self, c: Cycle) -> None:
        """Judge a cycle before anything of it is sent.

        Raises
        ------
        InvariantBroken : I1, I2, I4 or I8 does not hold.
        """
        self._sent = _Sent()
        self.evaluated += 1 + len(c.decisions.commands)
        for command in c.decisions.commands:
            if command.point in self._layout.setpoints:
                _holds("I1", self._outside(command, c.snapshot))
                _holds("I2", self._barred(command, c))
                _holds("I4", self._jump(command, c))
        _holds("I8", self._beats(c))
        self._island(c)
        self._sets(c)

    def _outside(self, command: Command, snapshot: Snapshot) -> str | None:
        """Outside the site file, the rating, or what the device itself says."""
        a = self._layout.setpoints[command.point]
        low, high = a.low, a.high
        if is_binary(command.point):
            low, high = max(low, 0.0), min(high, 1.0)
        elif command.point in self._bess:
            b = self._bess[command.point]
            charge = _least(snapshot, f"{b.id}.p_charge_kw_max", f"{b.id}.p_pcs_kw_max")
            discharge = _least(snapshot, f"{b.id}.p_discharge_kw_max", f"{b.id}.p_pcs_kw_max")
            # a limit below zero is none to move the other way: zero is inside whatever a BMS tells
            low = max(low, -b.battery.p_charge_kw_max, 0.0 if charge is None else min(0.0, -charge))
            high = min(high, b.battery.p_discharge_kw_max, 0.0 if discharge is None else max(0.0, discharge))
        elif command.point in self._most:
            told = snapshot.value(self._told.get(command.point, ""))
            low, high = max(low, 0.0), min(high, self._most[command.point])
            high = high if told is None else min(high, max(0.0, told))
            low = min(low, high)  # what the device itself gives comes before the site file's least
        slack = SLACK * max(1.0, abs(low), abs(high))
        if low - slack <= command.value <= high + slack:
            return None
        return f"{command.point} = {command.value!r} outside [{low:g}, {high:g}]"

    def _barred(self, command: Command, c: Cycle) -> str | None:
        """Not in shadow, not in local, nothing but the safe table while held safe, no wish that is over."""
        if self._shadow:
            return f"{command.point} decided for sending in shadow mode"
        if c.snapshot.value(self._remote[command.point]) == 0.0:
            return f"{command.point} decided while its device is in local"
        if c.after.held_safe and command.cause not in FREE:
            return f"{command.point} decided by {command.cause} while held safe"
        if command.cause is Cause.PLAN:
            return self._plan_over(command, c)
        if command.cause is Cause.OPERATOR and command.request_id is not None:
            now_s = c.snapshot.monotonic_s
            leases = c.after.authority.leases.values()
            if not any(x.point == command.point and x.until_s > now_s - SLACK for x in leases):
                return f"{command.point} decided for a request whose time is over"
        return None

    def _plan_over(self, command: Command, c: Cycle) -> str | None:
        """A plan that is not the accepted one, is over, or has no such grid mode around now."""
        plan, at = c.after.plans.accepted, c.snapshot.at
        if plan is None or plan.plan_id != command.plan_id:
            return f"{command.point} decided by plan {command.plan_id}, which is not the accepted one"
        if not plan.issued_at - AHEAD <= at < plan.valid_until:
            return f"{command.point} decided by plan {command.plan_id} outside its validity"
        if self._steps is None or self._steps[0] != plan.plan_id:
            starts = plan.grid.starts()
            spans = zip(starts, [*starts[1:], plan.grid.end], plan.grid_mode, strict=True)
            self._steps = plan.plan_id, [(a, b, mode) for a, b, mode in spans]
        early = late = timedelta(seconds=AROUND_S + c.dt_s + SLACK)
        if c.decisions.mode is GridMode.ISLANDED:  # it lasts longer by the dwell before it reconnects
            late += timedelta(seconds=self._dwell_s)
        if any(a - early <= at <= b + late and mode is c.decisions.mode for a, b, mode in self._steps[1]):
            return None
        return f"{command.point} decided by plan {command.plan_id}, which has no {c.decisions.mode} now"

    def _jump(self, command: Command, c: Cycle) -> str | None:
        """Further in one cycle than the ramp allows, from all that the device may hold."""
        ramp = self._layout.setpoints[command.point].ramp_per_s
        known = c.before.written.get(command.point)
        limits_pv = command.point.endswith(".p_limit_kw")
        if ramp is None or known is None or command.cause in (FREE if limits_pv else FORCED):
            return None
        read = c.snapshot.value(command.point)
        allowed = ramp * max(c.dt_s, c.snapshot.monotonic_s - known.at_s)
        slack = self._step.get(command.point, 0.0) + SLACK * abs(known.value)
        for held in (known.value, *([] if read is None else [read])):
            lowered = command.value <= held if limits_pv else abs(command.value) <= abs(held)
            free = lowered or (command.protective and not limits_pv)
            if free or abs(command.value - held) <= allowed + slack:
                return None
        return f"{command.point} from {known.value:g} to {command.value:g}, {allowed:g} allowed"

    def _beats(self, c: Cycle) -> str | None:
        """The heartbeat is the count of completed safe cycles, and stands still in all others."""
        beat, before = c.decisions.heartbeat, self._beat
        still = c.before.held_safe and c.after.held_safe
        still = still or c.decisions.source in (Source.RELEASED,)
        self._beat = beat
        if before is None or beat in {before, (before + 1) % BEATS} - ({before + 1} if still else set()):
            told = [x for x in c.decisions.commands if x.point in self._layout.watchdogs]
            wrong = [x for x in told if x.value != float(beat % self._layout.watchdogs[x.point].wrap)]
            if wrong:
                return f"{wrong[0].point} = {wrong[0].value:g} is not the count of cycles, {beat}"
            return f"{told[0].point} beats while held safe" if told and still else None
        return f"{beat} after {before}"

    def _island(self, c: Cycle) -> None:
        """I7, by what is measured: a reserve that is short, or no source, with nothing that says so."""
        if c.decisions.mode is not GridMode.ISLANDED or c.after.held_safe:
            self._short_since_s = None
            return
        held_kw, required_kw = self._reserve(c.snapshot)
        short = required_kw - held_kw > SHORT_RATIO * required_kw + SHORT_KW
        told = any(a.code.startswith(TOLD) for a in c.decisions.alarms)
        if told or not (short or c.decisions.condition.forming is None):
            self._short_since_s = None
            return
        now_s = c.snapshot.monotonic_s
        since_s = now_s if self._short_since_s is None else self._short_since_s
        self._short_since_s = since_s
        if now_s - since_s > SHORT_S:
            self._found["I7"] = f"reserve {held_kw:.0f} of {required_kw:.0f} kW and no alarm for it"

    def _reserve(self, snapshot: Snapshot) -> tuple[float, float]:
        """(held, required) upwards, of good readings alone: what is not known is no reserve [kW].

        Of a battery no more than its energy gives until a set that is asked now has come.
        """
        site, value = self._layout.site, snapshot.value
        held_kw = 0.0
        for g in site.gensets:
            p_kw = value(f"{g.id}.p_kw")
            if value(f"{g.id}.state") == ON_LOAD and p_kw is not None:
                told_kw = value(f"{g.id}.p_kw_max")
                held_kw += max(0.0, (g.p_rated_kw if told_kw is None else min(g.p_rated_kw, told_kw)) - p_kw)
        for b in site.bess:
            gives_kw = _least(snapshot, f"{b.id}.p_discharge_kw_max", f"{b.id}.p_pcs_kw_max")
            p_kw, soc = value(f"{b.id}.p_kw"), value(f"{b.id}.soc")
            if p_kw is not None and gives_kw is not None and soc is not None:
                kwh = max(0.0, soc - b.battery.soc_min) * b.battery.energy_kwh
                held_kw += max(0.0, min(gives_kw, kwh * HOUR_S / self._start_delay_s) - p_kw)
        load_kw = _sum(value(f"{f.id}.p_kw") for f in site.feeders)
        pv_kw = _sum(value(f"{p.id}.p_kw") for p in site.pv)
        return held_kw, site.reserve.load_ratio * load_kw + site.reserve.pv_ratio * pv_kw

    def _sets(self, c: Cycle) -> None:
        """I11, of what the edge asks for unforced: starts in an hour, minimum times by what the sets tell."""
        now_s = c.snapshot.monotonic_s
        for g in self._starts_s:
            state = c.snapshot.value(f"{g}.state")
            on_load, before = state == ON_LOAD, self._on_load.get(g)
            p_kw = c.snapshot.value(f"{g}.p_kw")
            gives = p_kw is not None and p_kw > ON_LOAD_RATIO * self._layout.gensets[g].p_rated_kw
            if state is None or on_load is before or (gives and not on_load):  # a wrong reading is no stop
                continue
            self._on_load[g] = on_load
            if before is not None:
                self._changed_s[g] = now_s
        for command in c.decisions.commands:
            genset, _, name = command.point.partition(".")
            if name != "run_request" or genset not in self._starts_s:
                continue
            run, asked = command.value >= 0.5, self._run.get(genset)
            self._run[genset] = run
            if run is asked or command.cause in FORCED or command.cause is Cause.OPERATOR:
                continue
            wrong = self._too_soon(genset, run, c) if asked is not None else None
            if run:
                wrong = wrong or self._too_often(genset, now_s)
            if wrong is not None:
                self._found["I11"] = wrong

    def _too_often(self, genset: str, now_s: float) -> str | None:
        recent = self._starts_s[genset]
        recent[:] = [s for s in recent if now_s - s < HOUR_S] + [now_s]
        most = self._layout.gensets[genset].starts_per_h_max
        if most is None or len(recent) <= most:
            return None
        return f"{genset} asked to start {len(recent)} times in an hour, {most} allowed"

    def _too_soon(self, genset: str, run: bool, c: Cycle) -> str | None:
        """Inside a minimum time, by a set that is heard; to follow what it does by itself is never."""
        state, changed_s = c.snapshot.value(f"{genset}.state"), self._changed_s.get(genset)
        if changed_s is None or (state not in RESTING if run else state != ON_LOAD):
            return None
        params, age_s = self._layout.gensets[genset], c.snapshot.monotonic_s - changed_s
        least_s = params.min_down_s if run else params.min_up_s
        if age_s >= least_s - 2.0 * c.dt_s - 1.0:
            return None
        asked, did = ("start", "left the bus") if run else ("stop", "came on load")
        return f"{genset} asked to {asked} {age_s:.0f} s after it {did}, {least_s:g} s are its minimum"

    # ---- at the ports ---------------------------------------------------------------------------

    def intended(self, command: Command) -> None:
        """An intent has been handed to the recorder."""
        self._sent.intents.add(_identity(command))

    def writing(self, command: Command, device: str) -> None:
        """I3, I5 and I9 of one command, right before the wire; of the safe table I3 alone.

        Raises
        ------
        InvariantBroken : one of them does not hold.
        """
        self.evaluated += 1
        key = _identity(command)
        if not math.isfinite(command.value):
            _holds("I3", f"{command.point} = {command.value!r}")
        authority = self._layout.setpoints.get(command.point)
        known = command.point in self._layout.watchdogs or (authority and authority.writer == "edge")
        if not known:
            _holds("I3", f"{command.point} is not the edge's to write")
        if self._shadow:
            _holds("I2", f"{command.point} written in shadow mode")
        if command.cause in FREE:  # a recorder that fails must not keep the plant from its safe values
            return
        if key not in self._sent.intents:
            _holds("I5", f"{command.point} ({command.command_id}) without an intent on record")
        if key in self._sent.written or (command.epoch, command.seq) <= self._last.get(device, (-1, -1)):
            _holds("I9", f"{command.point} has {command.command_id} after {self._last.get(device)}")
        self._sent.written.add(key)
        self._last[device] = (command.epoch, command.seq)

    def recorded(self, result: WriteResult) -> None:
        """An outcome has been handed to the recorder; one that never came to the wire has no write."""
        self._sent.outcomes += _identity(result.command) in self._sent.written

    def sent(self) -> None:
        """I5 after the writes of a cycle: each has one outcome on record.

        Raises
        ------
        InvariantBroken : one has none, or two.
        """
        if self._sent.outcomes != len(self._sent.written):
            _holds("I5", f"{len(self._sent.written)} writes, {self._sent.outcomes} outcomes on record")


def _holds(name: str, wrong: str | None) -> None:
    if wrong is not None:
        raise InvariantBroken(f"{name}: {wrong}")


def _identity(command: Command) -> tuple[int, int, str]:
    return command.epoch, command.seq, command.point


def _least(snapshot: Snapshot, live: str, converter: str) -> float | None:
    """The live limit, and that of the converter where one is read; None: not read [kW]."""
    limit, pcs_kw = snapshot.value(live), snapshot.value(converter)
    return limit if limit is None or pcs_kw is None else min(limit, pcs_kw)


def _sum(values: Iterator[float | None]) -> float:
    return math.fsum(v for v in values if v is not None)
