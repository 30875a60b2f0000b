"""What the flags of a DNP3 object say of its value. Pure. Source: IEEE 1815-2012, 11.6 and annex A."""

from typing import NamedTuple

from ems.dnp3 import ANALOG_INPUT, ANALOG_STATUS, BINARY_INPUT, DOUBLE_BIT
from ems.telemetry import Quality

ONLINE, RESTARTED, COMM_LOST, REMOTE_FORCED, LOCAL_FORCED = 1, 2, 4, 8, 16
OVER_RANGE = CHATTER = 32  # of analogs, and of binary inputs
REFERENCE_ERROR = 64  # of analogs


class Judged(NamedTuple):
    """Quality of a value, why it is not good, and whether somebody has put it in by hand."""

    quality: Quality
    reason: str
    is_forced: bool


def judged(group: int, flags: int | None) -> Judged:
    """Quality by the flags of an object of this static group; without flags all is well (11.6.2)."""
    if flags is None:
        return Judged(Quality.GOOD, "", False)
    forced = bool(flags & (REMOTE_FORCED | LOCAL_FORCED))
    bad = ""
    if not flags & ONLINE:
        bad = "not online"
    elif flags & RESTARTED:
        bad = "not measured since the device restarted"
    elif group in (BINARY_INPUT, DOUBLE_BIT) and flags & CHATTER:
        bad = "it chatters"
    elif group in (ANALOG_INPUT, ANALOG_STATUS) and flags & REFERENCE_ERROR:
        bad = "reference error"
    if bad:
        return Judged(Quality.DEVICE_BAD, bad, forced)
    if flags & COMM_LOST:
        return Judged(Quality.STALE, "the device has lost the sensor: an old value", forced)
    if group in (ANALOG_INPUT, ANALOG_STATUS) and flags & OVER_RANGE:
        return Judged(Quality.OUT_OF_RANGE, "over-range at the device", forced)
    return Judged(Quality.GOOD, "", forced)
