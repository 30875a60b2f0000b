"""What authority tells: alarms while something needs a person, events when something has changed."""

from dispatch.authority.interlocks import bypass_of
from dispatch.authority.orphans import orphans
from dispatch.authority.ruling import Ruling
from dispatch.authority.state import AuthorityMemory
from dispatch.layout import Layout
from dispatch.vocabulary import Alarm, Event, event


def alarms_of(layout: Layout, memory: AuthorityMemory, ruling: Ruling) -> tuple[Alarm, ...]:
    """Alarms of authority that are active now. A mode that somebody chose is no alarm."""
    out: list[Alarm] = []
    if ruling.stopping:
        out.append(Alarm(code="control.emergency_stop", text="the emergency stop is open"))
    elif memory.stopped:
        text = "stopped by the emergency stop, off until a person chooses a mode"
        out.append(Alarm(code="control.emergency_stop", text=text))
    if memory.standing_lost:
        text = "modes and limits of before the restart cannot be read: off until a person chooses a mode"
        out.append(Alarm(code="control.standing_lost", text=text))
    gone = orphans(layout, memory)
    if gone:
        what = "; ".join(f"{subject} ({held})" for subject, held in gone.items())
        out.append(Alarm(code="control.orphaned", text=f"set by people, not in the site file: {what}"))
    for interlock in layout.control.params.interlocks:
        if bypass_of(interlock.id) in memory.loosened:
            text = f"{interlock.id} ({interlock.cause}) does not count for a time"
            out.append(Alarm(code="control.interlock_bypassed", asset=interlock.id, text=text))
        elif memory.tripped.get(interlock.id, False):
            out.append(Alarm(code="control.interlock", asset=interlock.id, text=interlock.cause))
    for limit, lost in memory.lost.items():
        if lost:
            text = f"{limit} is not heard: its value on loss holds"
            out.append(Alarm(code="control.limit_lost", asset=limit, text=text))
    for subject, loose in memory.loosened.items():
        if loose.second is None:
            text = f"{loose.user} broke the glass at {subject}: {loose.reason}"
            out.append(Alarm(code="control.break_glass", asset=subject, text=text))
    return tuple(out)


def changes_of(before: AuthorityMemory, after: AuthorityMemory, ruling: Ruling) -> list[Event]:
    """Changes of mode, and leases and loosenings that ended by themselves."""
    out = []
    for device, mode in ruling.modes.items():
        old = before.modes.get(device)
        if old is not None and old is not mode:
            out.append(event("mode.control.changed", device=device, before=old.value, now=mode.value))
    for key, lease in before.leases.items():
        if key not in after.leases:
            out.append(
                event("authority.lease.ended", point=lease.point, owner=lease.owner, value=lease.value)
            )
    for subject, loose in before.loosened.items():
        if subject not in after.loosened:
            out.append(event("limit.loosening.ended", subject=subject, user=loose.user))
    return out
