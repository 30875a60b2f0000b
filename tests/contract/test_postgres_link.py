"""Records kept in a real PostgreSQL: each once, whatever becomes of server, line, rights and disk."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from cli.link_wires import wire_of
from cli.main import main
from cli.process_config import ProcessConfig, write_config
from connectors.historian.schema import QUALITY_CODES
from connectors.historian.sqlite import SqliteRecorder
from connectors.postgres import wire as wires
from connectors.telemetry import sender as senders
from connectors.telemetry.ledger import Ledger, statuses
from connectors.telemetry.sender import Sender
from ems.clock import VirtualClock
from ems.commands import WriteOutcome
from ems.links import DatabaseLink
from ems.site import Site
from ems.telemetry import Quality, Reading, Snapshot
from tests.contract.mosquitto import make_pki
from tests.contract.postgres import Postgres, find_postgres
from tests.unit.connectors.histories import at, command, outcome, recorded, refusal, snapshot
from tests.unit.connectors.test_file_link import HOUR_S, Export

pytestmark = [pytest.mark.needs_server, pytest.mark.scenario(33), pytest.mark.scenario(49)]
MINUTES_72_H = 4320
POINTS = {"grid1__p_kw": -12.5, "bess1__soc": 0.5, "pv1__p_kw": None}
DOCS = Path(__file__).parents[2] / "docs" / "links.md"
GOOD = Path(__file__).parents[1] / "unit" / "ems" / "broken_sites"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, require_program) -> Iterator[Postgres]:
    programs = find_postgres()
    require_program("openssl")
    pki = make_pki(tmp_path_factory.mktemp("site"))
    server = Postgres(programs, pki).make().start()
    yield server
    server.remove()


@pytest.fixture
def plants(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    monkeypatch.setattr(senders, "BACK_OFF_S", (0.05, 0.1))
    monkeypatch.setattr(wires, "IDLE_S", 0.02)
    monkeypatch.setattr(wires, "ASK_S", 0.05)
    monkeypatch.setattr(wires, "CHECK_S", 0.02)
    return server.fresh()


def record(path: Path, first: int, last: int, step_s: float = 60.0) -> None:
    with closing(SqliteRecorder(path, clock=VirtualClock(at(first)), sync=False)) as recorder:
        for i in range(first, last + 1):
            recorder.readings(snapshot(step_s * i, **{**POINTS, "grid1__p_kw": 0.1 * i}))
            if i % 500 == 0:
                recorder.intent(command(i, 1.0, step_s * i))
                recorder.outcome(outcome(command(i, 1.0, step_s * i), WriteOutcome.REJECTED, "büsy"))
                recorder.refusal(refusal(float("nan"), step_s * i))
                recorder.event(at(step_s * i), "grid.mode.changed", {"to": "islanded"})
                assert recorder.recorded(recorded(at(step_s * i), i // 500))
                recorder.flush()


def until(holds: Callable[[], object], what: Callable[[], object] | str = "", most_s: float = 20.0) -> None:
    give_up = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < give_up, what() if callable(what) else what
        time.sleep(0.01)


@contextmanager
def sending(link: DatabaseLink, site: Site, path: Path) -> Iterator[Sender]:
    ledger = Ledger(path.with_name("telemetry.sqlite"))
    now = VirtualClock(at(60.0 * MINUTES_72_H)).now
    sender = Sender(link.id, path, ledger, wire_of(link, site, path.parent, path.parent), now=now)
    sender.start()
    try:
        yield sender
    finally:
        sender.close(5.0)
        ledger.close()
        assert sender.bug is None


def all_there(sender: Sender) -> None:
    until(lambda: sender.figures.up and sender.figures.missing_rows == 0, lambda: str(sender.row()))


def counts(server: Postgres) -> tuple[int, int]:
    """Records and readings that are stored."""
    text = "SELECT (SELECT count(*) FROM ems.record), (SELECT count(*) FROM ems.reading)"
    records, readings = server.sql(text).split("|")
    return int(records), int(readings)


def test_server_that_was_away_for_72_h_and_dies_in_the_middle_has_everything_once(
    plants: Postgres, demo: Site, tmp_path: Path
):
    """A minute of each of 72 h; the newest come first, and what stands there is what was recorded."""
    path = tmp_path / "history.sqlite"
    record(path, 1, MINUTES_72_H)
    wires_max = wires.RECORDS_MAX
    wires.RECORDS_MAX = 100  # many small batches, so that it is in the middle
    try:
        with sending(plants.link(tmp_path), demo, path) as sender:
            until(lambda: sender.figures.rows_delivered > 500, lambda: str(sender.row()))
            plants.kill()
            until(lambda: not sender.figures.up)
            assert sender.figures.missing_rows > 0
            record(path, MINUTES_72_H + 1, MINUTES_72_H + 60)
            plants.start()
            all_there(sender)
            rows = 6 * (MINUTES_72_H // 500)
            assert counts(plants) == (MINUTES_72_H + 60 + rows, 3 * (MINUTES_72_H + 60))
            until(lambda: plants.sql("SELECT count(*) FROM ems.block") == "4")
            assert plants.sql("SELECT * FROM ems.unlike") == ""
    finally:
        wires.RECORDS_MAX = wires_max
    late = plants.sql(
        "SELECT bool_or(late), min(stored_at) FROM ems.record GROUP BY late ORDER BY 1"
    ).splitlines()
    assert [x.split("|")[0] for x in late] == ["f", "t"]
    assert late[0].split("|")[1] < late[1].split("|")[1], "the newest rows are there first"
    assert plants.sql(
        "SELECT to_char(at, 'YYYY-MM-DD HH24:MI:SS'), organisation, portfolio, plant, subsystem, asset, "
        "point, value, unit, quality "
        "FROM ems.readings WHERE at = (SELECT min(at) FROM ems.readings) ORDER BY asset"
    ).splitlines() == [
        f"{at(60.0):%Y-%m-%d %H:%M:%S}|{demo.hierarchy.path(asset).replace('/', '|')}|{rest}"
        for asset, rest in (
            ("bess1", "soc|0.5||good"),
            ("grid1", "p_kw|0.1|kW|good"),
            ("pv1", "p_kw||kW|comm_failed"),
        )
    ]
    assert plants.sql("SELECT event, fields ->> 'to' FROM ems.events LIMIT 1") == "grid.mode.changed|islanded"
    assert plants.sql("SELECT count(*), count(value) FROM ems.commands") == "16|8", "NaN is no number"
    assert plants.sql("SELECT DISTINCT outcome, detail FROM ems.outcomes") == "rejected|büsy"
    first, second = at(60.0 * 500), at(60.0 * 1000)
    told = first - timedelta(days=3)
    assert plants.sql(
        "SELECT extract(epoch FROM source_at)::int, plant, point, value, quality, "
        "extract(epoch FROM told_at)::int, clock, extract(epoch FROM arrived_at)::int "
        "FROM ems.samples ORDER BY arrived_at, value LIMIT 4"
    ).splitlines() == [
        f"{when.timestamp():.0f}|mill-4|bess1.breaker|{value}|{rest}|{arrived.timestamp():.0f}"
        for when, arrived, rest in (
            (told, first, f"good|{told.timestamp():.0f}|device"), (second, second, "stale||none")
        )
        for value in ("0", "")
    ]  # fmt: skip


def test_rows_removed_from_the_database_are_sent_again_and_altered_ones_are_told(
    plants: Postgres, demo: Site, tmp_path: Path
):
    """What is stored is counted and hashed again; a value that somebody changed is an alarm, not a repair."""
    path = tmp_path / "history.sqlite"
    record(path, 1, 2100)
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
        whole = counts(plants)
        until(lambda: plants.sql("SELECT count(*) FROM ems.block") == "2")
        plants.sql(
            "DELETE FROM ems.reading WHERE at IN (SELECT at FROM ems.record WHERE seq BETWEEN 100 AND 110)"
        )
        until(lambda: counts(plants) == whole, lambda: str(sender.row()))
        all_there(sender)
        assert sender.figures.rows_unlike == 0
        plants.sql(
            "UPDATE ems.reading SET value = 7 WHERE quality = 0 "
            "AND at = (SELECT at FROM ems.record WHERE seq = 300)"
        )
        until(lambda: sender.figures.rows_unlike == 1, lambda: str(sender.row()))
        assert "number 300 of boot 1" in sender.figures.trouble
        until(lambda: sender.figures.missing_rows == 1)
        assert sender.figures.up
    with sending(plants.link(tmp_path), demo, path) as sender:  # put back from a copy of some time ago
        until(lambda: sender.figures.up)
        plants.sql("DELETE FROM ems.reading; DELETE FROM ems.record WHERE seq > 900")
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
        assert counts(plants) == whole
        plants.sql("DELETE FROM ems.record WHERE seq = 2050")
        plants.sql("INSERT INTO ems.resend SELECT opening_id, 2040, 2060 FROM ems.opening")
        until(lambda: counts(plants) == whole, lambda: str(sender.row()))


def test_another_database_is_told_everything(plants: Postgres, demo: Site, tmp_path: Path):
    path = tmp_path / "history.sqlite"
    record(path, 1, 300)
    link = plants.link(tmp_path)
    with sending(link, demo, path) as sender:
        all_there(sender)
    plants.fresh()
    with sending(link, demo, path) as sender:
        all_there(sender)
        assert sender.figures.rows_delivered == 300
    with sending(link, demo, path) as sender:
        all_there(sender)
        assert sender.figures.rows_delivered == 0, "what is there is not sent again"


def test_server_that_hangs_or_is_slow_is_asked_for_less_and_found_again(
    plants: Postgres, demo: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A batch that takes too long is halved until it does not; a frozen server is left."""
    monkeypatch.setattr("connectors.postgres.session.GUARD_S", 0.3)
    path = tmp_path / "history.sqlite"
    record(path, 1, 400)
    with sending(plants.link(tmp_path, timeout_s=0.5), demo, path) as sender:
        all_there(sender)
        plants.freeze(True)
        record(path, 401, 410)
        until(lambda: not sender.figures.up)
        assert "within" in sender.figures.reason
        plants.freeze(False)
        all_there(sender)
        plants.sql(
            "CREATE FUNCTION ems.slowly() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$; CREATE TRIGGER slow BEFORE INSERT "
            "ON ems.record FOR EACH ROW EXECUTE FUNCTION ems.slowly()"
        )
        record(path, 411, 460)
        until(
            lambda: not sender.figures.up and "longer than 0.5 s" in sender.figures.reason,
            lambda: str(sender.row()),
        )
        all_there(sender)
    assert counts(plants) == (460, 3 * 460)


