"""The unannounced outage second by second, the EMS beside the better baseline."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np

from cli.report_data import OutageWindow, ReportInput
from cli.report_style import INK, NOBODY, UNSERVED, Json, axis, colours, kind_word, layout, line
from cli.result_table import CONTROLLER_NAMES, number
from sim.result import RunResult
from sim.trace import Trace

BEFORE_S, AFTER_S, EARLIER_S = 60.0, 600.0, 60.0
ROWS = ("voltage", "soc", "forming", "load", "reserve")
HEIGHTS = (0.17, 0.15, 0.07, 0.30, 0.22)
GAP = 0.0225


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One run cut out around the loss of the mains; `x` is seconds after it."""

    run: RunResult
    plant: Trace
    edge: Trace
    lost_s: float

    @property
    def name(self) -> str:
        """How the run is called."""
        return CONTROLLER_NAMES.get(self.run.controller, self.run.controller)

    def x(self, trace: Trace) -> list[float]:
        """(N,) starts of the bins after the loss [s]."""
        return [round(float(t) - self.lost_s, 2) for t in trace.t_s]

    def y(self, trace: Trace, column: str, factor: float = 1.0) -> list[float | None]:
        """(N,) one column, empty where there is none."""
        if column not in trace.columns:
            return [None] * len(trace)
        return [round(float(v) * factor, 4) if np.isfinite(v) else None for v in trace.column(column)]


def cut(run: RunResult, outage: OutageWindow) -> Strip:
    """The part of a run around the start of an outage."""
    lost_s = (outage.start - run.start).total_seconds()
    lo, hi = lost_s - BEFORE_S, lost_s + AFTER_S
    reach = lo - EARLIER_S  # bins are longer before the fine window; the axis cuts off what is too early
    return Strip(run=run, plant=run.trace.between(reach, hi), edge=run.edge.between(reach, hi), lost_s=lost_s)


def strip_figure(data: ReportInput, strips: tuple[Strip, ...]) -> Json:
    """Rows: bus voltage, SoC, who forms the grid, load served, reserve. One column a run."""
    out = layout(840, hovermode="x", showlegend=True, annotations=[], shapes=[], barmode="overlay")
    out["margin"] |= {"t": 128}
    out["legend"] |= {"y": 1.045}
    traces: list[Json] = []
    width = (1.0 - 0.06 * (len(strips) - 1)) / len(strips)
    ranges = _ranges(data, strips)
    for column, strip in enumerate(strips):
        left = column * (width + 0.06)
        _axes(column, out, [left, left + width], ranges)
        out["annotations"].append(_heading(strip, left + width / 2))
        traces += _column(data, strip, column)
    return {"data": traces, "layout": out}


def _heading(strip: Strip, x: float) -> Json:
    return {
        "xref": "paper", "yref": "paper", "x": x, "xanchor": "center", "y": 1.005, "yanchor": "bottom",
        "text": f"<b>{strip.name}</b>", "showarrow": False, "font": {"size": 14},
    }  # fmt: skip


def _key(column: int, row: int) -> str:
    index = column * len(ROWS) + row + 1
    return "" if index == 1 else str(index)


def _ranges(data: ReportInput, strips: tuple[Strip, ...]) -> dict[str, list[float]]:
    """Axis ranges by row, common to all columns so that they can be compared."""

    def extent(of_edge: bool, columns: list[str], factor: float = 1.0) -> tuple[float, float]:
        rows = [s.y(s.edge if of_edge else s.plant, c, factor) for s in strips for c in columns]
        known = [v for row in rows for v in row if v is not None]
        return (min(known), max(known)) if known else (0.0, 1.0)

    v_low, v_high = extent(False, ["bus.v_pu"], 100.0)
    soc_low, soc_high = extent(False, [f"{b.id}.soc" for b in data.site.bess], 100.0)
    demand_kw = sum(extent(False, [f"{f.id}.demand_kw"])[1] for f in data.site.feeders)
    reserve_kw = extent(True, ["reserve.held_kw", "reserve.required_kw", "reserve.short_kw"])[1]
    margin = max(1.0, 0.15 * (soc_high - soc_low))
    return {
        "voltage": [0.0, 118.0] if v_low < 60.0 else [min(v_low, 95.0) - 2.0, max(v_high, 103.0) + 2.0],
        "soc": [max(0.0, soc_low - margin), min(100.0, soc_high + margin)],
        "forming": [0.0, 1.0],
        "load": [0.0, 1.08 * max(demand_kw, 1.0)],
        "reserve": [0.0, 1.1 * max(reserve_kw, 1.0)],
    }


