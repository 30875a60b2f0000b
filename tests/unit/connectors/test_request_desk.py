"""Requests as files: taken once, in order, with who it was; whatever else lies there harms nobody."""

import json
import os
import pwd
import socket
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.stores import request_desk
from connectors.stores.drop_folder import drop_file
from connectors.stores.request_desk import (
    ASIDE,
    EMPTY,
    FOLDER,
    IDS,
    OWNER_PER_CYCLE,
    OWNER_WAITING_MAX,
    RequestDesk,
)
from connectors.stores.request_text import request_of, text_of
from ems.clock import SystemClock, VirtualClock
from ems.control import ControlMode
from ems.errors import BadValue
from ems.requests import (
    Ask,
    Bypass,
    Confirm,
    Operate,
    Release,
    ReleaseHeldSafe,
    Request,
    Select,
    SetLimit,
    SetSetpoint,
    SwitchMode,
    TellLimit,
)
from tests.builders import T0

ME = pwd.getpwuid(os.getuid()).pw_name
SOUND: list[Ask] = [
    SetSetpoint(point="bess1.p_set_kw", value=-40.0, for_s=60.0),
    Release(point="bess1.p_set_kw"),
    SwitchMode(device=None, mode=ControlMode.OFF),
    SwitchMode(device="bess1", mode=ControlMode.MANUAL, for_s=60.0),
    SetLimit(subject="import", value=None, break_glass=True, for_s=60.0),
    Bypass(interlock="door", for_s=60.0),
    Confirm(proposal="00c0ffee"),
    Select(point="gen1.run_request", value=1.0),
    Operate(token="00c0ffee"),
    ReleaseHeldSafe(),
    TellLimit(limit="dso", value_kw=100.0),
]


def request(number: int = 1, ask: Ask | None = None, **changes: Any) -> Request:
    fields: dict[str, Any] = {
        "id": f"r{number}",
        "session": "s1",
        "epoch": 1,
        "ttl_s": 10.0,
        "reason": "test",
    } | changes
    return Request(**fields, ask=SOUND[2] if ask is None else ask)


