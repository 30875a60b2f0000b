"""Oracles after every tick: I6 ages, I7 reserve, I8 heartbeat, I10 SoC, I11 genset times, I12 energy."""

import math
from collections import defaultdict

from dispatch.vocabulary import Decisions
from ems.commands import Cause, WriteOutcome
from ems.control import ControlMode
from ems.points import AssetKind, GensetState, split_point_id
from ems.site import GridMode, Site
from ems.telemetry import Quality
from plant_models.state import PlantFlows
from sim.oracles.base import Oracle, TickSeen

ALARM_WITHIN_S = 2.0
NOT_MAPPED_AGE_S = 30.0  # maximum age of a point no map states one for
SOC_SLACK = 0.005
BALANCE_RATIO = 0.001
WRAP = 65536
RESTING = (GensetState.STOPPED, GensetState.COOLING_DOWN, GensetState.LOCKED_OUT)
READY = {
    AssetKind.BESS: ("soc", "state", "p_charge_kw_max", "p_discharge_kw_max"),
    AssetKind.GENSET: ("state",),
}
HUNTING = 8  # starts of one set in an hour that no protection can need


class DecisionsOnFreshValues(Oracle):
    """I6."""

    id = "I6"
    says = "no decision from a value older than its own maximum age, not finite, or out of its range"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        maps = [m for c in site.connections for m in c.points]
        self._maps = {m.point: m for m in maps}

    def on_tick(self, t: TickSeen) -> str | None:
        """What the tick could take for good is fresh, finite and plausible; the rest it knows as missing."""
        if t.snapshot is None or t.decisions is None:
            return None
        for point, r in t.snapshot.readings.items():
            if r.quality is not Quality.GOOD or r.value is None:
                continue
            m = self._maps.get(point)
            age_s, age_s_max = t.t_s - r.arrived_s, NOT_MAPPED_AGE_S if m is None else m.age_s_max
            if not 0.0 <= age_s <= age_s_max + 1e-6:
                return f"{point} is {age_s:g} s old, {age_s_max:g} allowed, and passed for good"
            if not math.isfinite(r.value) or (m is not None and not m.low <= r.value <= m.high):
                return f"{point} = {r.value!r} passed for good"
        return self._condition(t, t.decisions)

    def _condition(self, t: TickSeen, decisions: Decisions) -> str | None:
        """A battery whose state or SoC is not known is not available; a lost meter is not a number."""
        assert t.snapshot is not None
        for b, c in decisions.condition.bess.items():
            known = all(t.snapshot.value(f"{b}.{n}") is not None for n in ("state", "soc"))
            if c.available and not known:
                return f"{b} counts as available without a good state and SoC"
        grid = f"{self.site.grid.id}.p_kw"
        if decisions.condition.grid_p_kw is not None and t.snapshot.value(grid) is None:
            return f"{grid} has no good value, and the condition says {decisions.condition.grid_p_kw}"
        return None


class IslandHasReserve(Oracle):
    """I7."""

    id = "I7"
    says = "islanded: a source forms and the reserve is held, or an alarm says so within 2 s"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._bad_s = 0.0

    def on_tick(self, t: TickSeen) -> str | None:
        """By the truth: forming source, upward reserve of batteries and running sets."""
        f = t.flows
        if f.grid_closed or t.decisions is None:
            self._bad_s = 0.0
            return None
        codes = {a.code for a in t.decisions.alarms}
        what, told = self._wrong(f), any(c.startswith(("reserve.", "bus.", "grid.mode.")) for c in codes)
        self._bad_s = 0.0 if what is None or told else self._bad_s + t.dt_s
        if self._bad_s <= ALARM_WITHIN_S + t.dt_s + 1e-6:
            return None
        return f"{what} for {self._bad_s:g} s without an alarm"

    def _wrong(self, f: PlantFlows) -> str | None:
        if f.forming is None:
            return "an island without a forming source"
        load_kw = sum(f.feeder_p_kw.values())
        pv_kw = sum(f.pv_p_kw.values())
        policy = self.site.reserve
        required_kw = policy.load_ratio * load_kw + policy.pv_ratio * pv_kw
        held_kw = sum(
            max(0.0, g.p_rated_kw - f.genset_p_kw[g.id])
            for g in self.site.gensets
            if f.genset_state[g.id] is GensetState.RUNNING
        )
        held_kw += sum(max(0.0, f.bess_p_discharge_kw_max[b.id] - f.bess_p_kw[b.id]) for b in self.site.bess)
        # The alarm has its own threshold (5 % of what is required, 1 kW), and readings have noise.
        slack_kw = 0.05 * required_kw + 1.0 + 0.02 * (load_kw + pv_kw)
        if held_kw + slack_kw >= required_kw:
            return None
        return f"reserve {held_kw:.1f} of {required_kw:.1f} kW"


