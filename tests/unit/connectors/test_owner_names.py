"""Names of users: nobody waits for them, and who is not known in time is nobody with a right."""

import os
import pwd
import threading
from collections.abc import Callable
from typing import Any

import pytest

from connectors.stores.alarm_desk import AlarmDesk, hand_in
from connectors.stores.failing import Failing
from connectors.stores.owner_names import DEADLINE_S, NOBODY_S, RENEW_S, OwnerNames
from ems.alarms import Act, AlarmRequest

PATIENCE_S = 10.0


class Database:
    """Users behind a network: answers when it is let, and says who has asked."""

    def __init__(self) -> None:
        self.users: dict[int, str] = {7: "ann"}
        self.open, self.asked, self.wall_s = threading.Event(), 0, 0.0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.failing = Failing("users", lambda kind, fields: self.told.append((kind, dict(fields))))
        self.names = OwnerNames(self.failing, look=self.look, wall=lambda: self.wall_s)

    def look(self, uid: int) -> str:
        self.asked += 1
        assert self.open.wait(PATIENCE_S)
        return self.users.get(uid, f"uid {uid}")

    def answered(self, uid: int) -> str | None:
        """What is known once the look-ups that run are over."""
        for thread in threading.enumerate():
            if thread.name == f"uid {uid}":
                thread.join(PATIENCE_S)
        return self.names(uid)


@pytest.fixture
def database():
    one = Database()
    yield one
    one.open.set()


def test_name_is_asked_for_once_and_known_when_it_is_answered(database):
    assert [database.names(7) for _ in range(3)] == [None] * 3
    database.open.set()
    assert database.answered(7) == "ann"
    assert (database.names(7), database.asked, database.told) == ("ann", 1, [])


def test_name_not_answered_in_time_is_a_number_and_told_both_ways(database):
    assert database.names(7) is None
    database.wall_s += DEADLINE_S + 0.1
    assert [database.names(7) for _ in range(2)] == ["uid 7"] * 2
    assert "has not answered" in str(database.failing.now)
    database.open.set()
    assert database.answered(7) == "ann"
    assert database.failing.now is None
    assert [kind for kind, _ in database.told] == ["store.failing", "store.recovered"]


def test_name_known_is_used_while_it_is_looked_up_anew_and_a_user_who_is_gone_is_nobody(database):
    database.open.set()
    database.names(7)
    assert database.answered(7) == "ann"
    database.open.clear()
    del database.users[7]
    database.wall_s += RENEW_S + 1.0
    assert database.names(7) == "ann", "nobody waits for the renewal"
    database.open.set()
    assert database.answered(7) == "uid 7"


def test_number_that_nobody_had_is_looked_up_anew_before_it_is_answered(database):
    database.open.set()
    database.names(8)
    assert database.answered(8) == "uid 8"
    database.users[8] = "new"
    database.wall_s += NOBODY_S + 1.0
    database.names(8)
    assert database.answered(8) == "new"


def test_look_up_that_breaks_is_an_answer_too(database):
    def breaks(uid: int) -> str:
        raise OSError("no such module")

    names = OwnerNames(database.failing, look=breaks, wall=lambda: 0.0)
    hook, threading.excepthook = threading.excepthook, lambda args: None
    try:
        names(9)
        for thread in threading.enumerate():
            if thread.name == "uid 9":
                thread.join(PATIENCE_S)
    finally:
        threading.excepthook = hook
    assert names(9) == "uid 9"


def test_users_of_the_site_are_known_before_they_ask(database):
    me = pwd.getpwuid(os.getuid()).pw_name
    database.names.learn([me, "nobody-of-this-name"])
    for thread in threading.enumerate():
        if thread.name == "users":
            thread.join(PATIENCE_S)
    assert (database.names(os.getuid()), database.asked) == (me, 0)


def test_alarm_desk_leaves_a_request_until_its_owner_is_known(tmp_path, database):
    names: Callable[[int], str | None] = lambda uid: database.names(7)  # noqa: E731
    desk = AlarmDesk(tmp_path / "desk", lambda kind, fields: None, name_of=names)
    hand_in(tmp_path / "desk", "operator", AlarmRequest(id="a", act=Act.ACKNOWLEDGE, key="bus.dead"))
    assert desk.collect() == []
    database.open.set()
    database.answered(7)
    assert [a.who for a in desk.collect()] == ["ann"]


def test_no_thread_left_is_told_and_asked_again_and_ends_no_cycle(monkeypatch):
    """It ended the cycle, and with it the edge."""
    database = Database()
    database.open.set()

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        database.names.learn(["ann"])
        assert [database.names(7) for _ in range(3)] == [None, None, None]
        assert database.failing.on("look up uid 7")
    database.names(7)
    assert database.answered(7) == "ann"
    assert [kind for kind, _ in database.told] == ["store.failing", "store.recovered"]
