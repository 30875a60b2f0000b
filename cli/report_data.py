"""What a report is made from, and how it is found in a folder of results."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from cli.result_table import Compared, better_baseline, compare
from ems.errors import DataError
from ems.outage import OutageNotice
from ems.site import Site
from sim.result import RunResult, load_result
from sim.trace import Trace

META_FILE = "run.json"
EMS_CONTROLLERS = ("mpc", "mpc_two_stage", "mpc_robust", "perfect")
VERSIONS_OF = ("hybrid-ems", "numpy", "pyomo", "highspy", "pvlib", "pymodbus", "asyncua", "plotly")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageWindow:
    """A window without usable mains, as it truly was."""

    start: datetime
    end: datetime
    announced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput:
    """One EMS run and the baselines on the same period and plant.

    `provenance` is shown line by line; `remarks` are sentences shown under the table (checks that were made,
    what was killed and came back).
    """

    site: Site
    ems: RunResult
    baselines: tuple[RunResult, ...]
    outages: tuple[OutageWindow, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def compared(self) -> tuple[Compared, ...]:
        """The EMS first, then the baselines in order."""
        return compare(self.site, (self.ems, *self.baselines))

    def better(self) -> Compared:
        """The better baseline."""
        return better_baseline(self.compared()[1:])

    def unannounced(self) -> OutageWindow | None:
        """The first outage nobody announced."""
        return next((o for o in self.outages if not o.announced), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMeta:
    """What a folder of results says about all its runs: `run.json`."""

    site_file: str
    site_sha256: str
    notices: tuple[OutageNotice, ...] = ()
    command: str = ""
    remarks: tuple[str, ...] = ()


def site_sha256(path: Path) -> str:
    """Hash of a site file as it lies on disk."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_meta(folder: Path, meta: RunMeta) -> Path:
    """Write `run.json` beside the runs' folders."""
    folder.mkdir(parents=True, exist_ok=True)
    body = {
        "site_file": meta.site_file,
        "site_sha256": meta.site_sha256,
        "command": meta.command,
        "remarks": list(meta.remarks),
        "notices": [
            {
                "id": n.id,
                "issued_at": n.issued_at.isoformat(),
                "start": n.start.isoformat(),
                "end": n.end.isoformat(),
                "cancelled": n.cancelled,
                "source": n.source,
            }
            for n in meta.notices
        ],
    }
    path = folder / META_FILE
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(body, indent=1), encoding="utf-8")
    part.replace(path)
    return path


def load_meta(folder: Path) -> RunMeta:
    """Read `run.json`.

    Raises
    ------
    DataError : it is not there, or is not what `save_meta` wrote.
    """
    path = folder / META_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        notices = tuple(
            OutageNotice(
                id=n["id"],
                issued_at=datetime.fromisoformat(n["issued_at"]),
                start=datetime.fromisoformat(n["start"]),
                end=datetime.fromisoformat(n["end"]),
                cancelled=n["cancelled"],
                source=n["source"],
            )
            for n in data["notices"]
        )
        return RunMeta(
            site_file=data["site_file"],
            site_sha256=data["site_sha256"],
            notices=notices,
            command=data["command"],
            remarks=tuple(data["remarks"]),
        )
    except FileNotFoundError:
        raise DataError(f"{folder} holds no {META_FILE}: it is not a folder of results") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {type(error).__name__} {error}") from error


def load_runs(folder: Path) -> list[RunResult]:
    """Every run in the folders below, by folder name.

    Raises
    ------
    DataError : there is none, or they are not of one period and site.
    """
    runs = [load_result(p.parent) for p in sorted(folder.glob("*/result.json"))]
    if not runs:
        raise DataError(f"{folder} holds no run (no */result.json)")
    periods = {(r.site, r.start, r.end) for r in runs}
    if len(periods) > 1:
        text = "; ".join(f"{r.controller}: {r.site} {r.start} to {r.end}" for r in runs)
        raise DataError(f"the runs in {folder} are not of one period and site: {text}")
    return runs


