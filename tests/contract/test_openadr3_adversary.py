"""Spoilt documents of a VTN: no crash, and no bound but one that stands in a sound document, at its time.

What is believed is held against a reading of its own: values by their place in the JSON, times and durations
by pydantic, which shares no code with ours.
"""

import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter

from connectors.http_json.answer import Answer
from connectors.openadr3.book import Book
from connectors.openadr3.prices import NoPrices, version_of
from connectors.openadr3.reading import PRICES
from connectors.openadr3.told import Event
from connectors.openadr3.transport import _document
from connectors.utility.asker import NotBelieved
from connectors.utility.bound import KW_MAX
from ems.utility import VtnPrices
from tests.contract.openadr3_peer import EXPORT, IMPORT, PROGRAM, event, params
from tests.contract.spoilt import document, number_between

SAMPLE, SOAK = 1500, 1_000_000
BASE_S = 1_772_452_800.0
WORDS = (EXPORT, IMPORT)
NUMBERS = (
    b"-1", b"0", b"1e3", b"NaN", b"Infinity", b"1e999", b"+5", b"9" * 30, b"9" * 5000, b"", b" 7 ", b"0x10",
    b"1.5", b"true", b"null", b'"5"', b"[1,2]", b"1_0", b"-0.0", b"1e-320",
)  # fmt: skip
PIECES = (
    b'"id":"e0",', b"{", b"}", b"[", b"]", b",", b":", b"\\u0000", b"\x00", b"\xff", b"[" * 200, b'"', b"//",
    b'"duration":"P9999Y",', b'"start":"0001-01-01",', b'"units":"AMPS",', b'"targets":[],', b'"KW"',
)  # fmt: skip
WORDS_MOVED = (
    b"EXPORT_CAPACITY_LIMIT", b"IMPORT_CAPACITY_LIMIT", b"KW", b"KWH", b"intervals", b"payloads", b"values",
    b"start", b"duration", b"randomizeStart",
    b"PRICE", b"EXPORT_PRICE", b"EUR", b"USD", b"PT1H", b"PT15M", b"programID", b"priority", b"2026", b"0001",
)  # fmt: skip
TIME: TypeAdapter[datetime] = TypeAdapter(datetime)
LENGTH: TypeAdapter[timedelta] = TypeAdapter(timedelta)


PRICED = {"payloadDescriptors": [{"payloadType": "PRICE", "units": "KWH", "currency": "EUR"}]}


