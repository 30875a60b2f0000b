"""Files that are dropped: taken once and whole, kept, or put aside with every reason."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from connectors.inputs.convert import read_version
from connectors.inputs.folder import DropFolder, FolderError, Mark
from connectors.inputs.keeper import Feed
from connectors.inputs.state import input_state
from connectors.inputs.store import InputReader, InputStore
from connectors.sqlite_file import StoreError
from ems.input_rules import series_rules
from ems.inputs import InputVersion
from tests.builders import site
from tests.unit.connectors.inputs_here import NOW, params

GOOD = "time,import_per_kwh\n2026-03-02T13:00Z,0.2\n2026-03-02T14:00Z,0.3\n"


class Clock:
    at = NOW

    def now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir(mode=0o770)
    return folder


@pytest.fixture
def feed(tmp_path: Path, inbox: Path):
    store = InputStore(tmp_path)
    yield Feed(
        params=params(every_s=10.0), rules=series_rules(site(), params()), store=store, now=Clock().now,
        source=DropFolder(path=inbox, suffix=".csv", bytes_max=10_000), doubts=lambda version: (),
    )  # fmt: skip
    store.close()


def outcomes(feed: Feed, looks: int = 2) -> list[str]:
    return [x.outcome for _ in range(looks) for x in feed.look()]


def names(folder: Path) -> list[str]:
    return sorted(p.name[17:] if p.name[:1] == "2" else p.name for p in folder.glob("*") if p.is_file())


def test_file_is_taken_once_when_it_stands_still_and_kept_in_the_archive(feed: Feed, inbox: Path):
    (inbox / "a.csv").write_text(GOOD)
    assert outcomes(feed, 1) == [], "it may still be growing"
    with (inbox / "a.csv").open("a") as file:
        file.write("2026-03-02T15:00Z,0.4\n")
    assert outcomes(feed, 1) == []
    assert outcomes(feed, 3) == ["taken"]
    assert names(inbox) == []
    assert names(inbox / "archive") == ["a.csv"]


def test_unfinished_and_other_files_are_left_alone(feed: Feed, inbox: Path):
    for name in (".a.csv", "a.csv.part", "a.CSV.tmp", "readme.txt"):
        (inbox / name).write_text(GOOD)
    (inbox / "folder.csv").mkdir()
    assert outcomes(feed, 3) == []
    (inbox / "a.csv.part").rename(inbox / "B.CSV")
    assert outcomes(feed) == ["taken"]


def test_bad_file_is_put_aside_with_its_reasons_and_nothing_of_it_is_taken(
    feed: Feed, inbox: Path, tmp_path: Path
):
    (inbox / "bad.csv").write_text(GOOD.replace("0.3", "300"))
    (inbox / "good.csv").write_text(GOOD)
    os.utime(inbox / "good.csv", (1, 1))
    assert outcomes(feed) == ["taken", "refused"]
    reader = InputReader(tmp_path)
    state = input_state(reader, params(), NOW + timedelta(hours=1))
    assert state.refused is not None
    assert state.version is not None
    assert state.version.source == "good.csv"
    assert names(inbox / "refused") == ["bad.csv", "bad.csv.txt"]
    (reasons,) = (inbox / "refused").glob("*.txt")
    assert reasons.read_text() == (
        "bad.csv:3: import_per_kwh: found 300; allowed: -20 to 20 USD/kWh (another unit, or a wrong price?)\n"
    )
    assert isinstance(feed.source, DropFolder)
    assert feed.source.put_aside() == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p, outside: p.symlink_to(outside), "found a link; allowed: a plain file"),
        (lambda p, outside: os.mkfifo(p), "found no plain file"),
        (lambda p, outside: p.write_text("x" * 10_001), "found 10001 bytes; allowed: at most 10000"),
        (lambda p, outside: p.write_bytes(b""), "no such column"),
    ],
)
def test_what_is_no_plain_file_of_that_size_is_put_aside(
    feed: Feed, inbox: Path, tmp_path: Path, make, said: str
):
    outside = tmp_path / "outside"
    outside.write_text(GOOD)
    make(inbox / "a.csv", outside)
    assert outcomes(feed) == ["refused"]
    (reasons,) = (inbox / "refused").glob("*.txt")
    assert said in reasons.read_text()
    assert outside.read_text() == GOOD


def test_crash_between_store_and_archive_takes_nothing_twice(
    feed: Feed, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (inbox / "a.csv").write_text(GOOD)
    with monkeypatch.context() as broken:
        rename = Path.rename

        def full(self: Path, to: Path) -> Path:
            if self.parent.name == ".taking":
                raise OSError(28, "full")
            return rename(self, to)

        broken.setattr(Path, "rename", full)
        assert outcomes(feed) == ["taken", "failed"]
    assert names(inbox) == names(inbox / "archive") == []
    assert outcomes(feed) == ["same"]
    assert names(inbox / "archive") == ["a.csv"]
    assert (
        len(InputReader(tmp_path).known("one", NOW + timedelta(hours=9), NOW, NOW + timedelta(days=1), 9))
        == 1
    )


def test_store_that_cannot_be_written_leaves_the_file_where_it_is(
    feed: Feed, inbox: Path, monkeypatch: pytest.MonkeyPatch
):
    (inbox / "a.csv").write_text(GOOD)

    def full(self: InputStore, version: object, raw: bytes) -> None:
        raise StoreError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(InputStore, "take", full)
        assert feed.look() == []
        with pytest.raises(StoreError, match="disk full"):
            feed.look()
    assert names(inbox) == ["a.csv"]
    assert outcomes(feed) == ["taken"]


def test_folder_that_is_not_there_or_that_everybody_may_write_is_told(feed: Feed, inbox: Path):
    inbox.chmod(0o777)
    (look,) = feed.look()
    assert (look.outcome, look.detail.split(": ", 1)[1]) == (
        "failed", "everybody may write into it; allowed: its owner and its group",
    )  # fmt: skip
    assert feed.wait_s() == 10.0
    inbox.rename(inbox.with_name("away"))
    assert isinstance(feed.source, DropFolder)
    with pytest.raises(FolderError, match="No such file"):
        feed.source.ready()
    inbox.with_name("away").chmod(0o770)
    inbox.with_name("away").rename(inbox)
    assert outcomes(feed) == []
    assert feed.failures == 0
    assert not feed.store.failing("one"), "an empty folder that can be looked at is kept as that"


def test_two_files_of_one_name_in_one_second_are_both_kept(inbox: Path):
    folder = DropFolder(path=inbox, suffix=".csv", bytes_max=1000)
    for body in ("1", "2"):
        (inbox / "a.csv").write_text(body)
        folder.ready()
        ((name, mark),) = folder.ready()
        assert folder.take(name, mark, lambda raw: None, NOW) == ""
    assert sorted(p.read_text() for p in (inbox / "archive").iterdir()) == ["1", "2"]


def test_file_that_changed_since_it_was_looked_at_is_left_for_the_next_look(inbox: Path):
    folder = DropFolder(path=inbox, suffix=".csv", bytes_max=1000)
    (inbox / "a.csv").write_text("1")
    folder.ready()
    ((name, mark),) = folder.ready()
    (inbox / "a.csv").write_text("12")
    assert folder.take(name, mark, lambda raw: pytest.fail("taken"), NOW) == ""
    assert names(inbox) == ["a.csv"]


def test_name_that_is_no_text_is_taken_or_put_aside_like_any_other(feed: Feed, inbox: Path, tmp_path: Path):
    for name, body in ((b"good-\xff.csv", GOOD), (b"bad-\xff.csv", "time\n")):
        Path(os.fsdecode(os.fsencode(inbox) + b"/" + name)).write_text(body)
    assert sorted(outcomes(feed)) == ["refused", "taken"]
    (kept,) = (inbox / "archive").iterdir()
    assert os.fsencode(kept.name).endswith(b"good-\xff.csv")
    looks = InputReader(tmp_path).looks("one", NOW + timedelta(hours=1), 9)
    assert sorted(x.file for x in looks) == ["bad-?.csv", "good-?.csv"]


def taking(inbox: Path, name: str = "a.csv") -> tuple[DropFolder, str, Mark]:
    folder = DropFolder(path=inbox, suffix=".csv", bytes_max=1000)
    folder.ready()
    ((found, mark),) = folder.ready()
    assert found == name
    return folder, found, mark


def test_folder_in_which_nothing_can_be_renamed_is_told_and_nothing_of_it_is_taken(
    feed: Feed, inbox: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a share that may be read alone: an older file would replace a newer one at each look."""
    for age_s, name in enumerate(("new.csv", "old.csv")):
        (inbox / name).write_text(GOOD)
        os.utime(inbox / name, (1000 - age_s, 1000 - age_s))

    def denied(self: Path, to: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", denied)
        assert outcomes(feed, 4) == ["failed"] * 3, "told at each look"
        assert feed.store._db.execute("SELECT count(*) FROM version").fetchone() == (0,)
    assert outcomes(feed) == ["taken", "same"]


def test_file_that_is_replaced_while_it_is_taken_is_taken_next(inbox: Path):
    (inbox / "a.csv").write_text("1")
    folder, name, mark = taking(inbox)

    def use(raw: bytes) -> None:
        (inbox / "b.part").write_text("22")
        (inbox / "b.part").rename(inbox / "a.csv")

    assert folder.take(name, mark, use, NOW) == ""
    assert [p.read_text() for p in (inbox / "archive").glob("*.csv")] == ["1"]
    taken: list[bytes] = []
    folder.ready()
    ((name, mark),) = folder.ready()
    assert folder.take(name, mark, taken.append, NOW) == ""
    assert taken == [b"22"]


def test_file_that_cannot_be_put_back_for_a_newer_one_of_its_name_waits_and_comes_first(inbox: Path):
    (inbox / "a.csv").write_text("1")
    os.utime(inbox / "a.csv", (1000, 1000))
    folder, name, mark = taking(inbox)

    def use(raw: bytes) -> None:
        (inbox / "a.csv").write_text("22")
        raise StoreError("disk full")

    with pytest.raises(StoreError):
        folder.take(name, mark, use, NOW)
    folder = DropFolder(path=inbox, suffix=".csv", bytes_max=1000)
    folder.ready()
    taken: list[bytes] = []
    for name, mark in folder.ready():
        assert folder.take(name, mark, taken.append, NOW) == ""
    assert taken == [b"1", b"22"]
    assert sorted(p.read_text() for p in (inbox / "archive").glob("*.csv")) == ["1", "22"]


def test_file_with_the_longest_of_names_is_kept_or_put_aside_and_holds_up_no_other(feed: Feed, inbox: Path):
    (inbox / f"{'ä' * 125}.csv").write_text(GOOD)
    (inbox / f"{'b' * 251}.csv").write_text("time\n")
    (inbox / "new.csv").write_text(GOOD.replace("0.2", "0.1"))
    assert sorted(outcomes(feed)) == ["refused", "taken", "taken"]
    assert names(inbox) == []
    assert [len(os.fsencode(n)) for n in names(inbox / "archive")] == [7, 184]


def test_file_that_may_not_be_read_is_put_aside(feed: Feed, inbox: Path, monkeypatch: pytest.MonkeyPatch):
    (inbox / "a.csv").write_text(GOOD)

    def denied(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as broken:
        broken.setattr("connectors.inputs.folder.os.open", denied)
        feed.look()
        broken.setattr("connectors.inputs.folder.DropFolder._refuse", lambda self, working, why: None)
        (look,) = feed.look()
    assert look.detail == "a.csv: file: found no right to read it; allowed: a file that the EMS may read"


def test_file_over_which_we_stumble_is_put_aside_and_the_next_is_taken(
    feed: Feed, inbox: Path, monkeypatch: pytest.MonkeyPatch
):
    for n, name in enumerate(("a.csv", "b.csv")):
        (inbox / name).write_text(GOOD)
        os.utime(inbox / name, (1000 + n, 1000 + n))

    def stumbles(raw: bytes, name: str, *rest: object) -> InputVersion:
        if name == "a.csv":
            raise TypeError("unhashable")
        return read_version(raw, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("connectors.inputs.keeper.read_version", stumbles)
    feed.look()
    refused, taken = feed.look()
    assert (refused.outcome, taken.outcome) == ("refused", "taken")
    assert "TypeError; see inputs.log" in refused.detail
    assert names(inbox / "refused") == ["a.csv", "a.csv.txt"]


def test_disk_that_is_full_keeps_the_file_for_later(feed: Feed, inbox: Path):
    rows = "".join(f"{(NOW + timedelta(minutes=n)).isoformat()},{n / 77}\n" for n in range(1500))
    assert isinstance(feed.source, DropFolder)
    feed.source.bytes_max = 100_000
    (inbox / "a.csv").write_text("time,import_per_kwh\n" + rows)
    pages = feed.store._db.execute("PRAGMA page_count").fetchone()[0]
    feed.store._db.execute(f"PRAGMA max_page_count={pages}")
    feed.look()
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            outcomes(feed)
    assert names(inbox) == ["a.csv"]
    feed.store._db.execute("PRAGMA max_page_count=100000")
    assert outcomes(feed, 3) == ["taken"]
