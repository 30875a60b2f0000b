"""50: the power is lost while audit rows move to packed files: none is lost, none is there twice."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.historian.audit.ledger import AUDIT, AuditLedgerReader
from connectors.historian.audit.packer import AuditStore, Packer, check, remove_old
from connectors.historian.schema import ARCHIVE
from tests.scenarios.power_loss import PowerLoss, State, laid_out
from tests.unit.connectors.archives import RECENT, audit_left, pack_audit, trim
from tests.unit.connectors.test_audit_archive import HOUR, MIDNIGHT, NOW, entries, everything, write

pytestmark = pytest.mark.scenario(50, left="a disk that lies about a sync")
SEED = 50
EVERY = timedelta(minutes=30)


@dataclass
class Life:
    """A historian whose audit rows move to files, and all that a loss of power may leave of them."""

    root: Path
    every: int
    loss: PowerLoss = field(init=False)
    files: list[bytes] = field(default_factory=list)  # the historian's file after each act
    recorded: list[int] = field(default_factory=list)  # how many openings were promised by then
    told: list[Any] = field(default_factory=list)  # by number of openings, before anything is packed
    openings: int = 0

    def __post_init__(self) -> None:
        (self.root / ARCHIVE / AUDIT).mkdir(parents=True)
        self.loss = PowerLoss(self.root / ARCHIVE / AUDIT, every=self.every)

    @property
    def path(self) -> Path:
        return self.root / "history.sqlite"

    def act(self, do: Callable[[], object]) -> None:
        self.loss.act(do)
        self.files.append(self.path.read_bytes())
        self.recorded.append(self.openings)

    def record(self) -> None:
        start = MIDNIGHT + self.openings * 20 * HOUR
        write(self.path, entries(start, 40, EVERY), opened_ms=self.openings)
        self.openings += 1
        self.told.append(everything(self.path))

    def step(self) -> None:
        """One step of a process that lives no longer than that."""
        store = AuditStore(self.root / ARCHIVE / AUDIT)
        packer = Packer(self.path, store, recent=RECENT)
        packer.step(NOW)
        packer.close()
        store.close()

    def live(self) -> None:
        self.act(self.record)
        self.act(self.step)
        self.act(self.record)
        for _ in range(4):
            self.act(self.step)
            self.act(lambda: trim(self.path))


@pytest.fixture(scope="module", params=[211, pytest.param(5, marks=pytest.mark.soak)], ids=["short", "long"])
def life(request, tmp_path_factory):
    lived = Life(tmp_path_factory.mktemp("life"), request.param)
    with pytest.MonkeyPatch.context() as patch:
        lived.loss.observe(patch)
        lived.loss.cut()
        lived.live()
    return lived


def versions(lived: Life, acts: int) -> list[int]:
    """Versions of the historian's file that may be left: what was synced is there, trims may come back."""
    promised = lived.recorded[acts - 1] if acts else 0
    last = min(acts, len(lived.files) - 1)  # the act under way may be over in this file
    return [v for v in range(last + 1) if lived.recorded[v] >= promised]


def verified(folder: Path) -> None:
    known = AuditLedgerReader(folder).catalogue()
    assert known.files
    assert not known.breaks()
    for entry in known.files.values():
        check(folder, entry)


def after_loss(lived: Life, state: State, version: int, scratch: Path) -> None:
    laid_out(state, scratch / ARCHIVE / AUDIT)
    for old in scratch.glob("history.sqlite*"):
        old.unlink()
    path = scratch / "history.sqlite"
    path.write_bytes(lived.files[version])
    wanted = lived.told[lived.recorded[version] - 1]
    assert everything(path) == wanted, "as it is found"
    pack_audit(path, NOW)
    trim(path)
    assert everything(path) == wanted, "after it went on"
    verified(scratch / ARCHIVE / AUDIT)
    assert audit_left(path)["command"] == 0, "nothing is left behind"
    assert not list((scratch / ARCHIVE / AUDIT).glob(".*.new"))


def test_power_lost_while_audit_rows_move_none_is_lost_none_is_there_twice(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Thousands of places to lose the power at, in the long run; a seeded few otherwise."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    cases = [(s, v) for acts, s in life.loss.distinct() for v in versions(life, acts)]
    wanted = 15 if life.every > 50 else 3_000
    assert len(cases) >= wanted
    (tmp_path / ARCHIVE / AUDIT).mkdir(parents=True)
    for state, version in random.Random(SEED).sample(cases, wanted):
        after_loss(life, state, version, tmp_path)
    assert len(life.told[-1]["commands"]) > 80


def test_power_lost_while_old_files_go_the_chain_is_whole(tmp_path: Path):
    folder = tmp_path / "first" / ARCHIVE / AUDIT
    path = tmp_path / "first" / "history.sqlite"
    folder.mkdir(parents=True)
    write(path, entries(MIDNIGHT, 60, timedelta(hours=1)))
    write(path, entries(MIDNIGHT + timedelta(days=360), 2, HOUR), opened_ms=7)
    pack_audit(path, MIDNIGHT + timedelta(days=365))
    count = len(list(folder.glob("*.zip")))
    loss = PowerLoss(folder, every=5)
    for file in folder.iterdir():
        loss.synced[file.stat().st_ino] = file.read_bytes()
    loss.names = [{f.name: f.stat().st_ino for f in folder.iterdir()}]
    with pytest.MonkeyPatch.context() as patch:
        loss.observe(patch)
        loss.cut()
        store = AuditStore(folder)
        removed = remove_old(store, timedelta(days=365), MIDNIGHT + timedelta(days=366))
        store.close()
        loss.cut()
    assert 0 < len(removed) < count
    after = tmp_path / "after"
    after.mkdir()
    states = [state for _, state in loss.distinct()]
    assert len(states) > 10
    for state in states:
        laid_out(state, after)
        AuditStore(after).close()
        verified(after)