class HeartbeatOfTheLoop(Oracle):
    """I8."""

    id = "I8"
    says = "the heartbeat is that of completed safe cycles: no gap over two cycles, no beat without one"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._points = [c.watchdog_point for c in site.connections if c.watchdog_point is not None]
        self._device = {c.watchdog_point: c.id for c in site.connections}
        self._period_s = {c.watchdog_point: c.watchdog_period_s for c in site.connections}
        highs = {m.point: m.high for c in site.connections for m in c.points}
        self._wrap = {p: int(min(highs.get(p, WRAP - 1.0), WRAP - 1.0)) + 1 for p in self._points}
        self._cycles: int | None = None
        self._needed = {p: _needed(site, p) for p in self._points}
        self._known: set[str] = set()  # watchdogs of devices of which enough has been seen
        self._mode_known = False
        self._tried_s: dict[str, float] = {}
        self._beat: dict[str, float] = {}

    def on_tick(self, t: TickSeen) -> str | None:
        """The counter counts cycles, is written in time, and changes at the device by nothing else."""
        wrong = self._count(t)
        sent = {r.command.point: r for r in t.results if r.command.point in self._points}
        for point in self._points:
            result = sent.get(point)
            before = self._beat.get(point, 0.0)
            at_device = t.beats.get(point, before)
            self._beat[point] = at_device
            if result is None and at_device != before:
                wrong = wrong or f"{point} moved from {before:g} to {at_device:g} without a completed cycle"
            if result is not None and (t.held_safe or t.decisions is None):
                wrong = wrong or f"{point} was written without a completed safe cycle"
            if result is not None and self._device[point] in t.strangers:
                wrong = wrong or f"{point} was written to a device that was not commissioned"
            wrong = wrong or self._gap(t, point, result is not None)
            if result is None or result.outcome is not WriteOutcome.CONFIRMED or t.decisions is None:
                continue
            if result.command.value != float(t.decisions.heartbeat % self._wrap[point]):
                wrong = wrong or f"{point} = {result.command.value:g} is not the count of cycles"
        return wrong

    def _count(self, t: TickSeen) -> str | None:
        if t.decisions is None:
            return None
        beat, before = t.decisions.heartbeat, self._cycles
        self._cycles = beat
        expected = beat if before is None else before if t.held_safe else (before + 1) % WRAP
        return None if beat == expected else f"heartbeat {beat} after {before}"

    def _gap(self, t: TickSeen, point: str, tried: bool) -> str | None:
        asset = split_point_id(point)[0]
        if t.decisions is None or t.held_safe or t.untouched(asset) or self._device[point] in t.strangers:
            self._tried_s.pop(point, None)
            off = t.decisions is not None and t.decisions.control.get(asset) is ControlMode.OFF
            return f"{point} written while {asset} is switched off" if tried and off else None
        ready = self._ready(t, point)
        if tried and t.decisions.mode is GridMode.UNKNOWN and not self._mode_known:
            return f"{point} written before the grid mode was known"
        if not tried and not ready and point not in self._tried_s:
            return None  # before it is known what is there, nothing is written, and no heartbeat either
        since_s = self._tried_s.setdefault(point, t.t_s)
        if tried:
            self._tried_s[point] = t.t_s
        gap_s, allowed_s = t.t_s - since_s, 2.0 * max(t.dt_s, self._period_s[point])
        return f"{point} not written for {gap_s:g} s" if gap_s > allowed_s + 1e-6 else None

    def _ready(self, t: TickSeen, point: str) -> bool:
        """Whether what is needed of an asset on the same device has come at once, and the mode is known."""
        self._mode_known |= t.decisions is not None and t.decisions.mode is not GridMode.UNKNOWN
        if point not in self._known:
            told = [[t.told.get(p) for p in needed] for needed in self._needed[point]]
            if any(all(r is not None and r.is_good for r in readings) for readings in told):
                self._known.add(point)
        return self._mode_known and point in self._known


def _needed(site: Site, watchdog: str) -> list[list[str]]:
    """By asset with readings on the same device: what must be known of it before anything is written."""
    (device,) = (c for c in site.connections if c.watchdog_point == watchdog)
    kinds, of = site.asset_kinds(), defaultdict[str, list[str]](list)
    for m in device.points:
        asset, name = split_point_id(m.point)
        kind = kinds.get(asset)
        if kind is not None and not m.writable and name in READY.get(kind, ()):
            of[asset].append(m.point)
    return list(of.values())


class TrueSoc(Oracle):
    """I10."""

    id = "I10"
    says = "the true state of charge stays inside its window"

    def on_tick(self, t: TickSeen) -> str | None:
        """By the truth, whatever the device tells."""
        for b in self.site.bess:
            soc = t.flows.bess_soc[b.id]
            if not b.battery.soc_min - SOC_SLACK <= soc <= b.battery.soc_max + SOC_SLACK:
                return f"{b.id} is at {soc:.4f}, window {b.battery.soc_min:g} to {b.battery.soc_max:g}"
        return None