def refused(link: DatabaseLink, site: Site, path: Path) -> str:
    with sending(link, site, path) as sender:
        until(lambda: sender.figures.missing_rows and sender.figures.reason != "not connected yet")
        assert not sender.figures.up
        assert sender.figures.rows_delivered == 0
        return sender.figures.reason


def test_whoever_is_not_let_in_or_not_believed_is_told_why(plants: Postgres, demo: Site, tmp_path: Path):
    path = tmp_path / "history.sqlite"
    record(path, 1, 5)
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("guess")
    link = plants.link(tmp_path)
    assert "password authentication failed" in refused(
        plants.link(tmp_path, password_file=str(wrong)), demo, path
    )
    assert "does not exist" in refused(plants.link(tmp_path, database="nothing"), demo, path)
    other = str(plants.pki / "own.pem")
    assert "certificate verify failed" in refused(plants.link(tmp_path, ca=other), demo, path)
    assert "is not there" in refused(plants.link(tmp_path, ca="nowhere.pem"), demo, path)
    wrong.chmod(0o644)
    assert "allowed: 0600" in refused(plants.link(tmp_path, password_file=str(wrong)), demo, path)
    plants.sql("CREATE SCHEMA ems; CREATE TABLE ems.about (name text)")
    assert "tables of somebody else" in refused(link, demo, path)
    plants.fresh().sql("ALTER DATABASE plants OWNER TO root")
    assert "is not for us to make (permission denied" in refused(link, demo, path)


