"""Forecast files: what is refused and how it is said, what is repaired and told."""

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ems.errors import DataError
from ems.timegrid import TimeGrid
from forecasting.csv_table import CsvRepairs, read_tables
from forecasting.from_csv import CsvForecaster
from tests.builders import T0, site

HEADER = "time,load.critical,load.essential,load.deferrable,pv.pv1"


def write(tmp_path: Path, lines: list[str], header: str = HEADER) -> Path:
    path = tmp_path / "forecast.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def lines(count: int = 96, start: datetime = T0, step_s: float = 1800.0) -> list[str]:
    times = [start + timedelta(seconds=step_s * i) for i in range(count)]
    return [f"{t.isoformat()},{50 + i},{100 + i},{60},{10 * (i % 48)}" for i, t in enumerate(times)]


def test_forecaster_from_file_gives_means_on_the_grid(tmp_path):
    f = CsvForecaster(site(), write(tmp_path, lines())).forecast(
        TimeGrid.blocks(T0, ((900.0, 4), (3600.0, 10))), T0
    )
    np.testing.assert_allclose(f.load_kw["critical"][:6], [50, 50, 51, 51, 52.5, 54.5])
    np.testing.assert_array_equal(f.import_per_kwh, site().tariff.import_prices(f.grid))
    assert f.repairs == ("forecast.csv: times of issue are unknown; taken as known at any time",)
    assert f.source == "csv:forecast.csv"


def test_forecaster_uses_the_newest_issue_of_the_time(tmp_path):
    header = "time,issued_at,load.critical,load.essential,load.deferrable,pv.pv1,import_per_kwh"
    rows = []
    for k, issue in enumerate((T0 - timedelta(hours=3), T0 + timedelta(hours=1))):
        for i in range(96):
            at = T0 + timedelta(seconds=1800 * i)
            rows.append(f"{at.isoformat()},{issue.isoformat()},{100 * (k + 1)},1,1,0,0.2")
    forecaster = CsvForecaster(site(), write(tmp_path, rows, header))
    grid = TimeGrid.uniform(T0 + timedelta(hours=2), 900.0, 8)
    early = forecaster.forecast(grid, T0)
    late = forecaster.forecast(grid, T0 + timedelta(hours=1))
    assert set(early.load_kw["critical"]) == {100.0}
    assert set(late.load_kw["critical"]) == {200.0}
    assert early.data_cutoff == T0 - timedelta(hours=3)
    np.testing.assert_allclose(late.import_per_kwh, 0.2)
    with pytest.raises(DataError, match="nothing had been issued by"):
        forecaster.forecast(grid, T0 - timedelta(hours=4))


def broken(change, header: str = HEADER) -> tuple[list[str], str]:
    rows = lines()
    change(rows)
    return rows, header


def cell(line: int, column: int, text: str):
    def change(rows: list[str]) -> None:
        cells = rows[line - 2].split(",")
        cells[column] = text
        rows[line - 2] = ",".join(cells)

    return change


BAD = [
    (broken(cell(7, 1, "NaN")), r"forecast.csv:7: load.critical: found 'NaN'; allowed: a finite number"),
    (broken(cell(7, 4, "1e400")), r":7: pv.pv1: found '1e400'"),
    (broken(cell(7, 2, "many")), r":7: load.essential: found 'many'; allowed: a number"),
    (broken(cell(9, 3, "")), r":9: load.deferrable: 1 values missing \(1800 s\)"),
    (broken(lambda r: r.pop(10)), r":11: load.critical: 1 values missing"),
    (broken(cell(12, 0, "2026-03-02 05:00")), r":12: time: .* has no time zone"),
    (broken(cell(12, 0, "yesterday")), r":12: time: found 'yesterday'"),
    (broken(lambda r: r.reverse()), r":3: time: .* is not after the line before"),
    (broken(lambda r: r.insert(5, r[4])), r":7: time: .* is not after"),
    (broken(cell(12, 0, "2026-03-02T04:40:00+00:00")), r"not on the file's step"),
    (broken(lambda r: r.append("1,2")), r":98: 2 cells; the header has 5"),
    (broken(lambda r: None, HEADER.replace("time", "when")), r":1: the first column is 'when'"),
    (broken(lambda r: None, HEADER.replace("pv.pv1", "pv.pv9")), r":1: columns missing: pv.pv1"),
    (
        broken(lambda r: None, HEADER.replace("load.essential", "load.critical")),
        r"named twice: load.critical",
    ),
    (broken(cell(20, 1, "-5")), r"load.critical: -5 at 2026-03-02T09:00:00\+00:00; allowed: 0 or more"),
    (broken(cell(20, 4, "90000")), r"pv.pv1: 90000 at .*another unit"),
    (broken(cell(20, 1, "60000")), r"load.critical: 60000 at .*another unit"),
    (broken(lambda r: r.clear()), r"0 rows of data"),
]


