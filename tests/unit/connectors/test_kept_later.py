"""A disk that hangs, fails and comes back: whoever has something to keep goes on, and the newest is kept."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli.edge_people import People
from cli.edge_records import deaf, unwritten
from cli.process_config import ProcessConfig
from connectors.stores import kept_later
from connectors.stores.alarm_desk import AlarmDesk, hand_in
from connectors.stores.drop_folder import drop_file
from connectors.stores.kept_file import kept
from connectors.stores.kept_later import KeptLater
from connectors.stores.request_desk import FOLDER, NOTE, RequestDesk
from connectors.stores.request_text import text_of
from connectors.stores.standing import FILE, StandingStore
from ems.clock import VirtualClock
from ems.control import ControlMode, Role
from ems.control_site import ControlParams
from ems.errors import BadValue
from ems.release import ReleaseRequest
from ems.requests import Request, Standing, SwitchMode
from sim.rig import Rig
from tests import builders
from tests.builders import T0
from tests.scenarios.recording import until

AUTO, MANUAL = Standing(plant=ControlMode.AUTO), Standing(plant=ControlMode.MANUAL)
HANGS_S = 2.0


class Disk:
    """Where values are written: it may hang until it is let go, or fail."""

    def __init__(self) -> None:
        self.has: list[int] = []
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()
        self.tries = 0

    def write(self, value: int) -> None:
        self.tries += 1
        assert self.free.wait(10.0)
        if self.error is not None:
            raise self.error
        self.has.append(value)


@pytest.fixture
def disk() -> Iterator[Disk]:
    one = Disk()
    yield one
    one.free.set()


@pytest.fixture
def later(disk: Disk) -> Iterator[KeptLater[int]]:
    one = KeptLater("test", disk.write, beside=True)
    yield one
    disk.free.set()
    one.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sync takes two seconds; not those of the historian, which are SQLite's own."""
    real = os.fsync

    def sync(handle: int) -> None:
        time.sleep(HANGS_S)
        real(handle)

    monkeypatch.setattr("connectors.stores.kept_file.os.fsync", sync)


def test_slot_of_a_hanging_disk_keeps_the_newest_and_skips_what_was_overtaken(disk, later):
    disk.free.clear()
    later.put(1)
    until(lambda: disk.tries == 1)
    for value in (2, 3, 4):
        later.put(value)
    assert (later.unwritten, disk.has) == (True, [])
    disk.free.set()
    until(lambda: not later.unwritten)
    assert disk.has == [1, 4]


def test_slot_is_unwritten_at_once_and_in_trouble_only_after_seconds(disk, later, monkeypatch):
    disk.free.clear()
    later.put(1)
    assert (later.unwritten, later.trouble) == (True, None)
    monkeypatch.setattr(kept_later, "LATE_S", 0.02)
    until(lambda: later.trouble)
    assert "has not answered" in str(later.trouble)
    disk.free.set()
    until(lambda: not later.unwritten)
    assert later.trouble is None


def test_slot_of_a_slow_disk_that_is_one_value_behind_is_in_no_trouble(later, disk, monkeypatch):
    """Each value is on the disk before the next one has waited long, and something always waits."""
    monkeypatch.setattr(kept_later, "LATE_S", 0.5)
    ends_s, value = time.monotonic() + 1.5, 0
    while time.monotonic() < ends_s:
        disk.free.clear()
        value += 1
        later.put(value)
        until(lambda: disk.tries > len(disk.has))
        value += 1
        later.put(value)  # waits behind the one that is written
        disk.free.set()
        assert later.trouble is None


def test_slot_settles_when_the_newest_is_on_the_disk(later, disk):
    disk.free.clear()
    later.put(1)
    assert not later.settle(0.05)
    disk.free.set()
    assert later.settle(5.0)
    assert disk.has == [1]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BadValue("x"), MemoryError()])
def test_slot_that_cannot_be_written_is_tried_again_when_asked_and_recovers(disk, later, error):
    disk.error = error
    later.put(1)
    until(lambda: later.trouble)
    assert later.unwritten
    later.again()
    until(lambda: disk.tries == 2)
    disk.error = None
    until(lambda: later.again() or not later.unwritten)
    assert (later.trouble, disk.has) == (None, [1])
    later.again()
    assert disk.tries == 3, "nothing failed"


def test_slot_failed_value_that_was_overtaken_is_not_written(disk, later):
    disk.error = OSError(5, "I/O error")
    later.put(1)
    until(lambda: later.trouble)
    disk.error = None
    later.put(2)
    later.again()
    until(lambda: not later.unwritten)
    assert disk.has == [2]


def test_slot_close_writes_the_last_also_where_it_failed_before(disk):
    later = KeptLater("test", disk.write, beside=True)
    disk.error = OSError(5, "I/O error")
    later.put(1)
    until(lambda: later.trouble)
    disk.error = None
    assert later.close()
    assert disk.has == [1]


def test_slot_close_on_a_hanging_disk_waits_for_a_bounded_time(disk):
    later = KeptLater("test", disk.write, beside=True)
    disk.free.clear()
    later.put(1)
    assert not later.close(0.05)
    assert disk.has == []


# --- the stores ---------------------------------------------------------------------------------------------


def store_in(folder: Path, told: list[str]) -> StandingStore:
    return StandingStore(
        folder,
        clock=VirtualClock(T0),
        epoch_of_clock="1",
        told=lambda kind, _: told.append(kind),
        beside=True,
    )


def quick(act: Callable[[], object]) -> None:
    """Far below one sync of the slow disk, on a machine that is busy with other things too."""
    began_s = time.monotonic()
    act()
    assert time.monotonic() - began_s < HANGS_S / 2.0