def documented(begin: str) -> str:
    """The block of SQL in docs/links.md that begins so."""
    (block,) = [
        b for b in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL) if b.startswith(begin)
    ]
    return str(block)


def test_sql_of_the_documents_runs(plants: Postgres, demo: Site, tmp_path: Path):
    """The user as an administrator makes it, and every question to what is there."""
    plants.sql(documented("-- once, as an administrator"))
    try:
        (tmp_path / "password").touch(mode=0o600)
        (tmp_path / "password").write_text("a long one")
        path = tmp_path / "history.sqlite"
        record(path, 1, 1200)
        with sending(plants.link(tmp_path, user="mill4"), demo, path) as sender:
            all_there(sender)
        assert plants.sql("DELETE FROM ems.record WHERE seq = 505 RETURNING seq").startswith("505")
        answers = [plants.sql(q) for q in documented("-- The mean power").split(";")[:-1]]
        assert answers[2] == "1|505"
        assert answers[3] != "", "a row is missing in its block"
        assert answers[4] == "INSERT 0 1"
    finally:
        plants.sql("DROP OWNED BY mill4; DROP ROLE mill4")


def test_user_who_may_only_add_rows_is_enough(plants: Postgres, demo: Site, tmp_path: Path):
    """The tables are made by whoever owns the database; whoever sends can change nothing that is stored."""
    path = tmp_path / "history.sqlite"
    record(path, 1, 200)
    schema = Path(wires.__file__).with_name("schema.sql")
    plants.sql("ALTER DATABASE plants OWNER TO root; CREATE SCHEMA ems")
    plants.sql(f"SET search_path = ems;\n{schema.read_text()}")
    plants.sql(documented("-- after schema.sql").replace("mill4", "ems"))
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
    assert counts(plants) == (200, 600)


