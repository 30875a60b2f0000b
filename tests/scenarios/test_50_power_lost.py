"""50: the power is lost at every write: what was promised is there, what is there is whole."""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from connectors.historian.schema import HISTORY
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.sqlite_file import open_writer
from connectors.stores.commissioning import Record, appended, read_record, write_record
from connectors.stores.kept_file import keep, kept
from connectors.stores.standing import StandingStore
from ems.clock import VirtualClock
from ems.control import ControlMode
from ems.requests import Standing
from tests.builders import T0
from tests.scenarios.power_loss import PowerLoss
from tests.unit.connectors.histories import at, command, snapshot

pytestmark = pytest.mark.scenario(
    50,
    left="the middle of a checkpoint is SQLite's own to survive; a disk that lies about a sync; "
    "ten thousand places run in `make soak` alone",
)
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
    size, copy = copies[len(copies) // 2]
    open_writer(copy, HISTORY).close()  # and an edge goes on with it
