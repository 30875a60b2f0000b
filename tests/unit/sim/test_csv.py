"""CSV input: what is taken, and how what cannot be used is refused: file, line, column."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ems.errors import DataError
from sim.csv_scenario import CsvFiles, csv_scenario, outages_from, price_from
from sim.csv_series import CsvRule, read_series
from tests.builders import site

START = datetime(2026, 3, 2, tzinfo=UTC)
END = START + timedelta(days=1)


def rows(columns: str, line: str, *, count: int = 96, step_min: int = 15, start: datetime = START) -> str:
    times = (start + timedelta(minutes=step_min * i) for i in range(count))
    return columns + "\n" + "".join(f"{t.isoformat()},{line}\n" for t in times)


def test_read_series_local_offset_is_turned_into_utc(tmp_path):
    path = tmp_path / "load.csv"
    path.write_text("# kW\ntime,load_kw\n2026-03-02T03:00+03:00,1\n2026-03-02T03:30+03:00,2\n")
    series = read_series(path, [CsvRule(column="load_kw")])["load_kw"]
    assert series.start == START
    assert series.step_s == 1800.0
    assert series.values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("when,load_kw\n", ":1: the first column is 'when'"),
        ("time,lod_kw\n", ":1: columns lod_kw found; wanted: load_kw"),
        ("time,load_kw,load_kw\n", "twice: load_kw"),
        ("time,load_kw\n2026-03-02T00:00Z,1\n", "1 rows; at least two"),
        ("time,load_kw\n2026-03-02T00:00,1\n2026-03-02T00:15,1\n", ":2: time: .* has no time zone"),
        ("time,load_kw\nyesterday,1\n", ":2: time: 'yesterday' is not an ISO 8601 time"),
        ("time,load_kw\n2026-03-02T00:00Z,1,2\n", ":2: 3 cells, the header has 2"),
        ("time,load_kw\n2026-03-02T00:00Z,abc\n", ":2: load_kw: 'abc' is not a number"),
        ("time,load_kw\n2026-03-02T00:00Z,\n", ":2: load_kw: the cell is empty"),
        ("time,load_kw\n2026-03-02T00:00Z,nan\n", ":2: load_kw: nan cannot be used"),
        ("time,load_kw\n2026-03-02T00:00Z,inf\n", ":2: load_kw: inf cannot be used"),
        ("time,load_kw\n2026-03-02T00:00Z,-3\n", ":2: load_kw: -3 is outside 0 to inf"),
        (
            "time,load_kw\n2026-03-02T00:00Z,1\n2026-03-02T00:15Z,1\n2026-03-02T01:15Z,1\n",
            ":4: time: .*a gap: 1:00:00 after the row before, the step is 0:15:00",
        ),
        ("time,load_kw\n2026-03-02T00:00Z,1\n2026-03-02T00:00Z,1\n", ":3: time: .*the same time again"),
        ("time,load_kw\n2026-03-02T01:00Z,1\n2026-03-02T00:00Z,1\n", ":3: time: .*rows must ascend"),
    ],
)
def test_read_series_unusable_text_is_refused_with_its_place(tmp_path, text, words):
    path = tmp_path / "load.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as refused:
        read_series(path, [CsvRule(column="load_kw", low=0.0)])
    assert str(path) in str(refused.value)


def test_read_series_no_such_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_series(tmp_path / "absent.csv", [CsvRule(column="x")])


def test_read_series_not_utf8_is_refused(tmp_path):
    path = tmp_path / "load.csv"
    path.write_bytes(b"time,load_kw\n\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_series(path, [CsvRule(column="load_kw")])


def test_csv_scenario_total_load_is_split_by_the_feeders_peaks(tmp_path):
    path = tmp_path / "load.csv"
    path.write_text(rows("time,load_kw", "104"))
    s = csv_scenario(site(), START, END, CsvFiles(load=path), seed=1)
    assert {f: float(x.values[0]) for f, x in s.load_kw.items()} == pytest.approx(
        {"critical": 24.0, "essential": 50.0, "deferrable": 30.0}
    )
    assert "load.csv" in s.labels["load"]
    assert "only 0.0 days before the start" in s.labels["load"]


def test_csv_scenario_single_feeders_must_all_be_there(tmp_path):
    path = tmp_path / "load.csv"
    path.write_text(rows("time,critical_kw,essential_kw", "10,20"))
    with pytest.raises(DataError, match="no column for deferrable_kw"):
        csv_scenario(site(), START, END, CsvFiles(load=path), seed=1)


def test_csv_scenario_file_too_short_is_refused_with_both_periods(tmp_path):
    path = tmp_path / "load.csv"
    path.write_text(rows("time,load_kw", "100", count=90))
    with pytest.raises(DataError, match=r"covers 2026-03-02T00:00:00\+00:00 to 2026-03-02T22:30"):
        csv_scenario(site(), START, END, CsvFiles(load=path), seed=1)


def test_csv_scenario_weather_gives_pv_in_daylight_only(tmp_path):
    path = tmp_path / "weather.csv"
    lines = ["time,ghi_w_m2,temp_air_degc"]
    for i in range(24):
        t = START + timedelta(hours=i)
        sun = max(0.0, np.sin((i + 3 - 6) / 12.0 * np.pi))  # local noon at 09:00 UTC
        lines.append(f"{t.isoformat()},{900.0 * sun:.1f},25")
    path.write_text("\n".join(lines) + "\n")
    s = csv_scenario(site(), START, END, CsvFiles(weather=path), seed=1)
    values = s.pv_kw["pv1"].values
    assert values[9] > 400.0
    assert values[20] == 0.0


def test_csv_scenario_pv_and_weather_together_are_refused(tmp_path):
    files = CsvFiles(pv=tmp_path / "a.csv", weather=tmp_path / "b.csv")
    with pytest.raises(DataError, match="both give PV"):
        csv_scenario(site(), START, END, files, seed=1)


def test_price_from_negative_prices_are_taken(tmp_path):
    path = tmp_path / "price.csv"
    path.write_text(rows("time,import_per_kwh", "-0.05"))
    assert price_from(path, START, END).values.min() == -0.05


def test_outages_from_empty_time_of_issue_means_unannounced(tmp_path):
    path = tmp_path / "outages.csv"
    path.write_text(
        "id,start,end,issued_at,v_pu\n"
        "a,2026-03-02T18:00+03:00,2026-03-02T20:00+03:00,2026-03-01T12:00Z,\n"
        "b,2026-03-02T08:00Z,2026-03-02T08:30Z,,0.7\n"
    )
    events, notices = outages_from(path)
    assert [(e.id, e.announced, e.v_pu) for e in events] == [("a", True, 0.0), ("b", False, 0.7)]
    assert [n.id for n in notices] == ["a"]
    assert notices[0].start == datetime(2026, 3, 2, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,2026-03-02T10:00Z,2026-03-02T09:00Z", ":2: end: .* is not after the start"),
        ("a,2026-03-02T10:00,2026-03-02T11:00Z", ":2: start: .* has no time zone"),
        ("a,soon,2026-03-02T11:00Z", ":2: start: 'soon' is not"),
        ("a,2026-03-02T10:00Z", ":2: 2 cells, the header has 3"),
    ],
)
def test_outages_from_unusable_line_is_refused_with_its_place(tmp_path, line, words):
    path = tmp_path / "outages.csv"
    path.write_text(f"id,start,end\n{line}\n")
    with pytest.raises(DataError, match=words):
        outages_from(path)
