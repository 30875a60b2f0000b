"""Measured data sets: the traps in them, on made-up rows and on the real files where they are."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ems.errors import DataError
from ems.outage import known_outages
from sim.datasets import AREAS, eskom_outages, read_ucsd, ucsd_eskom_scenario
from tests.builders import site

PACIFIC = ZoneInfo("America/Los_Angeles")


def write_ucsd(path, stamps: list[str], values: list[str]) -> None:
    lines = [f"{s},{v}" for s, v in zip(stamps, values, strict=True)][::-1]
    path.write_text("\ufeffDateTime,RealPower\n" + "\n".join(lines) + "\n", encoding="utf-8")


def test_read_ucsd_autumn_hour_comes_twice_and_is_told_apart(tmp_path):
    """The files are in wall-clock time: on the first Sunday of November 01:00 to 01:45 appear twice."""
    minutes = [f"11/3/2019 {h}:{m:02d}" for h in (0, 1, 1, 2) for m in (0, 15, 30, 45)]
    write_ucsd(tmp_path / "x.csv", minutes, [str(i) for i in range(16)])
    series = read_ucsd(tmp_path / "x.csv")
    assert series.start == datetime(2019, 11, 3, 7, tzinfo=UTC)  # midnight in daylight time
    assert series.values.tolist() == [float(i) for i in range(16)]


def test_read_ucsd_spring_hour_is_no_gap(tmp_path):
    minutes = [f"3/10/2019 {h}:{m:02d}" for h in (1, 3) for m in (0, 15, 30, 45)]
    write_ucsd(tmp_path / "x.csv", minutes, [str(i) for i in range(8)])
    assert read_ucsd(tmp_path / "x.csv").values.tolist() == [float(i) for i in range(8)]


def test_read_ucsd_missing_and_text_cells_are_filled_and_night_pv_is_not_negative(tmp_path):
    minutes = [f"6/1/2019 {h}:{m:02d}" for h in (1, 2) for m in (0, 15, 30, 45)]
    values = ["-0.3", "1", "No Data", "3", "", "5", "6", "7"]
    write_ucsd(tmp_path / "x.csv", minutes[:4] + minutes[5:], values[:4] + values[5:])
    assert read_ucsd(tmp_path / "x.csv").values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_read_ucsd_unusable_stamp_is_refused_with_its_line(tmp_path):
    (tmp_path / "x.csv").write_text("DateTime,RealPower\nsome day,1\n")
    with pytest.raises(DataError, match=r"x\.csv:2: DateTime"):
        read_ucsd(tmp_path / "x.csv")


def test_ucsd_eskom_scenario_folder_missing_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"MusicBuilding\.csv: there is no such file"):
        ucsd_eskom_scenario(site(), tmp_path)


@pytest.mark.needs_data
def test_ucsd_eskom_scenario_a_year_has_the_known_share_of_outages(shared_data):
    s = ucsd_eskom_scenario(site(), shared_data)
    off = sum((m.end - m.start).total_seconds() for m in s.mains) / s.duration_s
    assert (s.end - s.start) == timedelta(days=365)
    assert 0.15 < off < 0.25
    assert 600 < len(s.mains) < 800
    lengths = [(m.end - m.start).total_seconds() / 3600.0 for m in s.mains]
    assert np.median(lengths) == 2.5


@pytest.mark.needs_data
def test_eskom_outages_are_known_only_from_their_time_of_issue_on(shared_data):
    events, notices = eskom_outages(shared_data / "eskom_loadshedding", AREAS[0], ZoneInfo("Africa/Nairobi"))
    told = {e.id: e for e in events if e.announced}
    for notice in notices:
        if notice.id in told and not notice.cancelled:
            assert notice.issued_at < told[notice.id].start
            before = notice.issued_at - timedelta(seconds=1)
            same = [n for n in known_outages(notices, before) if n.id == notice.id]
            assert same == [] or same[0].issued_at < notice.issued_at
    assert {n.id for n in notices} - {e.id for e in events}, "some announced outages never came"


@pytest.mark.needs_data
def test_ucsd_load_keeps_its_hours_and_weekdays_on_the_site_clock(shared_data):
    s = ucsd_eskom_scenario(site(), shared_data, date(2023, 1, 9), 28)
    zone = ZoneInfo(site().timezone)
    series = s.pv_kw["pv1"]
    local = [
        (series.start + timedelta(seconds=900.0 * i)).astimezone(zone) for i in range(len(series.values))
    ]
    by_hour = [
        np.mean([v for t, v in zip(local, series.values, strict=True) if t.hour == h]) for h in range(24)
    ]
    assert by_hour[0] < 1.0
    assert int(np.argmax(by_hour)) in (11, 12)
    load = s.load_kw["essential"]
    weekday = np.asarray([t.weekday() for t in local[: len(load.values)]])
    assert load.values[weekday < 5].mean() > 1.02 * load.values[weekday == 6].mean()
