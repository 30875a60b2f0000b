"""50: the power is lost at every write: what was promised is there, what is there is whole."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

import connectors.historian.sqlite
from connectors.historian.rows import DURABLE, Kind
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.sqlite_file import Schema, open_writer
from connectors.stores.commissioning import Record, appended, read_record, write_record
from connectors.stores.kept_file import keep, kept
from connectors.stores.standing import StandingStore
from ems.alarms import AlarmBook
from ems.clock import VirtualClock
from ems.control import ControlMode
from ems.requests import Standing
from tests.builders import T0
from tests.scenarios.power_loss import PowerLoss
from tests.unit.connectors.histories import at, command, outcome, recorded, refusal, snapshot

pytestmark = pytest.mark.scenario(
    50,
    left="a disk that lies about a sync; sectors that reach it out of order and the middle of a checkpoint "
    "are SQLite's own to survive; over 10,000 places for small files and archives, by `make soak`",
)
RESTART_S = 10.0
MODES = (ControlMode.AUTO, ControlMode.MANUAL, ControlMode.OFF)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "disk", tmp_path / "after"
    for folder in made:
        folder.mkdir()
    return made


def lost_at_every_write(
    folders: tuple[Path, Path],
    acts: Sequence[Callable[[], object]],
    version: Callable[[Path], int],
) -> int:
    """Check every state: the version found is the newest promised one or the one being written. How many."""
    loss, count = PowerLoss(folders[0]), 0
    with pytest.MonkeyPatch.context() as patch:
        loss.observe(patch)
        loss.cut()
        for act in acts:
            loss.act(act)
    for promised, folder in loss.each(folders[1]):
        assert version(folder) in (promised, promised + 1), [f.name for f in folder.iterdir()]
        count += 1
    return count


@pytest.mark.parametrize(
    ("writes", "places"), [(7, 1000), pytest.param(23, 10_000, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_small_file_is_the_promised_version_or_the_next_one(
    folders: tuple[Path, Path], writes: int, places: int
):
    """Over ten thousand places to lose the power at, in the long run."""

    def version(folder: Path) -> int:
        body = kept(folder / "state.json")
        return 0 if body is None else int(str(body["version"]))

    acts = [
        partial(keep, folders[0] / "state.json", {"version": n, "words": "w" * (40 * n)})
        for n in range(1, writes + 1)
    ]
    assert lost_at_every_write(folders, acts, version) >= places


def test_standing_orders_are_those_before_or_those_now(folders: tuple[Path, Path]):
    clock = VirtualClock(T0)
    told: list[str] = []

    def store(folder: Path) -> StandingStore:
        return StandingStore(
            folder, clock=clock, epoch_of_clock="one", told=lambda kind, fields: told.append(kind)
        )

    def version(folder: Path) -> int:
        found = store(folder).load(ran_before=False)
        return 0 if found is None else 1 + MODES.index(found.plant)

    writer = store(folders[0])
    acts = [partial(writer.keep, Standing(plant=mode)) for mode in MODES]
    assert lost_at_every_write(folders, acts, version) > 500
    assert not told, "nothing unreadable, nothing unwritten"


def test_record_of_commissioning_is_the_one_before_or_the_one_now(folders: tuple[Path, Path]):
    records: list[Record] = [()]
    for n in range(1, 5):
        more = appended(records[-1], at=T0.isoformat(), user="ann", kind="row", data={"n": n})
        records.append(more)

    def version(folder: Path) -> int:
        file = folder / "commissioning.json"
        return len(read_record(file)) if file.exists() else 0

    acts = [partial(write_record, folders[0] / "commissioning.json", r) for r in records[1:]]
    assert lost_at_every_write(folders, acts, version) > 800


def cut_logs(path: Path, scratch: Path, every: int) -> list[tuple[int, Path]]:
    """Copies of a database whose log ends early, or in zeros, at every so many bytes: (size, copy)."""
    log = path.with_name(path.name + "-wal").read_bytes()
    copies = []
    for size in range(0, len(log) + 1, every):
        copy = scratch / f"{size}.sqlite"
        shutil.copyfile(path, copy)
        torn = log[:size] + (b"\0" * 4096 if size // every % 2 else b"")
        copy.with_name(copy.name + "-wal").write_bytes(torn)
        copies.append((size, copy))
    return copies


def test_history_holds_every_synced_command_and_no_half_commit(folders: tuple[Path, Path]):
    """Wherever the log is cut: the commands found are the first ones, all that were promised by then."""
    path = folders[0] / "history.sqlite"
    recorder = SqliteRecorder(path, clock=VirtualClock(T0))
    log = path.with_name(path.name + "-wal")
    promised: list[tuple[int, int]] = []  # size of the log when so many commands were synced
    for n in range(1, 13):
        recorder.readings(snapshot(float(n), grid1__p_kw=float(n)))
        recorder.intent(command(n, float(n), float(n)))
        assert recorder.flush()
        promised.append((log.stat().st_size, n))
    shutil.copyfile(path, folders[0] / "frozen.sqlite")
    shutil.copyfile(log, folders[0] / "frozen.sqlite-wal")
    recorder.close()
    copies = cut_logs(folders[0] / "frozen.sqlite", folders[1], 2999)
    assert len(copies) > 50
    for size, copy in copies:
        with sqlite3.connect(copy) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            known = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        db.close()
        if not known:
            continue
        reader = SqliteHistoryReader(copy)
        found = sorted(c.seq for c in reader.commands(at(0.0), at(100.0), None, 100))
        samples = reader.series("grid1.p_kw", at(0.0), at(100.0), 100)
        reader.close()
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= max((n for ended, n in promised if ended <= size), default=0)
        assert [s.value for s in samples] == [float(n) for n in found], "a commit is whole"
    for _, copy in copies:  # and an edge goes on with it
        began_s = time.monotonic()
        again = SqliteRecorder(copy, clock=VirtualClock(T0))
        again.intent(command(99, 1.0, 99.0))
        assert again.flush()
        assert time.monotonic() - began_s <= RESTART_S
        again.close()


SYNCED: Mapping[Kind, Callable[[SqliteRecorder], object]] = {
    Kind.INTENT: lambda r: r.intent(command(1)),
    Kind.OUTCOME: lambda r: r.outcome(outcome(command(1))),
    Kind.REFUSAL: lambda r: r.refusal(refusal(1.0, 1.0)),
    Kind.EVENT: lambda r: r.event(at(1.0), "edge.started", {}),
    Kind.ALARMS: lambda r: r.alarms(AlarmBook(at=at(1.0), entries=())),
    Kind.RECORDED: lambda r: r.recorded(recorded(at(1.0), 1)),
}


@pytest.mark.parametrize("kind", list(SYNCED), ids=[k.value for k in SYNCED])
def test_history_syncs_what_it_promises_before_it_says_so(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, kind: Kind
):
    """Cut logs cannot show a sync that is missing: the mode of each commit is read off SQLite itself.

    In a log of write-ahead FULL means that SQLite syncs it at every commit (sqlite.org/pragma.html).
    """
    said: list[str] = []

    def traced(path: Path, schema: Schema, **options: str) -> sqlite3.Connection:
        db = open_writer(path, schema, **options)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        db.set_trace_callback(said.append)
        return db

    monkeypatch.setattr(connectors.historian.sqlite, "open_writer", traced)
    recorder = SqliteRecorder(folders[0] / "history.sqlite", clock=VirtualClock(T0))
    recorder.readings(snapshot(1.0, grid1__p_kw=1.0))
    assert recorder.flush()
    said.clear()
    SYNCED[kind](recorder)
    assert recorder.flush()
    recorder.close()
    modes = [s for s in said if s.startswith(("PRAGMA synchronous", "COMMIT"))]
    assert modes[:2] == ["PRAGMA synchronous=FULL", "COMMIT"]
    assert any(s.lstrip().upper().startswith(("INSERT", "UPDATE")) for s in said[: said.index("COMMIT")])


def test_history_every_kind_that_is_promised_is_tried():
    assert set(SYNCED) == DURABLE