def test_mutual_certificates_need_no_password(plants: Postgres, demo: Site, tmp_path: Path):
    path = tmp_path / "history.sqlite"
    record(path, 1, 5)
    plants.sql("GRANT CREATE ON DATABASE plants TO cert_user")
    link = plants.link(tmp_path, protection="mutual", user="cert_user", password_file=None)
    with sending(link, demo, path) as sender:
        all_there(sender)


def test_disk_that_is_full_there_loses_nothing(plants: Postgres, demo: Site, tmp_path: Path):
    """The server says so itself (SQLSTATE 53100); what it could not take is sent when it can."""
    path = tmp_path / "history.sqlite"
    record(path, 1, 50)
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
        plants.sql(
            "CREATE FUNCTION ems.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
            "'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;"
            "CREATE TRIGGER disk BEFORE INSERT ON ems.record FOR EACH ROW EXECUTE FUNCTION ems.full()"
        )
        record(path, 51, 60)
        until(lambda: "No space left on device" in sender.figures.reason, lambda: str(sender.row()))
        plants.sql("DROP TRIGGER disk ON ems.record")
        all_there(sender)
    assert counts(plants) == (60, 180)


def test_row_that_the_database_never_takes_holds_up_no_other(plants: Postgres, demo: Site, tmp_path: Path):
    path = tmp_path / "history.sqlite"
    record(path, 1, 50)
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
        plants.sql("ALTER TABLE ems.record ADD CHECK (seq <> 5) NOT VALID")
        record(path, 51, 90)
        until(lambda: sender.figures.missing_rows == 1, lambda: str(sender.row()))
        assert sender.figures.rows_unlike == 1
        assert "number 5 of boot 2" in sender.figures.trouble


