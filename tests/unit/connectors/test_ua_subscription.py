"""The book of a subscription: no message twice, none missed, nothing fresh that is not proved."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua

from connectors.link import LinkError
from connectors.opcua.subscription import NUMBERS, Book

AT = datetime(2026, 3, 1, tzinfo=UTC)
OURS = 7


def value(number: float, stamp_s: float = 0.0, status: int = 0) -> ua.DataValue:
    stamp: Any = AT + timedelta(seconds=stamp_s)
    code = ua.StatusCode(ua.UInt32(status))
    return ua.DataValue(Value=ua.Variant(number), StatusCode=code, SourceTimestamp=stamp)


def message(number: int, *items: tuple[int, ua.DataValue], ours: int = OURS) -> ua.PublishResult:
    rows = [ua.MonitoredItemNotification(ClientHandle=h, Value=v) for h, v in items]
    data: list[Any] = [ua.DataChangeNotification(MonitoredItems=rows)] if rows else []
    told = ua.NotificationMessage(SequenceNumber=number, PublishTime=AT, NotificationData=data)
    return ua.PublishResult(SubscriptionId=ours, NotificationMessage=told)


@pytest.fixture
def book() -> Book:
    book = Book({1: "a", 2: "b"}, silence_s=2.0, at_s=100.0)
    book.open(OURS)
    return book


def now(book: Book) -> dict[str, float]:
    return {p: v.Value.Value for p, v in book.values.items() if v.Value is not None}


def test_changes_in_turn_are_taken_and_prove_every_value(book):
    book.take(message(1, (1, value(10.0)), (2, value(20.0))), 100.0)
    book.take(message(2, (1, value(11.0))), 101.0)
    assert now(book) == {"a": 11.0, "b": 20.0}
    assert book.age_s(101.5) == pytest.approx(0.5)
    assert book.missing == []
    assert book.served == AT
    book.check(101.5)


def test_what_was_not_told_yet_is_missing(book):
    book.take(message(1, (1, value(10.0))), 100.0)
    assert book.missing == ["b"]
    book.leave_out(2)
    assert book.missing == []
    book.take(message(2, (2, value(5.0))), 100.0)
    assert "b" not in book.values


def test_message_that_comes_twice_is_not_taken_and_proves_nothing(book):
    first = message(1, (1, value(10.0)))
    book.take(first, 100.0)
    book.take(message(2, (1, value(11.0))), 101.0)
    book.take(first, 101.9)
    assert now(book) == {"a": 11.0}
    assert (book.repeated, book.age_s(101.9)) == (1, pytest.approx(0.9))
    book.check(102.0)


@pytest.mark.parametrize("late", [message(4, (1, value(12.0))), message(4)], ids=["change", "keep-alive"])
def test_message_that_is_missing_breaks_it(book, late):
    book.take(message(1, (1, value(10.0))), 100.0)
    book.take(message(2, (1, value(11.0))), 100.0)
    book.take(late, 100.0)
    assert now(book) == {"a": 11.0}
    with pytest.raises(LinkError, match="messages 3 to 3 were lost"):
        book.check(100.0)


def test_numbers_begin_again_after_the_last_one_and_skip_0(book):
    book.take(message(NUMBERS - 1, (1, value(1.0))), 100.0)
    book.take(message(1, (1, value(2.0))), 100.0)
    book.take(message(NUMBERS - 1, (1, value(1.0))), 100.0)
    assert (now(book), book.repeated) == ({"a": 2.0}, 1)
    book.check(100.0)


@pytest.mark.parametrize("number", [2, 1], ids=["of the next message", "of the last message"])
def test_keep_alive_proves_what_has_not_changed_and_takes_no_number(book, number):
    book.take(message(1, (1, value(10.0))), 100.0)
    for at_s in (101.0, 102.0, 103.0):
        book.take(message(number), at_s)
        assert book.age_s(at_s) == 0.0
    book.take(message(2, (1, value(11.0))), 103.5)
    assert now(book) == {"a": 11.0}
    book.check(105.4)


def test_silence_is_death_although_nothing_else_is_wrong(book):
    book.take(message(1, (1, value(10.0))), 100.0)
    book.check(101.9)
    with pytest.raises(LinkError, match="died silently"):
        book.check(102.1)


def test_newest_sample_of_a_message_stands_wherever_it_comes(book):
    book.take(message(1, (1, value(1.0, 1.0)), (1, value(3.0, 3.0)), (1, value(2.0, 2.0))), 100.0)
    assert (now(book), book.repeated) == ({"a": 3.0}, 1)
    book.take(message(2, (1, value(9.0, 0.5))), 100.0)  # the device has set its clock back
    assert now(book) == {"a": 9.0}


def test_overflow_of_the_queue_is_counted_and_the_newest_value_taken(book):
    book.take(message(1, (1, value(1.0, status=0x480)), (2, value(2.0, status=0x80000000))), 100.0)
    assert (now(book), book.overflows) == ({"a": 1.0, "b": 2.0}, 1)
    book.take(message(2, (1, value(1.0, status=0x400))), 100.0)  # limit bits, no overflow
    assert book.overflows == 1


def test_end_told_by_the_server_breaks_it(book):
    end: Any = ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(0x800A0000)))
    told = message(1)
    told.NotificationMessage.NotificationData = [end]
    book.take(told, 100.0)
    with pytest.raises(LinkError, match="ended it: BadTimeout"):
        book.check(100.0)


@pytest.mark.parametrize(
    "strange",
    [
        message(1, (9, value(1.0))),
        message(1, (1, value(1.0)), ours=8),
        ua.PublishResult(SubscriptionId=OURS, NotificationMessage=None),
    ],
    ids=["unknown handle", "another subscription", "nothing in it"],
)
def test_message_that_makes_no_sense_breaks_it(book, strange):
    book.take(strange, 100.0)
    assert now(book) == {}
    with pytest.raises(LinkError, match="subscription"):
        book.check(100.0)
