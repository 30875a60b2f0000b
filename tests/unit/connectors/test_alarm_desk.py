"""What people do to alarms, handed in as files: taken once, with who it was; everything else is refused."""

import json
import os
import pwd
import stat
from pathlib import Path

import pytest

from connectors.stores import alarm_desk
from connectors.stores.alarm_desk import AlarmDesk, DeskError, hand_in
from ems.alarms import Act, AlarmRequest
from ems.release import ReleaseRequest, ReleaseWish

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def told():
    return []


@pytest.fixture
def desk(tmp_path, told):
    return AlarmDesk(tmp_path / "desk", lambda kind, fields: told.append((kind, fields)))


def ask(number: int = 1, **changes) -> AlarmRequest:
    return AlarmRequest(**({"id": f"r{number}", "act": Act.ACKNOWLEDGE, "key": "bus.dead"} | changes))


def test_desk_request_is_taken_once_with_its_owner_and_role(desk, tmp_path):
    hand_in(tmp_path / "desk", "operator", ask(1))
    hand_in(tmp_path / "desk", "engineer", ask(2, act=Act.REMOVE, why="permit 4711"))
    actions = desk.collect()
    assert [(a.act, a.key, a.who, a.role, a.request) for a in actions] == [
        (Act.ACKNOWLEDGE, "bus.dead", ME, "operator", "r1"),
        (Act.REMOVE, "bus.dead", ME, "engineer", "r2"),
    ]
    assert desk.collect() == []


def test_desk_same_request_again_is_done_once(desk, tmp_path):
    hand_in(tmp_path / "desk", "operator", ask(1))
    assert len(desk.collect()) == 1
    hand_in(tmp_path / "desk", "operator", ask(1))
    assert desk.collect() == []


def test_desk_what_lay_there_before_the_start_is_thrown_away(desk, tmp_path, told):
    hand_in(tmp_path / "desk", "operator", ask(1))
    again = AlarmDesk(tmp_path / "desk", lambda kind, fields: told.append((kind, fields)))
    assert again.collect() == []
    assert desk.collect() == []


def test_desk_folders_let_a_group_drop_and_nobody_look(desk, tmp_path):
    for name in ("operators", "engineers"):
        assert stat.S_IMODE((tmp_path / "desk" / name).stat().st_mode) == 0o1730


