"""Authority as people are shown it: who may command what, until when, and what limits it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dispatch.authority.interlocks import bypass_of, interlocks_now
from dispatch.authority.leases import in_force
from dispatch.authority.modes import Switches, modes_now, switches
from dispatch.authority.orphans import orphans
from dispatch.authority.people_limits import bounds_of, people_now
from dispatch.authority.state import AuthorityMemory, Chosen, Loosened, Pending
from dispatch.authority.told_limits import caps_now
from dispatch.layout import Layout
from ems.commands import Bound
from ems.control import ControlMode, strictest
from ems.records import JsonValue
from ems.requests import SetLimit

Shown = dict[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """When authority is looked at."""

    layout: Layout
    memory: AuthorityMemory
    at: datetime
    now_s: float

    def until(self, until_s: float | None) -> str | None:
        """A moment of the edge's monotonic clock as time of day."""
        if until_s is None:
            return None
        return (self.at + timedelta(seconds=until_s - self.now_s)).isoformat(timespec="seconds")


def shown(look: Look) -> Shown:
    """Everything authority rules by now, for the status row."""
    control, memory, now_s = look.layout.control, look.memory, look.now_s
    at = switches(control, memory, now_s)
    modes = modes_now(control, memory, at)
    bounds = _bounds(look)
    blocked = interlocks_now(control, memory.inputs, memory.loosened, now_s)[1]
    devices: Shown = {
        device: {
            "mode": modes[device].value,
            "why": _why(look, at, device),
            "setpoints": {p: _setpoint(look, p, bounds.get(p, ()), blocked.get(p)) for p in points},
        }
        for device, points in control.points_of.items()
    }
    return {
        "emergency_stop": _stop(look, at),
        "lost": memory.standing_lost,
        "orphans": dict(orphans(look.layout, memory)),
        "plant": {"mode": memory.plant.mode.value, "why": _chosen(look, memory.plant)},
        "devices": devices,
        "caps": _caps(look),
        "proposals": {token: _proposal(look, p) for token, p in memory.pending.items()},
        "loosened": {subject: _loosened(look, x) for subject, x in memory.loosened.items()},
        "interlocks": _interlocks(look),
    }


def counts(memory: AuthorityMemory) -> dict[str, JsonValue]:
    """The same as numbers, for metrics."""
    bypassed = [s for s in memory.loosened if s.startswith("interlock.")]
    return {
        "authority_leases_count": len(memory.leases),
        "authority_limits_count": len(memory.limits),
        "authority_loosened_count": len(memory.loosened) - len(bypassed),
        "authority_proposals_count": len(memory.pending),
        "interlocks_tripped_count": sum(memory.tripped.values()),
        "interlocks_bypassed_count": len(bypassed),
        "limits_lost_count": sum(memory.lost.values()),
        "emergency_stop_latched": memory.stopped,
    }


def _stop(look: Look, at: Switches) -> str:
    if at.stop_pressed:
        return "open"
    if at.stop_unknown:
        return "not read yet"
    return "closed again; off until a person chooses a mode" if look.memory.stopped else "closed"


def _chosen(look: Look, chosen: Chosen) -> str:
    until = look.until(chosen.until_s)
    after = ControlMode.AUTO if chosen.before is None else chosen.before.mode
    return f"chosen by {chosen.user}" + ("" if until is None else f", {after.value} from {until}")


def _why(look: Look, at: Switches, device: str) -> str:
    """What makes a device's mode what it is: the strictest of stop, plant, own choice and selector."""
    memory = look.memory
    own = memory.devices.get(device)
    causes = [(memory.plant.mode, f"the plant's, {_chosen(look, memory.plant)}")]
    if at.stop_pressed or at.stop_unknown or memory.stopped:
        causes.append((ControlMode.OFF, f"emergency stop: {_stop(look, at)}"))
    if own is not None:
        causes.append((own.mode, f"its own, {_chosen(look, own)}"))
    if device in at.local:
        causes.append((ControlMode.LOCAL, "its selector or the site's says local, or is not read"))
    mode = strictest(*(m for m, _ in causes))
    return next(why for m, why in reversed(causes) if m is mode)


def _setpoint(look: Look, point: str, bounds: Sequence[Bound], blocked: str | None) -> Shown:
    a, lease = look.layout.setpoints[point], in_force(look.memory.leases).get(point)
    limits: list[JsonValue] = [_bound("site file", a.low, a.high, "bounds of the setpoint")]
    limits += [_bound(b.layer, b.low, b.high, b.reason) for b in bounds]
    held: Shown | None = None
    if lease is not None:
        held = {
            "owner": lease.owner,
            "value": lease.value,
            "until": look.until(lease.until_s),
            "left_s": round(lease.until_s - look.now_s, 1),
            "reason": lease.reason,
        }
    return {"lease": held, "limits": limits, "blocked": blocked}


def _bound(layer: str, low: float, high: float, reason: str) -> Shown:
    return {"layer": layer, "low": low, "high": high, "reason": reason}


def _bounds(look: Look) -> Mapping[str, list[Bound]]:
    """Bounds beside those of the site file, by setpoint, strongest first."""
    control, memory, now_s = look.layout.control, look.memory, look.now_s
    first_s = now_s if memory.first_s is None else memory.first_s
    people_caps, people = people_now(look.layout, memory.limits, memory.loosened)
    told, _ = caps_now(control, memory.told, first_s, now_s)
    strong = interlocks_now(control, memory.inputs, memory.loosened, now_s)[2]
    out: dict[str, list[Bound]] = {}
    for more in (strong, bounds_of(control, look.layout, told), bounds_of(control, look.layout, people_caps)):
        for point, found in more.items():
            out.setdefault(point, []).extend(found)
    for point, found in people.items():
        out.setdefault(point, []).extend(found)
    return out


def _caps(look: Look) -> list[JsonValue]:
    """Caps at the POI, on all PV and on all batteries, with who is behind them."""
    control, memory, now_s = look.layout.control, look.memory, look.now_s
    first_s = now_s if memory.first_s is None else memory.first_s
    caps = [*caps_now(control, memory.told, first_s, now_s)[0]]
    caps += people_now(look.layout, memory.limits, memory.loosened)[0]
    return [{"kind": c.kind.value, "cap_kw": c.cap_kw, "layer": c.layer, "reason": c.reason} for c in caps]


def _proposal(look: Look, p: Pending) -> Shown:
    is_limit = isinstance(p.ask, SetLimit)
    return {
        "subject": p.ask.subject if isinstance(p.ask, SetLimit) else bypass_of(p.ask),
        "value": p.ask.value if isinstance(p.ask, SetLimit) else None,
        "what": "limit" if is_limit else "bypass",
        "user": p.user,
        "reason": p.reason,
        "for_s": p.for_s,
        "until": look.until(p.until_s),
    }


def _loosened(look: Look, x: Loosened) -> Shown:
    return {
        "value": x.value,
        "user": x.user,
        "second": x.second,
        "reason": x.reason,
        "until": look.until(x.until_s),
    }


def _interlocks(look: Look) -> Shown:
    out: Shown = {}
    for interlock in look.layout.control.params.interlocks:
        bypassed = bypass_of(interlock.id) in look.memory.loosened
        tripped = look.memory.tripped.get(interlock.id, False)
        state = "bypassed" if bypassed else "tripped" if tripped else "ready"
        out[interlock.id] = {"state": state, "cause": interlock.cause}
    return out
