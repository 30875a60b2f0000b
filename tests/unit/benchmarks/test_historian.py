"""The benchmark of the historian runs, at its smallest, with whatever rivals are installed."""

import re

import pytest

from benchmarks import historian


def test_figures_of_a_day_are_printed_for_each_store(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(historian, "LIVE_SNAPSHOTS", 5)
    monkeypatch.setattr(historian, "postgres", lambda case, folder: None)
    historian.main(["--days", "0.1", "--points", "3"])
    out = capsys.readouterr().out
    assert out.count("SQLite / ems") == 2
    assert out.count("PostgreSQL: not installed: left out") == 2
    assert len(re.findall(r"^(?:ems|SQLite) +\d", out, re.MULTILINE)) == 4
