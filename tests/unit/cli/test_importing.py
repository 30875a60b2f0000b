"""`ems import`: what another historian knew, checked before it is stored, once, and of use to the planner."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from cli.imported_past import imported_means, with_imported
from cli.main import main
from connectors.historian.energy import integrate
from connectors.imports import store as stores
from connectors.imports.rows import CsvRows
from connectors.imports.store import FILE, ImportedHistory, ImportStore, imports_of
from ems.errors import ConfigError
from ems.records import Sample
from ems.series import UniformSeries
from ems.site import Site
from ems.site_schema import load_site
from ems.site_schema.import_mapping import load_import_mapping

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "sites" / "demo" / "site.yaml"
LONG = """
source: old_scada
shape: long
time: {column: Time}
tag: Tag
value: Value
quality: {column: Q, good: [192, good]}
points:
  GRID.W: {point: grid1.p_kw, unit: W, scale: -1}
  BAT.SOC: {point: bess1.soc, unit: "%"}
"""
WIDE = """
source: old_logger
shape: wide
time: {column: When, form: "%d/%m/%Y %H:%M", zone: Europe/Berlin}
delimiter: ";"
decimal: ","
points:
  load: {point: critical.p_kw}
  sun: {point: pv1.p_kw}
"""
T0 = datetime(2026, 3, 2, tzinfo=UTC)
HEAD = "Time,Tag,Value,Q\n"
END = datetime(2030, 1, 1, tzinfo=UTC)
Run = Callable[..., int]


@pytest.fixture(scope="module")
def demo() -> Site:
    return load_site(DEMO)


@pytest.fixture
def importing(tmp_path: Path) -> Run:
    def run(mapping: str, *files: str, more: tuple[str, ...] = ()) -> int:
        (tmp_path / "map.yaml").write_text(mapping)
        names = []
        for i, text in enumerate(files):
            names.append(str(tmp_path / f"old{i}.csv"))
            Path(names[-1]).write_text(text, encoding="utf-8")
        asked = ["--mapping", str(tmp_path / "map.yaml"), "--dir", str(tmp_path / "run"), *more]
        return main(["import", str(DEMO), *names, *asked])

    return run


def samples(tmp_path: Path, point: str) -> list[Sample]:
    with closing(ImportedHistory(tmp_path / "run")) as history:
        return list(history.series(point, datetime(2000, 1, 1, tzinfo=UTC), END, 100_000))


LONG_ROWS = """Time,Tag,Value,Q
2026-03-02T00:00:00Z,GRID.W,12500,192
2026-03-02T01:00:00+01:00,BAT.SOC,50,good
2026-03-02T00:01:00Z,GRID.W,13000,0
2026-03-02T00:02:00Z,GRID.W,,192
2026-03-02T00:02:00Z,OTHER,1,192
"""


def test_long_table_becomes_points_in_our_units_and_signs(importing: Run, tmp_path: Path, capsys):
    assert importing(LONG, LONG_ROWS) == 0
    told = capsys.readouterr().out
    assert "4 values added, 0 were there, 2026-03-02 00:00 to 2026-03-02 00:02 UTC" in told
    assert "the mapping does not name: OTHER" in told
    grid = [(s.at, s.value, s.quality.value) for s in samples(tmp_path, "grid1.p_kw")]
    minute = timedelta(minutes=1)
    assert grid == [
        (T0, -12.5, "good"), (T0 + minute, -13.0, "device_bad"), (T0 + 2 * minute, None, "device_bad"),
    ]  # fmt: skip
    assert [(s.at, s.value) for s in samples(tmp_path, "bess1.soc")] == [(T0, 0.5)]
    with closing(sqlite3.connect(tmp_path / "run" / FILE)) as db:
        assert db.execute("SELECT DISTINCT source FROM readings").fetchall() == [("old_scada",)]


def test_wide_table_of_local_times_knows_the_hour_that_comes_twice(importing: Run, tmp_path: Path):
    """The clock goes back at 03:00 on 25 October 2026 in Berlin: 02:00 is told twice, an hour apart."""
    rows = "".join(f"25/10/2026 {h}:{m};{i},5;\n" for i, (h, m) in enumerate(
        (h, m) for h in ("01", "02", "02", "03") for m in ("00", "30")
    ))  # fmt: skip
    assert importing(WIDE, f"When;load;sun\n{rows}") == 0
    found = samples(tmp_path, "critical.p_kw")
    start = datetime(2026, 10, 24, 23, tzinfo=UTC)
    assert [s.at for s in found] == [start + timedelta(minutes=30 * i) for i in range(8)]
    assert [s.value for s in found] == [i + 0.5 for i in range(8)]
    assert samples(tmp_path, "pv1.p_kw") == [], "nothing stands there"


def test_second_time_changes_nothing_and_other_values_are_left_and_told(importing: Run, tmp_path, capsys):
    assert importing(LONG, LONG_ROWS) == 0
    before = samples(tmp_path, "grid1.p_kw")
    capsys.readouterr()
    assert importing(LONG, LONG_ROWS) == 0
    assert "imported before, nothing to do" in capsys.readouterr().out
    assert importing(LONG, LONG_ROWS.replace("12500", "99") + "2026-03-02T00:03:00Z,GRID.W,1,192\n") == 1
    told = capsys.readouterr().out
    assert "1 values added, 3 were there" in told
    assert "1 values are there already with another value" in told
    assert samples(tmp_path, "grid1.p_kw")[:3] == before


@pytest.mark.parametrize(
    ("mapping", "rows", "told"),
    [
        (LONG, f"{HEAD}noon,GRID.W,1,192\n", "old0.csv:2: Time: found 'noon'; allowed: a time in ISO 8601"),
        (LONG, f"{HEAD}2026-03-02T00:00:00,GRID.W,1,192\n", "a time with its zone, or `zone`"),
        (LONG, f'{HEAD}2026-03-02T00:00Z,GRID.W,"1,5",192\n', "old0.csv:2: Value: found '1,5'"),
        (LONG, f"{HEAD}2026-03-02T00:00Z,GRID.W,inf,192\n", "allowed: a finite number, or nothing"),
        (LONG, f"{HEAD}2026-03-02T00:00Z,GRID.W,1\n", "old0.csv:2: row: found 3 columns; allowed: 4"),
        (LONG, "Time,Tag,Wert,Q\n", "old0.csv:1: Value: found no such column; allowed: one of Time"),
        (LONG, "Time,Tag,Value,Value,Q\n", "Value: found two columns of this name"),
        (LONG, "", "Time: found no such column"),
        (WIDE, "When;load;sun\n29/03/2026 02:30;1;2\n", "a time that there was in Europe/Berlin"),
        (WIDE, "When;load;sun\n2026-03-29;1;2\n", "a time like %d/%m/%Y %H:%M"),
    ],
)  # fmt: skip
def test_row_that_is_wrong_is_told_with_line_column_value_and_nothing_is_stored(
    importing: Run, tmp_path: Path, capsys, mapping: str, rows: str, told: str
):
    assert importing(mapping, rows) == 2
    assert told in capsys.readouterr().err
    assert samples(tmp_path, "grid1.p_kw") == []


def test_all_that_is_wrong_is_told_at_once_and_good_files_are_stored(importing: Run, tmp_path: Path, capsys):
    bad = "Time,Tag,Value,Q\n" + "2026-03-02T00:00Z,GRID.W,x,192\n" * 60
    assert importing(LONG, bad, LONG_ROWS) == 2
    told = capsys.readouterr().err
    assert told.count("found 'x'") == 50
    assert "found 10 more rows like these" in told
    assert len(samples(tmp_path, "grid1.p_kw")) == 3


def test_text_that_is_not_utf8_is_refused(importing: Run, tmp_path: Path, capsys):
    (tmp_path / "latin.csv").write_bytes("Time,Tag,Value,Q\nGrün".encode("latin-1"))
    (tmp_path / "map.yaml").write_text(LONG)
    where = ["--mapping", str(tmp_path / "map.yaml"), "--dir", str(tmp_path / "run")]
    assert main(["import", str(DEMO), str(tmp_path / "latin.csv"), *where]) == 2
    assert "found byte 0xfc; allowed: text in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("GRID.W: {point: grid1.p_kw", "GRID.W: {point: grid9.p_kw"), "a point of grid1, bus"),
        (("GRID.W: {point: grid1.p_kw", "GRID.W: {point: grid1.p_kv"), "one of grid1's points that are read"),
        (("unit: W", "unit: kWh"), "a unit of what is measured in kW"),
        (("bess1.soc", "grid1.p_kw"), "another point than that of 'GRID.W'"),
        (("scale: -1", "scale: 0"), "any other number"),
        (("tag: Tag\n", ""), "the name of a column with shape: long"),
        (("shape: long", "shape: wide"), "nothing with shape: wide"),
        (("{column: Time}", "{column: Time, zone: Mars/Phobos}"), "an IANA time zone"),
        (("{column: Time}", "{column: Time, form: dd/mm}"), "a form of strptime"),
        (("source: old_scada\n", ""), "this key is required"),
        (("quality:", "qualty:"), "did you mean 'quality'?"),
    ],
)
def test_mapping_that_is_wrong_is_refused(importing: Run, capsys, change: tuple[str, str], told: str):
    assert change[0] in LONG
    assert importing(LONG.replace(*change), LONG_ROWS) == 2
    assert told in capsys.readouterr().err


def minutes(count: int) -> str:
    rows = (f"{T0 + timedelta(minutes=i):%Y-%m-%dT%H:%MZ},GRID.W,{i},192\n" for i in range(count))
    return "Time,Tag,Value,Q\n" + "".join(rows)


@pytest.mark.parametrize("kill_at", range(5))
def test_import_that_was_killed_is_seen_by_nobody_and_goes_on(
    tmp_path: Path, demo: Site, kill_at: int, monkeypatch
):
    monkeypatch.setattr(stores, "CHUNK", 25)
    (tmp_path / "map.yaml").write_text(LONG)
    (tmp_path / "old.csv").write_text(minutes(100))
    mapping = load_import_mapping(tmp_path / "map.yaml", demo)
    calls = list[int]()
    real = ImportStore._store

    def killed(self, origin_id, source, chunk, outcome) -> None:
        if len(calls) == kill_at:
            raise KeyboardInterrupt
        calls.append(len(chunk))
        real(self, origin_id, source, chunk, outcome)

    with closing(ImportStore(tmp_path / "run")) as store:
        monkeypatch.setattr(ImportStore, "_store", killed)
        if kill_at < 4:
            with pytest.raises(KeyboardInterrupt):
                store.take(CsvRows(tmp_path / "old.csv", mapping), mapping, T0, by_content=True)
        monkeypatch.setattr(ImportStore, "_store", real)
    if kill_at < 4:
        assert samples(tmp_path, "grid1.p_kw") == [], "a half is not seen"
        assert imports_of(tmp_path / "run")[0][3] is False
    with closing(ImportStore(tmp_path / "run")) as store:
        done = store.take(CsvRows(tmp_path / "old.csv", mapping), mapping, T0, by_content=True)
        assert done.added == 100 - sum(calls), "what is stored is not read again"
    assert len(samples(tmp_path, "grid1.p_kw")) == 100


def test_rows_of_an_import_that_was_given_up_stand_in_nobodys_way(tmp_path: Path, demo: Site, monkeypatch):
    (tmp_path / "run").mkdir()
    for name, scale in (("wrong", 5), ("right", -1)):
        (tmp_path / f"{name}.yaml").write_text(LONG.replace("scale: -1", f"scale: {scale}"))
    (tmp_path / "old.csv").write_text(minutes(10))
    with closing(ImportStore(tmp_path / "run")) as store:
        wrong = load_import_mapping(tmp_path / "wrong.yaml", demo)
        with monkeypatch.context() as m:
            m.setattr(stores, "CHUNK", 4)
            real = ImportStore._store

            def once(self, origin_id, source, chunk, outcome) -> None:
                real(self, origin_id, source, chunk, outcome)
                raise KeyboardInterrupt

            m.setattr(ImportStore, "_store", once)
            with pytest.raises(KeyboardInterrupt):
                store.take(CsvRows(tmp_path / "old.csv", wrong), wrong, T0, by_content=True)
        right = load_import_mapping(tmp_path / "right.yaml", demo)
        done = store.take(CsvRows(tmp_path / "old.csv", right), right, T0, by_content=True)
    assert (done.added, done.unlike) == (10, 0)
    values = [s.value for s in samples(tmp_path, "grid1.p_kw")]
    assert values == pytest.approx([-i / 1000 for i in range(10)])


def test_query_to_an_sqlite_file_is_imported_and_asked_again_for_what_is_new(
    importing: Run, tmp_path, capsys
):
    old = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(old)) as db:
        db.execute("CREATE TABLE h (ts REAL, name TEXT, v REAL)")
        db.executemany("INSERT INTO h VALUES (?, 'GRID.W', ?)", [(T0.timestamp() + i, i) for i in range(5)])
        db.commit()
        mapping = (
            LONG.replace("quality: {column: Q, good: [192, good]}", "").replace(
                "{column: Time}", "{column: t, form: s}"
            )
            + "query: SELECT ts AS t, name AS Tag, v AS Value FROM h\n"
        )
        assert importing(mapping, more=("--sqlite", str(old))) == 0
        assert "5 values added" in capsys.readouterr().out
        db.execute("INSERT INTO h VALUES (?, 'GRID.W', 7)", (T0.timestamp() + 9,))
        db.commit()
    assert importing(mapping, more=("--sqlite", str(old))) == 0
    assert "1 values added, 5 were there" in capsys.readouterr().out
    assert importing(mapping.replace("FROM h", "FROM missing"), more=("--sqlite", str(old))) == 2
    assert "query: found no such table: missing" in capsys.readouterr().err
    assert importing(LONG, more=("--sqlite", str(old))) == 2
    assert "`query` in the mapping with --sqlite" in capsys.readouterr().err
    assert importing(mapping) == 2
    assert "CSV files, or --sqlite, or --postgresql" in capsys.readouterr().err


def test_energy_of_what_was_imported_is_counted_as_of_our_own(importing: Run, tmp_path: Path):
    rows = "".join(f"{T0 + timedelta(minutes=i):%Y-%m-%dT%H:%MZ},GRID.W,-60000,192\n" for i in range(61))
    assert importing(LONG, f"Time,Tag,Value,Q\n{rows}") == 0
    with closing(ImportedHistory(tmp_path / "run")) as history:
        energy = integrate(history, "grid1.p_kw", T0, T0 + timedelta(hours=1, seconds=1))  # type: ignore[arg-type]
    assert energy.positive_kwh == pytest.approx(60.0)
    assert energy.missing_s == pytest.approx(1.0)


def test_planner_starts_from_what_was_imported(importing: Run, tmp_path: Path, demo: Site):
    """Hourly means of a week, a value that is missing, and what the planner has measured itself since."""
    zone = WIDE.replace("zone: Europe/Berlin", "zone: UTC")
    start = T0 - timedelta(days=7)
    rows = "".join(
        f"{start + timedelta(hours=h):%d/%m/%Y %H:%M};{'' if h == 50 else h};0\n" for h in range(7 * 24)
    )
    assert importing(zone, f"When;load;sun\n{rows}") == 0
    means = imported_means(tmp_path / "run", demo)
    assert set(means) == {"critical", "pv1"}
    load = means["critical"]
    assert (load.start, load.step_s) == (start, 900.0)
    by_hour = load.values[: 4 * 7 * 24 - 4].reshape(-1, 4)
    assert np.isnan(by_hour[50]).all(), "what is missing is not made up"
    others = np.delete(np.arange(len(by_hour)), 50)
    assert np.allclose(by_hour[others], others[:, None])
    own = UniformSeries(
        start=T0 - timedelta(hours=1), step_s=900.0, values=np.array([1.0, np.nan, 3.0, 4.0, 5.0])
    )
    both = with_imported({"critical": own}, means)["critical"]
    assert (both.start, both.end) == (start, own.end)
    assert both.values[-5:].tolist() == [1.0, 167.0, 3.0, 4.0, 5.0]
    assert with_imported({}, means)["pv1"] is means["pv1"]
    assert imported_means(tmp_path / "nowhere", demo) == {}


def test_second_import_at_a_time_is_refused(importing: Run, tmp_path: Path, capsys):
    with closing(ImportStore(tmp_path / "run")):
        assert importing(LONG, LONG_ROWS) == 2
    assert "another process is writing it" in capsys.readouterr().err


def test_mapping_is_read_for_a_site_that_is_good(tmp_path: Path):
    with pytest.raises(ConfigError):
        load_import_mapping(tmp_path / "nothing.yaml", load_site(DEMO))


UA = """
source: old_scada
shape: opc_ua
server: {host: 127.0.0.1}
points:
  "nsu=urn:a;s=b": {point: grid1.p_kw}
