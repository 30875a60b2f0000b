"""Oracles at every write: I1 limits, I2 authority, I3 finite and known, I4 ramp, I5 record, I9 sequence."""

import math

from connectors.point_map import PointCodec, point_codecs
from ems.commands import Cause
from ems.errors import BadValue
from ems.points import is_binary, split_point_id
from ems.site import Site
from ems.telemetry import Snapshot
from sim.oracles.base import Oracle, TickSeen, WriteSeen

PROTECTIVE = (Cause.SAFE_TABLE, Cause.PROTECTION)
LOCAL = ("local", "local_mode")  # names of a device's own switch, 1: at the device


def effective_limits(site: Site, snapshot: Snapshot | None, point: str) -> tuple[float, float]:
    """What a setpoint may be now: nameplate, site file, and what the device itself last said.

    A battery that says no limits gets none.
    """
    asset, name = split_point_id(point)
    authority = site.authority.setpoints[point]
    low, high = authority.low, authority.high
    if is_binary(name):
        return max(low, 0.0), min(high, 1.0)
    for b in site.bess:
        if b.id == asset and name == "p_set_kw":
            charge = None if snapshot is None else snapshot.value(f"{asset}.p_charge_kw_max")
            discharge = None if snapshot is None else snapshot.value(f"{asset}.p_discharge_kw_max")
            low = max(low, -b.battery.p_charge_kw_max, 0.0 if charge is None else -charge)
            high = min(high, b.battery.p_discharge_kw_max, 0.0 if discharge is None else discharge)
    for g in site.gensets:
        if g.id == asset and name == "p_set_kw":
            low, high = max(low, 0.0), min(high, g.p_rated_kw)
    for p in site.pv:
        if p.id == asset and name == "p_limit_kw":
            low, high = max(low, 0.0), min(high, p.p_ac_kw)
    return low, high


class InsideLimits(Oracle):
    """I1."""

    id = "I1"
    says = "no write outside the effective limits"

    def on_write(self, w: WriteSeen) -> str | None:
        """The value lies inside nameplate, site file and the device's own live limits."""
        c = w.command
        if c.point not in self.site.authority.setpoints:
            return None  # I3 says whether it may be written at all
        low, high = effective_limits(self.site, w.snapshot, c.point)
        slack = 1e-6 * max(1.0, abs(low), abs(high))
        if low - slack <= c.value <= high + slack:
            return None
        return f"{c.point} = {c.value!r} outside [{low:g}, {high:g}] ({c.cause}: {c.reason})"


class MayWrite(Oracle):
    """I2."""

    id = "I2"
    says = "no write without remote control, a live lease and free interlocks"

    def on_write(self, w: WriteSeen) -> str | None:
        """Nothing in shadow or to a device in local; held safe the safe table alone."""
        c = w.command
        asset, _ = split_point_id(c.point)
        if w.shadow:
            return f"{c.point} written in shadow mode"
        if w.snapshot is not None and any(w.snapshot.value(f"{asset}.{n}") == 1.0 for n in LOCAL):
            return f"{c.point} written while {asset} is in local"
        if w.held_safe and c.cause is not Cause.SAFE_TABLE:
            return f"{c.point} written by {c.cause} while the edge is held safe"
        if c.cause is Cause.OPERATOR and not self._wished(w):
            return f"{c.point} written for an operator whose wish is not alive"
        if c.cause is Cause.PLAN:
            return self._plan(w)
        return None

    def _wished(self, w: WriteSeen) -> bool:
        return any(
            p.point == w.command.point and (p.expires_s is None or p.expires_s > w.t_s - 1e-6)
            for p in w.proposals
        )

    def _plan(self, w: WriteSeen) -> str | None:
        c = w.command
        plan = None if c.plan_id is None else w.plans.get(c.plan_id)
        if plan is None:
            return f"{c.point} written for plan {c.plan_id}, which was never offered"
        if not plan.issued_at <= w.at < plan.valid_until:
            return f"{c.point} written for plan {c.plan_id} outside its validity, at {w.at}"
        return None


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
        self._resolution = {m.point: abs(m.scale) for c in site.connections for m in c.points}

    def on_write(self, w: WriteSeen) -> str | None:
        """Not further from what the device holds than the ramp allows in a cycle."""
        c = w.command
        authority = self.site.authority.setpoints.get(c.point)
        if authority is None or authority.ramp_per_s is None or w.held is None:
            return None
        if self._free(w, w.held):
            return None
        step, allowed = abs(c.value - w.held), authority.ramp_per_s * w.dt_s
        if step <= allowed + self._resolution.get(c.point, 0.0) + 1e-6 * abs(w.held):
            return None
        return f"{c.point} from {w.held:g} to {c.value:g} in {w.dt_s:g} s, {allowed:g} allowed ({c.reason})"

    def _free(self, w: WriteSeen, held: float) -> bool:
        """The protective direction: a limit lowered, a power towards zero, anything forced."""
        c = w.command
        _, name = split_point_id(c.point)
        if name == "p_limit_kw":
            return c.value <= held or c.cause is Cause.SAFE_TABLE
        if c.cause in PROTECTIVE:
            return True
        low, high = effective_limits(self.site, w.snapshot, c.point)
        narrowed = not low - 1e-6 <= held <= high + 1e-6
        return narrowed or (abs(c.value) <= abs(held) and c.value * held >= 0.0)


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