@pytest.mark.parametrize(("given", "words"), BAD)
def test_forecaster_bad_file_is_refused_with_line_and_column(tmp_path, given, words):
    rows, header = given
    with pytest.raises(DataError, match=words):
        CsvForecaster(site(), write(tmp_path, rows, header))


# ---- the same from Parquet


def write_parquet(tmp_path: Path, text: list[str], header: str = HEADER, times: bool = True) -> Path:
    """The table of CSV lines; numbers as numbers, times as timestamps or as texts, empty cells as nulls."""
    names = header.split(",")
    columns: dict[str, Any] = {}
    for name, cells in zip(names, zip(*[line.split(",") for line in text], strict=True), strict=True):
        if name in ("time", "when", "issued_at"):
            columns[name] = [datetime.fromisoformat(c) if times else c for c in cells]
        else:
            columns[name] = [None if c == "" else float(c) for c in cells]
    path = tmp_path / "forecast.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("times", [True, False])
def test_forecaster_from_parquet_is_that_from_csv(tmp_path, times):
    grid = TimeGrid.blocks(T0, ((900.0, 4), (3600.0, 10)))
    there = CsvForecaster(site(), write_parquet(tmp_path, lines(), times=times)).forecast(grid, T0)
    here = CsvForecaster(site(), write(tmp_path, lines())).forecast(grid, T0)
    assert there.source == "parquet:forecast.parquet"
    for name in ("load_kw", "pv_kw"):
        ours, theirs = getattr(here, name), getattr(there, name)
        assert set(ours) == set(theirs)
        for asset in ours:
            np.testing.assert_array_equal(ours[asset], theirs[asset])


def test_forecaster_from_parquet_as_pandas_writes_it_time_is_the_index(tmp_path):
    """An index is stored as the last column, in nanoseconds and of another zone."""
    import pandas as pd

    index = pd.date_range(T0, periods=96, freq="30min").tz_convert("Africa/Nairobi").rename("time")
    columns = {name: np.arange(96.0) for name in HEADER.split(",")[1:]}
    path = tmp_path / "pandas.parquet"
    pd.DataFrame(columns, index=index).to_parquet(path)
    assert pq.ParquetFile(path).schema_arrow.names[-1] == "time"
    f = CsvForecaster(site(), path).forecast(TimeGrid.uniform(T0, 1800.0, 4), T0)
    np.testing.assert_array_equal(f.load_kw["critical"], [0.0, 1.0, 2.0, 3.0])


BAD_PARQUET = [
    (broken(cell(7, 1, "nan")), r"forecast.parquet: row 6: load.critical: found 'nan'; allowed: a finite"),
    (broken(cell(9, 3, "")), r"parquet: row 8: load.deferrable: 1 values missing \(1800 s\)"),
    (broken(cell(12, 0, "2026-03-02T04:40:00+00:00")), r"row 11: time: not on the file's step"),
    (broken(lambda r: r.insert(5, r[4])), r"row 6: time: .* is not after"),
    (broken(lambda r: None, HEADER.replace("time", "when")), r"columns: the first column is 'when'"),
    (broken(lambda r: None, HEADER.replace("pv.pv1", "pv.pv9")), r"parquet: columns missing: pv.pv1"),
    (broken(cell(20, 1, "-5")), r"load.critical: -5 at 2026-03-02T09:00:00\+00:00; allowed: 0 or more"),
]


@pytest.mark.parametrize(("given", "words"), BAD_PARQUET)
def test_forecaster_bad_parquet_is_refused_with_row_and_column(tmp_path, given, words):
    rows, header = given
    with pytest.raises(DataError, match=words):
        CsvForecaster(site(), write_parquet(tmp_path, rows, header))


def test_forecaster_parquet_without_zone_of_another_type_or_no_parquet_is_refused(tmp_path):
    naive = [line.replace("+00:00", "") for line in lines()]
    with pytest.raises(DataError, match="row 1: time: '2026-03-02T00:00:00' has no time zone"):
        CsvForecaster(site(), write_parquet(tmp_path, naive))
    CsvForecaster(site(), write_parquet(tmp_path, naive), timezone="Africa/Nairobi")
    path = tmp_path / "flags.parquet"
    pq.write_table(pa.table({"time": ["2026-03-02T00:00:00Z"], "load.critical": [True]}), path)
    with pytest.raises(DataError, match=r"load.critical: found values of type bool; allowed: numbers"):
        CsvForecaster(site(), path)
    path.write_bytes(b"time,load.critical")
    with pytest.raises(DataError, match=r"flags.parquet: cannot be read: .*"):
        CsvForecaster(site(), path)