BAD = {
    "not json": b"certainly not",
    "nan": b'{"id": "a", "act": "shelve", "key": "bus.dead", "why": "x", "for_s": NaN}',
    "unknown act": b'{"id": "a", "act": "silence", "key": "bus.dead", "why": "", "for_s": null}',
    "number as text": b'{"id": "a", "act": "shelve", "key": "bus.dead", "why": "", "for_s": "60"}',
    "not text": b"\xff\xfe\x00",
    "too long": json.dumps({"id": "a", "act": "acknowledge", "key": "k" * 5000}).encode(),
    "empty": b"",
    "a list": b"[]",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_desk_bad_content_is_told_and_removed_and_does_nothing(desk, tmp_path, told, content):
    file = tmp_path / "desk" / "operators" / "x.json"
    file.write_bytes(content)
    assert desk.collect() == []
    assert [kind for kind, _ in told] == ["alarm.request.unreadable"]
    assert not file.exists()


@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_desk_link_to_somebody_elses_file_is_not_taken(desk, tmp_path, told, make):
    """A link would lend the owner of its target to whoever made it."""
    real = tmp_path / "of_root.json"
    real.write_text('{"id": "a", "act": "acknowledge", "key": "bus.dead", "why": "", "for_s": null}')
    make(real, tmp_path / "desk" / "operators" / "x.json")
    assert desk.collect() == []
    assert len(told) == 1
    assert real.exists()


def test_desk_pipe_or_folder_does_not_hold_the_edge_up(desk, tmp_path, told):
    os.mkfifo(tmp_path / "desk" / "operators" / "pipe.json")
    (tmp_path / "desk" / "operators" / "folder.json").mkdir()
    assert desk.collect() == []
    assert len(told) == 1
    assert desk.collect() == []
    assert len(told) == 1


def test_desk_flood_is_taken_in_portions_oldest_first(desk, tmp_path):
    for i in range(70):
        hand_in(tmp_path / "desk", "operator", ask(i))
    taken = [len(desk.collect()) for _ in range(4)]
    assert taken == [32, 32, 6, 0]


def test_desk_very_many_files_of_one_owner_cost_no_cycle_and_are_thrown_away(desk, tmp_path, told):
    """Each file was looked at in each cycle: 30,000 of them took half a second of it."""
    for i in range(3000):
        (tmp_path / "desk" / "operators" / f"x{i}.json").write_text("{}")
    desk.collect()
    left = sum(1 for _ in (tmp_path / "desk" / "operators").iterdir())
    assert left == 3000 - (alarm_desk.LISTED_MAX - alarm_desk.OWNER_WAITING_MAX) - 32
    assert [kind for kind, _ in told].count("alarm.desk.flooded") == 1
    for _ in range(9):
        desk.collect()
    assert not any((tmp_path / "desk" / "operators").iterdir())


def test_desk_what_is_no_request_hides_none_for_long(desk, tmp_path, monkeypatch):
    folder = tmp_path / "desk" / "operators"
    for i in range(600):
        (folder / f".draft{i}").write_text("{")
        (folder / f"folder{i}").mkdir()
    desk.collect()
    assert sum(1 for _ in folder.iterdir()) == 1200  # a draft has its time
    monkeypatch.setattr(alarm_desk, "DRAFT_S", -1.0)
    hand_in(tmp_path / "desk", "operator", ask(1))
    assert [a.request for _ in range(4) for a in desk.collect()] == ["r1"]
    assert not any(folder.iterdir())


def test_desk_flood_of_operators_with_old_dates_keeps_no_engineer_waiting(desk, tmp_path):
    for i in range(60):
        os.utime(hand_in(tmp_path / "desk", "operator", ask(i)), (0.0, 0.0))
    hand_in(tmp_path / "desk", "engineer", ask(99, act=Act.REMOVE, why="permit 4711"))
    assert "r99" in {a.request for a in desk.collect()}


def test_hand_in_no_edge_ever_ran_here_says_so(tmp_path):
    with pytest.raises(DeskError, match="has the edge of this folder ever run"):
        hand_in(tmp_path, "operator", ask())


def test_desk_release_stands_over_a_restart_until_it_is_taken_back(desk, tmp_path):
    hand_in(tmp_path / "desk", "engineer", ReleaseRequest(id="a", let_go=True, why="firmware"))
    assert desk.collect() == []
    assert desk.release == ReleaseWish(who=ME, why="firmware")
    again = AlarmDesk(tmp_path / "desk", lambda kind, fields: None)
    assert again.release == desk.release
    hand_in(tmp_path / "desk", "engineer", ReleaseRequest(id="b", let_go=False, why=""))
    again.collect()
    assert again.release is None
    assert AlarmDesk(tmp_path / "desk", lambda kind, fields: None).release is None


def test_desk_release_by_an_operator_is_refused(desk, tmp_path, told):
    hand_in(tmp_path / "desk", "operator", ReleaseRequest(id="a", let_go=True, why="firmware"))
    desk.collect()
    assert desk.release is None
    assert [kind for kind, _ in told] == ["edge.release.refused"]


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_desk_full_disk_lets_go_all_the_same_is_told_and_is_kept_when_there_is_room(
    desk, tmp_path, told, monkeypatch
):
    """A full disk once ended the edge here: the wish could not be written, and nobody caught it."""
    hand_in(tmp_path / "desk", "engineer", ReleaseRequest(id="a", let_go=True, why="firmware"))
    with monkeypatch.context() as patch:
        patch.setattr(alarm_desk, "put_whole", full)
        for _ in range(3):
            desk.collect()
        assert desk.release == ReleaseWish(who=ME, why="firmware")
        assert "No space left" in str(desk.failing.now)
        assert [kind for kind, _ in told] == ["store.failing"]
    desk.collect()
    assert desk.failing.now is None
    assert [kind for kind, _ in told] == ["store.failing", "store.recovered"]
    assert AlarmDesk(tmp_path / "desk", lambda kind, fields: None).release == desk.release


def test_desk_wish_that_cannot_be_removed_is_told_and_removed_later(desk, tmp_path, told, monkeypatch):
    hand_in(tmp_path / "desk", "engineer", ReleaseRequest(id="a", let_go=True, why="firmware"))
    desk.collect()
    hand_in(tmp_path / "desk", "engineer", ReleaseRequest(id="b", let_go=False, why=""))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", full)
        desk.collect()
        assert desk.release is None
        assert desk.collect() == []
        assert desk.failing.now is not None
    desk.collect()
    assert AlarmDesk(tmp_path / "desk", lambda kind, fields: None).release is None
    assert desk.failing.now is None


def test_desk_wish_that_cannot_be_read_stands(desk, tmp_path, told):
    """Somebody may be at work on the devices: it is for a person to take the plant back."""
    (tmp_path / "desk" / "released.json").write_bytes(b"\xff\x00")
    again = AlarmDesk(tmp_path / "desk", lambda kind, fields: told.append((kind, fields)))
    assert again.release is not None
    assert again.release.who == "unknown"
    assert [kind for kind, _ in told] == ["edge.release.unreadable"]


def test_desk_file_that_cannot_be_removed_is_done_once_and_told_once(desk, tmp_path, told, monkeypatch):
    hand_in(tmp_path / "desk", "operator", ask(1))
    (tmp_path / "desk" / "operators" / "x.json").write_bytes(b"certainly not")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", full)
        assert [len(desk.collect()) for _ in range(3)] == [1, 0, 0]
        assert sorted(kind for kind, _ in told) == ["alarm.request.unreadable", "store.failing"]
        again = AlarmDesk(tmp_path / "desk", lambda kind, fields: None)
        assert again.collect() == [], "what lay there before the start is never done"
    assert desk.collect() == []
    assert desk.failing.now is None


@pytest.mark.parametrize("name", ["mkdir", "chmod"])
def test_desk_full_disk_at_the_start_makes_its_folders_later(tmp_path, told, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(Path, name, full)
        desk = AlarmDesk(tmp_path / "desk", lambda kind, fields: told.append((kind, fields)))
        assert desk.collect() == []
        assert desk.failing.now is not None
    desk.collect()
    hand_in(tmp_path / "desk", "operator", ask(1))
    assert len(desk.collect()) == 1
    assert desk.failing.now is None


def test_desk_folder_that_is_taken_away_is_told(desk, tmp_path, told):
    (tmp_path / "desk" / "operators").rmdir()
    assert desk.collect() == []
    assert "read operators" in str(desk.failing.now)
    assert [kind for kind, _ in told] == ["store.failing"]
