"""50: the power is lost while readings move to the long-term store: none is lost, none is there twice."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connectors.historian.archive import compactor
from connectors.historian.archive.compactor import Compactor, Store
from connectors.historian.archive.upkeep import make_room, roll_up
from connectors.historian.reader import SqliteHistoryReader
from connectors.historian.schema import ARCHIVE
from ems.records import Bucket, Sample
from ems.telemetry import Snapshot
from tests.scenarios.power_loss import PowerLoss, State, laid_out
from tests.unit.connectors.archives import RECENT, pack, record, trim
from tests.unit.connectors.histories import reading

pytestmark = pytest.mark.scenario(50, left="a disk that lies about a sync")

START = datetime(2026, 3, 1, 21, tzinfo=UTC)
END = START + timedelta(hours=6)
NOW = END + timedelta(hours=2)
POINTS = ("bess1.p_kw", "grid1.f_hz")
SEED = 50


def snapshots(start: datetime, count: int, every_min: float) -> list[Snapshot]:
    made = []
    for i in range(count):
        at = start + timedelta(minutes=every_min * i)
        t_s = (at - START).total_seconds()
        readings = {p: reading(p, round(t_s / 7 + n, 1), 0.0) for n, p in enumerate(POINTS)}
        made.append(Snapshot(at=at, monotonic_s=t_s, readings=readings))
    return made


@dataclass
class Life:
    """A historian whose readings move to the store, and all that a loss of power may leave of it."""

    root: Path
    every: int
    loss: PowerLoss = field(init=False)
    files: list[bytes] = field(default_factory=list)  # the historian's file after each act
    recorded: list[int] = field(default_factory=list)  # how many snapshots were promised by then
    made: list[Snapshot] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.root / ARCHIVE).mkdir(parents=True)
        self.loss = PowerLoss(self.root / ARCHIVE, every=self.every)

    @property
    def path(self) -> Path:
        return self.root / "history.sqlite"

    def act(self, do: Callable[[], object]) -> None:
        self.loss.act(do)
        self.files.append(self.path.read_bytes())
        self.recorded.append(len(self.made))

    def record(self, more: list[Snapshot]) -> None:
        record(self.path, more)
        self.made += more

    def step(self) -> None:
        """One step of a process that lives no longer than that."""
        store = Store(self.root / ARCHIVE)
        packer = Compactor(self.path, store, recent=RECENT)
        if not packer.step(NOW):
            roll_up(store, packer.open_ms(NOW))
        packer.close()
        store.close()

    def live(self) -> None:
        """Record, pack, trim; rows come late for what was packed and trimmed before."""
        self.act(lambda: self.record(snapshots(START, 36, 10.0)))
        self.act(self.step)
        self.act(self.step)
        self.act(lambda: trim(self.path))
        self.act(lambda: self.record(snapshots(START + timedelta(minutes=3), 4, 10.0)))
        for _ in range(7):
            self.act(self.step)
            self.act(lambda: trim(self.path))
        self.act(self.step)


@pytest.fixture(scope="module", params=[97, pytest.param(5, marks=pytest.mark.soak)], ids=["short", "long"])
def life(request, tmp_path_factory):
    lived = Life(tmp_path_factory.mktemp("life"), request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compactor, "SPANS_MS", (3_600_000,))
        lived.loss.observe(patch)
        lived.loss.cut()
        lived.live()
    return lived


def versions(lived: Life, acts: int) -> list[int]:
    """Versions of the historian's file that may be left: what was synced is there, trims may come back."""
    promised = lived.recorded[acts - 1] if acts else 0
    last = min(acts, len(lived.files) - 1)  # the act under way may be over in this file
    return [v for v in range(last + 1) if lived.recorded[v] >= promised]


def found(path: Path) -> dict[str, list[Sample]]:
    reader = SqliteHistoryReader(path)
    try:
        return {p: list(reader.series(p, START, NOW, 10**6)) for p in POINTS}
    finally:
        reader.close()


def expected(made: list[Snapshot]) -> dict[str, list[Sample]]:
    return {
        p: [
            Sample(at=s.at, value=r.value, quality=r.quality, source_time=r.source_time)
            for s in sorted(made, key=lambda s: s.at)
            for r in [s.readings[p]]
        ]
        for p in POINTS
    }


def check(lived: Life, state: State, version: int, scratch: Path) -> None:
    """After the loss every reading is there once, before and after all is packed and trimmed again."""
    laid_out(state, scratch / ARCHIVE)
    for old in scratch.glob("history.sqlite*"):
        old.unlink()
    path = scratch / "history.sqlite"
    path.write_bytes(lived.files[version])
    wanted = expected(lived.made[: lived.recorded[version]])
    assert found(path) == wanted, "as it is found"
    pack(path, NOW)
    trim(path)
    pack(path, NOW)
    trim(path)
    assert found(path) == wanted, "after it went on"
    drafts = [f.name for f in (scratch / ARCHIVE).iterdir() if f.name.endswith(".new")]
    assert not drafts


def test_power_lost_while_readings_move_none_is_lost_none_is_there_twice(
    life, tmp_path, monkeypatch, request
):
    """Ten thousand places to lose the power at, in the long run; a seeded few otherwise."""
    monkeypatch.setattr(compactor, "SPANS_MS", (3_600_000,))
    monkeypatch.setattr("os.fsync", lambda _: None)
    cases = [(s, v) for acts, s in life.loss.distinct() for v in versions(life, acts)]
    wanted = 60 if life.every > 50 else 10_000
    assert len(cases) >= wanted
    (tmp_path / ARCHIVE).mkdir()
    for state, version in random.Random(SEED).sample(cases, wanted):
        check(life, state, version, tmp_path)
    assert len(expected(life.made)[POINTS[0]]) == 40


def test_power_lost_while_room_is_made_the_rollups_are_whole(tmp_path, monkeypatch):
    """What is given up is in the ledger first; whatever the state, each minute is there once."""
    monkeypatch.setattr(compactor, "SPANS_MS", (3_600_000,))
    first = tmp_path / "first"
    (first / ARCHIVE).mkdir(parents=True)
    path = first / "history.sqlite"
    record(path, snapshots(START, 36, 10.0))
    pack(path, NOW)
    trim(path)
    wanted = buckets(path)
    loss = PowerLoss(first / ARCHIVE, every=13)
    for file in (first / ARCHIVE).iterdir():
        loss.synced[file.stat().st_ino] = file.read_bytes()
    loss.names = [{f.name: f.stat().st_ino for f in (first / ARCHIVE).iterdir()}]
    with pytest.MonkeyPatch.context() as patch:
        loss.observe(patch)
        loss.cut()
        store = Store(first / ARCHIVE)
        assert len(make_room(store, 1, NOW)) == 3, "the hours of the day that is rolled up"
        store.close()
        loss.cut()
    after = tmp_path / "after"
    (after / ARCHIVE).mkdir(parents=True)
    shutil.copyfile(path, after / "history.sqlite")
    states = [state for _, state in loss.distinct()]
    assert len(states) > 20
    for state in states:
        laid_out(state, after / ARCHIVE)
        assert buckets(after / "history.sqlite") == wanted
        pack(after / "history.sqlite", NOW, bytes_max=1)
        assert buckets(after / "history.sqlite") == wanted


def buckets(path: Path) -> list[Bucket]:
    reader = SqliteHistoryReader(path)
    try:
        return list(reader.buckets(POINTS[0], START, NOW, 60))
    finally:
        reader.close()
