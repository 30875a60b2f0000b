"""Taking over without a step from devices that fell back by themselves while they were out of reach."""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.state import EdgeState, Written
from ems.frozen import replace
from ems.points import TRIP_REQUEST
from ems.silence import when_silent
from ems.site import SetpointAuthority
from ems.telemetry import Snapshot


def know_fallen_back(layout: Layout, state: EdgeState, snapshot: Snapshot) -> EdgeState:
    """Take it that a device that was silent for as long as it waits for us holds its value of silence.

    When it answers again, what was sent is forgotten: the next write starts from what the device reports or
    what is measured, at the allowed ramp, and not from what was sent before. The breaker of a PV plant is a
    device of its own, and in silence it stays open: the silence of the plant is not its.
    """
    now_s = snapshot.monotonic_s
    silent_since_s = _silent(layout, state.silent_since_s, snapshot)
    if not silent_since_s and not state.silent_since_s:
        return state
    written: dict[str, Written] = {}
    for point, w in state.written.items():
        asset = point.partition(".")[0]
        since_s = silent_since_s.get(asset, state.silent_since_s.get(asset))
        authority = layout.setpoints.get(point)
        apart = point.endswith(f".{TRIP_REQUEST}")
        if authority is None or since_s is None or apart or not _fallen_back(authority, since_s, now_s):
            written[point] = w
        elif w.known and _fallen_back(authority, since_s, w.at_s) and not _left_alone(authority, w, now_s):
            written[point] = w  # it took a value since, though nothing it tells is good: not each second anew
        elif asset in silent_since_s:
            value, _ = when_silent(authority, w.value)
            written[point] = Written(value=value, at_s=w.at_s, known=False)
    return replace(state, written=written, silent_since_s=silent_since_s)


def _silent(layout: Layout, since_s: Mapping[str, float], snapshot: Snapshot) -> dict[str, float]:
    """Assets with setpoints that give no good reading, and since when."""
    good = snapshot.good.keys()
    return {
        asset: since_s.get(asset, snapshot.monotonic_s)
        for asset in layout.written_assets
        if good.isdisjoint(layout.reads[asset])
    }


def _fallen_back(authority: SetpointAuthority, silent_since_s: float, now_s: float) -> bool:
    """Whether the device's time-out is over; its last write may be one refresh older than the silence."""
    return now_s - silent_since_s + authority.refresh_s >= authority.safety.behaviour.timeout_s


def _left_alone(authority: SetpointAuthority, written: Written, now_s: float) -> bool:
    """Whether nothing was sent for as long as the device waits for us, so that it has fallen back again."""
    return now_s - written.at_s >= authority.safety.behaviour.timeout_s
