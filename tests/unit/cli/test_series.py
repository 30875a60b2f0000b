"""`ems series`: what does not count of some days, why, and the file with what stands for it."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.main import main
from ems.telemetry import Quality, Reading, Snapshot
from tests.unit.connectors.archives import record

MIDNIGHT = datetime(2026, 3, 18, 4, tzinfo=UTC)  # local, in New York


def snap(second: int, **values: tuple[float | None, Quality]) -> Snapshot:
    at = MIDNIGHT + timedelta(seconds=second)
    readings = [
        Reading(point=f"grid1.{name}", value=value, quality=quality, source_time=at, arrived_s=float(second))
        for name, (value, quality) in values.items()
    ]
    return Snapshot(at=at, monotonic_s=float(second), readings={r.point: r for r in readings})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten seconds of a day: a spike, a reading that was not answered, and a counter that was set back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "ems-data").mkdir()
    power = [100.0, 101.0, 300.0, 102.0, None, 104.0, 105.0, 106.0, 107.0, 108.0]
    count = [50.0, 50.5, 51.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    rows = [
        snap(
            i,
            p_kw=(kw, Quality.GOOD if kw is not None else Quality.COMM_FAILED),
            import_kwh=(kwh, Quality.GOOD),
        )
        for i, (kw, kwh) in enumerate(zip(power, count, strict=True))
    ]
    record(tmp_path / "ems-data" / "history.sqlite", rows)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = main(["series", "demo", *more])
    seen = capsys.readouterr()
    return code, " ".join((seen.out + seen.err).split())


def test_table_says_how_many_do_not_count_and_why(place: Path, capsys: pytest.CaptureFixture[str]):
    code, out = said(capsys, "--from", "2026-03-18")
    assert code == 0
    assert "2026-03-18 04:00 to 2026-03-19 04:00 UTC" in out
    assert "grid1.p_kw │ 10 │ 2 │ 2 │ spike 1, bad 1" in out
    assert "grid1.import_kwh │ 10 │ 0 │ 0 │ │ reset 1" in out
    assert "grid1.f_hz" not in out, "nothing was recorded of it"


def test_file_has_each_reading_with_what_stands_for_it(place: Path, capsys: pytest.CaptureFixture[str]):
    code, out = said(capsys, "--from", "2026-03-18", "--point", "grid1.import_kwh", "--csv", "clean.csv")
    assert (code, "written: clean.csv" in out) == (0, True)
    with (place / "clean.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["value"]) for r in rows] == [50.0 + 0.5 * i for i in range(10)]
    assert [r["mark"] for r in rows].count("reset") == 1
    assert (rows[3]["raw"], rows[3]["quality"], rows[3]["substituted"]) == ("0.5", "good", "0")
    assert rows[0]["at"] == "2026-03-18T04:00:00+00:00"


def test_day_of_which_nothing_is_known_and_what_cannot_be(place: Path, capsys: pytest.CaptureFixture[str]):
    code, out = said(capsys, "--from", "2026-03-20", "--point", "grid1.p_kw")
    assert (code, "grid1.p_kw │ 0" in out) == (1, True)
    code, out = said(capsys, "--from", "2026-03-18", "--point", "grid1.p_kv")
    assert code == 2
    assert "--point: found 'grid1.p_kv'; allowed: a point that is read, such as grid1.p_kw" in out
    code, out = said(capsys, "--from", "2026-03-18", "--dir", "nowhere")
    assert (code, "nowhere: found no historian" in out) == (2, True)
    code, out = said(capsys, "--from", "2026-03-18", "--csv", "no/such/folder.csv")
    assert (code, "no/such" in out) == (2, True)
    assert not list(place.glob("*.part"))
