"""What happened, as compact arrays: one row a bin, one column a quantity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ems.errors import DataError
from ems.site import Site
from ems.timegrid import FloatArray
from plant_models.plant import PlantFlows

Rows = NDArray[np.float32]
CHUNK_ROWS = 512
WRITER_STATE = ("_t_s", "_dt_s", "_chunks", "_rows", "_sum", "_row", "_from_s", "_sum_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """N bins of C quantities.

    Parameters
    ----------
    t_s : (N,) start of each bin after the start of the run [s].
    dt_s : (N,) length of each bin [s].
    columns : C names, like points where there is one: `bess1.p_kw`, `critical.demand_kw`, `bus.forming`.
    values : (N, C) means over the bin; states and SoC as they stood at its end.
    assets : what the codes of `bus.forming` index; -1 is nobody, the bus is dead.
    """

    t_s: FloatArray
    dt_s: FloatArray
    columns: tuple[str, ...]
    values: Rows
    assets: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.t_s)

    def column(self, name: str) -> FloatArray:
        """(N,) one quantity. KeyError if there is none of this name."""
        if name not in self.columns:
            raise KeyError(name)
        out: FloatArray = self.values[:, self.columns.index(name)].astype(np.float64)
        return out

    def between(self, start_s: float, end_s: float) -> "Trace":
        """Only the bins that start in [start_s, end_s)."""
        keep = (self.t_s >= start_s) & (self.t_s < end_s)
        return Trace(
            t_s=self.t_s[keep],
            dt_s=self.dt_s[keep],
            columns=self.columns,
            values=self.values[keep],
            assets=self.assets,
        )


class TraceWriter:
    """Gathers rows into bins. `bin_s_at(t_s)` gives the wanted length of a bin at a time [s]."""

    def __init__(
        self,
        columns: Sequence[str],
        last: Sequence[str],
        *,
        bin_s_at: Callable[[float], float],
        assets: Sequence[str] = (),
    ) -> None:
        self._columns = tuple(columns)
        self._assets = tuple(assets)
        self._last = np.isin(np.asarray(self._columns), list(last))
        self._bin_s_at = bin_s_at
        self._t_s: list[float] = []
        self._dt_s: list[float] = []
        self._chunks: list[Rows] = []  # closed rows, stacked, so that a checkpoint is quick
        self._rows: list[Rows] = []
        self._sum = np.zeros(len(self._columns))
        self._row = np.zeros(len(self._columns))
        self._from_s, self._sum_s = 0.0, 0.0

    def add(self, t_s: float, dt_s: float, row: Sequence[float]) -> None:
        """Take what held in [t_s, t_s + dt_s)."""
        if self._sum_s > 0.0 and t_s + dt_s - self._from_s > self._bin_s_at(t_s) + 1e-6:
            self.close()
        if self._sum_s == 0.0:
            self._from_s = t_s
        self._row = np.asarray(row, dtype=np.float64)
        self._sum += self._row * dt_s
        self._sum_s += dt_s
        if self._sum_s >= self._bin_s_at(self._from_s) - 1e-6:
            self.close()

    def close(self) -> None:
        """End the open bin."""
        if self._sum_s <= 0.0:
            return
        mean = np.where(self._last, self._row, self._sum / self._sum_s)
        self._t_s.append(self._from_s)
        self._dt_s.append(self._sum_s)
        self._rows.append(mean.astype(np.float32))
        self._sum = np.zeros(len(self._columns))
        self._sum_s = 0.0
        if len(self._rows) >= CHUNK_ROWS:
            self._chunks.append(np.stack(self._rows))
            self._rows = []

    def trace(self) -> Trace:
        """Everything so far, the open bin left out."""
        none = np.zeros((0, len(self._columns)), dtype=np.float32)
        rows = np.concatenate([none, *self._chunks, *(r[None, :] for r in self._rows)])
        return Trace(
            t_s=np.asarray(self._t_s, dtype=np.float64),
            dt_s=np.asarray(self._dt_s, dtype=np.float64),
            columns=self._columns,
            values=rows,
            assets=self._assets,
        )

    def state(self) -> tuple[object, ...]:
        """What a checkpoint must hold."""
        return tuple(getattr(self, name) for name in WRITER_STATE)

    def restore(self, state: tuple[object, ...]) -> None:
        """Go on from `state()`."""
        for name, value in zip(WRITER_STATE, state, strict=True):
            setattr(self, name, value)


LAST = ("soc", "state", "closed", "forming", "alive", "breaker_closed", "tank_l", "running")


def plant_columns(site: Site) -> tuple[str, ...]:
    """Columns of the plant's trace, in the order of `plant_row`."""
    out: list[str] = []
    for b in site.bess:
        out += [f"{b.id}.p_kw", f"{b.id}.q_kvar", f"{b.id}.soc", f"{b.id}.state"]
        out += [f"{b.id}.p_charge_kw_max", f"{b.id}.p_discharge_kw_max"]
    for g in site.gensets:
        out += [f"{g.id}.p_kw", f"{g.id}.state", f"{g.id}.fuel_l_h", f"{g.id}.tank_l"]
    for p in site.pv:
        out += [f"{p.id}.p_kw", f"{p.id}.available_kw"]
    for f in site.feeders:
        out += [f"{f.id}.p_kw", f"{f.id}.demand_kw", f"{f.id}.closed"]
    grid = site.grid.id
    out += [f"{grid}.p_kw", f"{grid}.q_kvar", f"{grid}.v_pu", f"{grid}.source_v_pu", f"{grid}.breaker_closed"]
    return (*out, "bus.v_pu", "bus.alive", "bus.forming", "tariff.import_per_kwh")