class Place:
    """A folder, a desk over it, and what the desk told."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.folder = directory, directory / FOLDER
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.clock = VirtualClock(T0)
        self.desk = self.again()

    def again(self) -> RequestDesk:
        """The desk of an edge that starts."""
        self.desk = RequestDesk(
            self.directory, clock=self.clock, told=lambda kind, fields: self.told.append((kind, dict(fields)))
        )
        return self.desk

    def hand_in(self, one: Request) -> Path:
        return drop_file(self.folder, f"{one.id}.json", text_of(one))

    def put(self, name: str, raw: bytes) -> Path:
        file = self.folder / name
        file.write_bytes(raw)
        file.chmod(0o644)
        return file

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- what is taken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", SOUND, ids=lambda a: a.kind)
def test_request_text_every_kind_comes_back_as_it_was(ask):
    assert request_of(text_of(request(ask=ask))) == request(ask=ask)


def test_desk_request_is_taken_once_by_the_owner_of_the_file_and_seen_by_the_edges_clock(place):
    place.clock.advance(7.0)
    place.hand_in(request(1))
    (one,) = place.desk.collect()
    assert (one.user, one.seen_s, one.request) == (ME, 7.0, request(1))
    assert place.desk.collect() == []
    assert list(place.folder.iterdir()) == []
    assert place.told == []


def test_desk_requests_come_in_the_order_they_were_handed_in_whatever_their_names(place):
    for number in (9, 3, 7, 1):
        place.hand_in(request(number))
    assert [r.request.id for r in place.desk.collect()] == ["r9", "r3", "r7", "r1"]


def test_desk_file_that_is_not_whole_yet_waits(place):
    draft = place.put(".r1.json", text_of(request(1)).encode())
    assert place.desk.collect() == []
    draft.rename(place.folder / "r1.json")
    assert len(place.desk.collect()) == 1


def test_desk_same_id_again_is_refused_also_after_a_restart(place):
    place.hand_in(request(1))
    assert len(place.desk.collect()) == 1
    place.hand_in(request(1))
    assert place.desk.collect() == []
    again = place.again()
    place.hand_in(request(1))
    assert again.collect() == []
    refused = [f for kind, f in place.told if kind == "authority.request.refused"]
    assert [(f["code"], f["request_id"]) for f in refused] == [("asked_before", "r1")] * 2


def test_desk_same_id_of_another_user_is_another_request(place):
    place.hand_in(request(1))
    assert len(place.desk.collect()) == 1
    place.desk._name_of = lambda uid: "somebody else"
    place.hand_in(request(1))
    assert len(place.desk.collect()) == 1


def test_desk_what_lay_there_before_the_start_is_refused(place):
    place.hand_in(request(1))
    assert place.again().collect() == []
    assert place.told == [
        (
            "authority.request.refused",
            {
                "user": ME,
                "request_id": "r1",
                "code": "edge_was_down",
                "text": "handed in before the edge started: look, and ask again",
            },
        )
    ]


@pytest.mark.parametrize("away_s", [31.0, -31.0])
def test_desk_old_request_and_one_of_a_clock_that_stepped_are_refused(place, monkeypatch, away_s):
    place.hand_in(request(1))

    class Stepped(SystemClock):
        def now(self):
            return super().now() + timedelta(seconds=away_s)

    place.desk._wall = Stepped()
    assert place.desk.collect() == []
    ((kind, fields),) = place.told
    assert (kind, fields["code"]) == ("authority.request.refused", "too_old")


def test_desk_ids_that_cannot_be_kept_stop_nobody(place, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(request_desk, "keep", full)
    place.hand_in(request(1))
    assert len(place.desk.collect()) == 1
    assert place.kinds() == ["store.failing"]
    assert "No space left" in str(place.desk.failing.now)


def test_desk_ids_that_cannot_be_read_are_told(place):
    (place.directory / IDS).write_bytes(b"\x00" * 50)
    place.again()
    assert place.kinds() == ["request.desk.forgot"]


# --- bounded ----------------------------------------------------------------------------------------------


def test_desk_nobody_keeps_the_others_waiting(place):
    """One who floods has eight a cycle, and what waits beyond sixty-four is thrown away."""
    for number in range(OWNER_WAITING_MAX + 20):
        place.hand_in(request(number))
    assert len(place.desk.collect()) == OWNER_PER_CYCLE
    assert place.told == [("request.desk.flooded", {"user": ME, "count": OWNER_WAITING_MAX + 20})]
    assert len(list(place.folder.iterdir())) == OWNER_WAITING_MAX - OWNER_PER_CYCLE


def test_desk_looks_at_so_many_names_in_a_cycle_at_most(place, monkeypatch):
    monkeypatch.setattr(request_desk, "LISTED_MAX", 10)
    monkeypatch.setattr(request_desk, "OWNER_WAITING_MAX", 4)
    for number in range(30):
        place.hand_in(request(number))
    place.desk.collect()
    assert len(list(place.folder.iterdir())) == 30 - 10


# --- the folder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "not empty"])
def test_desk_folders_dropped_into_it_hide_no_request(place, filled):
    """What is no file cannot be unlinked: 512 of them once silenced the desk, for `mode off` too."""
    mode = place.folder.stat().st_mode
    for n in range(600):
        (place.folder / f"junk{n}").mkdir()
        if filled:
            (place.folder / f"junk{n}" / "x").touch()
    for _ in range(OWNER_WAITING_MAX // OWNER_PER_CYCLE + 4):
        place.desk.collect()
    place.hand_in(request(7))
    assert [r.request.id for r in place.desk.collect()] == [request(7).id]
    assert ("request.desk.renewed" in place.kinds()) == filled
    assert place.folder.stat().st_mode == mode


def test_desk_folder_lets_a_group_drop_and_nobody_look(place):
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o1730
    assert stat.S_IMODE((place.directory / ASIDE).stat().st_mode) == 0o700


@pytest.mark.parametrize(("mode", "why"), [(0o777, "everybody"), (0o1777, "everybody"), (0o770, "move")])
def test_desk_folder_that_others_may_change_is_not_trusted_until_it_is_repaired(place, mode, why):
    place.folder.chmod(mode)
    place.hand_in(request(1))
    assert place.desk.collect() == []
    assert place.desk.collect() == []
    assert why in str(place.desk.wrong)
    assert place.kinds() == ["request.desk.refused"], "told once"
    place.folder.chmod(0o1730)
    assert len(place.desk.collect()) == 1
    assert place.kinds()[-1] == "request.desk.repaired"


def test_desk_folder_that_is_a_link_or_gone_is_not_trusted(place, tmp_path):
    place.folder.rmdir()
    assert place.desk.collect() == []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o1730)
    place.folder.symlink_to(elsewhere)
    (elsewhere / "r1.json").write_text(text_of(request(1)))
    assert place.desk.collect() == []
    assert (elsewhere / "r1.json").exists()
    assert place.desk.wrong is not None


def as_user(uid: int, gid: int, act: Callable[[], object]) -> str:
    """What becomes of it when another user of this machine does it: "done", or the name of the error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            act()
            said = "done"
        except BaseException as error:  # noqa: BLE001  whatever it is, it is said and the child ends
            said = type(error).__name__
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be other users")
def test_desk_folder_as_other_users_meet_it():
    """Of the group: may drop, may not look, nor touch what others dropped. Not of the group: nothing."""
    group, first, second = 60_000, 60_001, 60_002
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        place = Place(directory)
        os.chown(place.folder, 0, group)
        place.folder.chmod(0o1730)
        place.desk._name_of = str
        texts = {n: text_of(request(n)) for n in range(1, 6)}  # a child may not be able to import anything

        def drops(n: int) -> Callable[[], object]:
            return lambda: drop_file(place.folder, f"r{n}.json", texts[n])

        file = place.folder / "r1.json"
        other = place.folder / "r2.json"
        assert as_user(first, group, drops(1)) == "done"
        assert as_user(second, group, lambda: list(place.folder.iterdir())) == "PermissionError"
        assert as_user(second, group, file.unlink) == "PermissionError"
        assert as_user(second, group, lambda: file.rename(other)) == "PermissionError"
        assert as_user(second, group, lambda: file.write_text("{}")) == "PermissionError"
        assert as_user(second, second, drops(3)) == "PermissionError"
        assert as_user(second, group, drops(4)) == "done"
        assert as_user(second, group, (place.folder / "r4.json").unlink) == "done", "taken back"
        assert [(r.user, r.request.id) for r in place.desk.collect()] == [(str(first), "r1")]
        place.folder.rename(directory / "elsewhere")
        (directory / "of-second").mkdir()
        os.chown(directory / "of-second", second, group)
        (directory / "of-second").rename(place.folder)
        place.folder.chmod(0o1730)
        assert as_user(second, group, drops(5)) == "done"
        assert place.desk.collect() == []
        assert str(place.desk.wrong).startswith(f"it belongs to uid {second}, ")


