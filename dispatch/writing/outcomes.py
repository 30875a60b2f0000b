"""What a setpoint stands at after a write, by its outcome, and after the device has told what it holds.

A write that was not confirmed is not taken for done. What was not sent, or was refused, leaves the device
where it was. What was not answered may have been carried out or not: until the device says what it holds,
the setpoint counts as the nearer to zero of the two, so that no ramp starts beyond what is really held.
"""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.state import Written
from ems.commands import Command, WriteOutcome
from ems.frozen import replace
from ems.invariants import clamp
from ems.points import is_binary
from ems.telemetry import Snapshot

RETRY_S = 2.0  # from an unconfirmed write to its first repetition
RETRY_S_MAX = 8.0  # the wait doubles with each repetition, up to this
SPAN_RATIO = 0.005  # of a setpoint's span: what registers round


def after_write(command: Command, outcome: WriteOutcome, last: Written | None) -> Written:
    """What the point stands at from now on; `last` is what it stood at before."""
    if outcome is WriteOutcome.CONFIRMED:
        return Written(value=command.value, at_s=command.decided_s, known=True)
    value = command.value
    if last is not None and not is_binary(command.point):
        value = nearer(last.value, value) if outcome is WriteOutcome.UNKNOWN else last.value
    tries = 1 if last is None else last.tries + 1
    return Written(
        value=value, at_s=command.decided_s, known=False, wanted=command.value, tries=tries
    )  # fmt: skip


def nearer(a: float, b: float) -> float:
    """The point of [a, b] nearest to zero."""
    return clamp(0.0, min(a, b), max(a, b))


def repeat_after_s(last: Written) -> float:
    """How long an unconfirmed write waits for its read-back before it is repeated [s]."""
    return min(RETRY_S_MAX, RETRY_S * 2.0 ** max(0, min(last.tries, 8) - 1))


def read_back(layout: Layout, written: Mapping[str, Written], snapshot: Snapshot) -> dict[str, Written]:
    """Unconfirmed writes that the device has meanwhile told to hold are done, and not repeated.

    What it held before may be as near as that: many small steps that were all refused are none. Where it
    tells less than it was taken to hold, as after its own time-out, it stands at what it tells.
    """
    out = dict(written)
    for point, w in written.items():
        reading = snapshot.readings.get(point)
        if w.wanted is None or point not in layout.setpoints or reading is None:
            continue
        if not reading.is_good or reading.arrived_s <= w.at_s:
            continue
        assert reading.value is not None  # of a good one
        off = abs(reading.value - w.wanted)
        if off <= slack_of(layout, point) and off <= abs(reading.value - w.value):
            out[point] = replace(w, value=w.wanted, known=True, wanted=None, tries=0)
        elif not is_binary(point):
            out[point] = replace(w, value=nearer(w.value, reading.value))
    return out


def slack_of(layout: Layout, point: str) -> float:
    """How far what a device tells may lie from what was written to it [unit of the setpoint]."""
    a = layout.setpoints[point]
    return 0.5 if is_binary(point) else max(a.deadband, SPAN_RATIO * (a.high - a.low))
