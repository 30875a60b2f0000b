"""Looking at a file while another process makes it."""

import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from connectors.sqlite_file import ReadOnlyFile, Schema, open_writer

KIND = Schema(name="test", application_id=0x7E57, version=4, sql="CREATE TABLE things (id INTEGER)", added={})
PAUSE_S = 0.5


def test_file_that_is_made_in_the_midst_of_a_look_is_empty_or_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Between two answers of one look the tables come, and the stamps of the file's header with them."""
    path, made = tmp_path / "things.sqlite", threading.Event()
    path.touch()
    connect = sqlite3.connect

    def make() -> None:
        open_writer(path, KIND).close()
        made.set()

    writer = threading.Thread(target=make)

    class Slow(sqlite3.Connection):
        def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA application_id" and not writer.ident:
                monkeypatch.setattr("connectors.sqlite_file.sqlite3.connect", connect)
                writer.start()
                made.wait(PAUSE_S)
            return super().execute(sql, *more)

    monkeypatch.setattr("connectors.sqlite_file.sqlite3.connect", partial(connect, factory=Slow))
    file = ReadOnlyFile(path, KIND)
    assert file.rows("SELECT id FROM things") == []  # empty: there is no such table yet
    writer.join(30.0)
    assert made.is_set()
    assert file.rows("SELECT count(*) FROM things") == [(0,)]
    file.close()
