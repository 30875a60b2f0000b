"""`ems historian` says what there is, and finds a segment that is not what was written."""

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli.main import main
from connectors.historian.archive.journal import FILE
from connectors.historian.archive.keeper import Keeper
from connectors.historian.archive.ledger import RAW, LedgerReader
from connectors.historian.audit.ledger import AUDIT, AuditLedgerReader
from connectors.historian.live import IN_MEMORY
from connectors.historian.schema import ARCHIVE
from ems.clock import VirtualClock
from ems.site import HistorianParams
from tests.unit.connectors.archives import pack, pack_audit, record, store_of, trim
from tests.unit.connectors.test_archive import MIDNIGHT, damage, snaps
from tests.unit.connectors.test_audit_archive import entries, write

NOW = MIDNIGHT + timedelta(hours=49)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as made:
        path = Path(made) / "history.sqlite"
        record(path, snaps(MIDNIGHT, 50 * 6, 600.0))
        params = HistorianParams(recent_h=1.0, flash_tb=10.0)
        keeper = Keeper(path, path.parent / ARCHIVE, params, now=VirtualClock(NOW).now)
        while keeper.step():
            pass
        keeper.close()
        trim(path)
        with store_of(path) as store:
            store.ledger.day({"date": "2026-03-02", "written_bytes": 3_000_000_000, "covered_s": 86400})
        yield Path(made)


def said(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = main(["historian", "--dir", str(folder), *more])
    return code, " ".join(capsys.readouterr().out.split())


def test_historian_tells_sizes_spans_and_five_years_of_writing(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, out = said(folder, capsys)
    assert code == 0
    assert "readings │ 2026-03-02 00:00 │ 2026-03-04 00:00 │ 2 │ 864" in out
    assert "minutes │ 2026-03-02 00:00 │ 2026-03-04 00:00 │ 2 │ 864" in out
    assert "in history.sqlite │ 2026-03-04 00:00 │ now │ 1 │ 36" in out
    assert "written on 2026-03-02: 3,000 MB in 24.0 h" in out
    assert "5.48 TB in five years, 55% of the 10 TB" in out
    assert "given up" not in out


def test_historian_tells_what_was_given_up(folder, capsys):
    pack(folder / "history.sqlite", NOW, bytes_max=1)
    assert "given up: 2 files of readings, up to 2026-03-04 00:00" in said(folder, capsys)[1]


def test_historian_verify_finds_what_is_not_what_was_written(folder, capsys):
    assert said(folder, capsys, "--verify") == (0, said(folder, capsys, "--verify")[1])
    known = LedgerReader(folder / ARCHIVE).catalogue()
    damage(folder / ARCHIVE / known.of(RAW)[1].file)
    (folder / ARCHIVE / known.of("60")[0].file).unlink()
    code, out = said(folder, capsys, "--verify")
    assert code == 1
    assert "2 of 4 segments are what was written" in out
    for entry in (known.of(RAW)[1], known.of("60")[0]):
        assert entry.file in out.replace(" ", "")


def test_historian_ledger_with_a_damaged_line_is_told(folder, capsys):
    ledger = folder / ARCHIVE / FILE
    ledger.write_text(ledger.read_text().replace('"rows":', '"rows": 9', 1))
    code, out = said(folder, capsys)
    assert code == 1
    assert "1 lines that are not what was written" in out


def test_historian_folder_without_one_is_refused(tmp_path, capsys):
    assert main(["historian", "--dir", str(tmp_path)]) == 2
    assert "found no historian" in capsys.readouterr().err


def test_historian_before_anything_is_packed(tmp_path, capsys):
    record(tmp_path / "history.sqlite", snaps(MIDNIGHT, 5, 600.0))
    code, out = said(tmp_path, capsys, "--verify")
    assert code == 0
    assert "nobody has kept a long-term store here yet" in out


def test_historian_tells_the_audit_chain_and_finds_where_it_is_broken(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    path = folder / "history.sqlite"
    write(path, entries(MIDNIGHT, 60, timedelta(minutes=30)))
    pack_audit(path, MIDNIGHT + timedelta(hours=80))
    trim(path)
    code, out = said(folder, capsys, "--verify")
    files = AuditLedgerReader(folder / ARCHIVE / AUDIT).catalogue().files
    newest = list(files.values())[-1]
    assert code == 0
    assert "audit rows │ 2026-03-02 00:00 │ " in out
    assert f"audit chain: file {newest.head.index}, SHA-256 {newest.sha256}" in out
    assert f"{len(files)} audit files looked at, 0 faults" in out
    damage(folder / ARCHIVE / AUDIT / next(iter(files)))
    code, out = said(folder, capsys, "--verify")
    assert code == 1
    assert f"not what was written: {next(iter(files))}" in out
    ledger = folder / ARCHIVE / AUDIT / FILE
    ledger.write_text("".join(ledger.read_text().splitlines(True)[::2]))  # a file is forgotten
    code, out = said(folder, capsys, "--verify")
    assert code == 1
    assert "the audit chain is broken: audit-" in out
