"""What a register can hold of a value: rounded to the inside of bounds, never up where it protects."""

import math

NOISE_COUNTS = 1e-6  # a count is whole within this


def inside(value: float, low: float, high: float, step: float | None, *, protective: bool) -> float:
    """The value, or the count next to it that does not leave [low, high] when a register rounds it.

    A device rounds to its nearest count. Where that count would lie outside the bounds, or further from zero
    than a protective value, the count on the other side is asked for. Where the bounds hold no count at all
    the value stays as it is.

    Parameters
    ----------
    low, high : bounds [unit of the setpoint].
    step : one count of the register; None: it holds every number.
    protective : the value is to be reached from below.
    """
    if step is None or step <= 0.0:
        return value
    counts = value / step
    nearest = round(counts)
    if abs(counts - nearest) <= NOISE_COUNTS:
        return value
    if low <= nearest * step <= high and not (protective and abs(nearest * step) > abs(value)):
        return value
    for count in (math.trunc(counts), math.floor(counts), math.ceil(counts)):
        if low <= count * step <= high:
            return float(count * step)
    return value
