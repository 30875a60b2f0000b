"""A folder of versions: one a file, with when it came; or what `ems run` keeps."""

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from connectors.inputs.files import FiledInputs, filed_inputs
from connectors.inputs.store import InputStore
from ems.errors import ConfigError, DataError
from ems.site import Site
from tests.unit.connectors.inputs_here import NOW, site_with
from tests.unit.connectors.test_input_store import version

INPUTS = """
  one: {kind: price, folder: inbox/one}
  sheds: {kind: outages, folder: inbox/sheds}
"""
HEAD = "time,issued_at,import_per_kwh\n"
ROWS = "2026-03-02T13:00:00Z,{0},0.{1}\n2026-03-02T14:00:00Z,{0},0.{1}\n"
DAY = timedelta(days=1)


@pytest.fixture
def plant(tmp_path: Path) -> Site:
    for name in ("one", "sheds"):
        (tmp_path / "told" / name).mkdir(parents=True)
    return site_with(tmp_path, INPUTS)


def read(tmp_path: Path, plant: Site) -> FiledInputs:
    return filed_inputs(tmp_path / "told", plant, NOW - DAY, NOW + DAY, lambda params: lambda v: ())


def seen(found: FiledInputs, at: datetime, name: str = "one") -> list[float]:
    known = found.known(name, at, NOW - DAY, NOW + DAY, 9)
    return [float(v.series["import_per_kwh"].values[0]) for v in known]


def test_files_came_when_they_were_issued_or_when_their_name_says(tmp_path: Path, plant: Site):
    told = tmp_path / "told" / "one"
    (told / "b.csv").write_text(HEAD + ROWS.format("2026-03-02T09:00Z", 1))
    (told / "a.csv").write_text(HEAD + ROWS.format("2026-03-02T11:00Z", 2))
    (told / "20260302T100000Z-late.csv").write_text(HEAD + ROWS.format("2026-03-02T08:00Z", 3))
    (told / ".c.csv").write_text("unfinished")
    (tmp_path / "told/sheds/s.csv").write_text(
        "id,issued_at,from,until\nx,2026-03-01T08:00Z,2026-03-03T08:00Z,2026-03-03T09:00Z\n"
        "y,2026-03-02T07:00Z,2026-03-04T08:00Z,2026-03-04T09:00Z\n"
    )
    found, hour = read(tmp_path, plant), timedelta(hours=1)
    assert seen(found, NOW - 4 * hour) == []
    assert seen(found, NOW - 3 * hour) == [0.1]
    assert seen(found, NOW - 2 * hour) == [0.1, 0.3], "an older issue that came late"
    assert seen(found, NOW) == [0.2, 0.1, 0.3]
    assert found.seen_at("one", NOW - 2 * hour) == NOW - 2 * hour
    assert found.seen_at("one", NOW - DAY) is None
    assert found.last_at() == NOW - hour
    (sheds,) = found.known("sheds", NOW, NOW, NOW + 3 * DAY, 9)
    assert sheds.arrived_at == NOW - 5 * hour, "when the last of its outages was issued"
    assert [o.id for o in sheds.outages] == ["x", "y"]


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, plant: Site):
    told = tmp_path / "told" / "one"
    (told / "a.csv").write_text("time,import_per_kwh\n2026-03-02T13:00Z,1\n2026-03-02T14:00Z,1\n")
    (told / "b.csv").write_text(HEAD + ROWS.format("2026-03-02T09:00Z", "x"))
    (told / "20261302T100000Z-c.csv").write_text(HEAD + ROWS.format("2026-03-02T09:00Z", 1))
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, plant)
    text = str(raised.value)
    assert "one/a.csv: file: found no time of issue; allowed: a time of issue in the file, or when it" in text
    assert "one/b.csv:2: import_per_kwh: found '0.x'" in text
    assert "one/20261302T100000Z-c.csv: file: found 20261302T100000Z; allowed: a time that there is" in text


def test_folder_of_nothing_is_refused(tmp_path: Path, plant: Site):
    for name in ("one", "sheds"):
        (tmp_path / "told" / name).rmdir()
    with pytest.raises(DataError, match=r"nor a folder of an input; allowed: .* one, sheds"):
        read(tmp_path, plant)


def test_what_a_run_keeps_is_what_was_known_then(tmp_path: Path, plant: Site):
    with closing(InputStore(tmp_path / "told")) as store:
        store.take(version(0.1, NOW - DAY, NOW - DAY), b"1")
        store.take(version(0.2, NOW, NOW + timedelta(hours=1)), b"2")
    found = read(tmp_path, plant)
    assert seen(found, NOW) == [0.1]
    assert seen(found, NOW + timedelta(hours=1)) == [0.2, 0.1]
    assert [v.id for v in found.versions] == [1, 2], "numbers are those of the store"
