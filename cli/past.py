"""The days before a period as one file: what forecasters start from, and nothing of the period itself."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from ems.errors import DataError
from ems.series import UniformSeries

_STEP_S = 900.0


def save_past(path: Path, series: Mapping[str, UniformSeries], until: datetime) -> Path:
    """Store each series up to `until`, as means over 15 minutes, by asset id."""
    cut = {asset: _quarter_hours(s.before(until)) for asset, s in series.items()}
    meta = {asset: s.start.isoformat() for asset, s in cut.items()}
    arrays = {asset: s.values for asset, s in cut.items()}
    with path.open("wb") as out:
        np.savez_compressed(out, meta=np.asarray(json.dumps(meta)), **arrays)  # type: ignore[arg-type]
    return path


def load_past(path: Path) -> dict[str, UniformSeries]:
    """Read what `save_past` stored."""
    with np.load(path, allow_pickle=False) as data:
        starts = json.loads(str(data["meta"]))
        return {
            asset: UniformSeries(start=datetime.fromisoformat(start), step_s=_STEP_S, values=data[asset])
            for asset, start in starts.items()
        }


def _quarter_hours(series: UniformSeries) -> UniformSeries:
    per = _STEP_S / series.step_s
    if per < 1:  # coarser than asked for: hold each value
        values = np.repeat(series.values, round(1 / per))
    elif per == round(per):
        whole = len(series.values) // round(per) * round(per)
        values = series.values[len(series.values) - whole :].reshape(-1, round(per)).mean(axis=1)
        lost_s = (len(series.values) - whole) * series.step_s
        if lost_s:
            raise DataError(
                f"a series of {series.step_s:g} s from {series.start} does not end on a quarter of an hour"
            )
    else:
        raise DataError(f"a step of {series.step_s:g} s does not divide 15 minutes")
    return UniformSeries(start=series.start, step_s=_STEP_S, values=values)
