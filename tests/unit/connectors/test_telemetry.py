"""Records on their way: numbered without a gap, newest and oldest first, and what counts as delivered."""

import itertools
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.edge_records import untold
from connectors.historian.rows import Entry, Kind
from connectors.historian.schema import ARCHIVE, HISTORY
from connectors.historian.spool import Span, Spool
from connectors.historian.sqlite import SqliteRecorder
from connectors.sqlite_file import StoreError
from connectors.telemetry import outbox as outboxes
from connectors.telemetry.ledger import Ledger, Spans, statuses
from connectors.telemetry.messages import Messages, Page
from connectors.telemetry.outbox import Outbox
from connectors.telemetry.watch import SILENT_S, troubles
from ems.clock import VirtualClock
from ems.commands import WriteOutcome
from ems.records import StatusRow
from ems.site import MqttBroker, TelemetryLink
from tests.builders import T0
from tests.unit.connectors.archives import pack, trim
from tests.unit.connectors.histories import at, command, outcome, refusal, snapshot

LINK = TelemetryLink(
    id="cloud", host="x", port=1, topic="e", broker=MqttBroker(client_id="e"), timeout_s=1.0,
    message_bytes_max=4096, backfill_bytes_per_s=None, backlog_s_max=900.0,
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "telemetry.sqlite")
    yield ledger
    ledger.close()


def record(path: Path, first: int, last: int, **values: float | None) -> None:
    """One run of an edge with a snapshot a second."""
    with closing(SqliteRecorder(path, clock=VirtualClock(at(first)), sync=False)) as recorder:
        for i in range(first, last + 1):
            recorder.readings(snapshot(float(i), **(values or {"grid1__p_kw": float(i)})))
        assert recorder.flush()


def rows_of(page: Page) -> list[dict[str, Any]]:
    return [json.loads(x) for x in page.payload.decode().splitlines()[1:]]


class Paged(Outbox):
    """What goes next, as messages."""

    def __init__(self, link: str, spool: Spool, ledger: Ledger, *, bytes_max: int) -> None:
        super().__init__(link, spool, ledger)
        self._messages = Messages(spool, bytes_max)

    def newest(self) -> list[Page]:
        claim = self.live(self._messages.rows_max)
        return [] if claim is None else self._messages.pages(claim)

    def oldest(self) -> list[Page]:
        claim = self.late(self._messages.rows_max)
        return [] if claim is None else self._messages.pages(claim)


