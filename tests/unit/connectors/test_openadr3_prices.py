"""Prices of a VTN: equal steps, by priority and newness, never two for one time, never of another unit."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.openadr3.prices import NoPrices, Version, version_of
from connectors.openadr3.reading import Reader, program_of, time_s
from connectors.openadr3.seller import Seller
from connectors.openadr3.told import Event
from ems.utility import VtnPrices
from tests.contract.openadr3_peer import params

NOW_S = time_s("2026-03-02T12:00:00Z", "")
NOW = datetime.fromtimestamp(NOW_S, UTC)
UNITS = [
    {"payloadType": kind, "units": "KWH", "currency": "EUR"} for kind in ("PRICE", "EXPORT_PRICE", "OTHER")
]
PROGRAM = program_of({"id": "p1", "programName": "tou", "payloadDescriptors": UNITS})


def raw(
    *values: Any, start: str = "2026-03-02T12:00:00Z", length: str = "PT1H", **more: Any
) -> dict[str, Any]:
    kind = more.pop("kind", "PRICE")
    rows = [
        {"id": i, "payloads": [{"type": kind, "values": v if isinstance(v, list) else [v]}]}
        for i, v in enumerate(values)
    ]
    period = {"start": start, "duration": length}
    return {"id": "e", "programID": "p1", "intervalPeriod": period, "intervals": rows} | more


def read(told: dict[str, Any], program: Any = PROGRAM) -> Event:
    return Reader([], "tou", "EUR").event(told, program, NOW_S)


def made(*told: dict[str, Any]) -> Version:
    version = version_of([read(t) for t in told], NOW_S)
    assert version is not None
    return version


def test_intervals_become_steps_and_the_last_row_is_a_gap():
    version = made(raw(0.2, -0.05, 0.3))
    assert (version.start_s, version.step_s) == (NOW_S, 3600)
    assert version.per_kwh == {"PRICE": (0.2, -0.05, 0.3, None)}
    assert version.csv(NOW_S).splitlines()[:2] == [
        "time,issued_at,import_per_kwh",
        "2026-03-02T12:00:00Z,2026-03-02T12:00:00Z,0.2",
    ]


def test_several_prices_in_an_interval_share_its_length():
    version = made(raw([0.1, 0.2, 0.3, 0.4], 0.5))
    assert (version.step_s, version.per_kwh["PRICE"]) == (900, (0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, None))


def test_export_stands_beside_import_and_gaps_stay_gaps():
    version = made(
        raw(0.2, start="2026-03-02T12:00:00Z"),
        raw(0.1, start="2026-03-02T14:00:00Z", id="f", kind="EXPORT_PRICE"),
    )
    assert version.per_kwh == {"PRICE": (0.2, None, None, None), "EXPORT_PRICE": (None, None, 0.1, None)}
    assert version.csv(NOW_S).splitlines()[2].endswith(",,")


def test_lowest_priority_goes_first_then_the_newest():
    old, new = "2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z"
    assert made(raw(0.1, modificationDateTime=old), raw(0.2, id="f", modificationDateTime=new)).per_kwh == {
        "PRICE": (0.2, None)
    }
    assert made(
        raw(0.1, modificationDateTime=old, priority=1), raw(0.2, id="f", modificationDateTime=new, priority=2)
    ).per_kwh == {"PRICE": (0.1, None)}
    with pytest.raises(NoPrices, match=r"0\.1 and 0\.2 at 2026-03-02T12:00:00Z, none of which goes first"):
        made(raw(0.1), raw(0.2, id="f"))
    assert made(raw(0.1), raw(0.1, id="f")).per_kwh == {"PRICE": (0.1, None)}


def test_repeated_prices_reach_ten_days_ahead_and_a_cut_one_ends():
    version = made(raw(*range(24), start="2026-01-01T00:00:00Z", duration="P9999Y"))
    assert version.start_s == NOW_S - 36 * 3600
    assert len(version.per_kwh["PRICE"]) == 12 * 24 + 1
    assert version.per_kwh["PRICE"][36:39] == (12.0, 13.0, 14.0)
    assert made(raw(1.0, 2.0, duration="PT90M")).per_kwh["PRICE"] == (1.0, 1.0, 2.0, None)


def test_chance_moves_no_price():
    told = raw(0.2)
    told["intervalPeriod"]["randomizeStart"] = "PT10M"
    assert made(told).start_s == NOW_S


def test_times_that_are_no_whole_minutes_give_no_prices():
    with pytest.raises(NoPrices, match="whole minutes"):
        made(raw(0.2, start="2026-03-02T12:00:30.5Z"))
    with pytest.raises(NoPrices, match="whole minutes"):
        made(raw(0.2, 0.3, length="PT90S"), raw(0.1, id="f", start="2026-03-02T15:00:07Z"))
    with pytest.raises(NoPrices, match="more than 50000 prices"):
        made(raw([0.1] * 2000, length="PT2000S", duration="P5D"))


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        raw(0.2, payloadDescriptors=[{"payloadType": "PRICE", "units": "KW"}]),
        "found units 'KW'; allowed: KWH",
    ),
    (raw(0.2, payloadDescriptors=[{"payloadType": "PRICE", "currency": "USD"}]), "found currency 'USD'"),
    (raw("0.2"), "found '0.2'"),
    (raw(True), "found True"),
    (raw(1e7), "found 10000000.0"),
    (raw(10**400), "numbers up to 1e"),
    (raw([]), "found a list of 0"),
    (raw(0.2, length="P9999Y"), "found no end"),
]


@pytest.mark.parametrize(("told", "why"), WRONG, ids=[w for _, w in WRONG])
def test_prices_that_are_wrong_are_none_and_the_event_says_why(told, why):
    event = read(told)
    assert why in event.price_fault
    assert version_of([event], NOW_S) is None


def test_units_that_nobody_tells_are_never_guessed_and_other_programs_not_used():
    bare = program_of({"id": "p1", "programName": "tou"})
    assert "found units none" in read(raw(0.2), bare).price_fault
    other = program_of({"id": "p1", "programName": "other", "payloadDescriptors": UNITS})
    event = read(raw(0.2), other)
    assert (event.unmet, version_of([event], NOW_S)) == (("PRICE",), None)


def test_wrong_price_spoils_no_bound_of_the_same_event():
    told = raw("x")
    told["intervals"][0]["payloads"].append({"type": "EXPORT_CAPACITY_LIMIT", "values": [5]})
    told["payloadDescriptors"] = [{"payloadType": "EXPORT_CAPACITY_LIMIT", "units": "KW"}]
    event = Reader(["EXPORT_CAPACITY_LIMIT"], "tou", "EUR").event(told, PROGRAM, NOW_S)
    assert event.steps[0].kw == {"EXPORT_CAPACITY_LIMIT": 5.0}
    assert event.price_fault


def test_files_are_written_when_prices_are_others_with_their_time_of_issue(tmp_path: Path):
    prices = VtnPrices(program="tou", input="retail", folder="inbox")
    seller = Seller(params(443, "ca.pem", "secret"), prices, tmp_path)
    first = read(raw(0.2, modificationDateTime="2026-03-02T10:00:00Z"))
    assert "takes nothing" in seller.sell((first,), NOW)
    assert seller.sell((first,), NOW) == "", "told once"
    (tmp_path / "inbox").mkdir()
    assert seller.sell((first,), NOW) == ""
    (file,) = (tmp_path / "inbox").iterdir()
    assert ",2026-03-02T10:00:00Z,0.2" in file.read_text()
    file.unlink()
    assert seller.sell((first,), NOW) == ""
    assert seller.sell((), NOW) == ""
    assert list((tmp_path / "inbox").iterdir()) == []
    second = read(raw(0.3, modificationDateTime="2026-03-02T09:00:00Z"))
    seller.sell((second,), NOW)
    (file,) = (tmp_path / "inbox").iterdir()
    assert ",2026-03-02T12:00:00Z,0.3" in file.read_text(), "it is not older than what it takes the place of"
    assert seller.sell((first, second, read(raw(9.9, id="x"))), NOW) == ""
    assert "none of which" in seller.sell((read(raw(0.1)), read(raw(0.2, id="x"))), NOW)
    assert seller.status()["fault"]
