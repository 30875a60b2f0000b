"""What happens to a plant in a run: truth, mains, notices, faults. Numpy only: the plant process loads it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from ems.errors import DataError
from ems.outage import OutageNotice
from ems.ports import InputKnowledge
from ems.prices import ToldPrices
from ems.series import UniformSeries
from ems.site import Site

FORMAT = 2  # of the .npz file
MAINS_FIELDS = ("id", "start", "end", "announced", "v_pu", "f_hz", "relay")
NOTICE_FIELDS = ("id", "issued_at", "start", "end", "cancelled", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class MainsEvent:
    """A window [start, end) in which the mains are absent (`v_pu` 0) or in an excursion.

    Parameters
    ----------
    v_pu : no higher than this where it is 1 or less, no lower where it is more; None: as without the event.
    f_hz : their frequency; None: nominal [Hz].
    relay : whether the plant's own relay opens the POI breaker when they are not usable; without it the
        breaker stays closed until they are gone.
    """

    id: str
    start: datetime
    end: datetime
    announced: bool
    v_pu: float | None = 0.0
    f_hz: float | None = None
    relay: bool = True


class FaultKind(StrEnum):
    """What can go wrong with an asset, beside the mains."""

    GENSET_START_FAILS = "genset_start_fails"  # every crank in the window fails
    GENSET_TRIPS = "genset_trips"
    BESS_TRIPS = "bess_trips"
    PV_TRIPS = "pv_trips"
    DEVICE_SILENT = "device_silent"  # the asset's device answers nothing; the asset itself runs on
    GENSET_STALLS = "genset_stalls"  # it trips as soon as it is on load
    GENSET_STARTED_AT_PANEL = "genset_started_at_panel"
    GENSET_STOPPED_AT_PANEL = "genset_stopped_at_panel"
    BESS_DERATED = "bess_derated"  # `value`: share of its live limits that is left; 0: contactor open
    PV_LIMIT_LOST = "pv_limit_lost"  # the plant gives what the sun gives, whatever limit its register holds
    SETPOINT_IGNORED = "setpoint_ignored"  # registers take what is written, the device goes on as before


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEvent:
    """A fault of one asset in [start, end)."""

    kind: FaultKind
    asset: str
    start: datetime
    end: datetime
    value: float | None = None  # unit: as the kind states


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run as nature and the utility play it. The controller under test sees none of this but the past.

    The series reach from `history_start` (at least 28 days before `start` for the forecasters) to `end` or
    beyond (the perfect forecaster reads the horizon). Demand and PV potential are positive [kW].

    Parameters
    ----------
    load_kw : demand by feeder [kW].
    pv_kw : AC power the plant could give, before curtailment, by PV asset [kW].
    mains_v_pu : source voltage behind the impedance while no event holds [pu of nominal].
    import_per_kwh, export_per_kwh : energy prices instead of the site's tariff, or None [money/kWh].
    inputs : what was known of the site's inputs at each time; nobody in the run sees more of it than that.
    settled : by which version each told price is; the price series hold the same prices.
    start_fail_ratio : share of a genset's crank attempts that fail, drawn from the seed by set and attempt.
    labels : for each kind of series where it comes from, in words; printed beside every result.
    """

    name: str
    site: Site
    start: datetime
    end: datetime
    load_kw: Mapping[str, UniformSeries]
    pv_kw: Mapping[str, UniformSeries]
    mains_v_pu: UniformSeries | None = None
    import_per_kwh: UniformSeries | None = None
    export_per_kwh: UniformSeries | None = None
    inputs: InputKnowledge | None = None
    settled: ToldPrices | None = None
    mains: tuple[MainsEvent, ...] = ()
    notices: tuple[OutageNotice, ...] = ()
    faults: tuple[FaultEvent, ...] = ()
    start_fail_ratio: float = 0.0
    soc_start: float = 0.6
    seed: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [*self._wrong_times(), *self._wrong_ids(), *self._wrong_series()]
        if problems:
            raise DataError(f"scenario {self.name}: " + "; ".join(problems))

    def _wrong_times(self) -> list[str]:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            return ["start and end must be aware datetimes"]
        return [] if self.start < self.end else [f"it ends ({self.end}) before it starts ({self.start})"]

    def _wrong_ids(self) -> list[str]:
        out = []
        for what, have, need in (
            ("load_kw", set(self.load_kw), {f.id for f in self.site.feeders}),
            ("pv_kw", set(self.pv_kw), {p.id for p in self.site.pv}),
        ):
            if have != need:
                out.append(f"{what} is given for {sorted(have)}, the site has {sorted(need)}")
        return out

    def _wrong_series(self) -> list[str]:
        out = []
        for name, series in self.series().items():
            if series.start > self.start or series.end < self.end:
                out.append(f"{name} covers {series.start} to {series.end}, not {self.start} to {self.end}")
            if not np.isfinite(series.values).all():
                at = int(np.flatnonzero(~np.isfinite(series.values))[0])
                when = series.start + timedelta(seconds=series.step_s * at)
                out.append(f"{name} has no value at {when}")
        return out

    def series(self) -> dict[str, UniformSeries]:
        """Every truth series by a name of its own, e.g. `load:<feeder>`, `pv:<asset>`, `mains_v_pu`."""
        out = {f"load:{i}": s for i, s in self.load_kw.items()}
        out |= {f"pv:{i}": s for i, s in self.pv_kw.items()}
        if self.mains_v_pu is not None:
            out["mains_v_pu"] = self.mains_v_pu
        if self.import_per_kwh is not None:
            out["import_per_kwh"] = self.import_per_kwh
        if self.export_per_kwh is not None:
            out["export_per_kwh"] = self.export_per_kwh
        return out

    @property
    def duration_s(self) -> float:
        """Length of the run [s]."""
        return (self.end - self.start).total_seconds()

    @property
    def history_start(self) -> datetime:
        """From when on every load and PV series is known."""
        return max(s.start for s in [*self.load_kw.values(), *self.pv_kw.values()])

    def offset_s(self, when: datetime) -> float:
        """Seconds from the start of the run to `when` [s]."""
        return (when - self.start).total_seconds()

    def at(self, t_s: float) -> datetime:
        """Aware UTC time `t_s` seconds after the start of the run."""
        return self.start.astimezone(UTC) + timedelta(seconds=t_s)

    def mains_edges_s(self) -> tuple[float, ...]:
        """When the mains changes within the run, ascending [s after start]."""
        edges = {self.offset_s(t) for e in self.mains for t in (e.start, e.end)}
        return tuple(sorted(t for t in edges if 0.0 <= t < self.duration_s))


