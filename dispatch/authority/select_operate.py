"""Select before operate, for discrete actions of people (IEC 61850-7-2, SBO with enhanced security).

SELECT answers with a token and remembers what the plant looked like. OPERATE does it within 10 s, for the
same user and session, once, and only if the plant still looks the same. What the edge does by itself needs
no dialogue: it compares the same hash.
"""

import zlib

from dispatch.authority.state import Selection
from ems.condition import PlantCondition
from ems.control import ControlMode

SELECT_S = 10.0


def state_hash(condition: PlantCondition, point: str, mode: ControlMode) -> str:
    """Hash of what a discrete action at this setpoint depends on: bus, device, and mode of control.

    Nothing in it moves by itself from one cycle to the next.
    """
    device = point.partition(".")[0]
    parts: list[object] = [point, mode.value, condition.grid_mode.value, condition.forming]
    genset, bess = condition.gensets.get(device), condition.bess.get(device)
    if genset is not None:
        parts += [genset.available, genset.on_load, genset.starting]
    if bess is not None:
        parts.append(bess.available)
    parts.append(condition.feeder_closed.get(device))
    parts += [g for g, c in sorted(condition.gensets.items()) if c.on_load]
    return f"{zlib.crc32(repr(parts).encode()):08x}"


def refused(selection: Selection, user: str, session: str, state: str, now_s: float) -> tuple[str, str]:
    """(code, why) of a refusal to operate; ("", "") when it may be done."""
    if now_s > selection.until_s:
        return "selection_expired", f"operate within {SELECT_S:.0f} s of select"
    if user != selection.user:
        return "other_user", f"selected by {selection.user}"
    if session != selection.session:
        return "other_session", "selected in another session"
    if state != selection.state:
        return "state_changed", "the plant is not as it was when this was selected: look, and select again"
    return "", ""