def told_at(seconds: float) -> str:
    return datetime.fromtimestamp(BASE_S + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sound() -> dict[str, bytes]:
    """What a VTN tells when nobody spoils it."""
    events = [
        event("e0", told_at(-900), "PT1H", 40.0, 50.5, 60.0),
        event("e1", told_at(0), "PT15M", 100, word=IMPORT, priority=1),
        event("e2", told_at(-60), "PT1H", 7.25, 8.0, priority=3),
    ]
    events[2]["intervals"][1]["intervalPeriod"] = {"start": told_at(1800), "duration": "PT15M"}
    events[1]["payloadDescriptors"] = [{"payloadType": IMPORT, "units": "KW"}]
    events.append(event("e3", told_at(-3600), "PT2H", 0.25, -0.05, word="PRICE", **PRICED))
    events[3]["intervals"][0]["payloads"][0]["values"] = [0.25, 0.3]
    return {"programs": json.dumps([PROGRAM]).encode(), "events": json.dumps(events).encode()}


def _words(random: Random, out: bytearray) -> None:
    """One word in the place of another, once or as often as it stands there."""
    old, new = random.sample(WORDS_MOVED, 2)
    out[:] = out.replace(old, new, random.choice((1, 1, -1)))


_number = number_between(b"[", b"]", NUMBERS)
OWN = (_number, _number, _words, _words)


class Adversary:
    """Tells sound documents but for one, and holds what is believed against it."""

    def __init__(self, seed: int) -> None:
        self.random, self.documents = Random(seed), sound()
        self.believed = self.refused = self.bounds = self.prices = 0
        self.book = self._fresh()

    def _fresh(self) -> Book:
        prices = VtnPrices(program="capacity", input="retail", folder="inbox")
        return Book(params(443, "ca.pem", "secret", prices=prices), "seed", "EUR")

    def once(self) -> None:
        which = "events" if self.random.random() < 0.85 else "programs"
        raw = document(self.random, self.documents[which], PIECES, OWN)
        told = {**self.documents, which: raw}
        self.book = self._fresh() if self.random.random() < 0.9 else self.book
        before = dict(self.book.events)
        try:
            found = {k: _document(Answer(200, "", {}, v, True), k) for k, v in told.items()}
            if not all(isinstance(v, list) for v in found.values()):
                raise NotBelieved("no list")
            words = self.book.take(found["programs"], found["events"], BASE_S)
        except NotBelieved:
            self.refused += 1
            assert self.book.events == before, "nothing of it counts"
            return
        self.believed += 1
        assert all(w.isprintable() and len(w) < 1000 for w in words), words
        self._check(found, before, raw)

    def _check(self, found: dict[str, Any], before: dict[str, Event], raw: bytes) -> None:
        standing = {e["id"]: e for e in found["events"]}
        for one in self.book.events.values():
            if before.get(one.id) is one:
                continue  # it stays as it was told before
            self._stands(one, standing[one.id], found["programs"], raw)
        self._prices(raw)
        now_s = BASE_S + self.random.uniform(-7200.0, 7200.0)
        for word in WORDS:
            bound = self.book.bound(word, None, now_s)
            if bound is not None:
                self.bounds += 1
                assert math.isfinite(bound.kw), raw
                assert 0.0 <= bound.kw <= KW_MAX, raw
            if self.random.random() < 0.1:
                ahead = self.book.ahead(word, None, now_s)
                assert all(0.0 <= a.kw <= KW_MAX and now_s <= a.start_s < a.end_s for a in ahead), raw

    def _prices(self, raw: bytes) -> None:
        """Every price that is handed on is one that an event tells."""
        told = {
            v
            for e in self.book.events.values()
            for s in e.steps
            for p in s.prices_per_kwh.values()
            for v in p
        }
        try:
            version = version_of(self.book.events.values(), BASE_S)
        except NoPrices:
            return
        for series in version.per_kwh.values() if version is not None else ():
            self.prices += 1
            assert {v for v in series if v is not None} <= told, raw

    def _stands(self, one: Event, told: dict[str, Any], programs: list[Any], raw: bytes) -> None:
        """Every value and every time of an event stands in the document, in its place."""
        units = [
            d["units"]
            for holder in (told, *(p for p in programs if p["id"] == told["programID"]))
            for d in holder.get("payloadDescriptors") or []
            if d["payloadType"] in WORDS and "units" in d
        ]
        assert len(one.steps) == len(told.get("intervals") or []), raw
        for step, interval in zip(one.steps, told.get("intervals") or [], strict=True):
            values = {p["type"]: p["values"] for p in interval.get("payloads") or []}
            assert step.kw == {w: float(values[w][0]) for w in WORDS if w in values}, raw
            assert not step.kw or "KW" in units, raw
            of_tariff = any(p["id"] == told["programID"] and p["programName"] == "capacity" for p in programs)
            there = [p for p in PRICES if p in values] if of_tariff and not one.price_fault else []
            assert step.prices_per_kwh == {p: tuple(map(float, values[p])) for p in there}, raw
            own, default = interval.get("intervalPeriod") or {}, told.get("intervalPeriod") or {}
            start = own.get("start") or (default.get("start") if step is one.steps[0] else None)
            if start is not None and start[:4] not in ("0001", "0000"):
                assert step.start_s == TIME.validate_python(start).timestamp(), raw
            length = str(own.get("duration") or default.get("duration"))
            if step.duration_s is not None and "Y" not in length and "M" not in length.partition("T")[0]:
                assert step.duration_s == LENGTH.validate_python(length).total_seconds(), raw


def run(seed: int, count: int, every: Callable[[int], None] = lambda i: None) -> Adversary:
    one = Adversary(seed)
    for i in range(count):
        one.once()
        every(i)
    return one


def test_spoilt_documents_are_refused_or_say_what_stands_in_them():
    one = run(30, SAMPLE)
    assert one.refused > SAMPLE / 3
    assert one.bounds > SAMPLE / 20
    assert one.prices > SAMPLE / 10


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_million_spoilt_documents():
    began_s, cpu_s = time.monotonic(), time.process_time()

    def every(i: int) -> None:
        if i and i % 50_000 == 0:
            print(f"{i}: {i / (time.monotonic() - began_s):.0f} documents a second", flush=True)

    one = run(301, SOAK, every)
    spent_s = time.process_time() - cpu_s
    print(f"{SOAK} documents, {one.believed} believed, {one.bounds} bounds, {SOAK / spent_s:.0f} a second")
    assert one.refused > SOAK / 3
