"""A report as one HTML page that needs nothing else: style, script, data and plotting library are in it."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from plotly.offline import get_plotlyjs

from cli.priced_text import priced_lines
from cli.report_data import ReportInput
from cli.report_figures import (
    balance,
    day_axis,
    expectation,
    gensets,
    grid_and_price,
    savings,
    shown_window,
    state_of_charge,
)
from cli.report_strip import strip_figure, strip_sentence, strips
from cli.report_style import ANNOUNCED, UNANNOUNCED, Json
from cli.report_text import LEAVES_OUT, decided_sentence, footnotes, genset_sentences, headline
from cli.result_table import Compared, Row, number, result_rows

SENTENCES_MAX = 60
PRICED_MAX = 120  # versions of a run that are shown
esc = html.escape


class _Page:
    """Gathers sections and the figures in them."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.figures: dict[str, Json] = {}

    def figure(self, name: str, figure: Json, *, day: bool = False, hidden: bool = False) -> str:
        """A place for a figure, drawn when the page opens."""
        self.figures[name] = figure
        marks = (" data-day" if day else "") + (" data-hidden" if hidden else "")
        height = int(figure["layout"]["height"])
        return f'<div class="figure" id="{esc(name)}"{marks} style="min-height:{height}px"></div>'

    def section(self, title: str, body: str, note: str = "", css: str = "") -> None:
        """One card."""
        shown = f"<p>{note}</p>" if note else ""
        kind = f' class="{css}"' if css else ""
        self.parts.append(f"<section{kind}><h2>{esc(title)}</h2>{shown}{body}</section>")


def report_html(data: ReportInput) -> str:
    """The whole page."""
    page = _Page()
    compared = data.compared()
    page.section("EMS and baselines on the same period, plant and outages", _table(compared) + _notes(data))
    page.section(
        "Where the money was saved",
        page.figure("savings", savings(data)),
        "Against each baseline, by cause. Bars to the left of zero are money lost.",
    )
    _strip_section(page, data)
    _day_sections(page, data)
    _genset_section(page, data)
    _price_section(page, compared)
    page.section("What this model leaves out", _list(LEAVES_OUT), css="box")
    page.section("Where this comes from", _provenance(data.provenance))
    return _document(data, page, compared)


