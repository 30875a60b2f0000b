"""Forecast series, checked and repaired by declared rules."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from ems.errors import DataError
from ems.timegrid import FloatArray, TimeGrid

DUST_KW = 1e-6
PEAK_RATIO = 2.0  # of a feeder's peak, or of what it takes now if that is more: more is another unit
SUN_RATIO = 1.2  # of what a PV plant's modules or inverters can give


def refuse_other_unit(
    given: Mapping[str, FloatArray], largest_kw: Mapping[str, float], ratio: float, grid: TimeGrid, what: str
) -> None:
    """Refuse values that no asset of this size can have: more than `ratio` times the largest [kW]."""
    for asset, top in largest_kw.items():
        row = np.asarray(given[asset], dtype=np.float64)
        t = int(np.argmax(row))
        if row[t] > ratio * top:
            raise DataError(
                f"forecast {what}[{asset}] is {row[t]:g} in the step of {grid.starts()[t]}; allowed: up to "
                f"{ratio:g} times its {top:g} kW (is it in W, or ten times too much?)"
            )


def check_time(grid: TimeGrid, at: datetime) -> None:
    """Refuse a forecast that does not start where the condition is."""
    late_s = abs((grid.start - at).total_seconds())
    if late_s > max(900.0, grid.step_s[0]):
        raise DataError(
            f"forecast starts at {grid.start}, the plant's condition is of {at}: wrong time or zone"
        )


def finite_series(values: FloatArray, grid: TimeGrid, what: str) -> FloatArray:
    """(T,) series as it is; DataError where it has another length or a value that is not finite."""
    out = np.asarray(values, dtype=np.float64)
    if out.shape != (len(grid),):
        raise DataError(f"forecast {what} has shape {out.shape}, the grid has {len(grid)} steps")
    bad = np.flatnonzero(~np.isfinite(out))
    if len(bad):
        raise DataError(f"forecast {what} is {out[bad[0]]} in the step of {grid.starts()[int(bad[0])]}")
    return out


def asset_series(
    given: Mapping[str, FloatArray],
    highest: Mapping[str, float],
    grid: TimeGrid,
    what: str,
    notes: list[str],
) -> FloatArray:
    """(N, T) series by asset [kW]. Negative becomes 0, above the rating becomes the rating, with a note.

    Raises
    ------
    DataError : a series is missing, is of no asset of the site, or is not finite.
    """
    rows = []
    if unknown := sorted(set(given) - set(highest)):
        raise DataError(
            f"forecast {what} has series for {', '.join(unknown)}; allowed: {', '.join(highest) or 'none'}"
        )
    for asset, top in highest.items():
        if asset not in given:
            raise DataError(f"forecast {what} has no series for {asset}")
        row = finite_series(given[asset], grid, f"{what}[{asset}]")
        low, high = int((row < 0.0).sum()), int((row > top).sum())
        if low:
            notes.append(f"{asset}: {low} negative values of {what} taken as 0")
        if high:
            notes.append(f"{asset}: {high} values of {what} above the rating taken as {top:g} kW")
        rows.append(np.where(row < DUST_KW, 0.0, np.minimum(row, top)))
    return np.array(rows).reshape(len(rows), len(grid))
