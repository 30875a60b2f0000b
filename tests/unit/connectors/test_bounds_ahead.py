"""Bounds that servers tell for times to come: as they will hold, and as plans are told of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from connectors.ieee2030_5.events import Book as Sep2Book
from connectors.openadr3.book import Book as VtnBook
from connectors.utility.ahead import AHEAD_S, EDGES_MAX, Ahead, caps_ahead, foreseen
from connectors.utility.bound import Bound
from ems.control_site import LimitKind, UtilityLimit
from ems.records import JsonValue, StatusRow
from ems.site import Site
from tests.builders import T0, site
from tests.contract.openadr3_peer import EXPORT, IMPORT, PROGRAM, params
from tests.unit.connectors.test_openadr3_times import HOUR_S, T0_S, raw
from tests.unit.connectors.test_utility_events import MODE, T, control, kw, told


def at(ahead: Sequence[Ahead], s: float) -> float | None:
    found = [a.kw for a in ahead if a.start_s <= s < a.end_s]
    assert len(found) <= 1, "one after the other"
    return found[0] if found else None


def test_what_2030_5_tells_ahead_is_what_it_tells_then():
    """Events at random, taken over, left and not; lived through second by second."""
    for seed in range(60):
        random, book = Random(seed), Sep2Book(Random(seed))
        events = [
            control(f"{i:02}", T + random.randrange(40), random.randrange(1, 30), float(random.randrange(9)),
                    created_s=T - random.randrange(3), program=f"/{p}", primacy=p)
            for i, p in enumerate(random.choices(range(3), k=7))
        ]  # fmt: skip
        default_kw = random.choice((None, 4.5))
        book.take(told(*events, default_kw=default_kw), T)
        before = dict(book.events)
        ahead = book.ahead(MODE, None, float(T))
        assert book.events == before, "nothing is lived through in truth"
        for now_s in range(T, T + 80):
            assert at(ahead, now_s + 0.5) == kw(book, now_s), (seed, now_s - T)


def test_what_openadr_tells_ahead_is_what_it_tells_then():
    """Events at random, repeated, cut, without end and with chance."""
    for seed in range(60):
        random = Random(seed)
        book = VtnBook(params(443, "ca.pem", "secret"), "seed", "EUR")
        events = [_event(random, i) for i in range(random.randrange(1, 5))]
        assert book.take([PROGRAM], events, T0_S) == []
        now_s = T0_S + random.uniform(-3.0, 30.0) * HOUR_S
        otherwise_kw = random.choice((None, 77.0))
        ahead = book.ahead(EXPORT, otherwise_kw, now_s)
        reach_s = ahead[-1].end_s if ahead else now_s + AHEAD_S
        for _ in range(200):
            then_s = random.uniform(now_s, reach_s - 1.0)
            bound = book.bound(EXPORT, otherwise_kw, then_s)
            assert at(ahead, then_s) == (None if bound is None else bound.kw), (seed, then_s - now_s)
        assert book.ahead(IMPORT, None, now_s) == ()


def _event(random: Random, number: int) -> dict[str, Any]:
    values = [float(random.randrange(50)) for _ in range(random.randrange(1, 6))]
    start = f"2026-03-0{random.randrange(1, 4)}T{random.randrange(24):02}:00:00Z"
    length = random.choice(("PT15M", "PT1H", "PT7H")) if len(values) > 1 else random.choice(("PT2H", None))
    told = raw(*values, start=start, length=length, priority=random.choice((None, 0, 3)))
    told["id"] = f"e{number}"
    if random.random() < 0.5 and length is not None:
        told["duration"] = random.choice(("PT5H", "P2D", "PT40M"))
    if random.random() < 0.3:
        told["intervalPeriod"]["randomizeStart"] = "PT10M"
    return told


def test_more_than_plans_need_is_cut_where_it_is_not_known_any_more():
    edges = [60.0 * k for k in range(1, 5000)]
    ahead = foreseen(lambda s: Bound(kw=s // 60.0, why=""), edges, 0.0)
    assert len(ahead) == EDGES_MAX
    assert ahead[-1].end_s == 60.0 * EDGES_MAX


# --- what a planner reads --------------------------------------------------------------------------------


def asked() -> Site:
    limits = tuple(
        UtilityLimit(id=i, kind=kind, watchdog_s=60.0, on_loss_kw=0.0)
        for i, kind in (("dso", LimitKind.EXPORT), ("in", LimitKind.IMPORT), ("sun", LimitKind.PV))
    )
    plain = site()
    server = params(443, "ca.pem", "secret")
    return replace(plain, control=replace(plain.control, limits=limits), utilities=(server,))


def row(*ahead: JsonValue, age_s: float = 5.0, trouble: str = "") -> dict[str, StatusRow]:
    fields: dict[str, JsonValue] = {"trouble": trouble, "ahead": list(ahead)}
    at = T0 - timedelta(seconds=age_s)
    return {asked().utilities[0].id: StatusRow(process="utility", pid=1, at=at, fields=fields)}


def cap(limit: str = "dso", kw: JsonValue = 20.0, hours: tuple[float, float] = (1.0, 2.0)) -> JsonValue:
    start, end = (T0 + timedelta(hours=h) for h in hours)
    return {"limit": limit, "kw": kw, "start": start.isoformat(), "end": end.isoformat()}


def test_caps_at_the_poi_are_told_to_plans_and_other_limits_are_not():
    (one, two) = caps_ahead(asked(), row(cap(), cap("in", 9), cap("sun"), cap("nobody")), T0)
    assert (one.is_import, one.cap_kw, one.start) == (False, 20.0, T0 + timedelta(hours=1))
    assert (two.is_import, two.cap_kw) == (True, 9.0)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        row(cap(), age_s=61.0),
        row(cap(), age_s=-61.0),
        row(cap(), trouble="not heard since 10:00"),
        row("x", None, 4, [], {}),
        row(cap(kw="20"), cap(kw=None), cap(kw=-1.0), cap(kw=float("nan")), cap(kw=1e9)),
        row(cap(hours=(2.0, 1.0)), cap(hours=(-2.0, -1.0))),
        row({"limit": "dso", "kw": 1.0, "start": "2026-03-02", "end": "tomorrow"}),
        row({"limit": "dso", "kw": 1.0, "start": "2026-03-02T01:00:00", "end": "2026-03-02T02:00:00"}),
    ],
)
def test_what_is_old_or_not_built_as_it_is_written_says_nothing(rows: dict[str, StatusRow]):
    assert caps_ahead(asked(), rows, T0) == ()
