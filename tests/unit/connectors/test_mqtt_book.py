"""What a message is worth: by its own time, or as old as its arrival; anything else is no value."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from connectors.mqtt.book import Book, Message
from connectors.point_map import PointCodec
from connectors.raw_types import MQTT_TYPES
from ems.json_place import JsonPlace
from ems.site import PointMap
from ems.telemetry import Quality
from tests.builders import T0

AGE_S = 5.0


def codec(point: str = "grid1.p_kw", topic: str = "m", kind: str = "number", **payload: Any) -> PointCodec:
    row = PointMap(
        point=point, address=topic, table="topic", data_type=kind, byte_order="big", word_order="big",
        scale=0.001, offset=0.0, sign=-1, unit="kW", low=-500.0, high=500.0, age_s_max=AGE_S, writable=False,
        payload=JsonPlace(**payload),
    )  # fmt: skip
    return PointCodec(row, MQTT_TYPES[kind])


class Bench:
    """A book whose time a test moves."""

    def __init__(self, *codecs: PointCodec, bytes_max: int = 1000) -> None:
        self.book, self.t_s = Book(codecs, bytes_max), 0.0

    @property
    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.t_s)

    def tell(self, payload: Any, topic: str = "m", **flags: Any) -> None:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.book.take(Message(topic, raw, **flags), self.now, self.t_s)

    def sample(self, value: Any, age_s: float = 0.0, **flags: Any) -> None:
        self.tell({"v": value, "t": (self.now - timedelta(seconds=age_s)).isoformat()}, **flags)

    def read(self, point: str = "grid1.p_kw") -> tuple[float | None, Quality]:
        value = self.book.values(self.now, self.t_s)[point]
        return value.value, value.quality

    @property
    def counts(self) -> dict[str, int]:
        return {k: n for k, n in self.book.counted().items() if n and k != "messages"}


STAMPED = {"value": "/v", "time": "/t"}
BAD = (None, Quality.DEVICE_BAD)


def test_plain_number_has_the_sign_and_scale_of_its_map_and_the_age_of_its_arrival():
    bench = Bench(codec())
    assert bench.read() == (None, Quality.COMM_FAILED)
    bench.tell(b"-12500")
    bench.t_s = 3.0
    value = bench.book.values(bench.now, bench.t_s)["grid1.p_kw"]
    assert (value.value, value.quality, value.source_time, value.age_s) == (12.5, Quality.GOOD, T0, 3.0)


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b"NaN", BAD), (b"Infinity", BAD), (b"-Infinity", BAD), (b"", BAD), (b"twelve", BAD), (b'"12"', BAD),
        (b"true", BAD), (b"[1]", BAD), (b"{}", BAD), (b"1_0", BAD), (b"0x10", BAD), (b"12,5", BAD),
        (b"1 2", BAD),
        (b"\xff\xfe1\x00", BAD), (b"\x00\x00", BAD), (b"[" * 900, BAD), (b"9" * 900, BAD), (b"null", BAD),
        (b"1" * 1001, BAD), (b"1e400", (None, Quality.NOT_FINITE)), (b"-1e38", (1e35, Quality.OUT_OF_RANGE)),
        (b"9e5", (-900.0, Quality.OUT_OF_RANGE)), (b" 1000 ", (-1.0, Quality.GOOD)),
        (b"-0", (0.0, Quality.GOOD)),
    ],
)  # fmt: skip
def test_payload_that_is_no_number_is_no_value(payload, found):
    bench = Bench(codec())
    bench.tell(b"-5000")
    bench.tell(payload)
    value, quality = bench.read()
    assert quality is found[1]
    assert value == (None if found[0] is None else pytest.approx(found[0]))
    bench.tell(b"-6000")
    assert bench.read() == (6.0, Quality.GOOD), "the next good message is believed"


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"v": -7000, "t": T0.isoformat()}, (7.0, Quality.GOOD)),
        ({"v": -7000, "t": "2026-06-01T12:00:00"}, BAD),  # of no zone
        ({"v": -7000, "t": "2026-06-30T23:59:60Z"}, BAD),
        ({"v": -7000, "t": 12}, BAD), ({"v": -7000, "t": None}, BAD), ({"v": -7000}, BAD), ({"t": "x"}, BAD),
        ({"v": {"v": 1}, "t": T0.isoformat()}, BAD), ([1, 2], BAD), (None, BAD),
    ],
)  # fmt: skip
def test_document_that_is_not_as_the_map_says_is_no_value(document, found):
    bench = Bench(codec(**STAMPED))
    bench.tell(document)
    assert bench.read() == found


@pytest.mark.parametrize("form", ["s", "ms"])
def test_time_in_numbers_is_read_and_nonsense_is_not(form):
    per_s = {"s": 1.0, "ms": 1000.0}[form]
    bench = Bench(codec(**STAMPED, time_form=form))
    bench.tell({"v": -1000, "t": T0.timestamp() * per_s})
    value = bench.book.values(bench.now, 0.0)["grid1.p_kw"]
    assert (value.value, value.source_time) == (1.0, T0)
    for nonsense in (1e308, -1e300, True, "7", 10**400):
        bench.tell({"v": -1000, "t": nonsense})
        assert bench.read() == BAD


def test_one_message_tells_several_points_by_pointer():
    first = codec("a.p_kw", value="/m/0/p")
    second = codec("b.p_kw", value="/m/1/p~1q~0r")
    bench = Bench(first, second, codec("c.x", value="/on", kind="boolean"))
    bench.tell({"m": [{"p": -1000}, {"p/q~r": -2000}], "on": True})
    assert bench.read("a.p_kw") == (1.0, Quality.GOOD)
    assert bench.read("b.p_kw") == (2.0, Quality.GOOD)
    assert bench.read("c.x")[1] is Quality.GOOD
    bench.tell({"m": [{"p": -3000}], "on": 7})
    assert bench.read("a.p_kw") == (3.0, Quality.GOOD)
    assert bench.read("b.p_kw") == BAD
    assert bench.read("c.x") == BAD


@pytest.mark.parametrize(
    ("told", "good"), [("ok", True), (1, True), (True, False), ("OK", False), (None, False)]
)
def test_quality_counts_only_where_it_is_one_of_the_good_words_of_the_same_kind(told, good):
    bench = Bench(codec(value="/v", quality="/q", good=("ok", 1)))
    bench.tell({"v": -4000, "q": told})
    assert bench.read() == ((4.0, Quality.GOOD) if good else BAD)


def test_key_that_stands_twice_is_no_document():
    bench = Bench(codec(value="/v"))
    bench.tell(b'{"v": -1000, "v": -499000}')
    assert bench.read() == BAD
    assert bench.counts == {"malformed": 1}


def test_retained_or_repeated_of_unknown_age_is_ignored():
    bench = Bench(codec())
    bench.tell(b"-1000", retained=True)
    assert bench.read() == (None, Quality.COMM_FAILED)
    bench.tell(b"-2000", repeated=True)
    assert bench.read() == (None, Quality.COMM_FAILED)
    bench.tell(b"-3000")
    bench.tell(b"-1000", retained=True)
    assert bench.read() == (3.0, Quality.GOOD)
    assert bench.counts == {"retained": 2, "duplicates": 1}


def test_retained_with_a_time_is_as_old_as_it_says():
    bench = Bench(codec(**STAMPED))
    bench.sample(-1000, age_s=3600.0, retained=True)
    assert bench.read() == (1.0, Quality.STALE)
    bench.sample(-2000, age_s=1.0, retained=True)
    assert bench.read() == (2.0, Quality.GOOD)
    bench.t_s += AGE_S
    assert bench.read() == (2.0, Quality.STALE), "it ages by its own stamp"


def test_duplicates_and_overtaken_samples_change_nothing_and_prove_nothing():
    bench = Bench(codec(**STAMPED))
    bench.sample(-1000, age_s=1.0)
    bench.sample(-2000)
    bench.sample(-9000, age_s=0.5)  # overtaken
    bench.sample(-2000, repeated=True)
    bench.sample(-9000)  # the same stamp with another value
    bench.t_s = 2.0
    bench.tell({"v": -2000, "t": T0.isoformat()})  # once more, later
    value = bench.book.values(bench.now, bench.t_s)["grid1.p_kw"]
    assert (value.value, value.age_s) == (2.0, 2.0)
    assert bench.counts == {"duplicates": 3, "reordered": 1}


def test_device_whose_clock_was_set_back_is_believed_again_when_its_last_sample_is_worth_nothing():
    bench = Bench(codec(**STAMPED))
    bench.sample(-1000, age_s=-3.0)  # three seconds ahead of us
    bench.sample(-2000)
    assert bench.read() == (1.0, Quality.GOOD)
    bench.t_s = AGE_S + 0.5
    bench.sample(-2000)
    assert bench.read() == (2.0, Quality.GOOD)
    assert bench.counts == {"reordered": 1}


def test_sample_of_the_future_is_no_measure_for_the_next():
    bench = Bench(codec(**STAMPED))
    bench.sample(-9000, age_s=-3600.0)
    value = bench.book.values(bench.now, bench.t_s)["grid1.p_kw"]
    assert value.source_time == bench.now + timedelta(hours=1), "which the edge refuses"
    bench.sample(-2000)
    assert bench.read() == (2.0, Quality.GOOD)
    assert bench.counts == {}


def test_topic_nobody_asked_for_is_counted():
    bench = Bench(codec())
    bench.tell(b"-1000", topic="other")
    assert bench.read() == (None, Quality.COMM_FAILED)
    assert bench.counts == {"unasked": 1}
