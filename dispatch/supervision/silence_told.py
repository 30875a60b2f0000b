"""Whether devices are set to do in silence what the site file says of them, where they tell it."""

from collections.abc import Iterator

from dispatch.layout import Layout
from ems.telemetry import Snapshot

SAME_RATIO = 0.01  # of the range of the setpoint, and of the time-out


def differing(layout: Layout, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(setpoint, how it differs); a device that does not tell, or not now, differs in nothing."""
    for point in layout.told_silence:
        authority = layout.setpoints[point]
        b = authority.safety.behaviour
        timeout_s = None if b.timeout_point is None else snapshot.value(b.timeout_point)
        if timeout_s is not None and abs(timeout_s - b.timeout_s) > SAME_RATIO * b.timeout_s:
            yield (
                point,
                f"{point} is set to a time-out of {timeout_s:g} s, the site file says {b.timeout_s:g} s",
            )
            continue
        value = None if b.value_point is None else snapshot.value(b.value_point)
        if value is None or b.value is None:
            continue
        if abs(value - b.value) > SAME_RATIO * (authority.high - authority.low):
            yield point, f"{point} goes to {value:g} in silence, the site file says {b.value:g}"