def test_forecaster_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = write_parquet(tmp_path, lines())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"the package pyarrow, which is not installed; install it with pip "):
        CsvForecaster(site(), path)


def test_forecaster_no_file_and_no_text_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        CsvForecaster(site(), tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="is empty"):
        CsvForecaster(site(), tmp_path / "empty.csv")
    (tmp_path / "bytes.csv").write_bytes(b"time\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        CsvForecaster(site(), tmp_path / "bytes.csv")


def test_forecaster_unknown_column_is_refused(tmp_path):
    rows = [r + ",1" for r in lines()]
    with pytest.raises(DataError, match=r"unknown columns: load.boiler; allowed: .*import_per_kwh"):
        CsvForecaster(site(), write(tmp_path, rows, HEADER + ",load.boiler"))


def test_forecaster_short_file_is_refused_or_extended_as_declared(tmp_path):
    path = write(tmp_path, lines(60))  # 30 h
    grid = TimeGrid.uniform(T0, 3600.0, 48)
    with pytest.raises(DataError, match=r"load.critical: covers .* the plan needs"):
        CsvForecaster(site(), path).forecast(grid, T0)
    f = CsvForecaster(site(), path, repairs=CsvRepairs(extend_last_day=True)).forecast(grid, T0)
    assert any("load.critical: ends 36 steps early; continued by its last 24 h" in r for r in f.repairs)
    np.testing.assert_allclose(f.load_kw["critical"][30:48], f.load_kw["critical"][6:24])


def test_forecaster_declared_gap_repair_is_made_and_told(tmp_path):
    rows, _ = broken(cell(9, 1, ""))
    cell(10, 1, "")(rows)
    path = write(tmp_path, rows)
    with pytest.raises(DataError, match="2 values missing"):
        CsvForecaster(site(), path, repairs=CsvRepairs(gap_s_max=1800.0))
    f = CsvForecaster(site(), path, repairs=CsvRepairs(gap_s_max=3600.0)).forecast(
        TimeGrid.uniform(T0, 1800.0, 20), T0
    )
    np.testing.assert_allclose(f.load_kw["critical"], 50 + np.arange(20.0))
    assert "forecast.csv:9: load.critical: 2 missing values filled by a straight line" in f.repairs


def test_forecaster_pv_little_over_rating_is_capped_and_told(tmp_path):
    rows, _ = broken(cell(20, 4, "650"))
    f = CsvForecaster(site(), write(tmp_path, rows)).forecast(TimeGrid.uniform(T0, 1800.0, 40), T0)
    assert f.pv_kw["pv1"].max() == 600.0
    assert any("capped at the rating of 600 kW" in r for r in f.repairs)


def test_wall_clock_times_through_both_clock_changes(tmp_path):
    zone = ZoneInfo("America/New_York")
    for start in (datetime(2026, 10, 31, 12, tzinfo=zone), datetime(2026, 3, 7, 12, tzinfo=zone)):
        first = start.astimezone(ZoneInfo("UTC"))
        walls = [(first + timedelta(minutes=30 * i)).astimezone(zone).replace(tzinfo=None) for i in range(60)]
        path = tmp_path / "wall.csv"
        path.write_text("time,x\n" + "".join(f"{w.isoformat()},{i}\n" for i, w in enumerate(walls)))
        ((_, table),) = read_tables(path, timezone="America/New_York")
        assert table.series["x"].start == first
        assert len(table.series["x"].values) == 60


def test_wall_clock_time_that_never_was_is_refused(tmp_path):
    path = tmp_path / "wall.csv"
    path.write_text("time,x\n2026-03-08T01:30,1\n2026-03-08T02:30,2\n")
    with pytest.raises(DataError, match=r"wall.csv:3: time: '2026-03-08T02:30' does not exist"):
        read_tables(path, timezone="America/New_York")


def test_byte_order_mark_and_blank_lines_are_no_fault(tmp_path):
    path = write(tmp_path, lines())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    f = CsvForecaster(site(), path).forecast(TimeGrid.uniform(T0, 1800.0, 4), T0)
    assert f.load_kw["critical"][0] == 50.0
