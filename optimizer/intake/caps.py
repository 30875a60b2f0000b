"""Caps of the interconnection by step: the contract's, lower ones in their windows, and live ones."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.condition import PlantCondition
from ems.forecast import CapAhead
from ems.invariants import require_finite
from ems.poi import CapWindow
from ems.site import GridMode, Site
from ems.timegrid import FloatArray, TimeGrid

SAMPLE_S = 300.0
TOLD_KW = 0.5  # a live cap that much lower than one that is told is another one
LIVE_H = 1.0  # a cap that was told to the plant holds in the plan for so long


def caps_kw(
    site: Site,
    condition: PlantCondition,
    grid: TimeGrid,
    notes: list[str],
    ahead: Sequence[CapAhead] = (),
) -> tuple[FloatArray, FloatArray]:
    """(T,) import and export caps, positive; the lowest that holds in any part of a step [kW].

    Local windows are sampled every 5 min or finer; dated ones count exactly. A live cap above the contract's
    changes nothing, a negative one is taken as 0. It is kept for `LIVE_H`, or as long as `ahead` says where
    what holds now is told there.

    Raises
    ------
    BadValue : a live cap is not finite.
    """
    poi = site.grid
    imported = np.full(len(grid), poi.p_import_kw_max)
    exported = np.full(len(grid), poi.p_export_kw_max)
    for name, out, live in (
        ("import", imported, condition.import_cap_kw),
        ("export", exported, condition.export_cap_kw),
    ):
        told = [x for x in ahead if x.is_import == (name == "import")]
        _told(told, grid, out, name, notes)
        if live is None or require_finite(f"live {name} cap", live) >= out[0]:
            continue
        if any(x.start <= grid.start < x.end and x.cap_kw <= live + TOLD_KW for x in told):
            continue  # it is known how long it lasts
        notes.append(f"live {name} cap of {max(0.0, live):g} kW, kept for {LIVE_H:g} h")
        near = grid.offset_s[:-1] < LIVE_H * 3600.0
        out[near] = np.minimum(out[near], max(0.0, live))
    starts = grid.starts()
    for window in poi.caps:
        held = np.array([_held(site, x, s, window) for x, s in zip(starts, grid.step_s, strict=True)])
        for out, cap in ((imported, window.p_import_kw_max), (exported, window.p_export_kw_max)):
            if cap is not None:
                out[held] = np.minimum(out[held], cap)
    return imported, exported


def _told(told: Sequence[CapAhead], grid: TimeGrid, out: FloatArray, name: str, notes: list[str]) -> None:
    """Caps that were told for times to come: the lowest that holds in any part of a step."""
    starts = grid.starts()
    ends = [x + timedelta(seconds=s) for x, s in zip(starts, grid.step_s, strict=True)]
    for cap in told:
        kw = max(0.0, require_finite(f"{name} cap told by {cap.source}", cap.cap_kw))
        held = np.array([cap.start < b and cap.end > a for a, b in zip(starts, ends, strict=True)])
        if not (kw < out[held]).any():
            continue
        out[held] = np.minimum(out[held], kw)
        span = f"{cap.start:%m-%d %H:%M} to {cap.end:%m-%d %H:%M} UTC"
        notes.append(f"{name} cap of {kw:g} kW from {span}, told by {cap.source}")


def _held(site: Site, begin: datetime, step_s: float, window: CapWindow) -> bool:
    """Whether a window holds in any part of a step."""
    if window.start is not None and window.end is not None:
        return window.start < begin + timedelta(seconds=step_s) and window.end > begin
    zone, n = ZoneInfo(site.tariff.timezone), max(1, round(step_s / SAMPLE_S))
    when = [(begin + timedelta(seconds=(k + 0.5) * step_s / n)).astimezone(zone) for k in range(n)]
    return any(window.holds(x, site.tariff.day_type(x)) for x in when)


def power_now_kw(condition: PlantCondition) -> float | None:
    """Power at the POI that a ramp starts from [kW]; None in an island or where it is not measured.

    Raises
    ------
    BadValue : it is not finite.
    """
    if condition.grid_mode is not GridMode.GRID_TIED or condition.grid_p_kw is None:
        return None
    return require_finite("power at the POI", condition.grid_p_kw)
