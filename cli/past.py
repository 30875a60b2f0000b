"""The days before a period as one file: what forecasters start from, and nothing of the period itself."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from ems.series import UniformSeries
from forecasting.measured import quarter_hours

_STEP_S = 900.0


def save_past(path: Path, series: Mapping[str, UniformSeries], until: datetime) -> Path:
    """Store each series up to `until`, as means over 15 minutes, by asset id."""
    cut = {asset: quarter_hours(asset, s, until) for asset, s in series.items()}
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
