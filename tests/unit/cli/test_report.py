"""The report: true sentences, one self-contained page, figures that hold what the traces hold."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cli import report
from cli.main import main
from cli.report_data import (
    OutageWindow,
    ReportInput,
    find_outages,
    load_meta,
    load_runs,
    report_input,
    resampled,
    save_meta,
)
from cli.report_figures import day_axis, shown_window
from cli.report_page import _Page, _price_section, report_html
from cli.report_strip import forming_spells, strip_sentence, strips
from cli.report_text import decided_sentence, headline, losses
from cli.result_table import result_rows
from ems.errors import DataError
from ems.inputs import InputUse
from ems.outage import OutageNotice
from sim.result import GensetEvent, save_result
from sim.told import Priced
from sim.trace import Trace
from tests.builders import site
from tests.unit.cli.runs import EVENING_S, START, SURPRISE_S, meta, run

MADE_AT = datetime(2026, 4, 3, 9, tzinfo=UTC)


def data(**changes) -> ReportInput:
    return replace(
        report_input(site(), [run("mpc"), run("rules_tou"), run("rules")], meta(), MADE_AT), **changes
    )


@pytest.fixture(scope="module")
def page() -> str:
    return report_html(data())


def test_page_names_the_versions_that_the_money_rests_on(monkeypatch: pytest.MonkeyPatch):
    told = tuple(
        InputUse(
            input="market", version=n, issued_at=START + timedelta(hours=n), arrived_at=START,
            sha256=f"{n:064d}", series=("import_per_kwh",),
        )
        for n in (1, 2)
    )  # fmt: skip
    one = run("mpc")
    counters = replace(
        one.counters,
        priced_kwh={"import 1": 100.0, "import 2": 50.0, "import tariff": 25.0, "export tariff": 10.0},
        priced_money={"import 1": 20.0, "import 2": -5.0, "import tariff": 4.0, "export tariff": 1.0},
    )
    priced = Priced(settled_at=START + timedelta(days=9), versions=told, stored_per_kwh=0.1)
    runs = [replace(one, counters=counters, priced=priced), run("rules_tou"), run("rules")]
    compared = report_input(site(), runs, meta(), MADE_AT).compared()
    assert compared[0].costs.rule_kwh == 35.0
    assert compared[0].costs.rule_cost == 3.0
    page = _Page()
    monkeypatch.setattr("cli.report_page.PRICED_MAX", 3)
    _price_section(page, compared)
    text = re.sub(r"<[^>]+>", "|", page.parts[0])
    assert "|import|" in text
    assert "market 1, issued" in text
    assert "sha256 000000000000||100.0||20.00" in text
    assert "||50.0||−5.00" in text
    assert "tariff: no input told a price||25.0||4.00" in text
    assert "… and 1 more, in result.json" in text
    labels = {r.label: r.values for r in result_rows(compared)}
    assert labels["energy at the tariff instead"][0] == 35.0
    none = _Page()
    _price_section(none, compared[1:])
    assert none.parts == [], "no input of these runs tells prices"


def figures(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.S)
    assert found is not None
    drawn: dict = json.loads(found[1])
    return drawn


def test_page_is_one_file_without_network(page):
    without_library = page.replace(page[page.rindex('id="figures"') :], "")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", without_library)
    assert "default-src 'none'" in page
    assert page.count("<!doctype html>") == 1
    assert len(page) < 7_000_000


def test_page_holds_every_promised_part(page):
    for title in (
        "EMS and baselines on the same period",
        "Where the money was saved",
        "The outage nobody announced",
        "Power balance by source",
        "State of charge",
        "Gensets",
        "Mains and price, plan against actual",
        "What the plan expected",
        "Why each genset started and stopped",
        "What this model leaves out",
        "Where this comes from",
    ):
        assert f"<h2>{title}" in page
    assert "SHA-256 0123456789abcdef" in page
    assert "a sine with clouds" in page
    assert "no control cycle was missed" in page


def test_page_escapes_what_others_wrote():
    evil = GensetEvent(
        at=START, genset="gen1", kind="start", reason="<script>alert(1)</script>", cause="plan"
    )
    ems = replace(run("mpc"), gensets=(evil,), labels={"load": "</script><b>"})
    text = report_html(data(ems=ems, provenance={"load data": "</script><b>"}))
    assert "<script>alert(1)" not in text
    assert "</script><b>" not in text


def test_page_figures_are_finite_json_with_units_on_axes(page):
    drawn = figures(page)
    assert {"savings", "strip", "balance-mpc", "balance-rules", "soc", "gensets", "mains"} <= set(drawn)
    for name, figure in drawn.items():
        for key, axis in figure["layout"].items():
            if key.startswith("yaxis") and name not in ("savings", "strip", "expectation"):
                assert "[" in axis["title"]["text"], (name, key)
    assert json.dumps(drawn, allow_nan=False)


def test_balance_layers_add_up_to_the_load(page):
    """What is stacked is what is served: sources, battery both ways, nothing lost on the way."""
    figure = figures(page)["balance-rules"]
    layers = [t["y"] for t in figure["data"] if t.get("stackgroup")]
    served = next(t["y"] for t in figure["data"] if t["name"] == "load served")
    total = np.sum([[0.0 if v is None else v for v in y] for y in layers], axis=0)
    aux = site().bess[0].battery.aux_kw
    assert np.abs(total - np.array(served)).max() < aux + 0.5


def test_headline_says_less_or_more_and_every_loss():
    good = headline(data())
    assert " less than the better of 2 baselines" in good
    assert "It did worse on value of lost load" in good
    assert "unserved energy, tier 3" in good
    swapped = headline(data(ems=replace(run("rules"), controller="mpc"), baselines=(replace(run("mpc"), controller="rules"),)))  # fmt: skip # noqa: E501
    assert " MORE than the better of 1 baseline, " in swapped
    same = headline(data(ems=replace(run("rules"), controller="mpc"), baselines=(run("rules"),)))
    assert "exactly as much as" in same
    assert "On no counted figure did it do worse." in same


def test_losses_name_both_values():
    ems, rival, _ = data().compared()
    text = next(t for t in losses(ems, rival) if t.startswith("genset hours"))
    assert re.fullmatch(r"genset hours \([\d.]+ against [\d.]+ h\)", text)


def test_outages_are_found_from_the_voltage_and_told_apart_by_their_notices():
    found = find_outages(site(), run("mpc"), meta().notices)
    assert [o.announced for o in found] == [False, True]
    assert abs((found[0].start - START).total_seconds() - SURPRISE_S) <= 60.0
    assert abs((found[1].end - START).total_seconds() - EVENING_S - 7200.0) <= 60.0
    late = OutageNotice(
        id="x", issued_at=START + timedelta(hours=13), start=START, end=START + timedelta(hours=24)
    )
    assert [o.announced for o in find_outages(site(), run("mpc"), [late])] == [False, True]


def test_strip_tells_who_forms_and_what_was_not_served():
    mine, rival = strips(data())
    assert [asset for _, _, asset in forming_spells(mine)][:2] == ["grid1", "bess1"]
    assert "deferrable (tier 3)" in strip_sentence(data(), mine)
    assert "all load was served" in strip_sentence(data(), rival)
    assert "was all the bus lost" in strip_sentence(data(), rival)


def test_strip_of_a_dead_bus_and_a_short_reserve_says_so():
    base = run("mpc")
    values = base.trace.values.copy()
    dead = (base.trace.t_s >= SURPRISE_S + 100) & (base.trace.t_s < SURPRISE_S + 130)
    for column in ("bus.alive", "critical.p_kw", "essential.p_kw", "deferrable.p_kw", "bus.v_pu"):
        values[dead, base.trace.columns.index(column)] = 0.0
    values[dead, base.trace.columns.index("bus.forming")] = -1.0
    edge = base.edge.values.copy()
    short = (base.edge.t_s >= SURPRISE_S) & (base.edge.t_s < SURPRISE_S + 50)
    edge[short, base.edge.columns.index("reserve.short_kw")] = 25.0
    broken = replace(base, trace=replace(base.trace, values=values), edge=replace(base.edge, values=edge))
    strip, _ = strips(data(ems=broken))
    sentence = strip_sentence(data(), strip)
    assert re.search(r"the bus was dead for (29|30|31)\.\d s", sentence)
    assert "critical (tier 1)" in sentence
    assert re.search(r"the reserve was short for (4\d|50) s", sentence)
    assert None in [asset for _, _, asset in forming_spells(strip)]


def test_report_without_surprise_leaves_the_strip_out():
    text = report_html(
        data(outages=(OutageWindow(start=START, end=START + timedelta(hours=1), announced=True),))
    )
    assert "The outage nobody announced" not in text


def test_decided_sentence_gives_shares():
    base = run("mpc")
    values = base.edge.values.copy()
    values[: len(values) // 2, base.edge.columns.index("source")] = 2.0
    text = decided_sentence(replace(base, edge=replace(base.edge, values=values)))
    assert re.fullmatch(r"The edge followed the plan [\d.]+ % and its rules [\d.]+ % of the time\.", text)


def test_resampled_keeps_energy_and_leaves_gaps():
    rng = np.random.default_rng(1)
    dt = rng.uniform(1.0, 90.0, 200)
    values = rng.uniform(0.0, 50.0, 200)
    trace = Trace(t_s=np.cumsum(dt) - dt, dt_s=dt, columns=("x",), values=values[:, None].astype(np.float32))
    edges = np.linspace(0.0, dt.sum(), 41)
    got = np.array(resampled(trace, "x", edges), dtype=float)
    assert (got * np.diff(edges)).sum() == pytest.approx((values * dt).sum(), rel=1e-5)
    holes = values.copy()
    holes[50:150] = np.nan
    gappy = resampled(replace(trace, values=holes[:, None].astype(np.float32)), "x", edges)
    assert gappy[20] is None
    assert gappy[0] is not None
    assert resampled(trace, "absent", edges) == [None] * 40


def test_day_axis_runs_forward_through_a_clock_change():
    lisbon = replace(site(), timezone="Europe/Lisbon")
    start = datetime(2026, 10, 24, 23, tzinfo=UTC)
    ems = replace(run("mpc"), start=start, end=start + timedelta(hours=25))
    times = day_axis(data(site=lisbon, ems=ems)).times
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    assert times[0] == "2026-10-25 00:00:00"


def test_long_period_shows_the_week_around_the_first_surprise():
    ems = replace(run("mpc"), end=START + timedelta(days=365))
    surprise = OutageWindow(
        start=START + timedelta(days=100), end=START + timedelta(days=100, hours=1), announced=False
    )
    lo, hi = shown_window(data(ems=ems, outages=(surprise,)))
    assert hi - lo == 7 * 86400.0
    assert lo < 100 * 86400.0 < hi
    assert len(day_axis(data(ems=ems, outages=(surprise,))).times) <= 720


def test_meta_survives_being_stored(tmp_path):
    save_meta(tmp_path, meta())
    assert load_meta(tmp_path) == meta()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "holds no run.json"),
        ("{", "cannot be read"),
        ("{}", "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_meta_missing_or_broken_is_a_clear_error(tmp_path, text, words):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=words):
        load_meta(tmp_path)


def test_runs_of_different_periods_are_refused(tmp_path):
    save_result(tmp_path / "mpc", run("mpc"))
    save_result(tmp_path / "rules", replace(run("rules"), end=START + timedelta(hours=1)))
    with pytest.raises(DataError, match="not of one period"):
        load_runs(tmp_path)


@pytest.mark.parametrize("names", [["mpc"], ["rules", "rules_tou"]])
def test_report_needs_an_ems_and_a_baseline(names):
    with pytest.raises(DataError, match="needs an EMS run"):
        report_input(site(), [run(n) for n in names], meta(), MADE_AT)


def test_command_writes_the_report_of_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ems.site_schema.load_site", lambda _: site())
    for name in ("mpc", "rules", "rules_tou"):
        save_result(tmp_path / name, run(name))
    save_meta(tmp_path, replace(meta(), site_file="demo"))
    assert main(["report", str(tmp_path)]) == 0
    assert "written:" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "rules by the clock" in text
    assert not list(tmp_path.glob("*.part"))


def test_command_on_an_empty_folder_is_a_plain_error(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "it is not a folder of results" in capsys.readouterr().err
    assert report.HELP
