"""Oracles at every write: I1 limits, I2 authority, I3 finite and known, I4 ramp, I5 record, I9 sequence."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from connectors.point_map import PointCodec, point_codecs
from ems.commands import Cause
from ems.errors import BadValue
from ems.plan import Plan
from ems.points import BessState, is_binary, split_point_id
from ems.site import GridMode, Site
from ems.telemetry import Reading
from sim.oracles.base import Oracle, TickSeen, WriteSeen

NOT_MAPPED_AGE_S = 30.0  # maximum age of a point no map states one for
MODE_GRACE_S = 300.0  # a plan's step may be followed so long, and the dwell, beside a planned change of mode
AHEAD = timedelta(seconds=60)  # the planner's clock may be so far ahead of the edge's
AGREED_KW = 0.5  # a protection that moves a wish by less leaves it its name
PROTECTIVE = (Cause.SAFE_TABLE, Cause.PROTECTION)


class Limits:
    """What each setpoint may be now: nameplate, site file, and what the device itself said last.

    A battery that says no limits gets none.
    """

    def __init__(self, site: Site) -> None:
        self._authority = site.authority.setpoints
        self._bess = {b.id: b.battery for b in site.bess}
        self._maps = {m.point: m for c in site.connections for m in c.points}
        self._high = {f"{g.id}.p_set_kw": g.p_rated_kw for g in site.gensets}
        self._high |= {f"{p.id}.p_limit_kw": p.p_ac_kw for p in site.pv}

    def of(self, point: str, told: Mapping[str, Reading], t_s: float) -> tuple[float, float]:
        """(lowest, highest) value [unit of the point]."""
        asset, name = split_point_id(point)
        low, high = self._authority[point].low, self._authority[point].high
        if is_binary(name):
            return max(low, 0.0), min(high, 1.0)
        if asset in self._bess and name == "p_set_kw":
            charge = self._live(f"{asset}.p_charge_kw_max", told, t_s)
            discharge = self._live(f"{asset}.p_discharge_kw_max", told, t_s)
            battery, pcs = self._bess[asset], self.told(f"{asset}.p_pcs_kw_max", told, t_s)
            return (
                max(low, -battery.p_charge_kw_max, -charge, -pcs),
                min(high, battery.p_discharge_kw_max, discharge, pcs),
            )
        if point in self._high:
            most = self.told(f"{asset}.p_kw_max", told, t_s) if name == "p_set_kw" else math.inf
            high = min(high, self._high[point], most)
            return min(max(low, 0.0), high), high
        return low, high

    def told(self, point: str, told: Mapping[str, Reading], t_s: float) -> float:
        """A limit that a device may tell and need not [kW]; what it does not tell now limits nothing here."""
        return self._live(point, told, t_s) if point in told and told[point].is_good else math.inf

    def _live(self, point: str, told: Mapping[str, Reading], t_s: float) -> float:
        """The last limit the device told, if it is one; else none is left, as where it is below zero [kW]."""
        r, m = told.get(point), self._maps.get(point)
        if r is None or not r.is_good or r.value is None or not math.isfinite(r.value):
            return 0.0
        plausible = m is None or m.low <= r.value <= m.high
        fresh = t_s - r.arrived_s <= (NOT_MAPPED_AGE_S if m is None else m.age_s_max) + 1e-6
        return max(0.0, r.value) if plausible and fresh else 0.0


class InsideLimits(Oracle):
    """I1."""

    id = "I1"
    says = "no write outside the effective limits; a limit that tightens is written within a cycle"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._limits = Limits(site)
        self._bess = {f"{b.id}.p_set_kw": b.id for b in site.bess}
        self._resolution = resolutions(site)

    def on_write(self, w: WriteSeen) -> str | None:
        """The value lies inside nameplate, site file and the device's own live limits."""
        c = w.command
        if c.point not in self.site.authority.setpoints:
            return None  # I3 says whether it may be written at all
        low, high = self._limits.of(c.point, w.told, w.t_s)
        slack = 1e-6 * max(1.0, abs(low), abs(high))
        if low - slack <= c.value <= high + slack:
            return None
        return f"{c.point} = {c.value!r} outside [{low:g}, {high:g}] ({c.cause}: {c.reason})"

    def on_tick(self, t: TickSeen) -> str | None:
        """A battery that follows holds nothing outside its limits that the edge has not tried to change."""
        if t.decisions is None:
            return None
        tried = {r.command.point for r in t.results}
        for point, bess in self._bess.items():
            held, state = t.held.get(point), t.told.get(f"{bess}.state")
            following = state is not None and state.value == BessState.FOLLOWING.code
            asked = held is not None and point not in tried and point in self.site.authority.setpoints
            if held is None or not asked or not following or t.untouched(bess):
                continue
            low, high = self._limits.of(point, t.told, t.t_s)
            slack = self._resolution.get(point, 0.0) + 1e-6 * abs(held)
            if not low - slack <= held <= high + slack:
                return f"{point} is left at {held:g} outside [{low:g}, {high:g}]"
        return None