def _document(data: ReportInput, page: _Page, compared: Sequence[Compared]) -> str:
    web = files("cli") / "web"
    style, script = ((web / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    zone = ZoneInfo(data.site.timezone)
    first, last = data.ems.start.astimezone(zone), data.ems.end.astimezone(zone)
    period = (
        f"{first:%A} {first.day} {first:%B %Y %H:%M} to {last:%A} {last.day} {last:%B %Y %H:%M}, local time"
    )
    title = f"EMS report: {data.site.name}, {first:%Y-%m-%d}"
    drawn = json.dumps(_plain(page.figures), separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; ',
            "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:\">",
            f'<link rel="icon" href="data:,"><title>{esc(title)}</title><style>{style}</style></head>',
            '<body><div class="page"><header>',
            f"<h1>{esc(data.site.name)}: one plant, {len(compared)} controllers</h1>",
            f"<p>{esc(period)}</p></header>",
            f'<p class="lead">{esc(headline(data))}</p>',
            "<noscript><p>The figures need JavaScript; it is in this file.</p></noscript>",
            _tiles(compared[0], data.better()),
            *page.parts,
            f'</div><script type="application/json" id="figures">{drawn}</script>',
            f"<script>{get_plotlyjs()}</script><script>{script}</script></body></html>\n",
        )
    )


def _tiles(ems: Compared, better: Compared) -> str:
    wanted = (
        ("Cost including lost load", "cost with lost load"),
        ("Diesel", "diesel"),
        ("Peak import", "peak import"),
        ("Renewable share", "renewable share"),
        ("Genset hours", "genset hours"),
        ("Unserved", "unserved, tier 1"),
        ("Physics steps in violation", "steps in violation"),
    )
    rows = result_rows((ems, better))
    out = []
    for start, label in wanted:
        row = next(r for r in rows if r.label.startswith(start))
        mine, theirs = (number(v, row.digits) for v in row.values)
        best = row.best()
        css = "good" if best == frozenset({0}) else "worse" if best == frozenset({1}) else ""
        unit = f"<small>{esc(row.unit)}</small>" if row.unit else ""
        out.append(
            f'<div class="tile"><span>{esc(label)}</span><b class="{css}">{mine}{unit}</b>'
            f'<span title="{esc(better.name)}">against {theirs}</span></div>'
        )
    return f'<div class="tiles">{"".join(out)}</div>'


def _table(compared: Sequence[Compared]) -> str:
    head = "".join(
        f"<th{' class=ems' if i == 0 else ''}>{esc(c.name)}<small>{esc(c.run.controller)}</small></th>"
        for i, c in enumerate(compared)
    )
    body = "".join(_table_row(row) for row in result_rows(compared))
    return f"<table><thead><tr><th></th><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _table_row(row: Row) -> str:
    best = row.best()
    alarm = "violation" in row.label and any(row.values)
    css = " ".join(c for c, on in (("part", row.indent), ("strong", row.strong), ("alarm", alarm)) if on)
    cells = []
    for i, value in enumerate(row.values):
        marks = [m for m, on in (("ems", i == 0), ("best", i in best), ("none", value is None)) if on]
        cells.append(f'<td class="{" ".join(marks)}">{number(value, row.digits)}</td>')
    label = esc(row.label) + (f" <small>({esc(row.note)})</small>" if row.note else "")
    return f'<tr class="{css}"><td>{label}</td><td class="unit">{esc(row.unit)}</td>{"".join(cells)}</tr>'


def _notes(data: ReportInput) -> str:
    return '<ul class="notes">' + "".join(f"<li>{esc(n)}</li>" for n in footnotes(data)) + "</ul>"


def _list(sentences: Sequence[str], css: str = "says") -> str:
    return f'<ul class="{css}">' + "".join(f"<li>{esc(s)}</li>" for s in sentences) + "</ul>"


def _strip_section(page: _Page, data: ReportInput) -> None:
    shown = strips(data)
    if not shown:
        return
    outage = data.unannounced()
    assert outage is not None
    at = outage.start.astimezone(ZoneInfo(data.site.timezone))
    minutes = (outage.end - outage.start).total_seconds() / 60.0
    note = (
        f"The mains failed at {at:%H:%M:%S} on {at.day} {at:%B}, for {minutes:.0f} minutes. No controller "
        "had been told. Ground truth of the plant, second by second; reserve as the edge computed it."
    )
    body = page.figure("strip", strip_figure(data, shown))
    page.section("The outage nobody announced", body + _list([strip_sentence(data, s) for s in shown]), note)


def _day_sections(page: _Page, data: ReportInput) -> None:
    at = day_axis(data)
    lo_s, hi_s = shown_window(data)
    whole = hi_s - lo_s >= (data.ems.end - data.ems.start).total_seconds() - 1.0
    cut = "" if whole else f" Shown: {(hi_s - lo_s) / 86400.0:.0f} days of the period."
    shades = (
        f'<span class="key" style="background:{ANNOUNCED}"></span>outage, announced'
        f'<span class="key" style="background:{UNANNOUNCED}"></span>outage nobody announced'
    )
    tabs, places = [], []
    for i, run in enumerate((data.ems, *data.baselines)):
        name = f"balance-{run.controller}"
        compared = data.compared()[i]
        tabs.append(
            f'<button type="button" role="tab" aria-selected="{"true" if i == 0 else "false"}" '
            f'data-figure="{esc(name)}">{esc(compared.name)}</button>'
        )
        places.append(page.figure(name, balance(data, run, at), day=True, hidden=i > 0))
    body = f'<div class="tabs" role="tablist">{"".join(tabs)}</div>{"".join(places)}'
    page.section("Power balance by source", body, f"Zooming one figure zooms all.{cut}{shades}")
    page.section("State of charge", page.figure("soc", state_of_charge(data, at), day=True))
    page.section("Gensets", page.figure("gensets", gensets(data, at), day=True))
    page.section(
        "Mains and price, plan against actual", page.figure("mains", grid_and_price(data, at), day=True)
    )
    page.section(
        "What the plan expected, and what came",
        page.figure("expectation", expectation(data, at), day=True),
        f"Each value expected is that of the plan followed at that moment. {esc(decided_sentence(data.ems))}",
    )


def _genset_section(page: _Page, data: ReportInput) -> None:
    columns = []
    for compared in (data.compared()[0], data.better()):
        rows = genset_sentences(compared.run, data.site.timezone)
        lines = [
            f"<li><time>{esc(at)}</time><span>{esc(text)}</span></li>" for at, _, text in rows[:SENTENCES_MAX]
        ]
        if len(rows) > SENTENCES_MAX:
            lines.append(f'<li class="more">… and {len(rows) - SENTENCES_MAX} more</li>')
        if not rows:
            lines.append('<li class="more">No genset started or stopped.</li>')
        columns.append(f'<div><h3>{esc(compared.name)}</h3><ol class="log">{"".join(lines)}</ol></div>')
    page.section("Why each genset started and stopped", f'<div class="two">{"".join(columns)}</div>')


def _price_section(page: _Page, compared: Sequence[Compared]) -> None:
    """Each version that prices told rest on, and what rests on the tariff for want of one."""
    at = next((c.run.priced.settled_at for c in compared if c.run.priced is not None), None)
    if at is None:
        return
    rows = []
    for c in compared:
        lines = list(priced_lines(c.run))
        rows += [
            f"<tr><td>{esc(c.name)}</td><td>{line.side}</td><td>{esc(line.source)}</td>"
            f"<td>{number(line.energy_kwh, 1)}</td><td>{number(line.money, 2)}</td></tr>"
            for line in lines[:PRICED_MAX]
        ]
        if len(lines) > PRICED_MAX:
            more = f"… and {len(lines) - PRICED_MAX} more, in result.json"
            rows.append(f"<tr><td>{esc(c.name)}</td><td></td><td>{more}</td><td></td><td></td></tr>")
    money = esc(compared[0].costs.currency)
    head = f"<tr><th></th><th></th><th>price of</th><th>kWh</th><th>{money}</th></tr>"
    page.section(
        "Which prices the money rests on",
        f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>",
        f"Settled as known at {at:%Y-%m-%d %H:%M} UTC. Who decided saw only what was issued by then.",
    )


def _provenance(lines: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{esc(k)}</dt><dd>{esc(v)}</dd>" for k, v in lines.items()) + "</dl>"


def _plain(value: Any) -> Any:
    """JSON values with numbers short enough for a screen and nothing that is not finite."""
    if isinstance(value, float):
        return None if not math.isfinite(value) else float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