TITLES = ("bus voltage<br>[% of nominal]", "SoC [%]", "", "load [kW]", "reserve<br>[kW]")
BARE = {"showticklabels": False, "showgrid": False, "zeroline": False, "fixedrange": True}


def _axes(column: int, out: Json, domain: list[float], ranges: dict[str, list[float]]) -> None:
    top = 1.0
    for row, height in enumerate(HEIGHTS):
        key, name = _key(column, row), ROWS[row]
        last = row == len(ROWS) - 1
        y = axis(
            TITLES[row] if column == 0 else "",
            domain=[top - height, top],
            anchor="x" + key,
            nticks=5,
            range=ranges[name],
            showticklabels=column == 0,
        )
        out["yaxis" + key] = y | (BARE if name == "forming" else {})
        x = axis(
            "seconds after the mains failed" if last else "",
            domain=domain,
            anchor="y" + key,
            range=[-BEFORE_S, AFTER_S],
            showticklabels=last,
            dtick=60,
            zeroline=True,
            zerolinewidth=2,
        )
        out["xaxis" + key] = x | ({} if key == "" else {"matches": "x"})
        top -= height + GAP


def _column(data: ReportInput, strip: Strip, column: int) -> list[Json]:
    return [
        *_electrical(data, strip, column),
        *_forming(data, strip, column),
        *_load(data, strip, column),
        *_reserve(strip, column),
    ]


def _on(column: int, row: str) -> Json:
    key = _key(column, ROWS.index(row))
    return {"xaxis": "x" + key, "yaxis": "y" + key, "showlegend": False}


def _electrical(data: ReportInput, strip: Strip, column: int) -> list[Json]:
    x = strip.x(strip.plant)
    colour = colours(data.site)
    volts = line("bus voltage", x, strip.y(strip.plant, "bus.v_pu", 100.0), INK, shape="hv", width=1.6,
                 hovertemplate="%{y:.1f} %", **_on(column, "voltage"))  # fmt: skip
    socs = [
        line(f"SoC {b.id}", x, strip.y(strip.plant, f"{b.id}.soc", 100.0), colour[b.id], width=2,
             hovertemplate="%{y:.2f} %", **_on(column, "soc"))
        for b in data.site.bess
    ]  # fmt: skip
    return [volts, *socs]


def forming_spells(strip: Strip) -> list[tuple[float, float, str | None]]:
    """(from, to, asset) spells of who forms the grid; None while the bus is dead [s after the loss]."""
    trace = strip.plant
    if "bus.forming" not in trace.columns or not len(trace):
        return []
    codes = trace.column("bus.forming").astype(int)
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    ends = trace.t_s + trace.dt_s - strip.lost_s
    starts = trace.t_s - strip.lost_s
    return [
        (float(starts[a]), float(ends[b - 1]), trace.assets[codes[a]] if codes[a] >= 0 else None)
        for a, b in pairwise(edges)
    ]


def _forming(data: ReportInput, strip: Strip, column: int) -> list[Json]:
    """One filled bar a spell, with the name in it where there is room."""
    colour = colours(data.site)
    out = []
    for start, hi, asset in forming_spells(strip):
        lo = max(start, -BEFORE_S)
        name = "nobody: the bus is dead" if asset is None else kind_word(data.site, asset)
        shade = NOBODY if asset is None else colour[asset]
        out.append(
            {
                "type": "bar", "orientation": "h", "base": [lo], "x": [hi - lo], "y": [0.5], "width": [1.0],
                "marker": {"color": shade, "line": {"width": 0}}, "name": name,
                "text": [_spell_text(asset, name, hi - lo)], "textposition": "inside",
                "insidetextanchor": "middle", "textfont": {"color": "#ffffff", "size": 11},
                "hovertemplate": f"grid formed by {name}<extra></extra>",
            } | _on(column, "forming")
        )  # fmt: skip
    return out


def _spell_text(asset: str | None, name: str, seconds: float) -> str:
    """As much of a name as a bar of this length holds."""
    if seconds > 160.0:
        return name
    return ("nobody" if asset is None else asset) if seconds > 45.0 else ""


