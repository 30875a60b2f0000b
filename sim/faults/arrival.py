"""Faults in how an answer arrives at the edge: quality, numbers that are none, stamps, lateness."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from ems.telemetry import Quality, Reading
from sim.faults.base import Fault, Memory

LATE = "late"


def numberless(value: float) -> Callable[[Fault, Memory, list[Reading], float], list[Reading]]:
    """A driver that lets a number through as good that is none: the process image must refuse it."""

    def arrive(fault: Fault, memory: Memory, readings: list[Reading], now_s: float) -> list[Reading]:
        return [replace(r, value=value, quality=Quality.GOOD) if fault.of(r.point) else r for r in readings]

    return arrive


not_a_number = numberless(math.nan)
infinite = numberless(math.inf)
huge = numberless(1e38)


def bad(fault: Fault, memory: Memory, readings: list[Reading], now_s: float) -> list[Reading]:
    """The device itself says that the value is not to be used."""
    return [replace(r, quality=Quality.DEVICE_BAD) if fault.of(r.point) else r for r in readings]


def not_renewed(fault: Fault, memory: Memory, readings: list[Reading], now_s: float) -> list[Reading]:
    """Nothing new arrives: the image keeps the old value, which grows stale."""
    return [r for r in readings if not fault.of(r.point)]


def old_source(fault: Fault, memory: Memory, readings: list[Reading], now_s: float) -> list[Reading]:
    """The source's own stamp is a minute old, the answer fresh."""
    by = timedelta(seconds=fault.given(60.0))
    return [replace(r, source_time=r.source_time - by) if fault.of(r.point) else r for r in readings]


def latent(fault: Fault, memory: Memory, readings: list[Reading], now_s: float) -> list[Reading]:
    """Answers are renewed only every `value` seconds; in between the old ones stand with their old stamps."""
    every_s = fault.given(2.0)
    due = now_s - memory.get(LATE, -math.inf) >= every_s - 1e-6
    if due:
        memory[LATE] = now_s
        return readings
    return [r for r in readings if not fault.of(r.point)]
