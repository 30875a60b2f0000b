"""One reading held against the one before it: what moves faster than it can, and stamps that cannot be.

The age of a value counts from its arrival, on the edge's own monotonic clock. Its stamp is looked at where
the site file says that the server stamps each sample (`stamps_sampled`). There the same stamp with another
value is a contradiction, an older one is a sample that was overtaken, one of the future was not taken, and
the same one again is the same sample, as old as it was.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from ems.frozen import replace
from ems.telemetry import Quality, Reading

AT_LEAST_S = 1.0  # readings may arrive in a burst: what moves in a second is never too fast
AHEAD = timedelta(seconds=5)  # a stamp may be so far ahead of record time; clocks differ


class Arrivals:
    """What arrived last, good, of the points that are judged by it.

    Parameters
    ----------
    rate_of : most a point can move in a second, in its own unit.
    stamped : points whose stamp is the moment at which the device took the sample.
    """

    def __init__(self, rate_of: Mapping[str, float], stamped: frozenset[str]) -> None:
        self._rate_of, self.stamped = rate_of, stamped
        self.points = stamped.union(rate_of)  # those that are judged
        self._moved: dict[str, tuple[float, float]] = {}  # point -> (value, arrived [s])
        self._sample: dict[str, Reading] = {}  # the newest sample
        self._overtaken: dict[str, Reading] = {}  # an older one that came after it

    def judged(self, reading: Reading) -> Reading:
        """A good reading, or the same with the quality that it really has."""
        if reading.point in self.stamped:
            reading = self._by_stamp(reading)
        rate = self._rate_of.get(reading.point)
        if rate is None or not reading.is_good:
            return reading
        assert reading.value is not None
        value, arrived_s = self._moved.get(reading.point, (reading.value, reading.arrived_s))
        if abs(reading.value - value) > rate * max(AT_LEAST_S, reading.arrived_s - arrived_s):
            return replace(reading, quality=Quality.OUT_OF_RANGE)
        self._moved[reading.point] = reading.value, reading.arrived_s
        return reading

    def _by_stamp(self, reading: Reading) -> Reading:
        known, before = self._sample.get(reading.point), self._overtaken.get(reading.point)
        if known is not None and reading.source_time < known.source_time:
            # a device whose clock was set back is believed again from its next sample on; two samples that
            # are served by turns are none that move on
            if before is None or reading.source_time <= before.source_time:
                self._overtaken[reading.point] = reading
                return replace(reading, quality=Quality.STALE)
            known = None
        if known is None or reading.source_time > known.source_time:
            self._sample[reading.point] = reading
            self._overtaken.pop(reading.point, None)
            return reading
        if reading.value != known.value:
            return replace(reading, quality=Quality.DEVICE_BAD)
        return replace(reading, arrived_s=known.arrived_s)

    def ahead(self, reading: Reading, at: datetime) -> bool:
        """Whether a sample says it was taken in the future; the next one is not measured by it."""
        if reading.point not in self.stamped or reading.source_time <= at + AHEAD:
            return False
        self._sample.pop(reading.point, None)
        return True
