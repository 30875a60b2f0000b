"""What authority keeps: whole after any crash, off when it cannot be read, quick where nothing changed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.stores import kept_file, standing
from connectors.stores.standing import FILE, UNREADABLE, StandingStore
from ems.clock import VirtualClock
from ems.control import ControlMode
from ems.requests import PLANT, Standing, StandingLimit
from tests.builders import T0

IMPORT = StandingLimit(subject="import", value=100.0, user="ann", reason="transformer is hot")
FULL = Standing(
    plant=ControlMode.MANUAL,
    devices={"gen1": ControlMode.OFF},
    limits={"import": IMPORT},
    told_kw={"dso": 50.0},
    held_safe=True,
    stopped=True,
    chosen_by={PLANT: "ann", "gen1": "eve"},
    mode_until_s={PLANT: 900.0},
    held_until_s={"bess1.p_set_kw": 60.0},
)


class Kept:
    """A store over a folder, and what it told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = VirtualClock(T0)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.store = self.again()

    def again(self, start: str = "run 1") -> StandingStore:
        return StandingStore(
            self.directory,
            clock=self.clock,
            epoch_of_clock=start,
            told=lambda kind, fields: self.told.append((kind, dict(fields))),
        )

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def writes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every write from now on."""
    done: list[object] = []
    real = kept_file.keep

    def counted(file: Path, body: Any) -> None:
        done.append(body)
        real(file, body)

    monkeypatch.setattr(standing, "keep", counted)
    return done


def test_store_gives_back_what_was_kept(kept):
    kept.store.keep(FULL)
    assert kept.again().load(ran_before=True) == FULL
    assert (kept.directory / FILE).stat().st_mode & 0o077 == 0


def test_store_where_no_edge_ever_ran_has_nothing(kept):
    assert kept.store.load(ran_before=False) is None
    assert kept.told == []


def test_store_gone_though_people_asked_is_off_and_told(kept):
    lost = kept.store.load(ran_before=True)
    assert (lost.plant, lost.lost) == (ControlMode.OFF, True)
    assert kept.kinds() == ["standing.file.lost"]


def test_store_expiries_of_another_start_of_the_clock_are_left_out(kept):
    kept.store.keep(FULL)
    after = kept.again("run 2").load(ran_before=True)
    assert (after.mode_until_s, after.held_until_s) == ({}, {})
    assert (after.plant, after.limits) == (FULL.plant, FULL.limits)


@pytest.mark.parametrize(
    ("boots", "kept_too"), [(("a", "a"), True), (("a", "b"), False), ((None, None), False)]
)
def test_store_expiries_hold_only_within_one_start_of_the_machine(tmp_path, monkeypatch, boots, kept_too):
    """Where nothing tells which start it is, it counts as another one."""
    monkeypatch.setattr(standing, "BOOT", tmp_path / "hidden")
    monkeypatch.delenv("EMS_BOOT_ID", raising=False)
    found: list[Any] = []
    for boot in boots:
        if boot is not None:
            monkeypatch.setenv("EMS_BOOT_ID", boot)
        store = Kept(tmp_path).store
        found.append(store.load(ran_before=False))
        store.keep(FULL)
    assert (found[1].held_until_s == FULL.held_until_s) is kept_too
    assert (found[1].mode_until_s == FULL.mode_until_s) is kept_too
    assert found[1].limits == FULL.limits


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) // 2],
    "zeros": lambda raw: b"\0" * len(raw),
    "a looser limit": lambda raw: raw.replace(b"100.0", b"900.0"),
    "no object": lambda raw: b"[]",
    "no checksum": lambda raw: b'{"body": "{}"}',
    "body is a number": lambda raw: b'{"crc32": "0", "body": 1}',
    "not text": lambda raw: b"\xff" * 20,
    "deep": lambda raw: b"[" * 100_000,
}


@pytest.mark.parametrize("how", BROKEN)
def test_store_broken_is_off_is_told_and_is_set_aside(kept, how):
    kept.store.keep(FULL)
    file = kept.directory / FILE
    raw = BROKEN[how](file.read_bytes())
    file.write_bytes(raw)
    lost = kept.again().load(ran_before=True)
    assert (lost.plant, lost.lost) == (ControlMode.OFF, True)
    assert kept.kinds() == ["standing.file.lost"]
    assert (kept.directory / UNREADABLE).read_bytes() == raw
    assert file.exists(), "gone, it would look as if no edge had ever run here"


def test_store_sound_file_of_another_content_is_off(kept):
    kept_file.keep(kept.directory / FILE, {"start": "x", "standing": {"plant": "faster"}})
    assert kept.store.load(ran_before=True).lost


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_store_with_one_byte_changed_is_as_it_was_or_off(tmp_path, data):
    kept = Kept(tmp_path)
    kept.store.keep(FULL)
    raw = bytearray((tmp_path / FILE).read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    (tmp_path / FILE).write_bytes(raw)
    after = kept.again().load(ran_before=True)
    assert after is not None
    assert after == FULL or (after.plant is ControlMode.OFF and after.lost)


def test_store_killed_at_any_step_of_a_write_has_the_old_or_the_new(kept, monkeypatch):
    new = Standing(plant=ControlMode.AUTO)
    for step in ("fsync", "replace"):
        kept.store.keep(FULL)

        def dies(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", dies) if step == "fsync" else patch.setattr(Path, "replace", dies)
            with pytest.raises(KeyboardInterrupt):
                kept.store.keep(new)
        assert kept.again().load(ran_before=True) == FULL
    kept.store.keep(new)
    assert kept.again().load(ran_before=True) == new


def test_store_writes_only_what_changed(kept, monkeypatch):
    done = writes(monkeypatch)
    for _ in range(5):
        kept.store.keep(FULL)
    assert len(done) == 1


def test_store_limit_told_tighter_is_written_at_once_and_wider_ones_now_and_then(kept, monkeypatch):
    done = writes(monkeypatch)

    def told(kw: float) -> int:
        kept.store.keep(Standing(plant=ControlMode.AUTO, told_kw={"dso": kw}))
        return len(done)

    assert [told(kw) for kw in (50.0, 51.0, 52.0, 40.0, 41.0)] == [1, 1, 1, 2, 2]
    kept.clock.advance(11.0)
    assert told(42.0) == 3


def test_store_full_disk_stops_nobody_and_is_told_once_each_way(kept, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(standing, "keep", full)
        kept.store.keep(FULL)
        kept.store.keep(FULL)
        assert kept.store.unwritten
    kept.store.keep(FULL)
    assert not kept.store.unwritten
    assert kept.kinds() == ["standing.file.unwritten", "standing.file.written"]
    assert kept.again().load(ran_before=True) == FULL
