"""What people do to alarms, handed in as files: taken once, with who it was; everything else is refused."""

import json
import os
import pwd
import stat

import pytest

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