@pytest.mark.usefixtures("slow")
def test_standing_change_of_mode_and_tighter_limit_wait_for_no_disk_and_the_newest_is_kept(tmp_path):
    told: list[str] = []
    store = store_in(tmp_path, told)
    orders = [AUTO, MANUAL, *(Standing(plant=ControlMode.AUTO, told_kw={"dso": kw}) for kw in (50.0, 40.0))]
    for one in orders:
        quick(partial(store.keep, one))
    assert store.unwritten
    assert not store.overdue
    until(lambda: not store.unwritten, 20.0)
    assert store_in(tmp_path, told).load(ran_before=True) == orders[-1]
    store.close()


def test_standing_store_failing_disk_is_told_once_each_way(tmp_path, monkeypatch):
    told: list[str] = []
    store = store_in(tmp_path, told)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def after_a_cycle() -> StandingStore:
        store.keep(AUTO)
        return store

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        until(lambda: after_a_cycle().overdue)
        for _ in range(5):
            store.keep(AUTO)
    until(lambda: not after_a_cycle().unwritten)
    store.keep(AUTO)
    assert told == ["standing.file.unwritten", "standing.file.written"]
    store.keep(MANUAL)
    store.close()
    assert store_in(tmp_path, told).load(ran_before=True) == MANUAL


def people_in(folder: Path, told: list[str]) -> People:
    return People(
        ProcessConfig(site=folder / "site.yaml", directory=folder), VirtualClock(T0),
        lambda kind, _: told.append(kind), ControlParams(), ran_before=False, beside=True,
    )  # fmt: skip


def test_people_disk_that_hangs_rings_after_seconds_and_is_told_both_ways(tmp_path, monkeypatch):
    told: list[str] = []
    free, real = threading.Event(), os.fsync
    monkeypatch.setattr(kept_later, "LATE_S", 0.05)

    def hangs(handle: int) -> None:
        assert free.wait(20.0)
        real(handle)

    monkeypatch.setattr(os, "fsync", hangs)
    people = people_in(tmp_path, told)

    def rings() -> bool:
        people.keep(AUTO)
        return bool(unwritten(None, standing_kept=not people.unwritten))

    try:
        until(rings)
        people.keep(MANUAL)
        assert told == ["standing.file.unwritten"]
    finally:
        free.set()
    until(lambda: not rings())
    people.close()
    assert told == ["standing.file.unwritten", "standing.file.written"]
    body = kept(tmp_path / FILE)
    assert body is not None
    assert deaf(people.failing()) == ()


def desk_in(folder: Path) -> RequestDesk:
    return RequestDesk(folder, clock=VirtualClock(T0), told=lambda kind, fields: None, beside=True)


def asked(folder: Path, name: str) -> None:
    ask = SwitchMode(device=None, mode=ControlMode.OFF)
    one = Request(id=name, session="s", epoch=1, ttl_s=9.0, reason="", ask=ask)
    drop_file(folder / FOLDER, f"{name}.json", text_of(one))


def test_desk_hands_requests_on_while_their_ids_wait_for_the_disk_and_notes_them_all(tmp_path, slow):
    desk = desk_in(tmp_path)
    taken: list[int] = []
    for name in ("r1", "r2", "r3"):
        asked(tmp_path, name)
        quick(lambda: taken.append(len(desk.collect())))
    assert taken == [1, 1, 1]
    asked(tmp_path, "r1")
    assert desk.collect() == [], "done once, on the disk or not"
    until(lambda: not desk._notes.unwritten, 20.0)
    again = desk_in(tmp_path)
    for name in ("r1", "r2", "r3"):
        asked(tmp_path, name)
    assert again.collect() == []


def test_desk_ids_that_cannot_be_noted_ring_and_are_tried_again_in_each_cycle(tmp_path, monkeypatch):
    desk = desk_in(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        asked(tmp_path, "r1")
        assert len(desk.collect()) == 1
        until(lambda: desk.collect() or desk.failing.on(NOTE))
    until(lambda: desk.collect() or desk.failing.now is None)
    desk.close()
    again = desk_in(tmp_path)
    asked(tmp_path, "r1")
    assert again.collect() == []


def test_letting_go_holds_at_once_on_a_hanging_disk_and_is_kept_later(tmp_path, slow):
    desk = AlarmDesk(tmp_path, lambda kind, fields: None, beside=True)
    hand_in(tmp_path, "engineer", ReleaseRequest(id="r1", let_go=True, why="work"))
    quick(desk.collect)
    assert desk.release is not None
    until(lambda: not desk._wishes.unwritten, 10.0)
    assert AlarmDesk(tmp_path, lambda kind, fields: None).release == desk.release


# --- the cycle ----------------------------------------------------------------------------------------------


def test_cycles_go_on_while_a_change_of_mode_and_a_limit_wait_for_the_disk(tmp_path, slow):
    """One cycle with a change of mode took 6 s where a sync took 3 s: desk and standing, file and folder."""
    site = builders.site()
    users: dict[str, Any] = {"ann": frozenset({Role.OPERATOR})}
    site = replace(site, control=replace(site.control, users=users))
    rig = Rig(site)
    store = store_in(tmp_path, [])
    rig.runtime._keep = store.keep
    rig.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL))
    quick(lambda: rig.run(1.0))
    assert store.unwritten
    rig.run(20.0)
    assert len(list(rig.rows())) >= 20
    until(lambda: not store.unwritten, 20.0)
    found = store_in(tmp_path, []).load(ran_before=True)
    assert found is not None
    assert found.devices == {"bess1": ControlMode.MANUAL}
    store.close()
