"""The days before as one file: what forecasters start from. Of a demo's days, or of a plant that runs.

A planner of a running plant keeps the means it has made, so that one that is started anew knows the load of
the last weeks at once: to read them from the historian again would take minutes.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import structlog

from connectors.stores.kept_file import keep, kept
from ems.errors import BadValue
from ems.records import JsonValue
from ems.series import UniformSeries
from forecasting.measured import MeasuredHistory, quarter_hours

log = structlog.get_logger()

FILE = "past.json"
STEPS_MAX = 40 * 96  # more than any model looks back
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


class PastKeeper:
    """`past.json` in the folder of a running plant. The planner alone writes it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE
        self._told = ""

    def load(self) -> dict[str, UniformSeries]:
        """What was kept; nothing where there is no such file, or it is not what was written."""
        try:
            body = kept(self._file)
            return {} if body is None else {asset: _series(asset, raw) for asset, raw in body.items()}
        except BadValue as error:
            log.error("past.file.lost", file=FILE, why=str(error))
            return {}

    def keep(self, measured: MeasuredHistory) -> None:
        """Replace the file; a full disk stops nobody, and is told once."""
        body: dict[str, JsonValue] = {
            asset: {
                "start": s.start.isoformat(),
                "kw": [float(kw) if np.isfinite(kw) else None for kw in s.values],
            }
            for asset, s in measured.known(STEPS_MAX).items()
            if s.step_s == _STEP_S
        }
        try:
            keep(self._file, body)
        except OSError as error:
            if not self._told:
                log.error("past.file.unwritten", file=FILE, why=str(error))
            self._told = str(error)
            return
        self._told = ""


def _series(asset: str, raw: JsonValue) -> UniformSeries:
    """Raises BadValue where it is no series."""
    try:
        match raw:
            case {"start": str(text), "kw": list(given)}:
                start = datetime.fromisoformat(text)
                values = np.array([np.nan if kw is None else kw for kw in given], dtype=np.float64)
            case _:
                raise TypeError(type(raw))
    except (TypeError, ValueError):
        raise BadValue(f"{FILE}: {asset} is no series of means") from None
    if start.tzinfo is None or start.timestamp() % _STEP_S:
        raise BadValue(
            f"{FILE}: {asset} starts at {start}; allowed: a whole quarter of an hour, with its zone"
        )
    return UniformSeries(start=start, step_s=_STEP_S, values=values)
