"""Import of the open billing interval and the month, and the peaks that demand charges count."""

import math
from datetime import datetime, timedelta

from dispatch.layout import Layout
from dispatch.state import ObserverMemory
from ems.frozen import replace
from ems.local_time import local_time
from ems.tariff import Tariff
from ems.telemetry import Snapshot


def count_import(
    layout: Layout, memory: ObserverMemory, snapshot: Snapshot, grid_kw: float, import_kvar: float
) -> ObserverMemory:
    """Add the import since the last tick to the billing intervals it fell into.

    A wall clock that is set forward adds nothing: what counts is the time that passed for control.
    """
    length_s, import_kw = layout.site.tariff.billing_interval_s, max(0.0, grid_kw)
    energy_kwh, elapsed_s = memory.interval_import_kwh, memory.interval_elapsed_s
    kvarh, month_kwh = memory.interval_import_kvarh, memory.month_import_kwh
    month_kvarh = memory.month_import_kvarh
    peak_kw, peaks_kw = memory.peak_import_kw, dict(memory.charge_peaks_kw)
    if memory.last_at is not None and memory.last_s is not None and snapshot.at > memory.last_at:
        left_s = min((snapshot.at - memory.last_at).total_seconds(), snapshot.monotonic_s - memory.last_s)
        at = snapshot.at - timedelta(seconds=left_s)
        while left_s > 1e-6:
            room_s = length_s - at.timestamp() % length_s
            step_s = min(room_s, left_s)
            energy_kwh, elapsed_s = energy_kwh + import_kw * step_s / 3600.0, elapsed_s + step_s
            kvarh += import_kvar * step_s / 3600.0
            month_kwh += import_kw * step_s / 3600.0
            month_kvarh += import_kvar * step_s / 3600.0
            at, left_s = at + timedelta(seconds=step_s), left_s - step_s
            if step_s >= room_s - 1e-6:  # the interval is over
                begun = at - timedelta(seconds=length_s)
                new_month = _month(layout, at) != _month(layout, begun)
                peak_kw = 0.0 if new_month else max(peak_kw, energy_kwh * 3600.0 / length_s)
                _count_charges(layout.site.tariff, begun, energy_kwh, kvarh, peaks_kw)
                if new_month:
                    month_kwh, month_kvarh, peaks_kw = 0.0, 0.0, {}
                energy_kwh, kvarh, elapsed_s = 0.0, 0.0, 0.0
    return replace(
        memory,
        day=local_time(snapshot.at, layout.zone).date(),
        peak_import_kw=peak_kw,
        charge_peaks_kw=peaks_kw,
        month_import_kwh=month_kwh,
        month_import_kvarh=month_kvarh,
        interval_import_kwh=energy_kwh,
        interval_import_kvarh=kvarh,
        interval_elapsed_s=elapsed_s,
    )


def _count_charges(
    tariff: Tariff, begun: datetime, kwh: float, kvarh: float, peaks_kw: dict[str, float]
) -> None:
    """Raise the peaks of the further demand charges for which a closed billing interval counts."""
    if not tariff.demand_charges:
        return
    per_h = 3600.0 / tariff.billing_interval_s
    for charge in tariff.charges_at(begun)[1:]:
        mean_kw = (math.hypot(kwh, kvarh) if charge.apparent else kwh) * per_h
        peaks_kw[charge.name] = max(peaks_kw.get(charge.name, 0.0), mean_kw)


def _month(layout: Layout, at: datetime) -> str:
    return f"{at.astimezone(layout.zone):%Y-%m}"
