"""What a run leaves behind, and how it is kept on disk."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ems.errors import DataError
from ems.inputs import InputUse
from ems.kpi import EnergyCounters
from ems.points import GensetState
from ems.records import EventRecord
from sim.told import Priced
from sim.trace import Trace, load_traces, save_traces

FORMAT = 2
ON_LOAD = float(GensetState.RUNNING.code)
AT_REST = (float(GensetState.STOPPED.code), float(GensetState.LOCKED_OUT.code))
TAKEN_BACK_S = 60.0
LOCKED = float(GensetState.LOCKED_OUT.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStats:
    """How the planner did. Times are wall seconds of whole planning turns."""

    count: int = 0
    by_label: Mapping[str, int] = field(default_factory=dict)
    p50_s: float = 0.0
    p95_s: float = 0.0
    max_s: float = 0.0
    late: int = 0  # plans that took longer than their allowance of plant time
    gap_ratio_p95: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A change of what the edge asked of a genset, with its reason."""

    t_s: float
    genset: str
    run: bool
    reason: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GensetEvent:
    """A genset came on load, went to rest or locked out, and why: one true sentence."""

    at: datetime
    genset: str
    kind: str  # start | stop | locked_out
    reason: str
    cause: str  # of the request behind it; "own_controller" when there was none


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One controller on one scenario.

    Parameters
    ----------
    counters : ground truth of the simulator's own meters.
    violation_s, violation_max : time in violation and worst amount by kind, in the kind's own unit.
    trace : the plant; edge : the control cycles, with what the plan expected ("plan.*" columns, NaN without).
    edge_sources : what the codes of the column "source" index.
    energy_ratio : |energy balance residual| over energy turned over.
    """

    controller: str
    scenario_name: str
    site: str
    start: datetime
    end: datetime
    seed: int
    labels: Mapping[str, str]
    counters: EnergyCounters
    violation_s: Mapping[str, float]
    violation_max: Mapping[str, float]  # unit of the kind; ratio
    trace: Trace
    edge: Trace
    edge_sources: tuple[str, ...]
    plans: PlanStats
    events: tuple[EventRecord, ...]
    gensets: tuple[GensetEvent, ...]
    wall_s: float
    notes: tuple[str, ...] = ()
    days: tuple[tuple[datetime, EnergyCounters], ...] = ()  # start and counters of each local day
    priced: Priced | None = None  # where inputs tell prices


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade:
    """One plan as far as the statistics need it; `took_s` is the wall time of the whole turn [s]."""

    label: str
    gap_ratio: float | None
    took_s: float


def plan_stats(made: Sequence[PlanMade], allowance_s: float) -> PlanStats:
    """Statistics of the plans of a run. A plan that took longer than its allowance [s] counts as late."""
    if not made:
        return PlanStats()
    by_label: dict[str, int] = {}
    for plan in made:
        by_label[plan.label] = by_label.get(plan.label, 0) + 1
    gaps = [p.gap_ratio for p in made if p.gap_ratio is not None]
    took = [p.took_s for p in made]
    return PlanStats(
        count=len(made),
        by_label=by_label,
        p50_s=float(np.percentile(took, 50)),
        p95_s=float(np.percentile(took, 95)),
        max_s=max(took),
        late=sum(1 for t in took if t > allowance_s > 0.0),
        gap_ratio_p95=float(np.percentile(gaps, 95)) if gaps else 0.0,
    )


def genset_events(
    trace: Trace, gensets: Sequence[str], requests: Sequence[RunRequest], start: datetime
) -> tuple[GensetEvent, ...]:
    """Starts and stops as the plant shows them, each with the request that led to it.

    Parameters
    ----------
    trace : with a column `<genset>.state` for each of `gensets`.
    requests : changes of the run requests, ascending in time.
    start : time of 0 s of the trace.
    """
    out: list[GensetEvent] = []
    for genset in gensets:
        state, asked = trace.column(f"{genset}.state"), [r for r in requests if r.genset == genset]
        was_on = False
        for t_s, dt_s, code in zip(trace.t_s.tolist(), trace.dt_s.tolist(), state.tolist(), strict=True):
            end_s = t_s + dt_s
            if not was_on and code == ON_LOAD:
                out.append(_event(genset, "start", end_s, asked, start))
            elif was_on and code != ON_LOAD:
                out.append(_event(genset, "locked_out" if code == LOCKED else "stop", end_s, asked, start))
            was_on = code == ON_LOAD
    return tuple(sorted(out, key=lambda e: e.at))


def _event(
    genset: str, kind: str, t_s: float, requests: Sequence[RunRequest], start: datetime
) -> GensetEvent:
    at = start + timedelta(seconds=t_s)
    asked = _request_behind(kind == "start", t_s, requests)
    if asked is not None:
        return GensetEvent(at=at, genset=genset, kind=kind, reason=asked.reason, cause=asked.cause)
    said = {
        "start": "its own controller started it: the bus was dead and nobody had asked for it to stay off",
        "stop": "its own controller took it off load",
        "locked_out": "it tripped or used up its start attempts and locked itself out",
    }
    return GensetEvent(at=at, genset=genset, kind=kind, reason=said[kind], cause="own_controller")


def _request_behind(run: bool, t_s: float, requests: Sequence[RunRequest]) -> RunRequest | None:
    """The last request of this kind before `t_s`, unless it had been taken back long before."""
    before = [r for r in requests if r.t_s <= t_s + 1e-6]
    same = next((r for r in reversed(before) if r.run == run), None)
    if same is None:
        return None
    taken_back = any(r.run != run and same.t_s < r.t_s < t_s - TAKEN_BACK_S for r in before)
    return None if taken_back else same


def save_result(folder: Path, result: RunResult) -> None:
    """Write result.json and traces.npz into a folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    save_traces(folder / "traces.npz", {"plant": result.trace, "edge": result.edge})
    text = json.dumps(result_json(result), indent=1, allow_nan=False)
    part = folder / "result.json.part"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / "result.json")


