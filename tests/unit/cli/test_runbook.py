"""The runbook says what the site file says: registers, requests, bounds, silence, limits, people, alarms."""

import re
from pathlib import Path

import pytest

from cli.main import main
from cli.markdown import table
from cli.runbook_page import page_of
from cli.runbook_text import runbook
from connectors.stores.permit import file_hashes
from ems.alarm_table import alarm_table
from ems.site import Site
from ems.site_schema import load_site

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "sites" / "demo" / "site.yaml"
FULL = ROOT / "tests" / "unit" / "ems" / "broken_sites" / "good.yaml"


@pytest.fixture(scope="module", params=[DEMO, FULL], ids=["demo", "full"])
def site(request: pytest.FixtureRequest) -> Site:
    return load_site(request.param)


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the table below a heading, without its head."""
    part = text.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", x)[1:-1]] for x in lines[2:]]


def test_runbook_has_every_asset_connection_point_setpoint_and_alarm(site: Site):
    text = runbook(site, {})
    kinds = {k.value for k in site.asset_kinds().values()} | {"site", "device", "setpoint", "control"}
    assert {r[0].strip("`").rsplit("/", 1)[-1] for r in rows(text, "## Plant")} == set(site.asset_kinds()) - {
        "bus"
    }
    assert [r[0].strip("`") for r in rows(text, "## Connections")] == [c.id for c in site.connections]
    for c in site.connections:
        assert [r[0].strip("`") for r in rows(text, f"### `{c.id}`")] == [p.point for p in c.points]
    for heading in ("## What the EMS may write", "### The safe value of each setpoint"):
        assert [r[0].strip("`") for r in rows(text, heading)] == list(site.authority.setpoints)
    assert {r[0].strip("`") for r in rows(text, "## Alarms")} == {
        r.id for r in alarm_table().values() if r.tag in kinds
    }
    assert {r[0] for r in rows(text, "## People")} == set(site.control.users)


def test_runbook_registers_requests_and_silence_are_those_of_the_demo_maps():
    """Checked by hand against sites/demo."""
    text = runbook(load_site(DEMO), file_hashes(DEMO))
    (p_set,) = (r for r in rows(text, "### `pcs`") if r[0] == "`bess1.p_set_kw`")
    assert p_set[1:] == [
        "holding 200 (400201)", "s32", "-0.1", "0", "kW", "-600 to 600", "25 s", "function 16",
    ]  # fmt: skip
    assert "One poll, unit 1: function 3, 12 from 200; function 4, 8 from 100." in text
    assert "One poll, unit 2: function 3, 4 from 2000; function 4, 16 from 1000." in text
    (limit,) = (r for r in rows(text, "### The safe value of each setpoint") if r[0] == "`pv1.p_limit_kw`")
    assert limit[1:] == ["140 kW", "140 kW", "0 kW", "45 s", "goes to 140 kW"]
    assert [
        "pcs",
        "`bess1.heartbeat`",
        "us",
        "counts with each completed safe cycle, at most every 1 s",
    ] in rows(text, "### Heartbeats")
    assert "`deferrable`, then `essential`; never: `critical`" in text


def test_runbook_limits_interlocks_and_the_stop_are_told():
    site = load_site(FULL)
    text = runbook(site, {})
    control = site.control
    assert control.limits
    assert control.interlocks
    assert control.emergency_stop
    assert [r[0].strip("`") for r in rows(text, "### Told by others")] == [u.id for u in control.limits]
    assert [r[0].strip("`") for r in rows(text, "### Interlocks")] == [x.id for x in control.interlocks]
    demands = rows(text, "### The emergency stop demands")
    assert {r[0].strip("`"): float(r[1].split()[0]) for r in demands} == dict(control.emergency_stop)


def test_runbook_names_the_files_it_was_made_from():
    text = runbook(load_site(DEMO), file_hashes(DEMO))
    head = text.split("\n## ", 1)[0]
    for name, digest in file_hashes(DEMO).items():
        assert f"| `{name}` | `{digest}` |" in head


def test_table_keeps_a_bar_and_a_line_break_inside_its_cell():
    assert list(table(("a", "b"), [("x|y", "two\nlines")])) == [
        "", "| a | b |", "| --- | --- |", "| x\\|y | two lines |",
    ]  # fmt: skip
    assert list(table(("a",), [])) == ["", "None."]


def test_page_keeps_markup_of_a_site_file_as_text_and_loads_nothing():
    page = page_of("# <b>x</b>\n\n" + "\n".join(table(("a",), [("<script>alert(1)</script>",)])) + "\n")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<title>&lt;b&gt;x" in page
    assert not re.search(r"(src|href)=|url\(|https?:", page)


@pytest.mark.parametrize(("suffix", "start"), [(".md", "# Runbook: "), (".html", "<!doctype html>")])
def test_main_runbook_writes_the_same_file_each_time(tmp_path, suffix, start):
    first, second = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    assert [main(["runbook", "demo", "--out", str(p)]) for p in (first, second)] == [0, 0]
    assert first.read_text() == second.read_text()
    assert first.read_text().startswith(start)
    assert "bess1.p_set_kw" in first.read_text()


def test_main_runbook_other_form_or_bad_site_is_refused_in_words(tmp_path, capsys):
    assert main(["runbook", "demo", "--out", str(tmp_path / "x.pdf")]) == 2
    assert "allowed: .md, .html" in capsys.readouterr().err
    assert main(["runbook", str(tmp_path / "none.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
