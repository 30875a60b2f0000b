"""The one clamp, and the finite check, that every limit in the project uses."""

import math

from ems.errors import BadValue


def require_finite(name: str, value: float) -> float:
    """Return `value`, or raise BadValue naming it if it is NaN or infinite."""
    if not math.isfinite(value):
        raise BadValue(f"{name} is {value!r}; a finite number is required")
    return value


def clamp(value: float, low: float, high: float) -> float:
    """Limit `value` to [low, high].

    Python's `max(low, min(high, nan))` returns `high`: a bad reading would become full power.
    Here the result is finite and inside, or BadValue is raised.
    """
    if not (math.isfinite(value) and math.isfinite(low) and math.isfinite(high)) or low > high:
        raise BadValue(f"cannot limit {value!r} to [{low!r}, {high!r}]")
    return low if value < low else min(value, high)
