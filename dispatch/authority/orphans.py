"""What people set before a restart about what the site file has no more: a setpoint or device was renamed.

Dropped without a word, a limit or a mode would leave the plant looser than people made it.

So the edge comes up off, says what it is, and runs by itself again only when two persons have taken the limit
away, or one has broken the glass. In manual people command in the meantime.
"""

from dispatch.authority.people_limits import subject_of
from dispatch.authority.state import AuthorityMemory, Chosen
from dispatch.layout import Layout
from dispatch.vocabulary import Event, event
from ems.control import ControlMode
from ems.frozen import replace
from ems.requests import StandingLimit

BY = "restart: what people set is about something the site file has no more"


def orphan_limits(layout: Layout, memory: AuthorityMemory) -> dict[str, StandingLimit]:
    """Limits of people about nothing at this site that nobody has loosened."""
    return {
        name: limit
        for name, limit in memory.limits.items()
        if subject_of(layout, name) is None and name not in memory.loosened
    }


def orphan_modes(layout: Layout, memory: AuthorityMemory) -> dict[str, Chosen]:
    """Modes of devices that this site does not have."""
    return {d: c for d, c in memory.devices.items() if d not in layout.control.points_of}


def orphans(layout: Layout, memory: AuthorityMemory) -> dict[str, str]:
    """Subject of each limit and device of each mode -> what people had set, in words."""
    limits = {
        name: f"limit of {x.user} at {'none' if x.value is None else f'{x.value:g}'}: {x.reason}"
        for name, x in orphan_limits(layout, memory).items()
    }
    modes = {d: f"{c.mode.value}, chosen by {c.user}" for d, c in orphan_modes(layout, memory).items()}
    return limits | modes


def come_up(layout: Layout, memory: AuthorityMemory) -> tuple[AuthorityMemory, list[Event]]:
    """In the first cycle of an edge: off where something is about nothing, with an event for each."""
    found = {} if memory.first_s is not None else orphans(layout, memory)
    if not found:
        return memory, []
    told = [event("standing.orphaned", subject=subject, held=held) for subject, held in found.items()]
    return replace(memory, plant=Chosen(mode=ControlMode.OFF, user=BY, since_s=memory.plant.since_s)), told


def against_auto(layout: Layout, memory: AuthorityMemory) -> str | None:
    """Why the plant may not run by itself again yet."""
    limits = orphan_limits(layout, memory)
    if not limits:
        return None
    names = ", ".join(limits)
    return (
        f"{names}: a limit about nothing at this site; set it anew where it belongs, take this one away first"
    )


def settled(layout: Layout, memory: AuthorityMemory) -> AuthorityMemory:
    """A person lets the plant run by itself: modes of devices that are not there are forgotten."""
    gone = orphan_modes(layout, memory)
    return replace(memory, devices={d: c for d, c in memory.devices.items() if d not in gone})
