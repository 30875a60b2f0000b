"""The scenario as cells: between two edges demand, PV potential, mains and price do not change."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from ems.series import UniformSeries
from ems.timegrid import FloatArray
from sim.scenario import FaultKind, Scenario

BLOCK_S = 900.0  # prices change on quarter hours at the finest
Window = tuple[float, float]


class WindowSet:
    """Answers whether a time lies in one of many windows that do not overlap."""

    def __init__(self, windows: Sequence[Window]) -> None:
        ordered = sorted(windows)
        self._starts = [lo for lo, _ in ordered]
        self._ends = [hi for _, hi in ordered]

    def __contains__(self, t_s: float) -> bool:
        i = bisect_right(self._starts, t_s) - 1
        return i >= 0 and t_s < self._ends[i]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What holds in [start_s, end_s) after the start of the run."""

    start_s: float
    end_s: float
    demand_kw: dict[str, float]
    pv_kw: dict[str, float]
    mains_v_pu: float  # source voltage behind the impedance; 0 while absent
    mains_f_hz: float | None  # None: nominal
    poi_relay: bool  # of the plant, opens on mains that are not usable
    import_per_kwh: float
    faults: dict[tuple[FaultKind, str], float | None]  # (kind, asset) -> its size, where it has one


class Timeline:
    """All cells of a run. Energy is the series' own, whatever the cells.

    Parameters
    ----------
    scenario : the run.
    coarse_s : mean of the series over cells of this length outside `fine`; None: the series' own steps [s].
    fine : windows in which the series' own steps are kept in any case [s after start].
    """

    def __init__(
        self, scenario: Scenario, *, coarse_s: float | None = None, fine: Sequence[Window] = ()
    ) -> None:
        self._scenario = scenario
        self.edges_s = _edges(scenario, coarse_s, fine)
        self._load = {f: _powers(s, scenario, self.edges_s) for f, s in scenario.load_kw.items()}
        self._pv = {p: _powers(s, scenario, self.edges_s) for p, s in scenario.pv_kw.items()}
        self._v = _mains(scenario, self.edges_s).tolist()
        self._price = _prices(scenario, self.edges_s)
        self._edge_list = self.edges_s.tolist()

    def __len__(self) -> int:
        return len(self._edge_list) - 1

    def index_at(self, t_s: float) -> int:
        """Index of the cell that holds `t_s`; the last cell at and after the end."""
        i = bisect_right(self._edge_list, t_s + 1e-6) - 1
        return min(max(i, 0), len(self) - 1)

    def cell(self, i: int) -> Cell:
        """Cell number `i`."""
        start_s, end_s = self._edge_list[i], self._edge_list[i + 1]
        return Cell(
            start_s=start_s,
            end_s=end_s,
            demand_kw={f: v[i] for f, v in self._load.items()},
            pv_kw={p: v[i] for p, v in self._pv.items()},
            mains_v_pu=self._v[i],
            **self._excursion(0.5 * (start_s + end_s)),
            import_per_kwh=self._price[i],
            faults=self._faults(0.5 * (start_s + end_s)),
        )

    def _excursion(self, t_s: float) -> dict[str, Any]:
        when = self._scenario.at(t_s)
        events = [e for e in self._scenario.mains if e.start <= when < e.end]
        f_hz = [e.f_hz for e in events if e.f_hz is not None]
        return {
            "mains_f_hz": f_hz[-1] if f_hz else None,
            "poi_relay": all(e.relay for e in events),
        }

    def _faults(self, t_s: float) -> dict[tuple[FaultKind, str], float | None]:
        if not self._scenario.faults:
            return {}
        when = self._scenario.at(t_s)
        return {(f.kind, f.asset): f.value for f in self._scenario.faults if f.start <= when < f.end}


def _edges(scenario: Scenario, coarse_s: float | None, fine: Sequence[Window]) -> FloatArray:
    end_s = scenario.duration_s
    parts: list[FloatArray] = [np.asarray([0.0, end_s]), _lattice(scenario, BLOCK_S)]
    parts.append(_lattice(scenario, scenario.site.tariff.billing_interval_s))
    own = [_own_edges(s, scenario) for s in scenario.series().values()]
    if coarse_s is None:
        parts += own
    else:
        parts.append(_lattice(scenario, coarse_s))
        for lo_s, hi_s in fine:
            parts.append(np.asarray([lo_s, hi_s]))
            parts += [e[(e > lo_s) & (e < hi_s)] for e in own]
    parts.append(np.asarray(scenario.mains_edges_s()))
    parts.append(np.asarray([scenario.offset_s(t) for f in scenario.faults for t in (f.start, f.end)]))
    edges = np.asarray(np.unique(np.round(np.concatenate(parts), 6)), dtype=np.float64)
    return edges[(edges >= 0.0) & (edges <= end_s)]


def _lattice(scenario: Scenario, step_s: float) -> FloatArray:
    """Multiples of `step_s` of UTC within the run [s after start]."""
    first_s = -scenario.start.timestamp() % step_s
    return np.arange(first_s, scenario.duration_s, step_s, dtype=np.float64)


def _own_edges(series: UniformSeries, scenario: Scenario) -> FloatArray:
    lead_s = scenario.offset_s(series.start)
    first = max(0, int(np.floor(-lead_s / series.step_s)))
    last = int(np.ceil((scenario.duration_s - lead_s) / series.step_s))
    return np.arange(first, last + 1, dtype=np.float64) * series.step_s + lead_s


def _means(series: UniformSeries, scenario: Scenario, edges_s: FloatArray) -> list[float]:
    """Mean of a series over each cell."""
    lead_s = scenario.offset_s(series.start)
    first = max(0, int(-lead_s // series.step_s))
    values = series.values[first:]
    knots_s = lead_s + series.step_s * (first + np.arange(len(values) + 1))
    energy = np.concatenate([[0.0], np.cumsum(values) * series.step_s])
    means: list[float] = (np.diff(np.interp(edges_s, knots_s, energy)) / np.diff(edges_s)).tolist()
    return means


def _powers(series: UniformSeries, scenario: Scenario, edges_s: FloatArray) -> list[float]:
    """Means that are at least 0: rounding of the sums must not make a night's PV negative."""
    return [max(0.0, m) for m in _means(series, scenario, edges_s)]


def _mains(scenario: Scenario, edges_s: FloatArray) -> FloatArray:
    base = scenario.mains_v_pu
    means = [1.0] * (len(edges_s) - 1) if base is None else _powers(base, scenario, edges_s)
    v: FloatArray = np.asarray(means, dtype=np.float64)
    middle_s = 0.5 * (edges_s[:-1] + edges_s[1:])
    for event in scenario.mains:
        inside = (middle_s >= scenario.offset_s(event.start)) & (middle_s < scenario.offset_s(event.end))
        if event.v_pu is not None:
            towards = np.maximum if event.v_pu > 1.0 else np.minimum
            v[inside] = towards(v[inside], event.v_pu)
    return v


def _prices(scenario: Scenario, edges_s: FloatArray) -> list[float]:
    if scenario.import_per_kwh is not None:
        # Means by differences of sums are off by 1e-13.
        return [round(m, 9) for m in _means(scenario.import_per_kwh, scenario, edges_s)]
    tariff, by_block = scenario.site.tariff, {}
    out = []
    lead_s = scenario.start.timestamp() % BLOCK_S
    for t_s in edges_s[:-1].tolist():
        block = int((t_s + lead_s) // BLOCK_S)
        if block not in by_block:
            by_block[block] = tariff.import_per_kwh(scenario.start + timedelta(seconds=t_s))
        out.append(by_block[block])
    return out
