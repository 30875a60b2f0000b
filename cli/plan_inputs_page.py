"""The part of a plan's page that says on which inputs it rests."""

import html
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from cli.plan_inputs import InputBeside, InputsBeside, outage_words
from cli.report_style import DIM, PRICE, PV, Json, axis, layout, line
from connectors.inputs.state import words_s
from ems.announced import planned_with
from ems.inputs import EXPORT, IMPORT
from ems.plan import Plan
from ems.prices import QUARTER_S, ToldPrices
from ems.site import Site

esc = html.escape
CELL = "text-align:left; white-space:normal; overflow-wrap:break-word; min-width:4rem; vertical-align:top"
HEADS = ("input", "state", "tells", "from", "version", "issued", "age", "until", "used for")


def inputs_table(site: Site, beside: InputsBeside) -> str:
    """A line for each input."""
    zone = ZoneInfo(site.timezone)
    rows = "".join(
        "<tr>" + "".join(f'<td style="{CELL}">{esc(c)}</td>' for c in _cells(x, zone)) + "</tr>"
        for x in beside.inputs
    )
    heads = "".join(f'<th style="text-align:left">{h}</th>' for h in HEADS)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(x: InputBeside, zone: ZoneInfo) -> tuple[str, ...]:
    used = f"{x.used_for}; here: {', '.join(x.used)}" if x.used else f"{x.used_for}; here: nothing"
    return (
        x.params.id,
        f"{x.state}: {x.why}" if x.why else x.state,
        str(x.params.kind),
        x.params.place,
        x.version,
        _local(x.issued_at, zone),
        "" if x.age_s is None else words_s(x.age_s),
        _local(x.reaches, zone),
        used,
    )


def _local(when: datetime | None, zone: ZoneInfo) -> str:
    return "" if when is None else f"{when.astimezone(zone):%Y-%m-%d %H:%M}"


def told_figure(site: Site, plan: Plan, beside: InputsBeside) -> Json:
    """Prices as told, dotted where the tariff's count, and announced outages; the zone as at the start."""
    offset = plan.grid.start.astimezone(ZoneInfo(site.timezone)).utcoffset()
    assert offset is not None

    def at(when: datetime) -> str:
        return (when.astimezone(ZoneInfo("UTC")) + offset).strftime("%Y-%m-%d %H:%M:%S")

    traces = [] if beside.prices is None else _traces(site, beside.prices, at(beside.prices.start))
    bands, words = [], []
    for params, outage in beside.outages:
        alpha = 0.22 if planned_with(params, outage) else 0.1
        x0, x1 = at(max(outage.start, plan.grid.start)), at(min(outage.end, plan.grid.end))
        bands.append(
            {"type": "rect", "xref": "x", "yref": "paper", "x0": x0, "x1": x1, "y0": 0, "y1": 1,
             "fillcolor": f"rgba(91,107,140,{alpha})", "line": {"width": 0}, "layer": "below"}
        )  # fmt: skip
        words.append(
            {"xref": "x", "yref": "paper", "x": x0, "y": 1, "xanchor": "left", "yanchor": "top",
             "text": esc(outage_words(params, outage)), "showarrow": False,
             "font": {"size": 11, "color": DIM}}
        )  # fmt: skip
    x = axis(f"local time, {site.timezone}; shaded: announced outages", type="date",
             range=[at(plan.grid.start), at(plan.grid.end)])  # fmt: skip
    y = axis(f"price [{site.currency}/kWh]")
    return {"data": traces, "layout": layout(260, xaxis=x, yaxis=y, shapes=bands, annotations=words)}


def _traces(site: Site, prices: ToldPrices, start: str) -> list[Json]:
    first = np.datetime64(start)
    count = len(prices.by[IMPORT])
    times = [str(first + np.timedelta64(int(QUARTER_S * i), "s")).replace("T", " ") for i in range(count + 1)]
    out = []
    for side, colour, name in ((EXPORT, PV[0], "export"), (IMPORT, PRICE, "import")):
        values, told = prices.or_tariff(side, site.tariff), prices.by[side] >= 0
        for here, words, dash in ((told, "told", "solid"), (~told, "nobody told it: the tariff's", "dot")):
            if here.any():
                y = [round(float(v), 6) if h else None for v, h in zip(values, here, strict=True)]
                # A price holds to the end of its quarter, which is the start of one that is drawn otherwise.
                pairs = zip([*y, None], [None, *y], strict=True)
                held = [before if own is None else own for own, before in pairs]
                out.append(line(f"{name}, {words}", times, held, colour, shape="hv", dash=dash))
    return out