def test_database_that_takes_no_row_is_left_and_said_so(
    plants: Postgres, demo: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is no matter of single rows then, and not tried by halves without end."""
    monkeypatch.setattr(wires, "ASIDE_MAX", 5)
    path = tmp_path / "history.sqlite"
    record(path, 1, 50)
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
        plants.sql("ALTER TABLE ems.record ADD CHECK (false) NOT VALID")
        record(path, 51, 90)
        until(lambda: not sender.figures.up, lambda: str(sender.row()))
        assert "6 rows, from number" in sender.figures.reason
        assert sender.figures.missing_rows == 40


def test_whatever_a_record_holds_is_hashed_alike_here_and_there(plants: Postgres, demo: Site, tmp_path: Path):
    """Numbers at the ends of what there is, texts of every kind, records that are kept no more."""
    path, odd = tmp_path / "history.sqlite", 'tab\t "quoted" \\N \\\\ \n line, Ünïcødé 電力 \x01 {}|'
    values = [0.0, -0.0, 5e-324, 1.7976931348623157e308, -0.1, 1 / 3, 1e22, 123456789.123, None]
    with closing(SqliteRecorder(path, clock=VirtualClock(at(0)), sync=False)) as recorder:
        for i, value in enumerate(values):
            point = Reading(
                point="grid1.p_kw", value=value, quality=Quality.GOOD, arrived_s=0.0,
                source_time=at(i) - timedelta(days=300 * (i - 4), milliseconds=7 * i),
            )  # fmt: skip
            recorder.readings(Snapshot(at=at(i + 0.123), monotonic_s=0.0, readings={point.point: point}))
            recorder.event(at(i), "grid.mode.changed", {"why": odd, "kw": value})
            recorder.flush()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM reading WHERE at_ms = (SELECT max(at_ms) FROM reading)")
        db.commit()
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
        assert sender.figures.rows_unlike == 0
    assert plants.sql("SELECT count(*) FROM ems.record WHERE kind = 'gone'") == "1"
    assert plants.sql("SELECT count(DISTINCT float8send(value)) FROM ems.reading") == "7", (
        "SQLite knows no -0"
    )
    told = plants.sql("SELECT DISTINCT encode(convert_to(fields ->> 'why', 'UTF8'), 'hex') FROM ems.events")
    assert bytes.fromhex(told).decode() == odd


def test_process_that_is_killed_goes_on_where_it_was(plants: Postgres, tmp_path: Path):
    """The process that `ems run` starts, with a broker that nobody answers for beside the database."""
    text = (GOOD / "good.yaml").read_text()
    (tmp_path / "maps").symlink_to(GOOD / "maps")
    (tmp_path / "pki").symlink_to(plants.pki.parent)
    told = f"{{host: 127.0.0.1, port: {plants.port}, database: plants, user: ems, password_env: PG_SECRET}}"
    (tmp_path / "site.yaml").write_text(f"{text}databases: {{plants: {told}}}\n")
    config = ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path)
    record(config.history, 1, 1500)
    file = write_config(config, tmp_path / "process.json")

    def start() -> "subprocess.Popen[bytes]":
        with (tmp_path / "log").open("ab") as log:
            arguments = [sys.executable, "-m", "cli.telemetry_process", str(file)]
            own = {**os.environ, "PG_SECRET": "secret"}
            return subprocess.Popen(arguments, stdout=log, stderr=log, env=own)

    process = start()
    until(
        lambda: plants.sql("SELECT to_regclass('ems.record') IS NOT NULL") == "t",
        (tmp_path / "log").read_text,
    )
    until(lambda: counts(plants)[0] > 100, (tmp_path / "log").read_text)
    process.kill()
    process.wait()
    record(config.history, 1501, 1510)
    process = start()
    try:
        until(lambda: counts(plants) == (1528, 3 * 1510), (tmp_path / "log").read_text)
        until(lambda: statuses(config.telemetry)["telemetry_plants"].fields["missing_rows"] == 0)
    finally:
        process.terminate()
        assert process.wait(10.0) == 0


def test_csv_that_is_written_is_read_by_another_make(plants: Postgres, tmp_path: Path):
    """PostgreSQL takes the file of an hour as it is, and knows its columns by their types."""
    export = Export(tmp_path)
    export.record(0, HOUR_S)
    export.run(2.0 * HOUR_S)
    export.ledger.close()
    (file,) = export.folder.glob("*.readings.csv")
    shutil.copy(file, plants.folder / "readings.csv")
    (plants.folder / "readings.csv").chmod(0o644)
    plants.sql(
        "CREATE TABLE taken (at timestamptz, subsystem text, asset text, point text, value float8, unit text,"
        "quality text, source_at timestamptz, boot bigint, seq bigint);"
        f"COPY taken FROM '{plants.folder}/readings.csv' CSV HEADER"
    )
    found = plants.sql("SELECT count(*), count(value), sum(value), max(at) - min(at) FROM taken")
    total = sum(0.1 * t_s for t_s in range(0, HOUR_S, 60))
    assert found == f"120|60|{total:g}|00:59:00"


def test_history_is_imported_from_a_server(
    plants: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """In a transaction that may only read, whatever the query."""
    plants.sql(
        "CREATE TABLE old (ts timestamptz, tag text, v numeric);"
        "INSERT INTO old SELECT timestamptz '2026-03-02 00:00+00' + i * interval '1 s', 'A', i / 2.0 "
        "FROM generate_series(0, 24999) i"
    )
    mapping = tmp_path / "map.yaml"
    told = (
        "source: old\nshape: long\ntime: {column: ts}\ntag: tag\nvalue: v\npoints: {A: {point: grid1.p_kw}}\n"
    )
    mapping.write_text(f"{told}query: SELECT ts, tag, v FROM old ORDER BY ts\n")
    where = f"host={plants.folder} port={plants.port} dbname=plants user=root"
    arguments = ["import", "demo", "--mapping", str(mapping), "--postgresql", where, "--dir", str(tmp_path)]
    for expected in ("25000 values added, 0 were there", "0 values added, 25000 were there"):
        assert main(arguments) == 0
        assert expected in capsys.readouterr().out
    mapping.write_text(f"{told}query: DELETE FROM old RETURNING ts, tag, v\n")
    assert main(arguments) == 2
    assert plants.sql("SELECT count(*) FROM old") == "25000"
    assert "a query that this server answers" in capsys.readouterr().err


def test_hypertable_is_made_where_there_is_a_function_for_it(plants: Postgres, demo: Site, tmp_path: Path):
    """TimescaleDB in the words of the schema alone: no package of it was at hand to test with."""
    plants.sql(
        "CREATE SCHEMA ems AUTHORIZATION ems; CREATE TABLE ems_asked (t text);"
        "CREATE FUNCTION ems.create_hypertable(t regclass, c name) RETURNS void LANGUAGE sql AS "
        "$$ INSERT INTO public.ems_asked VALUES (t::text || ' ' || c) $$; GRANT INSERT ON ems_asked TO ems"
    )
    path = tmp_path / "history.sqlite"
    record(path, 1, 5)
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
    assert plants.sql("SELECT * FROM ems_asked") == "reading at"
    assert plants.sql("SELECT relkind FROM pg_class WHERE oid = 'ems.reading'::regclass") == "r"


def test_qualities_have_the_numbers_they_have_in_the_historian(plants: Postgres, demo: Site, tmp_path: Path):
    path = tmp_path / "history.sqlite"
    record(path, 1, 1)
    with sending(plants.link(tmp_path), demo, path) as sender:
        all_there(sender)
    rows = (line.split("|") for line in plants.sql("SELECT quality, name FROM ems.quality").splitlines())
    assert {name: int(code) for code, name in rows} == {q.value: c for q, c in QUALITY_CODES.items()}