def result_json(result: RunResult) -> dict[str, object]:
    """Everything but the traces, as plain JSON values."""
    return {
        "format": FORMAT,
        "controller": result.controller,
        "scenario": result.scenario_name,
        "site": result.site,
        "start": result.start.isoformat(),
        "end": result.end.isoformat(),
        "seed": result.seed,
        "labels": dict(result.labels),
        "counters": asdict(result.counters),
        "violation_s": dict(result.violation_s),
        "violation_max": dict(result.violation_max),
        "edge_sources": list(result.edge_sources),
        "plans": asdict(result.plans),
        "events": [
            {"at": e.at.isoformat(), "kind": e.kind, "fields": _plain(e.fields)} for e in result.events
        ],
        "gensets": [asdict(g) | {"at": g.at.isoformat()} for g in result.gensets],
        "wall_s": result.wall_s,
        "days": [[at.isoformat(), asdict(c)] for at, c in result.days],
        "notes": list(result.notes),
        "priced": None if result.priced is None else _priced_json(result.priced),
    }


def load_result(folder: Path) -> RunResult:
    """Read what `save_result` wrote.

    Raises
    ------
    DataError : the folder holds no result of this format.
    """
    path = folder / "result.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no result (no result.json)")
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("format") != FORMAT:
        raise DataError(f"{path} is of format {data.get('format')}, {FORMAT} is needed")
    traces = load_traces(folder / "traces.npz")
    return RunResult(
        controller=data["controller"],
        scenario_name=data["scenario"],
        site=data["site"],
        start=datetime.fromisoformat(data["start"]),
        end=datetime.fromisoformat(data["end"]),
        seed=data["seed"],
        labels=data["labels"],
        counters=EnergyCounters(**data["counters"]),
        violation_s=data["violation_s"],
        violation_max=data["violation_max"],
        trace=traces["plant"],
        edge=traces["edge"],
        edge_sources=tuple(data["edge_sources"]),
        plans=PlanStats(**data["plans"]),
        events=tuple(
            EventRecord(at=datetime.fromisoformat(e["at"]), kind=e["kind"], fields=e["fields"])
            for e in data["events"]
        ),
        gensets=tuple(GensetEvent(**g | {"at": datetime.fromisoformat(g["at"])}) for g in data["gensets"]),
        wall_s=data["wall_s"],
        days=tuple((datetime.fromisoformat(at), EnergyCounters(**c)) for at, c in data["days"]),
        notes=tuple(data["notes"]),
        priced=None if data.get("priced") is None else _priced(data["priced"]),
    )


def _priced_json(priced: Priced) -> dict[str, object]:
    versions = [
        asdict(v) | {"issued_at": v.issued_at.isoformat(), "arrived_at": v.arrived_at.isoformat()}
        for v in priced.versions
    ]
    return {
        "settled_at": priced.settled_at.isoformat(),
        "stored_per_kwh": priced.stored_per_kwh,
        "versions": versions,
    }


def _priced(data: Mapping[str, Any]) -> Priced:
    return Priced(
        settled_at=datetime.fromisoformat(data["settled_at"]),
        stored_per_kwh=data["stored_per_kwh"],
        versions=tuple(
            InputUse(
                **v
                | {k: datetime.fromisoformat(v[k]) for k in ("issued_at", "arrived_at")}
                | {"series": tuple(v["series"])}
            )
            for v in data["versions"]
        ),
    )


def _plain(value: object) -> object:
    """JSON has no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