class Receiver:
    """Takes pages and knows rows by their number."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, int, int], list[dict[str, Any]]] = {}
        self.twice = 0

    def take(self, page: Page) -> None:
        head = json.loads(page.payload.decode().splitlines()[0])
        for row in rows_of(page):
            key = (head["store"], head["boot"], head["opened_ms"], row["seq"])
            known = self.rows.setdefault(key, [])
            self.twice += row in known
            if row not in known:
                known.append(row)


def drained(outbox: Paged, receiver: Receiver, most: int = 10_000) -> list[Page]:
    """Everything is sent and acknowledged at once."""
    sent: list[Page] = []
    outbox.look()
    while len(sent) < most and (pages := outbox.newest() or outbox.oldest()):
        for page in pages:
            outbox.sent(page.claim)
            receiver.take(page)
        outbox.arrived(pages[-1].claim)
        sent += pages
    return sent


def test_every_row_has_a_number_in_the_order_it_was_written(path: Path):
    with closing(SqliteRecorder(path, clock=VirtualClock(T0))) as recorder:
        recorder.readings(snapshot(0.0, grid1__p_kw=1.5, bess1__soc=None))
        recorder.intent(command(1, 20.0, 0.0))
        recorder.outcome(outcome(command(1, 20.0, 0.0), WriteOutcome.REJECTED, "busy"))
        recorder.refusal(refusal(float("nan"), 1.0))
        recorder.event(at(1.0), "grid.mode.changed", {"to": "islanded"})
        recorder.flush()
    spool = Spool(path)
    head = spool.heads()[1]
    found = [r.lines(10_000) for r in spool.records(Span(boot=1, first=1, last=head.last))]
    spool.close()
    rows = {r["kind"]: r for (text,) in found for r in [json.loads(text)]}
    assert sorted(r["seq"] for r in rows.values()) == [1, 2, 3, 4, 5]
    assert rows["readings"]["values"] == {
        "grid1.p_kw": [1.5, "good", 0], "bess1.soc": [None, "comm_failed", 0],
    }  # fmt: skip
    assert rows["readings"]["at"] == T0.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert rows["command"] == rows["command"] | {"point": "bess1.p_set_kw", "value": 20.0, "command_seq": 1}
    assert rows["outcome"] == rows["outcome"] | {"command_seq": 1, "outcome": "rejected", "detail": "busy"}
    assert rows["refusal"] == rows["refusal"] | {"value": None, "code": "not_finite"}
    assert rows["event"] == rows["event"] | {"event": "grid.mode.changed", "fields": {"to": "islanded"}}


def test_batch_written_twice_is_numbered_once(path: Path):
    """A commit that failed may have been carried out: the same rows come again."""
    with closing(SqliteRecorder(path, clock=VirtualClock(T0))) as recorder:
        recorder.readings(snapshot(0.0, grid1__p_kw=1.0))
        recorder.intent(command(1))
        recorder.flush()
        assert recorder._rows is not None
        batch: list[Entry] = [
            (1, Kind.SNAPSHOT, snapshot(0.0, grid1__p_kw=1.0)),
            (2, Kind.INTENT, command(1)),
        ]
        recorder._rows.write(batch)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT seq, kind FROM spool ORDER BY seq").fetchall() == [(1, 0), (2, 1)]


def test_spans_agree_with_a_set_of_numbers():
    luck = random.Random(7)
    for _ in range(300):
        spans, numbers = Spans(), set[int]()
        for _ in range(luck.randrange(1, 12)):
            first = luck.randrange(1, 40)
            last = first + luck.randrange(0, 8)
            if luck.random() < 0.75:
                spans.add(first, last)
                numbers |= set(range(first, last + 1))
            else:
                spans.remove(first, last)
                numbers -= set(range(first, last + 1))
            found = list(spans)
            assert {n for a, b in found for n in range(a, b + 1)} == numbers
            assert all(b + 1 < c for (_, b), (c, _) in itertools.pairwise(found)), "none touch"
            gaps = {n for a, b in spans.gaps(50) for n in range(a, b + 1)}
            assert gaps == set(range(1, 51)) - numbers
            assert spans.covers(first, last) == (set(range(first, last + 1)) <= numbers)


def test_newest_rows_go_first_and_the_rest_follows_from_the_oldest(path: Path, ledger: Ledger):
    record(path, 1, 1000)
    outbox, receiver = Paged("cloud", Spool(path), ledger, bytes_max=4096), Receiver()
    sent = drained(outbox, receiver)
    live = [p for p in sent if not p.claim.late]
    late = [p for p in sent if p.claim.late]
    assert sent == [*live, *late]
    assert (live[0].claim.span.first, live[-1].claim.span.last) == (1000 - outboxes.LIVE_ROWS + 1, 1000)
    firsts = [p.claim.span.first for p in late]
    assert firsts == sorted(firsts)
    assert firsts[0] == 1
    assert len(receiver.rows) == 1000
    assert receiver.twice == 0
    assert outbox.missing() == (0, None)
    record(path, 1001, 1005)
    assert all(not p.claim.late for p in drained(outbox, receiver)), "what is new is live"
    assert len(receiver.rows) == 1005


def test_what_was_not_acknowledged_is_sent_again_under_its_number(path: Path, ledger: Ledger):
    """Connections end at random; acknowledgements are lost; the process is killed now and then."""
    luck = random.Random(11)
    receiver, made, outbox = Receiver(), 0, Paged("cloud", Spool(path), ledger, bytes_max=2000)
    for _ in range(120):
        if luck.random() < 0.3:
            record(path, made + 1, made + 40)
            made += 40
        if luck.random() < 0.2:
            outbox = Paged("cloud", Spool(path), ledger, bytes_max=2000)  # killed, what it knew is gone
        outbox.look()
        for _ in range(luck.randrange(6)):
            pages = outbox.newest() or outbox.oldest()
            if not pages:
                break
            for page in pages:
                outbox.sent(page.claim)
                if luck.random() < 0.8:
                    receiver.take(page)
                    if luck.random() < 0.8 and page.is_last:
                        outbox.arrived(page.claim)
        if luck.random() < 0.5:
            outbox.save()
        if luck.random() < 0.3:
            outbox.start_over()
    outbox.start_over()
    drained(outbox, receiver)
    assert made > 500
    assert len(receiver.rows) == made, "0 lost"
    assert receiver.twice > 0, "and what came twice was known by its number"
    assert all(len(rows) == 1 for rows in receiver.rows.values()), "one number, one row"
    outbox.save()
    again = Paged("cloud", Spool(path), ledger, bytes_max=2000)
    assert drained(again, receiver) == []


def test_snapshot_too_long_for_a_message_goes_in_parts_and_counts_when_the_last_is_there(
    path: Path, ledger: Ledger
):
    values = {f"a{i}__p_kw": float(i) for i in range(300)}
    record(path, 1, 1, **values)
    outbox = Paged("cloud", Spool(path), ledger, bytes_max=4096)
    outbox.look()
    pages = outbox.newest()
    assert len(pages) > 2
    assert [p.is_last for p in pages] == [*[False] * (len(pages) - 1), True]
    assert all(len(p.payload) < 4096 + 200 for p in pages)
    rows = [row for p in pages for row in rows_of(p)]
    assert [(r["part"], r["parts"]) for r in rows] == [(i + 1, len(pages)) for i in range(len(pages))]
    told = {k: v for r in rows for k, v in r["values"].items()}
    assert len(told) == 300


def test_file_made_anew_or_put_back_is_not_taken_for_the_one_that_was_sent(path: Path, ledger: Ledger):
    record(path, 1, 10)
    kept = path.read_bytes()
    outbox, receiver = Paged("cloud", Spool(path), ledger, bytes_max=4096), Receiver()
    drained(outbox, receiver)
    record(path, 11, 20)
    drained(outbox, receiver)
    assert len(receiver.rows) == 20
    assert outbox.save()
    for name in (path, *path.parent.glob("history.sqlite-*")):
        name.unlink(missing_ok=True)
    path.write_bytes(kept)  # a backup of before the second run, whose number is given again
    record(path, 21, 30)
    outbox = Paged("cloud", Spool(path), ledger, bytes_max=4096)
    drained(outbox, receiver)
    assert len(receiver.rows) == 30
    assert outbox.save()
    path.unlink()
    record(path, 31, 40)
    outbox = Paged("cloud", Spool(path), ledger, bytes_max=4096)
    drained(outbox, receiver)
    assert len(receiver.rows) == 40
    assert receiver.twice == 0


def test_rows_that_are_kept_no_more_are_sent_as_gone(path: Path, ledger: Ledger):
    record(path, 1, 5)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM reading WHERE at_ms = (SELECT min(at_ms) FROM reading)")
        db.commit()
    outbox, receiver = Paged("cloud", Spool(path), ledger, bytes_max=4096), Receiver()
    drained(outbox, receiver)
    kinds = [rows[0]["kind"] for _, rows in sorted(receiver.rows.items())]
    assert kinds == ["gone", "readings", "readings", "readings", "readings"]


def test_rows_asked_for_again_are_missing_and_whole_blocks_are_told_once(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outboxes, "BLOCK_ROWS", 10)
    record(path, 1, 25)
    outbox, receiver = Paged("cloud", Spool(path), ledger, bytes_max=600), Receiver()
    drained(outbox, receiver)
    assert [(b.first, b.last) for b in outbox.whole_blocks()] == [(1, 10), (11, 20)]
    assert outbox.whole_blocks() == []
    assert outbox.again(Span(boot=1, first=4, last=5)) == 2
    assert outbox.again(Span(boot=9, first=1, last=5)) == 0
    assert outbox.missing()[0] == 2
    assert [p.claim.span for p in drained(outbox, receiver)] == [Span(boot=1, first=4, last=5)]
    assert [(b.first, b.last) for b in outbox.whole_blocks()] == [(1, 10)]
    assert receiver.twice == 2


def test_historian_of_an_older_program_is_sent_once_the_edge_has_opened_it(path: Path, ledger: Ledger):
    outbox = Paged("cloud", Spool(path), ledger, bytes_max=4096)
    outbox.look()
    assert outbox.newest() == outbox.oldest() == []
    record(path, 1, 3)
    assert len(drained(outbox, Receiver())) == 1


def test_second_sender_is_refused(tmp_path: Path, ledger: Ledger):
    with pytest.raises(StoreError, match="another process is writing"):
        Ledger(tmp_path / "telemetry.sqlite")


def test_ledger_of_another_kind_is_refused(path: Path):
    record(path, 1, 1)
    with pytest.raises(StoreError, match="not that of a telemetry file"):
        Ledger(path)
    assert HISTORY.version >= 3


def status(age_s: float = 0.0, **fields: Any) -> dict[str, StatusRow]:
    told = {"up": True, "missing_s": 0.0, **fields}
    row = StatusRow(process="telemetry_cloud", pid=1, at=at(1000.0 - age_s), fields=told)
    return {row.process: row}


def test_links_that_are_down_or_behind_are_told(tmp_path: Path, ledger: Ledger):
    now, began = at(1000.0), at(0.0)
    assert troubles([LINK], status(), now, began) == ("", "")
    assert troubles([LINK], status(up=False, reason="no line"), now, began) == ("cloud: no line", "")
    down, behind = troubles([LINK], status(missing_s=3600.0, missing_rows=9), now, began)
    assert (down, behind) == ("", "cloud: 9 rows wait, the oldest for 60 min")
    for rows in (status(age_s=SILENT_S + 1.0), {}):
        down, behind = troubles([LINK], rows, now, began)
        assert "nobody sends" in down
        assert troubles([LINK], rows, now, now - timedelta(seconds=5)) == ("", "")
    codes = [alarm.code for alarm in untold("a", "b")]
    assert codes == ["telemetry.link.down", "telemetry.backlog"]
    assert untold("", "") == ()
    assert ledger.status(status()["telemetry_cloud"])
    assert statuses(tmp_path / "telemetry.sqlite") == status()


def test_damaged_segment_holds_up_no_other_record(path: Path, ledger: Ledger):
    """Nothing older was sent any more, and the connection was made anew twice a second."""
    record(path, 1, 400)
    pack(path, at(400.0) + timedelta(days=3))
    trim(path)
    (segment,) = (path.parent / ARCHIVE).glob("raw-*.zip")
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    segment.write_bytes(bytes(raw))
    record(path, 400_000, 400_010)
    receiver = Receiver()
    with closing(Spool(path)) as spool:
        outbox = Paged("cloud", spool, ledger, bytes_max=4096)
        drained(outbox, receiver)
        assert outbox.missing()[0] == 0
    kinds = [rows[0]["kind"] for rows in receiver.rows.values()]
    assert (kinds.count("gone"), kinds.count("readings")) == (400, 11)