class MayWrite(Oracle):
    """I2."""

    id = "I2"
    says = "no write without remote control, a live lease and free interlocks"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._resolution = resolutions(site)

    def on_write(self, w: WriteSeen) -> str | None:
        """Nothing in shadow or to a device in local; held safe the safe table alone."""
        c = w.command
        asset, _ = split_point_id(c.point)
        if w.shadow:
            return f"{c.point} written in shadow mode"
        if w.snapshot is not None and w.snapshot.value(f"{asset}.remote") == 0.0:
            return f"{c.point} written while {asset} is in local"
        if w.held_safe and c.cause is not Cause.SAFE_TABLE:
            return f"{c.point} written by {c.cause} while the edge is held safe"
        if c.cause is Cause.OPERATOR and not self._wished(w):
            return f"{c.point} written for an operator whose wish is not alive"
        if c.cause is Cause.PLAN:
            return self._plan(w)
        return None

    def _wished(self, w: WriteSeen) -> bool:
        """A wish or lease is alive; or nobody holds it in manual, and it stays or goes to its safe value."""
        point, value = w.command.point, w.command.value
        if any(p == point and until_s > w.t_s - 1e-6 for p, until_s in w.leases):
            return True
        if w.command.request_id is not None:
            return False  # somebody's own wish, and it is over
        if any(p.point == point and (p.expires_s is None or p.expires_s > w.t_s - 1e-6) for p in w.proposals):
            return True
        safety = self.site.authority.setpoints[point].safety
        ends = [v for v in (safety.grid_tied, safety.islanded, safety.black) if v is not None]
        if w.held is None:
            return value in ends
        ends.append(w.held)
        binary = is_binary(split_point_id(point)[1])
        slack = 1e-6 if binary else max(AGREED_KW, self._resolution.get(point, 0.0))
        return min(ends) - slack <= value <= max(ends) + slack

    def _plan(self, w: WriteSeen) -> str | None:
        c = w.command
        plan = None if c.plan_id is None else w.plans.get(c.plan_id)
        if plan is None:
            return f"{c.point} written for plan {c.plan_id}, which was never offered"
        if not plan.issued_at - AHEAD <= w.at < plan.valid_until:
            return f"{c.point} written for plan {c.plan_id} outside its validity, at {w.at}"
        return None

    def on_tick(self, t: TickSeen) -> str | None:
        """No plan is followed in a grid mode that it does not have around now."""
        if t.decisions is None:
            return None
        for r in t.results:
            plan = t.plans.get(r.command.plan_id or "") if r.command.cause is Cause.PLAN else None
            if plan is not None and t.decisions.mode not in modes_around(
                plan, t.at, t.dt_s + self.site.grid.reconnect_dwell_s
            ):
                return f"{r.command.point} follows {plan.plan_id} while {t.decisions.mode}"
        return None


def resolutions(site: Site) -> dict[str, float]:
    """What one count of each mapped point stands for [unit of the point]."""
    return {m.point: abs(m.scale) for c in site.connections for m in c.points}


def modes_around(plan: Plan, at: datetime, more_s: float) -> set[GridMode]:
    """Grid modes of the steps of a plan around a time; `more_s` beside what holds at every site."""
    grace = timedelta(seconds=MODE_GRACE_S + more_s)
    starts = plan.grid.starts()
    ends = [*starts[1:], plan.grid.end]
    steps = zip(starts, ends, plan.grid_mode, strict=True)
    return {mode for start, end, mode in steps if start - grace <= at < end + grace}


class FiniteAndWhitelisted(Oracle):
    """I3."""

    id = "I3"
    says = "only finite values, to whitelisted points, as their registers can hold them"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._codecs: dict[str, PointCodec] = {}
        for connection in site.connections:
            self._codecs |= point_codecs(connection)
        self._beats = {c.watchdog_point for c in site.connections}

    def on_write(self, w: WriteSeen) -> str | None:
        """Finite, of a setpoint the edge owns or a heartbeat, and whole after a trip through its register."""
        c = w.command
        if not math.isfinite(c.value):
            return f"{c.point} = {c.value!r}"
        authority = self.site.authority.setpoints.get(c.point)
        if c.point not in self._beats and (authority is None or authority.writer != "edge"):
            return f"{c.point} is not the edge's to write"
        codec = self._codecs.get(c.point)
        if codec is None:
            return f"{c.point} is in no point map" if self._codecs else None
        if not codec.point.writable:
            return f"{c.point} is read-only in its map"
        try:
            arriving = codec.from_raw(codec.to_raw(c.value)).value
        except BadValue as bad:
            return f"{c.point} = {c.value!r} does not fit its register: {bad}"
        resolution = abs(codec.point.scale) + 1e-6 * abs(c.value)
        if arriving is None or abs(arriving - c.value) > resolution:
            return f"{c.point} = {c.value!r} arrives as {arriving!r}"
        return None


