"""Collects readings as they arrive; `latch()` freezes them, and what is too old is STALE from then on."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from dispatch.layout import DEFAULT_AGE_S_MAX, HeartbeatIn, Layout
from dispatch.observing.arrivals import Arrivals
from ems.frozen import replace
from ems.telemetry import UNKNOWN, Doubt, Quality, Reading, Snapshot, UtcState

LARGEST = 1e30  # nothing in a plant is larger in any unit, and sums and squares of it are finite
ANY = (-math.inf, math.inf)
NUMBER = (int, float)


class ProcessImage:
    """The newest reading of every point.

    Parameters
    ----------
    age_s_max : maximum age by point [s]; points not named get `DEFAULT_AGE_S_MAX`.
    range_of : plausible (low, high) by point, in the point's unit.
    heartbeats : of devices; while one stands still its own reading is FROZEN and its device's are STALE.
    arrivals : how a reading is held against the one before it; None: it is not.
    """

    def __init__(
        self,
        age_s_max: Mapping[str, float],
        range_of: Mapping[str, tuple[float, float]],
        heartbeats: Sequence[HeartbeatIn] = (),
        arrivals: Arrivals | None = None,
    ) -> None:
        self._age_s_max = age_s_max
        self._range_of = range_of
        self._readings: dict[str, Reading] = {}
        self._heartbeats = heartbeats
        self._arrivals = Arrivals({}, frozenset()) if arrivals is None else arrivals
        self._beats: dict[str, tuple[float | None, float]] = {}  # point -> value, since when [s]

    @classmethod
    def of(cls, layout: Layout) -> "ProcessImage":
        """The image of one plant."""
        arrivals = Arrivals(layout.rate_of, layout.stamped)
        return cls(layout.age_s_max, layout.range_of, layout.heartbeats_in, arrivals)

    def update(self, readings: Iterable[Reading]) -> None:
        """Take readings in. An older arrival never replaces a newer one; a bad one replaces a good one."""
        for reading in readings:
            known = self._readings.get(reading.point)
            if known is None or reading.arrived_s >= known.arrived_s:
                checked = self._checked(reading)
                judged = reading.point in self._arrivals.points and checked.is_good
                self._readings[reading.point] = self._arrivals.judged(checked) if judged else checked

    def latch(
        self,
        at: datetime,
        monotonic_s: float,
        utc: UtcState = UtcState.VALID,
        doubt: Doubt = UNKNOWN,
        relied_at: datetime | None = None,
    ) -> Snapshot:
        """What one tick sees. The door has checked finite and range before; it is checked again here.

        Stamps ahead of `at` are refused while the edge's own time may be relied on (`utc`), and not else.
        """
        if utc is not UtcState.INVALID:
            self._refuse_ahead(at)
        out = {}
        for point, reading in self._readings.items():
            age_s = monotonic_s - reading.arrived_s
            limit_s = self._age_s_max.get(point, DEFAULT_AGE_S_MAX)
            out[point] = reading if 0.0 <= age_s <= limit_s else _stale(reading)
        for heartbeat in self._heartbeats:
            if self._stands_still(heartbeat, out, monotonic_s):
                out |= {p: _stale(out[p]) for p in heartbeat.points if p in out}
        return Snapshot(
            at=at, monotonic_s=monotonic_s, readings=out, utc=utc, doubt=doubt, relied_at=relied_at
        )

    def _refuse_ahead(self, at: datetime) -> None:
        for point in self._arrivals.stamped:
            reading = self._readings.get(point)
            if reading is not None and reading.is_good and self._arrivals.ahead(reading, at):
                self._readings[point] = replace(reading, quality=Quality.DEVICE_BAD)

    def _stands_still(self, heartbeat: HeartbeatIn, image: dict[str, Reading], now_s: float) -> bool:
        """Whether a device's counter has not moved for too long; without a good reading it does not move."""
        reading = image.get(heartbeat.point)
        value = reading.value if reading is not None and reading.is_good else None
        known = self._beats.get(heartbeat.point)
        if known is None or (value is not None and value != known[0]):
            self._beats[heartbeat.point] = known = (value, now_s)
        still = now_s - known[1] >= heartbeat.still_s_max - 1e-6
        if still and reading is not None and reading.is_good:
            image[heartbeat.point] = replace(reading, quality=Quality.FROZEN)
        return still

    def _checked(self, reading: Reading) -> Reading:
        if reading.quality is not Quality.GOOD or reading.value is None:
            return reading
        value: object = reading.value  # whatever an adapter let through
        if not isinstance(value, NUMBER):
            return replace(reading, value=None, quality=Quality.DEVICE_BAD)
        if not -LARGEST <= value <= LARGEST:  # a whole number too large for a float raises in isfinite
            return replace(reading, value=None, quality=Quality.NOT_FINITE)
        low, high = self._range_of.get(reading.point, ANY)
        if not low <= reading.value <= high:
            return replace(reading, quality=Quality.OUT_OF_RANGE)
        return reading


def _stale(reading: Reading) -> Reading:
    """Good becomes STALE; what was bad before keeps its own reason."""
    return replace(reading, quality=Quality.STALE) if reading.quality is Quality.GOOD else reading
