"""Figures of a report as plain data for the plotting library in the page: the day in local time."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from cli.report_data import OutageWindow, ReportInput, last_before, resampled
from cli.report_style import (
    ANNOUNCED,
    BASELINE,
    DEMAND,
    DIM,
    GRID,
    INK,
    PRICE,
    UNANNOUNCED,
    UNSERVED,
    Json,
    area,
    axis,
    colours,
    layout,
    line,
)
from cli.report_text import savings_parts
from cli.result_table import CONTROLLER_NAMES
from sim.result import RunResult

POINTS_MAX = 720
WINDOW_DAYS = 7.0
BINS_S = (60, 120, 300, 600, 900, 1800, 3600)
Values = list[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The bins of the day figures: edges in seconds after the start, and their local times as text."""

    edges_s: np.ndarray
    times: list[str]
    title: str
    zone_offset: timedelta

    def local(self, at: datetime) -> str:
        """A moment on this axis."""
        return (at.astimezone(ZoneInfo("UTC")) + self.zone_offset).strftime("%Y-%m-%d %H:%M:%S")


def day_axis(data: ReportInput) -> Axis:
    """Bins over the run, or over the week around its first surprise where the run is longer.

    Local time is that of the first moment throughout, so that the axis runs forward even through the night in
    which clocks change.
    """
    lo_s, hi_s = shown_window(data)
    bin_s = next((b for b in BINS_S if (hi_s - lo_s) / b <= POINTS_MAX), BINS_S[-1])
    edges = np.append(np.arange(lo_s, hi_s - 1e-6, bin_s), hi_s)
    first = data.ems.start + timedelta(seconds=lo_s)
    offset = first.astimezone(ZoneInfo(data.site.timezone)).utcoffset()
    assert offset is not None
    times = [
        (first.astimezone(ZoneInfo("UTC")) + offset + timedelta(seconds=float(e - lo_s))).strftime(
            "%Y-%m-%d %H:%M:%S"
        )
        for e in edges[:-1]
    ]
    hours = offset.total_seconds() / 3600.0
    title = f"local time, {data.site.timezone} (UTC{hours:+g} h)".replace("-", "−")
    return Axis(edges_s=edges, times=times, title=title, zone_offset=offset)


def shown_window(data: ReportInput) -> tuple[float, float]:
    """Start and end of what the day figures show [s after the start]."""
    whole_s = (data.ems.end - data.ems.start).total_seconds()
    window_s = WINDOW_DAYS * 86400.0
    if whole_s <= window_s * 1.01:
        return 0.0, whole_s
    surprise = data.unannounced()
    middle_s = whole_s / 2 if surprise is None else (surprise.start - data.ems.start).total_seconds()
    lo_s = min(max(0.0, middle_s - window_s / 2), whole_s - window_s)
    lo_s = math.floor(lo_s / 3600.0) * 3600.0
    return lo_s, lo_s + window_s


def outage_shapes(axis_: Axis, outages: tuple[OutageWindow, ...]) -> list[Json]:
    """Shaded windows: grey where announced, red where nobody had said so."""
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": axis_.local(o.start),
            "x1": axis_.local(o.end),
            "y0": 0,
            "y1": 1,
            "fillcolor": ANNOUNCED if o.announced else UNANNOUNCED,
            "line": {"width": 0},
            "layer": "below",
        }
        for o in outages
    ]


def _time_layout(data: ReportInput, axis_: Axis, height: int, **more: object) -> Json:
    end = data.ems.start + timedelta(seconds=float(axis_.edges_s[-1]))
    x = axis(
        axis_.title,
        type="date",
        range=[axis_.times[0], axis_.local(end)],
        hoverformat="%a %d %b %H:%M",
        tickformatstops=[
            {"dtickrange": [None, 3.6e6 * 12], "value": "%H:%M"},
            {"dtickrange": [3.6e6 * 12, None], "value": "%a %d %b"},
        ],
    )
    return layout(height, xaxis=x, shapes=outage_shapes(axis_, data.outages), **more)


def _sum(parts: list[Values]) -> Values:
    return [
        None if all(v is None for v in row) else sum(v for v in row if v is not None)
        for row in zip(*parts, strict=True)
    ]


def _up(values: Values) -> Values:
    return [None if v is None else max(v, 0.0) for v in values]


def _down(values: Values) -> Values:
    return [None if v is None else min(v, 0.0) for v in values]