def save_scenario(path: Path, scenario: Scenario) -> None:
    """Write the truth series and events of a scenario to one .npz file (the site itself is not in it).

    Raises
    ------
    DataError : it has inputs from elsewhere, which such a file does not hold.
    """
    if scenario.inputs is not None:
        raise DataError(f"scenario {scenario.name}: inputs from elsewhere cannot be kept in {path.name}")
    series = scenario.series()
    meta = {
        "format": FORMAT,
        "name": scenario.name,
        "site": scenario.site.name,
        "start": scenario.start.isoformat(),
        "end": scenario.end.isoformat(),
        "start_fail_ratio": scenario.start_fail_ratio,
        "soc_start": scenario.soc_start,
        "seed": scenario.seed,
        "labels": dict(scenario.labels),
        "series": {n: {"start": s.start.isoformat(), "step_s": s.step_s} for n, s in series.items()},
        "mains": [_plain(e, *MAINS_FIELDS) for e in scenario.mains],
        "notices": [_plain(n, *NOTICE_FIELDS) for n in scenario.notices],
        "faults": [_plain(f, "kind", "asset", "start", "end", "value") for f in scenario.faults],
    }
    arrays = {name: s.values for name, s in series.items()}
    part = path.with_name(path.name + ".part")
    with part.open("wb") as out:
        np.savez_compressed(out, meta=np.asarray(json.dumps(meta)), **arrays)  # type: ignore[arg-type]
    part.replace(path)


def load_scenario(path: Path, site: Site) -> Scenario:
    """Read a scenario written by `save_scenario`, for the same site.

    Raises
    ------
    DataError : the file is of another format or of another site.
    """
    with np.load(path, allow_pickle=False) as data:
        meta = json.loads(str(data["meta"]))
        arrays = {name: np.asarray(data[name], dtype=np.float64) for name in data.files if name != "meta"}
    if meta.get("format") != FORMAT or meta.get("site") != site.name:
        raise DataError(
            f"{path}: a scenario of format {FORMAT} for site {site.name} is needed, this is format "
            f"{meta.get('format')} for {meta.get('site')}"
        )
    series = {
        name: UniformSeries(start=_time(d["start"]), step_s=d["step_s"], values=arrays[name])
        for name, d in meta["series"].items()
    }
    return Scenario(
        name=meta["name"],
        site=site,
        start=_time(meta["start"]),
        end=_time(meta["end"]),
        load_kw={n.partition(":")[2]: s for n, s in series.items() if n.startswith("load:")},
        pv_kw={n.partition(":")[2]: s for n, s in series.items() if n.startswith("pv:")},
        mains_v_pu=series.get("mains_v_pu"),
        import_per_kwh=series.get("import_per_kwh"),
        export_per_kwh=series.get("export_per_kwh"),
        mains=tuple(MainsEvent(**_timed(e)) for e in meta["mains"]),
        notices=tuple(OutageNotice(**_timed(n)) for n in meta["notices"]),
        faults=tuple(FaultEvent(**_timed(f) | {"kind": FaultKind(f["kind"])}) for f in meta["faults"]),
        start_fail_ratio=meta["start_fail_ratio"],
        soc_start=meta["soc_start"],
        seed=meta["seed"],
        labels=meta["labels"],
    )


def _plain(item: object, *names: str) -> dict[str, Any]:
    values = {n: getattr(item, n) for n in names}
    return {n: v.isoformat() if isinstance(v, datetime) else v for n, v in values.items()}


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _time(str(v)) if k in ("start", "end", "issued_at") else v for k, v in row.items()}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