"""


@pytest.mark.parametrize(
    ("mapping", "more", "said"),
    [
        (UA, (), "found no --from; allowed: the first local day"),
        (UA, ("--from", "2026-03-02", "--to", "2026-03-02"), "allowed: a day before --to"),
        (UA, ("--from", "2026-03-02", "--sqlite", "x"), "found files or a database"),
        (UA.replace("127.0.0.1", "10.0.0.9"), (), "server.security: found nothing, for 10.0.0.9"),
        (UA.replace("nsu=urn:a;s=b", "ns=2;s=b"), (), "allowed: a node: nsu="),
        (UA.replace("nsu=urn:a;s=b", "path=a//b"), (), "'' is no browse name"),
        (UA + "tag: x\n", (), "tag: found a value; allowed: nothing with shape: opc_ua"),
        (UA + "time: {zone: Europe/Berlin}\n", (), "time.zone: found a value"),
        (UA.replace("server: {host: 127.0.0.1}\n", ""), (), "server: found nothing; allowed: the server"),
        (LONG + "server: {host: 127.0.0.1}\n", (), "server: found a value; allowed: the server"),
        (LONG.replace("{column: Time}", "{shift_s: 1}"), (), "time.column: found nothing"),
        (LONG, ("--from", "2026-03-02"), "found no server, and --from 2026-03-02"),
    ],
)
def test_what_does_not_go_together_with_a_server_is_named(importing: Run, capsys, mapping, more, said):
    assert importing(mapping, more=more) == 2
    assert said in capsys.readouterr().err