# --- hostile files ----------------------------------------------------------------------------------------


def linked(place: Place) -> None:
    """Somebody else's request, given another name."""
    other = place.directory / "other.json"
    other.write_text(text_of(request(1)))
    os.link(other, place.folder / "r1.json")


def symbolic(place: Place) -> None:
    other = place.directory / "other.json"
    other.write_text(text_of(request(1)))
    (place.folder / "r1.json").symlink_to(other)


def unix_socket(place: Place) -> None:
    here = Path.cwd()
    os.chdir(place.folder)  # its name may be longer than a socket's may be
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("r1.json")
    finally:
        os.chdir(here)


def full_folder(place: Place) -> None:
    (place.folder / "r1.json").mkdir()
    (place.folder / "r1.json" / "inside").write_text("x")


HOSTILE: dict[str, Callable[[Place], object]] = {
    "hard link": linked,
    "symbolic link": symbolic,
    "pipe": lambda p: os.mkfifo(p.folder / "r1.json"),
    "socket": unix_socket,
    "folder": full_folder,
    "writable by others": lambda p: p.hand_in(request(1)).chmod(0o666),
    "large": lambda p: p.put("r1.json", b" " * 5000 + text_of(request(1)).encode()),
    "huge": lambda p: p.put("r1.json", b" " * 200_000),
    "not text": lambda p: p.put("r1.json", b"\xff\xfe\x00"),
    "empty": lambda p: p.put("r1.json", b""),
    "name of another id": lambda p: p.put("r2.json", text_of(request(1)).encode()),
    "name that is none": lambda p: p.put("\nr1 \u202e.json", text_of(request(1)).encode()),
    "name that is no text": lambda p: p.put(os.fsdecode(b"\xff\xfe.json"), text_of(request(1)).encode()),
    "deep": lambda p: p.put("r1.json", b"[" * 4000),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_desk_hostile_file_is_told_and_hinders_nobody(place, what):
    HOSTILE[what](place)
    place.hand_in(request(5))
    taken = [r.request.id for _ in range(3) for r in place.desk.collect()]
    assert taken == ["r5"]
    assert place.kinds() == ["request.file.refused"], place.told
    json.dumps(place.told).encode()  # it can be recorded
    left = [f.name for f in place.folder.iterdir()]
    assert left == (["r1.json"] if what == "folder" else [])


def test_desk_bad_file_is_set_aside_for_whoever_looks_into_it_and_not_without_end(place):
    for number in range(40):
        place.put(f"r{number}.json", b"{}")
    for _ in range(10):
        place.desk.collect()
    kept = list((place.directory / ASIDE).iterdir())
    assert len(kept) == request_desk.ASIDE_MAX
    assert {f.read_bytes() for f in kept} == {b"{}"}


def test_desk_file_that_cannot_be_taken_away_is_not_done(place, monkeypatch):
    """It would be done again in every cycle."""
    place.hand_in(request(1))
    monkeypatch.setattr(RequestDesk, "_remove", lambda *_: False)
    assert place.desk.collect() == []


def test_desk_file_taken_back_between_looking_and_reading_is_not_done(place, monkeypatch):
    file = place.hand_in(request(1))
    listed = RequestDesk._listed

    def slow(self: RequestDesk, folder: int) -> object:
        found = listed(self, folder)
        file.unlink()
        return found

    monkeypatch.setattr(RequestDesk, "_listed", slow)
    assert place.desk.collect() == []
    assert place.told == []


# --- text -------------------------------------------------------------------------------------------------

SET = {"kind": "set", "point": "bess1.p_set_kw", "value": 1.0}
OUTER = {"id": "r1", "session": "s", "epoch": 1, "ttl_s": 10.0, "reason": "", "ask": SET}


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({**OUTER, "id": "../../etc/passwd"}, "id"),
        ({**OUTER, "id": ""}, "id"),
        ({**OUTER, "ttl_s": 0.0}, "ttl_s"),
        ({**OUTER, "ttl_s": 1e6}, "ttl_s"),
        ({**OUTER, "epoch": -1}, "epoch"),
        ({**OUTER, "epoch": True}, "epoch"),
        ({**OUTER, "epoch": 10**30}, "epoch"),
        ({**OUTER, "reason": "a\nline too many"}, "reason"),
        ({**OUTER, "reason": "x" * 501}, "reason"),
        ({**OUTER, "session": "\x1b[31m"}, "session"),
        ({**OUTER, "user": "root"}, "user"),
        ({**OUTER, "ask": {**SET, "for": 60.0}}, "for"),
        ({**OUTER, "ask": {**SET, "value": "1"}}, "value"),
        ({**OUTER, "ask": {**SET, "value": None}}, "value"),
        ({**OUTER, "ask": {"point": "bess1.p_set_kw", "value": 1.0}}, "kind"),
        ({**OUTER, "ask": {"kind": "reboot"}}, "kind"),
        ({**OUTER, "ask": {"kind": ["set"]}}, "kind"),
        ({**OUTER, "ask": "set"}, "ask"),
        ({k: v for k, v in OUTER.items() if k != "ask"}, "ask"),
        ({k: v for k, v in OUTER.items() if k != "ttl_s"}, "ttl_s"),
        ([OUTER], "request"),
        (None, "request"),
    ],
)
def test_request_text_that_is_none_is_refused_and_its_key_is_named(raw, named):
    with pytest.raises(BadValue, match=named):
        request_of(json.dumps(raw))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
