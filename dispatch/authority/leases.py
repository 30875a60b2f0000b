"""Leases: a setpoint held by its owner for a time, counted on the edge's own monotonic clock.

One lease per setpoint and owner, each with its own expiry. A new lease is a new request for that very
setpoint: there is no sign of life that keeps several alive. Nothing but its owner lengthens what was asked:
a setpoint that is taken over, after a selector, a probe or a restart, is held no longer than its last lease.
"""

from collections.abc import Iterable, Mapping

from dispatch.authority.state import AuthorityMemory, Chosen, Lease
from dispatch.layout import Layout
from dispatch.state import Written
from ems.condition import PlantCondition
from ems.control import ControlMode
from ems.frozen import replace
from ems.invariants import clamp
from ems.telemetry import Snapshot

HOLDING = (ControlMode.MANUAL, ControlMode.TEST)  # modes in which people's setpoints count


def leases_now(
    leases: Mapping[tuple[str, str], Lease], modes: Mapping[str, ControlMode], now_s: float
) -> dict[tuple[str, str], Lease]:
    """Leases that are not over, of devices whose mode lets people set them."""
    return {
        key: lease
        for key, lease in leases.items()
        if now_s < lease.until_s and modes.get(_device(lease.point)) in HOLDING
    }


def in_force(leases: Mapping[tuple[str, str], Lease]) -> dict[str, Lease]:
    """The lease that counts at each setpoint: the newest of its owners'."""
    out: dict[str, Lease] = {}
    for lease in leases.values():
        known = out.get(lease.point)
        if known is None or lease.since_s >= known.since_s:
            out[lease.point] = lease
    return out


def grant(memory: AuthorityMemory, lease: Lease) -> AuthorityMemory:
    """With one lease more, or in place of the same owner's earlier one; no other lease is touched."""
    return replace(memory, leases={**memory.leases, (lease.point, lease.owner): lease})


def handed_over(memory: AuthorityMemory, modes: Mapping[str, ControlMode]) -> AuthorityMemory:
    """Without the leases of devices that come into test: only a probe counts there, and nothing limits it
    but bounds, so that an operator's setpoint would stand without the protections it was given under.
    """
    new = {
        d for d, m in modes.items() if m is ControlMode.TEST and memory.modes.get(d) is not ControlMode.TEST
    }
    kept = {k: x for k, x in memory.leases.items() if _device(x.point) not in new}
    return memory if len(kept) == len(memory.leases) else replace(memory, leases=kept)


def adopt(
    layout: Layout,
    memory: AuthorityMemory,
    modes: Mapping[str, ControlMode],
    standing: Mapping[str, float],
    now_s: float,
) -> AuthorityMemory:
    """What a device does when it comes into manual is what its operator takes over: no step, own expiry.

    That expiry counts from the choice of manual, and is that of the setpoint's last lease where it had one.
    """
    leases: dict[tuple[str, str], Lease] = {}
    for device, mode in modes.items():
        if mode is not ControlMode.MANUAL or memory.modes.get(device) is ControlMode.MANUAL:
            continue
        own = memory.devices.get(device)
        chosen = own if own is not None and own.mode is ControlMode.MANUAL else memory.plant
        for point in layout.control.points_of[device]:
            value, until_s = standing.get(point), _adopted_until_s(layout, memory, chosen, point, now_s)
            if value is None or until_s <= now_s or (point, chosen.user) in memory.leases:
                continue
            leases[(point, chosen.user)] = Lease(
                point=point,
                owner=chosen.user,
                value=value,
                since_s=now_s,
                until_s=until_s,
                request_id="",
                reason=f"as it was when {device} came into manual",
            )
    return replace(memory, leases={**memory.leases, **leases}) if leases else memory


def _adopted_until_s(
    layout: Layout, memory: AuthorityMemory, chosen: Chosen, point: str, now_s: float
) -> float:
    """How long whoever chose manual holds a setpoint that nobody has set since."""
    since_s = memory.first_s if chosen.since_s is None else chosen.since_s
    by_choice_s = (now_s if since_s is None else since_s) + layout.control.params.setpoint_expiry_s
    until_s = memory.asked_until_s.get(point, by_choice_s)
    return until_s if chosen.until_s is None else min(until_s, chosen.until_s)


def asked_now(memory: AuthorityMemory) -> AuthorityMemory:
    """With how long each setpoint's lease was asked for, which outlives the lease itself."""
    asked = {point: lease.until_s for point, lease in in_force(memory.leases).items()}
    if not asked:
        return memory
    return replace(memory, asked_until_s={**memory.asked_until_s, **asked})


def asked_anew(memory: AuthorityMemory, points: Iterable[str]) -> AuthorityMemory:
    """A person chooses manual: what was asked of these setpoints before counts only while it still holds."""
    held, over = in_force(memory.leases), set(points)
    kept = {p: s for p, s in memory.asked_until_s.items() if p in held or p not in over}
    return replace(memory, asked_until_s=kept)


def standing_values(
    layout: Layout, snapshot: Snapshot, condition: PlantCondition, written: Mapping[str, Written]
) -> dict[str, float]:
    """What each setpoint stands at: read back, else last written, else as measured. In its own unit."""
    out: dict[str, float] = {}
    for point, a in layout.setpoints.items():
        value = snapshot.value(point)
        if value is None and point in written:
            value = written[point].value
        if value is None:
            value = _measured(condition, point)
        if value is not None:
            out[point] = clamp(value, a.low, a.high)
    return out


def _measured(c: PlantCondition, point: str) -> float | None:
    asset, _, name = point.partition(".")
    if name == "p_set_kw":
        unit = c.gensets.get(asset) or c.bess.get(asset)
        return None if unit is None else unit.p_kw
    if name == "run_request" and asset in c.gensets:
        return float(c.gensets[asset].on_load or c.gensets[asset].starting)
    closed = c.feeder_closed.get(asset) if name == "close_request" else None
    return None if closed is None else float(closed)


def _device(point: str) -> str:
    return point.partition(".")[0]
