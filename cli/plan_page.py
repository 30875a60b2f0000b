"""A plan as one HTML page that needs no network: power by source, stored energy, price, and why."""

import html
import json
from datetime import timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

from plotly.offline import get_plotlyjs

from cli.plan_inputs import InputsBeside
from cli.plan_inputs_page import inputs_table, told_figure
from cli.report_style import DEMAND, DIM, PRICE, UNSERVED, Json, area, axis, colours, layout, line
from ems.explanation import Explanation
from ems.plan import Plan
from ems.site import GridMode, Site

esc = html.escape


def plan_html(
    site: Site, plan: Plan, explanation: Explanation | None, beside: InputsBeside | None = None
) -> str:
    """The whole page."""
    web = files("cli") / "web"
    style, script = ((web / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    figures = {"power": power(site, plan), "energy": energy(site, plan), "price": price(site, plan)}
    told = {} if beside is None else {"told": told_figure(site, plan, beside)}
    drawn = json.dumps(figures | told, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    places, told_places = _places(figures), _places(told)
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; ',
            "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:\">",
            f'<link rel="icon" href="data:,"><title>{esc(plan.plan_id)}</title><style>{style}</style></head>',
            f'<body><div class="page"><header><h1>{esc(plan.plan_id)}</h1>',
            f"<p>{esc(str(plan.label))}; positive is into the site's bus</p></header>",
            f"<section><h2>What is planned</h2>{places}</section>",
            "" if beside is None else _inputs(site, beside, told_places),
            "" if explanation is None else _why(explanation),
            f'</div><script type="application/json" id="figures">{drawn}</script>',
            f"<script>{get_plotlyjs()}</script><script>{script}</script></body></html>\n",
        )
    )


def _times(site: Site, plan: Plan) -> list[str]:
    """Local starts of the steps, and the end; the zone offset is that of the start throughout."""
    offset = plan.grid.start.astimezone(ZoneInfo(site.timezone)).utcoffset()
    assert offset is not None
    utc = ZoneInfo("UTC")
    edges = [*plan.grid.starts(), plan.grid.end]
    return [(t.astimezone(utc) + offset).strftime("%Y-%m-%d %H:%M:%S") for t in edges]


def _held(values: tuple[float, ...]) -> list[float]:
    """A step's value holds until the next one: the last is drawn to the end."""
    return [*values, values[-1]]


def _shape(site: Site, plan: Plan, height: int, title: str, **more: object) -> Json:
    times = _times(site, plan)
    away = [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": times[t], "x1": times[t + 1], "y0": 0, "y1": 1,
         "fillcolor": "rgba(91,107,140,0.16)", "line": {"width": 0}, "layer": "below"}
        for t, mode in enumerate(plan.grid_mode)
        if mode is not GridMode.GRID_TIED
    ]  # fmt: skip
    offset = plan.grid.start.astimezone(ZoneInfo(site.timezone)).utcoffset() or timedelta(0)
    hours = f"{offset.total_seconds() / 3600.0:+g}"
    x = axis(f"local time, {site.timezone} (UTC{hours} h); shaded: no mains", type="date")
    return layout(height, xaxis=x, yaxis=axis(title, **more), shapes=away)


def power(site: Site, plan: Plan) -> Json:
    """Power by source, stacked both ways, with demand and what is served of it."""
    x, colour = _times(site, plan), colours(site)
    sources = [*plan.genset_p_kw.items(), (site.grid.id, plan.grid_p_kw)]
    sources += [*plan.pv_p_kw.items(), *plan.bess_p_kw.items()]
    traces = []
    for asset, values in sources:
        style = {"color": colour[asset], "width": 0.4, "shape": "hv"}  # a step's power holds to its end
        more = {"hovertemplate": "%{y:.0f} kW", "line": style}
        up = [max(0.0, v) for v in _held(values)]
        traces.append(area(asset, x, up, colour[asset], "up", **more))
        down = [min(0.0, v) for v in _held(values)]
        if min(down) < -0.05:
            traces.append(area(asset, x, down, colour[asset], "down", showlegend=False, **more))
    demand = [sum(row) for row in zip(*plan.load_kw.values(), strict=True)] or [0.0] * len(plan.grid)
    shed = [sum(row) for row in zip(*plan.shed_kw.values(), strict=True)] or [0.0] * len(plan.grid)
    traces.append(line("demand", x, _held(tuple(demand)), DEMAND, shape="hv"))
    if max(shed) > 0.05:
        traces.append(line("not served", x, _held(tuple(shed)), UNSERVED, shape="hv", dash="dot"))
    return {"data": traces, "layout": _shape(site, plan, 420, "power into the bus [kW]")}


def energy(site: Site, plan: Plan) -> Json:
    """State of charge at the end of each step, with the window."""
    x, colour = _times(site, plan), colours(site)
    traces = [
        line(asset, x[1:], [100.0 * v for v in soc], colour[asset], hovertemplate="%{y:.1f} %")
        for asset, soc in plan.bess_soc_end.items()
    ]
    figure = _shape(site, plan, 260, "state of charge [%]", range=[0, 100])
    figure["shapes"] += [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 100 * level, "y1": 100 * level,
         "line": {"color": DIM, "width": 1, "dash": "dash"}}
        for b in site.bess
        for level in (b.battery.soc_min, b.battery.soc_max)
    ]  # fmt: skip
    return {"data": traces, "layout": figure}


def price(site: Site, plan: Plan) -> Json:
    """Price of import."""
    x = _times(site, plan)
    unit = f"{site.currency}/kWh"
    traces = [line("import", x, _held(plan.import_per_kwh), PRICE, shape="hv", hovertemplate="%{y:.3f}")]
    return {"data": traces, "layout": _shape(site, plan, 200, f"price [{unit}]", rangemode="tozero")}


def _places(figures: dict[str, Json]) -> str:
    heights = {name: figure["layout"]["height"] for name, figure in figures.items()}
    return "".join(
        f'<div class="figure" id="{name}" data-day style="min-height:{height}px"></div>'
        for name, height in heights.items()
    )


def _inputs(site: Site, beside: InputsBeside, places: str) -> str:
    note = "As known when the plan was made; a dotted price is the tariff's, as nobody told one."
    body = f"<p>{note}</p>{inputs_table(site, beside)}{places}"
    return f"<section><h2>Inputs from elsewhere</h2>{body}</section>"


def _why(explanation: Explanation) -> str:
    told = [c.sentence for c in explanation.conflicts] + [c.sentence for c in explanation.commitments]
    rows = "".join(
        f'<tr><td>{esc(str(w.code))}</td><td style="text-align:left">{esc(w.sentence)}</td></tr>'
        for w in explanation.setpoints
    )
    lines = "".join(f"<li>{esc(text)}</li>" for text in told)
    return (
        f"<section><h2>Why</h2><ul>{lines}</ul><details><summary>Every setpoint</summary>"
        f"<table>{rows}</table></details></section>"
    )
