"""The benchmark of the historian measures what it says: both ways of filling it store the same readings."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.historian import by_rows, in_bulk, main
from benchmarks.historian_case import START, Case, day_of, name_of
from benchmarks.historian_rivals import plain_sqlite
from connectors.historian.reader import SqliteHistoryReader
from ems.records import Sample

CASE = Case(name="half hours of 17 points", points=17, every_s=1800, days=3)


def readings(folder: Path) -> list[Sequence[Sample]]:
    with closing(SqliteHistoryReader(folder / "history.sqlite")) as reader:
        return [reader.series(name_of(p), START, CASE.end, 10_000) for p in range(CASE.points)]


def test_in_bulk_stores_what_rows_do_and_goes_on_where_it_was(tmp_path):
    for name in ("rows", "bulk"):
        (tmp_path / name).mkdir()
    by_rows(CASE, tmp_path / "rows")
    in_bulk(replace(CASE, days=2), tmp_path / "bulk")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "bulk" / "archive").glob("raw-*.zip")}
    in_bulk(CASE, tmp_path / "bulk")
    assert {p: p.stat().st_mtime_ns for p in before} == before, "days that are there are not made again"
    found = readings(tmp_path / "bulk")
    assert sum(map(len, found)) == CASE.rows
    assert found == readings(tmp_path / "rows")


def test_plain_sqlite_goes_on_where_it_was(tmp_path):
    plain_sqlite(replace(CASE, days=2), tmp_path, True)
    figures = plain_sqlite(CASE, tmp_path, True)
    with closing(sqlite3.connect(tmp_path / "plain.sqlite")) as db:
        rows = db.execute("SELECT count(*), count(DISTINCT point || at) FROM reading").fetchone()
        assert rows == (CASE.rows, CASE.rows)
        first = db.execute("SELECT * FROM reading ORDER BY rowid LIMIT 1").fetchone()
        assert db.execute("SELECT day FROM built ORDER BY rowid").fetchall() == [(0,), (1,), (-1,), (2,)]
    assert first == next(day_of(CASE, 0).texts())
    assert figures.size_bytes > 0


@pytest.mark.parametrize("given", [["--days", "0"], ["--points", "5000"], ["--days", "1.5", "--keep", "x"]])
def test_what_cannot_be_measured_is_refused(given, capsys):
    with pytest.raises(SystemExit):
        main(given)
    assert "1 to 1000" in capsys.readouterr().err or given[-1] == "x"