def balance(data: ReportInput, run: RunResult, axis_: Axis) -> Json:
    """Stacked power by source with demand; what is below zero charges the battery or is exported."""
    site, colour, x = data.site, colours(data.site), axis_.times

    def means(column: str) -> Values:
        return resampled(run.trace, column, axis_.edges_s)

    sources = [(g.id, "genset " + g.id) for g in site.gensets]
    sources += [(site.grid.id, "mains"), *((p.id, "PV " + p.id) for p in site.pv)]
    sources += [(b.id, "battery " + b.id) for b in site.bess]
    traces: list[Json] = []
    for asset, name in sources:
        p = means(f"{asset}.p_kw")
        traces.append(area(name, x, _up(p), colour[asset], "up", hovertemplate="%{y:.0f} kW"))
        if any(v is not None and v < -0.05 for v in p):
            traces.append(
                area(name, x, _down(p), colour[asset], "down", showlegend=False, hovertemplate="%{y:.0f} kW")
            )
    served = _sum([means(f"{f.id}.p_kw") for f in site.feeders])
    demand = _sum([means(f"{f.id}.demand_kw") for f in site.feeders])
    lost = [
        d if d is not None and s is not None and d - s > max(0.5, 0.01 * d) else None
        for d, s in zip(demand, served, strict=True)
    ]
    traces.append(line("load served", x, served, INK, width=2.0, hovertemplate="%{y:.0f} kW"))
    if any(v is not None for v in lost):
        traces.append(
            line(
                "demand not served in full",
                x,
                lost,
                UNSERVED,
                width=2.0,
                dash="dot",
                hovertemplate="%{y:.0f} kW",
            )
        )
    return {"data": traces, "layout": _time_layout(data, axis_, 420, yaxis=axis("power into the bus [kW]"))}


def state_of_charge(data: ReportInput, axis_: Axis) -> Json:
    """State of charge of the EMS, what its plan expected, and the baselines."""
    site, x = data.site, axis_.times
    colour = colours(site)
    at = axis_.edges_s[1:] - 1e-3
    traces: list[Json] = []

    def percent(values: Values) -> Values:
        return [None if v is None else 100.0 * v for v in values]

    for b in site.bess:
        for i, run in enumerate(data.baselines):
            name = f"{b.id}, {_name(run)}"
            y = percent(last_before(run.trace, f"{b.id}.soc", at))
            traces.append(
                line(name, x, y, BASELINE[i % len(BASELINE)], dash="dot", hovertemplate="%{y:.1f} %")
            )
        plan = percent(last_before(data.ems.edge, f"plan.{b.id}.soc", at))
        if any(v is not None for v in plan):
            traces.append(line(f"{b.id}, as the plan expected", x, plan, INK, width=1.2, shape="hv",
                               hovertemplate="%{y:.1f} %"))  # fmt: skip
        mine = percent(last_before(data.ems.trace, f"{b.id}.soc", at))
        traces.append(line(f"{b.id}, EMS", x, mine, colour[b.id], width=2.6, hovertemplate="%{y:.1f} %"))
    shape = _time_layout(data, axis_, 320, yaxis=axis("state of charge [%]", range=[0, 100]))
    for b in site.bess:
        for level in (b.battery.soc_min, b.battery.soc_max):
            shape["shapes"].append(
                {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 100 * level, "y1": 100 * level,
                 "line": {"color": DIM, "width": 1, "dash": "dash"}}
            )  # fmt: skip
    return {"data": traces, "layout": shape}


def gensets(data: ReportInput, axis_: Axis) -> Json:
    """Output of each genset under each controller: one row a controller, on load where it is filled."""
    runs = (data.ems, *data.baselines)
    colour, x, n = colours(data.site), axis_.times, len(runs)
    top = max((g.p_rated_kw for g in data.site.gensets), default=1.0)
    traces: list[Json] = []
    shape = _time_layout(data, axis_, 130 * n + 120)
    for row, run in enumerate(runs):
        key = "" if row == 0 else str(row + 1)
        hi, lo = 1.0 - row / n, 1.0 - (row + 1) / n + 0.04
        shape["yaxis" + key] = axis(f"{_name(run)}<br>[kW]", domain=[lo, hi], range=[0, 1.08 * top], nticks=4)
        for g in data.site.gensets:
            y = resampled(run.trace, f"{g.id}.p_kw", axis_.edges_s)
            traces.append(
                line(g.id, x, y, colour[g.id], width=1.4, shape="hv", yaxis="y" + key, fill="tozeroy",
                     fillcolor=_pale(colour[g.id]), showlegend=row == 0, legendgroup=g.id,
                     hovertemplate=f"{_name(run)}: %{{y:.0f}} kW")
            )  # fmt: skip
    shape["xaxis"] |= {"anchor": "y" + ("" if n == 1 else str(n))}
    return {"data": traces, "layout": shape}