class RampKept(Oracle):
    """I4."""

    id = "I4"
    says = "ramps kept at the device; the protective direction is free"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._limits = Limits(site)
        self._resolution = resolutions(site)
        self._written: dict[str, float] = {}
        self._batteries = {(b.id, "p_set_kw") for b in site.bess}
        self._relieved = (
            -math.inf,
            0.0,
        )  # when, and how far beyond their ramps batteries went for a cap [kW]

    def on_write(self, w: WriteSeen) -> str | None:
        """Not further from what the device holds than the ramp allows in a cycle.

        Where the device tells something else than it holds, and another master wrote it, nobody can know what
        it holds: not further from what it tells and from what was written last.
        """
        c = w.command
        last = self._written.get(c.point)
        self._written[c.point] = c.value
        authority = self.site.authority.setpoints.get(c.point)
        if authority is None or authority.ramp_per_s is None or w.held is None:
            return None
        allowed, told = authority.ramp_per_s * w.dt_s, w.told.get(c.point)
        if self._kept(w, w.held, allowed):
            return None
        if told is not None and told.value is not None and last is not None:
            lies = abs(told.value - w.held) > self._resolution.get(c.point, 0.0)
            if lies and self._kept(w, told.value, allowed) and self._kept(w, last, allowed):
                return None
        return f"{c.point} from {w.held:g} to {c.value:g} in {w.dt_s:g} s, {allowed:g} allowed ({c.reason})"

    def _kept(self, w: WriteSeen, start: float, allowed: float) -> bool:
        """Whether the value may follow on `start`."""
        slack = self._resolution.get(w.command.point, 0.0) + 1e-6 * abs(start)
        return self._free(w, start) or abs(w.command.value - start) <= allowed + slack

    def _free(self, w: WriteSeen, held: float) -> bool:
        """The protective direction: a limit lowered, a power towards zero, anything forced."""
        c = w.command
        _, name = split_point_id(c.point)
        if name == "p_limit_kw":
            return c.value <= held or c.cause is Cause.SAFE_TABLE
        if c.cause in PROTECTIVE:
            return True
        low, high = self._limits.of(c.point, w.told, w.t_s)
        narrowed = not low - 1e-6 <= held <= high + 1e-6
        return narrowed or (abs(c.value) <= abs(held) and c.value * held >= 0.0) or self._holds_cap(w, held)

    def _holds_cap(self, w: WriteSeen, held: float) -> bool:
        """A battery that takes what is over a cap off the POI at once, and all of them no more than that."""
        grid, (asset, name) = self.site.grid, split_point_id(w.command.point)
        told = w.told.get(f"{grid.id}.p_kw")
        if told is None or not told.is_good or told.value is None or (asset, name) not in self._batteries:
            return False
        import_kw, export_kw = (
            min(most, self._limits.told(f"{grid.id}.{cap}", w.told, w.t_s))
            for cap, most in (
                ("p_import_kw_max", grid.p_import_kw_max),
                ("p_export_kw_max", grid.p_export_kw_max),
            )
        )
        moved_kw, at_poi_kw = w.command.value - held, told.value
        if self._relieved[0] != w.t_s:
            self._relieved = (w.t_s, 0.0)
        moved_kw += self._relieved[1]  # by all batteries in this tick
        over_kw = at_poi_kw - import_kw if moved_kw > 0.0 else -at_poi_kw - export_kw
        holds = over_kw > 0.0 and abs(moved_kw) <= over_kw + grid.poi_bias_kw + grid.meter_error_kw
        if holds:
            self._relieved = (w.t_s, moved_kw)
        return holds


class IntentAndOutcome(Oracle):
    """I5."""

    id = "I5"
    says = "each write has an intent on record before it and an outcome after it"

    def on_write(self, w: WriteSeen) -> str | None:
        """Its intent has been entered."""
        c = w.command
        if any(
            e.kind == "intent" and (e.epoch, e.seq, e.point) == (c.epoch, c.seq, c.point) for e in w.entered
        ):
            return None
        return f"{c.point} (seq {c.seq}) was sent without an intent"

    def on_tick(self, t: TickSeen) -> str | None:
        """Every write of the tick has exactly one outcome, and every intent was sent."""
        sent = sorted((r.command.epoch, r.command.seq, r.command.point) for r in t.results)
        told = sorted((e.epoch, e.seq, e.point) for e in t.entered if e.kind == "outcome")
        if sent == told:
            return None
        return f"sent {sent}, outcomes {told}"


class SequenceGrows(Oracle):
    """I9."""

    id = "I9"
    says = "epoch and sequence number grow from write to write"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._last = (-1, -1)

    def on_write(self, w: WriteSeen) -> str | None:
        """A later number than the last one, whatever the device."""
        c = w.command
        before, self._last = self._last, max(self._last, (c.epoch, c.seq))
        if (c.epoch, c.seq) > before:
            return None
        return f"{c.point} has (epoch, seq) {(c.epoch, c.seq)} after {before}"