def _load(data: ReportInput, strip: Strip, column: int) -> list[Json]:
    x = strip.x(strip.plant)
    colour = colours(data.site)
    place = _on(column, "load")
    out = []
    for f in sorted(data.site.feeders, key=lambda f: f.tier):
        served = strip.y(strip.plant, f"{f.id}.p_kw")
        out.append(
            line(f"{f.id} (tier {f.tier}) served", x, served, colour[f.id], shape="hv", width=0.4,
                 stackgroup=f"load{column}", fillcolor=colour[f.id], legendgroup=f.id,
                 hovertemplate="%{y:.0f} kW", **(place | {"showlegend": column == 0}))
        )  # fmt: skip
    demand = [strip.y(strip.plant, f"{f.id}.demand_kw") for f in data.site.feeders]
    total = [sum(v for v in row if v is not None) for row in zip(*demand, strict=True)]
    out.append(
        line("demand", x, total, INK, shape="hv", dash="dot", width=1.5, legendgroup="demand",
             hovertemplate="%{y:.0f} kW", **(place | {"showlegend": column == 0}))
    )  # fmt: skip
    return out


def _reserve(strip: Strip, column: int) -> list[Json]:
    x = strip.x(strip.edge)
    place = _on(column, "reserve") | {"showlegend": column == 0}
    required = strip.y(strip.edge, "reserve.required_kw")
    held = strip.y(strip.edge, "reserve.held_kw")
    short = strip.y(strip.edge, "reserve.short_kw")
    return [
        line("reserve held", x, held, "#2a9d6f", shape="hv", width=1.4, legendgroup="held", fill="tozeroy",
             fillcolor="rgba(42,157,111,0.18)", hovertemplate="%{y:.0f} kW", **place),
        line("reserve required", x, required, INK, shape="hv", width=1.6, legendgroup="required",
             hovertemplate="%{y:.0f} kW", **place),
        line("reserve short", x, short, UNSERVED, shape="hv", width=1.4, legendgroup="short", fill="tozeroy",
             fillcolor="rgba(192,38,45,0.25)", hovertemplate="%{y:.0f} kW", **place),
    ]  # fmt: skip


def strip_sentence(data: ReportInput, strip: Strip) -> str:
    """What the strip shows, in one true sentence."""
    after = strip.plant.between(strip.lost_s, strip.lost_s + AFTER_S)
    dt = after.dt_s
    lost = []
    for f in sorted(data.site.feeders, key=lambda f: f.tier):
        if f"{f.id}.demand_kw" in after.columns:
            gap = np.maximum(after.column(f"{f.id}.demand_kw") - after.column(f"{f.id}.p_kw"), 0.0)
            kwh, seconds = float((gap * dt).sum() / 3600.0), float(dt[gap > 0.5].sum())
            if kwh > 0.05:
                lost.append(f"{f.id} (tier {f.tier}) {number(kwh, 1)} kWh over {number(seconds, 0)} s")
    dead_s = float(((1.0 - after.column("bus.alive")) * dt).sum()) if "bus.alive" in after.columns else 0.0
    transfer = f"the transfer of {number(data.site.grid.transfer_s, 1)} s"
    bus = (
        f"the bus was dead for {number(dead_s, 1)} s" if dead_s > 0.05 else f"{transfer} was all the bus lost"
    )
    load = f"not served: {'; '.join(lost)}" if lost else "all load was served after it"
    gap_s = _short_s(strip)
    reserve = (
        "" if gap_s is None else "; the reserve was covered throughout" if gap_s < 0.05
        else f"; the reserve was short for {number(gap_s, 0)} s"
    )  # fmt: skip
    minutes = number((min(AFTER_S, float(dt.sum()))) / 60.0, 0)
    return f"{strip.name}: in the {minutes} minutes after the mains failed {bus}; {load}{reserve}."


def _short_s(strip: Strip) -> float | None:
    after = strip.edge.between(strip.lost_s, strip.lost_s + AFTER_S)
    if "reserve.short_kw" not in after.columns or not len(after):
        return None
    return float(after.dt_s[after.column("reserve.short_kw") > 0.05].sum())


def strips(data: ReportInput) -> tuple[Strip, ...]:
    """EMS and better baseline around the first outage nobody announced; empty where there was none."""
    outage = data.unannounced()
    if outage is None or outage.start - data.ems.start < timedelta(seconds=1):
        return ()
    pair = tuple(cut(run, outage) for run in (data.ems, data.better().run))
    return pair if all(len(s.plant) for s in pair) else ()