def test_request_text_number_that_is_not_finite_is_refused(number):
    with pytest.raises(BadValue):
        request_of(json.dumps(OUTER).replace('"value": 1.0', f'"value": {number}'))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from([*OUTER, *SET, "device", "mode", "for_s", "subject", "token", "limit", "value_kw"])
TREES = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=5), max_size=7)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200) | TREES.map(lambda t: json.dumps(t).encode()))
def test_desk_whatever_lies_there_is_set_aside_and_the_next_one_is_taken(tmp_path, raw):
    """Any bytes, and any JSON with the right keys: no traceback, no request out of it, no hindrance."""
    place = Place(tmp_path)
    place.put("r1.json", raw)
    place.hand_in(request(2, reason=str(len(list(tmp_path.iterdir())))))
    taken = [r.request.id for r in place.desk.collect()]
    (place.directory / IDS).unlink(missing_ok=True)
    assert taken == ["r2"]
    assert place.kinds() == ["request.file.refused"]


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 400), byte=st.integers(0, 255))
def test_request_text_with_one_byte_changed_is_refused_or_is_a_request(at, byte):
    raw = bytearray(text_of(request(ask=SOUND[0])).encode())
    raw[at % len(raw)] = byte
    try:
        one = request_of(raw.decode())
    except (BadValue, UnicodeDecodeError):
        return
    assert request_of(text_of(one)) == one


