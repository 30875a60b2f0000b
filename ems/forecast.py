"""Forecasts are bitemporal: event time and time of issue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ems.inputs import InputUse
from ems.outage import OutageNotice
from ems.timegrid import FloatArray, TimeGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastScenario:
    """One way demand and sun may go, on the grid of its forecast; probabilities of a set add up to 1."""

    label: str
    probability_ratio: float
    load_kw: Mapping[str, FloatArray]
    pv_kw: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapAhead:
    """A cap at the POI that was told for a time to come."""

    is_import: bool  # else of export
    cap_kw: float  # positive
    start: datetime
    end: datetime
    source: str  # who said so


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected on a time grid, known at `issued_at` from data up to `data_cutoff`.

    All arrays are (T,) and finite. `load_kw` is by feeder (a positive demand), `pv_kw` by PV asset
    (available AC power before curtailment), `import_per_kwh` the energy price.
    `load_low_kw` etc. are optional quantile bands by name, e.g. {"p10": {...}}.
    `scenarios` is empty or begins with the expected path, which is `load_kw` and `pv_kw` themselves;
    `scenario_source` says what they were made from.
    """

    grid: TimeGrid
    issued_at: datetime
    data_cutoff: datetime
    source: str
    load_kw: Mapping[str, FloatArray]
    pv_kw: Mapping[str, FloatArray]
    import_per_kwh: FloatArray
    export_per_kwh: FloatArray
    outages: tuple[OutageNotice, ...]
    load_kw_quantiles: Mapping[str, Mapping[str, FloatArray]] = field(default_factory=dict)
    pv_kw_quantiles: Mapping[str, Mapping[str, FloatArray]] = field(default_factory=dict)
    temp_degc: FloatArray | None = None  # (T,) of the air; None: not forecast
    repairs: tuple[str, ...] = ()  # every substitution that was made, in words
    scenarios: tuple[ForecastScenario, ...] = ()
    scenario_source: str = ""
    inputs: tuple[InputUse, ...] = ()  # versions from elsewhere that it rests on
    caps: tuple[CapAhead, ...] = ()  # at the POI, told for times to come
