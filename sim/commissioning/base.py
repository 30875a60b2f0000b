"""What a commissioning trial is, how it is run on the simulated plant, and the row it leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Mains, Power

WARM_S = 60.0  # what is inflicted begins then
TRANSFER_SLACK_RATIO = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Posed:
    """A trial on one site: plant, what is inflicted, and how it is judged.

    Parameters
    ----------
    start, injection, threshold : in words and numbers of this site.
    judge : measured value in words, and whether it is within the threshold.
    """

    start: str
    injection: str
    threshold: str
    judge: Callable[[Rig], tuple[str, bool]]
    until_s: float = 240.0
    load_kw: dict[str, Power] = field(default_factory=dict)
    pv_kw: Power = 0.0
    mains: Mains = ()
    faults: tuple[Fault, ...] = ()
    options: RigOptions = field(default_factory=RigOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One row of the matrix: which part of which standard it answers, and how it is posed on a site."""

    id: str
    matrix: str  # on grid, islanded, back-up
    clause: str
    pose: Callable[[Site], Posed | str]  # a text: why this site has no such trial


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """What a trial found.

    `metrics` are those of IEEE 2030.8 that a run has: energy not served, time without voltage, extremes at
    the point of interconnection. `trace_hash` is over everything decided, written and true in the run.
    """

    id: str
    matrix: str
    clause: str
    start: str
    injection: str
    threshold: str
    measured: str
    verdict: str  # pass, fail, not applicable
    violations: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    trace_hash: str = ""


def run_trial(trial: Trial, site: Site, planted: Sequence[Fault] = (), seed: int = 0) -> TrialRow:
    """Run one trial, with faults planted beside what it inflicts itself."""
    posed = trial.pose(site)
    if isinstance(posed, str):
        return TrialRow(
            id=trial.id, matrix=trial.matrix, clause=trial.clause, start="", injection="", threshold="",
            measured=posed, verdict="not applicable",
        )  # fmt: skip
    rig = Rig(
        site,
        load_kw=posed.load_kw,
        pv_kw=posed.pv_kw,
        mains=posed.mains,
        faults=[*posed.faults, *planted],
        seed=seed,
        options=posed.options,
    )
    rig.run(posed.until_s, judge=False)
    measured, good = posed.judge(rig)
    if rig.broken is not None:
        measured, good = f"{measured}; the edge broke: {rig.broken}", False
    found = tuple(f"{v.oracle} at {v.t_s:.0f} s: {v.evidence}" for v in rig.violations[:5])
    return TrialRow(
        id=trial.id,
        matrix=trial.matrix,
        clause=trial.clause,
        start=posed.start,
        injection=posed.injection,
        threshold=f"{posed.threshold}; no oracle violated",
        measured=measured if not found else f"{measured}; {len(rig.violations)} oracle violations",
        verdict="pass" if good and not rig.violations else "fail",
        violations=found,
        metrics=metrics(rig),
        trace_hash=rig.digest(),
    )


def metrics(rig: Rig) -> dict[str, float]:
    """Figures of IEEE 2030.8 over the whole run, from the truth of the plant."""
    rows = list(rig.rows())
    if not rows:
        return {}
    poi = [r.flows.grid_p_kw for r in rows]
    before = next((r for r in rows if r.t_s >= WARM_S - rig.dt_s), rows[0])
    return {
        "unserved_kwh": rig.unserved_kwh(),
        "dead_bus_s": sum(r.flows.dead_s for r in rows),
        "poi_before_kw": before.flows.grid_p_kw,
        "poi_import_kw_max": max(poi),
        "poi_export_kw_max": max(-p for p in poi),
        "bus_v_pu_min": min(r.flows.bus_v_pu for r in rows),
        "writes": float(rig.writes),
    }


def loads(site: Site, total_kw: float) -> dict[str, float]:
    """A total demand shared among the feeders as their peaks are [kW]."""
    peak_kw = sum(f.p_peak_kw for f in site.feeders)
    return {f.id: total_kw * f.p_peak_kw / peak_kw for f in site.feeders}


def peak_load_kw(site: Site) -> float:
    """Sum of the feeders' peaks [kW]."""
    return sum(f.p_peak_kw for f in site.feeders)


def in_mode(mode: GridMode) -> Callable[[Row], bool]:
    """Whether the edge believes in a grid mode."""
    return lambda row: row.decisions.mode is mode


def mean_30_s_kw(rig: Rig, from_s: float, of: Callable[[Row], float]) -> float:
    """Highest mean over 30 s of something from `from_s` on [kW]; over all of it where it is shorter."""
    values = [of(r) for r in rig.rows(from_s)]
    width = min(len(values), round(30.0 / rig.dt_s))
    sums = [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]
    return max(sums)


def longest_s(rig: Rig, from_s: float, holds: Callable[[Row], bool]) -> float:
    """Longest time in one piece for which something holds [s]."""
    longest = run = 0
    for row in rig.rows(from_s):
        run = run + 1 if holds(row) else 0
        longest = max(longest, run)
    return longest * rig.dt_s


def dips_kwh(rig: Rig, load_kw: float) -> float:
    """Energy that transfers between sources may cost: each dip of `transfer_s`, and a little [kWh]."""
    forming = [r.flows.forming for r in rig.rows()]
    dips = 1 + sum(a != b for a, b in pairwise(forming))
    return TRANSFER_SLACK_RATIO * dips * load_kw * rig.site.grid.transfer_s / 3600.0


def forming_battery(site: Site) -> str | None:
    """The battery that forms an island first, where one can."""
    able = {b.id for b in site.bess if b.pcs.can_form}
    return next((i for i in site.forming.islanded if i in able), None)
