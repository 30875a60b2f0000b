"""One colour per source everywhere in the report, and the common look of its figures."""

from typing import Any

from ems.points import AssetKind
from ems.site import Site

Json = dict[str, Any]

INK, DIM, LINE = "#1b2329", "#5d6b75", "#e3e8eb"
GRID, PRICE, UNSERVED, DEMAND = "#5b6b8c", "#8e44ad", "#c0262d", INK
PV = ("#f2b705", "#f7d354", "#c99700")
BESS = ("#2a9d6f", "#63c29a", "#1c6b4b")
GENSET = ("#b4532a", "#e08a5f", "#7d3517", "#f0b894")
FEEDER = ("#24467a", "#3b6fb6", "#8fb3e3", "#c4d7f2")
BASELINE = ("#8a6d3b", "#9aa5ad", "#6c7a89")
NOBODY = "#c0262d"
ANNOUNCED, UNANNOUNCED = "rgba(91,107,140,0.16)", "rgba(192,38,45,0.13)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def colours(site: Site) -> dict[str, str]:
    """Asset id -> colour."""
    out = {site.grid.id: GRID, "bus": NOBODY}
    groups = (
        ([a.id for a in site.pv], PV),
        ([a.id for a in site.bess], BESS),
        ([a.id for a in site.gensets], GENSET),
        ([a.id for a in site.feeders], FEEDER),
    )
    for ids, palette in groups:
        out |= {asset_id: palette[i % len(palette)] for i, asset_id in enumerate(ids)}
    return out


def kind_word(site: Site, asset_id: str) -> str:
    """How an asset that forms the grid is called."""
    words = {AssetKind.GRID: "the mains", AssetKind.BESS: "the battery", AssetKind.GENSET: "a genset"}
    return f"{asset_id} ({words.get(site.kind_of(asset_id), '')})"


def axis(title: str, **more: Any) -> Json:
    """An axis with a title that names the unit."""
    base: Json = {
        "title": {"text": title, "font": {"size": 12, "color": DIM}, "standoff": 8},
        "gridcolor": LINE,
        "zerolinecolor": "#b9c2c8",
        "linecolor": "#b9c2c8",
        "tickfont": {"size": 11, "color": DIM},
        "automargin": True,
    }
    return base | more


def layout(height: int, **more: Any) -> Json:
    """A figure's layout; the legend stands above the plot and never on it."""
    base: Json = {
        "height": height,
        "margin": {"l": 62, "r": 62, "t": 66, "b": 44},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "font": {"family": FONT, "size": 12, "color": INK},
        "hovermode": "x unified",
        "hoverlabel": {"font": {"size": 11}},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 11},
            "traceorder": "normal",
        },
    }
    return base | more


def line(name: str, x: list[Any], y: list[Any], colour: str, **more: Any) -> Json:
    """A line; `dash`, `width`, `shape`, `yaxis`, `xaxis` and others may be given."""
    style = {"color": colour, "width": more.pop("width", 1.8), "dash": more.pop("dash", "solid")}
    style["shape"] = more.pop("shape", "linear")
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": style} | more


def area(name: str, x: list[Any], y: list[Any], colour: str, group: str, **more: Any) -> Json:
    """One layer of a stacked area."""
    out = line(name, x, y, colour, width=0.4, stackgroup=group, fillcolor=colour, legendgroup=name)
    return out | more