def last_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Columns that are states, not powers."""
    return tuple(c for c in columns if c.partition(".")[2] in LAST)


class PlantRows:
    """Turns the flows of a step into a row of `plant_columns`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.assets = tuple(site.asset_kinds())
        self._index = {a: float(i) for i, a in enumerate(self.assets)}

    def row(self, flows: PlantFlows, source_v_pu: float, import_per_kwh: float) -> list[float]:
        """One row; `source_v_pu` is the mains behind its impedance [pu]."""
        out: list[float] = []
        for b in self._site.bess:
            i = b.id
            out += [flows.bess_p_kw[i], flows.bess_q_kvar[i], flows.bess_soc[i], flows.bess_state[i].code]
            out += [flows.bess_p_charge_kw_max[i], flows.bess_p_discharge_kw_max[i]]
        for g in self._site.gensets:
            out += [flows.genset_p_kw[g.id], flows.genset_state[g.id].code]
            out += [flows.genset_fuel_l_h[g.id], flows.genset_tank_l[g.id]]
        for p in self._site.pv:
            out += [flows.pv_p_kw[p.id], flows.pv_potential_kw[p.id]]
        for f in self._site.feeders:
            out += [flows.feeder_p_kw[f.id], flows.feeder_demand_kw[f.id], float(flows.feeder_closed[f.id])]
        out += [flows.grid_p_kw, flows.grid_q_kvar, flows.poi_v_pu, source_v_pu, float(flows.grid_closed)]
        forming = -1.0 if flows.forming is None else self._index[flows.forming]
        return [*out, flows.bus_v_pu, float(flows.bus_alive), forming, import_per_kwh]


def save_traces(path: Path, traces: Mapping[str, Trace]) -> None:
    """Write traces by name to one .npz file, whole or not at all."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, trace in traces.items():
        arrays[f"{name}/t_s"], arrays[f"{name}/dt_s"] = trace.t_s, trace.dt_s
        arrays[f"{name}/values"] = trace.values
        arrays[f"{name}/columns"] = np.asarray(trace.columns, dtype=np.str_)
        arrays[f"{name}/assets"] = np.asarray(trace.assets, dtype=np.str_)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def load_traces(path: Path) -> dict[str, Trace]:
    """Read what `save_traces` wrote.

    Raises
    ------
    DataError : the file holds something else.
    """
    with np.load(path, allow_pickle=False) as data:
        names = sorted({key.partition("/")[0] for key in data.files})
        try:
            return {
                n: Trace(
                    t_s=data[f"{n}/t_s"],
                    dt_s=data[f"{n}/dt_s"],
                    columns=tuple(data[f"{n}/columns"].tolist()),
                    values=data[f"{n}/values"],
                    assets=tuple(data[f"{n}/assets"].tolist()),
                )
                for n in names
            }
        except KeyError as missing:
            raise DataError(f"{path} holds no traces: {missing} is missing") from missing