def report_input(site: Site, runs: Sequence[RunResult], meta: RunMeta, made_at: datetime) -> ReportInput:
    """Sort runs into EMS and baselines and gather where everything comes from.

    Raises
    ------
    DataError : there is no EMS run or no baseline.
    """
    by_name = {r.controller: r for r in runs}
    ems = next((by_name[c] for c in EMS_CONTROLLERS if c in by_name), None)
    baselines = tuple(r for r in runs if r.controller not in EMS_CONTROLLERS)
    if ems is None or not baselines:
        raise DataError(
            f"a report needs an EMS run ({' or '.join(EMS_CONTROLLERS)}) and a baseline; "
            f"found {', '.join(sorted(by_name))}"
        )
    return ReportInput(
        site=site,
        ems=ems,
        baselines=baselines,
        outages=find_outages(site, ems, meta.notices),
        provenance=provenance(ems, meta, made_at),
        remarks=meta.remarks,
    )


def find_outages(site: Site, run: RunResult, notices: Sequence[OutageNotice]) -> tuple[OutageWindow, ...]:
    """Outages as the source voltage shows them; announced if a notice issued before overlaps."""
    trace = run.trace
    name = f"{site.grid.id}.source_v_pu"
    if name not in trace.columns or not len(trace):
        return ()
    away = trace.column(name) < site.grid.v_min_pu
    edges = np.flatnonzero(np.diff(np.concatenate([[False], away, [False]]).astype(int)))
    out = []
    for first, after in edges.reshape(-1, 2).tolist():
        start = run.start + timedelta(seconds=float(trace.t_s[first]))
        end = run.start + timedelta(seconds=float(trace.t_s[after - 1] + trace.dt_s[after - 1]))
        told = any(
            n.issued_at <= start and not n.cancelled and n.start < end and start < n.end for n in notices
        )
        out.append(OutageWindow(start=start, end=end, announced=told))
    return tuple(out)


def provenance(run: RunResult, meta: RunMeta, made_at: datetime) -> dict[str, str]:
    """Where everything comes from, line by line."""
    versions = []
    for name in VERSIONS_OF:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    out = {
        "scenario": run.scenario_name,
        "seed": str(run.seed),
        **{f"{kind} data": text for kind, text in run.labels.items()},
        "site file": f"{Path(meta.site_file).name}, SHA-256 {meta.site_sha256[:16]}…",
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "machine": f"{platform.system()} {platform.machine()}",
        "report made": made_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return out | ({"command": meta.command} if meta.command else {})


def resampled(trace: Trace, name: str, edges_s: np.ndarray) -> list[float | None]:
    """Mean of a column between edges, time-weighted over what is finite; None where nothing is. (N - 1,)"""
    if name not in trace.columns or not len(trace):
        return [None] * (len(edges_s) - 1)
    values, dt = trace.column(name), trace.dt_s
    good = np.isfinite(values)
    at = np.append(trace.t_s, trace.t_s[-1] + dt[-1])
    area = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0) * dt)])
    width = np.concatenate([[0.0], np.cumsum(good * dt)])
    total = np.diff(np.interp(edges_s, at, area))
    span = np.diff(np.interp(edges_s, at, width))
    known = span > 1e-6
    mean = np.where(known, total / np.where(known, span, 1.0), np.nan)
    return [float(v) if ok else None for v, ok in zip(mean, known, strict=True)]


def last_before(trace: Trace, name: str, at_s: np.ndarray) -> list[float | None]:
    """Value of a column in the bin that holds each time; None outside and where it is not finite. (N,)"""
    if name not in trace.columns or not len(trace):
        return [None] * len(at_s)
    values = trace.column(name)
    index = np.searchsorted(trace.t_s, at_s + 1e-6, side="right") - 1
    inside = (index >= 0) & (at_s <= trace.t_s[-1] + trace.dt_s[-1])
    got = values[np.clip(index, 0, len(values) - 1)]
    return [float(v) if ok and np.isfinite(v) else None for v, ok in zip(got, inside, strict=True)]
