"""`ems bill`: a month from the historian, at told prices, and what is said beside it."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli import bill as command
from cli.main import main
from connectors.historian.archive.upkeep import QUARTERS
from connectors.inputs.store import InputStore
from ems.clock import VirtualClock
from ems.telemetry import Quality, Reading, Snapshot
from tests.unit.connectors.archives import pack, record, store_of, trim
from tests.unit.connectors.inputs_here import site_with
from tests.unit.connectors.test_input_store import version

MIDNIGHT = datetime(2026, 3, 2, 5, tzinfo=UTC)  # local, in New York
HOUR = timedelta(hours=1)


def snaps(hours: float, kw: float, begin: datetime = MIDNIGHT) -> list[Snapshot]:
    """A reading of the POI each minute."""
    out = []
    for minute in range(round(hours * 60)):
        at = begin + timedelta(minutes=minute)
        reading = Reading(
            point="grid1.p_kw", value=kw, quality=Quality.GOOD, source_time=at, arrived_s=60.0 * minute
        )
        out.append(Snapshot(at=at, monotonic_s=60.0 * minute, readings={reading.point: reading}))
    return out


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """March, of which five hours are over at a plant that was read for four of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "plant").mkdir()
    site_with(tmp_path / "plant", "  one: {kind: price, folder: inbox}\n")
    (tmp_path / "ems-data").mkdir()
    record(
        tmp_path / "ems-data" / "history.sqlite",
        [*snaps(2, 100.0), *snaps(1, -40.0, MIDNIGHT + 2 * HOUR), *snaps(1, 100.0, MIDNIGHT + 4 * HOUR)],
    )
    monkeypatch.setattr(command, "SystemClock", lambda: VirtualClock(MIDNIGHT + 5 * HOUR))
    return tmp_path


def told(place: Path) -> None:
    """The day before at 0.50 for two hours; of the second a settled price, known an hour later."""
    with closing(InputStore(place / "ems-data")) as store:
        store.take(version(0.5, MIDNIGHT - 8 * HOUR, MIDNIGHT - 8 * HOUR, MIDNIGHT, 2), b"first")
        store.take(version(0.25, MIDNIGHT + 3 * HOUR, MIDNIGHT + 3 * HOUR, MIDNIGHT + HOUR, 1), b"settled")


def said(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = main(["bill", "plant", *more])
    seen = capsys.readouterr()
    return code, " ".join((seen.out + seen.err).split())


def test_month_so_far_at_told_prices_names_versions_and_what_rests_on_the_tariff(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    """100 kWh at 0.50, 100 kWh at the settled 0.25; 100 kWh at night by the tariff, 0.09 a kWh."""
    told(place)
    code, out = said(capsys, "--out", "bill.json")
    assert "import │ input one │ 200.0 │ 75.00" in out
    assert "version 1, issued 03-01 21:00, sha256" in out
    assert "version 2, issued 03-02 08:00, sha256" in out
    assert "at the tariff for want of a told price: import of 100.0 kWh for 9.00 USD, export of 0.0" in out
    assert code == 1
    assert "not read: 03-01 05:00 to 03-02 05:00 UTC" in out
    assert "not read: 03-02 08:00 to 03-02 09:00 UTC" in out
    kept = json.loads((place / "bill.json").read_text())
    (line,) = [e for e in kept["energy"] if e["rests_on"]]
    assert line["cost"] == pytest.approx(75.0)
    assert {r["version"]["version"] for r in line["rests_on"]} == {1, 2}
    assert kept["export_kwh"] == pytest.approx(40.0)
    assert kept["minutes_missing"] == 24 * 60 + 60
    _, before = said(capsys, "--at", "2026-03-02T07:00Z")
    assert "import │ input one │ 200.0 │ 100.00" in before, "as it was known before the price was settled"


def test_month_without_told_prices_rests_on_the_tariff_and_says_so(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    _, out = said(capsys)
    assert "at the tariff for want of a told price: import of 300.0 kWh for 27.00 USD" in out


def test_month_of_which_only_quarters_are_left_is_billed_whole(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Of each quarter of an hour one minute was billed."""
    april = MIDNIGHT + timedelta(days=40)
    monkeypatch.setattr(command, "SystemClock", lambda: VirtualClock(april))
    _, before = said(capsys, "--month", "2026-03")
    history = place / "ems-data" / "history.sqlite"
    record(history, snaps(1, 1.0, april - 3 * HOUR))
    pack(history, april)
    trim(history)
    with store_of(history) as store:
        quarters = sum(e.size_bytes for e in store.catalogue.of(QUARTERS))
    pack(history, april, bytes_max=quarters + 1)
    _, after = said(capsys, "--month", "2026-03")
    assert "minutes were given up to make room" in after
    for words in ("import of 300.0 kWh for 27.00 USD", f"{31 * 1440 - 60 - 240} of {31 * 1440 - 60} minutes"):
        assert words in before
        assert words in after


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--month", "2026-13"], "--month: found '2026-13'; allowed: a month such as 2026-03"),
        (["--month", "9999-12"], "of which nothing is over"),
        (["--month", "2026-04"], "of which nothing is over"),
        (["--month", "2026-02"], "found no good reading of grid1.p_kw"),
        (["--at", "noon"], "--at: found 'noon'; allowed: a time with its zone"),
        (["--at", "0001-01-01T00:00+14:00"], "--at: found '0001-01-01T00:00+14:00'; allowed: a time with"),
        (["--dir", "nowhere"], "nowhere: found no historian"),
    ],
)
def test_what_cannot_be_billed_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
):
    code, out = said(capsys, *more)
    assert (code, words in out) == (2, True), out