def grid_and_price(data: ReportInput, axis_: Axis) -> Json:
    """Power at the POI against its cap and against the plan, and the price."""
    site, x = data.site, axis_.times
    p = resampled(data.ems.trace, f"{site.grid.id}.p_kw", axis_.edges_s)
    plan = resampled(data.ems.edge, "plan.grid_kw", axis_.edges_s)
    price = last_before(data.ems.trace, "tariff.import_per_kwh", axis_.edges_s[:-1])
    traces = [
        line(
            "mains, EMS",
            x,
            p,
            GRID,
            width=1.2,
            fill="tozeroy",
            fillcolor=_pale(GRID),
            hovertemplate="%{y:.0f} kW",
        )
    ]
    rival = data.better().run
    other = resampled(rival.trace, f"{site.grid.id}.p_kw", axis_.edges_s)
    traces.append(
        line(
            f"mains, {_name(rival)}",
            x,
            other,
            BASELINE[0],
            dash="dot",
            width=1.2,
            hovertemplate="%{y:.0f} kW",
        )
    )
    if any(v is not None for v in plan):
        traces.append(
            line("mains, as planned", x, plan, INK, width=1.2, shape="hv", hovertemplate="%{y:.0f} kW")
        )
    traces.append(
        line(f"price (right) [{site.currency}/kWh]", x, price, PRICE, width=1.4, shape="hv", yaxis="y2",
             hovertemplate="%{y:.3f}")
    )  # fmt: skip
    highest = max((v for v in price if v is not None), default=0.0)
    shape = _time_layout(
        data,
        axis_,
        350,
        yaxis=axis("import [kW]"),
        yaxis2=axis(
            f"price [{site.currency}/kWh]", overlaying="y", side="right", showgrid=False, tickmode="auto",
            range=[0, 1.6 * highest if highest > 0 else 1],
        ),
    )  # fmt: skip
    shape["shapes"].append(
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": site.grid.p_import_kw_max,
         "y1": site.grid.p_import_kw_max, "line": {"color": UNSERVED, "width": 1.2, "dash": "dash"}}
    )  # fmt: skip
    shape["annotations"] = [
        {"xref": "paper", "x": 0.005, "xanchor": "left", "y": site.grid.p_import_kw_max, "yanchor": "bottom",
         "text": f"import cap {site.grid.p_import_kw_max:g} kW", "showarrow": False,
         "font": {"size": 11, "color": UNSERVED}}
    ]  # fmt: skip
    return {"data": traces, "layout": shape}


def expectation(data: ReportInput, axis_: Axis) -> Json:
    """What the plan expected of load and PV against what came."""
    site, x, run = data.site, axis_.times, data.ems
    demand = _sum([resampled(run.trace, f"{f.id}.demand_kw", axis_.edges_s) for f in site.feeders])
    rows = [
        ("load", demand, resampled(run.edge, "plan.load_kw", axis_.edges_s), DEMAND),
    ]
    if site.pv:
        could = _sum([resampled(run.trace, f"{p.id}.available_kw", axis_.edges_s) for p in site.pv])
        planned = resampled(run.edge, "plan.pv_available_kw", axis_.edges_s)
        rows.append(("PV that was there", could, planned, colours(site)[site.pv[0].id]))
    traces = []
    for name, came, planned, colour in rows:
        traces.append(line(name, x, came, colour, width=2.0, hovertemplate="%{y:.0f} kW"))
        if any(v is not None for v in planned):
            traces.append(
                line(f"{name}, as expected", x, planned, colour, width=1.4, dash="dot", shape="hv",
                     hovertemplate="%{y:.0f} kW")
            )  # fmt: skip
    return {"data": traces, "layout": _time_layout(data, axis_, 310, yaxis=axis("power [kW]"))}


def savings(data: ReportInput) -> Json:
    """Where the money went against each baseline; to the right is saved, to the left is lost."""
    ems, *rivals = data.compared()
    traces: list[Json] = []
    most = 1.0
    for i, rival in enumerate(rivals):
        parts = savings_parts(ems, rival)
        most = max([most, *(abs(value) for _, value in parts)])
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": f"against {rival.name}",
                "y": [name for name, _ in parts],
                "x": [round(value, 2) for _, value in parts],
                "text": [f"{value:,.1f}".replace("-", "−") for _, value in parts],
                "textposition": "outside",
                "cliponaxis": False,
                "marker": {"color": BASELINE[i % len(BASELINE)]},
                "hovertemplate": f"%{{y}}: %{{x:,.2f}} {ems.costs.currency}",
            }
        )
    return {
        "data": traces,
        "layout": layout(
            112 + 46 * len(savings_parts(ems, rivals[0])),
            barmode="group",
            hovermode="closest",
            xaxis=axis(
                f"saved by the EMS [{ems.costs.currency}]; left of zero: lost",
                range=[-1.25 * most, 1.25 * most],
            ),
            yaxis=axis("", autorange="reversed"),
        ),
    }


def _name(run: RunResult) -> str:
    return CONTROLLER_NAMES.get(run.controller, run.controller)


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.30)"