class GensetTimes(Oracle):
    """I11."""

    id = "I11"
    says = "minimum up and down times and the starts per hour of each genset are kept, and none hunts"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._params = {g.id: g for g in site.gensets}
        self._asked: dict[str, tuple[bool, bool]] = {}  # run, whether the request is free of the times
        self._state: dict[str, GensetState] = {}
        self._since_s: dict[str, float] = {}  # of the last change on or off load
        self._told_s: dict[str, dict[bool, float]] = {g.id: {} for g in site.gensets}  # the same, as it tells
        self._by_itself: dict[str, bool] = {}  # of the start that goes on or went last: nobody had asked
        self._starts_s: dict[str, list[float]] = {g.id: [] for g in site.gensets}
        self._all_s: dict[str, list[float]] = {g.id: [] for g in site.gensets}

    def on_tick(self, t: TickSeen) -> str | None:
        """Requests against what the sets truly did; the protective ones are free."""
        wrong = None
        for r in t.results:
            asset, name = split_point_id(r.command.point)
            if name == "run_request" and r.outcome is WriteOutcome.CONFIRMED:
                free = r.command.cause in (Cause.SAFE_TABLE, Cause.PROTECTION, Cause.OPERATOR)
                found = self._request(asset, r.command.value >= 0.5, free, t)
                wrong = wrong or (found and f"{found} ({r.command.cause}: {r.command.reason})")
        for g, state in t.flows.genset_state.items():
            wrong = wrong or self._follow(g, state, t.t_s + t.dt_s)
            told = t.told.get(f"{g}.state")
            if told is not None and told.is_good:
                on = told.value == GensetState.RUNNING.code
                self._told_s[g].setdefault(on, -math.inf if not self._told_s[g] else t.t_s)
                self._told_s[g].pop(not on, None)
        return wrong

    def _request(self, genset: str, run: bool, free: bool, t: TickSeen) -> str | None:
        """A change of a request; to follow what a set has begun by itself is none.

        Who asks for the same again changes nothing. What a frozen set did meanwhile nobody could know: its
        times are over where they are by what it told.
        """
        before = self._asked.get(genset)
        if before is not None and before[0] is run:
            return None
        self._asked[genset] = (run, free)
        state = self._state.get(genset)
        if before is None or free or state is None:
            return None
        told_s = self._told_s[genset].get(not run, math.inf)
        params, age_s = self._params[genset], t.t_s - min(told_s, self._since_s.get(genset, -math.inf))
        slack_s = 2.0 * t.dt_s + 1.0
        if run and state in RESTING and age_s < params.min_down_s - slack_s:
            return f"{genset} asked to start {age_s:g} s after it stopped, {params.min_down_s:g} s down asked"
        if not run and state is GensetState.RUNNING and age_s < params.min_up_s - slack_s:
            return f"{genset} asked to stop {age_s:g} s after it came on load, {params.min_up_s:g} s asked"
        return None

    def _follow(self, genset: str, state: GensetState, t_s: float) -> str | None:
        """Changes on and off load, and how many starts the edge asked for in the last hour."""
        before = self._state.get(genset)
        self._state[genset] = state
        on = state is GensetState.RUNNING
        run, free = self._asked.get(genset, (False, True))
        if before in RESTING and state not in RESTING:
            self._by_itself[genset] = not run
        if before is None or (before is GensetState.RUNNING) is on:
            return None
        self._since_s[genset] = t_s
        if not on or not run or self._by_itself.get(genset, False):
            return None
        often = self._all_s[genset]
        often[:] = [s for s in often if t_s - s < 3600.0] + [t_s]
        if len(often) > HUNTING:
            return f"{genset} came on load {len(often)} times in an hour, asked for by whatever it was"
        if free:
            return None
        recent, allowed = self._starts_s[genset], self._params[genset].starts_per_h_max
        recent[:] = [s for s in recent if t_s - s < 3600.0] + [t_s]
        if allowed is None or len(recent) <= allowed:
            return None
        return f"{genset} started {len(recent)} times in an hour, {allowed} allowed"


class EnergyBalance(Oracle):
    """I12."""

    id = "I12"
    says = "energy balance of the site's bus closes to 0.1 %"

    def on_tick(self, t: TickSeen) -> str | None:
        """Generation, storage and grid against load and auxiliaries, by the truth of the plant."""
        f = t.flows
        sources = [*f.genset_p_kw.values(), *f.pv_p_kw.values(), *f.bess_p_kw.values(), f.grid_p_kw]
        load_kw = math.fsum([*f.feeder_p_kw.values(), *f.bess_aux_kw.values()])
        gap_kw = abs(math.fsum(sources) - load_kw)
        through_kw = 0.5 * (math.fsum(abs(p) for p in sources) + load_kw)
        if gap_kw <= BALANCE_RATIO * through_kw + 1e-6:
            return None
        return f"{gap_kw:.3f} kW of {through_kw:.1f} kW are missing"