# --- a disk that fails, a user database that hangs --------------------------------------------------------


def refusing(number: int, message: str) -> Callable[..., Any]:
    def fails(*_: object, **__: object) -> Any:
        raise OSError(number, message)

    return fails


@pytest.mark.parametrize("name", ["scandir", "unlink", "rename"])
def test_desk_whatever_the_disk_refuses_nothing_is_raised_and_it_is_told_both_ways(place, monkeypatch, name):
    place.hand_in(request(1))
    place.put("r2.json", b"no request")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, refusing(30, "Read-only file system"))
        taken = [r.request.id for _ in range(3) for r in place.desk.collect()]
        assert (taken == ["r1"]) is (name == "rename"), "what cannot be taken away is not done"
        assert (place.desk.failing.now is None) is (name == "rename")
        assert place.kinds().count("store.failing") == (0 if name == "rename" else 1)
    taken += [r.request.id for r in place.desk.collect()]
    assert taken == ["r1"]
    assert place.desk.failing.now is None


def test_desk_disk_is_full_at_the_start_and_the_folder_is_made_when_there_is_room(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refusing(28, "No space left on device"))
        place = Place(tmp_path)
        assert place.desk.collect() == []
        assert "make its folder" in str(place.desk.failing.now)
    place.desk.collect()
    place.hand_in(request(1))
    assert len(place.desk.collect()) == 1
    assert place.desk.failing.now is None


def test_desk_owner_who_is_not_known_yet_waits_in_the_folder_and_keeps_nobody_else(place):
    names = iter([None, None, "ann"])
    place.desk._name_of = lambda uid: next(names)
    file = place.hand_in(request(1))
    for _ in range(2):
        assert place.desk.collect() == []
        assert file.exists()
    assert [r.user for r in place.desk.collect()] == ["ann"]
    assert place.told == []


def test_desk_file_that_could_not_be_taken_and_is_gone_is_no_fault_any_more(tmp_path, monkeypatch):
    """The alarm stood until the next request: its owner had taken the file back meanwhile."""
    told: list[str] = []
    desk = RequestDesk(tmp_path, clock=VirtualClock(T0), told=lambda kind, _: told.append(kind))
    file = drop_file(tmp_path / FOLDER, "r1.json", text_of(request(1)))

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", read_only)
        assert desk.collect() == []
        assert desk.failing.on(EMPTY)
    file.unlink()
    assert desk.collect() == []
    assert told == ["store.failing", "store.recovered"]
