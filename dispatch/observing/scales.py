"""Which reading looks as if its scale, its sign or its address had changed while the edge runs.

A device that is updated or set up anew may tell ten times what it told, or the opposite; its map is the old
one. Three witnesses. They name what is wrong for whoever looks for it; what is refused, bounded or believed
is decided elsewhere (`plausibility`).

- The balance: where the powers do not add up, the reading that would make them do so if it were divided by a
  power of ten, or turned round.
- The range: a device answers, and one of its readings is refused. What the others leave of the load, or what
  it read last, says by which factor it is off.
- Both sides of a closed breaker: voltage and frequency at the POI and at the bus.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from dispatch.layout import Layout
from dispatch.observing.plausibility import FACTORS, residual_kw
from dispatch.vocabulary import Alarm
from ems.site import GridMode
from ems.telemetry import Quality, Reading, Snapshot

NEAR_RATIO = 0.1  # the other meters, and the time between two polls, tell a power no better
NEAR_KW = 2.0
REFUSED = frozenset({Quality.OUT_OF_RANGE, Quality.NOT_FINITE, Quality.DEVICE_BAD})
HZ, PU = (45.0, 65.0), (0.8, 1.2)  # nothing runs for long outside of these
APART_HZ, APART_PU = 1.0, 0.2  # more than any line or transformer between POI and bus


def scale_alarms(
    layout: Layout, snapshot: Snapshot, last_good: Mapping[str, float], mode: GridMode
) -> Iterator[Alarm]:
    """One for each device that answers and whose readings are refused, or contradict those of another.

    Parameters
    ----------
    last_good : what each power and charge was when it was last good, or what the others leave of it.
    """
    found: dict[str, list[str]] = {}
    bad = [r for p, r in snapshot.readings.items() if p not in snapshot.good and r.quality in REFUSED]
    for reading in bad:
        device = _device_of(layout, reading.point)
        if device is not None and not snapshot.good.keys().isdisjoint(layout.devices[device]):
            found.setdefault(device, []).append(_refused(layout, reading, last_good.get(reading.point)))
    if mode is GridMode.GRID_TIED:
        for point, text in _contradictions(layout, snapshot):
            device = _device_of(layout, point)
            if device is not None:
                found.setdefault(device, []).append(text)
    for device, texts in found.items():
        yield Alarm(code="device.reading.doubted", asset=device, text="; ".join(texts))


def explanation(layout: Layout, snapshot: Snapshot, proved: Sequence[tuple[str, float]]) -> str:
    """Which readings would close the balance if they were scaled or turned; empty: none, or it is closed.

    Parameters
    ----------
    proved : point and factor of what did so at every look while it swung.
    """
    if proved:
        return "; or ".join(
            f"{point} swung as if it were scaled ({_said(factor)})" for point, factor in proved
        )
    powers_kw = {a: v for a in layout.metered if (v := snapshot.value(layout.p[a])) is not None}
    if len(powers_kw) < len(layout.metered):
        return ""
    open_kw = residual_kw(layout, {layout.p[a]: v for a, v in powers_kw.items()})
    said = []
    for a, told_kw in powers_kw.items():
        others_kw = told_kw + open_kw if a in layout.feeders else told_kw - open_kw
        factor = factor_of(told_kw, others_kw)
        if factor is not None and abs(open_kw) > _near_kw(told_kw, others_kw):
            said.append(
                f"{layout.p[a]} reads {told_kw:.0f} kW, the others leave {others_kw:.0f} ({_said(factor)})"
            )
    return "; or ".join(said)


def factor_of(told: float, believed: float) -> float | None:
    """By which factor a reading is off what is believed; None: by none of those a map is wrong by."""
    fits = [f for f in FACTORS if abs(told / f - believed) <= _near_kw(told / f, believed)]
    best = min(fits, key=lambda f: abs(told / f - believed), default=None)
    unchanged = abs(told - believed) <= _near_kw(told, believed)
    return None if unchanged or abs(believed) <= NEAR_KW else best


def _near_kw(a: float, b: float) -> float:
    return max(NEAR_KW, NEAR_RATIO * max(abs(a), abs(b)))


def _said(factor: float) -> str:
    if factor < 0.0:
        return "its sign turned?"
    return f"its scale {factor:g} times?"


def _refused(layout: Layout, reading: Reading, before: float | None) -> str:
    value = reading.value
    if value is None or not math.isfinite(value):
        return f"{reading.point} gives no number"
    low, high = layout.range_of.get(reading.point, (-math.inf, math.inf))
    text = f"{reading.point} reads {value:.6g}, refused"
    if not low <= value <= high:
        text = f"{reading.point} reads {value:.6g}, outside {low:g} to {high:g}"
    factor = _factor_in_band(reading.point, value) if before is None else factor_of(value, before)
    return text if factor is None else f"{text} ({_said(factor)})"


def _contradictions(layout: Layout, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Points of the POI and the bus that cannot both be right while the breaker between them is closed."""
    grid = layout.site.grid.id
    if snapshot.value(f"{grid}.breaker_closed") != 1.0:
        return
    for name, band, apart in (("f_hz", HZ, APART_HZ), ("v_pu", PU, APART_PU)):
        one, other = f"{grid}.{name}", f"bus.{name}"
        a, b = snapshot.value(one), snapshot.value(other)
        if a is None or b is None or abs(a - b) <= apart:
            continue
        wrong = [(p, v) for p, v in ((one, a), (other, b)) if not band[0] <= v <= band[1]]
        point, value = wrong[0] if len(wrong) == 1 else (one, a)
        factor = _factor_in_band(point, value) if len(wrong) == 1 else None
        text = f"{one} reads {a:.4g} and {other} {b:.4g}, the breaker between them closed"
        yield point, text if factor is None else f"{text} ({_said(factor)})"


def _factor_in_band(point: str, value: float) -> float | None:
    """By which factor a voltage or a frequency is off what there can be; None for anything else."""
    name = point.partition(".")[2]
    low, high = HZ if name == "f_hz" else PU if name == "v_pu" else (math.inf, -math.inf)
    return next((f for f in FACTORS if low <= value / f <= high), None)


def _device_of(layout: Layout, point: str) -> str | None:
    return next((d for d, points in layout.devices.items() if point in points), None)
